# SPDX-License-Identifier: Apache-2.0
"""Sequences, optionals and nested graphs, on every carrier.

Oracle: the same program in plain Python.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bascule import GraphOptimizationLevel
from tests.properties.running import OPSET, assert_same_bits, session_of
from tests.properties.strategies import Array, arrays, axis_of, shapes

DTYPES = tuple(np.dtype(t) for t in (np.float32, np.int64, np.float16, np.bool_, object))
LEVELS = (GraphOptimizationLevel.ORT_DISABLE_ALL, GraphOptimizationLevel.ORT_ENABLE_ALL)


def parse(body: str, level: GraphOptimizationLevel) -> Any:
    header = f'<ir_version: {onnx.IR_VERSION}, opset_import: ["": {OPSET}]>\n'
    return session_of(onnx.parser.parse_model(header + body), level)


NAMES = {"float32": "float", "int64": "int64", "float16": "float16", "bool": "bool"}


def name_of(dtype: np.dtype[Any]) -> str:
    return NAMES.get(dtype.name, "string")


@st.composite
def lists(draw: st.DrawFn, least: int = 0) -> tuple[np.dtype[Any], list[Array]]:
    dtype = draw(st.sampled_from(DTYPES))
    count = draw(st.integers(least, 5))
    return dtype, [draw(arrays(dtype, draw(shapes(0, 3, limit=60)))) for _ in range(count)]


@given(data=st.data(), items=lists(), level=st.sampled_from(LEVELS))
def test_sequences_change_like_lists(
    data: st.DataObject, items: tuple[np.dtype[Any], list[Array]], level: Any
) -> None:
    dtype, values = items
    extra = data.draw(arrays(dtype, data.draw(shapes(0, 2, limit=20))))
    at = data.draw(st.integers(-len(values), len(values)))
    gone = data.draw(st.integers(-len(values) - 1, len(values)))
    kind = name_of(dtype)
    session = parse(
        f"""g (seq({kind}[]) s, {kind}[] extra, int64 at, int64 gone)
            => (seq({kind}[]) longer, seq({kind}[]) shorter, int64 n, {kind} one)
        {{
          longer = SequenceInsert (s, extra, at)
          one = SequenceAt (longer, at)
          n = SequenceLength (longer)
          shorter = SequenceErase (longer, gone)
        }}""",
        level,
    )
    feeds = {"s": values, "extra": extra, "at": np.int64(at), "gone": np.int64(gone)}
    feeds = {k: np.asarray(v) if not isinstance(v, list) else v for k, v in feeds.items()}
    longer = list(values)
    place = at if at >= 0 else at + len(values)
    longer.insert(place, extra)
    shorter = list(longer)
    del shorter[gone]
    for _ in range(2):
        results = session.run(None, feeds)
        assert_same_bits(results[0], longer)
        assert_same_bits(results[1], shorter)
        assert int(results[2]) == len(longer)
        assert_same_bits(results[3], longer[at])


@given(data=st.data(), level=st.sampled_from(LEVELS))
def test_sequences_split_and_join(data: st.DataObject, level: Any) -> None:
    draw = data.draw
    dtype = draw(st.sampled_from(DTYPES))
    x = draw(arrays(dtype, draw(shapes(1, 3, limit=200, empty=False))))
    axis = draw(axis_of(x.ndim))
    size = draw(st.integers(1, 5))
    kind = name_of(dtype)
    session = parse(
        f"""g ({kind}[] x, int64 size) => (seq({kind}[]) parts, {kind}[] y, {kind}[] stacked)
        {{
          parts = SplitToSequence <axis: int = {axis}> (x, size)
          y = ConcatFromSequence <axis: int = {axis}> (parts)
          pair = SequenceConstruct (x, y)
          stacked = ConcatFromSequence <axis: int = {axis}, new_axis: int = 1> (pair)
        }}""",
        level,
    )
    parts, y, stacked = session.run(None, {"x": x, "size": np.array(size, np.int64)})
    cuts = list(range(size, x.shape[axis], size))
    assert_same_bits(parts, [np.ascontiguousarray(p) for p in np.split(x, cuts, axis)])
    assert_same_bits(y, x)
    assert_same_bits(stacked, np.stack([x, x], axis))


@given(data=st.data(), level=st.sampled_from(LEVELS))
def test_loops_carry_and_collect(data: st.DataObject, level: Any) -> None:
    """A carried tensor, one that grows, a captured one, and a collected one."""
    draw = data.draw
    trips = draw(st.one_of(st.none(), st.integers(0, 6)))
    stop = draw(st.integers(0, 6))
    x = draw(arrays(np.int64, draw(shapes(1, 3, limit=60)), ("plain",)))
    step = draw(arrays(np.int64, x.shape, ("plain",)))
    session = parse(
        f"""g (int64[1] x_trips, bool start, int64 stop, int64{list("abc"[: x.ndim])!s} x,
             int64{list("abc"[: x.ndim])!s} step) => (y, grown, seen, total)
        {{
          y, grown, seen, total = Loop ({"x_trips" if trips is not None else ""}, start, x, x)
            <body: graph = body (int64 i, bool go, int64 v, int64 w) => (more, v2, w2, v2, i2) {{
              v2 = Add (v, step)
              w2 = Concat <axis: int = 0> (w, step)
              one = Constant <value_int: int = 1> ()
              i2 = Add (i, one)
              more = Less (i2, stop)
            }}>
        }}""".replace("'", ""),
        level,
    )
    start = draw(st.booleans())
    feeds = {"start": np.array(start), "stop": np.array(stop, np.int64), "x": x, "step": step}
    feeds["x_trips"] = np.array([trips or 0], np.int64)
    v, w, seen, total = x, x, [], []
    i, go = 0, start
    while go and (trips is None or i < trips):
        v, w = v + step, np.concatenate([w, step])
        seen.append(v)
        total.append(i + 1)
        go = i + 1 < stop
        i += 1
    for _ in range(2):
        results = session.run(None, feeds)
        assert_same_bits(results[0], v)
        assert_same_bits(results[1], w)
        if seen:
            assert_same_bits(results[2], np.stack(seen))
        else:
            assert len(results[2]) == 0
        assert results[3].tolist() == total


@given(data=st.data(), level=st.sampled_from(LEVELS))
def test_scan_runs_along_any_axis_and_direction(data: st.DataObject, level: Any) -> None:
    draw = data.draw
    x = draw(arrays(np.int64, draw(shapes(2, 3, limit=120)), ("plain",)))
    axis, back = draw(axis_of(x.ndim)), draw(st.integers(0, 1))
    out_axis, out_back = draw(axis_of(x.ndim)), draw(st.integers(0, 1))
    rest = np.take(x, 0, axis) if x.shape[axis] else np.zeros(np.delete(x.shape, axis), np.int64)
    node = helper.make_node(
        "Scan",
        ["start", "x"],
        ["last", "y"],
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_input_directions=[back],
        scan_output_axes=[out_axis],
        scan_output_directions=[out_back],
        body=helper.make_graph(
            [
                helper.make_node("Add", ["sum", "row"], ["next"]),
                helper.make_node("Neg", ["next"], ["out"]),
            ],
            "body",
            [helper.make_tensor_value_info(n, TensorProto.INT64, None) for n in ("sum", "row")],
            [helper.make_tensor_value_info(n, TensorProto.INT64, None) for n in ("next", "out")],
        ),
    )
    infos = [
        helper.make_tensor_value_info(n, TensorProto.INT64, a.shape)
        for n, a in (("start", rest), ("x", x))
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.INT64, None) for n in ("last", "y")]
    graph = helper.make_graph([node], "g", infos, outputs)
    imports = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=onnx.IR_VERSION)
    session = session_of(model, level)
    total, rows = np.zeros_like(rest), []
    order = range(x.shape[axis])
    for i in reversed(order) if back else order:
        total = total + np.take(x, i, axis)
        rows.append(-total)
    last, y = session.run(None, {"start": np.zeros_like(rest), "x": x})
    assert_same_bits(last, total)
    if rows:
        expected = np.stack(rows[::-1] if out_back else rows, out_axis)
        assert_same_bits(y, expected)


@given(data=st.data(), level=st.sampled_from(LEVELS))
def test_branches_give_sequences_and_nothing(data: st.DataObject, level: Any) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    x = data.draw(arrays(dtype, data.draw(shapes(0, 3, limit=60))))
    kind = name_of(dtype)
    session = parse(
        f"""g (bool first, {kind}[] x) => (seq({kind}[]) s, bool has, optional({kind}[]) o)
        {{
          s = If (first) <
            then_branch: graph = a () => (seq({kind}[]) t) {{ t = SequenceConstruct (x, x) }},
            else_branch: graph = b () => (seq({kind}[]) t) {{ e = SequenceConstruct (x)
              zero = Constant <value_int: int = 0> ()
              t = SequenceErase (e, zero) }}>
          o = If (first) <
            then_branch: graph = c () => (optional({kind}[]) t) {{ t = Optional (x) }},
            else_branch: graph = d () => (optional({kind}[]) t) {{
              t = Optional <type: type_proto = {kind}[]> () }}>
          has = OptionalHasElement (o)
        }}""",
        level,
    )
    for first in (True, False, True):
        s, has, o = session.run(None, {"first": np.array(first), "x": x})
        assert_same_bits(s, [x, x] if first else [])
        assert bool(has) is first
        if first:
            assert_same_bits(o, x)
        else:
            assert o is None
