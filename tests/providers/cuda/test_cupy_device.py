# SPDX-License-Identifier: Apache-2.0
"""How a GPU is driven through CuPy, without a GPU: the calls that are made, in which order."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bascule import errors
from bascule.providers.cuda import cupy_device
from bascule.providers.cuda.cupy_device import CupyDevice

OURS, EVENT, USERS, GRAPH = 100, 7, 200, 300


class Runtime:
    """Notes what it is asked for."""

    def __init__(self, current: int) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._current = current

    def getDevice(self) -> int:
        return self._current

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))


def device(user_stream: int = 0, busy: bool = False, current: int = 0) -> Any:
    made: Any = object.__new__(CupyDevice)
    made.number = 0
    made._device = "the device's own block"
    made._runtime = Runtime(current)
    made._stream_ptr, made._user_stream = OURS, user_stream
    made._event = SimpleNamespace(ptr=EVENT)
    made._query = lambda stream: 600 if busy else 0
    made._process = os.getpid()
    return made


class Graph:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def launch(self, stream: int = OURS) -> None:
        self._runtime.graphLaunch(GRAPH, stream)


FOLLOWS = [("eventRecord", EVENT, 0), ("streamWaitEvent", OURS, EVENT)]


@pytest.mark.parametrize("busy", [False, True])
def test_a_replay_follows_the_default_stream_if_that_has_work(busy: bool) -> None:
    made = device(busy=busy)
    made.start(Graph(made._runtime))
    made.synchronize()
    launch = [("graphLaunch", GRAPH, OURS), ("streamSynchronize", OURS)]
    assert made._runtime.calls == (FOLLOWS if busy else []) + launch


def test_a_replay_runs_on_the_stream_of_the_user() -> None:
    made = device(USERS)
    made.start(Graph(made._runtime))
    assert made._runtime.calls == [("graphLaunch", GRAPH, USERS)]


def test_other_work_runs_between_that_of_the_user() -> None:
    made = device(USERS)
    made.after_others()
    made.before_others()
    made.synchronize()
    assert made._runtime.calls == [
        ("eventRecord", EVENT, USERS),
        ("streamWaitEvent", OURS, EVENT),
        ("eventRecord", EVENT, OURS),
        ("streamWaitEvent", USERS, EVENT),
        ("streamSynchronize", OURS),
        ("streamSynchronize", USERS),
    ]


def test_the_default_stream_does_not_wait() -> None:
    made = device(busy=True)
    made.before_others()
    assert made._runtime.calls == []


def test_the_device_is_selected_where_another_is_current() -> None:
    assert device(current=1).selected() == "the device's own block"
    with device().selected():
        pass


def test_a_forked_process_is_told_what_to_do() -> None:
    made = device()
    made._process = os.getpid() + 1
    with pytest.raises(errors.EngineError, match=r"before the process was forked.*'spawn'"):
        made.selected()


def test_a_start_that_fails_after_a_fork_says_so() -> None:
    def count() -> int:
        raise RuntimeError("cudaErrorInitializationError: initialization error")

    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count)))
    with pytest.raises(errors.EngineError, match=r"forked from one that had used CUDA.*'spawn'"):
        cupy_device._device_count(cupy)


@pytest.mark.parametrize(
    ("has_driver", "error", "told"),
    [
        (False, "cudaErrorInsufficientDriver: insufficient", "no NVIDIA driver here; install 580"),
        (True, "cudaErrorInsufficientDriver: insufficient", r"older than .*\[cuda12\]"),
        (True, "cudaErrorNoDevice: no CUDA-capable device", "nvidia-smi.*CUDA_VISIBLE_DEVICES"),
    ],
)
def test_no_gpu(has_driver: bool, error: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def count() -> int:
        raise RuntimeError(error)

    monkeypatch.setattr(cupy_device, "has_driver", lambda: has_driver)
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count)))
    with pytest.raises(errors.EngineError, match=rf"finds no GPU \({error}\): .*{told}"):
        cupy_device._device_count(cupy)


def imports(name: str, text: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let `import name` run `text`."""
    (folder / f"{name}.py").write_text(text)
    patch.syspath_prepend(str(folder))
    patch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize(
    ("kind", "message", "told"),
    [
        ("ValueError", "numpy.dtype size changed", "numpy.dtype size changed"),
        (
            "ImportError",
            "\n===\nlong\n\nOriginal error:\n  OSError: nvrtc\n===\n",
            "OSError: nvrtc",
        ),
    ],
)
def test_a_cupy_that_cannot_be_imported(
    kind: str, message: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports("cupy", f"raise {kind}({message!r})", tmp_path, monkeypatch)
    with pytest.raises(errors.EngineError, match=rf"cannot be imported \({told}\); pip install"):
        CupyDevice()


@pytest.mark.parametrize("kind", ["ImportError", "RuntimeError"])
def test_without_cudnn_slower_kernels_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(cupy_device.LOGGER, "warning", lambda text, *of: told.append(text % of))
    imports("cudnn", f"raise {kind}('no libcudnn')", tmp_path, monkeypatch)
    assert cupy_device._cudnn(OURS, True) is None
    assert told == [
        "cuDNN cannot be used, so convolutions run by slower kernels: cuDNN's frontend cannot be "
        f"imported (no libcudnn); {cupy_device._PIP}"
    ]


def test_libraries_are_loaded_once_and_not_before_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[Any] = []
    for name in ("cublas", "cudnn"):
        monkeypatch.setattr(
            cupy_device, f"_{name}", lambda *given, name=name: loaded.append((name, *given))
        )
    made = device()
    made._device, made.capability, made.tf32 = contextlib.nullcontext(), 90, True
    assert loaded == []
    for _ in range(2):
        assert made.cudnn is None
        assert made.cublas is None
    assert loaded == [("cudnn", OURS, True), ("cublas", 90, True)]


class Stream:
    """Notes whether it is being captured."""

    is_captured = False

    def begin_capture(self) -> None:
        self.is_captured = True

    def end_capture(self) -> Any:
        self.is_captured = False
        return None


def test_a_capture_that_is_interrupted_ends() -> None:
    made = device()
    made.stream, made._is_capturing = Stream(), False

    def interrupt() -> None:
        assert made.stream.is_captured and made._is_capturing
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.capture(interrupt)
    assert not made.stream.is_captured and not made._is_capturing


class Function:
    """Notes how it is launched."""

    ptr = 5

    def __init__(self) -> None:
        self.launches: list[Any] = []

    def __call__(self, *arguments: Any, **_: Any) -> None:
        self.launches.append(arguments)


def test_a_launch_says_how_much_shared_memory_it_wants() -> None:
    """Less than 48 KiB, too: a kernel may have some of its own beside it."""
    made, function = device(), Function()
    told: list[Any] = []
    driver = SimpleNamespace(funcSetAttribute=lambda *arguments: told.append(arguments))
    made.xp = SimpleNamespace(cuda=SimpleNamespace(driver=driver))
    made._is_capturing, made.stream = False, None
    for shared in (40 << 10, 0):
        made.launch(function, (1, 1, 1), (32, 1, 1), (), shared)
    assert [arguments[-1] for arguments in told] == [40 << 10]
    assert [arguments[-1] for arguments in function.launches] == [40 << 10, 0]
