# SPDX-License-Identifier: Apache-2.0
"""Which passes a session asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Selection:
    """What runs of the stages that belong to a level."""

    disabled: tuple[str, ...] = ()
    """Names of passes that are left out."""
    approximations: tuple[str, ...] = ()
    """Names of the passes of `approximations` that run, too; none does by itself."""
    fuses_quantization: bool = True
    """Whether what lies between DequantizeLinear and QuantizeLinear may become integer."""
    repeats: bool = True
    """Whether a stage runs again until nothing changes."""


USUAL = Selection()
"""What runs where nothing is asked for."""
