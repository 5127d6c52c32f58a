# SPDX-License-Identifier: Apache-2.0
"""Submodules, versions and metadata of ``onnxruntime`` where bascule is in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dropin.alias import ALIASES, run

SUBMODULES = """
import onnxruntime.capi.onnxruntime_pybind11_state as state
import onnxruntime.backend, onnxruntime.datasets
import bascule, numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, OrtDevice
from onnxruntime.capi._pybind_state import SessionIOBinding, OrtValueVector
from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession
from onnxruntime.backend import prepare
from onnxruntime.datasets import get_example
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from onnxruntime.transformers.io_binding_helper import TypeHelper
from bascule import errors

assert state.Fail is Fail is errors.Fail and InferenceSession is bascule.InferenceSession
session = onnxruntime.InferenceSession(get_example("mul_1.onnx"))
try:
    session.run(None, {"X": np.ones(2, np.float32)})
except InvalidArgument as error:
    assert "Invalid rank" in str(error)
else:
    raise AssertionError
x = np.ones((3, 2), np.float32)
assert prepare(get_example("mul_1.onnx")).run(x)[0].sum() == 21
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.onnx_model import OnnxModel

class Reader(CalibrationDataReader):
    def __init__(self):
        self.rows = iter([{"X": x}])
    def get_next(self):
        return next(self.rows, None)

quantize_static(get_example("mul_1.onnx"), "q.onnx", Reader(), activation_type=QuantType.QUInt8)
found = onnxruntime.InferenceSession("q.onnx").run(None, {"X": x})[0]
np.testing.assert_allclose(found, [[1, 2], [3, 4], [5, 6]], atol=0.02)
for kind in (FusionOptions, OnnxModel):
    try:
        kind(None)
    except NotImplementedError as error:
        assert "deliberately left out" in str(error)
    else:
        raise AssertionError(kind)
assert TypeHelper.get_input_type(session, "X") == "tensor(float)"
for name in ("optimizer", "fusion_gelu"):
    try:
        exec(f"from onnxruntime.transformers import {name}")
    except ImportError as error:
        assert "deliberately left out" in str(error)
    else:
        raise AssertionError(name)
"""

METADATA = """
import importlib.metadata, importlib.util, bascule
from onnxruntime import __version__
assert __version__ == onnxruntime.get_version_string() == "1.32.0"
assert importlib.metadata.version("onnxruntime") == __version__
assert importlib.metadata.distribution("onnxruntime").read_text("top_level.txt")
assert importlib.util.find_spec("onnxruntime") is not None
assert importlib.util.find_spec("onnxruntime.capi") is not None
assert importlib.util.find_spec("onnxruntime.nothing") is None
assert importlib.metadata.version("bascule" if False else "numpy")
import onnxruntime.capi.onnxruntime_pybind11_state as state
assert state is bascule.capi.onnxruntime_pybind11_state
assert state.__spec__.name == "bascule.capi.onnxruntime_pybind11_state"
assert onnxruntime.capi is bascule.capi and "OrtValue" in dir(onnxruntime)
assert bascule.__version__ != __version__
"""


@pytest.mark.parametrize("alias", ALIASES)
def test_submodules(alias: str, tmp_path: Path) -> None:
    run(SUBMODULES, alias, str(tmp_path))


def test_versions_and_metadata() -> None:
    run(METADATA, "imported")


TYPES = [
    *("float", "double", "float16", "bfloat16", "bool", "complex64"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("float8e4m3fn", "float8e5m2"),
]


@pytest.mark.parametrize("name", TYPES)
def test_type_texts(name: str) -> None:
    torch = pytest.importorskip("torch")
    from bascule.transformers.io_binding_helper import TypeHelper

    text = f"tensor({name})"
    of_torch = TypeHelper.ort_type_to_torch_type(text)
    of_numpy = TypeHelper.ort_type_to_numpy_type(text)
    assert isinstance(of_torch, torch.dtype)
    assert TypeHelper.torch_type_to_numpy_type(of_torch) is of_numpy
    assert TypeHelper.numpy_type_to_torch_type(of_numpy) is of_torch
    assert TypeHelper.ort_type_to_onnx_type(text) > 0


def test_type_texts_that_there_are_not() -> None:
    from bascule.transformers.io_binding_helper import TypeHelper

    for text in ("tensor(abacus)", "seq(tensor(float))", "float"):
        with pytest.raises(ValueError, match="not found"):
            TypeHelper.ort_type_to_numpy_type(text)
