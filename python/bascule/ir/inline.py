# SPDX-License-Identifier: Apache-2.0
"""Replacing function calls by the bodies of the functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from bascule.errors import InvalidGraph
from bascule.ir import check
from bascule.ir.check_nodes import value_problem
from bascule.ir.copy import GraphCopier, resolver
from bascule.ir.graph import FUSED_DOMAIN, ONNX_DOMAIN, Function, Graph, Model, Node, Value
from bascule.ir.replaced import replaced_by

if TYPE_CHECKING:
    import onnx

MAX_NODES = 1_000_000
"""A model may grow to this many nodes by inlining."""


def inline_functions(model: Model, keep: Callable[[str], bool] | None = None) -> None:
    """Replace every call of a model-local function by its body.

    Functions of the fused operators stay when `keep` says so of their name. Nodes whose function
    was written for another opset than the model's say so in `Node.opset`.
    """
    functions = {
        key: function
        for key, function in model.functions.items()
        if keep is None or function.domain != FUSED_DOMAIN or not keep(function.name)
    }
    if functions:
        _check_growth(model, functions)
        pending = list(model.graph.walk_nodes())
        for key, function in model.functions.items():
            if key not in functions:
                pending.extend(function.body.walk_nodes())
        while pending:
            node = pending.pop()
            called = functions.get((node.domain, node.op_type, node.overload))
            if called is None or node.graph is None:
                continue
            for new in inline_call(node, called, model.opset_imports):
                pending.append(new)
                pending.extend(inner for graph in new.subgraphs for inner in graph.walk_nodes())
            for domain, version in called.opset_imports.items():
                model.opset_imports.setdefault(domain, version)
    model.functions = {k: f for k, f in model.functions.items() if k not in functions}


def inline_call(
    node: Node, function: Function, opset_imports: Mapping[str, int] | None = None
) -> list[Node]:
    """Replace `node` by the body of `function`; returns the new nodes.

    `opset_imports` are the caller's: a new node that means another opset says so in `Node.opset`.
    """
    graph, body = node.graph, function.body
    assert graph is not None, "the node is in no graph"
    if len(node.inputs) > len(body.inputs) or len(node.outputs) > len(body.outputs):
        raise InvalidGraph(
            f"Node ({node.name}) calls function {function.domain}:{function.name} with "
            f"{len(node.inputs)} inputs and {len(node.outputs)} outputs; it has "
            f"{len(body.inputs)} and {len(body.outputs)}."
        )
    prefix = f"{node.name}/" if node.name else ""

    def output_name(name: str) -> str:
        return graph.fresh_name(prefix + name)

    copier = GraphCopier(resolver(node.attributes, function.attribute_defaults))
    for index, formal in enumerate(body.inputs):
        copier.replace_value(formal, node.input(index))
    # The call's outputs live on as what the body's last nodes make; others are replaced below.
    outputs, node.outputs = node.outputs, []
    passed: list[tuple[Value, Value]] = []
    claimed: set[int] = set()
    for formal, actual in zip(body.outputs, outputs):
        if formal.producer is not None and id(formal) not in claimed:
            claimed.add(id(formal))
            copier.replace_value(formal, actual)
        else:
            passed.append((formal, actual))
    for name, value in body.initializers.items():
        if value.constant is not None:
            constant = Value(output_name(name), constant=value.constant)
            copier.replace_value(value, graph.add_initializer(constant))
    added = []
    for old in body:
        new = copier.copy_node(old, prefix + old.name, output_name)
        _check_values(new)
        if node.replaced or not (new.metadata or new.doc):  # it has no origin of its own
            new.replaced = replaced_by(node)
        new.metadata = {**node.metadata, **new.metadata}
        new.doc = new.doc or node.doc
        graph.insert_before(node, new)
        added.append(new)
        if opset_imports is not None:
            _mark_opsets(new, function.opset_imports, opset_imports)
    for formal, actual in passed:
        _forward(actual, copier.value(formal), node)
    graph.remove(node)
    return added


def _forward(actual: Value, source: Value | None, node: Node) -> None:
    """Let the readers of a call's output read `source`, which the function passes through."""
    if source is not None:
        actual.replace_uses(source)
        return
    if actual.output_count:
        raise InvalidGraph(
            f"Node ({node.name}) makes graph output ({actual.name}) of an input that is left out."
        )
    for use in list(actual.uses):
        use.node.set_input(use.index, None)


def _mark_opsets(node: Node, own: Mapping[str, int], callers: Mapping[str, int]) -> None:
    nested = [inner for graph in node.subgraphs for inner in graph.walk_nodes()]
    for each in (node, *nested):
        version = own.get(each.domain)
        if version is not None and version != callers.get(each.domain, version):
            each.opset = version


def _check_values(added: Node) -> None:
    """Refuse what a call gave the attributes of a function's node, as if it stood there itself."""
    for node in (added, *(each for graph in added.subgraphs for each in graph.walk_nodes())):
        for name, value in node.attributes.items() if node.domain == ONNX_DOMAIN else ():
            given = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            if isinstance(given, (int, bytes)):
                problem = value_problem(node.op_type, name, given, len(node.outputs))
                if problem is not None:
                    raise InvalidGraph(problem, node=node.name, op=node.op_type)


def _check_growth(model: Model, functions: Mapping[check.FunctionKey, Function]) -> None:
    """Refuse a model that would explode, before the first call is inlined."""
    sizes: dict[check.FunctionKey, int] = {}

    def size_of(graph: Graph) -> int:
        return sum(
            sizes.get((node.domain, node.op_type, node.overload), 1) for node in graph.walk_nodes()
        )

    for key in check.call_order(functions):
        sizes[key] = size_of(functions[key].body)
    total = size_of(model.graph)
    if total > MAX_NODES:
        raise InvalidGraph(
            f"With its functions inlined the model would have {total} nodes, more than {MAX_NODES}."
        )


def schema_function(node: Node, opset: int) -> Function | None:
    """The function body that the operator's schema in `opset` defines; None when it has none.

    Bodies that depend on the input types need these to be known.
    """
    import onnx
    import onnx.defs

    from bascule.ir.deserialize import read_function
    from bascule.ir.serialize import write_type

    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return None
    serialized = b""
    if schema.has_function:
        versions = [v for v in schema.function_opset_versions if v <= opset]
        serialized = schema.get_function_with_opset_version(max(versions, default=opset))
    elif schema.has_context_dependent_function:
        versions = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
        types = []
        for value in node.inputs:
            proto = onnx.TypeProto()
            if value is not None:
                if value.type is None:
                    return None
                write_type(value.type, proto)
            types.append(proto.SerializeToString())
        serialized = schema.get_context_dependent_function_with_opset_version(
            max(versions, default=opset), _call_proto(node).SerializeToString(), types
        )
    if not serialized:
        return None
    proto = onnx.FunctionProto.FromString(serialized)
    # Bodies leave out what the call does not ask for; a value must stand in its place.
    made = {*proto.input, *(name for each in proto.node for name in each.output)}
    for name in proto.output:
        if name not in made:
            absent = proto.node.add(op_type="Constant", output=[name])
            absent.attribute.add(name="value_int", type=2, i=0)
    for name, attribute in schema.attributes.items():
        if attribute.default_value.type and name in proto.attribute:
            proto.attribute.remove(name)
            proto.attribute_proto.append(attribute.default_value)
    return read_function(proto, {"": check.newest_opsets()[""], node.domain: opset})


def _call_proto(node: Node) -> onnx.NodeProto:
    """The node alone, asking only for the outputs that something reads, but for one at least."""
    from bascule.ir.serialize import node_proto

    proto = node_proto(node)
    names = ["" if v.is_unused else name for v, name in zip(node.outputs, proto.output)]
    while names and not names[-1]:
        names.pop()
    names = names or proto.output[:1]
    del proto.output[:]
    proto.output.extend(names)
    return proto
