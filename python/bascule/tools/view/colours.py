# SPDX-License-Identifier: Apache-2.0
"""The colours of nodes, from a mapping or from what another tool found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union

from bascule.errors import InvalidArgument
from bascule.tools.view.layout import Box

Shade = Union[str, float]

_KNOWN = {
    "added": "#9fdcae",
    "changed": "#ffd479",
    "weights": "#a9c7f5",
    "removed": "#f2a9a0",
    "CPUExecutionProvider": "#a9c7f5",
    "CUDAExecutionProvider": "#9fdcae",
}
_OTHERS = ("#d9b8f0", "#f7c6d9", "#b6e3e6", "#e3d6a8", "#c9c9c9", "#f5b98a")


class Colours:
    """A colour for each box, and a legend."""

    def __init__(self, values: Mapping[str, Shade]) -> None:
        self._values = values
        numbers = [v for v in values.values() if isinstance(v, (int, float)) and math.isfinite(v)]
        self._low, self._high = min(numbers, default=0.0), max(numbers, default=0.0)
        words = dict.fromkeys(str(v) for v in values.values() if isinstance(v, str))
        others = iter(_OTHERS * (len(words) // len(_OTHERS) + 1))
        self._words = {word: _KNOWN.get(word) or next(others) for word in words}

    def describe(self, boxes: Sequence[Box]) -> None:
        """Write what colours a group into its box, and fit the scale to the sums."""
        groups = [box for box in boxes if box.kind == "group"]
        totals = [total for box in groups if (total := self._number(box)) is not None]
        finite = [total for total in totals if math.isfinite(total)]
        self._high = max([self._high, *finite]) if finite else self._high
        for box in groups:
            found = self.of(box)
            if found is not None:
                box.detail += f" · {found[1]}"

    def of(self, box: Box) -> tuple[str, str] | None:
        """(colour, text) of a box: of a group the sum of its numbers, or its commonest word."""
        words = [v for name in box.members if isinstance(v := self._values.get(name), str)]
        if words:
            word = max(dict.fromkeys(words), key=words.count)
            return self._words[word], word
        number = self._number(box)
        return None if number is None else (self._shade(number), f"{number:.4g}")

    @property
    def low(self) -> float | None:
        """The number that is palest; None if there are no numbers."""
        has_numbers = any(not isinstance(value, str) for value in self._values.values())
        return self._low if has_numbers else None

    def value_of(self, names: Sequence[str]) -> float | list[str] | None:
        """The number that colours these nodes together, or [colour, text] where none does."""
        found = self.of(Box("", "", members=list(names)))
        number = self._number(Box("", "", members=list(names)))
        if found is None or number is None or not math.isfinite(number):
            return None if found is None else list(found)
        return (
            number if all(not isinstance(self._values.get(n), str) for n in names) else list(found)
        )

    def _number(self, box: Box) -> float | None:
        found = [self._values[name] for name in box.members if name in self._values]
        numbers = [float(value) for value in found if not isinstance(value, str)]
        return sum(numbers) if numbers else None

    def _shade(self, number: float) -> str:
        """From nearly white to red; red too for what is not finite."""
        if not math.isfinite(number):
            share = 1.0
        else:
            span = self._high - self._low
            share = min(max((number - self._low) / span if span else 1.0, 0.0), 1.0)
        channels = (255 - 15 * share, 250 - 150 * share, 240 - 160 * share)
        return "#" + "".join(f"{round(c):02x}" for c in channels)

    def legend(self) -> list[tuple[str, str]]:
        """(colour, text) of each entry."""
        entries = [(colour, word) for word, colour in self._words.items()]
        if self._high > self._low or (self._high and not entries):
            entries += [(self._shade(v), f"{v:.4g}") for v in (self._low, self._high)]
        return entries


def _shades(row: Any) -> Iterator[tuple[str, Shade, bool]]:
    """Nodes, what a row of another tool's result says of them, and whether it is a time.

    What is told of a node after fusions is told of those of the model that it stands for: a time is
    shared out among them. A compared value tells of its error as a part of the bound.
    """
    judged = getattr(row, "judged", None)
    if judged is not None:
        yield from ((name, float(judged.ratio), False) for name in row.sources)
        return
    name = getattr(row, "name", getattr(row, "node", None))
    for field in ("error", "seconds", "time", "duration", "provider"):
        value = getattr(row, field, None)
        if isinstance(name, str) and isinstance(value, (int, float, str)):
            nodes = list(getattr(row, "replaced", None) or [name])
            is_time = field in ("seconds", "time", "duration")
            told = value / len(nodes) if is_time and not isinstance(value, str) else value
            yield from ((node, told, is_time) for node in nodes)
            if name not in nodes:  # should the model be drawn as it runs
                yield name, value, is_time
            return


def values_of(colour: Any) -> dict[str, Shade]:
    """Node names and what colours them.

    Raises:
        InvalidArgument: it is nothing that colours nodes.
    """
    if colour is None:
        return {}
    if isinstance(colour, Mapping):
        return dict(colour)
    if hasattr(colour, "node_states"):  # a ModelDiff
        return dict(colour.node_states())
    lists = (getattr(colour, name, None) for name in ("rows", "nodes", "values"))
    rows = next((each for each in lists if isinstance(each, (list, tuple))), ())
    found: dict[str, Shade] = {}
    for row in rows:
        for name, shade, is_time in _shades(row):
            known = found.get(name)
            if known is None or isinstance(known, str) or isinstance(shade, str):
                found[name] = shade
            else:
                found[name] = known + shade if is_time else max(known, shade)
    if not found:
        raise InvalidArgument(
            f"colour is {type(colour).__name__}; expected a mapping of node names to numbers or "
            "words, a ModelDiff, an Explanation, a Profile, a Comparison, or a result with rows "
            "that have a name and an error, a time or a provider"
        )
    return found
