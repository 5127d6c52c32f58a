# SPDX-License-Identifier: Apache-2.0
"""Two models compared: what they say of themselves, inputs, outputs, functions, and the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bascule.ir.graph import Function, Model, Value
from bascule.ir.printer import format_type
from bascule.tools.diff.graphs import GraphComparer, Side
from bascule.tools.diff.result import Change, ModelDiff, WeightChange
from bascule.tools.diff.weights import TensorComparer, type_text

_FIELDS = ("producer", "ir_version", "domain", "model_version", "doc")


def compare_models(old: Model, new: Model, tensors: TensorComparer) -> ModelDiff:
    """All that differs."""
    result = ModelDiff()
    _compare_headers(old, new, result)
    sides = _sides(old, new, result, tensors)
    graphs = GraphComparer(result, tensors)
    graphs.compare(*sides)
    for key in sorted({**old.functions, **new.functions}):
        a, b = old.functions.get(key), new.functions.get(key)
        name = ".".join(part for part in key if part)
        if a is None or b is None:
            texts = (None if f is None else f"{len(f.body)} nodes" for f in (a, b))
            result.model.append(Change("function", name, *texts))
        else:
            graphs.compare(*_function_sides(a, b), f"{name}/")
            _compare_maps("opset", a.opset_imports, b.opset_imports, result, f"{name}/")
    return result


def _compare_headers(old: Model, new: Model, result: ModelDiff) -> None:
    for name in _FIELDS:
        texts = [_field(model, name) for model in (old, new)]
        if texts[0] != texts[1]:
            result.model.append(Change(name, "", *(text or None for text in texts)))
    _compare_maps("opset", _opsets(old), _opsets(new), result)
    _compare_maps("metadata", old.metadata, new.metadata, result)


def _field(model: Model, name: str) -> str:
    if name == "producer":
        return f"{model.producer_name} {model.producer_version}".strip()
    return str(getattr(model, name))


def _opsets(model: Model) -> dict[str, int]:
    """Those that nodes use: exporters import others too."""
    used = {node.domain for node in model.graph.walk_nodes()}
    for function in model.functions.values():
        used |= {node.domain for node in function.body.walk_nodes()}
    return {d or "ai.onnx": v for d, v in model.opset_imports.items() if d in used}


def _compare_maps(
    where: str,
    old: Mapping[str, object],
    new: Mapping[str, object],
    result: ModelDiff,
    inside: str = "",
) -> None:
    for key in sorted({**old, **new}):
        if old.get(key) != new.get(key):
            texts = (str(x[key]) if key in x else None for x in (old, new))
            result.model.append(Change(where, inside + key, *texts))


def _sides(old: Model, new: Model, result: ModelDiff, tensors: TensorComparer) -> tuple[Side, Side]:
    """Both graphs, their inputs and outputs paired; tells of those that differ."""
    given: tuple[dict[int, str], dict[int, str]] = ({}, {})
    pairs = pair_values(_inputs(old), _inputs(new))
    for number, (a, b) in enumerate(pairs):
        for side, value in enumerate((a, b)):
            if value is not None:
                given[side][id(value)] = f"input {number}"
        _compare_values("input", a, b, result)
        if a is not None and b is not None:
            _compare_defaults(a, b, result, tensors)
    keys: tuple[dict[int, str], dict[int, str]] = ({}, {})
    for a, b in pair_values(old.graph.outputs, new.graph.outputs):
        name = next(v.name for v in (b, a) if v is not None)
        for side, value in enumerate((a, b)):
            if value is not None:
                keys[side][id(value)] = name
        _compare_values("output", a, b, result)
    made = [
        Side(model.graph, model.opset_imports, inputs, [names[id(v)] for v in model.graph.outputs])
        for model, inputs, names in zip((old, new), given, keys)
    ]
    return made[0], made[1]


def _inputs(model: Model) -> list[Value]:
    """Inputs that can be fed: before IR version 4 every initializer had to be listed among them."""
    graph = model.graph
    if model.ir_version >= 4:
        return graph.inputs
    return [value for value in graph.inputs if value.name not in graph.initializers]


def pair_values(
    old: Sequence[Value], new: Sequence[Value]
) -> list[tuple[Value | None, Value | None]]:
    """Values of one name, then those of one type and the first of the rest, in their order."""
    theirs = {value.name: value for value in new}
    partners: dict[str, Value] = {v.name: theirs[v.name] for v in old if v.name in theirs}
    for same_type in (True, False):
        taken = {id(value) for value in partners.values()}
        free = [value for value in new if id(value) not in taken]
        for value in old:
            if value.name in partners:
                continue
            type_ = format_type(value.type)
            found = next((v for v in free if not same_type or format_type(v.type) == type_), None)
            if found is not None:
                partners[value.name] = found
                free.remove(found)
    backwards = {id(value): name for name, value in partners.items()}
    by_name = {value.name: value for value in old}
    pairs: list[tuple[Value | None, Value | None]] = [
        (by_name[backwards[id(v)]] if id(v) in backwards else None, v) for v in new
    ]
    return pairs + [(value, None) for value in old if value.name not in partners]


def _compare_values(where: str, old: Value | None, new: Value | None, result: ModelDiff) -> None:
    texts = [None if v is None else f"{v.name}: {format_type(v.type)}" for v in (old, new)]
    both = old is not None and new is not None and old.name == new.name
    if both and where == "output" and any(v is None or v.shape is None for v in (old, new)):
        return  # files may leave out the type of an output, or a part of it
    if texts[0] != texts[1]:
        name = next(v.name for v in (new, old) if v is not None)
        result.model.append(Change(where, name, *texts))


def _compare_defaults(old: Value, new: Value, result: ModelDiff, tensors: TensorComparer) -> None:
    a, b = old.constant, new.constant
    if a is None or b is None:
        if a is not b:
            texts = ("required" if x is None else "may be left out" for x in (a, b))
            result.model.append(Change("input", new.name, *texts))
        return
    if not tensors.equal(a, b):
        types = [type_text(x.dtype, x.shape) for x in (a, b)]
        found = tensors.statistics(a, b)
        result.weights.append(
            WeightChange(old.name, new.name, "(default)", types[0], types[1], found)
        )


def _function_sides(old: Function, new: Function) -> tuple[Side, Side]:
    made = []
    for function in (old, new):
        body = function.body
        given = {id(value): f"input {i}" for i, value in enumerate(body.inputs)}
        outputs = [str(i) for i in range(len(body.outputs))]
        made.append(Side(body, function.opset_imports, given, outputs))
    return made[0], made[1]
