# SPDX-License-Identifier: Apache-2.0
"""The ONNX backend interface, beside onnxruntime's."""

from __future__ import annotations

import subprocess
import sys
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bascule.backend
from bascule.backend.backend import OnnxRuntimeBackend
from bascule.backend.backend_rep import OnnxRuntimeBackendRep
from tests.api.models import linear

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def _newest() -> Any:
    proto = linear()
    proto.opset_import[0].version = 999
    return proto


def _result(backend: Any, call: Callable[[Any], Any]) -> Any:
    """What a call gives on one of the two backends, or the type of what it raises."""
    try:
        return call(backend)
    except (Exception, unittest.SkipTest) as error:
        return type(error).__name__


CALLS: dict[str, Callable[[Any], Any]] = {
    "prepare: bytes": lambda b: b.prepare(linear().SerializeToString()).run([X]),
    "prepare: ModelProto": lambda b: b.prepare(linear()).run([X]),
    "prepare: one array": lambda b: b.prepare(linear(), "CPU").run(X),
    "prepare: a rep": lambda b: b.prepare(b.prepare(linear())).run([X]),
    "prepare: an option": lambda b: b.prepare(linear(), intra_op_num_threads=1).run([X]),
    "prepare: an unknown option": lambda b: b.prepare(linear(), colour="red").run([X]),
    "prepare: an option that writes": lambda b: b.prepare(linear(), enable_profiling=True),
    "prepare: a device of another build": lambda b: b.prepare(linear(), "TPU"),
    "prepare: an unreleased opset": lambda b: b.prepare(_newest()),
    "run: an option": lambda b: b.prepare(linear()).run([X], logid="run"),
    "run: an option not permitted": lambda b: b.prepare(linear()).run([X], terminate=True),
    "run": lambda b: b.run(linear(), [X]),
    "supports_device: CPU": lambda b: b.supports_device("CPU"),
    "supports_device: TPU": lambda b: b.supports_device("TPU"),
    "is_compatible": lambda b: b.is_compatible(linear()),
    "is_compatible: TPU": lambda b: b.is_compatible(linear(), "TPU"),
}


def test_a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bascule.providers.names._has_gpu", lambda: True)
    assert bascule.get_device() == "GPU"
    assert all(bascule.backend.supports_device(device) for device in ("CPU", "GPU", "CUDA"))
    rep = bascule.backend.prepare(linear(), "CPU")
    assert rep._session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("name", CALLS)
def test_same_as_onnxruntime(name: str) -> None:
    reference = pytest.importorskip("onnxruntime.backend")
    ours, theirs = (_result(b, CALLS[name]) for b in (bascule.backend, reference))
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for mine, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-6)
    else:
        assert ours == theirs


def test_path_and_session(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear().SerializeToString())
    session = bascule.InferenceSession(path)
    expected = session.run(None, {"x": X})
    for source in (str(path), path, session):
        prepared = bascule.backend.prepare(source)
        assert isinstance(prepared, OnnxRuntimeBackendRep)
        np.testing.assert_array_equal(prepared.run([X])[0], expected[0])


def test_wrong_number_of_inputs() -> None:
    with pytest.raises(RuntimeError, match="Model expect 1 inputs"):
        bascule.backend.prepare(linear()).run([X, X])


def test_run_node() -> None:
    with pytest.raises(NotImplementedError):
        OnnxRuntimeBackend.run_node(None, [X])


def test_under_the_name_of_onnxruntime() -> None:
    """Submodules imported through the other name hold the same classes."""
    code = """
import sys
import bascule
sys.modules["onnxruntime"] = bascule
import onnxruntime as ort
import onnxruntime.backend
assert onnxruntime.backend.backend.OnnxRuntimeBackend
from onnxruntime.backend.backend import OnnxRuntimeBackend
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, SessionIOBinding
from onnxruntime.capi._pybind_state import OrtDevice
from onnxruntime.capi.onnxruntime_inference_collection import OrtValue
from bascule.backend.backend import OnnxRuntimeBackend as same
assert OnnxRuntimeBackend is same
assert Fail is bascule.errors.Fail and InvalidArgument is bascule.errors.InvalidArgument
assert OrtDevice is bascule.OrtDevice and OrtValue is ort.OrtValue
assert ort.backend.supports_device("CPU")
assert ort.backend.backend_rep.OnnxRuntimeBackendRep
"""
    subprocess.run([sys.executable, "-c", code], check=True)
