# SPDX-License-Identifier: Apache-2.0
"""Control flow, sequences and optionals, with nested graphs that capture values."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import onnx.parser
import pytest

import bascule
from bascule.canonical import canonicalize
from bascule.errors import Fail, InvalidArgument
from bascule.ir.infer import infer_types
from bascule.ir.text import parse_graph
from bascule.native import _native
from tests.support.native import compile_graph, run_node


def run(text: str, *feeds: Any, runs: int = 2) -> list[Any]:
    """The outputs of a model in text form; the second run follows the memory plan."""
    model = parse_graph(text)
    canonicalize(model)
    infer_types(model)
    runner = compile_graph(model.graph)
    for _ in range(runs):
        results: list[Any] = runner.run_values(list(feeds), [])
    return results


IF = """
g (bool c, float[N] x) => (float[N] y, float[N] z)
{
   two = Constant<value_float = 2.0>()
   a = Mul(x, two)
   b = Add(a, two)
   y, n = If(c)<
     then_branch = t () => (float[N] p, float[N] q) { p = Identity(a) q = Sub(b, two) },
     else_branch = e () => (float[N] r, float[N] s) { r = Neg(x) s = Identity(b) }>
   w = Neg(a)
   z = Sub(n, w)
}
"""


def test_if_gives_what_its_branch_captures() -> None:
    x = np.arange(5, dtype=np.float32)
    y, z = run(IF, np.array(True), x)
    assert (y == 2 * x).all()
    assert (z == 4 * x).all()
    y, z = run(IF, np.array(False), x)
    assert (y == -x).all()
    assert (z == 4 * x + 2).all()


LOOP = """
g (int64 m, bool c, float[2] x) => (float[2] last, float[K,2] all)
{
   step = Constant<value_floats = [1.0, 2.0]>()
   bias = Add(x, step)
   last, all = Loop(m, c, x)<
     body = b (int64 i, bool go, float[2] s) => (bool next, float[2] t, float[2] u) {
       t = Add(s, bias)
       u = Neg(t)
       limit = Constant<value_float = 40.0>()
       zero = Constant<value_int = 0>()
       first = Gather(t, zero)
       next = Less(first, limit)
     }>
}
"""


def loop_of(x: np.ndarray, trips: int) -> tuple[np.ndarray, np.ndarray]:
    state, rows = x, []
    bias = x + np.array([1, 2], np.float32)
    for _ in range(trips):
        state = state + bias
        rows.append(-state)
        if state[0] >= 40:
            break
    return state, np.array(rows, np.float32).reshape(-1, 2)


@pytest.mark.parametrize("trips", [0, 1, 3, 2**62])
def test_loop(trips: int) -> None:
    x = np.array([1, 3], np.float32)
    last, rows = run(LOOP, np.array(trips), np.array(True), x)
    expected = loop_of(x, min(trips, 100))
    assert (last == expected[0]).all()
    assert rows.shape == expected[1].shape
    assert (rows == expected[1]).all()


def test_sizes_of_a_loop_that_never_starts_and_hands_on_what_is_known_less_of() -> None:
    """The optimizer lets the body give Exp's result, of which no size is known."""
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21]>
        g (int64 n, bool go, float[A,B] x) => (float[T,2,3] z) <int64[2] ones = {1, 1}> {
        z = Loop(n, go) <body = b (int64 i, bool on) => (bool again, float[2,3] o) {
            again = Identity(on) s = Exp(x) o = Tile(s, ones) }> }""")
    session = bascule.InferenceSession(model.SerializeToString())
    x = np.ones((2, 3), np.float32)
    for trips in (0, 2, 0):
        (z,) = session.run(None, {"n": np.array(trips), "go": np.array(True), "x": x})
        assert z.shape == (trips, 2, 3)


def test_sizes_of_a_scan_of_nothing_that_hands_on_what_is_known_less_of() -> None:
    """As in the loop above: the node knows more sizes of its output than the body does."""
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21]>
        g (float[L] s, float[A,B] x) => (float[2,L,3] z) <int64[2] ones = {1, 1}> {
        z = Scan<num_scan_inputs = 1, scan_output_axes = [1], body = b (float r) => (float[2,3] o) {
            e = Exp(x) o = Tile(e, ones) }>(s) }""")
    session = bascule.InferenceSession(model.SerializeToString())
    x = np.ones((2, 3), np.float32)
    for length in (0, 2, 0):
        (z,) = session.run(None, {"s": np.zeros(length, np.float32), "x": x})
        assert z.shape == (2, length, 3)


def test_a_loop_whose_last_inputs_are_left_out() -> None:
    identity = onnx.helper.make_node("Identity", ["on"], ["again"])
    copy = onnx.helper.make_node("Identity", ["x"], ["row"])
    flags = [onnx.helper.make_tensor_value_info(name, 9, []) for name in ("on", "again")]
    count, x, row = (
        onnx.helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (("i", 7, []), ("x", 1, [2]), ("row", 1, [2]))
    )
    body = onnx.helper.make_graph([identity, copy], "b", [count, flags[0]], [flags[1], row])
    loop = onnx.helper.make_node("Loop", ["n", ""], ["rows"], body=body)
    n, rows = (
        onnx.helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (("n", 7, []), ("rows", 1, [None, 2]))
    )
    graph = onnx.helper.make_graph([loop], "g", [n, x], [rows])
    imports = [onnx.helper.make_opsetid("", 21)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    session = bascule.InferenceSession(model.SerializeToString())
    given = np.float32([1, 2])
    (found,) = session.run(None, {"n": np.array(3), "x": given})
    assert (found == np.tile(given, (3, 1))).all()


def test_loop_that_never_starts() -> None:
    x = np.array([1, 3], np.float32)
    last, rows = run(LOOP, np.array(5), np.array(False), x)
    assert (last == x).all()
    assert rows.shape == (0, 2)


def test_a_loop_without_end_can_be_stopped() -> None:
    text = """
    g (float x) => (float y)
    {
       c = Constant<value_ints = [1]>()
       go = Cast<to = 9>(c)
       one = Squeeze(go)
       y = Loop( , one, x)<body = b (int64 i, bool k, float s) => (bool k, float t) { t = Neg(s) }>
    }
    """
    model = parse_graph(text)
    canonicalize(model)
    infer_types(model)
    runner = compile_graph(model.graph)
    flag = _native.TerminateFlag()
    timer = threading.Timer(0.05, lambda: setattr(flag, "value", True))
    timer.start()
    with pytest.raises(Fail, match="terminate flag"):
        runner.run_values([np.array(1, np.float32)], [], terminate=flag)
    timer.join()


def test_loop_refuses_outputs_of_changing_shape() -> None:
    text = """
    g (int64 m, bool c) => (float[K,N] all)
    {
       axis = Constant<value_ints = [0]>()
       all = Loop(m, c)<
         body = b (int64 i, bool go) => (bool go, float[N] u) {
           shape = Unsqueeze(i, axis)
           u = ConstantOfShape(shape)
         }>
    }
    """
    with pytest.raises(Fail, match="changed"):
        run(text, np.array(3), np.array(True))


def test_loop_carries_sequences() -> None:
    text = """
    g (int64 m, float[2] x) => (float[N] y, int64 n)
    {
       empty = SequenceEmpty()
       done = Loop(m, , empty)<
         body = b (int64 i, bool go, seq(float[D]) s) => (bool go, seq(float[D]) t) {
           f = Cast<to = 1>(i)
           v = Add(x, f)
           t = SequenceInsert(s, v)
         }>
       y = ConcatFromSequence<axis = 0>(done)
       n = SequenceLength(done)
    }
    """
    x = np.array([1, 3], np.float32)
    y, n = run(text, np.array(3), x)
    assert y.tolist() == [1, 3, 2, 4, 3, 5]
    assert n == 3


SCAN = """
g (float[2] s, float[3,4,2] x) => (float[2] last, float[2,K] sums)
{
   bias = Add(s, s)
   last, sums = Scan<num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-1],
     scan_input_directions = [1], scan_output_directions = [1],
     body = b (float[2] a, float[3,2] row) => (float[2] t, float[2] u) {
       two = Constant<value_int = 2>()
       r = Gather(row, two)
       t = Add(a, r)
       u = Add(t, bias)
     }>(s, x)
}
"""


def test_scan_along_other_axes_and_backwards() -> None:
    s, x = np.array([1, 3], np.float32), np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    last, sums = run(SCAN, s, x)
    states = s + np.cumsum(x[2, ::-1], 0)
    assert (last == states[-1]).all()
    assert (sums == (states + 2 * s)[::-1].T).all()


def test_scan_of_nothing() -> None:
    text = """
    g (float[2] s, float[L,2] x) => (float[2] last, float[L,2] y)
    {
       last, y = Scan<num_scan_inputs = 1,
         body = b (float[2] a, float[2] row) => (float[2] a, float[2] u) { u = Add(a, row) }>(s, x)
    }
    """
    s = np.array([1, 3], np.float32)
    last, y = run(text, s, np.zeros((0, 2), np.float32))
    assert (last == s).all()
    assert y.shape == (0, 2)
    last, y = run(text, s, np.ones((3, 2), np.float32))
    assert (y == s + 1).all()


def test_sequences() -> None:
    a, b, c = (np.full((2,), v, np.float32) for v in (1, 2, 3))
    text = """
    g (float[2] a, float[2] b, float[2] c, int64 i) =>
      (seq(float[2]) s, float[2] at, seq(float[2]) e)
    {
       ab = SequenceConstruct(a, b)
       s = SequenceInsert(ab, c, i)
       at = SequenceAt(s, i)
       e = SequenceErase(s, i)
    }
    """
    s, at, e = run(text, a, b, c, np.array(-1))
    assert [v[0] for v in s] == [1, 3, 2]
    assert at[0] == 2
    assert [v[0] for v in e] == [1, 3]
    with pytest.raises(InvalidArgument, match="index"):
        run(text, a, b, c, np.array(3))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_split_to_sequence(axis: int) -> None:
    x = np.arange(60, dtype=np.int32).reshape(3, 4, 5)
    size = x.shape[axis]
    attributes = {"axis": axis}
    parts = run_node("SplitToSequence", [x], {**attributes, "keepdims": 0})[0]
    assert len(parts) == size
    assert all((p == np.take(x, i, axis)).all() for i, p in enumerate(parts))
    parts = run_node("SplitToSequence", [x, np.array(2)], attributes)[0]
    assert (np.concatenate(parts, axis) == x).all()
    assert parts[-1].shape[axis] == 2 - size % 2
    parts = run_node("SplitToSequence", [x, np.array([1, 0, size - 1])], attributes)[0]
    assert [p.shape[axis] for p in parts] == [1, 0, size - 1]
    with pytest.raises(InvalidArgument):
        run_node("SplitToSequence", [x, np.array([1, size])], attributes)


def test_sequence_map() -> None:
    text = """
    g (seq(float[N]) s, seq(float[N]) r, float k) => (seq(float[N]) y)
    {
       two = Add(k, k)
       y = SequenceMap<body = b (float[N] a, float[N] b, float c) => (float[N] z) {
             p = Mul(a, b) q = Add(p, c) z = Add(q, two)
           }>(s, r, k)
    }
    """
    s = [np.arange(n, dtype=np.float32) for n in (2, 0, 3)]
    (y,) = run(text, s, s, np.array(1, np.float32))
    for actual, x in zip(y, s):
        assert (actual == x * x + 3).all()
    with pytest.raises(InvalidArgument):
        run(text, s, s[:1], np.array(1, np.float32))


def test_values_in_a_sequence_are_not_written_over() -> None:
    text = """
    g (float[4] x) => (float[4] y, float[4] z)
    {
       a = Neg(x)
       s = SequenceConstruct(a)
       y = Relu(a)
       zero = Constant<value_int = 0>()
       z = SequenceAt(s, zero)
    }
    """
    x = np.array([1, -2, 3, -4], np.float32)
    for runs in (1, 3):
        y, z = run(text, x, runs=runs)
        assert (y == np.maximum(-x, 0)).all()
        assert (z == -x).all()


def test_optionals() -> None:
    x = np.ones((2,), np.float32)
    assert run_node("OptionalHasElement", [x])[0]
    assert (run_node("OptionalGetElement", [x])[0] == x).all()
    text = """
    g (float[2] x) => (bool h, float[2] y)
    {
       o = Optional(x)
       h = OptionalHasElement(o)
       y = OptionalGetElement(o)
    }
    """
    h, y = run(text, x)
    assert h
    assert (y == x).all()
