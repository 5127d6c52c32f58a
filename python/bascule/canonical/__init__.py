# SPDX-License-Identifier: Apache-2.0
"""Rewrite every node to the newest version of its operator.

After `canonicalize`, the rest of bascule meets one form of each operator: the one of the newest
opset that the installed onnx knows. What that form cannot say becomes a few nodes that can. This
is the only code that knows about older versions; there is one file per family of operators.
Operators of domain ``com.microsoft`` (contrib/) become nodes of the standard in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator

from bascule.canonical import (  # noqa: F401  (importing a family registers its rewrites)
    constant,
    control_flow,
    elementwise,
    experimental,
    gather_scatter,
    image,
    linear_attention,
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
    training,
    transform,
)
from bascule.canonical.builder import Builder, invalid_node
from bascule.canonical.registry import (
    CONTRIB_DOMAIN,
    NCHWC_DOMAIN,
    asks_for_types,
    rewrites,
)
from bascule.canonical.training import TRAINING_DOMAIN
from bascule.canonical.types_on_demand import TypeFinder
from bascule.errors import InvalidGraph
from bascule.ir.check import Schema, newest_opsets, schema
from bascule.ir.declared import (
    is_fixed,
    open_inputs,
    set_aside_sizes,
    sizes_of,
    with_open_sizes,
)
from bascule.ir.graph import ONNX_DOMAIN, Model, Node, Value
from bascule.ir.infer import infer_types
from bascule.ir.serialize import Definitions

__all__ = ["canonicalize"]

ML_DOMAIN = "ai.onnx.ml"

# Version 5 deprecates the two tree operators for a third that cannot say all they say.
ML_OPSET = 4


def canonicalize(
    model: Model, definitions: Definitions | None = None, *, block_size: int | None = None
) -> None:
    """Bring the nodes of known domains, nested graphs included, to the newest standard form.

    `definitions` gives the functions behind fused nodes; `block_size` how many channels stand side
    by side in a model of com.microsoft.nchwc that does not tell. Raises InvalidGraph that names
    node, operator, version and problem when a node does not fit the version of its operator that
    is in force.
    """
    imports = model.opset_imports
    newest = newest_opsets()[ONNX_DOMAIN]
    opsets = {
        ONNX_DOMAIN: imports.get(ONNX_DOMAIN, 1),
        ML_DOMAIN: imports.get(ML_DOMAIN, 1),
        TRAINING_DOMAIN: 1,
    }
    if opsets[ONNX_DOMAIN] > newest:
        raise InvalidGraph(
            f"the model needs opset {opsets[ONNX_DOMAIN]} of domain 'ai.onnx'; "
            f"the newest that the installed onnx knows is {newest}"
        )
    domains = {node.domain for node in model.graph.walk_nodes()}
    opsets.update(dict.fromkeys(domains & {CONTRIB_DOMAIN, NCHWC_DOMAIN}, 1))
    if NCHWC_DOMAIN in domains:
        # Imported here: most models have no such operators.
        from bascule.canonical.contrib.block_size import note_block_size

        note_block_size(model, block_size)
    pending = list(_pending(model, opsets))
    is_open = bool(open_inputs(model))
    # Inference does not see past operators of com.microsoft, and so cannot tell what is left over.
    doubted = set_aside_sizes(model) if is_open and CONTRIB_DOMAIN in opsets else {}
    if any(_lacks_types(node, version, is_open) for node, version in pending):
        infer_types(model, check=False)
    types = TypeFinder(definitions)
    for node, version in pending:
        if asks_for_types(node.op_type, version, node.domain):
            for value in node.inputs:
                if value is not None:
                    types.find(value)
                    if value.rank is None:  # nothing else is known of it
                        value.type = doubted.get(value, value.type)
                        if value.producer is not None and value.producer.subgraphs:
                            value.type = with_open_sizes(value.type)  # inference knows these
        _rewrite(node, version, types)
    for value, declared in doubted.items():
        value.type = declared
    imports[ONNX_DOMAIN] = newest
    if ML_DOMAIN in imports:
        imports[ML_DOMAIN] = max(ML_OPSET, imports[ML_DOMAIN])


def _lacks_types(node: Node, version: int, is_open: bool) -> bool:
    """Whether a rewrite asks for types that are not known yet.

    Where sizes of the model's inputs are open, declared fixed ones may be left over.
    """

    def is_doubtful(value: Value) -> bool:
        graph = value.graph
        is_inner = value.producer is not None or (graph is not None and graph.parent is not None)
        is_given = not is_inner or value.constant is not None
        return is_open and not is_given and any(map(is_fixed, sizes_of(value.type)))

    return asks_for_types(node.op_type, version, node.domain) and any(
        value is not None and (value.type is None or is_doubtful(value)) for value in node.inputs
    )


def _rewrite(node: Node, version: int, types: TypeFinder) -> None:
    build = Builder(node, version, types=types)
    op_type = node.op_type
    for step in rewrites(op_type, version, node.domain):
        step(node, build)
        if node.graph is None or node.op_type != op_type:
            return


def _pending(model: Model, opsets: dict[str, int]) -> Iterator[tuple[Node, int]]:
    """The nodes that have to be rewritten, each with its operator's version."""
    for node in model.graph.walk_nodes():
        opset = opsets.get(node.domain)
        if opset is None or (node.domain, node.op_type, node.overload) in model.functions:
            continue
        if node.opset is not None:  # a node inlined from a function that has an opset of its own
            opset, node.opset = node.opset, None
        in_force = schema(node.op_type, opset, node.domain)
        version = in_force.since_version if in_force is not None else 0
        steps = rewrites(node.op_type, version, node.domain)
        if in_force is not None:
            problem = _problem(node, in_force)
            if problem is not None:
                raise invalid_node(node, version, problem)
        elif not steps and node.domain not in (CONTRIB_DOMAIN, NCHWC_DOMAIN):
            raise invalid_node(node, version, f"opset {opset} has no such operator")
        if steps:
            yield node, version


def _problem(node: Node, in_force: Schema) -> str | None:
    """What is wrong with a node, as far as the rewrites rely on it."""
    for name in node.attributes:
        if name not in in_force.attributes:
            return f"attribute '{name}' is unknown"
    for name in in_force.required:
        if name not in node.attributes:
            return f"required attribute '{name}' is missing"
    if not in_force.min_inputs <= len(node.inputs) <= in_force.max_inputs:
        return f"{len(node.inputs)} inputs are too few or too many"
    if len(node.outputs) > in_force.max_outputs:
        return f"{len(node.outputs)} outputs are too many"
    return None
