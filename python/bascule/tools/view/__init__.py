# SPDX-License-Identifier: Apache-2.0
"""The graph of a model as a drawing: in notebooks, as a page, or in netron."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from bascule.ir.load import Source
    from bascule.tools.view.layout import Box

_MOST_IN_NOTEBOOK = 400
"""Boxes above which modules are drawn instead of their nodes."""

_MOST_MODULES = 80
"""Boxes that are drawn at most where modules are asked for."""


class View:
    """The graph of a model. Notebooks show it; `save` writes a page or an image.

    Args:
        source: the path of an .onnx file, its bytes, a file object or an onnx.ModelProto.
        colour: numbers or words by node name; or what another tool found: a ModelDiff, an
            Explanation (the provider), a Profile (seconds, those of a fused node shared out among
            the nodes that it stands for), a Comparison (errors as a part of their bounds), or a
            result with rows that have a name and an error, a time or a provider.
        group: draw modules in place of their nodes: True, False, or None for only where there are
            more than 400 nodes, and not in pages.

    Raises:
        InvalidArgument: `colour` is nothing that colours nodes.
        NoSuchFile, InvalidProtobuf, InvalidGraph, Fail: the model cannot be read.
    """

    def __init__(self, source: Source, colour: Any = None, *, group: bool | None = None) -> None:
        # Imported here: models are parsed with onnx, which takes long to import.
        from bascule.ir.load import load_model
        from bascule.tools.view.colours import Colours, values_of

        self._colours = Colours(values_of(colour))
        self._group = group
        self._model = load_model(source)
        self._title = os.path.basename(self._model.path or "") or self._model.graph.name

    def svg(self) -> str:
        """The drawing as SVG."""
        return self._draw(self._group is not False)

    def html(self) -> str:
        """A page with pan, zoom and search; it needs nothing from elsewhere.

        A click opens and closes blocks: modules, or what is repeated where names tell of none.
        """
        from bascule.tools.view.boxes import boxes_of
        from bascule.tools.view.draw import page

        boxes, edges = boxes_of(self._model.graph)
        drawing = self._drawn(boxes, edges)
        summary = f"{sum(box.kind == 'node' for box in boxes)} nodes"
        most = _MOST_MODULES if self._group else None
        return page(self._title, summary, drawing, self._colours, boxes, edges, most)

    def _draw(self, grouped: bool) -> str:
        from bascule.tools.view.boxes import boxes_of, modules

        graph = self._model.graph
        if self._group:
            boxes, edges = modules(graph, _MOST_MODULES)
        elif grouped and len(graph) > _MOST_IN_NOTEBOOK:
            boxes, edges = modules(graph, _MOST_IN_NOTEBOOK)
        else:
            boxes, edges = boxes_of(graph)
        return self._drawn(boxes, edges)

    def _drawn(self, boxes: list[Box], edges: list[tuple[int, int]]) -> str:
        from bascule.tools.view.draw import svg
        from bascule.tools.view.layout import place

        self._colours.describe(boxes)
        size, routes = place(boxes, edges)
        return svg(boxes, routes, size, self._colours)

    def save(self, path: Union[str, os.PathLike[str]]) -> None:
        """Write a page (.html) or an image (.svg).

        Raises:
            ValueError: the name ends in something else.
        """
        target = Path(path)
        if target.suffix not in (".html", ".svg"):
            raise ValueError(f"{target.name}: a view is saved as .html or .svg")
        text = self.html() if target.suffix == ".html" else self.svg()
        target.write_text(text, encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_html_(self) -> str:
        from bascule.tools.view.draw import legend

        return (
            f"<div>{legend(self._colours)}</div>"
            f'<div style="max-height:640px;overflow:auto">{self.svg()}</div>'
        )


def serve_in_netron(path: str, colour: Any = None) -> None:
    """Open a model in the browser by netron, until interrupted.

    With `colour`, as View takes it, every node that it tells of has its number or word among its
    metadata, under ``bascule``; the file stays as it is.

    Raises:
        ImportError: netron is not installed; the message has the command that installs it.
        InvalidArgument: `colour` is nothing that colours nodes.
    """
    try:
        # Imported here: an optional package.
        import netron
    except ImportError:
        raise ImportError('this needs netron: pip install "bascule[netron]"') from None
    from bascule.tools.view.colours import values_of

    values = values_of(colour)
    netron.serve(path, _annotated(path, values) if values else None, browse=True)
    netron.wait()


def _annotated(path: str, values: Mapping[str, Any]) -> bytearray:
    """The file of a model whose nodes have the values among their metadata."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        value = values.get(node.name)
        if value is not None:
            text = value if isinstance(value, str) else f"{value:.6g}"
            node.metadata_props.add(key="bascule", value=text)
    return bytearray(model.SerializeToString())
