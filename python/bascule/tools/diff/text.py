# SPDX-License-Identifier: Apache-2.0
"""A ModelDiff as text, in lines like those of other diffs."""

from __future__ import annotations

from collections.abc import Iterator

from bascule.tools.diff.result import ModelDiff, NodeChange, OutputChange, Statistics, WeightChange

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_MOST = 60
"""Characters of a value that are shown."""


def as_text(diff: ModelDiff) -> str:
    """The whole report."""
    return "\n".join(lines(diff))


def lines(diff: ModelDiff, with_statistics: bool = True) -> Iterator[str]:
    """Its lines: what is the same in one line, then what differs.

    Without statistics, weights and outputs are left out: tables show them.
    """
    yield summary(diff)
    for change in diff.model:
        name = " ".join(part for part in (change.where, change.name) if part)
        if change.old is None or change.new is None:
            sign = "+" if change.old is None else "-"
            yield f"{sign} {name}: {_clip(change.new if change.old is None else change.old)}"
        else:
            yield f"~ {name}: {_clip(change.old)} → {_clip(change.new)}"
    for node in diff.nodes:
        yield from _node(node)
    if not with_statistics:
        return
    for weight in diff.weights:
        yield from _weight(weight)
    for output in diff.outputs or ():
        yield from _output(output)


def summary(diff: ModelDiff) -> str:
    """One line on how much is the same."""
    counts = [f"{diff.matched} nodes in both"]
    if diff.renamed:
        counts.append(f"{diff.renamed} of them renamed")
    counts.append(f"{diff.equal_weights} tensors equal")
    return f"{'same' if diff.same else 'different'}: {', '.join(counts)}"


def _node(change: NodeChange) -> Iterator[str]:
    sign = _SIGNS[change.kind]
    if change.kind == "changed":
        title = change.inside + (change.new or "")
        if change.old != change.new:
            title += f" (was {change.old})"
        operators = change.old_operator or ""
        if change.old_operator != change.new_operator:
            operators += f" → {change.new_operator}"
        yield f"{sign} {operators} {title}"
    else:
        name, operator = (
            (change.new, change.new_operator)
            if change.kind == "added"
            else (change.old, change.old_operator)
        )
        yield f"{sign} {operator} {change.inside}{name}"
    for name, old, new in change.attributes:
        yield f"    {name}: {_arrow(old, new)}"
    for position, old, new in change.inputs:
        yield f"    input {position}: {_arrow(old, new)}"
    if change.source:
        yield f"    from {change.source}"


def _weight(change: WeightChange) -> Iterator[str]:
    name = change.new if change.old == change.new else f"{change.new} (was {change.old})"
    types = change.new_type
    if change.old_type != change.new_type:
        types = f"{change.old_type} → {change.new_type}"
    yield f"~ weight {name} {types}, read by {change.node}"
    if change.statistics is not None:
        yield from _statistics(change.statistics)


def _output(change: OutputChange) -> Iterator[str]:
    name = change.new if change.old == change.new else f"{change.new} (was {change.old})"
    if change.same:
        yield f"= run: output {name} {change.new_type} is the same"
        return
    types = change.new_type
    if change.old_type != change.new_type:
        types = f"{change.old_type} → {change.new_type}"
    yield f"~ run: output {name} {types}"
    if change.statistics is not None:
        yield from _statistics(change.statistics)


def _statistics(found: Statistics) -> Iterator[str]:
    share = found.changed / max(found.elements, 1)
    yield (
        f"    {found.changed:,} of {found.elements:,} elements changed ({share:.2%}): "
        f"max {found.max:.3g}, mean {found.mean:.3g}, relative {found.relative:.3g}"
    )
    yield (
        f"    mean {found.old_mean:.4g} → {found.new_mean:.4g}, "
        f"std {found.old_std:.4g} → {found.new_std:.4g}, histogram shift {found.shift:.2%}"
    )
    if found.nonfinite:
        yield f"    {found.nonfinite:,} elements are NaN or infinite in only one of both"


def _arrow(old: str | None, new: str | None) -> str:
    if old is None or new is None:
        return _clip(new if old is None else old)
    return f"{_clip(old)} → {_clip(new)}"


def _clip(text: str | None) -> str:
    text = "(nothing)" if text is None else text.replace("\n", " ")
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"
