# SPDX-License-Identifier: Apache-2.0
"""Steps of decoding over caches of fixed size, on the emulated device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx.parser
import pytest

import bascule
from bascule.providers.cuda.segment import Segment
from tests.providers.cuda.test_matmul_nbits import packed
from tests.support import gpu_arrays
from tests.support.cuda_emulation import EmulatedDevice, emulated_device, missing, run_node
from tests.support.cuda_session import EmulatedSession

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

Array = np.ndarray[Any, Any]

BATCH, LENGTH, HEADS, KV_HEADS, SIZE = 2, 24, 4, 2, 16
WIDTH = HEADS * SIZE
ROW = (HEADS + 2 * KV_HEADS) * SIZE
CACHE = (BATCH, KV_HEADS, LENGTH, SIZE)
"""A cache is kept by heads."""


@pytest.fixture(autouse=True)
def cupy() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        yield gpu_arrays.use(patch)


def weights() -> dict[str, Array]:
    """Constants of a layer, of the type that the model has."""
    rng = np.random.default_rng(7)
    made: dict[str, Array] = {}
    for name, k, n in (("qkv", WIDTH, ROW), ("out", WIDTH, WIDTH), ("gate", WIDTH, 96)):
        for each in (name, "up") if name == "gate" else (name,):
            made[each] = packed(rng.integers(0, 16, (n, k)), 4).reshape(n, k // 32, 16)
            made[f"{each}_s"] = (rng.uniform(0.5, 1, (n, k // 32)) / (4 * k**0.5)).astype("float16")
    made["down"] = packed(rng.integers(0, 16, (WIDTH, 96)), 4).reshape(WIDTH, 3, 16)
    made["down_s"] = (rng.uniform(0.5, 1, (WIDTH, 3)) / 40).astype("float16")
    made["norm"] = rng.normal(1, 0.1, WIDTH).astype("float16")
    angles = np.arange(LENGTH)[:, None] / 10 ** np.arange(SIZE // 2)
    made["c"], made["s"] = np.cos(angles).astype("float16"), np.sin(angles).astype("float16")
    return made


def product(y: str, x: str, name: str, k: int, n: int) -> str:
    call = f"com.microsoft.MatMulNBits<K = {k}, N = {n}, bits = 4, block_size = 32>"
    return f"{y} = {call}({x}, {name}, {name}_s)\n"


def layer(dtype: str = "float16", total: str = "int32 all") -> onnx.ModelProto:
    """A layer of a decoder as exporters write it, its cache counted by `last`."""
    body = "n = SimplifiedLayerNormalization<axis = -1>(x, norm)\n"
    body += product("rows", "n", "qkv", WIDTH, ROW)
    body += f"""a, nk, nv = com.microsoft.GroupQueryAttention
        <num_heads = {HEADS}, kv_num_heads = {KV_HEADS}, do_rotary = 1>
        (rows, , , pk, pv, last, all, c, s)\n"""
    body += product("o", "a", "out", WIDTH, WIDTH)
    body += "m, e0, e1, t = com.microsoft.SkipSimplifiedLayerNormalization(x, o, norm)\n"
    body += product("g", "m", "gate", WIDTH, 96) + product("u", "m", "up", WIDTH, 96)
    body += "sg = Sigmoid(g) gs = Mul(g, sg) h = Mul(gs, u)\n"
    body += product("d", "h", "down", 96, WIDTH)
    body += "y, e2, e3, z = com.microsoft.SkipSimplifiedLayerNormalization(t, d, norm)\n"
    cache = ",".join(map(str, (BATCH, KV_HEADS, '"L"', SIZE))).replace('"', "")
    text = f"""<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
        g ({dtype}[{BATCH},N,{WIDTH}] x, {dtype}[{cache}] pk, {dtype}[{cache}] pv,
           int32[{BATCH}] last, {total}) =>
          ({dtype}[{BATCH},N,{WIDTH}] y, {dtype}[{cache}] nk, {dtype}[{cache}] nv) {{ {body} }}"""
    model = onnx.parser.parse_model(text)
    for name, array in weights().items():
        narrow = dtype == "float16" or array.dtype != np.float16
        kept = array if narrow else array.astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(kept, name))
    return model


def feeds(step: int, rows: int = 1, dtype: str = "float16") -> dict[str, Array]:
    """The two samples are at different positions."""
    rng = np.random.default_rng(step)
    last = np.array([5 + step, 11 + step], np.int32) + np.int32(rows - 1)
    x = rng.standard_normal((BATCH, rows, WIDTH), np.float32).astype(dtype)
    return {"x": x, "last": last, "all": np.array(last.max() + 1, np.int32)}


def caches(dtype: str = "float16") -> dict[str, Array]:
    rng = np.random.default_rng(99)
    made = {name: rng.standard_normal(CACHE, np.float32) for name in ("pk", "pv")}
    return {name: array.astype(dtype) for name, array in made.items()}


def expected(steps: int, rows: int = 1) -> list[list[Array]]:
    """What the CPU provider makes of the steps, in float32."""
    model = layer("float").SerializeToString()
    session = bascule.InferenceSession(model, providers=["CPUExecutionProvider"])
    kept, found = caches("float16"), []
    for step in range(steps):
        given = {**kept, **feeds(step, rows)}
        floats = {k: v.astype("float32") if v.dtype == "float16" else v for k, v in given.items()}
        found.append(session.run(None, floats))
        kept = dict(zip(("pk", "pv"), found[-1][1:]))
    return found


class Bound:
    """A session on the emulated device with its cache bound as input and output at once."""

    def __init__(self) -> None:
        self.session = EmulatedSession(layer().SerializeToString())
        self.binding = self.session.io_binding()
        values = {name: self._value(array) for name, array in {**feeds(0), **caches()}.items()}
        self.inputs, self.cache = values, [values["pk"], values["pv"]]
        for name, value in values.items():
            if name == "all":
                continue
            self.binding.bind_ortvalue_input(name, value)
        for name, value in zip(("nk", "nv"), self.cache):
            self.binding.bind_ortvalue_output(name, value)
        self.binding.bind_output("y", "cuda")

    @staticmethod
    def _value(array: Array) -> bascule.OrtValue:
        return bascule.OrtValue.ortvalue_from_numpy(array, "cuda", 0)

    def step(self, number: int) -> list[Array]:
        given = feeds(number)
        self.inputs["x"].update_inplace(given["x"])
        self.inputs["last"].update_inplace(given["last"])
        self.binding.bind_cpu_input("all", given["all"])
        self.session.run_with_iobinding(self.binding)
        y = self.binding.get_outputs()[-1].numpy()
        return [y, *(each.numpy() for each in self.cache)]


def close(found: list[Array], wanted: list[Array]) -> None:
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got.astype("float32"), want, 2e-2, 2e-2)


def test_no_node_of_a_layer_runs_on_the_cpu() -> None:
    rows = EmulatedSession(layer().SerializeToString()).explain().rows
    kernels = [row.kernel for row in rows]
    assert all(kernel.startswith(("cuda.", "host")) for kernel in kernels), kernels
    names = [row.op_type for row in rows]
    assert names.count("ProjectNBits") == 4
    assert names.count("CacheRows") == 1
    assert not {"MatMulNBits", "RotaryEmbedding", "UpdateCache", "SkipRMSNormalization"} & {*names}


def test_steps_at_changing_positions_are_one_graph() -> None:
    model, device = Bound(), emulated_device()
    wanted = expected(6)
    before, started = [], []
    for step in range(6):
        count = device.replays if isinstance(device, EmulatedDevice) else 0
        close(model.step(step), wanted[step])
        if isinstance(device, EmulatedDevice):
            before.append(device.replays - count)
        (part,) = model.session._program._graph._parts
        assert isinstance(part, Segment)
        started.append(len(part._plans))
    assert started == [1] * 6
    if isinstance(device, EmulatedDevice):
        assert before[1:] == [1] * 5


def test_a_cache_that_is_bound_twice_is_written_in_place() -> None:
    model, device = Bound(), emulated_device()
    for step in range(3):
        model.step(step)
    if not isinstance(device, EmulatedDevice):
        return
    (part,) = model.session._program._graph._parts
    assert isinstance(part, Segment)
    (plan,) = part._plans.values()
    copied: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctypes.memmove", lambda to, at, count: copied.append(count) or to)
        for recording in plan.recordings.values():
            assert recording.graph is not None
            recording.graph.launch()
    assert max(copied, default=0) < np.prod(CACHE) * 2
    assert any("pk" in binding for binding in model.binding._inputs)


def test_a_cache_that_is_not_bound_is_left_alone() -> None:
    session, wanted = EmulatedSession(layer().SerializeToString()), expected(1)[0]
    given = {**caches(), **feeds(0)}
    for _ in range(3):
        close(session.run(None, given), wanted)
        for name, array in caches().items():
            np.testing.assert_array_equal(given[name], array)


def test_several_new_rows() -> None:
    session, wanted = EmulatedSession(layer().SerializeToString()), expected(1, rows=3)[0]
    close(session.run(None, {**caches(), **feeds(0, rows=3)}), wanted)


def test_a_cache_grows_to_the_length() -> None:
    given = feeds(0)
    short = {name: array[:, :, :13] for name, array in caches().items()}
    given["all"] = np.array(20, np.int32)
    session = EmulatedSession(layer().SerializeToString())
    cpu = bascule.InferenceSession(
        layer("float").SerializeToString(), providers=["CPUExecutionProvider"]
    )
    floats = {k: v.astype("float32") for k, v in {**short, "x": given["x"]}.items()}
    wanted = cpu.run(None, {**given, **floats})
    for _ in range(2):
        found = session.run(None, {**short, **given})
        assert found[1].shape == (BATCH, KV_HEADS, 20, SIZE)
        close(found, wanted)


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("start", [0, 3, 6])
def test_a_scatter_into_a_bound_cache(mode: str, start: int) -> None:
    cache = np.random.default_rng(1).standard_normal((2, 3, 7, 4), np.float32)
    rows = np.random.default_rng(2).standard_normal((2, 3, 1, 4), np.float32)
    starts = np.array([start, 1], np.int64)
    attributes = {"axis": -2, "mode": mode}
    (wanted,) = run_node("TensorScatter", [cache, rows, starts], attributes)
    text = f"""<ir_version: 10, opset_import: ["" : 24]>
        g (float[2,3,7,4] p, float[2,3,1,4] r, int64[2] at) => (float[2,3,7,4] n)
        {{ n = TensorScatter<axis = -2, mode = "{mode}">(p, r, at) }}"""
    session = EmulatedSession(onnx.parser.parse_model(text).SerializeToString())
    binding = session.io_binding()
    kept = bascule.OrtValue.ortvalue_from_numpy(cache, "cuda", 0)
    binding.bind_ortvalue_input("p", kept)
    binding.bind_cpu_input("r", rows)
    binding.bind_cpu_input("at", starts)
    binding.bind_ortvalue_output("n", kept)
    for _ in range(4):
        session.run_with_iobinding(binding)
        np.testing.assert_array_equal(kept.numpy(), wanted)
