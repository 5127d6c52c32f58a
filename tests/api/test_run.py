# SPDX-License-Identifier: Apache-2.0
"""run and its relatives: outputs, names, errors, threads, bindings."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule as ort
from bascule import errors
from tests.api.models import FLOAT, endless, identity, linear, model, scaled, session, tensor

X = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)


def test_output_names_keep_order_and_duplicates() -> None:
    made = session(linear())
    y, s = made.run(None, {"x": X})
    for names in (["s", "y", "s"], ("s", "y", "s")):
        results = made.run(names, {"x": X})
        for got, want in zip(results, (s, y, s), strict=True):
            np.testing.assert_array_equal(got, want)
        assert not np.shares_memory(results[0], results[2])
    assert len(made.run([], {"x": X})) == 2
    with pytest.raises(TypeError):
        made.run("y", {"x": X})  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidArgument, match="Invalid output name:m"):
        made.run(["m"], {"x": X})


def test_values_that_are_no_ort_values_are_named() -> None:
    with pytest.raises(AttributeError, match="input 'x' must be an OrtValue here, not ndarray"):
        session(linear()).run_with_ort_values(None, {"x": X})  # type: ignore[dict-item]


def test_errors_tell_of_what_nodes_a_fused_one_is() -> None:
    """The sizes of the product have no names that the model gave them."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], "multiply"),
        helper.make_node("Add", ["product", "z"], ["sum"], "shift"),
        helper.make_node("Relu", ["sum"], ["y"], "act"),
    ]
    shapes = {"x": [None, None], "w": [None, None], "z": ["n", "m"]}
    inputs = [tensor(name, shape=shape) for name, shape in shapes.items()]
    made = session(model(nodes, inputs, [tensor("y", shape=None)]))
    feeds = {"x": X, "w": X.T, "z": np.ones((3, 4), np.float32)}
    with pytest.raises(errors.Fail) as caught:
        made.run(None, feeds)
    told = caught.value.details
    assert told["nodes"] == "shift, act" and told["sizes"] == "n=3, m=4"
    assert told["reads"] == "product float[?,?], z float[n,m]"


def test_outputs_are_fresh_even_where_they_are_inputs_or_constants() -> None:
    constant = helper.make_tensor("c", FLOAT, [2], [1, 2])
    proto = model([], [tensor("x")], [tensor("x"), tensor("c", shape=[2])], [constant])
    made = session(proto)
    x = X.copy()
    first, second = (made.run(None, {"x": x}) for _ in range(2))
    for array in (*first, *second):
        assert array.flags.writeable
    assert not np.shares_memory(first[0], x)
    first[0][...] = 9
    first[1][...] = 9
    np.testing.assert_array_equal(x, X)
    assert second[1].tolist() == [1, 2]
    assert made.run(None, {"x": x})[1].tolist() == [1, 2]


def test_overridable_initializers() -> None:
    made = session(scaled())
    assert [arg.name for arg in made.get_inputs()] == ["x"]
    (scale,) = made.get_overridable_initializers()
    assert (scale.name, scale.type, scale.shape) == ("scale", "tensor(float)", [1])
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], X * 2)
    five = np.array([5], np.float32)
    np.testing.assert_array_equal(made.run(None, {"x": X, "scale": five})[0], X * 5)
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], X * 2)


@pytest.mark.parametrize("shift", range(4))
def test_overridable_initializers_lie_anywhere_in_the_file(shift: int) -> None:
    scale = np.random.default_rng(5).standard_normal((400, 3)).astype(np.float32)
    proto = model(
        [helper.make_node("Mul", ["x", "scale"], ["y"])],
        [tensor("x", shape=[3]), tensor("scale", shape=[400, 3])],
        [tensor("y")],
        [numpy_helper.from_array(scale, "scale")],
    )
    proto.producer_name = "p" * (1 + shift)
    np.testing.assert_array_equal(session(proto).run(None, {"x": X[0]})[0], X[0] * scale)


def test_before_ir_4_initializers_are_constants() -> None:
    proto = scaled()
    proto.ir_version = 3
    proto.opset_import[0].version = 8
    made = session(proto)
    assert made.get_overridable_initializers() == []
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], X * 2)
    with pytest.raises(errors.InvalidArgument, match="Invalid input name: scale"):
        made.run(None, {"x": X, "scale": np.ones(1, np.float32)})


def test_threads_may_share_a_session() -> None:
    made = session(linear())
    expected = {n: made.run(None, {"x": X[:n]}) for n in (1, 2, 4)}
    wrong: list[int] = []

    def work(n: int) -> None:
        for _ in range(50):
            results = made.run(None, {"x": X[:n]})
            if any((a != b).any() for a, b in zip(results, expected[n])):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 4, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_terminate_from_another_thread_stops_a_loop() -> None:
    made = session(endless())
    options = ort.RunOptions()
    caught: list[BaseException] = []

    def work() -> None:
        try:
            made.run(None, {"rounds": np.array(2**60), "x": np.ones(1, np.float32)}, options)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.1)
    options.terminate = True
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert isinstance(caught[0], errors.Fail)
    assert "Exiting due to terminate flag being set to true." in str(caught[0])
    options.terminate = False
    (y,) = made.run(None, {"rounds": np.array(3), "x": np.ones(1, np.float32)}, options)
    assert y.tolist() == [8]


def test_failures_name_the_node() -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"], name="sum")
    made = session(
        model(
            [node], [tensor("a", shape=["n"]), tensor("b", shape=["m"])], [tensor("y", shape=["k"])]
        )
    )
    with pytest.raises(
        errors.Fail,
        match=r"Non-zero status code returned while running Add node\. Name:'sum' Status Message: ",
    ):
        made.run(None, {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)})
    node = helper.make_node("Gather", ["a", "i"], ["y"], name="pick")
    made = session(
        model(
            [node],
            [tensor("a", shape=["n"]), tensor("i", TensorProto.INT64, ["m"])],
            [tensor("y", shape=["m"])],
        )
    )
    with pytest.raises(
        errors.InvalidArgument,
        match=r"(?s)Gather node.*indices element out of data bounds, idx=40 must be within the "
        r"inclusive range \[-6,5\]",
    ):
        made.run(None, {"a": np.ones(6, np.float32), "i": np.array([40])})


def test_run_async() -> None:
    made = session(linear())
    done = threading.Event()
    seen: list[Any] = []

    def callback(results: list[Any], user_data: Any, error: str) -> None:
        seen.append((results, user_data, error))
        done.set()

    made.run_async(["y"], {"x": X}, callback, "mine")
    assert done.wait(30)
    results, user_data, error = seen.pop()
    np.testing.assert_array_equal(results[0], made.run(["y"], {"x": X})[0])
    assert (user_data, error) == ("mine", "")
    done.clear()
    made.run_async(None, {"x": X[0]}, callback, None)
    assert done.wait(30)
    results, _, error = seen.pop()
    assert results == [] and "Invalid rank" in error
    with pytest.raises(ValueError, match="Required inputs"):
        made.run_async(None, {}, callback, None)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    with pytest.raises(errors.InvalidArgument, match="at least one thread for RunAsync"):
        session(linear(), options).run_async(None, {"x": X}, callback, None)


def test_ort_values_in_and_out() -> None:
    made = session(linear())
    (value,) = made.run_with_ort_values(["y"], {"x": ort.OrtValue.ortvalue_from_numpy(X)})
    np.testing.assert_array_equal(value.numpy(), made.run(["y"], {"x": X})[0])
    with pytest.raises(AttributeError):
        made.run_with_ort_values(["y"], {"x": X})  # type: ignore[dict-item]


def test_io_binding() -> None:
    made = session(linear())
    want_y, want_s = made.run(None, {"x": X})
    binding = made.io_binding()
    assert binding.copy_outputs_to_cpu() == []
    binding.bind_cpu_input("x", X)
    with pytest.raises(RuntimeError, match="At least one output should be requested"):
        made.run_with_iobinding(binding)
    binding.bind_output("s")
    with pytest.raises(RuntimeError):
        binding.copy_outputs_to_cpu()
    target = ort.OrtValue.ortvalue_from_shape_and_type([4, 2], np.float32)
    binding.bind_ortvalue_output("y", target)
    made.run_with_iobinding(binding)
    s, y = binding.copy_outputs_to_cpu()
    np.testing.assert_array_equal(s, want_s)
    np.testing.assert_array_equal(y, want_y)
    np.testing.assert_array_equal(target.numpy(), want_y)
    assert binding.get_outputs()[1].data_ptr() == target.data_ptr()


def test_io_binding_of_foreign_memory() -> None:
    made = session(linear())
    binding = made.io_binding()
    x, y = X.copy(), np.zeros((4, 2), np.float32)
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, TensorProto.FLOAT, y.shape, y.ctypes.data)
    made.run_with_iobinding(binding)
    np.testing.assert_array_equal(y, made.run(["y"], {"x": X})[0])
    x *= 2
    made.run_with_iobinding(binding)
    np.testing.assert_array_equal(y, made.run(["y"], {"x": X * 2})[0])


def test_io_binding_errors() -> None:
    made = session(linear())
    binding = made.io_binding()
    with pytest.raises(RuntimeError, match="Failed to find NodeArg with name"):
        binding.bind_cpu_input("z", X)
    with pytest.raises(RuntimeError):
        binding.bind_cpu_input("x", X.tolist())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="element_type"):
        binding.bind_output("y", buffer_ptr=X.ctypes.data)
    with pytest.raises(ValueError, match="must be used with the session that created it"):
        session(linear()).run_with_iobinding(binding)
    binding.bind_cpu_input("x", X[0])
    binding.bind_output("y")
    with pytest.raises(RuntimeError, match=r"Error in execution: .*Invalid rank"):
        made.run_with_iobinding(binding)
    binding.bind_cpu_input("x", X)
    small = np.zeros((1, 2), np.float32)
    binding.bind_output("y", "cpu", 0, np.float32, small.shape, small.ctypes.data)
    with pytest.raises(RuntimeError, match=r"\[1, 2\].*\[4, 2\]"):
        made.run_with_iobinding(binding)
    binding.clear_binding_outputs()
    binding.bind_output("nothing")
    with pytest.raises(RuntimeError, match="Invalid output name"):
        made.run_with_iobinding(binding)


def test_sessions_are_copied() -> None:
    made = identity(FLOAT)
    for act in (lambda thing: pickle.loads(pickle.dumps(thing)), copy.deepcopy, copy.copy):
        copied = act(made)
        np.testing.assert_array_equal(copied.run(None, {"x": X})[0], X)
        assert isinstance(act(ort.SessionOptions()), ort.SessionOptions)
