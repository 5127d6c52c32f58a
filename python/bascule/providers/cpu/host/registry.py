# SPDX-License-Identifier: Apache-2.0
"""Which operators Python functions run.

An operator registers a factory, which looks at a node when its model is compiled and returns the
function that runs it:

    @host_operator("RegexFullMatch")
    def regex_full_match(node: Node) -> HostFunction:
        pattern = compiled(node.attribute("pattern"))
        return lambda text: match_all(pattern, text)

The function takes an object for each input, in order: a read-only array, a list for a sequence,
None for one that is left out. It returns an array, or a tuple with one for each output; a list is
a sequence. It may be called from several threads at once. What it raises ends the run, as an error
that names the node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bascule.ir.graph import ONNX_DOMAIN, Node

HostFunction = Callable[..., Any]
Factory = Callable[[Node], HostFunction]


class Unavailable(Exception):
    """Why a factory has no function for a node: something is not installed, or not supported."""


_factories: dict[tuple[str, str], Factory] = {}


def host_operator(op_type: str, domain: str = ONNX_DOMAIN) -> Callable[[Factory], Factory]:
    """Register the factory of an operator."""

    def register(factory: Factory) -> Factory:
        _factories[domain, op_type] = factory
        return factory

    return register


def remove_host_operator(op_type: str, domain: str) -> None:
    """Forget the factory of an operator, if there is one."""
    _factories.pop((domain, op_type), None)


def has_host_function(node: Node) -> bool:
    """Whether there is a factory for the node's operator."""
    return node.binding is not None or (node.domain, node.op_type) in _factories


def host_function(node: Node) -> HostFunction | str | None:
    """The function that runs `node`, or why there is none, or None for an operator of another kind.

    An operator of a library gives a native HostOperator. Raises what the factory raises about a
    node that is not valid.
    """
    factory = _factories.get((node.domain, node.op_type))
    if node.binding is not None:
        factory = node.binding.function
    if factory is None:
        return None
    try:
        return factory(node)
    except Unavailable as reason:
        return str(reason)
