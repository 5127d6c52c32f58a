# SPDX-License-Identifier: Apache-2.0
"""Types of values: those declared, those inferred, and declarations that an edit made stale."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx

from bascule.errors import InvalidArgument
from bascule.ir.deserialize import read_type
from bascule.ir.dtype import DataType
from bascule.ir.infer import infer_types
from bascule.ir.serialize import write_type
from bascule.ir.symbols import is_invented
from bascule.ir.types import Dim, Shape, TensorType, Type
from bascule.ir.walk import graphs_in, graphs_of
from bascule.refusal import refuse_unknown
from bascule.tools.edit.document import Document
from bascule.tools.edit.names import captured

_TEXT = re.compile(r"(?P<dtype>\w+)\s*(?:\[(?P<shape>[^\]]*)\])?")
_ALIASES = {"float32": "FLOAT", "float64": "DOUBLE", "half": "FLOAT16", "str": "STRING"}


def declared_types(graph: onnx.GraphProto) -> dict[str, onnx.TypeProto]:
    """What a graph states of its values, without looking further."""
    infos = (*graph.value_info, *graph.input, *graph.output)
    return {info.name: info.type for info in infos if is_complete(info.type)}


def is_complete(type: onnx.TypeProto) -> bool:
    """Whether a type at least says what the elements are."""
    try:
        return read_type(type) is not None
    except Exception:  # an element type that is not known
        return False


def infer(
    document: Document,
    stale: Iterable[str] = (),
    *,
    check: bool = False,
    facts: Mapping[str, Type] | None = None,
) -> dict[str, Type]:
    """The type of each value, by inference and what is declared of those that are not `stale`.

    `facts` are declared in place of what is. With `check`, types that contradict each other are
    refused, and so are operators that the standard does not have.

    Raises:
        Fail, InvalidGraph, InvalidArgument, NotImplemented: the model is not valid.
    """
    stale = set(stale)
    if stale:
        document = document.copy()
        for graph in graphs_in(document.proto.graph):
            _keep(graph.value_info, [info.name not in stale for info in graph.value_info])
            inputs = {info.name for info in graph.input}
            for info in graph.output:
                if info.name in stale and info.name not in inputs:
                    info.ClearField("type")
        for name, type in (facts or {}).items():
            info = document.proto.graph.value_info.add(name=name)
            write_type(type, info.type)
    model = document.model()
    if check:
        refuse_unknown(model)
    infer_types(model, check=check)
    found: dict[str, Type] = {}
    for inner in model.graph.walk_graphs():
        for value in (*inner.inputs, *inner.initializers.values()):
            if value.type is not None:
                found.setdefault(value.name, _plain(value.type))
        for node in inner:
            for value in node.outputs:
                if value.type is not None:
                    found.setdefault(value.name, _plain(value.type))
    return found


def downstream(graph: onnx.GraphProto, changed: Iterable[str]) -> set[str]:
    """Values that depend on the `changed` ones, nested graphs included, and these themselves."""
    found = set(changed)

    def visit(graph: onnx.GraphProto) -> bool:
        before = len(found)
        for node in graph.node:
            graphs = graphs_of(node)
            for inner in graphs:
                # What feeds an input of a body is decided by the operator: take them all.
                if any(name in found for name in (*node.input, *captured(inner))):
                    found.update(info.name for info in inner.input)
                visit(inner)
            inside = any(info.name in found for inner in graphs for info in inner.output)
            if inside or any(name in found for name in node.input):
                found.update(name for name in node.output if name)
        return len(found) > before

    while visit(graph):  # again where nodes are not in order
        pass
    return found


def refresh(
    before: Document,
    after: Document,
    changed: Iterable[str],
    unsure: bool = False,
    facts: Mapping[str, Type] | None = None,
) -> None:
    """Mend what `after` declares of values that depend on `changed` ones.

    What inference says differently of the two models takes the place of what is declared; where it
    says the same, or nothing, the declaration stays, as an exporter may have known more. If that is
    `unsure`, only what is inferred stays. `facts` are known of `after` besides.
    """
    stale = downstream(after.proto.graph, changed)
    fixed = {info.name for info in after.proto.graph.input}
    graphs = list(graphs_in(after.proto.graph))
    infos = [i for g in graphs for i in (*g.value_info, *g.output) if i.name in stale - fixed]
    ends = {info.name for graph in graphs for info in graph.output}
    if not infos:
        return
    new = infer(after, stale, facts=facts)
    try:
        old = infer(before, stale)
    except Exception:  # it was not valid: nothing is known of it
        old = {}
    lost = set()
    for info in infos:
        declared = read_type(info.type) if info.HasField("type") else None
        type = _merged(declared, old.get(info.name), new.get(info.name), unsure)
        if _rank(type) is None and _rank(declared) is not None:
            if info.name not in ends:
                type = None
            elif isinstance(type, TensorType):  # an output has to have a rank
                type = TensorType(type.dtype, (None,) * (_rank(declared) or 0))
        if type is not None and type != declared:
            set_type(info, type)
        elif type is None:
            lost.add(info.name)
    for graph in graphs:
        _keep(graph.value_info, [info.name not in lost for info in graph.value_info])


def _rank(type: Type | None) -> int | None:
    return len(type.shape) if isinstance(type, TensorType) and type.shape is not None else None


def _merged(declared: Type | None, old: Type | None, new: Type | None, unsure: bool) -> Type | None:
    if not isinstance(new, TensorType):
        return declared if new is None and old is None else new
    if not isinstance(declared, TensorType) or declared.shape is None:
        return new
    known = old if isinstance(old, TensorType) else None
    if new.shape is None:
        keeps = (known is None or known.shape is None) and not unsure
        return TensorType(new.dtype, declared.shape if keeps else None)
    if len(new.shape) != len(declared.shape):
        return new
    before: Shape = (None,) * len(new.shape)
    if known is not None and known.shape is not None and len(known.shape) == len(new.shape):
        before = known.shape
    dims = zip(declared.shape, before, new.shape)
    return TensorType(new.dtype, tuple(_merged_dim(*each, unsure) for each in dims))


def _merged_dim(declared: Dim, old: Dim, new: Dim, unsure: bool) -> Dim:
    return declared if new == old and not (unsure and new is None) else new


def set_type(info: onnx.ValueInfoProto, type: Type) -> None:
    """Give a value another type; denotations stay where there is a place for them."""
    old = onnx.TypeProto()
    old.CopyFrom(info.type)
    info.ClearField("type")
    write_type(type, info.type)
    if old.denotation:
        info.type.denotation = old.denotation
    dims, named = info.type.tensor_type.shape.dim, old.tensor_type.shape.dim
    if len(dims) == len(named):
        for dim, known in zip(dims, named):
            if known.denotation:
                dim.denotation = known.denotation


def _plain(type: Type) -> Type:
    """Without the names that inference invents."""
    if isinstance(type, TensorType) and type.shape is not None:
        return TensorType(type.dtype, tuple(None if is_invented(d) else d for d in type.shape))
    return type


def _keep(infos: Any, flags: Sequence[bool]) -> None:
    for index in range(len(flags) - 1, -1, -1):
        if not flags[index]:
            del infos[index]


# --- what people write


def parse_type(text: str) -> TensorType:
    """A type such as ``float32[batch, 3, ?]``; without brackets not even the rank is known.

    Raises:
        InvalidArgument: it is none.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(f"'{text}' is no type; write one like float32[batch, 3, ?]")
    name = match["dtype"]
    try:
        dtype = DataType[_ALIASES.get(name.lower(), name.upper())]
    except KeyError:
        raise InvalidArgument(f"'{name}' in '{text}' is no element type of ONNX") from None
    if dtype is DataType.UNDEFINED:
        raise InvalidArgument(f"'{name}' in '{text}' is no element type of ONNX")
    if match["shape"] is None:
        return TensorType(dtype)
    parts = [part.strip() for part in match["shape"].split(",")] if match["shape"].strip() else []
    return TensorType(dtype, tuple(parse_dim(part) for part in parts))


def parse_dim(text: str) -> Dim:
    """A size: a number, a name, or ``?`` for one that is unknown."""
    if text in ("?", ""):
        return None
    return int(text) if text.isdecimal() else text


def as_type(given: Any) -> Type:
    """A type given as text, as (dtype, shape), as a TypeProto or ValueInfoProto.

    Raises:
        InvalidArgument: it is none of these.
    """
    if isinstance(given, TensorType):
        return given
    if isinstance(given, str):
        return parse_type(given)
    if isinstance(given, onnx.ValueInfoProto):
        given = given.type
    if isinstance(given, onnx.TypeProto):
        found = read_type(given)
        if found is not None:
            return found
    elif isinstance(given, (tuple, list)) and len(given) == 2:
        dtype, shape = given
        if isinstance(dtype, str):
            return TensorType(parse_type(dtype).dtype, None if shape is None else tuple(shape))
        return TensorType(DataType.from_numpy(dtype), None if shape is None else tuple(shape))
    raise InvalidArgument(f"{given!r} is no type; write one like 'float32[batch, 3, ?]'")


def iter_types(given: Mapping[str, Any] | None) -> Iterator[tuple[str, Type]]:
    """(name, type) of each that is given."""
    if given and not isinstance(given, Mapping):
        raise InvalidArgument(f"types must be a dict by name, not {given!r}")
    for name, type in (given or {}).items():
        yield name, as_type(type)


def show(type: Type | None) -> str:
    """A type as people write it."""
    if not isinstance(type, TensorType):
        return "unknown" if type is None else str(type)
    if type.shape is None:
        return type.dtype.onnx_name
    return f"{type.dtype.onnx_name}[{', '.join('?' if d is None else str(d) for d in type.shape)}]"
