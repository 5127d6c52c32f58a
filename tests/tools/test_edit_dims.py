# SPDX-License-Identifier: Apache-2.0
"""Sizes made dynamic and fixed: a batch has to give what its samples give one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bascule.errors import Fail, InvalidArgument
from bascule.tools.edit import edit
from bascule.tools.edit.reshapes import _Reshape, _Unclear
from tests.support.edited import assert_near, feeds_for, results

_DATA = Path(__file__).parents[1] / "models" / "data"
Array = np.ndarray[Any, Any]


def parsed(body: str, opset: int = 21) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{body}')
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def dims(info: onnx.ValueInfoProto) -> list[Any]:
    return [d.dim_param or (d.dim_value if d.HasField("dim_value") else None)
            for d in info.type.tensor_type.shape.dim]  # fmt: skip


def per_sample(model: onnx.ModelProto, x: Array) -> Array:
    """The only output, sample by sample."""
    [output] = model.graph.output
    rows = [results(model, {"x": x[i : i + 1]})[output.name] for i in range(len(x))]
    return np.concatenate(rows)


def attention() -> onnx.ModelProto:
    """Heads split and merged by constant targets, the matrix product in 2-D, for batch 1."""
    rng = np.random.default_rng(0)
    model = parsed(
        """g (float[1, 5, 8] x) => (float[1, 5, 8] y)
        <float[8, 8] w, int64[2] flat = {5, 8}, int64[3] back = {1, 5, 8},
         int64[4] heads = {1, 5, 2, 4}, int64[3] bmm = {2, 5, 4}, int64[4] unbmm = {1, 2, 5, 4}> {
            a = Reshape(x, flat)
            b = MatMul(a, w)
            c = Reshape(b, back)
            d = Reshape(c, heads)
            e = Transpose<perm = [0, 2, 1, 3]>(d)
            f = Reshape(e, bmm)
            ft = Transpose<perm = [0, 2, 1]>(f)
            scores = MatMul(f, ft)
            p = Softmax<axis = -1>(scores)
            o = MatMul(p, f)
            q = Reshape(o, unbmm)
            r = Transpose<perm = [0, 2, 1, 3]>(q)
            s = Reshape(r, back)
            y = Add(s, x)
        }""".replace("float[8, 8] w, ", "")
        .replace("MatMul(a, w)", "MatMul(a, w)")
        .replace("float[1, 5, 8] x)", "float[1, 5, 8] x, float[8, 8] w)")
    )
    weight = numpy_helper.from_array(rng.standard_normal((8, 8)).astype(np.float32) / 3, "w")
    return edit(model).input_to_initializer("w", numpy_helper.to_array(weight)).to_proto()


def test_a_batch_through_baked_in_reshapes() -> None:
    model = attention()
    editor = edit(model).set_dims({"x": ["batch", 5, 8]})
    edited = editor.to_proto()
    assert dims(edited.graph.input[0]) == dims(edited.graph.output[0]) == ["batch", 5, 8]
    x = np.random.default_rng(1).standard_normal((3, 5, 8)).astype(np.float32)
    assert_near(results(editor, {"x": x})["y"], per_sample(model, x))
    assert len(editor.notes) == 6 and all("the target" in note for note in editor.notes)
    # The constant that two nodes share is their own now.
    assert "back" in {t.name for t in edited.graph.initializer}


def test_nothing_is_mended_if_not_wanted() -> None:
    model = attention()
    editor = edit(model).set_dims({"x": ["batch", 5, 8]}, mend=False)
    assert "[-1, 8] would do" in editor.notes[0]
    assert editor.to_proto().graph.initializer == model.graph.initializer


def test_sequence_and_batch_together() -> None:
    model = parsed(
        """g (float[2, 6, 8] x) => (float[2, 6, 8] y)
        <int64[4] heads = {2, 6, 2, 4}, int64[3] back = {2, 6, 8}> {
            d = Reshape(x, heads)
            e = Neg(d)
            y = Reshape(e, back)
        }"""
    )
    editor = edit(model).set_dims({"x": ["batch", "sequence", 8]})
    assert dims(editor.to_proto().graph.output[0]) == ["batch", "sequence", 8]
    assert [numpy_helper.to_array(t).tolist() for t in editor.to_proto().graph.initializer] == [
        [0, 0, 2, 4], [0, 0, 8],
    ]  # fmt: skip
    x = np.random.default_rng(1).standard_normal((3, 7, 8)).astype(np.float32)
    assert_near(results(editor, {"x": x})["y"], -x)


def test_flattening_and_minus_one() -> None:
    model = parsed(
        """g (float[1, 2, 3, 1] x) => (float[1, 6] y) <int64[2] to = {1, -1}> {
            a = Relu(x)
            y = Reshape(a, to)
        }"""
    )
    editor = edit(model).set_dims({"x": ["n", 2, 3, 1]})
    x = np.random.default_rng(0).standard_normal((4, 2, 3, 1)).astype(np.float32)
    assert_near(results(editor, {"x": x})["y"], np.maximum(x, 0).reshape(4, 6))
    assert dims(editor.to_proto().graph.output[0]) == ["n", 6]


def test_targets_in_constants_and_around_nested_graphs() -> None:
    model = parsed(
        """g (float[1, 6] x, bool c) => (float[1, 2, 3] y) {
            one = Constant<value = int64[3] {1, 2, 3}>()
            a = Reshape(x, one)
            two = Constant<value_ints = [1, 6]>()
            b = Reshape(a, two)
            y = If(c) <then_branch = t () => (float[d, 2, 3] p) { p = Reshape(b, one) },
                       else_branch = e () => (float[d, 2, 3] q) { q = Reshape(x, one) }>
        }"""
    )
    editor = edit(model).set_dims({"x": ["batch", 6]})
    assert sum("the target" in note for note in editor.notes) == 4
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    for flag in (True, False):
        found = results(editor, {"x": x, "c": np.array(flag)})["y"]
        assert_near(found, x.reshape(2, 2, 3))


@pytest.mark.parametrize(
    ("sizes", "made", "moving", "target", "expected"),
    [
        ([1, 768], [1, 12, 64], {0}, [1, 12, 64], [0, 12, 64]),
        ([1, 768], [1, 1, 768], {0}, [1, 1, 768], "its axis 0 or 1 may be"),
        ([8, 768], [8, 1, 768], {0}, [8, 1, 768], [0, 1, 768]),
        ([1, 1, 768], [1, 768], {0}, [1, 768], [0, 768]),
        ([1, 1, 768], [1, 768], {1}, [1, 768], "merged with that before or behind"),
        ([1, 197, 768], [197, 768], {0}, [197, 768], [-1, 768]),
        ([12, 1, 64], [12, 64], {1}, [12, 64], "merged with that before or behind"),
        ([12, 4, 64], [48, 64], {1}, [48, 64], [-1, 64]),
        ([1, 512, 1, 1], [1, 512], {0}, [1, 512], [0, 512]),
        ([1, 512, 1, 1], [1, 512], {0}, [1, -1], [0, -1]),
        ([1, 512, 1, 1], [1, 512], {0}, [-1, 512], [-1, 512]),
        ([1, 512, 1, 1], [1, 512], {0}, [0, 512], [0, 512]),
        ([4, 6], [6, 4], {0}, [6, 4], "mixed with others"),
        ([24, 3], [4, 6, 3], {0}, [4, 6, 3], "is split"),
        ([2, 3, 4], [2, 3, 2, 2], {0, 1}, [2, 3, 2, -1], [0, 0, 2, -1]),
        ([5, 2, 3, 4], [5, 6, 4], {0, 1, 2}, [5, 6, 4], [0, -1, 4]),
    ],
)  # fmt: skip
def test_targets(sizes: Any, made: Any, moving: Any, target: Any, expected: Any) -> None:
    now = tuple(f"s{i}" if i in moving else size for i, size in enumerate(sizes))
    reshape = _Reshape(sizes, made, now, moving, target, False)
    if isinstance(expected, str):
        with pytest.raises(_Unclear, match=expected):
            reshape.target()
    else:
        assert reshape.target() == expected


def test_what_cannot_be_mended_is_told() -> None:
    model = parsed(
        """g (float[1, 768] x) => (float[1, 1, 768] y) <int64[3] to = {1, 1, 768}> {
            y = Reshape(x, to)
        }"""
    )
    editor = edit(model).set_dims({"x": ["batch", 768]})
    [note] = editor.notes
    assert "Reshape node 'y' has the constant target [1, 1, 768]" in note
    assert "float[1, 768] before, float[batch, 768] now: its axis 0 or 1 may be" in note
    assert dims(editor.to_proto().graph.output[0]) == [1, 1, 768]


def test_a_size_that_another_constant_holds_is_told() -> None:
    model = parsed(
        """g (float[1, 4, 8] x) => (float[1, 5, 8] y) <int64[3] shape = {1, 1, 8}> {
            token = ConstantOfShape(shape)
            y = Concat<axis = 1>(token, x)
        }"""
    )
    editor = edit(model).set_dims({"x": ["batch", 4, 8]})
    assert "does not work with other sizes than before" in editor.notes[0]
    assert "Concat" in editor.notes[0] and "batch" in editor.notes[0]
    model = parsed(
        """g (float[6, 1] x) => (float[6, 8] y) <int64[2] shape = {6, 8}> {
            y = Expand(x, shape)
        }"""
    )
    editor = edit(model).set_dims({"x": ["rows", 1]})
    assert "is now [1, 8], which was [6, 8]" in editor.notes[0]
    x = np.ones((4, 1), np.float32)
    assert_near(results(editor, {"x": x})["y"], np.ones((4, 8), np.float32))


@pytest.mark.parametrize(
    ("node", "note"),
    [
        ("y = Gather<axis = 0>(x, zero)", "takes place 0 of axis 0 of 'x'"),
        ("y = Gather<axis = 1>(x, zero)", ""),
        ("y = Gather<axis = 1>(x, all)", "takes places 0 to 3 of axis 1"),
        ("y = GatherND(x, pairs)", "takes place 0 of axis 0"),
        ("y = GatherND<batch_dims = 1>(x, last)", ""),
        ("y = Slice(x, start, end, zero)", "takes place 0 of axis 0 of 'x'"),
        ("y = Slice(x, start, open, zero)", ""),
        ("y = Slice(x, start, end, one)", ""),
    ],
)
def test_constant_indices_of_a_dynamic_axis_are_told(node: str, note: str) -> None:
    model = parsed(
        f"""g (float[1, 4] x) => (float[a, b] y)
        <int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[4] all = {{0, 1, 2, 3}},
         int64[2, 2] pairs = {{0, 1, 0, 2}}, int64[1, 1, 1] last = {{3}}, int64[1] start = {{0}},
         int64[1] end = {{1}}, int64[1] open = {{9223372036854775807}}> {{ {node} }}"""
    )
    if "pairs" in node:
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["a"]))
    editor = edit(model, check=False).set_dims({"x": ["batch", "length"]})
    assert bool(editor.notes) == bool(note) and note in "".join(editor.notes), editor.notes


def test_fixing_and_renaming_sizes() -> None:
    model = onnx.load(_DATA / "resnet.onnx")
    editor = edit(model).set_dims({"batch": 2})
    edited = editor.to_proto()
    assert dims(edited.graph.input[0])[0] == dims(edited.graph.output[0])[0] == 2
    assert not [i for i in edited.graph.value_info if "batch" in dims(i)]
    feeds = feeds_for(model, batch=2)
    assert_near(results(editor, feeds)["logits"], results(model, feeds)["logits"])
    editor.undo().set_dims({"image": [4, 3, 32, 32]})
    assert dims(editor.to_proto().graph.output[0])[0] == 4
    editor.undo().set_dims({"batch": "n"})
    assert dims(editor.to_proto().graph.output[0])[0] == "n"
    editor.set_dims({"image": ["n", 3, None, None]})
    assert dims(editor.to_proto().graph.input[0]) == ["n", 3, None, None]
    assert dims(editor.to_proto().graph.output[0]) == [None, 10]  # of a Reshape to [-1, 16]
    feeds = {"image": np.random.default_rng(0).standard_normal((1, 3, 64, 48), np.float32)}
    results(editor, feeds)


def test_another_fixed_size() -> None:
    model = attention()
    editor = edit(model).set_dims({"x": [4, 5, 8]})
    assert dims(editor.to_proto().graph.output[0]) == [4, 5, 8]
    assert "batch" not in str(editor.to_proto())
    x = np.random.default_rng(1).standard_normal((4, 5, 8)).astype(np.float32)
    assert_near(results(editor, {"x": x})["y"], per_sample(model, x))


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(Fail, match="MatMul"):
        edit(attention()).set_dims({"x": [1, 5, 9]})
    editor = edit(onnx.load(_DATA / "resnet.onnx"))
    before = editor.to_bytes()
    for sizes, error, message in (
        ({"bach": 1}, InvalidArgument, "did you mean 'batch'"),
        ({"imag": [1, 3, 32, 32]}, InvalidArgument, "did you mean 'image'"),
        ({"image": [1, 3]}, InvalidArgument, r"has rank 4, float\[batch, 3, 32, 32\]"),
        ({"batch": -1}, InvalidArgument, "no size"),
        ({"batch": "7"}, InvalidArgument, "no size"),
        ({"batch": True}, InvalidArgument, "no size"),
    ):
        with pytest.raises(error, match=message):
            editor.set_dims(sizes)  # type: ignore[arg-type]
        assert editor.to_bytes() == before


@pytest.mark.parametrize("name", ["resnet", "convnext", "vit_float16", "bert_torchscript", "swin"])
def test_networks_fixed_and_freed_again(name: str) -> None:
    path = _DATA / f"{name}.onnx"
    model = onnx.load(path)
    names = sorted({d for i in model.graph.input for d in dims(i) if isinstance(d, str)})
    sizes = {name: 2 if index == 0 else 8 for index, name in enumerate(names)}
    editor = edit(model)
    editor.set_dims(sizes)
    for info in editor.to_proto().graph.input:
        assert all(isinstance(dim, int) for dim in dims(info))
    before = {info.name: dims(info) for info in model.graph.input}
    editor.set_dims(before)
    after = {info.name: dims(info) for info in editor.to_proto().graph.input}
    assert after == before
    feeds = feeds_for(model, **{name: size for name, size in sizes.items()})
    found, expected = results(editor, feeds), results(model, feeds)
    for key, array in expected.items():
        assert_near(found[key], array)


def test_reshapes_of_random_shapes_are_mended_rightly() -> None:
    """Whatever is mended gives of a batch what its samples give."""
    rng = np.random.default_rng(0)
    mended = 0
    for _ in range(60):
        rest = [int(n) for n in rng.choice([1, 2, 3, 4], rng.integers(1, 4))]
        batch = int(rng.choice([1, 2]))
        shape = [batch, *rest]
        target = _regrouped(rng, shape)
        graph = helper.make_graph(
            [
                helper.make_node("Neg", ["x"], ["n"]),
                helper.make_node("Reshape", ["n", "to"], ["y"]),
            ],
            "g",
            [helper.make_tensor_value_info("x", 1, shape)],
            [helper.make_tensor_value_info("y", 1, target)],
            [numpy_helper.from_array(np.int64(target), "to")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        editor = edit(model).set_dims({"x": ["batch", *rest]})
        if not editor.notes or "is now" not in editor.notes[0]:
            continue
        mended += 1
        x = rng.standard_normal((batch * 3, *rest)).astype(np.float32)
        parts = [results(model, {"x": x[i : i + batch]})["y"] for i in range(0, 3 * batch, batch)]
        assert_near(results(editor, {"x": x})["y"], np.concatenate(parts))
    assert mended > 15


def _regrouped(rng: np.random.Generator, shape: list[int]) -> list[int]:
    """Another shape of as many elements, neighbours merged or ones put in."""
    found = list(shape)
    for _ in range(int(rng.integers(1, 3))):
        if len(found) > 1 and rng.integers(2):
            at = int(rng.integers(0, len(found) - 1))
            found[at : at + 2] = [found[at] * found[at + 1]]
        else:
            found.insert(int(rng.integers(0, len(found) + 1)), 1)
    return found
