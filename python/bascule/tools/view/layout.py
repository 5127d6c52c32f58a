# SPDX-License-Identifier: Apache-2.0
"""A layered layout: data flows down, boxes of one layer stand side by side, edges are short."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

HEIGHT = 34
_GAP_X, _GAP_Y = 18, 30
_CHARACTER = 6.6
_SWEEPS = 6
_MOST_BENDS = 20_000


@dataclass(slots=True, eq=False)
class Box:
    """A node, a group of nodes, an input or an output, and where it stands (its middle)."""

    key: str
    title: str
    detail: str = ""
    kind: str = "node"
    tip: str = ""
    members: list[str] = field(default_factory=list)
    """The names of the nodes that it stands for."""
    scope: tuple[str, ...] = ()
    """The path of the module that made a node."""
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        if self.kind == "bend":
            return 2.0
        return max(44.0, _CHARACTER * max(1.12 * len(self.title), len(self.detail)) + 16)


Route = list[tuple[float, float]]
"""Points that an edge goes through."""


def place(
    boxes: Sequence[Box], edges: Sequence[tuple[int, int]]
) -> tuple[tuple[float, float], list[Route]]:
    """Give every box its place; returns width and height of it all, and a route for each edge.

    `edges` go from boxes to later ones. A box stands one layer below the last that it reads, or,
    where nothing is above it, one above the first that reads it. An edge over several layers has a
    place of its own in each that it crosses, so that it runs beside boxes, not behind them.
    """
    layer = _layers(boxes, edges)
    every = list(boxes)
    routes: list[list[int]] = []
    spare = _MOST_BENDS
    for source, target in edges:
        crossed = range(layer[source] + 1, layer[target])
        spare -= len(crossed)
        bends = []
        for number in crossed if spare > 0 else ():
            bends.append(len(every))
            every.append(Box("", "", kind="bend"))
            layer.append(number)
        routes.append([source, *bends, target])
    steps = [pair for route in routes for pair in itertools.pairwise(route)]
    count = max(layer, default=-1) + 1
    _order(every, layer, steps, count)
    left = min((b.x - b.width / 2 for b in every), default=0.0)
    for index, box in enumerate(every):
        box.x += _GAP_X - left
        box.y = _GAP_Y + HEIGHT / 2 + layer[index] * (HEIGHT + _GAP_Y)
    width = max((b.x + b.width / 2 for b in every), default=0.0) + _GAP_X
    size = width, count * (HEIGHT + _GAP_Y) + _GAP_Y
    return size, [[(every[i].x, every[i].y) for i in route] for route in routes]


def _layers(boxes: Sequence[Box], edges: Sequence[tuple[int, int]]) -> list[int]:
    above: list[list[int]] = [[] for _ in boxes]
    below: list[list[int]] = [[] for _ in boxes]
    for source, target in edges:
        above[target].append(source)
        below[source].append(target)
    layer = [0] * len(boxes)
    for index in range(len(boxes)):
        layer[index] = max((layer[i] + 1 for i in above[index]), default=0)
    for index in reversed(range(len(boxes))):
        if not above[index] and below[index]:
            layer[index] = min(layer[i] for i in below[index]) - 1
    return layer


def _order(
    boxes: Sequence[Box], layer: Sequence[int], edges: Sequence[tuple[int, int]], count: int
) -> None:
    """Give the boxes of each layer an order and places across, near those that they join."""
    above: list[list[int]] = [[] for _ in boxes]
    below: list[list[int]] = [[] for _ in boxes]
    for source, target in edges:
        above[target].append(source)
        below[source].append(target)
    layers: list[list[int]] = [[] for _ in range(count)]
    for index, number in enumerate(layer):
        layers[number].append(index)
    for row in layers:
        _spread(boxes, row, [0.0] * len(row))
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        near = above if downwards else below
        for row in layers if downwards else reversed(layers):
            wanted = [_mean([boxes[i].x for i in near[index]], boxes[index].x) for index in row]
            order = sorted(range(len(row)), key=lambda i: wanted[i])
            row[:] = [row[i] for i in order]
            _spread(boxes, row, [wanted[i] for i in order])


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _spread(boxes: Sequence[Box], row: Sequence[int], wanted: Sequence[float]) -> None:
    """Put the boxes of a row near where they are wanted, in order, without overlap."""
    clusters: list[tuple[float, float, list[int]]] = []  # (left edge, width, boxes)
    for index, middle in zip(row, wanted):
        width = boxes[index].width + _GAP_X
        cluster = (middle - width / 2, width, [index])
        while clusters and clusters[-1][0] + clusters[-1][1] > cluster[0]:
            left, size, items = clusters.pop()
            # Two that overlap become one, whose middle is where their boxes want it on average.
            total = size + cluster[1]
            share = len(items) / (len(items) + len(cluster[2]))
            start = left * share + (cluster[0] - size) * (1 - share)
            cluster = (start, total, items + cluster[2])
        clusters.append(cluster)
    for left, _, items in clusters:
        for index in items:
            boxes[index].x = left + (boxes[index].width + _GAP_X) / 2
            left += boxes[index].width + _GAP_X
