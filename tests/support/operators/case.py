# SPDX-License-Identifier: Apache-2.0
"""Writing a case in one line."""

from __future__ import annotations

from typing import Any

from tests.support.typed import Case, Material

_OPTIONS = (
    "outputs",
    "label",
    "domain",
    "allows",
    "expect",
    "own",
    "tolerance",
    "captured",
    "parameters",
    "opset",
    "before",
)


def case(op_type: str, *inputs: Material | None, **options: Any) -> Case:
    """A case; options that Case does not have are attributes of the node."""
    own = {key: options.pop(key) for key in _OPTIONS if key in options}
    return Case(op_type, inputs, options, **own)


def dtype_number(parameter: str) -> Any:
    """An attribute that gives the element type of a type parameter."""
    return lambda binding, captured: int(binding[parameter].dtype)
