# SPDX-License-Identifier: Apache-2.0
"""What a conversion did, in the terminal and as plain data."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from bascule.tools.convert import Conversion
    from bascule.tools.convert.opset import OpsetChange
    from bascule.tools.convert.precision import Precision

_TEXT_WIDTH = 160
_LISTED = 30


def text(conversion: Conversion) -> str:
    """The report as text."""
    # Imported here: it takes long.
    import io

    from rich.console import Console

    stream = io.StringIO()
    show(conversion, Console(file=stream, width=_TEXT_WIDTH))
    return stream.getvalue().rstrip("\n")


def show(conversion: Conversion, console: Console, everything: bool = False) -> None:
    """Print what was done, and the nodes that stay in float32 and why."""
    for line in summary(conversion):
        console.print(line, highlight=False, markup=False)
    if conversion.precision is not None and conversion.precision.kept:
        _kept_table(conversion.precision, console, everything)
    for path in conversion.written:
        console.print(f"written: {path}", highlight=False, markup=False)


def summary(conversion: Conversion) -> list[str]:
    """What was done, in a few lines."""
    lines = []
    if conversion.replaced:
        lines.append(f"weights: {len(conversion.replaced)} tensors replaced")
    if conversion.opset is not None:
        lines += _opset_lines(conversion.opset)
    if conversion.precision is not None:
        lines += _precision_lines(conversion.precision)
    return lines


def _opset_lines(change: OpsetChange) -> list[str]:
    lines = [
        f"opset {change.before} to {change.after}: {change.changed} of {change.nodes_before} nodes "
        f"changed, {change.nodes_after} nodes now"
    ]
    if change.inlined:
        lines.append(
            f"{change.inlined} calls of the model's functions were replaced by their nodes"
        )
    if change.checked:
        lines.append(f"outputs compared: {change.checked}")
    return lines


def _precision_lines(found: Precision) -> list[str]:
    narrow = found.nodes - len(found.kept)
    trials = f"{found.trials} trial{'s' * (found.trials > 1)}"
    lines = [
        f"{found.to}: {narrow} of {found.nodes} nodes; the largest error of an output is "
        f"{found.error:.2g}, of {found.budget:g} allowed ({trials})"
    ]
    if found.inlined:
        lines.append(_inlined(found.inlined))
    if len(found.outputs) > 1:
        lines += [f"  {name}: {error:.2g}" for name, error in found.outputs.items()]
    if found.kept:
        reasons = Counter(each.reason for each in found.kept)
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        count = len(found.kept)
        nodes = "1 node stays" if count == 1 else f"{count} nodes stay"
        lines.append(f"{nodes} in float32: {told}")
    return lines


def _inlined(count: int) -> str:
    return f"{count} calls of functions of the model were replaced by what they do"


def _kept_table(found: Precision, console: Console, everything: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for title in ("node", "operator", "stays for", "why"):
        table.add_column(title, overflow="fold")
    shown = found.kept if everything else found.kept[:_LISTED]
    for each in shown:
        why = escape(each.text) + (f"\n[dim]from {escape(each.source)}[/]" if each.source else "")
        table.add_row(escape(each.name), each.op_type, each.reason, why)
    console.print(table, highlight=False)
    if len(shown) < len(found.kept):
        console.print(f"and {len(found.kept) - len(shown)} more", highlight=False)


def record(conversion: Conversion) -> dict[str, Any]:
    """The same facts for JSON; what is not finite is text there."""
    parts = {"precision": conversion.precision, "opset": conversion.opset}
    found: dict[str, Any] = {
        name: None if part is None else dataclasses.asdict(part) for name, part in parts.items()
    }
    found["replaced"] = list(conversion.replaced)
    found["written"] = list(conversion.written)
    plain: dict[str, Any] = _plain(found)
    return plain


def _plain(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {key: _plain(item) for key, item in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_plain(item) for item in thing]
    if isinstance(thing, float) and not math.isfinite(thing):
        return str(thing)
    return thing
