# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's own format is not written here; a model optimized for later is."""

from __future__ import annotations

import enum
import sys
from typing import Any, NoReturn

_REASON = (
    "models in onnxruntime's own format (.ort) are deliberately left out: they are a snapshot of "
    "that runtime's internals. python -m bascule.tools.optimize_onnx_model IN OUT optimizes a "
    "model once; with the config entry session.cache_dir a session starts in milliseconds"
)


class OptimizationStyle(enum.Enum):
    """When optimizations of another runtime take place."""

    Fixed = 0
    Runtime = 1


def convert_onnx_models_to_ort(*arguments: Any, **keywords: Any) -> NoReturn:
    """Not supported.

    Raises:
        NotImplementedError: always; the message says what there is instead.
    """
    raise NotImplementedError(_REASON)


if __name__ == "__main__":
    sys.exit(_REASON)
