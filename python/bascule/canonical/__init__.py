# SPDX-License-Identifier: Apache-2.0
"""Rewrite every node to the newest version of its operator.

After `canonicalize`, the rest of bascule meets one form of each operator: the one of the newest
opset that the installed onnx knows. What that form cannot say becomes a few nodes that can. This
is the only code that knows about older versions; there is one file per family of operators.
"""

from __future__ import annotations

from bascule.canonical import (  # noqa: F401  (importing a family registers its rewrites)
    constant,
    control_flow,
    elementwise,
    experimental,
    gather_scatter,
    image,
    matmul,
    ml,
    normalization,
    pooling,
    quantize,
    recurrent,
    reduction,
    resize,
    shape,
    softmax,
    transform,
)
from bascule.canonical.builder import Builder, invalid_node
from bascule.canonical.registry import rewrites
from bascule.canonical.schemas import form_in_force, newest_opset
from bascule.errors import InvalidGraph
from bascule.ir.graph import ONNX_DOMAIN, Graph, Model, Node

__all__ = ["canonicalize"]

ML_DOMAIN = "ai.onnx.ml"

# Version 5 deprecates the two tree operators for a third that cannot say all they say.
ML_OPSET = 4

_ALIASES = {"ai.onnx": ONNX_DOMAIN}


def canonicalize(model: Model) -> None:
    """Bring the nodes of the standard's domains, nested graphs included, to the newest form.

    Raises InvalidGraph that names node, operator, version and problem when a node does not fit
    the version of its operator that is in force.
    """
    imports = model.opset_imports
    for alias, domain in _ALIASES.items():
        if alias in imports:
            imports.setdefault(domain, imports.pop(alias))
    newest = newest_opset(ONNX_DOMAIN)
    opsets = {ONNX_DOMAIN: imports.get(ONNX_DOMAIN, 1), ML_DOMAIN: imports.get(ML_DOMAIN, 1)}
    if opsets[ONNX_DOMAIN] > newest:
        raise InvalidGraph(
            f"the model needs opset {opsets[ONNX_DOMAIN]} of domain 'ai.onnx'; "
            f"the newest that the installed onnx knows is {newest}"
        )
    functions = {(domain, name) for domain, name, _ in model.functions}
    for graph in list(model.graph.walk_graphs()):
        _canonicalize_graph(graph, opsets, functions)
    imports[ONNX_DOMAIN] = newest
    if ML_DOMAIN in imports:
        imports[ML_DOMAIN] = max(ML_OPSET, imports[ML_DOMAIN])


def _canonicalize_graph(
    graph: Graph, opsets: dict[str, int], functions: set[tuple[str, str]]
) -> None:
    for node in graph.nodes:
        node.domain = _ALIASES.get(node.domain, node.domain)
        opset = opsets.get(node.domain)
        if opset is None or (node.domain, node.op_type) in functions:
            continue
        # A node inlined from a function may come from another opset than the model's.
        own = getattr(node, "opset", None)
        if own is not None:
            opset = own
            node.opset = None  # type: ignore[attr-defined]
        _canonicalize_node(node, opset)


def _canonicalize_node(node: Node, opset: int) -> None:
    form = form_in_force(node.op_type, node.domain, opset)
    version = form.version if form is not None else 0
    steps = rewrites(node.op_type, version, node.domain)
    if form is None and not steps:
        raise invalid_node(node, opset, f"opset {opset} has no such operator")
    problem = form.problem(node) if form is not None else None
    if problem is not None:
        raise invalid_node(node, version, problem)
    if not steps:
        return
    build = Builder(node, version)
    op_type = node.op_type
    for step in steps:
        step(node, build)
        if node.graph is None or node.op_type != op_type:
            return
