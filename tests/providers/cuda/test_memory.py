# SPDX-License-Identifier: Apache-2.0
"""Device memory: it does not grow while sizes change, all of it comes back, and it may run out."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import bascule
from bascule.providers.cuda.memory import Arena
from tests.support import gpu_arrays
from tests.support.cuda_emulation import (
    EmulatedDevice,
    emulated_device,
    missing,
    new_device,
    on_gpu,
)
from tests.support.cuda_session import EmulatedSession

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

Array = np.ndarray[Any, Any]

RUNS = 3400 if on_gpu() else 200
"""Of each model: more than 10,000 in all."""
ZERO = np.zeros((), np.int64)
SHAPES = 40
"""More than a session keeps plans for."""


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def model(text: str, **weights: Array) -> bytes:
    header = '<ir_version: 10, opset_import: ["" : 22]>'
    made = onnx.parser.parse_model(f"{header} {text}")
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    made.graph.initializer.extend(tensors)
    data: bytes = made.SerializeToString()
    return data


def perceptron() -> bytes:
    return model(
        """g (float[N,16] x) => (float[N,8] y) { a = MatMul (x, w) b = Add (a, bias) c = Relu (b)
            d = MatMul (c, v) y = Softmax (d) }""",
        w=normal(1, 16, 32),
        bias=normal(2, 32),
        v=normal(3, 32, 8),
    )


def convolutions() -> bytes:
    return model(
        """g (float[1,3,H,16] x) => (float[1,4,1,1] y) {
            a = Conv <pads = [1,1,1,1]> (x, w) b = Relu (a) c = MaxPool <kernel_shape = [2,2]> (b)
            d = Conv (c, v) y = GlobalAveragePool (d) }""",
        w=normal(1, 8, 3, 3, 3),
        v=normal(2, 4, 8, 2, 2),
    )


def attention() -> bytes:
    """With numbers that are drawn, and that stay, which must not change anything."""
    return model(
        """g (float[N,16] x) => (float[N,16] y) {
            q = MatMul (x, w) k = MatMul (x, v) t = Transpose <perm = [1,0]> (k)
            s = MatMul (q, t) p = Softmax (s) o = MatMul (p, x) r = RandomUniformLike (x)
            n = RandomNormalLike <seed = 3.0> (x) m = Mul (n, r) zero = Sub (m, m)
            y = Add (o, zero) }""",
        w=normal(1, 16, 16),
        v=normal(2, 16, 16),
    )


MODELS: dict[str, tuple[Callable[[], bytes], Callable[[int], Array]]] = {
    "perceptron": (perceptron, lambda size: normal(size, size, 16)),
    "convolutions": (convolutions, lambda size: normal(size, 1, 3, size, 16)),
    "attention": (attention, lambda size: normal(size, size, 16)),
}


def free_elsewhere() -> int:
    """Bytes of the GPU that nobody has; 0 where other processes take some of it."""
    if not on_gpu() or "PYTEST_XDIST_WORKER" in os.environ:
        return 0
    free, _ = emulated_device().xp.cuda.runtime.memGetInfo()
    return int(free)


@pytest.fixture(autouse=True)
def _others_are_gone() -> None:
    gc.collect()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bound", [False, True])
def test_no_growth_while_sizes_change(
    name: str, bound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_arrays.use(monkeypatch)
    data, make = MODELS[name][0](), MODELS[name][1]
    session, device = EmulatedSession(data), emulated_device()
    feeds = [make(4 + size) for size in range(SHAPES)]

    def run(x: Array) -> Array:
        if not bound:
            return session.run(None, {"x": x})[0]
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", bascule.OrtValue.ortvalue_from_numpy(x, "cuda", 0))
        binding.bind_output("y", "cuda")
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]

    def level() -> tuple[int, int]:
        """What is in use when the plans there are for the last shapes, and new."""
        for x in (*feeds, *feeds):
            run(x)
            run(x)
        return device.used, free_elsewhere()

    level()
    used, free = level()
    expected = [run(x) for x in feeds]
    order = np.random.default_rng(5)
    for number in order.integers(SHAPES, size=RUNS // 2):
        np.testing.assert_array_equal(run(feeds[number]), expected[number])
    after, free_after = level()
    assert after == used
    assert free_after >= free - (32 << 20)  # the driver gives pages of megabytes


def test_shapes_that_never_come_back_leave_nothing() -> None:
    session, device = EmulatedSession(attention()), emulated_device()

    def level() -> int:
        for size in range(2, 2 + SHAPES):
            session.run(None, {"x": normal(size, size, 16)})
        used: int = device.used
        return used

    last = 1000 if on_gpu() else 100
    session.run(None, {"x": normal(0, last, 16)})  # the arena is as large as it gets
    session.run(None, {"x": normal(0, last, 16)})
    before = level()
    for size in range(2 + SHAPES, last):
        session.run(None, {"x": normal(size, size, 16)})
    assert level() == before


def test_small_shapes_before_large_ones_keep_one_arena() -> None:
    session, device = EmulatedSession(MODELS["convolutions"][0]()), emulated_device()
    make = MODELS["convolutions"][1]

    def after(sizes: Sequence[int]) -> int:
        for size in (*sizes, *sizes):
            for _ in range(3):
                session.run(None, {"x": make(size)})
        used: int = device.used
        return used

    sizes = range(20, 120, 5)
    start = device.used
    growing = after(sizes) - start
    session = EmulatedSession(MODELS["convolutions"][0]())
    start = device.used
    assert after(sizes[::-1]) - start == growing


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the garbage collector: what is part of a cycle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_sessions_give_everything_back(no_collector: None) -> None:
    device = emulated_device()
    before = device.used
    for number in range(50):
        name = sorted(MODELS)[number % 3]
        data, make = MODELS[name][0](), MODELS[name][1]
        session = EmulatedSession(data)
        for _ in range(3):
            session.run(None, {"x": make(9)})
        del session
    assert device.used == before


def test_programs_that_are_dropped_give_their_weights_back(no_collector: None) -> None:
    names = "abcdefgh"  # more than programs are kept for
    text = f"g (float[N,16] x) => ({', '.join(f'float[N,16] {name}' for name in names)}) {{"
    text += " ".join(f"{name} = MatMul (x, weight_{name})" for name in names) + "}"
    weights = {f"weight_{name}": normal(n, 16, 16) for n, name in enumerate(names)}
    session, device = EmulatedSession(model(text, **weights)), emulated_device()
    options = bascule.RunOptions()
    options.only_execute_path_to_fetches = True
    used: set[int] = set()
    for run in range(3):
        for name in names:
            x = normal(run, 3, 16)
            result = session.run([name], {"x": x}, options)[0]
            np.testing.assert_allclose(result, x @ weights[f"weight_{name}"], 1e-4, 1e-5)
        used.add(device.used)
    assert len(used) == 1


def test_sessions_of_one_process_leave_nothing_to_the_driver() -> None:
    """Each has a stream, a pool, handles of libraries and modules of its own."""
    if not free_elsewhere():
        pytest.skip("needs a GPU that no other process uses")

    def run() -> None:
        for name in MODELS:
            data, make = MODELS[name][0](), MODELS[name][1]
            providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
            session = bascule.InferenceSession(data, providers=providers)
            for size in (9, 30, 9, 9):
                session.run(None, {"x": make(size)})

    for _ in range(3):
        run()
    free = free_elsewhere()
    for _ in range(17):
        run()
    assert free_elsewhere() >= free - (32 << 20)


@pytest.mark.parametrize("way", ["arrays", "values", "binding"])
def test_memory_is_given_back_after_a_run_that_says_so(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_arrays.use(monkeypatch)
    session, device = EmulatedSession(perceptron()), emulated_device()
    options = bascule.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0;gpu:0")

    def run(rows: int, options: Any = None) -> None:
        x = normal(rows, rows, 16)
        value = bascule.OrtValue.ortvalue_from_numpy(x, "cuda", 0)
        if way == "arrays":
            session.run(None, {"x": x}, options)
        elif way == "values":
            session.run_with_ort_values(None, {"x": value}, options)
        else:
            binding = session.io_binding()
            binding.bind_ortvalue_input("x", value)
            binding.bind_output("y", "cuda")
            session.run_with_iobinding(binding, options)

    run(1, options)
    weights = device.used
    for rows in (20, 40):
        for _ in range(3):
            run(rows)
    assert device.used > weights
    run(30, options)
    assert device.used == weights
    run(30)


def limited(data: bytes, limit: int) -> EmulatedSession:
    class Limited(EmulatedSession):
        device = new_device(limit)

    return Limited(data)


def test_too_little_memory_for_a_node() -> None:
    data = model("""g (float[N,16] x) => (float[N,N] y) { t = Transpose <perm = [1,0]> (x)
        y = MatMul (x, t) }""")
    session = limited(data, 64 << 20)
    small, large = normal(1, 64, 16), normal(2, 5000, 16)
    for _ in range(3):
        expected = session.run(None, {"x": small})[0]
        message = r"MatMul node .* \[5000, 16\].*: out of device memory: .*100,000,"
        with pytest.raises(bascule.errors.Fail, match=message):
            session.run(None, {"x": large})
        np.testing.assert_array_equal(session.run(None, {"x": small})[0], expected)


def test_too_little_memory_for_an_input() -> None:
    session = limited(model("g (float[N] x) => (float y) { y = ReduceMax (x) }"), 1 << 20)
    for _ in range(3):
        with pytest.raises(bascule.errors.Fail, match=r"input of shape \[400000\].*memory"):
            session.run(None, {"x": normal(1, 400000)})
        assert session.run(None, {"x": np.float32([1, 2])})[0] == 2


def test_too_little_memory_for_a_graph() -> None:
    """Without room for a layout of its own a run goes on by hand."""
    data = model("g (float[N] x) => (float[N] y) { a = Exp (x) y = CumSum (a, zero) }", zero=ZERO)
    size = 1 << 18  # a megabyte
    session = limited(data, 7 << 19)
    x = normal(1, size)
    expected = session.run(None, {"x": x})[0]
    for _ in range(3):
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)
    small = normal(2, 9)
    for _ in range(3):
        np.testing.assert_allclose(session.run(None, {"x": small})[0], np.exp(small).cumsum(), 1e-5)


def test_what_other_shapes_keep_makes_room() -> None:
    data = model(
        "g (float[N] x) => (float[N] y) { a = Exp (x) b = CumSum (a, zero) y = Neg (b) }", zero=ZERO
    )
    session = limited(data, 3 << 20)
    for size in (1 << 16, 3 << 16, 2 << 16, 3 << 16):
        x = normal(size, size)
        runs = [session.run(None, {"x": x})[0] for _ in range(3)]
        np.testing.assert_allclose(runs[0][-100:], -np.exp(x).cumsum(dtype="float64")[-100:], 1e-4)
        np.testing.assert_array_equal(runs[0], runs[1])
        np.testing.assert_array_equal(runs[0], runs[2])


def test_what_other_shapes_keep_makes_room_for_results(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_arrays.use(monkeypatch)
    data = model("""g (float[N] x) => (float[N] y, float[N] z) {
        a = Exp (x) y = Neg (a) z = Abs (y) }""")
    session = limited(data, 15 << 19)
    for _ in range(3):
        session.run(None, {"x": normal(1, 3 << 17)})
    x = normal(2, 1 << 18)
    for _ in range(3):
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y", "cuda")
        binding.bind_output("z", "cuda")
        session.run_with_iobinding(binding)
        for value, factor in zip(binding.get_outputs(), (-1, 1)):
            np.testing.assert_allclose(value.numpy(), factor * np.exp(x), 1e-5)
        del binding, value


@pytest.mark.host
def test_an_arena_grows_while_a_program_is_compiled() -> None:
    class Compiling:
        """While it moves out, a tenant comes, as from another thread."""

        def __init__(self) -> None:
            self.others: list[Compiling] = []

        def move_out(self) -> None:
            self.others.append(Compiling())
            arena.let(self.others[-1])

        forget = move_out

    arena, tenants = Arena(EmulatedDevice()), [Compiling(), Compiling()]
    for tenant in tenants:
        arena.let(tenant)
    arena.block(1)
    arena.block(2)
    arena.clear()
    assert [len(tenant.others) for tenant in tenants] == [2, 2]


def test_bound_graphs_of_small_shapes_outlive_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_arrays.use(monkeypatch)
    session = EmulatedSession(attention())

    def bind(rows: int) -> tuple[Any, Array]:
        x = normal(rows, rows, 16)
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", bascule.OrtValue.ortvalue_from_numpy(x, "cuda", 0))
        binding.bind_output("y", "cuda")
        return binding, session.run(None, {"x": x})[0]

    small, expected = bind(5)
    for rows in (20, 40, 80):
        for _ in range(3):
            session.run_with_iobinding(small)
            np.testing.assert_array_equal(small.copy_outputs_to_cpu()[0], expected)
        large, result = bind(rows)
        for _ in range(3):
            session.run_with_iobinding(large)
            np.testing.assert_array_equal(large.copy_outputs_to_cpu()[0], result)
