# SPDX-License-Identifier: Apache-2.0
"""Whether gradients are numbers."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.contrib.arguments import integer, required
from bascule.canonical.registry import CONTRIB_DOMAIN, rewrite
from bascule.ir.graph import Node


@rewrite("IsAllFinite", until=0, domain=CONTRIB_DOMAIN)
def is_all_finite(node: Node, build: Builder) -> None:
    """Over all elements of all inputs, of which there may be any number."""
    only_nan = integer(node, build, "isnan_only", 0)
    only_inf = integer(node, build, "isinf_only", 0)
    for name in node.attributes:
        if name not in ("isnan_only", "isinf_only"):
            raise build.invalid(f"attribute '{name}' is unknown")
    if only_nan and only_inf:
        raise build.invalid("attributes 'isnan_only' and 'isinf_only' exclude each other")
    tests = [
        op_type for op_type, others in (("IsNaN", only_inf), ("IsInf", only_nan)) if not others
    ]
    if not node.inputs:
        raise build.invalid("it has no inputs")
    found = [
        build.op("ReduceMax", build.op(test, required(node, build, index)), keepdims=0)
        for index in range(len(node.inputs))
        for test in tests
    ]
    anywhere = found[0]
    for each in found[1:]:
        anywhere = build.op("Or", anywhere, each)
    build.become("Not", anywhere)
