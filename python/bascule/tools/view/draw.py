# SPDX-License-Identifier: Apache-2.0
"""Boxes and edges as SVG, and as a page with pan, zoom, search and blocks that needs no network."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bascule.tools.view.blocks import blocks_of, closed_blocks, members, operators
from bascule.tools.view.colours import Colours
from bascule.tools.view.layout import HEIGHT, Box, Route

_FILLS = {"input": "#e8eefc", "output": "#e8eefc", "group": "#f3f0e7", "node": "#ffffff"}

_STYLE = (
    "text{font:11px ui-sans-serif,system-ui,sans-serif;text-anchor:middle;fill:#1c2430}"
    ".t{font-weight:600}.d{fill:#414b59;font-size:9.5px}"
    "rect{stroke:#8793a5;stroke-width:1}.e{fill:none;stroke:#a5afbd;stroke-width:1}"
    ".hit rect{stroke:#d0342c;stroke-width:3}"
)

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""What XML cannot say, not even escaped: the names of a model may hold any character."""


def svg(
    boxes: Sequence[Box],
    routes: Sequence[Route],
    size: tuple[float, float],
    colours: Colours,
    identifier: str = "bascule-graph",
) -> str:
    """The drawing; `identifier` keeps its style to itself."""
    width, height = size
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{identifier}" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" style="background:#fff">',
        f"<style>{_scoped(identifier)}</style><g class='all'>",
    ]
    paths = [_edge(route) for route in routes]
    parts.append(f"<path class='e' d='{''.join(paths)}'/>")
    parts += [_box(box, colours) for box in boxes]
    parts.append("</g></svg>")
    return _NOT_XML.sub("\ufffd", "".join(parts))


def _scoped(identifier: str) -> str:
    rules = [rule for rule in _STYLE.split("}") if rule]
    return "".join(f"#{identifier} {rule}}}" for rule in rules)


def _edge(route: Route) -> str:
    """A curve between boxes; beside the boxes that it passes it runs straight."""
    half = HEIGHT / 2
    (x, y), last = route[0], len(route) - 1
    parts = [f"M{x:.0f} {y + half:.0f}"]
    top = y + half
    for number, (next_x, next_y) in enumerate(route[1:], 1):
        bottom = next_y - half
        bend = min(max((bottom - top) / 2, 12), 60)
        parts.append(
            f"C{x:.0f} {top + bend:.0f} {next_x:.0f} {bottom - bend:.0f} {next_x:.0f} {bottom:.0f}"
        )
        if number < last:
            parts.append(f"V{next_y + half:.0f}")
        x, top = next_x, next_y + half
    return "".join(parts)


def _box(box: Box, colours: Colours) -> str:
    found = colours.of(box)
    fill = found[0] if found is not None else _FILLS[box.kind]
    tip = f"{box.key}\n{box.tip}" + (f"\n{found[1]}" if found is not None else "")
    names = " ".join(box.members)
    radius = 16 if box.kind in ("input", "output") else 5
    dashed = " stroke-dasharray='4 2'" if box.kind == "group" else ""
    return (
        f"<g data-n='{html.escape(f'{box.key} {box.title} {names}'[:2000], True)}'>"
        f"<title>{html.escape(tip)}</title>"
        f"<rect x='{box.x - box.width / 2:.0f}' y='{box.y - HEIGHT / 2:.0f}' "
        f"width='{box.width:.0f}' height='{HEIGHT}' rx='{radius}' fill='{fill}'{dashed}/>"
        f"<text class='t' x='{box.x:.0f}' y='{box.y - 2:.0f}'>{html.escape(box.title)}</text>"
        f"<text class='d' x='{box.x:.0f}' y='{box.y + 11:.0f}'>{html.escape(box.detail)}</text></g>"
    )


def legend(colours: Colours) -> str:
    """What the colours mean, as an HTML fragment; empty where there are none."""
    return "".join(
        "<span style='margin-right:12px;white-space:nowrap'><span style='display:inline-block;"
        f"width:12px;height:12px;border:1px solid #8793a5;background:{colour}'></span> "
        f"{html.escape(text)}</span>"
        for colour, text in colours.legend()
    )


def page(
    title: str,
    summary: str,
    drawing: str,
    colours: Colours,
    boxes: Sequence[Box],
    edges: Sequence[tuple[int, int]],
    most: int | None,
) -> str:
    """A whole page with the drawing: page.html with its style, its script and the blocks put in.

    With `most`, blocks are closed at first so that there are at most so many boxes.
    """
    data = json.dumps(_data(colours, boxes, edges, most), separators=(",", ":"))
    parts = {
        "TITLE": html.escape(title),
        "SUMMARY": html.escape(summary),
        "LEGEND": legend(colours),
        "DRAWING": drawing,
        "STYLE": _text("page.css"),
        "SCRIPT": _text("page.js"),
        # Text of the model must not end the element that it stands in.
        "DATA": data.replace("<", "\\u003c"),
    }
    # In one go: what is put in may hold any text.
    return re.sub(f"@({'|'.join(parts)})@", lambda mark: parts[mark[1]], _text("page.html"))


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8").rstrip("\n")


def _data(
    colours: Colours,
    boxes: Sequence[Box],
    edges: Sequence[tuple[int, int]],
    most: int | None,
) -> dict[str, Any]:
    """What page.js needs to draw blocks in place of their nodes."""
    blocks = blocks_of(boxes)
    inner = [-1] * len(boxes)
    rows: list[list[Any]] = []
    for index, block in enumerate(blocks):
        inner[block.start : block.stop] = [index] * (block.stop - block.start)
        names = members(boxes, block)
        detail = f"{len(names)} nodes"
        tip = f"{block.title}\n{detail}: {operators(boxes, block)}"
        value = colours.value_of(names)
        rows.append([block.parent, block.title, detail, tip, block.title, value, block.start])
    low = colours.low
    return {
        "edges": [end for edge in edges for end in edge],
        "of": inner,
        "values": [colours.value_of(box.members) for box in boxes],
        "numbers": None if low is None else [low],
        "blocks": rows,
        "closed": [] if most is None else closed_blocks(boxes, blocks, most),
    }
