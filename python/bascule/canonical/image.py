# SPDX-License-Identifier: Apache-2.0
"""Sampling from images: GridSample and RoiAlign."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.graph import Node

_GRID_SAMPLE_MODES = {"bilinear": "linear", "bicubic": "cubic"}


@rewrite("GridSample", until=16)
def grid_sample(node: Node, build: Builder) -> None:
    """The modes were named for two dimensions."""
    mode = node.attributes.get("mode")
    if mode in _GRID_SAMPLE_MODES:
        node.attributes["mode"] = _GRID_SAMPLE_MODES[mode]


@rewrite("RoiAlign", until=10)
def roi_align(node: Node, build: Builder) -> None:
    """Coordinates had no offset of half a pixel."""
    node.attributes["coordinate_transformation_mode"] = "output_half_pixel"
