# SPDX-License-Identifier: Apache-2.0
"""Sizes: made dynamic, renamed, fixed, with all that follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from bascule.errors import InvalidArgument
from bascule.ir.deserialize import read_type
from bascule.ir.types import Dim, TensorType, Type
from bascule.tools.edit.baked import baked_in
from bascule.tools.edit.change import Change
from bascule.tools.edit.document import Document
from bascule.tools.edit.names import initializer_names, suggestion
from bascule.tools.edit.renaming import dim_names, rename_dims
from bascule.tools.edit.reshapes import MENDED, mend_reshapes
from bascule.tools.edit.types import downstream, infer, set_type, show

_TRIAL_SIZES = (1009, 2003, 3001, 4001, 5003, 6007, 7001, 8009)
"""Primes that no model has as a size by itself."""


@dataclass
class _Plan:
    """What becomes of which sizes."""

    renamed: dict[str, int | str] = field(default_factory=dict)
    """Named sizes that get another name, or a number."""
    shapes: dict[str, list[Dim]] = field(default_factory=dict)
    """Shapes of inputs."""
    freed: dict[str, int] = field(default_factory=dict)
    """Names of what was a number, with that number."""
    final: dict[str, int | str] = field(default_factory=dict)
    """Names that stand for another number in between."""


def set_dims(document: Document, change: Change, sizes: Mapping[str, Any], mend: bool) -> None:
    """Give sizes names or numbers; see Editor.set_dims."""
    model = document.proto
    plan = _plan(model, sizes)
    before = document.copy()
    rename_dims(model, plan.renamed)
    for info in model.graph.input:
        if info.name in plan.shapes:
            known = read_type(info.type)
            assert isinstance(known, TensorType)
            shape = [plan.renamed.get(d, d) if isinstance(d, str) else d
                     for d in plan.shapes[info.name]]  # fmt: skip
            set_type(info, TensorType(known.dtype, tuple(shape)))
            if info.name in initializer_names(model.graph):
                change.note(f"input '{info.name}' has a default of a fixed size, which stays")
    roots = {info.name for info in model.graph.input if _differs(before, info)}
    roots |= _renamed_values(before.proto, plan.renamed)
    change.changed |= roots
    if plan.freed:
        change.unsure = True
        types = mend_reshapes(before, document, change, roots, mend)
        names = dim_names(model)
        change.facts.update(
            (name, _settled(fact, names, plan.final)) for name, fact in types.facts.items()
        )
        for note in baked_in(document, types.old, types.new, plan.freed):
            change.note(note)
        _try_other_sizes(document, change, roots, plan.freed)
        change.notes.sort(key=lambda note: MENDED in note)  # what needs a look comes first
    rename_dims(model, plan.final)


def _settled(type: Type, known: set[str], final: Mapping[str, int | str]) -> Type:
    """A type with the sizes that the model has in the end, and no other names."""
    assert isinstance(type, TensorType)
    dims = [final.get(dim, dim) if isinstance(dim, str) else dim for dim in type.shape or ()]
    kept = (None if d == "" or (isinstance(d, str) and d not in known) else d for d in dims)
    return TensorType(type.dtype, tuple(kept))


def _plan(model: onnx.ModelProto, sizes: Mapping[str, Any]) -> _Plan:
    inputs = {info.name: info for info in model.graph.input}
    known = dim_names(model)
    plan = _Plan()
    for name, wanted in sizes.items():
        if isinstance(wanted, (str, int)):
            if name not in known:
                hint = (
                    suggestion(name, known) or f"; there are {', '.join(sorted(known)) or 'none'}"
                )
                raise InvalidArgument(
                    f"No size is called '{name}'{hint}. The shape of an input is given as a list"
                )
            _require_size(name, wanted)
            plan.renamed[name] = wanted
        elif name not in inputs:
            raise InvalidArgument(f"The model has no input '{name}'{suggestion(name, inputs)}")
        else:
            _plan_shape(plan, inputs[name], list(wanted))
    return plan


def _plan_shape(plan: _Plan, info: onnx.ValueInfoProto, wanted: list[Dim]) -> None:
    type = read_type(info.type) if info.HasField("type") else None
    if not isinstance(type, TensorType):
        raise InvalidArgument(f"Input '{info.name}' is no tensor: {show(type)}")
    old: Sequence[Dim] = type.shape if type.shape is not None else (None,) * len(wanted)
    if len(old) != len(wanted):
        raise InvalidArgument(
            f"Input '{info.name}' has rank {len(old)}, {show(type)}; {len(wanted)} sizes were given"
        )
    shape: list[Dim] = []
    for axis, (was, size) in enumerate(zip(old, wanted)):
        if size is not None:
            _require_size(f"{info.name}[{axis}]", size)
        if was == size:
            shape.append(was)
        elif isinstance(was, str) and size is not None:
            # The same size stands elsewhere: it is the same there.
            if plan.renamed.setdefault(was, size) != size:
                raise InvalidArgument(f"Size '{was}' cannot be {plan.renamed[was]} and {size}")
            shape.append(size)
        elif isinstance(was, int):
            name = size if isinstance(size, str) else f"{info.name}[{axis}]"
            if plan.freed.setdefault(name, was) != was:
                raise InvalidArgument(
                    f"Size '{name}' cannot stand for {plan.freed[name]} and for {was}"
                )
            if not isinstance(size, str):
                plan.final[name] = size if size is not None else ""
            shape.append(name)
        else:
            shape.append(size)
    plan.shapes[info.name] = shape


def _require_size(where: str, size: Any) -> None:
    is_size = isinstance(size, str) and size.strip() and not size.isdecimal()
    if not is_size and not (isinstance(size, int) and not isinstance(size, bool) and size >= 0):
        raise InvalidArgument(f"{size!r} for '{where}' is no size: give a name or a number from 0")


def _differs(before: Document, info: onnx.ValueInfoProto) -> bool:
    return all(each != info for each in before.proto.graph.input if each.name == info.name)


def _renamed_values(model: onnx.ModelProto, renamed: Mapping[str, int | str]) -> set[str]:
    """The inputs that have one of these sizes."""
    found = set()
    for info in model.graph.input:
        type: Type | None = read_type(info.type) if info.HasField("type") else None
        if isinstance(type, TensorType) and set(type.shape or ()) & renamed.keys():
            found.add(info.name)
    return found


def _try_other_sizes(
    document: Document, change: Change, roots: set[str], freed: Mapping[str, int]
) -> None:
    """Note a node that contradicts a size other than the one it had."""
    trial = document.copy()
    numbers = {name: size for name, size in zip(freed, _TRIAL_SIZES * len(freed))}
    rename_dims(trial.proto, numbers)
    try:
        infer(trial, downstream(trial.proto.graph, roots), check=True)
    except Exception as error:
        text = str(error)
        for name, number in numbers.items():
            text = text.replace(str(number), name)
        change.note(f"does not work with other sizes than before: {text}")
