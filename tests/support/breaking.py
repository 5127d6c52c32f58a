# SPDX-License-Identifier: Apache-2.0
"""Ways to break a model, each a function that changes a ModelProto in place.

It returns False where the model has nothing to break in this way.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import onnx
import onnx.defs
from onnx import AttributeProto, TensorProto, helper

Break = Callable[[onnx.ModelProto, random.Random], "bool | None"]

BREAKS: dict[str, Break] = {}


def breaks(function: Break) -> Break:
    BREAKS[function.__name__] = function
    return function


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and those nested in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for nested in ([attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs):
                yield from graphs(nested)


def nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    found = [node for graph in graphs(model.graph) for node in graph.node]
    return found + [node for function in model.functions for node in function.node]


def schema(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.defs.OpSchema | None:
    versions = {each.domain: each.version for each in model.opset_import}
    try:
        return onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return None


def known_nodes(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, onnx.defs.OpSchema]]:
    return [(node, found) for node in nodes(model) if (found := schema(model, node)) is not None]


def pick(items: Any, source: random.Random) -> Any:
    """One of the items; None when there are none."""
    items = list(items)
    return source.choice(items) if items else None


def tensors(model: onnx.ModelProto) -> list[TensorProto]:
    found = [tensor for graph in graphs(model.graph) for tensor in graph.initializer]
    for node in nodes(model):
        found.extend(a.t for a in node.attribute if a.type == AttributeProto.TENSOR)
    return found


# --- the model's head


@breaks
def no_ir_version(model: onnx.ModelProto, source: random.Random) -> bool | None:
    model.ClearField("ir_version")


@breaks
def newer_ir_version(model, source):
    model.ir_version = 1000


@breaks
def old_ir_version(model, source):
    model.ir_version = 2


@breaks
def no_opset_import(model, source):
    model.ClearField("opset_import")


@breaks
def newer_opset(model, source):
    model.opset_import[0].version = 999


@breaks
def opset_zero(model, source):
    model.opset_import[0].version = 0


@breaks
def opset_of_another_domain_only(model, source):
    model.opset_import[0].domain = "other"


@breaks
def opset_twice(model, source):
    model.opset_import.add(domain=model.opset_import[0].domain, version=1)


@breaks
def no_graph(model, source):
    model.ClearField("graph")


@breaks
def no_graph_name(model, source):
    model.graph.name = ""


@breaks
def metadata_twice(model, source):
    for value in "ab":
        model.metadata_props.add(key="key", value=value)


# --- nodes


@breaks
def drop_a_required_input(model, source):
    found = pick([n for n, s in known_nodes(model) if s.min_input > 0 and n.input], source)
    if found is None:
        return False
    del found.input[source.randrange(schema(model, found).min_input if len(found.input) >= schema(model, found).min_input else len(found.input)):]


@breaks
def empty_required_input(model, source):
    option = onnx.defs.OpSchema.FormalParameterOption
    found = pick([(n, i) for n, s in known_nodes(model) for i, name in enumerate(n.input)
        if name and i < len(s.inputs) and s.inputs[i].option == option.Single], source)
    if found is None:
        return False
    found[0].input[found[1]] = ""


@breaks
def too_many_inputs(model, source):
    found = pick([(n, s) for n, s in known_nodes(model) if s.max_input < 20 and any(n.input)], source)
    if found is None:
        return False
    node, s = found
    while len(node.input) <= s.max_input:
        node.input.append(next(i for i in node.input if i))


@breaks
def too_many_outputs(model, source):
    found = pick([(n, s) for n, s in known_nodes(model) if s.max_output < 20], source)
    if found is None:
        return False
    node, s = found
    while len(node.output) <= s.max_output:
        node.output.append(f"extra_{len(node.output)}")


@breaks
def no_outputs(model, source):
    node = pick(nodes(model), source)
    if node is None:
        return False
    del node.output[:]


@breaks
def empty_output_name(model, source):
    node = pick([n for n in nodes(model) if n.output], source)
    if node is None:
        return False
    node.output[0] = ""


@breaks
def no_op_type(model, source):
    node = pick(nodes(model), source)
    if node is None:
        return False
    node.op_type = ""


@breaks
def unknown_operator(model, source):
    node = pick(nodes(model), source)
    if node is None:
        return False
    node.op_type += "X"


@breaks
def unknown_domain(model, source):
    node = pick(nodes(model), source)
    if node is None:
        return False
    node.domain = "my.domain"


@breaks
def unknown_imported_domain(model, source):
    node = pick(nodes(model), source)
    if node is None:
        return False
    node.domain = "my.domain"
    model.opset_import.add(domain="my.domain", version=1)


@breaks
def operator_of_a_later_opset(model, source):
    node = pick([n for n in nodes(model) if not n.domain], source)
    if node is None or model.opset_import[0].domain:
        return False
    since = schema(model, node)
    if since is None or since.since_version == 1:
        return False
    first = min(s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.name == node.op_type and s.domain == "")
    if first == 1:
        return False
    model.opset_import[0].version = first - 1


@breaks
def missing_attribute(model, source):
    found = pick([(n, a) for n, s in known_nodes(model) for a in n.attribute if a.name in s.attributes and s.attributes[a.name].required], source)
    if found is None:
        return False
    found[0].attribute.remove(found[1])


@breaks
def unknown_attribute(model, source):
    found = pick(known_nodes(model), source)
    if found is None:
        return False
    found[0].attribute.append(helper.make_attribute("unknown", 1))


@breaks
def attribute_of_another_type(model, source):
    found = pick([(n, a) for n, _ in known_nodes(model) for a in n.attribute], source)
    if found is None:
        return False
    node, attribute = found
    name = attribute.name
    new = 1.5 if attribute.type != AttributeProto.FLOAT else "text"
    attribute.Clear()
    attribute.CopyFrom(helper.make_attribute(name, new))


@breaks
def attribute_type_contradicts(model, source):
    attribute = pick([a for n in nodes(model) for a in n.attribute], source)
    if attribute is None:
        return False
    attribute.type = AttributeProto.FLOAT if attribute.type != AttributeProto.FLOAT else AttributeProto.INT


@breaks
def attribute_without_type(model, source):
    attribute = pick([a for n in nodes(model) for a in n.attribute], source)
    if attribute is None:
        return False
    attribute.ClearField("type")


@breaks
def attribute_with_two_values(model, source):
    attribute = pick([a for n in nodes(model) for a in n.attribute], source)
    if attribute is None:
        return False
    if attribute.type == AttributeProto.FLOAT:
        attribute.i = 3
    else:
        attribute.f = 3.5


@breaks
def attribute_without_value(model, source):
    attribute = pick([a for n in nodes(model) for a in n.attribute], source)
    if attribute is None:
        return False
    name, type = attribute.name, attribute.type
    attribute.Clear()
    attribute.name, attribute.type = name, type


@breaks
def attribute_without_name(model, source):
    attribute = pick([a for n in nodes(model) for a in n.attribute], source)
    if attribute is None:
        return False
    attribute.name = ""


@breaks
def attribute_twice(model, source):
    node = pick([n for n in nodes(model) if n.attribute], source)
    if node is None:
        return False
    node.attribute.append(node.attribute[0])


@breaks
def attribute_reference_outside_a_function(model, source):
    node = pick([n for n in model.graph.node if n.attribute], source)
    if node is None:
        return False
    name, type = node.attribute[0].name, node.attribute[0].type
    node.attribute[0].Clear()
    node.attribute[0].name, node.attribute[0].type = name, type
    node.attribute[0].ref_attr_name = "outer"


# --- names


@breaks
def undefined_input(model, source):
    node = pick([n for n in nodes(model) if any(n.input)], source)
    if node is None:
        return False
    index = source.choice([i for i, name in enumerate(node.input) if name])
    node.input[index] = "undefined"


@breaks
def undefined_output(model, source):
    model.graph.output[source.randrange(len(model.graph.output))].name = "undefined"


@breaks
def output_defined_twice(model, source):
    node = pick([n for n in model.graph.node if n.output], source)
    if node is None:
        return False
    names = [name for n in model.graph.node for name in n.output if name and n is not node]
    names += [info.name for info in model.graph.input]
    names = [name for name in names if name != node.output[0]]
    if not names:
        return False
    model.graph.node.add(op_type="Identity", input=[node.output[0]], output=[source.choice(names)])


@breaks
def input_defined_twice(model, source):
    if not model.graph.input:
        return False
    model.graph.input.append(model.graph.input[0])


@breaks
def initializer_defined_twice(model, source):
    if not model.graph.initializer:
        return False
    model.graph.initializer.append(model.graph.initializer[0])


@breaks
def initializer_named_like_a_node_output(model, source):
    node = pick([n for n in model.graph.node if n.output and n.output[0]], source)
    if node is None:
        return False
    model.graph.initializer.append(helper.make_tensor(node.output[0], TensorProto.FLOAT, [1], [1.0]))


@breaks
def graph_output_twice(model, source):
    model.graph.output.append(model.graph.output[0])


@breaks
def nodes_in_reverse_order(model, source):
    reverse = list(model.graph.node)[::-1]
    if len(reverse) < 2:
        return False
    del model.graph.node[:]
    model.graph.node.extend(reverse)


@breaks
def cycle(model, source):
    node = pick([n for n in model.graph.node if any(n.input) and any(n.output)], source)
    if node is None:
        return False
    index = next(i for i, name in enumerate(node.input) if name)
    node.input[index] = next(name for name in node.output if name)


@breaks
def nested_graph_reads_what_is_undefined(model, source):
    inner = pick([n for g in list(graphs(model.graph))[1:] for n in g.node if any(n.input)], source)
    if inner is None:
        return False
    inner.input[next(i for i, name in enumerate(inner.input) if name)] = "undefined"


@breaks
def nested_graph_defines_an_outer_name(model, source):
    inner = pick([n for g in list(graphs(model.graph))[1:] for n in g.node if any(n.output)], source)
    outer = [i.name for i in model.graph.input] + [name for n in model.graph.node for name in n.output]
    if inner is None or not outer:
        return False
    old = inner.output[0]
    new = source.choice(outer)
    inner.output[0] = new
    for g in list(graphs(model.graph))[1:]:
        for info in g.output:
            if info.name == old:
                info.name = new


@breaks
def nested_graph_input_has_an_outer_name(model, source):
    g = pick([g for g in list(graphs(model.graph))[1:] if g.input], source)
    if g is None or not model.graph.input:
        return False
    old, new = g.input[0].name, model.graph.input[0].name
    g.input[0].name = new
    for n in g.node:
        for i, name in enumerate(n.input):
            if name == old:
                n.input[i] = new


@breaks
def nested_graph_output_undefined(model, source):
    g = pick([g for g in list(graphs(model.graph))[1:] if g.output], source)
    if g is None:
        return False
    g.output[0].name = "undefined"


@breaks
def nested_graph_without_an_output(model, source):
    g = pick([g for g in list(graphs(model.graph))[1:] if g.output], source)
    if g is None:
        return False
    del g.output[-1]


@breaks
def nested_graph_without_an_input(model, source):
    g = pick([g for g in list(graphs(model.graph))[1:] if g.input], source)
    if g is None:
        return False
    del g.input[-1]


@breaks
def nested_graph_without_name(model, source):
    g = pick(list(graphs(model.graph))[1:], source)
    if g is None:
        return False
    g.name = ""


# --- types


@breaks
def input_without_type(model, source):
    info = pick(model.graph.input, source)
    if info is None:
        return False
    info.ClearField("type")


@breaks
def input_without_name(model, source):
    info = pick(model.graph.input, source)
    if info is None:
        return False
    info.name = ""


@breaks
def output_without_name(model, source):
    pick(model.graph.output, source).name = ""


@breaks
def output_without_type(model, source):
    pick(model.graph.output, source).ClearField("type")


def _tensor_infos(infos):
    return [i for i in infos if i.type.WhichOneof("value") == "tensor_type"]


@breaks
def input_of_undefined_element_type(model, source):
    info = pick(_tensor_infos(model.graph.input), source)
    if info is None:
        return False
    info.type.tensor_type.elem_type = 0


@breaks
def input_of_unknown_element_type(model, source):
    info = pick(_tensor_infos(model.graph.input), source)
    if info is None:
        return False
    info.type.tensor_type.elem_type = 99


@breaks
def input_of_type_string(model, source):
    info = pick(_tensor_infos(model.graph.input), source)
    if info is None:
        return False
    info.type.tensor_type.elem_type = TensorProto.STRING


@breaks
def input_of_type_bool(model, source):
    info = pick(_tensor_infos(model.graph.input), source)
    if info is None:
        return False
    info.type.tensor_type.elem_type = TensorProto.BOOL


@breaks
def input_is_a_sequence(model, source):
    info = pick(_tensor_infos(model.graph.input), source)
    if info is None:
        return False
    inner = onnx.TypeProto()
    inner.CopyFrom(info.type)
    info.type.sequence_type.elem_type.CopyFrom(inner)


@breaks
def input_without_shape(model, source):
    info = pick(_tensor_infos(model.graph.input), source)
    if info is None:
        return False
    info.type.tensor_type.ClearField("shape")


@breaks
def input_with_negative_size(model, source):
    info = pick([i for i in _tensor_infos(model.graph.input) if i.type.tensor_type.shape.dim], source)
    if info is None:
        return False
    pick(info.type.tensor_type.shape.dim, source).dim_value = -3


@breaks
def input_of_another_size(model, source):
    info = pick([i for i in _tensor_infos(model.graph.input) if i.type.tensor_type.shape.dim], source)
    if info is None:
        return False
    pick(info.type.tensor_type.shape.dim, source).dim_value += 13


@breaks
def input_of_another_rank(model, source):
    info = pick(_tensor_infos(model.graph.input), source)
    if info is None:
        return False
    info.type.tensor_type.shape.dim.add(dim_value=1)


@breaks
def input_is_a_scalar(model, source):
    info = pick([i for i in _tensor_infos(model.graph.input) if i.type.tensor_type.shape.dim], source)
    if info is None:
        return False
    del info.type.tensor_type.shape.dim[:]


@breaks
def output_of_another_element_type(model, source):
    info = pick(_tensor_infos(model.graph.output), source)
    if info is None:
        return False
    info.type.tensor_type.elem_type = TensorProto.INT32 if info.type.tensor_type.elem_type != TensorProto.INT32 else TensorProto.FLOAT


@breaks
def output_of_unknown_element_type(model, source):
    info = pick(_tensor_infos(model.graph.output), source)
    if info is None:
        return False
    info.type.tensor_type.elem_type = 99


@breaks
def output_is_a_sequence(model, source):
    info = pick(_tensor_infos(model.graph.output), source)
    if info is None:
        return False
    inner = onnx.TypeProto()
    inner.CopyFrom(info.type)
    info.type.sequence_type.elem_type.CopyFrom(inner)


@breaks
def output_of_another_size(model, source):
    info = pick([i for i in _tensor_infos(model.graph.output) if i.type.tensor_type.shape.dim], source)
    if info is None:
        return False
    pick(info.type.tensor_type.shape.dim, source).dim_value += 13


@breaks
def output_of_another_rank(model, source):
    info = pick(_tensor_infos(model.graph.output), source)
    if info is None:
        return False
    info.type.tensor_type.shape.dim.add(dim_value=1)


@breaks
def inner_value_of_another_element_type(model, source):
    outputs = {o.name for o in model.graph.output}
    name = pick([o for n in model.graph.node for o in n.output if o and o not in outputs], source)
    if name is None:
        return False
    for info in list(model.graph.value_info):
        if info.name == name:
            model.graph.value_info.remove(info)
    model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.UINT16, None))


@breaks
def inner_value_of_another_rank(model, source):
    outputs = {o.name for o in model.graph.output}
    inferred = onnx.shape_inference.infer_shapes(model)
    info = pick([i for i in _tensor_infos(inferred.graph.value_info) if i.name not in outputs], source)
    if info is None:
        return False
    for old in list(model.graph.value_info):
        if old.name == info.name:
            model.graph.value_info.remove(old)
    info.type.tensor_type.shape.dim.add(dim_value=1)
    model.graph.value_info.append(info)


@breaks
def value_info_without_name(model, source):
    model.graph.value_info.append(helper.make_tensor_value_info("", TensorProto.FLOAT, [1]))


@breaks
def value_info_without_type(model, source):
    name = pick([o for n in model.graph.node for o in n.output if o], source)
    if name is None:
        return False
    model.graph.value_info.add(name=name)


@breaks
def value_info_twice(model, source):
    name = pick([o for n in model.graph.node for o in n.output if o], source)
    if name is None:
        return False
    for _ in range(2):
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))


# --- tensors


def _with_tensor(model: onnx.ModelProto, source: random.Random) -> TensorProto:
    """A tensor of the model, or a new initializer that nothing reads."""
    found = [t for t in tensors(model) if t.dims and not t.external_data and 0 not in t.dims]
    if not found:
        model.graph.initializer.append(helper.make_tensor("added", TensorProto.FLOAT, [2], [1.0, 2.0]))
        found = [model.graph.initializer[-1]]
    return source.choice(found)


@breaks
def tensor_with_a_larger_size(model, source):
    _with_tensor(model, source).dims[0] += 1


@breaks
def tensor_with_a_smaller_size(model, source):
    t = _with_tensor(model, source)
    if t.dims[0] < 2:
        return False
    t.dims[0] -= 1


@breaks
def tensor_with_a_negative_size(model, source):
    _with_tensor(model, source).dims[0] = -1


@breaks
def tensor_with_a_huge_size(model, source):
    _with_tensor(model, source).dims[0] = 2**62


@breaks
def tensor_without_element_type(model, source):
    _with_tensor(model, source).data_type = 0


@breaks
def tensor_of_unknown_element_type(model, source):
    _with_tensor(model, source).data_type = 77


@breaks
def tensor_with_two_payloads(model, source):
    t = _with_tensor(model, source)
    if t.raw_data:
        t.float_data.append(1.0)
    else:
        t.raw_data = b"\0" * 8


@breaks
def tensor_with_two_typed_payloads(model, source):
    t = _with_tensor(model, source)
    if t.float_data:
        t.int64_data.append(1)
    else:
        t.float_data.append(1)


@breaks
def tensor_without_payload(model, source):
    t = _with_tensor(model, source)
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"):
        t.ClearField(field)


@breaks
def tensor_in_a_wrong_field(model, source):
    t = _with_tensor(model, source)
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"):
        t.ClearField(field)
    size = 1
    for dim in t.dims:
        size *= dim
    if size > 10000:
        return False
    if t.data_type == TensorProto.DOUBLE:
        t.float_data.extend([1.0] * size)
    else:
        t.double_data.extend([1.0] * size)


@breaks
def external_tensor_without_location(model, source):
    t = _with_tensor(model, source)
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"):
        t.ClearField(field)
    t.data_location = TensorProto.EXTERNAL


@breaks
def external_tensor_with_payload(model, source):
    t = _with_tensor(model, source)
    t.data_location = TensorProto.EXTERNAL
    t.external_data.add(key="location", value="file")


@breaks
def external_tensor_without_file(model, source):
    t = _with_tensor(model, source)
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"):
        t.ClearField(field)
    t.data_location = TensorProto.EXTERNAL
    t.external_data.add(key="location", value="no_such_file")


@breaks
def external_tensor_outside_the_folder(model, source):
    external_tensor_without_file(model, source)
    for t in tensors(model):
        for entry in t.external_data:
            entry.value = "../" + entry.value


@breaks
def tensor_segment(model, source):
    t = _with_tensor(model, source)
    t.segment.begin, t.segment.end = 0, 1


@breaks
def initializer_without_name(model, source):
    model.graph.initializer.append(helper.make_tensor("", TensorProto.FLOAT, [1], [1.0]))


@breaks
def string_tensor_in_raw_form(model, source):
    model.graph.initializer.append(TensorProto(name="added", data_type=TensorProto.STRING, dims=[1], raw_data=b"a"))


def _sparse(model, values=2, indices=(0, 3), dims=(4,), index_dims=None, index_type=TensorProto.INT64, name="added"):
    v = helper.make_tensor(name, TensorProto.FLOAT, [values], [1.0] * values)
    i = helper.make_tensor("", index_type, index_dims if index_dims is not None else [len(indices)], list(indices))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(v, i, list(dims)))


@breaks
def sparse_index_out_of_bounds(model, source):
    _sparse(model, indices=(0, 4))


@breaks
def sparse_index_negative(model, source):
    _sparse(model, indices=(-1, 2))


@breaks
def sparse_indices_not_ascending(model, source):
    _sparse(model, indices=(3, 0))


@breaks
def sparse_indices_twice(model, source):
    _sparse(model, indices=(2, 2))


@breaks
def sparse_count_differs(model, source):
    _sparse(model, indices=(0, 1, 2))


@breaks
def sparse_indices_of_wrong_rank(model, source):
    _sparse(model, indices=(0, 0, 0, 1, 1, 1), dims=(4, 4), index_dims=[2, 3])


@breaks
def sparse_indices_of_wrong_type(model, source):
    _sparse(model, index_type=TensorProto.INT32)


@breaks
def sparse_without_dims(model, source):
    _sparse(model, dims=())


@breaks
def sparse_with_a_negative_size(model, source):
    _sparse(model, dims=(-4,))


@breaks
def sparse_without_name(model, source):
    _sparse(model, name="")


@breaks
def sparse_without_values(model, source):
    _sparse(model)
    model.graph.sparse_initializer[-1].ClearField("values")


# --- functions


def _function(model, nodes, inputs=("x",), outputs=("y",), attributes=(), imports=None, domain="local", name="f"):
    if all(o.domain != domain for o in model.opset_import):
        model.opset_import.add(domain=domain, version=1)
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    opsets = [helper.make_opsetid("", version), helper.make_opsetid(domain, 1)] if imports is None else imports
    model.functions.append(helper.make_function(domain, name, list(inputs), list(outputs), nodes, opsets, list(attributes)))
    model.ir_version = max(model.ir_version, 8)


def _call(model, source, name="f"):
    info = pick([i for i in _tensor_infos(model.graph.input)], source)
    if info is None:
        return False
    model.graph.node.add(op_type=name, domain="local", input=[info.name], output=["called"])
    return None


@breaks
def function_that_is_fine(model, source):
    _function(model, [helper.make_node("Identity", ["x"], ["y"])])
    return _call(model, source)


@breaks
def function_reads_what_is_undefined(model, source):
    _function(model, [helper.make_node("Identity", ["q"], ["y"])])
    return _call(model, source)


@breaks
def function_output_undefined(model, source):
    _function(model, [helper.make_node("Identity", ["x"], ["q"])])
    return _call(model, source)


@breaks
def function_calls_itself(model, source):
    _function(model, [helper.make_node("f", ["x"], ["y"], domain="local")])
    return _call(model, source)


@breaks
def functions_call_each_other(model, source):
    _function(model, [helper.make_node("g", ["x"], ["y"], domain="local")])
    _function(model, [helper.make_node("f", ["x"], ["y"], domain="local")], name="g")
    return _call(model, source)


@breaks
def function_without_opset_import(model, source):
    _function(model, [helper.make_node("Identity", ["x"], ["y"])], imports=[])
    return _call(model, source)


@breaks
def function_of_unimported_domain(model, source):
    _function(model, [helper.make_node("Identity", ["x"], ["y"])])
    del model.opset_import[-1]
    return _call(model, source)


@breaks
def function_defined_twice(model, source):
    for _ in range(2):
        _function(model, [helper.make_node("Identity", ["x"], ["y"])])
    return _call(model, source)


@breaks
def function_without_name(model, source):
    _function(model, [helper.make_node("Identity", ["x"], ["y"])], name="")
    return _call(model, source, "")


@breaks
def function_with_unknown_operator(model, source):
    _function(model, [helper.make_node("IdentityX", ["x"], ["y"])])
    return _call(model, source)


@breaks
def function_input_twice(model, source):
    _function(model, [helper.make_node("Identity", ["x"], ["y"])], inputs=("x", "x"))
    return _call(model, source)


@breaks
def function_defines_a_name_twice(model, source):
    _function(model, [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["x"], ["y"])])
    return _call(model, source)


@breaks
def function_nodes_in_reverse_order(model, source):
    _function(model, [helper.make_node("Identity", ["t"], ["y"]), helper.make_node("Identity", ["x"], ["t"])])
    return _call(model, source)


@breaks
def function_with_unknown_attribute(model, source):
    _function(model, [helper.make_node("Identity", ["x"], ["y"], unknown=1)])
    return _call(model, source)


@breaks
def function_attribute_undeclared(model, source):
    node = helper.make_node("Softmax", ["x"], ["y"])
    node.attribute.add(name="axis", type=AttributeProto.INT, ref_attr_name="undeclared")
    _function(model, [node])
    return _call(model, source)


@breaks
def function_attribute_twice(model, source):
    _function(model, [helper.make_node("Identity", ["x"], ["y"])], attributes=("a", "a"))
    return _call(model, source)


@breaks
def function_called_with_too_many_inputs(model, source):
    _function(model, [helper.make_node("Identity", ["x"], ["y"])])
    if _call(model, source) is False:
        return False
    model.graph.node[-1].input.append(model.graph.node[-1].input[0])


@breaks
def function_called_with_too_many_outputs(model, source):
    _function(model, [helper.make_node("Identity", ["x"], ["y"])])
    if _call(model, source) is False:
        return False
    model.graph.node[-1].output.append("more")


@breaks
def function_in_an_old_ir(model, source):
    _function(model, [helper.make_node("Identity", ["x"], ["y"])])
    model.ir_version = 7
    return _call(model, source)
