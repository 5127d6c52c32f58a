# SPDX-License-Identifier: Apache-2.0
"""Whole graphs on the emulated device: plans, replays, sizes on the host, control flow."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import pytest

import bascule
from bascule.ir.dtype import DataType
from bascule.providers.cpu.provider import CpuProvider
from bascule.providers.cuda.control import ControlStep
from bascule.providers.cuda.entry import Entry, download
from bascule.providers.cuda.memory import Record, lay_out
from bascule.providers.cuda.provider import CudaProvider
from bascule.providers.cuda.segment import Segment
from bascule.providers.cuda.targets import Where
from bascule.providers.cuda.tensor import Tensor
from tests.support.cuda_emulation import emulated_device, missing
from tests.support.cuda_session import EmulatedSession

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def session(text: str, opsets: str = "") -> EmulatedSession:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21{opsets}]> {text}')
    return EmulatedSession(model.SerializeToString())


def normal(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_shapes_that_come_back_are_replayed() -> None:
    model = session(
        """g (float[N,4] x, float[4] z) => (float[N,4] y) {
        a = Add(x, z) m = MatMul(a, a1) y = Exp(m) } """.replace("a1", "w").replace(
            "=> (float[N,4] y) {",
            "=> (float[N,4] y) <float[4,4] w = {" + ",".join(["0.25"] * 16) + "}> {",
        )
    )
    before = emulated_device().replays
    for run in range(9):
        rows = 2 + run % 3
        x, z = normal(run, rows, 4), normal(run + 100, 4)
        expected = np.exp((x + z) @ np.full((4, 4), 0.25, np.float32))
        np.testing.assert_allclose(model.run(None, {"x": x, "z": z})[0], expected, 1e-5)
    assert emulated_device().replays - before == 6


def test_results_of_a_run_outlive_the_next() -> None:
    model = session("g (float[3] x) => (float[3] y) { y = Exp(x) }")
    runs = [model.run(None, {"x": normal(seed, 3)})[0] for seed in range(4)]
    for seed, result in enumerate(runs):
        np.testing.assert_allclose(result, np.exp(normal(seed, 3)), 1e-6)


def test_sizes_that_are_outputs_belong_to_the_caller() -> None:
    model = session("g (float[N,3] x) => (int64[2] s, float[N,3] y) { s = Shape(x) y = Exp(x) }")
    for run in range(5):
        sizes, _ = model.run(None, {"x": normal(run, 2, 3)})
        np.testing.assert_array_equal(sizes, [2, 3])
        sizes[:] = 77


@pytest.mark.parametrize(
    "constant",
    [
        "float[2] c, float[3] y) <float[2] c = {1, 2}> {",
        'string[2] c, float[3] y) { c = Constant<value_strings = ["a", "b"]>()',
    ],
)
def test_constants_that_are_outputs_belong_to_the_caller(constant: str) -> None:
    model = session(f"g (float[3] x) => ({constant} y = Exp(x) }}")
    result, _ = model.run(None, {"x": normal(0, 3)})
    expected = result.copy()
    for run in range(3):
        result[...] = result[::-1].copy()
        result, _ = model.run(None, {"x": normal(run, 3)})
        np.testing.assert_array_equal(result, expected)


def test_one_value_as_two_results_is_two_arrays() -> None:
    model = session("""g (int64 n, bool t, float[3] x) => (float[3] y, float[3] z) {
        y, z = Loop <body = b (int64 i, bool c, float[3] v, float[3] w) => (bool d, float[3] p,
            float[3] q) { d = Identity(c) p = Exp(v) q = Identity(p) }> (n, t, x, x) }""")
    feeds = {"n": np.array(1), "t": np.array(True), "x": normal(0, 3)}
    for names in (None, ["y", "y"]):
        one, other = model.run(names, feeds)
        np.testing.assert_array_equal(one, other)
        assert not np.shares_memory(one, other)


def test_sizes_are_computed_on_the_host() -> None:
    model = session(
        """g (float[N,M] x) => (float[K] y) <int64[1] minus = {-1}, int64 one = {1}> {
        s = Shape(x) n = Gather(s, one) k = Unsqueeze(n, minus1) t = Concat<axis = 0>(minus, k)
        r = Reshape(x, t) f = Reshape(r, minus) y = Neg(f) }""".replace("minus1", "zero").replace(
            "int64 one = {1}>", "int64 one = {1}, int64[1] zero = {0}>"
        )
    )
    kernels = {row.op_type: row.kernel for row in model.explain().rows}
    assert all(k.startswith(("host", "cuda")) for k in kernels.values()), kernels
    for run in range(4):
        x = normal(run, 2, 3 + run % 2)
        np.testing.assert_array_equal(model.run(None, {"x": x})[0], -x.reshape(-1))


def test_a_value_that_is_needed_on_the_host_makes_a_plan_of_its_own() -> None:
    model = session(
        "g (float[6] x, int64[K] shape) => (float y) { r = Reshape(x, shape) y = Neg(r) }"
    )
    x = normal(3, 6)
    for shape in ([2, 3], [3, 2], [2, 3], [6], [3, 2], [2, 3]):
        result = model.run(None, {"x": x, "shape": np.array(shape)})[0]
        np.testing.assert_array_equal(result, -x.reshape(shape))


def test_long_texts_that_differ_in_the_middle() -> None:
    model = session(
        """g (string[N] s) => (float[N,K] y) <int64 one = {1}, float[2] values = {0, 1}> {
        i = ai.onnx.ml.LabelEncoder <keys_strings = ["a", "b", "c"], values_int64s = [0, 1, 2]> (s)
        m = ReduceMax <keepdims = 0> (i) depth = Add(m, one) y = OneHot(i, depth, values) }""",
        ', "ai.onnx.ml" : 3',
    )
    assert [row.kernel for row in model.explain().rows if row.op_type == "LabelEncoder"] == [
        "host, once per shape"
    ]
    for run in range(3):
        text = np.array(list("abc") * 400, object)
        text[100:1100] = np.random.default_rng(run).choice(list("abc"), 1000)
        hot = model.run(None, {"s": text})[0].argmax(1)
        assert hot.tolist() == ["abc".index(each) for each in text]


@pytest.mark.parametrize("last", ["float[N] y, int64[1] k", "float[N] y, string[N] s"])
def test_the_shape_of_text_makes_a_plan_of_its_own(last: str) -> None:
    model = session(
        f"g (string[N] s, float[1] x) => ({last}) {{ k = Shape(s) e = Expand(x, k) y = Exp(e) }}"
    )
    for run, size in enumerate((2, 3, 2, 2, 2, 4, 4, 0, 3)):
        feeds = {"s": np.array(list("abcd")[:size], object), "x": normal(run, 1)}
        y, other = model.run(None, feeds)
        np.testing.assert_allclose(y, np.exp(feeds["x"]).repeat(size), 1e-6)
        assert other.tolist() == ([size] if "k" in last else feeds["s"].tolist())


def test_what_has_no_kernel_runs_on_the_cpu_and_says_why() -> None:
    model = session(
        """g (float[N,4] x) => (float[N,4] y, string[K] w) {
            a = Exp(x) f = Flatten<axis = 0>(a) s = Cast<to = 8>(f) v = Reshape(s, m)
            w = StringNormalizer(v)
        y = Neg(a) }""".replace(
            "(float[N,4] y, string[K] w) {", "(float[N,4] y, string[K] w) <int64[1] m = {-1}> {"
        )
    )
    rows = {row.op_type: row for row in model.explain().rows}
    assert rows["StringNormalizer"].provider == "CPUExecutionProvider"
    assert "no kernel" in rows["StringNormalizer"].reasons[0][1]
    for run in range(3):
        x = normal(run, 2, 4)
        y, words = model.run(None, {"x": x})
        np.testing.assert_allclose(y, -np.exp(x), 1e-6)
        np.testing.assert_allclose(words.astype(np.float32), np.exp(x).reshape(-1), 1e-5)


@pytest.mark.parametrize("condition", [True, False])
def test_if(condition: bool) -> None:
    model = session("""g (bool c, float[3] x) => (float[3] y) {
        y = If <then_branch = a () => (float[3] t) { t = Exp(x) },
                else_branch = b () => (float[3] e) { e = Neg(x) }> (c) }""")
    for run in range(3):
        x = normal(run, 3)
        expected = np.exp(x) if condition else -x
        result = model.run(None, {"c": np.array(condition), "x": x})[0]
        np.testing.assert_allclose(result, expected, 1e-6)


def test_loop_and_scan() -> None:
    model = session("""g (int64 n, float[4] x, float[3,4] rows) => (float[4] y, float[M,4] all,
            float[4] last, float[3,4] sums) <bool t = {1}> {
        y, all = Loop <body = b (int64 i, bool c, float[4] v) => (bool d, float[4] w, float[4] o)
            { d = Identity(c) w = Mul(v, x) o = Exp(w) }> (n, t, x)
        last, sums = Scan <num_scan_inputs = 1, body = s (float[4] v, float[4] row)
            => (float[4] w, float[4] o) { w = Add(v, row) o = Neg(w) }> (x, rows) }""")
    plain = bascule.InferenceSession(model._model_bytes, providers=["CPUExecutionProvider"])
    for run in range(4):
        feeds = {"n": np.array(run), "x": normal(run, 4), "rows": normal(run + 9, 3, 4)}
        for one, other in zip(model.run(None, feeds), plain.run(None, feeds)):
            np.testing.assert_allclose(one, other, 1e-6)


@pytest.mark.parametrize(
    ("taken", "joined"), [("1, 2, 0", "2, 0, 0"), ("-1, -1, -1", "-1, -3, -1")]
)
def test_scans_along_other_axes_and_backwards(taken: str, joined: str) -> None:
    model = session(f"""g (float[2] x, float[2,T] u, float[3,2,T] v, string[T] s) =>
            (float[2] last, float[2,3,T] a, float[T,3,2] b, string[T] r) {{
        last, a, b, r = Scan <num_scan_inputs = 3,
            scan_input_axes = [{taken}], scan_input_directions = [1, 0, 1],
            scan_output_axes = [{joined}], scan_output_directions = [0, 1, 0],
            body = s (float[2] h, float[2] one, float[3,2] two, string t)
            => (float[2] w, float[2,3] p, float[3,2] q, string k) {{
                w = Add(h, one) e = Mul(two, w) p = Transpose(e) q = Exp(e) k = Identity(t) }}>
            (x, u, v, s) }}""")
    assert {row.provider for row in model.explain().rows if row.op_type != "Identity"} == {
        "CUDAExecutionProvider"
    }
    plain = bascule.InferenceSession(model._model_bytes, providers=["CPUExecutionProvider"])
    for trips in (4, 1, 4):
        feeds = {
            "x": normal(trips, 2),
            "u": normal(1, 2, trips),
            "v": normal(2, 3, 2, trips),
            "s": np.array(list("abcd"[:trips]), object),
        }
        for one, other in zip(model.run(None, feeds), plain.run(None, feeds), strict=True):
            assert one.shape == other.shape
            if one.dtype == object:
                assert one.tolist() == other.tolist() == feeds["s"][::-1].tolist()
            else:
                np.testing.assert_allclose(one, other, 1e-6)


@pytest.mark.parametrize("sizes", ["4", "4,4", "N,M"])
def test_conditions_on_what_a_loop_carries_make_one_plan(sizes: str) -> None:
    model = session(f"""g (int64 n, bool t, float[{sizes}] x) => (float[{sizes}] y) {{
        y = Loop <body = b (int64 i, bool c, float[{sizes}] v) => (bool d, float[{sizes}] w) {{
            w = Mul(v, v) s = ReduceMax <keepdims = 0> (w)
            one = Constant <value = float {{1}}> () d = Less(s, one) }}> (n, t, x) }}""")
    plain = bascule.InferenceSession(model._model_bytes, providers=["CPUExecutionProvider"])
    shape = (4,) if sizes == "4" else (4, 4)
    for run in range(4):
        feeds = {
            "n": np.array(9),
            "t": np.array(True),
            "x": 1.001 + np.abs(normal(run, *shape)) / 9,
        }
        np.testing.assert_allclose(model.run(None, feeds)[0], plain.run(None, feeds)[0], 1e-5)
    loop = next(part for part in model._program._graph._parts if isinstance(part, ControlStep))
    body = loop._programs["body"][0]
    segments = [part for part in body._parts if isinstance(part, Segment)]
    assert [len(each._plans) for each in segments] == [1] * len(segments)


def test_loops_over_text() -> None:
    model = session("""g (int64 n, bool t, string[2] s, float[2] x, string[3,2] rows, string[3] e)
            => (string[2] last, string[M,2] all, float[2] y, string[3,2] o, string[3] p) {
        last, all = Loop <body = b (int64 i, bool c, string[2] v) => (bool d, string[2] w,
            string[2] k) { d = Identity(c) w = StringConcat(v, s) k = Identity(w) }> (n, t, s)
        y, o, p = Scan <num_scan_inputs = 2, body = f (float[2] v, string[2] row, string f)
            => (float[2] w, string[2] q, string r) {
            w = Exp(v) q = StringConcat(row, row) r = StringConcat(f, f) }> (x, rows, e) }""")
    text = np.array([["a", "bc"], ["", "d"], ["e", "f"]], object)
    feeds = {"n": np.array(3), "t": np.array(True), "s": text[0], "rows": text, "e": text[:, 0]}
    last, stacked, y, o, p = model.run(None, {**feeds, "x": normal(0, 2)})
    assert stacked.tolist() == [["aa", "bcbc"], ["aaa", "bcbcbc"], ["aaaa", "bcbcbcbc"]]
    assert last.tolist() == stacked[-1].tolist()
    np.testing.assert_allclose(y, np.exp(np.exp(np.exp(normal(0, 2)))), 1e-5)
    assert o.tolist() == (text + text).tolist() and p.tolist() == ["aa", "", "ee"]
    assert model.run(None, {**feeds, "n": np.array(0), "x": normal(0, 2)})[1].shape == (0, 2)


def test_a_rank_that_is_known_late_is_an_error_where_it_is_too_high() -> None:
    model = session("""g (float[2] x, int64[K] shape, float[S] scales) => (float y) {
        r = Reshape(x, shape) y = Resize(r, , scales) }""")
    shape, scales = np.array([1] * 8 + [2]), np.full(9, 2, np.float32)
    with pytest.raises(bascule.errors.Fail, match=r"Resize node .*at most 8 axes"):
        model.run(None, {"x": normal(0, 2), "shape": shape, "scales": scales})
    (y,) = model.run(None, {"x": normal(0, 2), "shape": shape[-2:], "scales": scales[:2]})
    np.testing.assert_array_equal(y, normal(0, 2)[None].repeat(2, 0).repeat(2, 1))


def test_a_run_that_fails_leaves_the_session_usable() -> None:
    model = session(
        "g (float[6] x, int64[K] shape) => (float y) { r = Reshape(x, shape) y = Neg(r) }"
    )
    x = normal(3, 6)
    for _ in range(3):
        with pytest.raises(bascule.errors.Fail, match=r"Reshape node .*cannot be reshaped"):
            model.run(None, {"x": x, "shape": np.array([4, 2])})
        result = model.run(None, {"x": x, "shape": np.array([3, 2])})[0]
        np.testing.assert_array_equal(result, -x.reshape(3, 2))


def test_an_error_of_a_kernel_tells_its_inputs() -> None:
    model = session("""g (float[N,4] x, float[K,3] w) => (float[N,3] y) {
        [product] m = MatMul(x, w) y = Neg(m) }""")
    told = (
        r"MatMul node 'product': .* \[inputs: float\{2,4\}, float\{5,3\}; "
        r"reads: x float\[N,4\], w float\[K,3\]; sizes: N=2, K=5\]$"
    )
    with pytest.raises(bascule.errors.Fail, match=told) as caught:
        model.run(None, {"x": normal(1, 2, 4), "w": normal(2, 5, 3)})
    assert caught.value.details["inputs"] == "float{2,4}, float{5,3}"


def test_an_error_of_a_library_tells_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    model = session("g (float[N] x) => (float[N] y) { [here] y = Exp(x) }")

    def fail(*_: Any) -> Any:
        raise bascule.errors.EngineError("the CUDA library nvrtc is not found")

    monkeypatch.setattr(emulated_device(), "generated", fail)
    with pytest.raises(bascule.errors.EngineError, match=r"\[node: here; inputs: float\{2\}\]"):
        model.run(None, {"x": normal(1, 2)})


BRANCH = """g (bool[K] c, float[N] x) => (float[N] y) {
    [here] y = If <then_branch = t () => (float[N] a) { a = Exp(x) },
        else_branch = e () => (float[N] b) { b = Neg(x) }> (c) }"""
TRIPS = """g (int64[K] n, bool[L] c, float[N] x) => (float[N] y) {
    [here] y = Loop <body = b (int64 i, bool k, float[N] v) => (bool d, float[N] w)
        { d = Identity(k) w = Exp(v) }> (n, c, x) }"""
UNTIL = """g (int64[K] n, bool[L] c, float[N] x) => (float[N] y) {
    t = Constant<value: tensor = bool {1}>()
    [here] y = Loop <body = b (int64 i, bool k, float[N] v) => (bool[L] d, float[N] w)
        { d = Identity(c) w = Exp(v) }> (n, t, x) }"""
ROWS = """g (float[T,N] x, float[U,N] w) => (float[V,N] y) {
    [here] y = Scan <num_scan_inputs = 2, body = b (float[N] v, float[N] u) => (float[N] o)
        { o = Mul(v, u) }> (x, w) }"""


@pytest.mark.parametrize(
    ("text", "sizes", "message"),
    [
        (BRANCH, {"c": (0,)}, r"the condition must be one bool, got bool\{0\} \[inputs: "),
        (BRANCH, {"c": (2,)}, r"the condition must be one bool, got bool\{2\} \[inputs: "),
        (TRIPS, {"n": (0,), "c": (1,)}, r"number of trips must be one element, got int64\{0\}"),
        (TRIPS, {"n": (2,), "c": (1,)}, r"number of trips must be one element, got int64\{2\}"),
        (TRIPS, {"n": (1,), "c": (0,)}, r"the condition must be one bool, got bool\{0\}"),
        (UNTIL, {"n": (1,), "c": (3,)}, r"the condition must be one bool, got bool\{3\}"),
        (ROWS, {"x": (3, 4), "w": (2, 4)}, r"scan inputs have \[3, 2\] slices"),
        (ROWS, {"x": (2, 4), "w": (3, 4)}, r"scan inputs have \[2, 3\] slices"),
    ],
)
def test_what_decides_has_to_fit(text: str, sizes: dict[str, Any], message: str) -> None:
    """An error as on the CPU: a Scan would read past the end of its shorter input."""
    model = session(text)
    plain = bascule.InferenceSession(model._model_bytes, providers=["CPUExecutionProvider"])
    types = {"n": np.int64, "c": bool}
    feeds = {
        arg.name: np.ones(sizes.get(arg.name, (4,)), types.get(arg.name, np.float32))
        for arg in model.get_inputs()
    }
    with pytest.raises(bascule.errors.ALL) as expected:
        plain.run(None, feeds)
    with pytest.raises(expected.type, match=rf"node 'here': .*{message}"):
        model.run(None, feeds)


def test_inputs_left_out_have_plans_of_their_own() -> None:
    model = session("""g (optional(float[N]) a, float[N] x) => (bool b, float[N] y) {
        b = OptionalHasElement(a) y = Neg(x) }""")
    for run in range(6):
        feeds = {"x": normal(run, 3)}
        if run % 2:
            feeds["a"] = normal(run, 3)
        b, y = model.run(None, feeds)
        assert bool(b) == bool(run % 2)
        np.testing.assert_array_equal(y, -feeds["x"])


def test_terminate_stops_a_loop() -> None:
    model = session("""g (int64 n, float[4] x) => (float[4] y) <bool t = {1}> {
        y = Loop <body = b (int64 i, bool c, float[4] v) => (bool d, float[4] w)
            { d = Identity(c) w = Neg(v) }> (n, t, x) }""")
    options = bascule.RunOptions()
    options.terminate = True
    feeds = {"n": np.array(3), "x": normal(1, 4)}
    with pytest.raises(bascule.errors.Fail, match="terminate flag"):
        model.run(None, feeds, options)
    np.testing.assert_array_equal(model.run(None, feeds)[0], -feeds["x"])


class Flag:
    """RunOptions' flag, which another thread sets after a while."""

    def __init__(self) -> None:
        self.looks = 0

    @property
    def value(self) -> bool:
        self.looks += 1
        return self.looks > 5


def test_terminate_stops_a_loop_that_computes_nothing() -> None:
    model = session("""g (int64 n, bool t, float[4] x) => (float[4] y) {
        y = Loop <body = b (int64 i, bool c, float[4] v) => (bool c, float[4] v) {}> (n, t, x) }""")
    feeds = [Entry(host=each) for each in (np.array(2**60), np.array(True), normal(1, 4))]
    with pytest.raises(bascule.errors.Fail, match="terminate flag"):
        model._program._graph.execute(feeds, terminate=Flag())


def test_outputs_where_they_are_bound() -> None:
    model = session("g (float[N] x) => (float[N] y, float[N] z) { y = Neg(x) z = Exp(x) }")
    device = emulated_device()
    for run in range(4):
        x = normal(run, 5)
        bound = Tensor(DataType.FLOAT, (5,), *device.allocate(20))
        y, z = model._program.run_bound([x], {0: bound, 1: Where.HOST})[0]
        assert y.address == bound.address
        np.testing.assert_array_equal(download(y, device), -x)
        np.testing.assert_allclose(z, np.exp(x), 1e-6)
    small = Tensor(DataType.FLOAT, (4,), *device.allocate(16))
    with pytest.raises(bascule.errors.Fail, match=r"needs float\[5\], but float\[4\]"):
        model._program.run_bound([x], {0: small})


class GpuOnly(EmulatedSession):
    """A session that has not listed the CPU provider."""

    def _executors(self, record: bool) -> list[Any]:
        return [CudaProvider(emulated_device(), CpuProvider(1), may_use_cpu=False)]


@pytest.mark.parametrize(
    "text",
    [
        "g (string[N] x) => (string[M] y) { y = StringNormalizer(x) }",
        """g (bool c, string[N] x) => (string[M] y) {
            y = If <then_branch = a () => (string[M] t) { t = StringNormalizer(x) },
                    else_branch = b () => (string[M] e) { e = StringNormalizer(x) }> (c) }""",
    ],
)
def test_without_the_cpu_provider_what_has_no_kernel_is_refused(text: str) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text}')
    with pytest.raises(bascule.errors.NotImplemented, match="StringNormalizer"):
        GpuOnly(model.SerializeToString())


def test_memory_that_was_given_back_is_used_again() -> None:
    record = Record(events=[0, 1, ~0, 2, ~1, 3, ~2, ~3], sizes=[1000, 500, 900, 300])
    layout = lay_out(record)
    assert layout.total == 1024 + 512
    assert layout.offsets[2] == layout.offsets[0] and layout.offsets[3] == layout.offsets[1]


def test_results_keep_the_memory_that_they_are_a_view_of(monkeypatch: pytest.MonkeyPatch) -> None:
    model = session(
        """g (float[2,3] x, bool c) => (float[6] y) <int64[1] s = {6}> {
        t = If(c) <
            then_branch = a () => (float[2,3] u) { u = Exp(x) },
            else_branch = b () => (float[2,3] v) { v = Neg(x) }>
        y = Reshape(t, s) }"""
    )
    device, owners = emulated_device(), []
    arrays = device.arrays

    def noted(tensors: Any) -> Any:
        owners.extend(tensor.owner for tensor in tensors)
        return arrays(tensors)

    monkeypatch.setattr(device, "arrays", noted)
    for run in range(5):
        x = normal(run, 2, 3)
        (y,) = model.run(None, {"x": x, "c": np.array(True)})
        np.testing.assert_allclose(y, np.exp(x).reshape(-1), 1e-5)
    assert owners and None not in owners
