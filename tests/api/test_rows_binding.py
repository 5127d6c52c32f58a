# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's Python interface, row by row: IOBinding and the CUDA provider's options."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.api.models import FLOAT, linear, model, scaled, tensor
from tests.api.rows import Rows

row = Rows({})
CPU = "CPUExecutionProvider"
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def session(ort: Any, proto: Any = None) -> Any:
    return ort.InferenceSession((proto or linear()).SerializeToString(), providers=[CPU])


def expected(ort: Any) -> list[Any]:
    return list(session(ort).run(None, {"x": X}))


@row("IOBinding.bind_cpu_input", "IOBinding.copy_outputs_to_cpu", "session.io_binding")
def _(ort: Any) -> None:
    made = session(ort)
    binding = made.io_binding()
    array = X.copy()
    binding.bind_cpu_input("x", array)
    del array
    gc.collect()
    binding.bind_output("y")
    binding.bind_output("s")
    made.run_with_iobinding(binding)
    for found, want in zip(binding.copy_outputs_to_cpu(), expected(ort), strict=True):
        np.testing.assert_allclose(found, want)
    for wrong in (X.tolist(), 3):
        with pytest.raises(RuntimeError):
            binding.bind_cpu_input("x", wrong)
    with pytest.raises(RuntimeError, match="Failed to find NodeArg with name"):
        binding.bind_cpu_input("nowhere", X)
    binding.bind_cpu_input("x", X.astype(np.float64))  # judged at the run
    with pytest.raises(RuntimeError, match="Unexpected input data type"):
        made.run_with_iobinding(binding)


@row("IOBinding.bind_input")
def _(ort: Any) -> None:
    for kind in (np.float32, 1):
        made = session(ort)
        binding = made.io_binding()
        array = X.copy()
        binding.bind_input("x", "cpu", 0, kind, array.shape, array.ctypes.data)
        binding.bind_output("y")
        made.run_with_iobinding(binding)
        first = binding.copy_outputs_to_cpu()[0].copy()
        array *= 2
        made.run_with_iobinding(binding)
        np.testing.assert_allclose(first, expected(ort)[0])
        want = made.run(["y"], {"x": X * 2})[0]
        np.testing.assert_allclose(binding.copy_outputs_to_cpu()[0], want)


@row("IOBinding.bind_ortvalue_input", "IOBinding.bind_ortvalue_output", "IOBinding.get_outputs")
def _(ort: Any) -> None:
    made = session(ort)
    binding = made.io_binding()
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(X))
    target = ort.OrtValue.ortvalue_from_shape_and_type([2, 2], np.float32)
    binding.bind_output("s")
    binding.bind_ortvalue_output("y", target)
    made.run_with_iobinding(binding)
    np.testing.assert_allclose(target.numpy(), expected(ort)[0])
    first, second = binding.get_outputs()
    np.testing.assert_allclose(first.numpy(), expected(ort)[1])
    assert second.data_ptr() == target.data_ptr()
    with pytest.raises(RuntimeError, match="Failed to find"):
        binding.bind_ortvalue_input("nowhere", target)


@row("IOBinding.bind_output")
def _(ort: Any) -> None:
    made = session(ort)
    binding = made.io_binding()
    binding.bind_cpu_input("x", X)
    target = np.zeros((2, 2), np.float32)
    binding.bind_output("y", "cpu", 0, np.float32, [2, 2], target.ctypes.data)
    made.run_with_iobinding(binding)
    np.testing.assert_allclose(target, expected(ort)[0])
    with pytest.raises(ValueError, match="`element_type` and `shape` are to be provided"):
        binding.bind_output("y", "cpu", 0, None, None, target.ctypes.data)
    binding.clear_binding_outputs()
    for count in (2, 5, 1):
        binding.bind_output("y")
        binding.bind_cpu_input("x", np.ones((count, 3), np.float32))
        made.run_with_iobinding(binding)
        assert binding.copy_outputs_to_cpu()[0].shape == (count, 2)
    small = np.zeros((1, 2), np.float32)
    binding.bind_cpu_input("x", X)
    binding.bind_output("y", "cpu", 0, np.float32, [1, 2], small.ctypes.data)
    with pytest.raises(RuntimeError, match=r"(?i)expected"):
        made.run_with_iobinding(binding)


@row("IOBinding.bind_output dynamic shapes", only=True)
def _(ort: Any) -> None:
    made = session(ort)
    binding = made.io_binding()
    binding.bind_output("y")  # memory of its own at every run: sizes may change
    for count in (2, 5, 1):
        binding.bind_cpu_input("x", np.ones((count, 3), np.float32))
        made.run_with_iobinding(binding)
        assert binding.copy_outputs_to_cpu()[0].shape == (count, 2)


@row("IOBinding.bind_output unknown name")
def _(ort: Any) -> None:
    made = session(ort)
    binding = made.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_output("nowhere")
    with pytest.raises(RuntimeError, match="Invalid output name"):
        made.run_with_iobinding(binding)


@row("IOBinding before the first run", only=True)
def _(ort: Any) -> None:
    binding = session(ort).io_binding()
    assert binding.copy_outputs_to_cpu() == []
    binding.bind_output("y")
    with pytest.raises(RuntimeError, match="no run"):
        binding.copy_outputs_to_cpu()


@row(
    *("IOBinding.clear_binding_inputs", "IOBinding.clear_binding_outputs"),
    *("IOBinding.synchronize_inputs", "IOBinding.synchronize_outputs"),
    "IOBinding.get_outputs_as_ortvaluevector",
)
def _(ort: Any) -> None:
    made = session(ort)
    binding = made.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_output("y")
    binding.synchronize_inputs()
    made.run_with_iobinding(binding)
    binding.synchronize_outputs()
    vector = binding.get_outputs_as_ortvaluevector()
    assert len(vector) == 1
    np.testing.assert_allclose(vector[0].numpy(), expected(ort)[0])
    binding.clear_binding_outputs()
    with pytest.raises(RuntimeError, match="At least one output should be requested"):
        made.run_with_iobinding(binding)
    binding.bind_output("y")
    binding.clear_binding_inputs()
    with pytest.raises(RuntimeError, match=r"(?i)input"):
        made.run_with_iobinding(binding)


@row("IOBinding.copy_outputs_to_cpu copies")
def _(ort: Any) -> None:
    made = session(ort)
    binding = made.io_binding()
    binding.bind_cpu_input("x", X)
    target = np.zeros((2, 2), np.float32)
    binding.bind_output("y", "cpu", 0, np.float32, [2, 2], target.ctypes.data)
    binding.bind_output("s")
    made.run_with_iobinding(binding)
    first = binding.copy_outputs_to_cpu()
    binding.bind_cpu_input("x", X * 2)
    made.run_with_iobinding(binding)  # into the same memory
    for found, want in zip(first, expected(ort), strict=True):
        np.testing.assert_allclose(found, want)
    binding.copy_outputs_to_cpu()[1][:] = np.nan
    want = made.run(["s"], {"x": X * 2})[0]
    np.testing.assert_allclose(binding.get_outputs()[1].numpy(), want)
    np.testing.assert_allclose(binding.copy_outputs_to_cpu()[1], want)


@row("IOBinding of a sequence")
def _(ort: Any) -> None:
    sequence = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    node = helper.make_node("SequenceConstruct", ["x", "x"], ["y"])
    made = session(ort, model([node], [tensor("x")], [sequence]))
    binding = made.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_output("y")
    made.run_with_iobinding(binding)
    (found,) = binding.copy_outputs_to_cpu()
    assert isinstance(found, list)
    np.testing.assert_array_equal(found, [X, X])


@row("IOBinding after clear_binding_outputs")
def _(ort: Any) -> None:
    made = session(ort)
    binding = made.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_output("y")
    made.run_with_iobinding(binding)
    binding.clear_binding_outputs()
    assert binding.get_outputs() == []
    assert binding.copy_outputs_to_cpu() == []


@row("IOBinding of memory that cannot be")
def _(ort: Any) -> None:
    binding = session(ort).io_binding()
    for kind, shape in ((np.float32, [-1, 3]), (np.str_, [2, 3]), (TensorProto.STRING, [2, 3])):
        with pytest.raises(RuntimeError):
            binding.bind_input("x", "cpu", 0, kind, shape, X.ctypes.data)
    binding.bind_input("x", "cpu", 0, np.float32, [0, 3], 0)  # nothing lies there


@row("IOBinding of the address 0", only=True)
def _(ort: Any) -> None:
    binding = session(ort).io_binding()
    with pytest.raises(RuntimeError, match="address is 0"):
        binding.bind_input("x", "cpu", 0, np.float32, [2, 3], 0)
    with pytest.raises(RuntimeError, match="address is 0"):
        binding.bind_output("y", "cpu", 0, np.float32, [2, 2], 0)


@row("IOBinding errors of the run")
def _(ort: Any) -> None:
    made = session(ort)
    binding = made.io_binding()
    binding.bind_cpu_input("x", np.zeros((2, 4), np.float32))
    binding.bind_output("y")
    text = r"Error in execution: Got invalid dimensions"
    with pytest.raises(RuntimeError, match=text) as found:
        made.run_with_iobinding(binding)
    assert type(found.value) is RuntimeError
    binding.bind_cpu_input("x", X)
    loud, shrinking = ort.RunOptions(), ort.RunOptions()
    loud.log_severity_level = 9
    shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "abacus")
    for run in (loud, shrinking):
        with pytest.raises(RuntimeError, match=r"Error in execution: "):
            made.run_with_iobinding(binding, run)
    with pytest.raises((TypeError, AttributeError)):
        made.run_with_iobinding(binding, "options")
    with pytest.raises(ValueError, match="must be used with the session that created it"):
        session(ort).run_with_iobinding(binding)


@row("IOBinding of a default", only=True)
def _(ort: Any) -> None:
    made = session(ort, scaled())
    binding = made.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_output("y")
    made.run_with_iobinding(binding)
    np.testing.assert_allclose(binding.copy_outputs_to_cpu()[0], X * 2)
    binding.bind_cpu_input("scale", np.array([3], np.float32))
    made.run_with_iobinding(binding)
    np.testing.assert_allclose(binding.copy_outputs_to_cpu()[0], X * 3)


@row("SessionIOBinding")
def _(ort: Any) -> None:
    raw = importlib.import_module(f"{ort.__name__}.capi._pybind_state")
    made = session(ort)
    cpu = raw.OrtDevice(raw.OrtDevice.cpu(), raw.OrtDevice.default_memory(), 0)
    binding = raw.SessionIOBinding(made._sess)
    target = np.zeros((2, 2), np.float32)
    binding.bind_input("x", cpu, np.float32, X.shape, X.ctypes.data)
    binding.bind_output("y", cpu, np.float32, [2, 2], target.ctypes.data)
    binding.bind_output("s", cpu)
    made._sess.run_with_iobinding(binding, None)
    np.testing.assert_allclose(target, expected(ort)[0])
    assert len(binding.get_outputs()) == 2
    np.testing.assert_allclose(binding.get_outputs()[1].numpy(), expected(ort)[1])
    np.testing.assert_allclose(binding.copy_outputs_to_cpu()[1], expected(ort)[1])
    binding.bind_input("x", X * 2)
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(X)._ortvalue)
    binding.clear_binding_inputs()
    binding.clear_binding_outputs()


@pytest.mark.parametrize(("name", "runtime"), row.parameters())
def test_row(name: str, runtime: str, tmp_path: Path) -> None:
    row.check(name, runtime, tmp_path)
