# SPDX-License-Identifier: Apache-2.0
"""bascule.check: everything that is wrong with a model is told at once, and nothing is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule
from bascule import errors
from bascule.cli import main
from bascule.tools.check import ModelCheck, check, inside, machine
from bascule.tools.check.result import ERROR, NOTE, WARNING
from tests.support.own_process import memory_of

DIGITS = Path(bascule.__file__).parent / "examples" / "digits.onnx"


def model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, Any] | None = None,
    inputs: dict[str, Any] | None = None,
    opset: int = 20,
    type_: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    given = inputs if inputs is not None else {"x": ["n", 8]}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, type_, shape) for name, shape in given.items()],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (weights or {}).items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9 if opset < 21 else 10
    )


def product(weight: Any) -> onnx.ModelProto:
    return model([helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], {"w": weight})


def kinds(result: ModelCheck, severity: str | None = None) -> list[str]:
    return [each.kind for each in result.findings if severity is None or each.severity == severity]


def only(result: ModelCheck, kind: str) -> Any:
    (found,) = (each for each in result.findings if each.kind == kind)
    return found


# --- models that can run


def test_a_good_model() -> None:
    result = check(DIGITS, {"N": 20})
    assert result.can_run and kinds(result) == ["sizes"]
    assert result.prediction is not None and result.prediction.optimized
    assert (
        result.prediction.shapes["x" if "x" in result.inputs else next(iter(result.inputs))][0]
        == 20
    )
    assert "It can run." in str(result)
    assert bascule.check is check and bascule.ModelCheck is ModelCheck


def test_what_a_run_takes_grows_with_its_sizes() -> None:
    few, many = check(DIGITS, {"N": 1}).prediction, check(DIGITS, {"N": 64}).prediction
    assert few is not None and many is not None
    assert many.flops == 64 * few.flops
    assert many.weights == few.weights
    assert many.values is not None and few.values is not None and many.values > 20 * few.values
    assert many.seconds > few.seconds >= few.least_seconds > 0
    assert many.memory is not None and many.memory > many.weights + many.values


def test_parts_of_memory_add_up() -> None:
    found = check(DIGITS, {"N": 64}).prediction
    assert found is not None and found.first_run is not None
    parts = found.process + found.weights + found.copies + found.first_run + found.feeds
    assert found.memory == parts


def group(folder: Path, limit: int, used: int) -> None:
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text("anon 5\ninactive_file 100\n")


def test_memory_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable: 900000 kB\nOdd: 1\n")
    assert machine.machine_memory() == machine.MachineMemory(1024000000, 921600000, False)
    (tmp_path / "self" / "cgroup").write_text("0::/outer/inner\n")
    (tmp_path / "groups").mkdir()
    group(tmp_path / "groups" / "outer" / "inner", 500000, 200100)
    (tmp_path / "groups" / "outer" / "memory.max").write_text("max\n")
    assert machine.machine_memory() == machine.MachineMemory(500000, 300000, True)


@pytest.mark.parametrize(
    ("total", "severity", "text"),
    [(1 << 40, NOTE, "1.02 kB are free"), (1 << 20, WARNING, "this process may have 1.05 MB")],
)
def test_more_memory_than_there_is(
    total: int, severity: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = machine.MachineMemory(total, 1 << 10, limited=True)
    monkeypatch.setattr(inside, "machine_memory", lambda: memory)
    found = only(check(DIGITS), "memory")
    assert found.severity == severity and text in found.text


def test_shapes_by_input_and_by_size() -> None:
    proto = product(np.ones((8, 4), np.float32))
    by_size, by_input = check(proto, {"n": 3}).prediction, check(proto, {"x": (3, 8)}).prediction
    assert by_size is not None and by_input is not None
    assert by_size.shapes == by_input.shapes == {"x": [3, 8]}
    assert by_size.flops == by_input.flops == 2 * 3 * 8 * 4


@pytest.mark.parametrize(
    "shapes",
    [{"z": 1}, {"x": (3, 9)}, {"x": (3,)}, {"x": (-3, 8)}, {"n": -1}, {"n": (1, 2)}, {"x": 3}],
)
def test_shapes_that_do_not_fit(shapes: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument, match="shapes: "):
        check(product(np.ones((8, 4), np.float32)), shapes)


def test_sizes_that_depend_on_data() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["i"], name="where"),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    result = check(model(nodes))
    notes = [each for each in result.findings if each.kind == "sizes"]
    assert any("depend on data" in each.text and "where" in each.subjects for each in notes)
    assert result.prediction is not None and result.prediction.values is None
    assert result.prediction.unknown >= 1 and "depend on data" in str(result)


# --- models that cannot


def test_all_nodes_that_cannot_run() -> None:
    stack = 'File "net.py", line 12, in forward\n    y = mystery(x)\n'
    nodes = [
        helper.make_node("Mystery", ["x"], ["a"], name="first"),
        helper.make_node("Mystery", ["a"], ["b"], name="second"),
        helper.make_node("Riddle", ["b"], ["y"], name="third", domain="own"),
    ]
    nodes[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value=stack)
    result = check(model(nodes))
    assert not result.can_run and kinds(result, ERROR) == ["operator", "operator"]
    first, second = result.of(ERROR)
    assert first.subjects == ("first", "second") and second.subjects == ("third",)
    assert first.source == "net.py:12 in forward: y = mystery(x)"
    assert result.prediction is None
    assert "It cannot run: 2 errors." in str(result) and "net.py:12" in str(result)


def test_a_node_without_a_kernel_for_its_type() -> None:
    nodes = [helper.make_node("RandomUniformLike", ["u"], ["y"], name="random")]
    nodes.insert(0, helper.make_node("Cast", ["x"], ["u"], to=TensorProto.UINT16))
    result = check(model(nodes))
    assert not result.can_run and only(result, "operator").subjects == ("random",)
    assert "uint16" in only(result, "operator").text


def test_a_graph_that_contradicts_itself() -> None:
    result = check(product(np.ones((9, 4), np.float32)))
    assert kinds(result, ERROR) == ["model"]
    assert "product" in only(result, "model").text


def test_all_contradictions_of_a_graph() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Concat", ["x", "v"], ["b"], name="second", axis=0),
        helper.make_node("Add", ["x", "i"], ["c"], name="third"),
        helper.make_node("Relu", ["x"], ["d"], name="good"),
        helper.make_node("Sum", ["a", "b", "c", "d"], ["y"], name="last"),
    ]
    nodes[1].metadata_props.add(
        key="pkg.torch.onnx.stack_trace", value='File "net.py", line 12, in forward\n    cat(x)\n'
    )
    weights = {
        "w": np.ones((9, 4), np.float32),
        "v": np.ones((2, 9), np.float32),
        "i": np.ones(8, np.int64),
    }
    result = check(model(nodes, weights))
    found = result.of(ERROR)
    assert {each.subjects for each in found} == {("first",), ("second",), ("third",)}
    assert all(each.kind == "model" for each in found)
    assert [each.source for each in found if "second" in each.subjects] == [
        "net.py:12 in forward: cat(x)"
    ]
    with pytest.raises(errors.Fail, match="third"):
        bascule.InferenceSession(model(nodes, weights).SerializeToString())


def test_arguments_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    for source in ("", b"", 3, None):
        with pytest.raises(errors.InvalidArgument, match="path, bytes or an onnx"):
            check(source)  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidArgument, match=r"Cuda.*there are.*CPUExecutionProvider"):
        check(DIGITS, providers=["Cuda"])
    assert main(["check", str(DIGITS), "--provider", "Curious"]) == 2
    assert "CUDAExecutionProvider" in capsys.readouterr().err
    assert main(["check", ""]) == 2


def test_bytes_that_are_no_model() -> None:
    result = check(b"nothing of this kind")
    assert not result.can_run and kinds(result) == ["model"]
    with pytest.raises(errors.NoSuchFile):
        check("nowhere.onnx")


def external(name: str, location: str, length: int, offset: int = 0) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[8, 4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def test_all_problems_of_external_data(tmp_path: Path) -> None:
    names = ["good", "gone", "lost", "outside", "short", "wrong"]
    nodes = [helper.make_node("MatMul", ["x", name], [f"y_{name}"]) for name in names]
    nodes.append(helper.make_node("Sum", [f"y_{name}" for name in names], ["y"]))
    proto = model(nodes)
    proto.graph.initializer.extend(
        [
            external("good", "data.bin", 128),
            external("gone", "missing.bin", 128),
            external("lost", "missing.bin", 128, 128),
            external("outside", "../data.bin", 128),
            external("short", "data.bin", 128, 64),
            external("wrong", "data.bin", 100),
        ]
    )
    (tmp_path / "data.bin").write_bytes(np.ones(32, np.float32).tobytes())
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    result = check(tmp_path / "model.onnx")
    found = [each for each in result.findings if each.kind == "external data"]
    assert {name for each in found for name in each.subjects} == set(names) - {"good"}
    assert all(each.severity == ERROR for each in found) and not result.can_run
    assert ("gone", "lost") in [each.subjects for each in found]
    (outside,) = (each for each in found if each.subjects == ("outside",))
    assert outside.text.startswith("'outside': External data '../data.bin' is refused: ")
    with pytest.raises(errors.ALL):
        bascule.InferenceSession(tmp_path / "model.onnx")


# --- what is lossy or odd


def test_types_that_are_computed_in_others() -> None:
    nodes = [helper.make_node("SwiGLU", ["x", "x"], ["y"], name="gate")]
    result = check(model(nodes, opset=28, type_=TensorProto.BFLOAT16))
    found = only(result, "promoted")
    assert found.severity == WARNING and found.subjects == ("gate",)
    assert "computed in float32: no kernel for bfloat16" in found.text
    assert result.can_run and "1 warning" in str(result)


def test_a_provider_that_is_not_there() -> None:
    if "CUDAExecutionProvider" in bascule.get_available_providers():
        pytest.skip("there is a GPU")
    result = check(DIGITS, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert not result.can_run and kinds(result, ERROR) == ["fallback"]


def test_old_opsets_and_what_nothing_reads() -> None:
    proto = model(
        [helper.make_node("Relu", ["x"], ["y"])],
        {"spare": np.ones((64, 64), np.float32)},
        {"x": [2], "mask": [2]},
        opset=9,
    )
    result = check(proto)
    assert kinds(result) == ["opset", "unused", "unused"] and result.can_run
    inputs, initializers = (each for each in result.findings if each.kind == "unused")
    assert inputs.subjects == ("mask",) and initializers.subjects == ("spare",)
    assert "16.4 kB" in initializers.text


def weights(dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((8, 64)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(("value", "kind"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "inf")])
def test_numbers_that_are_none(dtype: Any, value: float, kind: str) -> None:
    weight = weights(dtype)
    weight[3, 5:7] = value
    proto = product(weight)
    proto.graph.input[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(weight.dtype)
    found = only(check(proto), kind)
    assert found.severity == WARNING and found.subjects == ("w",)
    assert "'w' (2 of 512)" in found.text


def test_numbers_in_attributes() -> None:
    nodes = [
        helper.make_node("Constant", [], ["a"], value_float=float("nan")),
        helper.make_node("Constant", [], ["b"], value_floats=[1.0, float("nan"), float("inf")]),
        helper.make_node(
            "ConstantOfShape", ["s"], ["c"], value=numpy_helper.from_array(np.float32([np.nan]))
        ),
        helper.make_node("Sum", ["x", "a", "b", "c"], ["y"]),
    ]
    result = check(model(nodes, {"s": np.int64([3])}, {"x": ["n", 3]}))
    assert only(result, "nan").subjects == ("a", "b", "c")
    assert "'b' (1 of 3)" in only(result, "nan").text
    assert only(result, "inf").subjects == ("b",)


def test_an_infinity_in_a_mask_is_a_note() -> None:
    nodes = [helper.make_node("Add", ["x", "mask"], ["y"])]
    found = only(check(model(nodes, {"mask": np.float32([0, -np.inf] * 4)})), "inf")
    assert found.severity == NOTE


def test_denormal_numbers() -> None:
    weight = weights()
    weight[0, :3] = 1e-41
    assert "3 of 512" in only(check(product(weight)), "denormal").text
    assert "denormal" not in kinds(check(product(weights())))


def test_float16_that_was_clamped() -> None:
    weight = weights(np.float16)
    weight[0, 0], weight[1, 1] = 65504, -65504
    proto = product(weight)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    assert "2 of 512" in only(check(proto), "clamped").text


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_quantized_weights_that_are_saturated(dtype: Any) -> None:
    bounds = np.iinfo(dtype)
    good = np.random.default_rng(0).integers(bounds.min + 1, bounds.max, (8, 64)).astype(dtype)
    bad = good.copy()
    bad[:, :16] = bounds.max

    def quantized(weight: Any, scale: float) -> ModelCheck:
        nodes = [
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["w"]),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ]
        return check(
            model(nodes, {"q": weight, "scale": np.float32(scale), "zero": np.zeros((), dtype)})
        )

    assert kinds(quantized(good, 0.1), WARNING) == []
    result = quantized(bad, 0.0)
    assert sorted(kinds(result, WARNING)) == ["saturated", "scale"]
    assert "25.0% on the bounds" in only(result, "saturated").text
    assert "1 of 1" in only(result, "scale").text


def test_scales_that_cannot_be() -> None:
    scales = np.float32([np.nan, np.inf, 0, 1e-40, -1, 1, 1, 1])
    quantize = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1)]
    quantize.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1))
    result = check(model(quantize, {"s": scales, "z": np.zeros(8, np.int8)}))
    found = [each for each in result.findings if each.kind == "scale"]
    assert all(each.severity == WARNING and "'s' (1 of 8)" in each.text for each in found)
    told = [each.text.partition(" are ")[2].partition(":")[0] for each in found]
    assert told == ["NaN", "infinite", "zero", "denormal", "negative"]
    assert not {"nan", "inf", "denormal"} & set(kinds(result))


def test_packed_weights_of_four_bits() -> None:
    packed = np.full((8, 64), 7, np.int8)
    proto = model(
        [
            helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ],
        {"scale": np.float32(1)},
        opset=21,
    )
    proto.graph.initializer.append(
        helper.make_tensor("q", TensorProto.INT4, [8, 64], packed.reshape(-1).tolist())
    )
    assert "100.0% on the bounds of int4" in only(check(proto), "saturated").text


def test_many_tensors_are_one_finding() -> None:
    names = [f"w{number}" for number in range(9)]
    nodes = [helper.make_node("Sum", ["x", *names], ["y"])]
    result = check(model(nodes, {name: np.float32([np.nan] * 8) for name in names}))
    found = only(result, "nan")
    assert found.subjects == tuple(names) and "and 5 more" in found.text


def test_constants_can_be_left_out() -> None:
    weight = weights()
    weight[0, 0] = np.nan
    assert "nan" not in kinds(check(product(weight), constants=False))


def test_a_large_model_is_not_held_in_memory(tmp_path: Path) -> None:
    rows, size = 1 << 12, 1 << 14
    nodes, tensors = [], []
    with open(tmp_path / "weights.bin", "wb") as file:
        file.truncate(3 * 4 * rows * size)  # 800 MB of zeros, which take no place on the disk
    for number in range(3):
        tensor = TensorProto(name=f"w{number}", data_type=TensorProto.FLOAT, dims=[rows, size])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
        tensor.external_data.add(key="offset", value=str(4 * rows * size * number))
        tensors.append(tensor)
        nodes.append(helper.make_node("MatMul", ["x", f"w{number}"], [f"y{number}"]))
    nodes.append(helper.make_node("Sum", ["y0", "y1", "y2"], ["y"]))
    proto = model(nodes, inputs={"x": ["n", rows]})
    proto.graph.initializer.extend(tensors)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    code = (
        "import bascule, sys\n"
        "result = bascule.check(sys.argv[1])\n"
        "assert result.can_run and not result.prediction.optimized, result\n"
    )
    _, nbytes = memory_of(code, tmp_path / "model.onnx")
    assert nbytes < 350e6


# --- the command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(DIGITS), "--dim", "N=4"]) == 0
    assert "It can run." in capsys.readouterr().out
    assert main(["check", str(DIGITS), "--json", "--no-constants"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["can_run"] and record["prediction"]["flops"] > 0
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(model([helper.make_node("Mystery", ["x"], ["y"])]).SerializeToString())
    assert main(["check", str(bad)]) == 1
    assert "no such operator is known" in capsys.readouterr().out
    assert main(["check", str(bad), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["can_run"] is False
    assert main(["check", str(DIGITS), "--dim", "nobody=4"]) == 2
    assert "no input or size 'nobody'" in capsys.readouterr().err
    assert (
        main(["check", str(DIGITS), "--shape", f"{next(iter(check(DIGITS).inputs))}=2x1x8x8"]) == 0
    )
    assert "2x1x8x8" in capsys.readouterr().out
    assert main(["check", "nowhere.onnx"]) == 1
