# SPDX-License-Identifier: Apache-2.0
"""Which rewrites apply to which version of which operator.

A rewrite stands in the file of its family and registers itself:

    @rewrite("TopK", until=9)
    def top_k(node: Node, build: Builder) -> None:
        node.set_input(1, build.ints(node.attributes.pop("k")))

means: a TopK node whose version in force is at most 9 is changed by this function. Several may
apply to one node; they run in the order of `until`, each leaving the form that the next expects,
until one of them turns the node into another operator.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from bascule.canonical.builder import Builder
from bascule.ir.graph import ONNX_DOMAIN, Node

Rewrite = Callable[[Node, Builder], None]

CONTRIB_DOMAIN = "com.microsoft"
NCHWC_DOMAIN = "com.microsoft.nchwc"
"""Images whose channels stand in blocks, as onnxruntime's optimizer for CPUs writes them."""

EVERY_VERSION = 1 << 30


@dataclass(frozen=True, slots=True)
class _Step:
    since: int
    until: int
    apply: Rewrite
    types: bool


_steps: dict[tuple[str, str], list[_Step]] = {}


def rewrite(
    *op_types: str, until: int, since: int = 0, types: bool = False, domain: str = ONNX_DOMAIN
) -> Callable[[Rewrite], Rewrite]:
    """Register a function for operator versions `since` to `until`, both included.

    `types` says that the result depends on the types of the node's inputs, or is better for it.
    Version 0 is an operator that its opset does not have: those that ONNX had as experiments
    before opset 10 and dropped, and what other runtimes added to the default domain.
    """

    def register(function: Rewrite) -> Rewrite:
        for op_type in op_types:
            steps = _steps.setdefault((domain, op_type), [])
            steps.append(_Step(since, until, function, types))
            steps.sort(key=lambda step: step.until)
        return function

    return register


def _known(op_type: str, domain: str) -> list[_Step]:
    _load(domain)
    return _steps.get((domain, op_type), [])


def _load(domain: str) -> None:
    """Register what most models have no use for: the operators of com.microsoft."""
    if domain in (CONTRIB_DOMAIN, NCHWC_DOMAIN):
        importlib.import_module("bascule.canonical.contrib")


def rewrites(op_type: str, version: int, domain: str = ONNX_DOMAIN) -> list[Rewrite]:
    """The rewrites for one version of an operator, in the order in which they run."""
    steps = _known(op_type, domain)
    return [step.apply for step in steps if step.since <= version <= step.until]


def asks_for_types(op_type: str, version: int, domain: str = ONNX_DOMAIN) -> bool:
    """Whether a rewrite for this version of an operator wants to know its inputs' types."""
    steps = _known(op_type, domain)
    return any(step.types and step.since <= version <= step.until for step in steps)


def operators(domain: str) -> set[str]:
    """Operators of a domain that have rewrites."""
    _load(domain)
    return {op_type for known, op_type in _steps if known == domain}


def outside_standard() -> set[str]:
    """Operators of the default domain that are accepted where the opset in force has none."""
    return {
        op_type
        for (domain, op_type), steps in _steps.items()
        if domain == ONNX_DOMAIN and any(not step.until for step in steps)
    }
