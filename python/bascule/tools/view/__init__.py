# SPDX-License-Identifier: Apache-2.0
"""The graph of a model as a drawing: in notebooks, as a page, or in netron."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from bascule.ir.load import Source

_MOST_IN_NOTEBOOK = 400
"""Boxes above which modules are drawn instead of their nodes."""

_MOST_MODULES = 80
"""Boxes that are drawn at most where modules are asked for."""


class View:
    """The graph of a model. Notebooks show it; `save` writes a page or an image.

    Args:
        source: the path of an .onnx file, its bytes, a file object or an onnx.ModelProto.
        colour: numbers or words by node name; or what another tool found: a ModelDiff, an
            Explanation, or a result with rows that have a name and an error, a time or a provider.
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
        """A page with pan, zoom and search; it needs nothing from elsewhere."""
        from bascule.tools.view.boxes import operators_of
        from bascule.tools.view.draw import page

        operators = operators_of(self._model.graph)
        drawing = self._draw(bool(self._group))
        summary = f"{sum(operators.values())} nodes"
        return page(self._title, summary, drawing, self._colours)

    def _draw(self, grouped: bool) -> str:
        from bascule.tools.view.boxes import boxes_of, modules
        from bascule.tools.view.draw import svg
        from bascule.tools.view.layout import place

        graph = self._model.graph
        if self._group:
            boxes, edges = modules(graph, _MOST_MODULES)
        elif grouped and len(graph) > _MOST_IN_NOTEBOOK:
            boxes, edges = modules(graph, _MOST_IN_NOTEBOOK)
        else:
            boxes, edges = boxes_of(graph)
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


def serve_in_netron(path: str) -> None:
    """Open a model in the browser by netron, until interrupted.

    Raises:
        ImportError: netron is not installed; the message has the command that installs it.
    """
    try:
        # Imported here: an optional package.
        import netron
    except ImportError:
        raise ImportError('this needs netron: pip install "bascule[netron]"') from None
    netron.start(path)
    netron.wait()
