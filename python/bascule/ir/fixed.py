# SPDX-License-Identifier: Apache-2.0
"""Constants that hold in every run."""

from __future__ import annotations

from bascule.ir.constant import Constant
from bascule.ir.graph import Value


def fixed_constant(value: Value) -> Constant | None:
    """What a value holds that no caller can replace, else None."""
    node = value.producer
    if node is not None:
        held = node.attribute("value") if node.is_op("Constant") else None
        return held if isinstance(held, Constant) else None
    if value.owner is not None and any(each is value for each in value.owner.inputs):
        return None
    return value.constant
