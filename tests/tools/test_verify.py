# SPDX-License-Identifier: Apache-2.0
"""A verified optimizer keeps what is right, and drops and names what is not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import bascule
from bascule.ir.graph import Graph, Value
from bascule.optimizer import Context, stages
from bascule.optimizer.passes import Level, Pass, Stage, graph_pass
from bascule.optimizer.pattern import op, values
from bascule.optimizer.rewrite import Builder, Match, rule
from tests.optimizer.graphs import sections
from tests.tools.mutants import Mutant
from tests.tools.planted import ARCHITECTURES, feeds
from tests.tools.test_compare import WRONG

x, w = values("x", "w")
_DATA = Path(__file__).parents[1] / "models" / "data"


@graph_pass
def double_softmax_inputs(graph: Graph, context: Context) -> int:
    """A pass over the whole graph that is wrong."""
    count = 0
    for node in graph:
        if node.is_op("Softmax", "Relu", "Tanh"):
            source = node.input(0)
            if source is None or (source.producer is not None and source.producer.is_op("Sum")):
                continue
            node.set_input(0, Builder(node).Sum(source, source))
            count += 1
    return count


@rule(op.MatMul(x, w))
def redirect_and_forget(match: Match) -> Value:
    """A rule that is wrong, and changes more of the graph before it returns."""
    made = match.build.MatMul(match.build.Neg(match[x]), match[w])
    made.type = match.root.output.type
    for use in list(match.root.output.uses):
        use.node.set_input(use.index, made)
    return made


def plant(monkeypatch: pytest.MonkeyPatch, wrong: Pass) -> None:
    planted = Stage("planted", Level.BASIC, (wrong,))
    monkeypatch.setattr(stages, "STAGES", (planted, *stages.STAGES))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_nothing_right_is_dropped(architecture: str, dtype: type) -> None:
    model = ARCHITECTURES[architecture](dtype)
    verified, plain = bascule.load(model, verify=True), bascule.load(model)
    text = str(verified.session.explain())
    assert "rewrites verified, 0 could not be run" in text
    assert "dropped" not in text
    assert verified.session.explain().records() == plain.session.explain().records()
    given = feeds(architecture, dtype)["x"]
    assert verified(given).tobytes() == plain(given).tobytes()
    assert plain.session.explain().verification == ""


def _right(architecture: str) -> np.ndarray:
    options = bascule.SessionOptions()
    options.graph_optimization_level = bascule.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = bascule.InferenceSession(ARCHITECTURES[architecture]().SerializeToString(), options)
    return session.run(None, feeds(architecture))[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_wrong_rule(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, node = WRONG[architecture]
    plant(monkeypatch, wrong)
    with pytest.warns(UserWarning, match=f"pass '{wrong.name}' at node '{node}'"):
        model = bascule.load(ARCHITECTURES[architecture](), verify=True)
    explained = model.session.explain()
    assert f"dropped a rewrite of pass '{wrong.name}' at node '{node}'" in explained.verification
    assert wrong.name not in explained.passes
    np.testing.assert_allclose(
        model(feeds(architecture)["x"]), _right(architecture), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "architecture, wrong",
    [
        *((architecture, double_softmax_inputs) for architecture in ARCHITECTURES),
        *((architecture, redirect_and_forget) for architecture in ("transformer", "lstm")),
    ],
)
def test_what_cannot_be_taken_back(
    architecture: str, wrong: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, wrong)
    with pytest.warns(UserWarning, match=f"'{wrong.name}' at node"):
        model = bascule.load(ARCHITECTURES[architecture](), verify=True)
    np.testing.assert_allclose(
        model(feeds(architecture)["x"]), _right(architecture), rtol=1e-4, atol=1e-5
    )


def _passes() -> list[Pass]:
    every = (*stages.STAGES, *stages.STAGES_FOR_FEW_LAUNCHES)
    return list({each.name: each for stage in every for each in stage.passes}.values())


def test_every_pass_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is run on the graph of its own docstring, and nothing of it is found wrong."""
    import importlib

    from bascule.canonical import canonicalize
    from bascule.ir.infer import infer_types
    from bascule.ir.text import parse_graph
    from bascule.optimizer.fused import definition
    from bascule.providers.cpu.provider import CpuProvider, fold_node
    from bascule.tools.verify import optimize_verified

    unverified: list[str] = []
    for each in _passes():
        doc = importlib.import_module(each.module).__doc__ or ""
        graphs = [text for kind, _, text in sections(doc) if kind == "Before"]
        for text in graphs:
            model = parse_graph(text)
            canonicalize(model)
            infer_types(model, definition)
            alone = (Stage("alone", Level.BASIC, (each,)),)
            monkeypatch.setattr(stages, "STAGES", alone)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report, found = optimize_verified(
                    model,
                    [CpuProvider(1)],
                    Level.ALL,
                    Context(fold_node, definition),
                    defaults={},
                )
            assert not found.dropped, found
            if report.changes and not found.checked:
                unverified.append(f"{each.name}: {found}")
    assert not unverified


@pytest.mark.parametrize("name", ["gpt2", "segformer", "bert_opset14", "loop_torchscript"])
def test_exported_models(name: str) -> None:
    model = bascule.load(_DATA / f"{name}.onnx", verify=True)
    assert "dropped" not in model.session.explain().verification
    assert "rewrites verified" in model.session.explain().verification


def test_what_does_not_run_is_told() -> None:
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["t"]), helper.make_node("Identity", ["t"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.STRING, [2])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.STRING, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.warns(UserWarning, match="was not verified: an input is no tensor"):
        loaded = bascule.load(model, verify=True)
    assert "not verified" in str(loaded.session.explain())


def test_the_config_entry() -> None:
    model: Callable[[], onnx.ModelProto] = ARCHITECTURES["lstm"]
    loaded = bascule.load(model(), config={"session.verify_optimizer": "1"})
    assert "rewrites verified" in loaded.session.explain().verification


@pytest.mark.parametrize("name", ["fuse_gemm", "fuse_residual_add", "fuse_activation"])
def test_bodies_are_verified(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an If in a Loop both branches, whichever is taken."""
    with np.load(_DATA / "loop_torchscript.npz") as file:
        given = {k.removeprefix("0/input/"): file[k] for k in file if k.startswith("0/input/")}
    path = str(_DATA / "loop_torchscript.onnx")
    right = bascule.InferenceSession(path).run(None, given)
    mutant = Mutant(name)
    mutant.plant(monkeypatch)
    with pytest.warns(UserWarning, match=f"'{name}' at node '{mutant.node}"):
        verified = bascule.load(path, verify=True)
    for got, want in zip(verified.session.run(None, given), right):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
