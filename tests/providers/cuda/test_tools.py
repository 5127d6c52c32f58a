# SPDX-License-Identifier: Apache-2.0
"""compare, trace and profile of sessions on the CUDA provider."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import bascule
from bascule.cli import main
from bascule.providers.cuda import cupy_device, operators, registry
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.names import CPU, CUDA
from tests.support import cuda_session
from tests.support.cuda_emulation import emulated_device, missing, unused_device
from tests.tools.planted import ARCHITECTURES, feeds

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

LOOP = """g (float[N] x, int64 n) => (float[N] y) {
    c = Constant<value: tensor = bool {1}>()
    z = Exp(x)
    [loop] w = Loop <body = b (int64 i, bool k, float[N] a) => (bool kept, float[N] next) {
        kept = Identity(k)
        [product] t = Mul(a, z)
        [bent] next = Tanh(t) }> (n, c, x)
    [last] y = Sigmoid(w) }"""
LOOP_FEEDS = {"x": np.linspace(-1, 1, 5, dtype=np.float32), "n": np.int64(3)}
MIXED = """g (float[N] x, string[M] s) => (float[N] y, string[M] t) {
    [text] t = StringConcat(s, s)
    [number] y = Sigmoid(x) }"""
MIXED_FEEDS = {"x": LOOP_FEEDS["x"], "s": np.array(["a", "b"], object)}


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_session.use(monkeypatch)


def parsed(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text}')


def sessions(model: onnx.ModelProto, **arguments: Any) -> list[bascule.InferenceSession]:
    """One on the CUDA provider with the CPU under it, and one on the CPU."""
    data = model.SerializeToString()
    return [
        bascule.InferenceSession(data, providers=providers, **arguments)
        for providers in ([CUDA, CPU], [CPU])
    ]


def spoil(
    patch: pytest.MonkeyPatch, op_type: str, domain: str = "", size: int | None = None
) -> None:
    """Let the kernels of an operator make all 1.07 times too large; of this last size, if given."""

    def wrong(kernel: registry.Kernel) -> registry.Kernel:
        def function(call: Call, *inputs: Any) -> Any:
            results = kernel.function(call, *inputs)
            for each in results if isinstance(results, tuple) else (results,):
                if isinstance(each, Tensor) and size in (None, each.shape[-1]):
                    call.device.array(each)[...] *= 1.07
            return results

        return dataclasses.replace(kernel, function=function)

    operators.load_all()
    kernels = registry._KERNELS[domain, op_type]
    patch.setitem(registry._KERNELS, (domain, op_type), list(map(wrong, kernels)))


# --- compare


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_right_models_agree(architecture: str) -> None:
    model, given = ARCHITECTURES[architecture](), feeds(architecture)
    for level in ("", ":disabled"):
        device = unused_device()
        found = bascule.compare((model, f"cpu{level}"), f"cuda{level}", given)
        assert found.agrees, str(found)
        assert (found.a, found.b) == (f"model on cpu{level}", f"model on cuda{level}")
        assert len(device.launches) > len(found.values) / 2
        assert any(value.judged.error > 0 for value in found.values)  # other kernels at work
        assert [each.error < 1e-5 for each in found.outputs] == [True]


def test_sessions_agree() -> None:
    cuda, cpu = sessions(parsed(LOOP))
    found = bascule.compare(cpu, cuda, LOOP_FEEDS)
    assert found.agrees, str(found)
    assert (found.a, found.b) == ("model on cpu (session)", "model on cuda (session)")
    assert [value.name for value in found.values] == ["z", "w", "y"]
    cuda, cpu = sessions(parsed(MIXED))
    assert bascule.compare(cuda, cpu, MIXED_FEEDS).agrees


@pytest.mark.parametrize(
    ("architecture", "op_type", "node"),
    [
        ("transformer", "Softmax", "node_attention"),
        ("transformer", "Transpose", "node_kt"),
        ("cnn", "GlobalAveragePool", "node_pooled"),
        ("lstm", "LSTM", "node_states"),
    ],
)
def test_a_wrong_kernel_is_named(
    architecture: str, op_type: str, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, op_type)
    found = bascule.compare(
        (ARCHITECTURES[architecture](), "cpu:disabled"), "cuda:disabled", feeds(architecture)
    )
    assert found.guilty_nodes == (node,)
    assert [value.node for value in found.values if not value.is_within] == [node]
    assert found.reproduction is not None
    assert found.reproduction.nodes == (node,)


def test_one_of_several_nodes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "MatMul", size=32)
    found = bascule.compare(
        (ARCHITECTURES["transformer"](), "cpu:disabled"), "cuda:disabled", feeds("transformer")
    )
    assert found.guilty_nodes == ("node_up_product",)


def test_a_wrong_kernel_of_a_fused_node_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "MatMul", "bascule", size=32)
    model, given = ARCHITECTURES["transformer"](), feeds("transformer")
    found = bascule.compare((model, "cpu"), "cuda", given)
    assert found.first is not None
    assert found.first.name == "gelu"
    assert found.first.sources[:2] == ("node_up_product", "node_up_sum")
    assert set(found.guilty_nodes) <= set(found.first.sources)
    assert found.reproduction is not None
    assert set(found.reproduction.nodes) <= set(found.first.sources)


def test_a_wrong_kernel_inside_a_loop_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "Tanh")
    found = bascule.compare((parsed(LOOP), "cpu:disabled"), "cuda:disabled", LOOP_FEEDS)
    assert found.guilty_nodes == ("bent",)


def test_what_is_to_run_on_the_cpu_does() -> None:
    """Where there is a GPU a session that asks for no provider is on it."""
    model, given = ARCHITECTURES["lstm"](), feeds("lstm")
    device = unused_device()
    for other in ("cpu:disabled", "reference"):
        assert bascule.compare((model, "cpu"), other, given).agrees
    assert device.launches == []
    assert list(bascule.load(model).trace(given, nodes="node_y"))
    assert device.launches


def test_both_sides_on_the_gpu() -> None:
    model = ARCHITECTURES["lstm"]()
    found = bascule.compare((model, "cuda:disabled"), "cuda", feeds("lstm"))
    assert found.agrees, str(found)


# --- trace


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("fused", [False, True])
def test_every_value_is_that_of_the_cpu(architecture: str, fused: bool) -> None:
    cuda, cpu = sessions(ARCHITECTURES[architecture]())
    given = feeds(architecture)
    device = unused_device()
    values = list(cuda.trace(given, fused=fused))
    assert device.launches
    expected = given | {value.name: value.array for value in cpu.trace(given)}
    for value in values:
        right = expected[value.name]
        if fused and architecture == "cnn" and right.ndim == 4:  # channels are last there
            right = right.transpose(0, 2, 3, 1)
        assert value.dtype == str(right.dtype)
        np.testing.assert_allclose(value.array, right, 1e-4, 1e-6, err_msg=value.name)
    if fused:
        (output,) = cuda.run(None, given)
        assert values[-1].array.tobytes() == output.tobytes()
    else:
        assert [*given, *(value.name for value in values)] == list(expected)


@pytest.mark.parametrize(("text", "given"), [(LOOP, LOOP_FEEDS), (MIXED, MIXED_FEEDS)])
def test_bodies_and_nodes_of_the_cpu(text: str, given: dict[str, Any]) -> None:
    cuda, cpu = sessions(parsed(text))
    values, expected = list(cuda.trace(given)), list(cpu.trace(given))
    assert [(v.inside, v.name) for v in values] == [(v.inside, v.name) for v in expected]
    for value, right in zip(values, expected):
        if right.statistics is None:
            assert value.array.tolist() == right.array.tolist()
        else:
            np.testing.assert_allclose(value.array, right.array, 1e-5, 1e-6)


def test_it_halts_at_a_nan() -> None:
    model = ARCHITECTURES["cnn"]()
    for each in model.graph.initializer:
        if each.name == model.graph.node[2].input[1]:  # of the second convolution
            weights = numpy_helper.to_array(each).copy()
            weights[1, 0, 0, 0] = np.nan
            each.CopyFrom(numpy_helper.from_array(weights, each.name))
    node = model.graph.node[2].name
    for session in sessions(model):
        for fused in (False, True):
            *rest, last = session.trace(feeds("cnn"), fused=fused, stop_on="nan")
            assert last.alarm == "nan"
            assert node in last.sources
            assert not any(value.alarm for value in rest)
            assert any(read.constant and read.statistics.nan for read in last.inputs)


def test_the_command_runs_where_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(ARCHITECTURES["cnn"](), path)
    for providers, on_gpu in (([CPU], False), ([CUDA, CPU], True)):
        device = unused_device()
        chosen = [word for name in providers for word in ("--provider", name)]
        assert main(["trace", str(path), *chosen]) == 0
        assert "node_swish" in capsys.readouterr().out
        assert bool(device.launches) is on_gpu


# --- profile


@pytest.fixture
def profiled() -> Callable[..., bascule.tools.profile.Profile]:
    def run(model: onnx.ModelProto, given: dict[str, Any]) -> Any:
        return bascule.profile(sessions(model)[0], given, 2, warmup=1)

    return run


def test_rows_name_the_provider(profiled: Any) -> None:
    found = profiled(ARCHITECTURES["transformer"](), feeds("transformer"))
    assert found.nodes
    assert all(node.provider == CUDA for node in found.nodes)
    assert all(node.kernel.startswith("cuda.") for node in found.nodes)
    assert all(node.seconds > 0 and node.calls == 1 for node in found.nodes)
    assert all(node.of_peak is None for node in found.nodes)  # only the CPU's is measured
    assert {row["provider"] for row in found.records()["nodes"]} == {CUDA}


def test_numbers_inside_fused_nodes(profiled: Any) -> None:
    model = parsed("""g (float[N] x) => (uint8[N] q, float[N] y) <float s = {0.5}, uint8 z = {3}> {
        q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }""")
    (row,) = profiled(model, {"x": LOOP_FEEDS["x"]}).nodes
    assert row.kernel == "cuda.elementwise"


def test_a_session_is_profiled_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the options of its providers, and the passes that it leaves out."""
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        cupy_device, "CupyDevice", lambda *given: asked.append(given) or emulated_device()
    )
    session = bascule.InferenceSession(
        ARCHITECTURES["cnn"]().SerializeToString(),
        providers=[CUDA, CPU],
        provider_options=[{"use_tf32": "0", "gpu_mem_limit": "1000000"}, {}],
        disabled_optimizers=["fuse_activation"],
    )
    kernels = [row.kernel for row in session.explain().rows]
    found = bascule.profile(session, feeds("cnn"), 1, warmup=1)
    assert asked[0] == asked[1]
    assert asked[0][1:3] == (1000000, False)
    assert [node.kernel for node in found.nodes] == kernels


def test_nodes_of_both_providers(profiled: Any, tmp_path: Path) -> None:
    found = profiled(parsed(MIXED), MIXED_FEEDS)
    assert {node.name: node.provider for node in found.nodes} == {"number": CUDA, "text": CPU}
    text = str(found)
    assert re.search(r"│ number +│ Sigmoid +│ CUDA ", text)
    assert re.search(r"│ text +│ StringConcat +│ CPU ", text)
    nodes = [event for event in _events(found, tmp_path) if event.get("cat") == "Node"]
    assert {event["args"]["provider"] for event in nodes} == {CPU, CUDA}


def test_nothing_is_held_against_the_cpu(profiled: Any, tmp_path: Path) -> None:
    """Its processor and memory are not what limits a GPU."""
    found = profiled(ARCHITECTURES["cnn"](), feeds("cnn"))
    machine, rate, memory, *_ = str(found).splitlines()
    assert machine.startswith(f"model on {CUDA} ({len(found.nodes)} nodes), with ")
    assert re.search(r"GFLOP/s(; profiling|$)", rate)
    assert "arena" not in memory
    for event in _events(found, tmp_path):
        assert "of peak" not in event.get("args", {})
    found.save(tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '"provider":"CUDA"' in report
    assert "of the float32 peak" not in report


def test_the_trace_of_a_session_names_the_provider(tmp_path: Path) -> None:
    options = bascule.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "session")
    session, _ = sessions(parsed(MIXED), sess_options=options)
    for _ in range(2):
        session.run(None, MIXED_FEEDS)
    events = json.loads(Path(session.end_profiling()).read_bytes())
    providers = {
        event["name"]: event["args"]["provider"] for event in events if event.get("cat") == "Node"
    }
    assert providers == {"number_kernel_time": CUDA, "text_kernel_time": CPU}


def _events(found: bascule.tools.profile.Profile, folder: Path) -> list[dict[str, Any]]:
    found.save(folder / "trace.json")
    events: list[dict[str, Any]] = json.loads((folder / "trace.json").read_bytes())["traceEvents"]
    return events


# --- explain


def test_the_table_shows_reasons_whole() -> None:
    session, _ = sessions(parsed(MIXED))
    reason = f"{CUDA}: no kernel for this operator"
    assert {r["node"]: r["reason"] for r in session.explain().records()}["text"] == reason
    lines = {line.split()[0]: line for line in str(session.explain()).splitlines()}
    assert lines["text"].endswith(f"  {reason}")


# --- check


def test_a_model_on_the_gpu_has_no_prediction() -> None:
    model = ARCHITECTURES["cnn"]().SerializeToString()
    assert bascule.check(model, providers=[CPU]).prediction is not None
    for providers in ([CUDA], [CUDA, CPU]):
        found = bascule.check(model, providers=providers)
        assert found.can_run and found.prediction is None


def test_what_to_do_about_a_node_without_a_kernel() -> None:
    data = parsed(MIXED).SerializeToString()
    advice = f"Name {CPU} among the session's providers, too"
    (found,) = [f for f in bascule.check(data, providers=[CUDA]).findings if f.kind == "operator"]
    assert found.subjects == ("text",) and found.advice.startswith(advice)
    with pytest.raises(bascule.errors.NotImplemented, match=rf"'text'[^$]*{advice}"):
        bascule.InferenceSession(data, providers=[CUDA])
    assert bascule.check(data, providers=[CUDA, CPU]).can_run
