# SPDX-License-Identifier: Apache-2.0
"""Drawings of graphs: every node once, nothing overlaps, nothing from elsewhere."""

from __future__ import annotations

import itertools
import json
import re
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import bascule
from bascule.capi.onnxruntime_pybind11_state import InvalidArgument
from bascule.cli import main
from bascule.ir.load import load_model
from bascule.tools.view.boxes import boxes_of, modules
from bascule.tools.view.colours import values_of
from bascule.tools.view.layout import HEIGHT, place
from tests.api.models import linear, model, tensor

_DATA = Path(__file__).parents[1] / "models" / "data"
_SVG = "{http://www.w3.org/2000/svg}"


def large(blocks: int = 10, layers: int = 50) -> onnx.ModelProto:
    """Ten nodes a layer, named by module as the older exporter does."""
    nodes, value = [], "x"
    for number in range(blocks * layers):
        path = f"/block.{number // layers}/layer.{number}"
        for branch in range(3):
            last = value
            for op_type in ("Neg", "Sigmoid", "Relu"):
                name = f"{path}/branch.{branch}/{op_type}"
                nodes.append(helper.make_node(op_type, [last], [name], name=name))
                last = name
        ends = [f"{path}/branch.{branch}/Relu" for branch in range(3)]
        value = f"{path}/Sum"
        nodes.append(helper.make_node("Sum", ends, [value], name=value))
    nodes.append(helper.make_node("Identity", [value], ["y"], name="last"))
    return model(nodes, [tensor("x")], [tensor("y")])


@pytest.mark.parametrize("name", ["resnet", "bert", "llama", "lstm_tagger_torchscript", "swin"])
def test_boxes_do_not_overlap_and_edges_go_down(name: str) -> None:
    boxes, edges = boxes_of(load_model(_DATA / f"{name}.onnx").graph)
    (width, height), routes = place(boxes, edges)
    rows: dict[float, list[tuple[float, float]]] = {}
    for box in boxes:
        rows.setdefault(box.y, []).append((box.x - box.width / 2, box.x + box.width / 2))
        assert box.x - box.width / 2 >= 0 and box.x + box.width / 2 <= width
        assert HEIGHT / 2 <= box.y <= height - HEIGHT / 2
    for spans in rows.values():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    for (a, b), route in zip(edges, routes):
        assert boxes[a].y < boxes[b].y
        assert route[0] == (boxes[a].x, boxes[a].y) and route[-1] == (boxes[b].x, boxes[b].y)
        for x, y in route[1:-1]:  # beside boxes, not behind them
            assert not any(left < x < right for left, right in rows[y])


def test_every_node_of_5000_is_there() -> None:
    proto = large()
    view = bascule.View(proto)
    page = view.html()
    svg = re.search(r"<svg.*</svg>", page, re.DOTALL)
    assert svg is not None
    boxes = ElementTree.fromstring(svg[0]).findall(f".//{_SVG}g[@data-n]")
    drawn = {box.attrib["data-n"].split(" ")[0] for box in boxes}
    assert drawn == {"in:x", "out:y", *(node.name for node in proto.graph.node)}
    grouped = ElementTree.fromstring(view.svg()).findall(f".//{_SVG}g[@data-n]")
    texts = ["".join(box.itertext()) for box in grouped]
    assert len(texts) == 13 and sum("500 nodes" in text for text in texts) == 10


def test_modules_as_deep_as_they_fit() -> None:
    graph = load_model(large(2, 3)).graph
    assert len(modules(graph, 5)[0]) == 5
    assert len(modules(graph, 12)[0]) == 9
    assert len(modules(graph, 1)[0]) == 5


def test_a_page_needs_nothing_from_elsewhere() -> None:
    page = bascule.View(linear(), {"product": 1.0, "sum": 3.5}).html()
    assert "default-src 'none'" in page and ">3.5<" in page.replace("</span> ", "</span>>")
    addresses = re.findall(r"https?://[^\"' ]+", page)
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}
    assert "<link" not in page and " src=" not in page and "@import" not in page


def test_names_are_no_markup() -> None:
    proto = linear()
    proto.graph.node[0].name = "<script>alert('1')</script>"
    proto.graph.name = "</title><script>"
    page = bascule.View(proto).html()
    assert "<script>alert" not in page and "</title><script>" not in page


def test_names_of_characters_that_xml_has_not() -> None:
    proto = linear()
    proto.graph.node[0].name = "".join(map(chr, (*range(1, 33), 0xFFFE, 0xFFFF)))
    ElementTree.fromstring(bascule.View(proto).svg())


def test_colours() -> None:
    new = linear()
    new.graph.node[2].op_type = "Abs"
    by_diff = bascule.View(new, bascule.diff(linear(), new))
    assert "#ffd479" in by_diff.svg() and "changed" in by_diff._repr_html_()
    path = _DATA / "resnet.onnx"
    explained = bascule.load(path).view(bascule.InferenceSession(path).explain())
    assert "CPUExecutionProvider" in explained._repr_html_()
    numbers = bascule.View(linear(), {"sum": float("nan"), "relu": 2, "product": 0})
    assert "#fffaf0" in numbers.svg() and "#f06450" in numbers.svg()
    with pytest.raises(InvalidArgument, match="colour is int; expected a mapping"):
        bascule.View(linear(), 3)


def test_what_runs_fused_colours_the_nodes_of_the_model() -> None:
    path = _DATA / "resnet.onnx"
    model = load_model(path)
    names = {node.name for node in model.graph if not node.is_op("Constant")}
    session = bascule.InferenceSession(path)
    assert set(values_of(session.explain())) >= names
    profiled = bascule.profile(session, runs=2)
    found = values_of(profiled)
    total = sum(float(value) for name, value in found.items() if name in names)
    assert total == pytest.approx(sum(node.seconds for node in profiled.nodes), rel=1e-6)
    compared = bascule.compare((path, "cpu:disabled"), "cpu", outputs=False)
    assert set(values_of(compared)) <= names and compared.values
    assert bascule.View(path, compared).html()


def test_notebooks() -> None:
    view = bascule.load(linear().SerializeToString()).view()
    ElementTree.fromstring(view._repr_svg_())
    assert "<svg" in view._repr_html_()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.onnx", tmp_path / "new.onnx"
    onnx.save(linear(), old)
    changed = linear()
    changed.graph.initializer[1].float_data[0] += np.float32(1)
    onnx.save(changed, new)
    assert main(["view", str(new)]) == 0
    assert "new.html is written." in capsys.readouterr().out
    output = tmp_path / "out.svg"
    assert main(["view", str(new), "-o", str(output), "--diff", str(old), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"written": str(output)}
    assert "#a9c7f5" in output.read_text()
    (tmp_path / "c.json").write_text('{"relu": 3}')
    colour = ["--colour", str(tmp_path / "c.json")]
    assert main(["view", str(new), *colour, "--group"]) == 0
    assert main(["view", str(new), *colour, "--diff", str(old)]) == 2
    assert main(["view", str(new), "-o", str(tmp_path / "x.png")]) == 1
    assert "a view is saved as .html or .svg" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["time", "provider", "error"])
def test_the_command_asks_other_tools(by: str, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    assert main(["view", str(_DATA / "resnet.onnx"), "--by", by, "-o", str(output)]) == 0
    values = [value for value in data_of(output.read_text())["values"] if value is not None]
    assert len(values) > 10
    assert all(isinstance(value, list) == (by == "provider") for value in values)
    assert main(["view", "m.onnx", "--by", by, "--diff", "old.onnx"]) == 2


def test_netron_is_optional(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "netron", None)
    assert main(["view", "model.onnx", "--netron"]) == 1
    assert 'pip install "bascule[netron]"' in capsys.readouterr().err


def test_netron_is_given_the_model_and_what_tools_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[tuple[str, bytearray | None, bool]] = []
    stub = types.ModuleType("netron")
    stub.serve = lambda file, data, browse: served.append((file, data, browse))  # type: ignore[attr-defined]
    stub.wait = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "netron", stub)
    old, new = str(tmp_path / "old.onnx"), str(tmp_path / "new.onnx")
    onnx.save(linear(), old)
    changed = linear()
    changed.graph.node[2].op_type = "Abs"
    onnx.save(changed, new)
    assert main(["view", new, "--netron"]) == 0
    assert main(["view", new, "--netron", "--diff", old]) == 0
    (tmp_path / "c.json").write_text('{"product": 0.25, "nowhere": 1}')
    assert main(["view", new, "--netron", "--colour", str(tmp_path / "c.json")]) == 0
    assert [file for file, _, _ in served] == [new] * 3 and all(browse for _, _, browse in served)
    assert served[0][1] is None
    found = []
    for _, data, _ in served[1:]:
        nodes = onnx.load_from_string(bytes(data or b"")).graph.node
        found.append({n.name: p.value for n in nodes for p in n.metadata_props})
    assert found == [{changed.graph.node[2].name: "changed"}, {"product": "0.25"}]


# --- blocks


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def visible(data: dict[str, Any], closed: set[int]) -> list[int]:
    """The box that is drawn for each box: the outermost closed block, or its own."""
    drawn = []
    for index, block in enumerate(data["of"]):
        shown = index
        while block >= 0:
            if block in closed:
                shown = len(data["of"]) + block
            block = data["blocks"][block][0]
        drawn.append(shown)
    return drawn


@pytest.mark.parametrize("name", ["resnet", "bert", "llama", "swin"])
def test_edges_go_forwards_whatever_blocks_are_closed(name: str) -> None:
    data = data_of(bascule.View(_DATA / f"{name}.onnx").html())
    assert data["blocks"] and data["closed"] == []
    random = np.random.default_rng(0)
    for share in (1.0, 0.5, 0.2):
        closed = set(np.flatnonzero(random.random(len(data["blocks"])) < share).tolist())
        drawn = visible(data, closed)
        order = {shown: place for place, shown in enumerate(dict.fromkeys(drawn))}
        ends = [order[drawn[end]] for end in data["edges"]]
        assert all(a <= b for a, b in zip(ends[::2], ends[1::2]))


def test_modules_are_blocks() -> None:
    data = data_of(bascule.View(large(2, 3)).html())
    titles = [block[1] for block in data["blocks"]]
    assert titles[:3] == ["block.0", "layer.0", "branch.0"]
    assert sum(title.startswith("layer") for title in titles) == 6
    assert [block[2] for block in data["blocks"][:3]] == ["30 nodes", "10 nodes", "3 nodes"]
    assert len(set(visible(data, set(range(len(titles)))))) == 5


def test_what_is_repeated_is_a_block_where_names_tell_of_no_modules() -> None:
    proto = large(1, 4)
    for node in proto.graph.node:
        node.name = node.name.replace("/", ".")
    data = data_of(bascule.View(proto, {"last": 1.0}).html())
    outer = [block for block in data["blocks"] if block[0] == -1]
    assert [(block[1], block[2]) for block in outer] == [
        (f"block {i} of 4", "10 nodes") for i in (1, 2, 3, 4)
    ]
    assert sum(block[2] == "3 nodes" for block in data["blocks"]) == 12
    chain = [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"], name=f"n{i}") for i in range(9)]
    proto = model(chain, [tensor("v0")], [tensor("v9")])
    assert data_of(bascule.View(proto).html())["blocks"] == []


def test_modules_are_closed_at_first_where_that_is_asked_for() -> None:
    data = data_of(bascule.View(large(), group=True).html())
    assert len(set(visible(data, set(data["closed"])))) == 13
    data = data_of(bascule.View(large(2, 3), {"last": 2.5}, group=True).html())
    assert len(set(visible(data, set(data["closed"])))) == 63 - 2 * 18
    assert data["numbers"] == [2.5] and data["values"].count(2.5) == 1
