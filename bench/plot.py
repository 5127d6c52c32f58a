# SPDX-License-Identifier: Apache-2.0
"""bench/RESULTS.svg: a bar for each workload's ratio to the best peer."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from report import GROUPS, ratio_of, sections

_LABELS, _BARS, _VALUES = 240, 460, 60
_ROW, _TITLE = 18, 34

# Without a background of its own: the page's shows, light or dark.
_STYLE = """
text { font: 12px sans-serif; fill: #24292f }
.title { font-weight: bold; font-size: 14px }
.faster { fill: #2a78b8 }
.slower { fill: #c4622d }
.one { stroke: #24292f; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .faster { fill: #58a6e0 }
  .slower { fill: #e58a55 }
  .one { stroke: #e6edf3 }
}
"""


def draw(results: dict[str, Any], peers: Sequence[str]) -> str:
    charts = []
    for title, section in sections(results):
        ratios = {
            name: ratio
            for _, names in GROUPS
            for name in names
            if name in section["rows"]
            if (ratio := ratio_of(section["rows"][name], peers)) is not None
        }
        if ratios:
            charts.append((title, ratios))
    largest = max((ratio for _, ratios in charts for ratio in ratios.values()), default=1.0)
    scale = _BARS / max(1.2, largest)
    parts: list[str] = []
    y = 0
    for title, ratios in charts:
        parts.append(_text(4, y + 22, f"{title}: bascule's time / the fastest peer's", "title"))
        y += _TITLE
        one = _LABELS + scale
        bottom = y + _ROW * len(ratios)
        for name, ratio in ratios.items():
            kind = "faster" if ratio <= 1 else "slower"
            parts.append(_text(_LABELS - 6, y + 13, name, anchor="end"))
            parts.append(
                f'<rect class="{kind}" x="{_LABELS}" y="{y + 2}" width="{ratio * scale:.1f}" '
                f'height="{_ROW - 4}"/>'
            )
            after = _LABELS + ratio * scale + 5
            if abs(after - one) < 34:  # clear of the line
                after = max(after, one + 5)
            parts.append(_text(after, y + 13, f"{ratio:.2f}"))
            y += _ROW
        parts.append(
            f'<line class="one" x1="{one:.1f}" y1="{bottom - _ROW * len(ratios)}" '
            f'x2="{one:.1f}" y2="{bottom}"/>'
        )
        y += 12
    width, height = _LABELS + _BARS + _VALUES, max(y, 1)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" '
        "aria-label=\"Ratio of bascule's time to the fastest peer's, by workload\">"
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
