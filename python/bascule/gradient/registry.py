# SPDX-License-Identifier: Apache-2.0
"""Which rule differentiates which operator.

A rule stands in the file of its family and registers itself:

    @gradient("Mul", broadcasts=True)
    def mul(node: Node, dy: Term, build: Builder) -> Gradients:
        a, b = build.inputs(node)
        return [dy * b, dy * a]

`dy` is the gradient of what is differentiated with respect to the node's output; the result holds
one with respect to each input, None where it is zero. Rules know the newest form of their operator
only, and may use any standard operator that has a rule of its own: then second derivatives work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bascule.ir.graph import ONNX_DOMAIN, Node

if TYPE_CHECKING:
    from bascule.gradient.build import Builder, Term

Gradients = Sequence["Term | None"]
"""By input. Those at the end may be left out."""

ALL = 1 << 30


class Refusal(Exception):
    """Raised by a rule that cannot differentiate a node: the reason."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How to differentiate with respect to the first `inputs` inputs.

    The gradient may come from the first `outputs` outputs; for more than one, `apply` gets a list
    with one, or None, for each. With `broadcasts`, the gradients that it gives have the shape of
    the first output, and are summed to the shapes of the inputs.
    """

    apply: Callable[[Node, Any, Builder], Gradients]
    inputs: int
    outputs: int
    broadcasts: bool

    def obstacle(self, node: Node, inputs: Collection[int], outputs: Collection[int]) -> str:
        """Why the rule does not do for these inputs and outputs; empty if it does."""
        for index in sorted(inputs):
            value = node.input(index)
            if index >= self.inputs and value is not None:
                return f"its rule does not differentiate it with respect to '{value.name}'"
        for index in sorted(outputs):
            if index >= self.outputs:
                return f"its rule does not differentiate its output '{node.outputs[index].name}'"
        return ""


_rules: dict[tuple[str, str], Rule] = {}


def gradient(
    *op_types: str,
    inputs: int = ALL,
    outputs: int = 1,
    broadcasts: bool = False,
    domain: str = ONNX_DOMAIN,
) -> Callable[[Callable[[Node, Any, Builder], Gradients]], Callable[..., Gradients]]:
    """Register the rule of an operator; see Rule."""

    def register(apply: Callable[[Node, Any, Builder], Gradients]) -> Callable[..., Gradients]:
        for op_type in op_types:
            _rules[domain, op_type] = Rule(apply, inputs, outputs, broadcasts)
        return apply

    return register


def elementwise(*op_types: str) -> Callable[[Callable[..., Term]], Callable[..., Term]]:
    """Register the rule of a function of one tensor, element by element.

    It is called with dy, x, y and the builder, and with the node's attributes by name: its
    keyword parameters, whose defaults are the standard's.
    """

    def register(function: Callable[..., Term]) -> Callable[..., Term]:
        def apply(node: Node, dy: Term, build: Builder) -> Gradients:
            x, y = build.inputs(node)[0], build(node.output)
            return [function(dy, x, y, build, **node.attributes)]

        gradient(*op_types, inputs=1)(apply)
        return function

    return register


def no_gradient(*op_types: str) -> None:
    """Register operators whose outputs are constant wherever they have a derivative at all."""
    gradient(*op_types, outputs=ALL)(lambda node, dys, build: [None] * len(node.inputs))


def remove_gradient(op_type: str, domain: str) -> None:
    """Forget the rule of an operator, if there is one."""
    _rules.pop((domain, op_type), None)


def rule_of(node: Node) -> Rule | None:
    return _rules.get((node.domain, node.op_type))
