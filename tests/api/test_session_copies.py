# SPDX-License-Identifier: Apache-2.0
"""Sessions in other places: pickled, copied, awaited, forked, spawned."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import bascule as ort
from bascule import errors
from tests.api.models import endless, linear, scaled, session

X = np.ones((2, 3), np.float32)
BIG = np.random.default_rng(3).standard_normal((20000, 3)).astype(np.float32)
FOREVER = {"rounds": np.array(2**60), "x": np.ones(1, np.float32)}
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() here")


def again(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


def same(made: Any, other: Any, feeds: Any = None) -> None:
    feeds = feeds or {"x": X}
    for got, want in zip(made.run(None, feeds), other.run(None, feeds), strict=True):
        np.testing.assert_array_equal(got, want)


def two_threads() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    return session(linear(), options)


# --- pickle and copy


def test_bytes_are_pickled_by_value() -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    options.add_free_dimension_override_by_name("n", 2)
    options.add_initializer("b", ort.OrtValue.ortvalue_from_numpy(np.ones(2, np.float32)))
    made = session(linear(), options, providers=["CPUExecutionProvider"])
    other = again(made)
    same(made, other)
    assert other._model_path is None and other.get_inputs()[0].shape == [2, 3]
    got = other.get_session_options()
    assert got.intra_op_num_threads == 2
    assert got.get_session_config_entry("session.set_denormal_as_zero") == "1"


def test_files_are_pickled_by_reference(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    proto = linear()
    proto.graph.initializer[0].name = "w"
    path.write_bytes(proto.SerializeToString())
    made = ort.InferenceSession(path)
    data = pickle.dumps(made)
    assert proto.graph.initializer[0].SerializeToString() not in data
    same(made, pickle.loads(data))
    path.write_bytes(scaled().SerializeToString())
    with pytest.raises(errors.Fail, match="has changed since the session was pickled"):
        pickle.loads(data)
    with pytest.raises(errors.Fail, match="has changed since the session was made"):
        pickle.dumps(made)
    path.unlink()
    with pytest.raises(errors.NoSuchFile, match="pickled session refers to it"):
        pickle.loads(data)
    same(made, copy.deepcopy(made))


def test_external_data_is_part_of_the_reference(tmp_path: Path) -> None:
    proto = linear()
    weight = proto.graph.initializer[0]
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    (tmp_path / "weights.bin").write_bytes(np.arange(6, dtype=np.float32).tobytes())
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    made = ort.InferenceSession(tmp_path / "model.onnx")
    data = pickle.dumps(made)
    same(made, pickle.loads(data))
    (tmp_path / "weights.bin").write_bytes(np.ones(6, np.float32).tobytes())
    with pytest.raises(errors.Fail, match=r"weights\.bin' has changed"):
        pickle.loads(data)


def test_copies_are_independent() -> None:
    made = two_threads()
    for act in (copy.copy, copy.deepcopy):
        other = act(made)
        same(made, other)
        other.set_providers(["CPUExecutionProvider"])
        assert other._program is not made._program
        assert other.get_session_options() is not made.get_session_options()


def test_options_are_copied() -> None:
    options = ort.SessionOptions()
    options.logid = "mine"
    options.add_provider("CPUExecutionProvider", {})
    options.add_external_initializers_from_files_in_memory(["f"], [b"abc"], [3])
    for act in (again, copy.copy, copy.deepcopy):
        other = act(options)
        assert other.logid == "mine" and other.has_providers()
        assert bytes(other._files["f"]) == b"abc"
        other.logid = "other"
        assert options.logid == "mine"
    run = ort.RunOptions()
    run.logid = "mine"
    run.add_run_config_entry("k", "v")
    run.terminate = True
    for act in (again, copy.copy, copy.deepcopy):
        other_run = act(run)
        assert (other_run.logid, other_run.get_run_config_entry("k")) == ("mine", "v")
        assert other_run.terminate
        other_run.terminate = False
        assert run.terminate


def test_models_are_pickled() -> None:
    model = ort.load(linear())
    for other in (again(model), copy.deepcopy(model)):
        for got, want in zip(other(X), model(X), strict=True):
            np.testing.assert_array_equal(got, want)


def test_addresses_are_not_pickled() -> None:
    made = session(linear())
    made._resolved = [("CUDAExecutionProvider", {"user_compute_stream": "12345"})]
    with pytest.raises(pickle.PicklingError, match="user_compute_stream"):
        pickle.dumps(made)


# --- asyncio


def test_awaited() -> None:
    made = session(linear())

    async def many() -> list[Any]:
        return await asyncio.gather(
            *(made.run_async(["s"], {"x": X * i}) for i in range(50))  # type: ignore[arg-type]
        )

    for _ in range(2):  # each on a loop of its own
        for i, (got,) in enumerate(asyncio.run(many())):
            np.testing.assert_array_equal(got, made.run(["s"], {"x": X * i})[0])


def test_awaited_errors() -> None:
    made = session(linear())

    async def fails(feeds: Any) -> None:
        await made.run_async(None, feeds)  # type: ignore[misc]

    with pytest.raises(ValueError, match="Required inputs"):
        asyncio.run(fails({}))
    with pytest.raises(errors.InvalidArgument, match="Unexpected input data type"):
        asyncio.run(fails({"x": X.astype(np.float64)}))
    with pytest.raises(TypeError, match="timeout"):
        made.run_async(None, {"x": X}, lambda *_: None, timeout=1)


def test_out_of_time() -> None:
    """asyncio.run() waits for the thread, so this ends only if the run was stopped."""
    made = session(endless())
    options = ort.RunOptions()

    async def wait() -> None:
        await made.run_async(None, FOREVER, run_options=options, timeout=0.05)  # type: ignore[misc]

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(wait())
    assert not options.terminate


@pytest.mark.parametrize("by", ["cancel", "terminate"])
def test_cancelled(by: str) -> None:
    made = session(endless())
    options = ort.RunOptions()

    async def wait() -> None:
        task = asyncio.create_task(made.run_async(None, FOREVER, None, None, options))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        if by == "cancel":
            task.cancel()
        else:
            options.terminate = True
        await task

    expected = asyncio.CancelledError if by == "cancel" else errors.Fail
    with pytest.raises(expected):
        asyncio.run(wait())


def test_threads() -> None:
    made = two_threads()
    want = made.run(None, {"x": BIG})
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(20):
            if not all(map(np.array_equal, made.run(None, {"x": BIG}), want)):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- processes

_FORKS = """
import os, sys, threading, warnings
import numpy as np
from tests.api.test_session_copies import BIG, two_threads
warnings.simplefilter("ignore")
made = two_threads()
want = made.run(None, {"x": BIG})
done = False
def keep_busy():
    while not done:
        made.run(None, {"x": BIG})
threads = [threading.Thread(target=keep_busy) for _ in range(2)]
for thread in threads if sys.argv[1] == "busy" else ():
    thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        same = all(map(np.array_equal, made.run(None, {"x": BIG}), want))
        os._exit(0 if same and two_threads().run(None, {"x": BIG}) else 7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
done = True
made.run(None, {"x": BIG})
"""


@posix
@pytest.mark.parametrize("state", ["idle", "busy"])
def test_fork(state: str) -> None:
    """A child computes the same, also when other threads were running at the fork."""
    subprocess.run([sys.executable, "-c", _FORKS, state], check=True, timeout=120)


_ENDLESS = """
import os, signal, sys, threading, time
import numpy as np, onnx.parser
import bascule
made = bascule.InferenceSession(onnx.parser.parse_model(sys.argv[1]).SerializeToString())
feeds = {"x": np.ones((2, 2), np.float32)}
if sys.argv[2] == "exit":
    signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
ended = threading.Event()
def interrupt():
    while not ended.wait(0.3):  # again, if the first comes before the run
        os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    made.run(None, feeds)
except BaseException as error:
    ended.set()
    assert isinstance(error, KeyboardInterrupt if sys.argv[2] == "raise" else SystemExit), error
    options = bascule.RunOptions()
    options.terminate = True  # the session goes on: here, to be stopped
    try:
        made.run(None, feeds, options)
    except bascule.capi.onnxruntime_pybind11_state.Fail:
        print("ended")
"""


@posix
@pytest.mark.parametrize("handler", ["raise", "exit"])
def test_a_signal_ends_an_endless_loop(handler: str) -> None:
    """What the handler raises arrives within the run, at a turn of the Loop, and not behind it."""
    model = """<ir_version: 10, opset_import: ["" : 21]> g (float[2,2] x) => (float[2,2] y) {
        trips = Constant<value = int64 {4611686018427387904}>() on = Constant<value = bool {1}>()
        y = Loop(trips, on, x) <body = b (int64 i, bool k, float[2,2] a)
            => (bool l, float[2,2] c) { l = Identity(k) c = MatMul(a, x) }> }"""
    command = [sys.executable, "-c", _ENDLESS, model, handler]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == "ended\n"


def _sum(made: Any) -> float:
    return float(made.run(["s"], {"x": BIG})[0].sum())


_POOLS = """
import multiprocessing, sys, warnings
from tests.api.test_session_copies import _sum, two_threads
if __name__ == "__main__":
    warnings.simplefilter("ignore")
    made = two_threads()
    want = _sum(made)
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        assert pool.map(_sum, [made] * 4) == [want] * 4
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_pools(method: str, tmp_path: Path) -> None:
    script = tmp_path / "pools.py"
    script.write_text(_POOLS)
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run(
        [sys.executable, str(script), method],
        check=True,
        timeout=120,
        cwd=root,
        env={**os.environ, "PYTHONPATH": path},
    )
