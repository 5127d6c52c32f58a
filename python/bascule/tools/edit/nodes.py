# SPDX-License-Identifier: Apache-2.0
"""Inserting, replacing and deleting nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from bascule.errors import InvalidArgument
from bascule.ir import check
from bascule.tools.edit.change import (
    Change,
    forget,
    is_read,
    prune,
    redirect_all,
    require_free,
    require_import,
)
from bascule.tools.edit.document import Document, as_constant
from bascule.tools.edit.names import (
    all_names,
    find_node,
    find_value,
    fresh,
    initializer_names,
    label,
    node_names,
    producers,
    reads,
    redirect_node,
    rename_values,
    sort_nodes,
    suggestion,
)
from bascule.tools.edit.types import parse_type
from bascule.tools.edit.weights import add_initializer

Attributes = Mapping[str, Any]


def insert(
    document: Document,
    change: Change,
    value: str,
    op_type: str,
    *,
    inputs: Sequence[str] | None,
    attributes: Attributes,
    domain: str,
    name: str | None,
    output: str | None,
    constants: Mapping[str, Any],
    readers: Iterable[str] | None,
) -> None:
    """Put a node between a value and what reads it; see Editor.insert."""
    model = document.proto
    graph = find_value(model, value)
    for constant, array in constants.items():
        add_initializer(document, change, graph, constant, as_constant(array))
    ins = [value] if inputs is None else list(inputs)
    if value not in ins:
        raise InvalidArgument(f"The inputs {ins} of the new node do not hold '{value}'")
    for each in ins:
        if each and each != value:
            find_value(model, each)
    taken = all_names(model)
    is_output = any(info.name == value for info in graph.output)
    outermost = any(info.name == value for info in graph.input)
    if is_output and readers is None:
        if outermost:
            raise InvalidArgument(
                f"'{value}' is an input and an output: give `readers`, the nodes that are to read "
                "the new one"
            )
        if output is not None:
            raise InvalidArgument(
                f"'{value}' is an output, so the new node makes it; it cannot make '{output}'"
            )
        result, source = value, fresh(f"{value}_before_{op_type}", taken)
        _rename_inside(graph, value, source)
    else:
        source, result = value, output or fresh(f"{value}_{op_type}", taken)
        if output is not None:
            require_free(model, output)
    opset = require_import(model, change, domain)
    node = onnx.NodeProto(op_type=op_type, domain=domain)
    node.name = _node_name(model, name, f"{op_type}_{result}")
    node.input.extend(source if each == value else each for each in ins)
    node.output.append(result)
    found = check.schema(op_type, opset, check.normal_domain(domain))
    for index in range(1, found.min_outputs if found is not None else 1):
        node.output.append(fresh(f"{result}_{index}", taken))
    set_attributes(document, node, attributes, opset)
    if readers is None:
        redirected = redirect_all(model, graph, source, result)
    else:
        redirected = _redirect_some(document, graph, source, result, readers)
    if not redirected and not is_output:
        raise InvalidArgument(f"Nothing reads '{value}', so there is no place for a node")
    place = producers(graph).get(source, -1) + 1
    graph.node.insert(place, node)
    sort_nodes(graph)
    change.changed.update(node.output)


def _rename_inside(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a value, but not the output of the graph that it is."""
    outputs = [info for info in graph.output if info.name == old]
    declared = [onnx.ValueInfoProto.FromString(info.SerializeToString()) for info in outputs]
    known = {info.name for info in graph.value_info}
    rename_values(graph, {old: new})
    for info in outputs:
        info.name = old
    if old not in known and declared[0].type.WhichOneof("value"):
        declared[0].name = new
        graph.value_info.append(declared[0])


def _redirect_some(
    document: Document, graph: onnx.GraphProto, old: str, new: str, readers: Iterable[str]
) -> list[str]:
    done = []
    for reference in readers:
        found = find_node(document.proto, reference)
        if old not in reads(found.node):
            raise InvalidArgument(f"{label(found.node)} does not read '{old}'")
        redirect_node(found.node, old, new)
        done.append(label(found.node))
    return done


def _node_name(model: onnx.ModelProto, wanted: str | None, hint: str) -> str:
    taken = node_names(model)
    if wanted is None:
        return fresh(hint, taken)
    if wanted in taken:
        raise InvalidArgument(f"There is a node '{wanted}' already")
    return wanted


# --- replacing


def replace(
    document: Document,
    change: Change,
    reference: str,
    *,
    op_type: str | None,
    domain: str | None,
    attributes: Attributes,
    inputs: Sequence[str | None] | None,
) -> None:
    """Change operator, attributes or inputs of a node; see Editor.replace."""
    model = document.proto
    found = find_node(model, reference)
    node = found.node
    before = reads(node)
    if domain is not None:
        node.domain = domain
    elif op_type is not None and op_type != node.op_type and _is_standard(model, op_type):
        node.domain = ""
    if op_type is not None:
        node.op_type = op_type
        node.overload = ""
    opset = require_import(model, change, node.domain)
    if op_type is not None:
        _drop_unknown(node, change, opset)
    set_attributes(document, node, attributes, opset)
    if inputs is not None:
        for each in inputs:
            if each:
                find_value(model, each)
        del node.input[:]
        node.input.extend(each or "" for each in inputs)
    change.changed.update(each for each in node.output if each)
    sort_nodes(found.graph)
    prune(model, change, [each for each in before if each])


def replace_by(
    document: Document, change: Change, reference: str, nodes: Sequence[onnx.NodeProto]
) -> None:
    """Put other nodes in the place of one; see Editor.replace."""
    model = document.proto
    graph, index = find_node(model, reference)
    old = onnx.NodeProto.FromString(graph.node[index].SerializeToString())
    made = {name for node in nodes for name in node.output}
    missing = [n for n in old.output if n and n not in made and is_read(model, graph, n)]
    if missing:
        raise InvalidArgument(
            f"The nodes in place of {label(old)} do not make {', '.join(map(repr, missing))}, "
            "which is read"
        )
    del graph.node[index]
    taken = node_names(model)
    known = all_names(model)
    for offset, node in enumerate(nodes):
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        for name in copy.output:
            if name and name not in old.output and name in known:
                raise InvalidArgument(f"There is a value '{name}' already")
        copy.name = fresh(copy.name or f"{copy.op_type}_{copy.output[0]}", taken)
        require_import(model, change, copy.domain)
        graph.node.insert(index + offset, copy)
    forget(graph, [name for name in old.output if name not in made])
    for node in nodes:
        for name in reads(node):
            if name not in made:
                find_value(model, name)
    change.changed.update(name for name in made if name)
    sort_nodes(graph)
    prune(model, change, reads(old))


def _is_standard(model: onnx.ModelProto, op_type: str) -> bool:
    version = {check.normal_domain(o.domain): o.version for o in model.opset_import}.get("", 1)
    return check.schema(op_type, version, "") is not None


def _drop_unknown(node: onnx.NodeProto, change: Change, opset: int) -> None:
    """Remove the attributes that the operator, another than before, does not have."""
    found = check.schema(node.op_type, opset, check.normal_domain(node.domain))
    for index in range(len(node.attribute) - 1, -1, -1):
        name = node.attribute[index].name
        if found is not None and name not in found.attributes:
            change.note(f"attribute '{name}', which {node.op_type} does not have, was removed")
            del node.attribute[index]


def set_attributes(
    document: Document, node: onnx.NodeProto, attributes: Attributes, opset: int
) -> None:
    """Set attributes, or remove those that are None.

    Raises:
        InvalidArgument: the operator has no such attribute, or it is of another kind.
    """
    found = check.schema(node.op_type, opset, check.normal_domain(node.domain))
    for name, value in attributes.items():
        if found is not None and name not in found.attributes:
            raise InvalidArgument(
                f"{node.op_type} has no attribute '{name}'{suggestion(name, found.attributes)}"
            )
        place = next((i for i, each in enumerate(node.attribute) if each.name == name), None)
        if value is None:
            if place is not None:
                del node.attribute[place]
            continue
        kind = found.attributes[name] if found is not None else 0
        made = _attribute(document, name, value, kind)
        if place is None:
            node.attribute.append(made)
        else:
            made.doc_string = made.doc_string or node.attribute[place].doc_string
            node.attribute[place].CopyFrom(made)


def _attribute(document: Document, name: str, value: Any, kind: int) -> onnx.AttributeProto:
    if isinstance(value, onnx.AttributeProto):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        if kind in (0, onnx.AttributeProto.TENSOR):
            made = onnx.AttributeProto(name=name, type=onnx.AttributeProto.TENSOR)
            document.set_tensor(made.t, as_constant(value))
            return made
        value = value.tolist()
    try:
        if kind == onnx.AttributeProto.FLOAT:
            value = float(value)
            if math.isinf(value):  # not what is too large for a float
                return onnx.AttributeProto(name=name, type=kind, f=value)
        elif kind == onnx.AttributeProto.INT and isinstance(value, str):
            value = int(parse_type(value).dtype)  # as in Cast's `to`
        elif kind == onnx.AttributeProto.STRING and not isinstance(value, (str, bytes)):
            value = str(value)
        elif kind == onnx.AttributeProto.FLOATS:
            value = [float(item) for item in value]
        elif kind == onnx.AttributeProto.INTS:
            value = [int(item) for item in ([value] if isinstance(value, int) else value)]
        return onnx.helper.make_attribute(name, value, attr_type=kind or None)
    except (TypeError, ValueError) as error:
        word = onnx.AttributeProto.AttributeType.Name(kind).lower() if kind else "an attribute"
        raise InvalidArgument(
            f"Attribute '{name}' cannot be {value!r}, as {word}: {error}"
        ) from None


# --- deleting


def delete(document: Document, change: Change, reference: str, joined: int | str | None) -> None:
    """Take a node out and join what it read to what read it; see Editor.delete."""
    model = document.proto
    graph, index = find_node(model, reference)
    node = onnx.NodeProto.FromString(graph.node[index].SerializeToString())
    used = [name for name in node.output if name and is_read(model, graph, name)]
    if len(used) > 1:
        raise InvalidArgument(
            f"{label(node)} makes {', '.join(map(repr, used))}, which are all read: only one value "
            "can be joined to an input"
        )
    if not used:
        del graph.node[index]
        forget(graph, node.output)
        prune(model, change, reads(node))
        return
    result, source = used[0], _joined(graph, node, joined)
    if not any(info.name == result for info in graph.output):
        redirect_all(model, graph, result, source)
        del graph.node[index]
        forget(graph, node.output)
        change.changed.add(source)
    elif source in producers(graph) and not any(info.name == source for info in graph.output):
        del graph.node[index]
        forget(graph, node.output)
        forget(graph, [source])
        rename_values(graph, {source: result})
        change.note(f"value '{source}' is now called '{result}', as the output that it is")
        change.changed.add(result)
    else:
        made = graph.node[index]
        for field in ("attribute", "domain", "overload", "input"):
            made.ClearField(field)
        made.op_type = "Identity"
        made.input.append(source)
        del made.output[:]
        made.output.append(result)
        forget(graph, [name for name in node.output if name != result])
        change.note(f"an Identity stands in its place, so that '{result}' stays an output")
        change.changed.add(result)
    prune(model, change, [name for name in reads(node) if name != source])


def _joined(graph: onnx.GraphProto, node: onnx.NodeProto, joined: int | str | None) -> str:
    """The input of a node that its readers are to read."""
    names: list[str] = list(node.input)
    if isinstance(joined, str):
        if joined not in names:
            raise InvalidArgument(f"{label(node)} does not read '{joined}'; it reads {names}")
        return joined
    if joined is not None:
        if not 0 <= joined < len(names) or not names[joined]:
            raise InvalidArgument(f"{label(node)} has no input {joined}; it reads {names}")
        return names[joined]
    constants = set(initializer_names(graph)) - {info.name for info in graph.input}
    for each in graph.node:
        if each.op_type == "Constant" and not each.domain:
            constants.update(each.output)
    given = list(dict.fromkeys(name for name in names if name))
    candidates = [name for name in given if name not in constants] or given
    if len(candidates) == 1:
        return candidates[0]
    what = "no input that could be joined to" if not candidates else "several inputs"
    raise InvalidArgument(
        f"{label(node)} has {what} '{node.output[0]}': say which of {names} by `join`"
    )
