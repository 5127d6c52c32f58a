# SPDX-License-Identifier: Apache-2.0
"""What onnxruntime.transformers has beside its optimizer scripts, which bascule does without.

A session of bascule fuses attention, normalizations and activations of transformers when it loads a
model; ``SessionOptions.optimized_model_filepath`` keeps the result.
"""

from __future__ import annotations

from typing import NoReturn

LEFT_OUT = (
    "the scripts of onnxruntime.transformers that rewrite, export and time models are deliberately "
    "left out of bascule: a session fuses attention, normalizations and activations itself, and "
    "SessionOptions.optimized_model_filepath keeps the optimized model"
)


def __getattr__(name: str) -> NoReturn:
    if name.startswith("_"):
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    raise ImportError(f"{__name__}.{name}: {LEFT_OUT}")
