# SPDX-License-Identifier: Apache-2.0
"""Reading the inputs and attributes of a node that no schema has checked."""

from __future__ import annotations

from collections.abc import Collection

from bascule.canonical.builder import Builder, known_constant
from bascule.ir.graph import Attribute, Node, Value

CONTRIB_DOMAIN = "com.microsoft"


def check(
    node: Node,
    build: Builder,
    *required: int,
    most: int,
    outputs: int = 1,
    attributes: Collection[str] = (),
) -> None:
    """Refuse a node without the inputs and attributes that it must have, or with too many."""
    for index in required:
        if node.input(index) is None:
            raise build.invalid(f"input {index} is missing")
    if len(node.inputs) > most:
        raise build.invalid(f"{len(node.inputs)} inputs are more than {most}")
    if len(node.outputs) > outputs:
        raise build.invalid(f"{len(node.outputs)} outputs are more than {outputs}")
    for name in attributes:
        if name not in node.attributes:
            raise build.invalid(f"required attribute '{name}' is missing")


def required(node: Node, build: Builder, index: int) -> Value:
    value = node.input(index)
    if value is None:
        raise build.invalid(f"input {index} is missing")
    return value


def integer(node: Node, build: Builder, name: str, default: int | None = None) -> int:
    """An attribute that is one integer; without a default it must be there."""
    value = _attribute(node, build, name, default)
    if not isinstance(value, int):
        raise build.invalid(f"attribute '{name}' is not an integer")
    return value


def number(node: Node, build: Builder, name: str, default: float | None = None) -> float:
    """The same for a float."""
    value = _attribute(node, build, name, default)
    if not isinstance(value, float):
        raise build.invalid(f"attribute '{name}' is not a float")
    return value


def integers(node: Node, build: Builder, name: str) -> list[int]:
    """An attribute that is a list of integers and must be there."""
    value = _attribute(node, build, name, None)
    if not isinstance(value, list) or not all(isinstance(each, int) for each in value):
        raise build.invalid(f"attribute '{name}' is not a list of integers")
    return value


def _attribute(node: Node, build: Builder, name: str, default: Attribute) -> Attribute:
    value = node.attribute(name, default)
    if value is None:
        raise build.invalid(f"required attribute '{name}' is missing")
    return value


def scalar(value: Value, build: Builder) -> Value:
    """A value of one element, which may come as a vector, brought to rank 0."""
    array = known_constant(value)
    if array is None:
        return build.as_scalar(value)
    if array.size != 1:
        raise build.invalid(f"'{value.name}' has shape {list(array.shape)}, expected one element")
    return value if array.ndim == 0 else build.constant(array.reshape(()))
