# SPDX-License-Identifier: Apache-2.0
"""The standard's text form of a model, large weights in a file beside it.

The text is what onnx.printer writes, with all digits of numbers, and onnx.parser reads it. What it
has no words for (doc strings and metadata of nodes, values and graphs) goes into an entry of the
model's metadata, by the names of the values that are described, so that it survives when the text
is edited. Before a text is kept it is parsed, and compared with the model.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import onnx
import onnx.printer
from onnx import TensorProto

from bascule.errors import Fail, InvalidProtobuf, NoSuchFile
from bascule.ir.check import submessages
from bascule.ir.dtype import DataType
from bascule.ir.external import ExternalFiles
from bascule.ir.save import replacing
from bascule.ir.tensors import TensorReader
from bascule.ir.text import parse_text
from bascule.ir.walk import graphs_in, tensors_in
from bascule.tools.check.words import plain
from bascule.tools.convert.document import Document

EXTRAS = "bascule.text"
"""The metadata entry with what the text form cannot say."""

_INLINE_ELEMENTS = 16

_UNNAMED = "bascule_unnamed"
"""The name of external tensors without one, which the parser takes for types."""

_PRINTED = frozenset(
    DataType[name]
    for name in (
        *("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL", "STRING"),
        *("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
    )
)
"""Element types whose elements the printer writes."""

_FLOATS = {TensorProto.FLOAT: "float_data", TensorProto.DOUBLE: "double_data"}


def write_text(document: Document, path: str, external_data: bool | str | None = None) -> None:
    """Write the text form of a model to `path`, and its large weights beside it.

    Raises:
        Fail: the text form cannot say something of the model; the message tells what.
    """
    work = document.copy()
    for tensor in tensors_in(work.proto):
        if work.stored(tensor) is None:
            constant = work.constant(tensor)
            is_short = constant.size <= _INLINE_ELEMENTS or constant.strings is not None
            if constant.size and not (is_short and constant.dtype in _PRINTED):
                work.refer(tensor, constant, always=True)
    is_apart = any(True for _ in work.references())
    weights = work.moved_out(path, external_data or True, threshold=0)
    with replacing(path) as file, weights if is_apart else nullcontext(work.proto) as proto:
        file.write(to_text(proto).encode("utf-8", "surrogateescape"))


def to_text(proto: onnx.ModelProto) -> str:
    """The text form of a model whose large tensors are external.

    Raises:
        Fail: as write_text.
    """
    told = onnx.ModelProto()
    told.CopyFrom(proto)
    for tensor in tensors_in(told):
        if tensor.data_location == TensorProto.EXTERNAL and not tensor.name:
            tensor.name = _UNNAMED
    extras = _extras(proto)
    if extras:
        told.metadata_props.add(key=EXTRAS, value=json.dumps(extras, separators=(",", ":")))
    text = _printed(told)
    try:
        found = _parsed(text, "the text form")
    except InvalidProtobuf as error:
        raise Fail(f"The text form cannot say this model: {plain(error)}") from None
    difference = next(_differences(proto, found, "model"), "")
    if difference:
        raise Fail(f"The text form cannot say all of this model: {difference}")
    return text


def read_text(path: str) -> tuple[onnx.ModelProto, TensorReader]:
    """The model in a file of text, and the reader of its tensors.

    Raises:
        NoSuchFile: there is no such file.
        InvalidProtobuf: it is no model in text form; the message tells where.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except FileNotFoundError:
        raise NoSuchFile(f"There is no file '{path}'") from None
    except OSError as error:
        raise Fail(f"'{path}' cannot be read: {error.strerror}") from None
    files = ExternalFiles(os.path.dirname(path) or os.curdir, path)
    return _parsed(text, f"'{path}'"), TensorReader([], 0, files.read, True)


def _parsed(text: str, where: str) -> onnx.ModelProto:
    try:
        proto = parse_text(text, where)
    except ValueError as error:
        raise InvalidProtobuf(str(error)) from None
    for tensor in tensors_in(proto):
        if tensor.name == _UNNAMED:
            tensor.name = ""
    for index, entry in enumerate(proto.metadata_props):
        if entry.key == EXTRAS:
            kept = entry.value
            del proto.metadata_props[index]
            _apply(proto, kept)
            break
    return proto


# --- numbers


def _printed(proto: onnx.ModelProto) -> str:
    """The printer's text with all digits of floating-point numbers.

    It writes six of them. So each number goes in as another that takes six digits, and is put in
    its place in the text.
    """
    exponent = 28
    while f"e+{exponent}" in onnx.printer.to_text(proto):
        exponent += 1
    numbers: list[str] = []

    def mark(number: float, single: bool) -> float:
        if not math.isfinite(number) or (number == int(number) and abs(number) < 100000):
            return number
        numbers.append(str(np.float32(number) if single else float(number)))
        return float(f"{(99999 + len(numbers)) / 100000:.5f}e{exponent}")

    for message in list(submessages(proto)):
        if isinstance(message, onnx.AttributeProto):
            if message.type == onnx.AttributeProto.FLOAT:
                message.f = mark(message.f, True)
            elif message.type == onnx.AttributeProto.FLOATS:
                message.floats[:] = [mark(number, True) for number in message.floats]
        elif _holds_floats(message):
            single = message.data_type == TensorProto.FLOAT
            values = onnx.numpy_helper.to_array(message).reshape(-1).tolist()
            message.ClearField("raw_data")
            field = getattr(message, _FLOATS[message.data_type])
            field[:] = [mark(number, single) for number in values]
    if len(numbers) > 899999:
        raise Fail(f"The text form of this model would have {len(numbers)} numbers")
    text: str = onnx.printer.to_text(proto)

    def restored(found: re.Match[str]) -> str:
        digits = found[1].replace(".", "").ljust(6, "0")
        return numbers[int(digits) - 100000]

    return re.sub(rf"\b([1-9](?:\.\d{{1,5}})?)e\+{exponent}\b", restored, text)


def _holds_floats(message: Any) -> bool:
    """Whether it is a tensor whose numbers the printer writes with a point."""
    if not isinstance(message, TensorProto) or message.data_type not in _FLOATS:
        return False
    return bool(message.data_location != TensorProto.EXTERNAL)


# --- what the text has no words for


def _extras(proto: onnx.ModelProto) -> dict[str, Any]:
    found: dict[str, Any] = {}
    place_of = _keys()

    def note(kind: str, name: str, message: Any) -> None:
        name = place_of(kind, name)
        facts: dict[str, Any] = {}
        if message.doc_string:
            facts["doc"] = message.doc_string
        if message.metadata_props:
            facts["metadata"] = {each.key: each.value for each in message.metadata_props}
        if facts:
            found.setdefault(kind, {})[name] = facts

    for graph in graphs_in(proto.graph):
        note("graphs", graph.name, graph)
        for tensor in graph.initializer:
            note("tensors", tensor.name, tensor)
        for value in (*graph.input, *graph.output, *graph.value_info):
            place = place_of("types", value.name)
            if any(each.denotation for each in (value.type, *value.type.tensor_type.shape.dim)):
                kept = base64.b64encode(value.type.SerializeToString()).decode()
                found.setdefault("types", {})[place] = kept
            note("values", value.name, value)
        place = place_of("quantization", graph.name)
        if graph.quantization_annotation:
            serialized = [each.SerializeToString() for each in graph.quantization_annotation]
            texts = [base64.b64encode(each).decode() for each in serialized]
            found.setdefault("quantization", {})[place] = texts
    for node in _nodes(proto):
        note("nodes", _name(node), node)
    for function in proto.functions:
        note("functions", f"{function.domain}.{function.name}:{function.overload}", function)
        for value in function.value_info:
            note("values", value.name, value)
    return found


def _keys() -> Callable[[str, str], str]:
    """What stands for a name: nested graphs may have names that others have, too."""
    counts: Counter[tuple[str, str]] = Counter()

    def key(kind: str, name: str) -> str:
        counts[kind, name] += 1
        count = counts[kind, name]
        return name if count == 1 else f"{name}\n{count}"

    return key


def _apply(proto: onnx.ModelProto, text: str) -> None:
    try:
        extras = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(extras, dict) or not all(isinstance(v, dict) for v in extras.values()):
        return

    place_of = _keys()

    def restore(kind: str, name: str, message: Any) -> None:
        facts = extras.get(kind, {}).get(place_of(kind, name))
        if not isinstance(facts, dict):
            return
        if isinstance(facts.get("doc"), str) and not message.doc_string:
            message.doc_string = facts["doc"]
        metadata = facts.get("metadata")
        for key, value in metadata.items() if isinstance(metadata, dict) else ():
            if isinstance(value, str):
                message.metadata_props.add(key=key, value=value)

    for graph in graphs_in(proto.graph):
        restore("graphs", graph.name, graph)
        for tensor in graph.initializer:
            restore("tensors", tensor.name, tensor)
        for value in (*graph.input, *graph.output, *graph.value_info):
            restore("values", value.name, value)
            types = [extras.get("types", {}).get(place_of("types", value.name))]
            for kept in _messages(types, onnx.TypeProto):
                if kept.tensor_type.elem_type == value.type.tensor_type.elem_type:
                    value.type.CopyFrom(kept)
        kept_annotations = extras.get("quantization", {}).get(place_of("quantization", graph.name))
        if isinstance(kept_annotations, list):
            graph.quantization_annotation.extend(_messages(kept_annotations, onnx.TensorAnnotation))
    for node in _nodes(proto):
        restore("nodes", _name(node), node)
    for function in proto.functions:
        restore("functions", f"{function.domain}.{function.name}:{function.overload}", function)
        for value in function.value_info:
            restore("values", value.name, value)


def _messages(texts: list[Any], kind: Any) -> Iterator[Any]:
    from google.protobuf.message import DecodeError

    for text in texts:
        if isinstance(text, str):
            try:
                yield kind.FromString(base64.b64decode(text))
            except (ValueError, DecodeError):
                continue


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in graphs_in(proto.graph):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def _name(node: onnx.NodeProto) -> str:
    """What tells a node apart: its first output."""
    return next((str(name) for name in node.output if name), str(node.name))


# --- whether the text says the same


def _differences(one: Any, other: Any, where: str) -> Iterator[str]:
    """What two messages do not have in common, fields of default values left aside."""
    if isinstance(one, TensorProto):
        if not _same_tensor(one, other):
            yield f"{where} '{one.name}' would change"
        return
    for descriptor in one.DESCRIPTOR.fields:
        name = descriptor.name
        mine, yours = getattr(one, name), getattr(other, name)
        if descriptor.message_type is None:
            if _plain(mine) != _plain(yours):
                yield f"{where}.{name} would change from {str(mine)[:80]!r} to {str(yours)[:80]!r}"
        elif not hasattr(mine, "DESCRIPTOR"):
            if len(mine) != len(yours):
                yield f"{where}.{name} has {len(mine)} entries, of which {len(yours)} would be left"
                continue
            for index, (a, b) in enumerate(zip(_ordered(name, mine), _ordered(name, yours))):
                yield from _differences(a, b, f"{where}.{name}[{index}]")
        elif one.HasField(name) or other.HasField(name):
            yield from _differences(mine, yours, f"{where}.{name}")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return str(value)  # NaN is equal to NaN here
    if isinstance(value, (str, bytes, int)):
        return value
    return [str(each) if isinstance(each, float) else each for each in value]


def _ordered(name: str, messages: Any) -> list[Any]:
    """Those that have no order by their names."""
    if name in ("value_info", "attribute", "attribute_proto"):
        return sorted(messages, key=lambda each: each.name)
    if name == "metadata_props":
        return sorted(messages, key=lambda each: each.key)
    return list(messages)


def _same_tensor(one: onnx.TensorProto, other: onnx.TensorProto) -> bool:
    facts = [
        (each.name, each.data_type, list(each.dims), each.doc_string, each.data_location)
        for each in (one, other)
    ]
    if facts[0] != facts[1]:
        return False
    if one.data_location == TensorProto.EXTERNAL:
        entries = [{e.key: e.value for e in each.external_data} for each in (one, other)]
        return entries[0] == entries[1]
    arrays = [onnx.numpy_helper.to_array(each) for each in (one, other)]
    if arrays[0].dtype == object:
        return bool((arrays[0] == arrays[1]).all())
    return bool(arrays[0].tobytes() == arrays[1].tobytes())
