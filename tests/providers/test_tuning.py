# SPDX-License-Identifier: Apache-2.0
"""Choosing how nodes are computed by timing them, with times that the tests make up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

import bascule as ort
from bascule.ir.graph import Graph, Node
from bascule.native import _native
from bascule.providers.cpu import tuning
from bascule.providers.cpu.choice import ALTERNATIVE, THREADS, Choice
from bascule.providers.cpu.tuning import Choices, Tuner
from tests.support.native import compile_graph, node_graph


class Times:
    """Says how long each candidate takes, and counts how often it was asked."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0

    def __call__(self, runs: Sequence[Callable[[], object]]) -> list[float]:
        self.calls += 1
        for run in runs:
            run()
        return list(self.seconds[: len(runs)])


def softmax(static: bool = True) -> Graph:
    x = np.random.default_rng(0).standard_normal((64, 33)).astype(np.float32)
    return node_graph("Softmax", [x], {"axis": -1}, static=static)


def only_node(graph: Graph) -> Node:
    (node,) = graph
    return node


@pytest.mark.parametrize(
    ("seconds", "threads"),
    [((100e-6, 80e-6), 1), ((100e-6, 90e-6), 0), ((100e-6, 120e-6), 0)],
)
def test_the_fastest_is_chosen_if_it_is_worth_it(
    seconds: tuple[float, ...], threads: int, tmp_path: Path
) -> None:
    node = only_node(softmax())
    Tuner(10, Choices(tmp_path / "file"), Times(*seconds)).tune([node], 2)
    assert Choice.of(node) == Choice(threads=threads)


def test_alternatives_of_the_kernel_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_alternatives", lambda node, threads: ["a", "b"])
    node = only_node(softmax())
    Tuner(10, Choices(None), Times(100e-6, 90e-6, 50e-6, 70e-6)).tune([node], 2)
    assert Choice.of(node) == Choice("b")
    assert str(Choice.of(node)) == "b"


def test_what_takes_long_is_not_tried_on_one_thread() -> None:
    node, times = only_node(softmax()), Times(1.0, 0.5)
    Tuner(10, Choices(None), times).tune([node], 2)
    assert Choice.of(node) == Choice() and times.calls == 1


def test_a_session_of_one_thread_has_nothing_to_choose_from() -> None:
    node, times = only_node(softmax()), Times(1.0, 0.5)
    Tuner(10, Choices(None), times).tune([node], 1)
    assert Choice.of(node) == Choice() and times.calls == 0


def test_nodes_of_unknown_size_are_left_alone() -> None:
    node, times = only_node(softmax(static=False)), Times(1.0, 0.5)
    Tuner(10, Choices(None), times).tune([node], 2)
    assert Choice.of(node) == Choice() and times.calls == 0


def test_equal_nodes_are_timed_once() -> None:
    nodes = [only_node(softmax()) for _ in range(3)]
    times = Times(100e-6, 50e-6)
    Tuner(10, Choices(None), times).tune(nodes, 2)
    assert [Choice.of(node) for node in nodes] == [Choice(threads=1)] * 3
    assert times.calls == 2


def test_the_budget_is_kept(tmp_path: Path) -> None:
    sizes = [4, 64, 16]
    graphs = [
        node_graph("Softmax", [np.ones((rows, 33), np.float32)], static=True) for rows in sizes
    ]
    nodes = [only_node(graph) for graph in graphs]
    now = iter([0.0, 1.0, 6.0, 12.0])
    tuner = Tuner(10, Choices(tmp_path / "file"), Times(100e-6, 50e-6), lambda: next(now))
    tuner.tune(nodes, 2)
    # Those with most work come first; what there was no time for is not written down.
    assert [Choice.of(node).threads for node in nodes] == [0, 1, 1]
    again = Tuner(0, Choices(tmp_path / "file"), Times())
    for node in nodes:
        Choice().give(node)
    again.tune(nodes, 2)
    assert [Choice.of(node).threads for node in nodes] == [0, 1, 1]


def test_choices_are_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "file.json"
    first = Choices(path)
    first.add({"x": Choice("direct", 1)})
    Choices(path).add({"y": Choice()})
    read = Choices(path)
    assert read.get("x") == Choice("direct", 1)
    assert read.get("y") == Choice()
    assert read.get("z") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": {"x": ["a"]}}',
        b'{"choices": {"x": [1, 2]}}',
        b'{"choices": {"x": ["a", -1]}}',
        b'{"choices": {"x": ["a", true]}}',
        b'{"choices": {"x": "ab"}}',
        b"[" * 100000,
    ],
)
def test_a_damaged_file_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    choices = Choices(path)
    assert choices.get("x") is None
    choices.add({"x": Choice("b")})
    assert Choices(path).get("x") == Choice("b")


def test_many_writers_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: Choices(path).add({f"key{i}": Choice(f"a{i}")}), range(32)))
    assert len(json.loads(path.read_bytes())["choices"]) >= 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    choices = Choices(tmp_path / "file" / "inside")
    choices.add({"x": Choice("a")})
    assert choices.get("x") == Choice("a")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    choices = Choices(tmp_path / "pipe")  # to read it would wait for a writer
    choices.add({"x": Choice("a")})
    assert (tmp_path / "pipe").is_fifo()


def test_a_stored_alternative_that_the_kernel_does_not_know_is_timed_again(tmp_path: Path) -> None:
    node = only_node(softmax())
    path = tmp_path / "file"
    Choices(path).add({tuning._key(node, 2): Choice("unheard of")})
    Tuner(10, Choices(path), Times(100e-6, 50e-6)).tune([node], 2)
    assert Choice.of(node) == Choice(threads=1)


def test_a_choice_changes_no_bits() -> None:
    x = np.random.default_rng(1).standard_normal((512, 300)).astype(np.float32)
    expected = compile_graph(softmax_of(x, {}), threads=2).run_values([x], [])[0]
    for metadata in ({THREADS: "1"}, {ALTERNATIVE: "unheard of", THREADS: "7"}):
        graph = softmax_of(x, metadata)
        np.testing.assert_array_equal(
            compile_graph(graph, threads=2).run_values([x], [])[0], expected
        )


@pytest.mark.parametrize("threads", ["-1", "x", "", "9" * 50, "²"])
def test_metadata_of_a_model_does_no_harm(threads: str) -> None:
    x = np.ones((4, 33), np.float32)
    graph = softmax_of(x, {THREADS: threads})
    assert compile_graph(graph, threads=2).run_values([x], [])[0].shape == (4, 33)


def softmax_of(x: np.ndarray, metadata: dict[str, str]) -> Graph:
    graph = node_graph("Softmax", [x], {"axis": -1}, static=True)
    only_node(graph).metadata.update(metadata)
    return graph


def model() -> bytes:
    text = (
        '<ir_version: 10, opset_import: ["" : 20]>'
        "g (float[256,300] x) => (float[256,300] y) { y = Softmax(x) }"
    )
    return onnx.parser.parse_model(text).SerializeToString()


def session(entries: dict[str, str]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return ort.InferenceSession(model(), options, providers=["CPUExecutionProvider"])


def test_a_session_is_tuned_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning.Tuner.__init__, "__defaults__", (Times(100e-6, 50e-6), lambda: 0.0))
    file = tmp_path / "file.json"
    tuned = session({"session.autotune_seconds": "5", "session.autotune_file": str(file)})
    assert tuned.explain().rows[0].kernel.endswith(" (1 thread)")
    x = np.random.default_rng(0).standard_normal((256, 300)).astype(np.float32)
    np.testing.assert_array_equal(tuned.run(None, {"x": x})[0], session({}).run(None, {"x": x})[0])
    # What was chosen stays chosen, with no time to measure anything.
    monkeypatch.setattr(tuning.Tuner.__init__, "__defaults__", (Times(), lambda: 0.0))
    again = session({"session.autotune_file": str(file)})
    assert again.explain().rows[0].kernel.endswith(" (1 thread)")
    assert not session({}).explain().rows[0].kernel.endswith(" (1 thread)")


def test_where_choices_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASCULE_CACHE_DIR", str(tmp_path / "user"))
    session({"session.autotune_seconds": "5"})
    session({"session.autotune_seconds": "5", "session.cache_dir": str(tmp_path / "mine")})
    for name in ("user", "mine"):
        assert list((tmp_path / name).glob("autotune-*.json"))


@pytest.mark.parametrize("seconds", ["soon", "-1", "inf", "nan"])
def test_a_budget_that_is_no_number(seconds: str) -> None:
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument, match="autotune"):
        session({"session.autotune_seconds": seconds})


def test_real_times_are_positive() -> None:
    assert all(seconds > 0 for seconds in tuning.measure([lambda: None, lambda: sum(range(10))]))


def convolution(entries: dict[str, str]) -> ort.InferenceSession:
    weights = np.random.default_rng(2).standard_normal((64, 64, 3, 3)).astype(np.float32)
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (float[1,64,28,28] x) => (float[1,64,28,28] y)'
        " { y = Conv<pads = [1, 1, 1, 1]>(x, w) }"
    )
    made = onnx.parser.parse_model(text)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return ort.InferenceSession(made.SerializeToString(), options)


def kernels_of(session: ort.InferenceSession) -> list[str]:
    return [row.kernel for row in session.explain().rows if row.op_type == "Conv"]


def test_forms_of_a_convolution_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = Times(100e-6, 50e-6, 90e-6)
    monkeypatch.setattr(tuning.Tuner.__init__, "__defaults__", (times, lambda: 0.0))
    entries = {"session.autotune_seconds": "5", "session.autotune_file": str(tmp_path / "file")}
    assert kernels_of(convolution(entries)) == ["Conv (direct)"]


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_cuts_of_a_product_are_timed(op: str) -> None:
    a = np.random.default_rng(4).standard_normal((64, 64)).astype(np.float32)
    for threads, expected in ((1, Choice()), (2, Choice("columns"))):
        node = only_node(node_graph(op, [a, a + 1], static=True))
        Tuner(10, Choices(None), Times(100e-6, 90e-6, 50e-6, 70e-6)).tune([node], threads)
        assert Choice.of(node) == expected


def test_winograd_can_be_switched_off() -> None:
    plain, exact = convolution({}), convolution({"session.disable_winograd": "1"})
    assert (kernels_of(plain), kernels_of(exact)) == (["Conv"], ["Conv (direct)"])
    x = np.random.default_rng(3).standard_normal((1, 64, 28, 28)).astype(np.float32)
    (a,), (b,) = plain.run(None, {"x": x}), exact.run(None, {"x": x})
    assert (a != b).any()
    np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("asked", ["0", "1"])
def test_float16_sums_are_for_those_who_ask(asked: str) -> None:
    rng = np.random.default_rng(5)
    b = rng.standard_normal((64, 32)).astype(np.float16)
    model = onnx.helper.make_model(
        onnx.parser.parse_graph("g (float16[8,64] x) => (float16[8,32] y) { y = MatMul(x, b) }"),
        opset_imports=[onnx.helper.make_opsetid("", 21)],
        ir_version=10,
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(b, "b"))
    options = ort.SessionOptions()
    options.add_session_config_entry("session.float16_sums", asked)
    session = ort.InferenceSession(model.SerializeToString(), options)
    x = rng.standard_normal((8, 64)).astype(np.float16)
    (y,) = session.run(None, {"x": x})
    expected = x.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(y, expected, atol=2e-3 * np.abs(expected).max())
    if _native.active_isa() == "avx512_fp16":
        sums = _native.float16_product(x.tobytes(), b.tobytes(), 8, 64, 32)
        assert (y.tobytes() == sums) is (asked == "1")
