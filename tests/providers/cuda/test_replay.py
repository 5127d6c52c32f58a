# SPDX-License-Identifier: Apache-2.0
"""Runs that come back: graphs bound to the caller's memory, and what must not change by it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

import bascule
from bascule.ir.dtype import DataType
from bascule.providers.cuda.entry import Entry
from bascule.providers.cuda.plan import ANYWHERE, Plan, Recording, tangled
from bascule.providers.cuda.segment import Segment
from bascule.providers.cuda.tensor import Tensor
from tests.support import gpu_arrays
from tests.support.cuda_emulation import emulated_device, missing
from tests.support.cuda_session import EmulatedSession

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def cupy() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        yield gpu_arrays.use(patch)


def session(text: str, options: Any = None, opset: int = 21) -> EmulatedSession:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
    return EmulatedSession(model.SerializeToString(), options)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def on_gpu(array: Array) -> bascule.OrtValue:
    return bascule.OrtValue.ortvalue_from_numpy(array, "cuda", 0)


def segment(model: EmulatedSession) -> Segment:
    """The one part of a model's program."""
    (part,) = model._program._graph._parts
    assert isinstance(part, Segment)
    return part


def plans(model: EmulatedSession) -> list[Plan]:
    return list(segment(model)._plans.values())


def test_a_binding_that_stays_starts_one_graph() -> None:
    model = session("g (float[N] x, float[N] z) => (float[N] y) { a = Exp(x) y = Add(a, z) }")
    x, z, y = on_gpu(normal(0, 5)), on_gpu(normal(1, 5)), on_gpu(normal(2, 5))
    binding = model.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_input("z", z)
    binding.bind_ortvalue_output("y", y)
    for run in range(5):
        first, second = normal(run, 5), normal(run + 10, 5)
        x.update_inplace(first)
        z.update_inplace(second)
        model.run_with_iobinding(binding)
        np.testing.assert_allclose(y.numpy(), np.exp(first) + second, 1e-6)
        assert binding.get_outputs()[0].data_ptr() == y.data_ptr()
        np.testing.assert_array_equal(x.numpy(), first)
    (plan,) = plans(model)
    (recording,) = plan.recordings.values()
    assert not recording.inputs and ANYWHERE not in plan.recordings
    assert binding._kept[0].replay is not None


def test_outputs_without_memory_of_the_caller_outlive_the_next_run() -> None:
    model = session("g (float[N] x) => (float[N] y) { y = Exp(x) }")
    x = on_gpu(normal(0, 5))
    binding = model.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_output("y", "cuda")
    held: list[tuple[Any, Array]] = []
    for run in range(6):
        x.update_inplace(normal(run, 5))
        model.run_with_iobinding(binding)
        held.append((binding.get_outputs()[0]._array, np.exp(normal(run, 5))))
    for value, expected in held:
        np.testing.assert_allclose(value.get(), expected, 1e-6)
    assert len({value.data.ptr for value, _ in held}) == len(held)


@pytest.mark.parametrize("holds_last", [False, True])
def test_memory_of_outputs_that_nobody_holds_is_used_again(holds_last: bool) -> None:
    model = session("g (float[N] x) => (float[N] y) { y = Exp(x) }")
    x = on_gpu(normal(0, 5))
    binding = model.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_output("y", "cuda")
    addresses = []
    last: Any = None
    for run in range(8):
        x.update_inplace(normal(run, 5))
        model.run_with_iobinding(binding)
        outputs = binding.get_outputs()
        np.testing.assert_allclose(outputs[0].numpy(), np.exp(normal(run, 5)), 1e-6)
        addresses.append(outputs[0].data_ptr())
        last = outputs if holds_last else None
        del outputs
    assert len(set(addresses)) == (2 if holds_last else 1)
    assert all(each.replay is not None for each in binding._kept)
    assert last is None or last[0].data_ptr() == addresses[-1]


def test_addresses_that_change_are_copied_and_graphs_stay_few() -> None:
    model = session("g (float[N] x) => (float[N] y) { a = Exp(x) y = Neg(a) }")
    values = [on_gpu(normal(seed, 5)) for seed in range(7)]
    for run in range(60):
        value = values[run * run % 7 if run < 40 else run % 7]
        result = model.run_with_ort_values(None, {"x": value})[0]
        np.testing.assert_allclose(result.numpy(), -np.exp(value.numpy()), 1e-6)
    (plan,) = plans(model)
    assert ANYWHERE in plan.recordings and len(plan.recordings) <= 5
    assert len(plan.seen) <= 16


def test_a_binding_that_changes() -> None:
    model = session("g (float[N] x) => (float[N] y) { y = Exp(x) }")
    binding = model.io_binding()
    binding.bind_output("y", "cuda")
    values = [on_gpu(normal(seed, 3 + seed % 2)) for seed in range(3)]
    for run in range(12):
        value = values[run // 2 % 3]
        binding.bind_ortvalue_input("x", value)
        model.run_with_iobinding(binding)
        np.testing.assert_allclose(binding.copy_outputs_to_cpu()[0], np.exp(value.numpy()), 1e-6)
    binding.bind_output("y")
    model.run_with_iobinding(binding)
    assert isinstance(binding.get_outputs()[0]._array, np.ndarray)
    binding.clear_binding_outputs()
    with pytest.raises(RuntimeError, match="At least one output"):
        model.run_with_iobinding(binding)


# --- memory that overlaps


def bound(model: EmulatedSession, inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
    binding = model.io_binding()
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in outputs.items():
        binding.bind_ortvalue_output(name, value)
    return binding


def test_an_output_in_the_memory_of_an_input() -> None:
    model = session("g (float[N] x) => (float[N] y, float[N] z) { y = Neg(x) z = Exp(x) }")
    x, z = on_gpu(normal(0, 5)), on_gpu(normal(1, 5))
    binding = bound(model, {"x": x}, {"y": x, "z": z})
    for run in range(4):
        first = normal(run, 5)
        x.update_inplace(first)
        model.run_with_iobinding(binding)
        np.testing.assert_array_equal(x.numpy(), -first)
        np.testing.assert_allclose(z.numpy(), np.exp(first), 1e-6)


def test_a_state_that_is_bound_in_place_goes_on_by_itself() -> None:
    model = session("g (float[N] x, float[N] s) => (float[N] t) { a = Exp(x) t = Add(a, s) }")
    x, s = on_gpu(normal(0, 5)), on_gpu(np.zeros(5, np.float32))
    binding = bound(model, {"x": x, "s": s}, {"t": s})
    for run in range(5):
        model.run_with_iobinding(binding)
        np.testing.assert_allclose(s.numpy(), (run + 1) * np.exp(normal(0, 5)), 1e-5)
    (plan,) = plans(model)
    assert not next(iter(plan.recordings.values())).leftover, "an input was copied for nothing"


def test_outputs_that_are_inputs_change_places() -> None:
    model = session("""g (float[2,3] a, float[6] b) => (float[6] p, float[2,3] q)
        <int64[1] flat = {-1}, int64[2] square = {2, 3}> {
        p = Reshape(a, flat) q = Reshape(b, square) }""")
    a, b = on_gpu(normal(0, 2, 3)), on_gpu(normal(1, 6))
    before = a.numpy().reshape(-1), b.numpy().reshape(-1)
    binding = bound(model, {"a": a, "b": b}, {"p": b, "q": a})
    for run in range(5):
        model.run_with_iobinding(binding)
        np.testing.assert_array_equal(a.numpy().reshape(-1), before[(run + 1) % 2])
        np.testing.assert_array_equal(b.numpy().reshape(-1), before[run % 2])


def test_an_output_that_is_an_input_is_read_before_it_is_overwritten() -> None:
    model = session("""g (float[6] x) => (float[6] y, float[2,3] z)
        <int64[2] square = {2, 3}> { y = Neg(x) z = Reshape(x, square) }""")
    x, z = on_gpu(normal(0, 6)), on_gpu(normal(1, 2, 3))
    binding = bound(model, {"x": x}, {"y": x, "z": z})
    for run in range(4):
        first = normal(run, 6)
        x.update_inplace(first)
        model.run_with_iobinding(binding)
        np.testing.assert_array_equal(x.numpy(), -first)
        np.testing.assert_array_equal(z.numpy().reshape(-1), first)


@pytest.mark.parametrize("place", ["cuda", "cpu"])
def test_an_input_that_is_handed_on_is_read_before_it_is_overwritten(place: str) -> None:
    model = session("g (float[N] x) => (float[N] y, float[N] x) { y = Exp(x) }")
    x = on_gpu(normal(0, 6))
    binding = bound(model, {"x": x}, {"y": x})
    binding.bind_output("x", place)
    for run in range(4):
        x.update_inplace(normal(run, 6))
        model.run_with_iobinding(binding)
        np.testing.assert_allclose(x.numpy(), np.exp(normal(run, 6)), 1e-6)
        np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[1], normal(run, 6))


@pytest.mark.parametrize("order", ["r = Reshape(cache, flat) {}", "{} r = Reshape(cache, flat)"])
@pytest.mark.parametrize("old", ["n = Neg(r) old = Reshape(n, square)", "old = Reshape(r, square)"])
def test_a_cache_that_is_read_besides_being_updated(order: str, old: str) -> None:
    update = "new = TensorScatter<axis = 1>(cache, row, start)"
    model = session(
        """g (float[1,4,2] cache, float[1,1,2] row, int64[1] start)
            => (float[1,4,2] new, float[2,4] old) <int64[1] flat = {-1}, int64[2] square = {2, 4}>
            {"""
        + f"{order.format(update)} {old}"
        + "}",
        opset=24,
    )
    cache, row = on_gpu(normal(0, 1, 4, 2)), on_gpu(normal(1, 1, 1, 2))
    start, kept = on_gpu(np.array([0])), on_gpu(normal(2, 2, 4))
    inputs = {"cache": cache, "row": row, "start": start}
    binding = bound(model, inputs, {"new": cache, "old": kept})
    expected = normal(0, 1, 4, 2)
    for run in range(6):
        start.update_inplace(np.array([run % 4]))
        row.update_inplace(normal(run, 1, 1, 2))
        before = expected.copy()
        expected[:, run % 4] = normal(run, 1, 1, 2)[:, 0]
        model.run_with_iobinding(binding)
        np.testing.assert_array_equal(cache.numpy(), expected)
        sign = -1 if "Neg" in old else 1
        np.testing.assert_array_equal(kept.numpy(), sign * before.reshape(2, 4))


def test_a_value_is_updated_by_bytes_of_another_type() -> None:
    value, new = on_gpu(np.zeros((3,), np.float16)), np.arange(6, dtype=np.uint8).reshape(2, 3)
    value.update_inplace(new)
    assert value.numpy().tobytes() == new.tobytes()


def test_two_outputs_in_one_memory() -> None:
    model = session("g (float[N] x) => (float[N] y, float[N] z) { y = Exp(x) z = Neg(y) }")
    x, both = on_gpu(normal(0, 5)), on_gpu(normal(1, 5))
    binding = bound(model, {"x": x}, {"y": both, "z": both})
    for run in range(4):
        x.update_inplace(normal(run, 5))
        model.run_with_iobinding(binding)
        np.testing.assert_allclose(both.numpy(), -np.exp(normal(run, 5)), 1e-6)


def test_an_output_that_is_wanted_twice() -> None:
    model = session("g (float[N] x) => (float[N] y, float[N] z) { y = Exp(x) z = Neg(y) }")
    values = model.run_with_ort_values(["y", "z", "y"], {"x": on_gpu(normal(0, 5))})
    expected = np.exp(normal(0, 5))
    for value, factor in zip(values, (1, -1, 1), strict=True):
        np.testing.assert_allclose(value.numpy(), factor * expected, 1e-6)


def test_one_value_as_two_outputs() -> None:
    model = session("""g (float[6] x) => (float[6] y, float[2,3] z) <int64[2] square = {2, 3}> {
        y = Exp(x) z = Reshape(y, square) }""")
    x = on_gpu(normal(0, 6))
    binding = model.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_output("y", "cuda")
    binding.bind_output("z", "cuda")
    for run in range(4):
        x.update_inplace(normal(run, 6))
        model.run_with_iobinding(binding)
        y, z = binding.get_outputs()
        assert y.data_ptr() != z.data_ptr()
        np.testing.assert_allclose(y.numpy(), np.exp(normal(run, 6)), 1e-6)
        np.testing.assert_array_equal(z.numpy().reshape(-1), y.numpy())
        del y, z


def test_memory_that_is_not_aligned(cupy: Any) -> None:
    model = session("g (float[N] x) => (float[N] y) { a = Exp(x) y = Neg(a) }")
    block, target = on_gpu(normal(0, 64)), on_gpu(normal(1, 64))
    binding = model.io_binding()
    binding.bind_input("x", "cuda", 0, np.float32, [32], block.data_ptr() + 4)
    binding.bind_output("y", "cuda", 0, np.float32, [32], target.data_ptr() + 12)
    for run in range(4):
        block.update_inplace(normal(run, 64))
        model.run_with_iobinding(binding)
        expected = normal(1, 64)
        expected[3:35] = -np.exp(normal(run, 64)[1:33])
        np.testing.assert_allclose(target.numpy(), expected, 1e-6)


def test_memory_that_is_too_small_is_refused_each_time() -> None:
    model = session("g (float[N] x) => (float[N] y) { y = Exp(x) }")
    x, small = on_gpu(normal(0, 5)), on_gpu(normal(1, 4))
    binding = bound(model, {"x": x}, {"y": small})
    for _ in range(4):
        with pytest.raises(RuntimeError, match=r"needs float\[5\], but float\[4\]"):
            model.run_with_iobinding(binding)
    np.testing.assert_array_equal(small.numpy(), normal(1, 4))


def test_which_targets_are_tangled() -> None:
    def at(begin: int, end: int) -> Tensor:
        return Tensor(DataType.UINT8, (end - begin,), begin, None)

    inputs = {0: Entry(device=at(0, 10)), 1: Entry(device=at(2, 4)), 2: Entry(host=np.zeros(3))}
    assert tangled({5: at(10, 20), 6: at(20, 30)}, inputs) == set()
    assert tangled({5: at(9, 20), 6: at(19, 30)}, inputs) == {5, 6}
    assert tangled({5: at(5, 6), 6: at(30, 30)}, inputs) == {5}
    assert tangled({5: at(40, 90), 6: at(50, 60), 7: at(80, 85), 8: at(90, 99)}, {}) == {5, 6, 7}


# --- what must be looked at again


def test_sizes_on_the_device_are_read_each_time() -> None:
    model = session(
        "g (float[6] x, int64[2] shape) => (float[A,B] y) { r = Reshape(x, shape) y = Neg(r) }"
    )
    x, shape = on_gpu(normal(0, 6)), on_gpu(np.array([2, 3]))
    binding = model.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_input("shape", shape)
    binding.bind_output("y", "cuda")
    for run in range(8):
        sizes = [(2, 3), (3, 2)][run // 3 % 2]
        shape.update_inplace(np.array(sizes))
        model.run_with_iobinding(binding)
        np.testing.assert_array_equal(
            binding.copy_outputs_to_cpu()[0], -normal(0, 6).reshape(sizes)
        )


def test_host_inputs_are_read_each_time() -> None:
    model = session("g (float[N] x, float[N] z) => (float[N] y) { y = Add(x, z) }")
    x, z = on_gpu(normal(0, 5)), normal(1, 5)
    binding = model.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_cpu_input("z", z)
    binding.bind_output("y", "cuda")
    for run in range(5):
        z[:] = normal(run, 5)
        model.run_with_iobinding(binding)
        np.testing.assert_allclose(binding.copy_outputs_to_cpu()[0], normal(0, 5) + z, 1e-6)


def test_a_plan_that_was_given_up_is_made_again() -> None:
    model = session("g (float[N] x) => (float[N] y) { y = Exp(x) }")
    x = on_gpu(normal(0, 5))
    binding = model.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_output("y", "cuda")
    for _ in range(3):
        model.run_with_iobinding(binding)
    assert binding._kept[0].replay is not None
    for size in range(6, 40):
        model.run(None, {"x": normal(size, size)})
    assert len(plans(model)) == 32
    for _ in range(3):
        model.run_with_iobinding(binding)
        np.testing.assert_allclose(binding.copy_outputs_to_cpu()[0], np.exp(normal(0, 5)), 1e-6)


def test_parts_of_a_program_write_where_outputs_are_bound() -> None:
    model = session("""g (float[N] x, bool c) => (float[N] y, float[N] w, float[N] z) {
        y = Exp(x) w = If <then_branch = a () => (float[N] t) { t = Neg(x) },
                           else_branch = b () => (float[N] e) { e = Identity(y) }> (c)
        z = Add(w, y) }""")
    x, c = on_gpu(normal(0, 5)), on_gpu(np.array(True))
    y, w, z = (on_gpu(normal(seed, 5)) for seed in (1, 2, 3))
    for targets in ((y, w, z), (x, w, z), (y, x, z), (y, w, x)):
        binding = bound(model, {"x": x, "c": c}, dict(zip("ywz", targets)))
        for run in range(5):
            first, condition = normal(run, 5), run % 2 == 0
            x.update_inplace(first)
            c.update_inplace(np.array(condition))
            model.run_with_iobinding(binding)
            expected = [np.exp(first), -first if condition else np.exp(first)]
            for target, each in zip(targets, [*expected, sum(expected)]):
                np.testing.assert_allclose(target.numpy(), each, 1e-5)


# --- run options, threads, profiles


def test_terminate_stops_a_replay() -> None:
    model = session("g (float[N] x) => (float[N] y) { y = Exp(x) }")
    x, y = on_gpu(normal(0, 5)), on_gpu(normal(1, 5))
    binding = bound(model, {"x": x}, {"y": y})
    options = bascule.RunOptions()
    for _ in range(3):
        model.run_with_iobinding(binding, options)
    y.update_inplace(normal(1, 5))
    options.terminate = True
    with pytest.raises(RuntimeError, match="terminate flag"):
        model.run_with_iobinding(binding, options)
    np.testing.assert_array_equal(y.numpy(), normal(1, 5))
    options.terminate = False
    model.run_with_iobinding(binding, options)
    np.testing.assert_allclose(y.numpy(), np.exp(normal(0, 5)), 1e-6)


def test_a_run_that_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    model = session("g (float[N] x) => (float[N] y) { y = Exp(x) }")
    binding = model.io_binding()
    binding.bind_ortvalue_input("x", on_gpu(normal(0, 5)))
    binding.bind_output("y", "cuda")
    options = bascule.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    waits = []
    device = emulated_device()
    synchronize = device.synchronize
    monkeypatch.setattr(device, "synchronize", lambda: waits.append(synchronize()))
    for _ in range(3):
        model.run_with_iobinding(binding, options)
    assert not waits
    model.run_with_iobinding(binding, options)
    np.testing.assert_allclose(binding.copy_outputs_to_cpu()[0], np.exp(normal(0, 5)), 1e-6)
    assert len(waits) == 1
    binding.synchronize_outputs()
    assert len(waits) == 1
    model.run_with_iobinding(binding)
    assert len(waits) == 2


def test_a_run_that_fails_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    model = session("""g (float[N] x, int64[K] shape) => (float[N] y, float r) {
        y = Exp(x) u = Unique(x) r = Reshape(u, shape) }""")
    waits: list[None] = []
    device = emulated_device()
    synchronize = device.synchronize
    monkeypatch.setattr(device, "synchronize", lambda: waits.append(synchronize()))
    feeds = {"x": on_gpu(normal(0, 5)), "shape": on_gpu(np.array([7]))}
    with pytest.raises(bascule.errors.Fail, match="cannot be reshaped"):
        model.run(None, feeds)
    assert len(waits) == 1
    binding = bound(model, feeds, {"y": on_gpu(normal(1, 5))})
    binding.bind_output("r", "cuda")
    options = bascule.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    with pytest.raises(RuntimeError, match="cannot be reshaped"):
        model.run_with_iobinding(binding, options)
    assert len(waits) == 2


def test_runs_keep_their_place_among_work_on_other_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    model = session("g (float[N] x) => (float[N] y) { y = Exp(x) }")
    x, y = on_gpu(normal(0, 5)), on_gpu(normal(1, 5))
    binding = bound(model, {"x": x}, {"y": y})
    model.run_with_iobinding(binding)
    order: list[str] = []
    device = emulated_device()
    launch = device.launch
    for name in ("after_others", "before_others"):
        monkeypatch.setattr(device, name, lambda name=name: order.append(name))
    monkeypatch.setattr(device, "launch", lambda *given: order.append("launch") or launch(*given))
    # What is fed lies on the host, yet memory may be reused that others were handed.
    model.run(None, {"x": normal(2, 7)})
    assert order == ["after_others", "launch", "before_others"]
    order.clear()
    model.run_with_ort_values(None, {"x": on_gpu(normal(3, 9))})
    assert order == ["after_others", "launch", "before_others"]


def test_two_threads() -> None:
    model = session("g (float[N] x) => (float[N] y) { a = Exp(x) b = Neg(a) y = Exp(b) }")
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            x = on_gpu(normal(seed, 4 + seed % 2))
            binding = model.io_binding()
            binding.bind_ortvalue_input("x", x)
            binding.bind_output("y", "cuda")
            for run in range(20):
                given = normal(100 * seed + run, 4 + seed % 2)
                x.update_inplace(given)
                model.run_with_iobinding(binding)
                result = binding.copy_outputs_to_cpu()[0]
                np.testing.assert_allclose(result, np.exp(-np.exp(given)), 1e-5)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_profile_has_parts_and_nodes(tmp_path: Path) -> None:
    options = bascule.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "trace")
    model = session(
        """g (float[N] x) => (float[N] y, string[K] w) {
        y = Exp(x) s = Cast<to = 8>(y) w = StringNormalizer(s) }""",
        options,
    )
    for run in range(3):
        model.run(None, {"x": normal(run, 4)})
    events = json.loads(Path(model.end_profiling()).read_text())
    parts = [event for event in events if event["cat"] == "Part"]
    segments = [event for event in parts if event["name"] == "segment"]
    assert len(segments) == 3
    assert segments[0]["args"] == {"provider": "CUDAExecutionProvider", "nodes": 1}
    nodes = [event for event in events if event["cat"] == "Node"]
    found = {(event["args"]["op_name"], event["args"]["provider"]) for event in nodes}
    assert found >= {
        ("Exp", "CUDAExecutionProvider"),
        ("StringNormalizer", "CPUExecutionProvider"),
    }
    exp = next(event for event in nodes if event["args"]["op_name"] == "Exp")
    assert exp["args"]["output_type_shape"] == [{"float": [4]}] and exp["dur"] >= 0
    begin = segments[0]["ts"]
    assert begin <= exp["ts"] <= begin + segments[0]["dur"]
    copies = [event for event in events if event["cat"] == "Copy"]
    assert {(event["name"], event["args"]["bytes"]) for event in copies} == {
        ("host to device", 16),
        ("device to host", 16),
    }
    assert all(event["dur"] >= 0 for event in copies)


def test_recordings_that_go_are_told() -> None:
    plan = Plan()
    graphs = [Recording(object(), {}, {}, []) for _ in range(6)]  # type: ignore[arg-type]
    for number, recording in enumerate(graphs):
        plan.keep((number,), recording)
    assert [recording.graph is None for recording in graphs] == [True] * 2 + [False] * 4
    assert plan.patience == 4
    plan.give_up()
    assert all(recording.graph is None for recording in graphs)
