# SPDX-License-Identifier: Apache-2.0
"""A comparison as text and as records."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bascule.tools.compare import Comparison
    from bascule.tools.compare.local import ComparedValue
    from bascule.tools.compare.reproduction import Reproduction

_LISTED = 10

COLUMNS = ("value", "node", "operator", "dtype", "shape", "error", "bound", "")


def row(value: ComparedValue) -> tuple[str, ...]:
    """The cells of a value, in the order of COLUMNS."""
    judged = value.judged
    mark = judged.note or ("" if value.is_within else "out of bounds")
    shape = "" if value.shape is None else "x".join(map(str, value.shape)) or "scalar"
    sources = ", ".join(value.sources)
    error, bound = f"{judged.error:.2g}", f"{judged.bound:.2g}"
    return value.name, sources, value.op_type, value.dtype, shape, error, bound, mark


def summary(found: Comparison) -> list[str]:
    """What was found, in a few lines."""
    lines = []
    if found.first is not None:
        first, judged = found.first, found.first.judged
        wrong = sum(not value.is_within for value in found.values)
        lines.append(
            f"{wrong} of {len(found.values)} values are out of bounds, the first '{first.name}' of "
            f"{first.op_type} {_quoted(first.sources)}"
        )
        if judged.note:
            lines.append(f"  {judged.note}")
        else:
            at = list(judged.index)
            lines.append(
                f"  at {at}: {judged.found:.9g}, in float64 {judged.expected:.9g}; the error is "
                f"{judged.error:.3g}, its bound {judged.bound:.3g}"
            )
        if first.line:
            lines.append(f"  from {first.line}")
        origin = found.origin
        if origin is not None and origin.sources != first.sources:
            lines.append(
                f"With the optimizer off the first is '{origin.name}' of {origin.op_type} "
                f"{_quoted(origin.sources)}"
            )
        if found.guilty_pass:
            lines.append(f"Without optimizer pass '{found.guilty_pass}' both agree.")
            lines += [f"  Wrong is {each}" for each in found.rewrites[:_LISTED]]
        if found.reproduction is not None:
            lines.append(_reproduction(found.reproduction))
    else:
        lines.append(f"All {len(found.values)} values are within their bounds.")
    if found.alarm is not None:
        alarm = found.alarm
        what = "a NaN" if alarm.kind == "nan" else "an overflow"
        lines.append(
            f"{what} first appears in '{alarm.name}' of {alarm.op_type} "
            f"{_quoted(tuple(alarm.inside + name for name in alarm.nodes))}"
        )
        if alarm.inputs:
            lines.append(f"  which reads {_quoted(alarm.inputs)}, not finite already")
        if not alarm.inherent:
            lines.append("  with the optimizer on only")
        if found.first is None and found.reproduction is not None:
            lines.append(_reproduction(found.reproduction))
    for output in found.outputs:
        lines.append(
            f"output '{output.name}': differs by {output.error:.3g} at most, where the largest "
            f"element is {output.largest:.3g}{', and is random' if output.random else ''}"
        )
    return lines


def _reproduction(made: Reproduction) -> str:
    nodes = "1 node" if len(made.nodes) == 1 else f"{len(made.nodes)} nodes"
    return f"A model of {nodes} reproduces it: write() it."


def as_text(found: Comparison) -> str:
    """The values as a table, and what was found."""
    table = [COLUMNS, *map(row, found.values)]
    widths = [min(max(len(line[i]) for line in table), 40) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(
            (cell if len(cell) <= width else cell[: width - 1] + "…").ljust(width)
            for cell, width in zip(line, widths)
        ).rstrip()
        for line in table
    ]
    lines.insert(1, "  ".join("-" * width for width in widths).rstrip())
    return "\n".join([f"a: {found.a}", f"b: {found.b}", "", *lines, "", *summary(found)])


def record(found: Comparison) -> dict[str, Any]:
    """The same facts for JSON; what is not finite is text there."""
    values = [dataclasses.asdict(value) | {"within": value.is_within} for value in found.values]
    first = None if found.first is None else found.first.name
    plain: dict[str, Any] = _plain(
        {
            "a": found.a,
            "b": found.b,
            "agrees": found.agrees,
            "first": first,
            "origin": None if found.origin is None else found.origin.name,
            "guilty_nodes": list(found.guilty_nodes),
            "guilty_pass": found.guilty_pass,
            "rewrites": [dataclasses.asdict(each) for each in found.rewrites],
            "alarm": None if found.alarm is None else dataclasses.asdict(found.alarm),
            "outputs": [dataclasses.asdict(each) for each in found.outputs],
            "values": values,
        }
    )
    return plain


def _plain(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {key: _plain(item) for key, item in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_plain(item) for item in thing]
    if isinstance(thing, float) and not math.isfinite(thing):
        return str(thing)
    return thing


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)
