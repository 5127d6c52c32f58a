# SPDX-License-Identifier: Apache-2.0
"""Edits of random graphs that may not change what is computed."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from bascule.errors import InvalidArgument
from bascule.tools.edit import Editor, chain_models, edit, merge_models
from tests.properties.graphs import Writer
from tests.properties.strategies import TAME
from tests.support.edited import halves, results

PLAIN = (Phase.explicit, Phase.generate)
"""These examples take long to shrink."""

Array = np.ndarray[Any, Any]


def drawn(data: st.DataObject) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A random graph with what its outputs are declared."""
    writer = Writer(data.draw, np.float32, TAME)
    assume(writer.nodes)
    model = writer.model(False)
    for info in model.graph.output:
        shape = writer.shapes[info.name]
        info.CopyFrom(helper.make_tensor_value_info(info.name, 1, shape))
    used = {name for node in model.graph.node for name in node.input}
    feeds = {name: array for name, array in writer.feeds.items() if name in used}
    for index in range(len(model.graph.input) - 1, -1, -1):
        if model.graph.input[index].name not in used:
            del model.graph.input[index]
    return model, feeds


def assert_equal(found: Array, expected: Array) -> None:
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, float(finite.max(initial=0.0)))
    np.testing.assert_allclose(found, expected, 1e-3, 1e-3 * scale)


@given(st.data())
@settings(max_examples=25, phases=PLAIN)
def test_cut_anywhere_and_chained_again(data: st.DataObject) -> None:
    model, feeds = drawn(data)
    expected = results(model, feeds)
    nodes = model.graph.node
    place = data.draw(st.integers(1, len(nodes)))
    late = {name for node in nodes[place:] for name in node.output}
    assume(any(info.name in late for info in model.graph.output))
    head, tail = halves(model, place)
    assume(head.outputs and set(tail.inputs) & set(head.outputs))
    values = {**feeds, **results(head, {name: feeds[name] for name in head.inputs})}
    found = results(tail, {name: values[name] for name in tail.inputs})
    joined = chain_models(head, tail, prefixes=["b_"])
    fed = {name: feeds[name.removeprefix("b_")] for name in joined.inputs}
    whole = results(joined, fed)
    for name in tail.outputs:
        assert_equal(found[name], expected[name])
        assert_equal(whole[f"b_{name}"], expected[name])


@given(st.data(), st.integers(0, 1000))
@settings(max_examples=25, phases=PLAIN)
def test_edits_that_change_nothing_and_their_undoing(data: st.DataObject, seed: int) -> None:
    model, feeds = drawn(data)
    expected = results(model, feeds)
    editor = edit(model)
    before = editor.to_bytes()
    rng = random.Random(seed)
    names = {info.name: info.name for info in model.graph.input}
    added: list[str] = []
    for index in range(6):
        _edit_once(editor, rng, index, names, added)
    outputs = [info.name for info in editor.to_proto().graph.output]
    constants = {t.name: t for t in model.graph.initializer}
    fed = {}
    for name in editor.inputs:
        source = names.get(name, name)
        fed[name] = feeds[source] if source in feeds else numpy_helper.to_array(constants[source])
    found = results(editor, fed)
    for old, new in zip((info.name for info in model.graph.output), outputs):
        assert_equal(found[new], expected[old])
    count = len(editor.history)
    edited = editor.to_bytes()
    assert editor.undo(count).to_bytes() == before
    assert editor.redo(count).to_bytes() == edited


def _edit_once(
    editor: Editor, rng: random.Random, index: int, names: dict[str, str], added: list[str]
) -> None:
    """One edit; `names` are the original names of inputs, `added` nodes that can go again."""
    graph = editor.to_proto().graph
    values = sorted({name for node in graph.node for name in (*node.input, *node.output) if name})
    kind = rng.choice(["insert", "delete", "rename", "to input", "to constant"])
    if kind == "insert":
        editor.insert(rng.choice([n for n in values if not _is_dead(graph, n)]), "Identity",
                      name=f"added_{index}")  # fmt: skip
        added.append(f"added_{index}")
    elif kind == "delete" and added:
        editor.delete(added.pop(rng.randrange(len(added))))
    elif kind == "rename":
        old = rng.choice(values)
        editor.rename(old, f"renamed_{index}", kind="value")
        if any(each.name == old for each in (*graph.input, *graph.initializer)):
            names[f"renamed_{index}"] = names.pop(old, old)
    elif kind == "to input" and graph.initializer:
        editor.initializer_to_input(rng.choice(graph.initializer).name)
    elif kind == "to constant" and graph.initializer:
        tensor = rng.choice(graph.initializer)
        editor.initializer_to_input(tensor.name, keep_default=True)
        editor.input_to_initializer(tensor.name)


def _is_dead(graph: onnx.GraphProto, name: str) -> bool:
    read = {n for node in graph.node for n in node.input} | {o.name for o in graph.output}
    return name not in read


@given(st.data())
@settings(max_examples=10, phases=PLAIN)
def test_two_random_graphs_side_by_side(data: st.DataObject) -> None:
    (one, fed), (other, more) = drawn(data), drawn(data)
    editor = merge_models(one, other, prefixes=["b_"])
    found = results(editor, {**fed, **{f"b_{name}": array for name, array in more.items()}})
    for name, array in results(one, fed).items():
        assert_equal(found[name], array)
    for name, array in results(other, more).items():
        assert_equal(found[f"b_{name}"], array)


@given(st.data(), st.integers(0, 1000))
@settings(max_examples=25, phases=PLAIN)
def test_a_failed_edit_leaves_the_model_as_it_was(data: st.DataObject, seed: int) -> None:
    model, _ = drawn(data)
    editor = edit(model)
    before = editor.to_bytes()
    rng = random.Random(seed)
    used = {name for node in model.graph.node for name in node.input}
    used |= {info.name for info in model.graph.output}
    node = rng.choice([node for node in model.graph.node if node.output[0] in used])
    with pytest.raises(Exception, match=r"\[ONNXRuntimeError\]"):
        rng.choice([
            lambda: editor.replace(node.name, "NoSuchOp", inputs=["nothing"]),
            lambda: editor.insert(node.output[0], "Add"),
            lambda: editor.cut([node.output[0], "nothing"]),
            lambda: editor.rename(node.output[0], node.input[0], kind="value"),
            lambda: editor.set_initializer(node.output[0], np.zeros(3)),
            lambda: editor.delete(node.name, join=9),
        ])()  # fmt: skip
    assert editor.to_bytes() == before and not editor.history


def test_long_histories_are_cut() -> None:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Neg", ["x"], ["y"], name="n")],
            "g",
            [helper.make_tensor_value_info("x", 1, [1])],
            [helper.make_tensor_value_info("y", 1, [1])],
        )
    )
    editor = Editor(model, history=3)
    for index in range(5):
        editor.rename("n" if index == 0 else f"n{index - 1}", f"n{index}")
    assert len(editor.history) == 3
    with pytest.raises(InvalidArgument):
        editor.undo(4)
