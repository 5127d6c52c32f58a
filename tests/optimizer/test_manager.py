# SPDX-License-Identifier: Apache-2.0
"""Running passes: levels, names, reports, errors, nested graphs and outputs."""

from __future__ import annotations

from unittest import mock

import numpy as np
import onnx
import pytest

import bascule
from bascule.errors import ALL
from bascule.ir.graph import Graph, Value
from bascule.optimizer import Context, Level, PassError, Selection, optimize
from bascule.optimizer.passes import graph_pass
from bascule.optimizer.pattern import constant_of, op, values
from bascule.optimizer.rewrite import Match, Reject, rule
from bascule.optimizer.stages import STAGES
from bascule.optimizer.verifier import InvalidGraph, verify
from tests.optimizer.graphs import parse, reference_fold, run_passes

(x,) = values("x")


@rule(op.Neg(op.Neg(x)))
def drop_negations(match: Match) -> Value:
    return match[x]


def test_names_are_unique() -> None:
    names = [each.name for stage in STAGES for each in set(stage.passes)]
    for stage in STAGES:
        assert len({each.name for each in stage.passes}) == len(set(stage.passes)), stage.name
    assert all(name.islower() for name in names)


def test_levels() -> None:
    text = """g (float[2,3] x) => (float[2,3] y) <float root = {1.41421356}, float half = {0.5},
        float one = {1}> { i = Identity(x) s = Div(i, root) e = Erf(s) t = Add(e, one)
        u = Mul(i, t) y = Mul(u, half) }"""
    found = {}
    for level in Level:
        model = parse(text)
        optimize(model, level, verify=True)
        found[level] = [node.op_type for node in model.graph]
    assert found[Level.DISABLED] == ["Identity", "Div", "Erf", "Add", "Mul", "Mul"]
    assert found[Level.BASIC] == ["Div", "Erf", "Add", "Mul", "Mul"]
    assert found[Level.EXTENDED] == ["Gelu"]


def test_disabled_passes_do_not_run() -> None:
    text = "g (float[2] x) => (float[2] y) { i = Identity(x) y = Neg(i) }"
    model = parse(text)
    report = optimize(model, Level.ALL, selection=Selection(disabled=("eliminate_identity",)))
    assert [node.op_type for node in model.graph] == ["Identity", "Neg"]
    assert not report.changes


def test_unknown_types_do_not_make_inference_follow_shapes_after_each_round() -> None:
    text = """g (int64[k] s) => (float[] y) {
        u = ConstantOfShape(s) a = Neg(u) b = Neg(a) c = Abs(b) d = Neg(c) e = Neg(d) y = Abs(e)
    }"""
    model = parse(text)
    with mock.patch(
        "bascule.ir.infer.infer_shapes", wraps=onnx.shape_inference.infer_shapes
    ) as run:
        run_passes(model, drop_negations)
    assert [node.op_type for node in model.graph] == ["ConstantOfShape", "Abs", "Abs"]
    assert model.graph.outputs[0].shape is None
    assert [call.kwargs["data_prop"] for call in run.call_args_list] == [False, False]


def test_report_counts_changes_and_keeps_reasons() -> None:
    @rule(op.Abs(x))
    def refuse(match: Match) -> Reject:
        return Reject("it is positive enough", match[x])

    model = parse(
        "g (float[2] x) => (float[2] y) { a = Neg(x) b = Neg(a) c = Abs(b) d = Neg(c) y = Neg(d) }"
    )
    report = run_passes(model, drop_negations, refuse)
    assert report.changes == {"drop_negations": 2}
    (rejection,) = report.rejections
    assert rejection.reason == "it is positive enough"
    assert rejection.op_type == "Abs"
    assert "refuse: Abs" in str(report)
    assert [node.op_type for node in model.graph] == ["Abs"]


def test_errors_name_the_pass_and_the_node() -> None:
    @rule(op.Abs(x))
    def broken(match: Match) -> Value:
        raise KeyError("axis")

    model = parse("g (float[2] x) => (float[2] y) { [my_abs] y = Abs(x) }")
    with pytest.raises(PassError, match=r"pass 'broken' failed at node 'my_abs' \(Abs\)"):
        run_passes(model, broken)


def test_a_pass_that_never_ends_is_stopped() -> None:
    @rule(op.Add(x, values("z")[0]))
    def swap(match: Match) -> Value:
        return match.build.Add(match.root.inputs[1], match.root.inputs[0])

    run_passes(parse("g (float[2] x, float[2] z) => (float[2] y) { y = Add(x, z) }"), swap)


def test_type_is_never_changed() -> None:
    @rule(op.Flatten(x))
    def wrong(match: Match) -> Value:
        return match[x]

    model = parse("g (float[2,3,4] x) => (float[2,12] y) { t = Flatten(x) y = Neg(t) }")
    report = run_passes(model, wrong)
    assert not report.changes
    assert "the type would become" in report.rejections[0].reason


def test_outputs_keep_their_names() -> None:
    model = parse("g (float[2] x) => (float[2] y) { t = Exp(x) a = Neg(t) y = Neg(a) }")
    run_passes(model, drop_negations)
    (node,) = model.graph
    assert (node.op_type, node.output.name) == ("Exp", "y")


def test_input_as_output_stays_an_identity() -> None:
    model = parse("g (float[2] x) => (float[2] y, float[2] z) { a = Neg(x) y = Neg(a) z = Abs(x) }")
    run_passes(model, drop_negations)
    assert [(n.op_type, n.output.name) for n in model.graph] == [("Identity", "y"), ("Abs", "z")]
    optimize(model, Level.ALL, verify=True)
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


def test_nested_graphs() -> None:
    model = parse(
        """g (float[2] x, bool k) => (float[2] y) {
            t = Exp(x)
            y = If(k) <
                then_branch = p () => (float[2] u) { a = Neg(t) u = Neg(a) },
                else_branch = q () => (float[2] v) { b = Neg(t) c = Neg(b) v = Abs(c) }
            >
        }"""
    )
    run_passes(model, drop_negations)
    branches = model.graph.nodes[-1].attributes
    assert [node.op_type for node in branches["then_branch"]] == ["Identity"]
    assert [node.op_type for node in branches["else_branch"]] == ["Abs"]


def test_new_nodes_keep_the_source_location() -> None:
    model = parse("g (float[2] x) => (float[2] y) { [here] y = Abs(x) }")
    model.graph.nodes[0].metadata["file"] = "model.py"

    @rule(op.Abs(x))
    def split(match: Match) -> Value:
        return match.build.Max(match[x], match.build.Neg(match[x]))

    run_passes(model, split)
    assert [(node.name, node.metadata) for node in model.graph] == [
        ("here/Neg", {"file": "model.py"}),
        ("here", {"file": "model.py"}),
    ]


def test_verifier_finds_a_wrong_order() -> None:
    @graph_pass
    def shuffle(graph: Graph, context: Context) -> int:
        first, second = graph.nodes[:2]
        graph.move_before(first, second)
        return 1

    model = parse("g (float[2] x) => (float[2] y) { t = Exp(x) y = Neg(t) }")
    with pytest.raises(PassError, match=r"'shuffle' failed: .* before it is there"):
        run_passes(model, shuffle)


def test_verifier_finds_a_lost_use() -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    model.graph.inputs[0].uses.clear()
    with pytest.raises(InvalidGraph, match="does not know"):
        verify(model.graph)


def test_constants_of_nested_graphs_are_dropped() -> None:
    model = parse(
        """g (float[2] x, bool k) => (float[2] y) {
            y = If(k) <
                then_branch = p () => (float[2] u) <float a = {1}, float b = {2}> {
                    c = Add(a, b)
                    u = Mul(x, c)
                },
                else_branch = q () => (float[2] v) { v = Abs(x) }
            >
        }"""
    )
    optimize(model, Level.BASIC, context=Context(reference_fold), verify=True)
    branch = model.graph.nodes[-1].attributes["then_branch"]
    assert [constant_of(value).numpy().tolist() for value in branch.initializers.values()] == [3.0]


@pytest.mark.parametrize("sizes", ["n,m", "2,3", "1,3"])
@pytest.mark.parametrize("perm", ["[1]", "[0]", "[-1,0]"])
def test_a_transposition_of_other_axes_is_left_to_the_kernel(perm: str, sizes: str) -> None:
    """Which refuses it; no pass takes it for one of no effect."""
    graph = f"g (float[{sizes}] x) => (float y) {{ y = Transpose<perm = {perm}>(x) }}"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {graph}')
    model.graph.output[0].type.tensor_type.ClearField("shape")
    x = np.ones((1 if sizes == "1,3" else 2, 3), np.float32)
    with pytest.raises(ALL, match="Transpose"):
        bascule.InferenceSession(model.SerializeToString()).run(None, {"x": x})
