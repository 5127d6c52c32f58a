# SPDX-License-Identifier: Apache-2.0
"""Profiles: what nodes took and cost, the trace, the report, and what profiling must not do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

import bascule
from bascule import errors
from bascule.cli import main
from bascule.ir.load import load_model
from bascule.load_clock import LoadClock
from bascule.native import usable_cpus
from bascule.session_profile import name_apart
from bascule.tools.profile import Profile, profile
from bascule.tools.profile.collect import nested_ns, top_level_runs
from bascule.tools.profile.costs import cost_of, costs_of
from bascule.tools.profile.peaks import Peaks
from bascule.tools.profile.table import duration, size

DIGITS = Path(bascule.__file__).parent / "examples" / "digits.onnx"
STACK = 'File "net.py", line {}, in forward\n    {}\n'


def parsed(text: str, opset: int = 20) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> {text}')


def network() -> onnx.ModelProto:
    """Two products of a module each, with source lines."""
    proto = parsed("""
    net (float[n, 64] x) => (float[n, 32] y)
    { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) y = Softmax(c) }
    """)
    random = np.random.default_rng(0)
    for name, width in (("w", 64), ("v", 32)):
        values = random.standard_normal((64, width), np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    scopes = ["net.first", "net.first", "net.second", "net.second"]
    codes = ["a = self.first(x)", "a = self.first(x)", "c = self.second(b)", "return softmax(c)"]
    for number, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{number}"
        text = STACK.format(10 + number, codes[number])
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=text)
        path = f"['', 'net', '{scopes[number]}', 'call']"
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=path)
    return proto


@pytest.fixture(scope="module")
def found() -> Profile:
    return profile(network(), runs=5, dims={"n": 16})


# --- the figures


def test_every_node_has_its_time_and_cost(found: Profile) -> None:
    assert bascule.profile is profile and bascule.Profile is Profile
    assert len(found.run_seconds) == len(found.plain_seconds) == 5
    products = [node for node in found.nodes if "MatMul" in node.op_type]
    assert [node.flops for node in products] == [2 * 16 * 64 * 64, 2 * 16 * 64 * 32]
    assert products[0].bytes == 4 * (16 * 64 + 64 * 64 + 16 * 64)
    assert [node.shape for node in products] == [(16, 64), (16, 32)]
    for node in found.nodes:
        assert node.seconds > 0 and node.calls == 1 and node.of_peak is not None
        assert node.provider == "CPUExecutionProvider" and node.kernel and node.dtype == "float"
    assert sum(node.share for node in found.nodes) == pytest.approx(1)
    assert found.node_seconds <= max(found.run_seconds) * len(found.nodes)
    assert found.memory.weights >= 4 * 64 * 96 and found.memory.most_live > 0


def test_groups(found: Profile) -> None:
    for groups in (found.by_operator(), found.by_module(), found.by_source()):
        assert sum(group.share for group in groups) == pytest.approx(1)
        times = [group.seconds for group in groups]
        assert times == sorted(times, reverse=True)
    assert {group.name for group in found.by_module()} == {"net.first", "net.second"}
    assert [group.name for group in found.by_module(1)] == ["net"]
    lines = {group.name for group in found.by_source()}
    assert "net.py:10 in forward: a = self.first(x)" in lines
    first = next(node for node in found.nodes if node.scope == ("net", "first"))
    assert set(first.replaced) == {"MatMul_0", "Relu_1"}


def test_the_table(found: Profile) -> None:
    text = str(found)
    for part in ("2 threads" if found.peaks.threads == 2 else "thread", "net.py:10", "MatMul"):
        assert part in text
    assert "source line" in text and "loading: load" in text
    assert [node.seconds for node in found.top(2)] == sorted(
        (node.seconds for node in found.nodes), reverse=True
    )[:2]
    json.dumps(found.records())


def test_loading_is_told_by_phase_and_pass(found: Profile) -> None:
    assert set(found.load_seconds) == {"load", "canonicalize", "legalize", "optimize", "compile"}
    phases = [span for span in found.load_spans if span.category == "phase"]
    assert {span.name for span in phases} == set(found.load_seconds)
    rewrites = {span.name for span in found.load_spans if span.category == "rewrite"}
    changed = {each.name for each in found.passes if each.changes}
    assert rewrites and rewrites <= changed
    optimize = next(span for span in phases if span.name == "optimize")
    for span in found.load_spans:
        if span.category in ("stage", "pass", "rules", "rewrite", "inference"):
            assert optimize.start_ns <= span.start_ns
            assert span.start_ns + span.duration_ns <= optimize.start_ns + optimize.duration_ns


LOOP = """
looped (float[4] x, int64 trips, bool go) => (float[4] y) {
  y = Loop (trips, go, x) <body = body (int64 i, bool on, float[4] s) => (bool more, float[4] t) {
    more = Identity(on)
    u = Sin(s)
    t = Cos(u)
  }>
}
"""


def test_nodes_inside_count_for_themselves() -> None:
    feeds = {"x": np.ones(4, np.float32), "trips": np.int64(7), "go": np.bool_(True)}
    result = profile(parsed(LOOP), feeds, runs=3)
    nodes = {node.op_type.rpartition(".")[2]: node for node in result.nodes}
    assert nodes["Loop"].calls == 1
    inner = [node for node in result.nodes if node.inside]
    assert inner and all(node.calls == 7 for node in inner)
    assert result.node_seconds < result.seconds * 1.5
    html = tmp_report(result)
    assert html["run"]["lanes"][0]["items"]
    assert {item[3] for item in html["run"]["lanes"][0]["items"]} == {0, 1}


def test_runs_within_runs() -> None:
    def run(program: int, thread: int, *times: int) -> Any:
        return (program, 0, -1, thread, np.array(times), [])

    runs = [run(1, 5, 12, 14), run(1, 5, 14, 18), run(0, 5, 10, 11, 20, 25), run(1, 6, 12, 13)]
    assert {k: v.tolist() for k, v in nested_ns(runs).items()} == {2: [0, 6, 0]}
    assert top_level_runs(runs) == [2, 3]


def test_many_short_nodes_are_timed_in_turn() -> None:
    names = ["x", *(f"v{number}" for number in range(99)), "y"]
    kinds = ("Neg", "Abs", "Relu")
    nodes = [
        helper.make_node(kinds[i % 3], [names[i]], [names[i + 1]], name=f"n{i}") for i in range(100)
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [4])], [value("y", TensorProto.FLOAT, [4])]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = bascule.SessionOptions()
    options.graph_optimization_level = bascule.GraphOptimizationLevel.ORT_DISABLE_ALL
    result = profile(proto, runs=100, session_options=options)
    assert len(result.nodes) == 100 and all(node.seconds > 0 for node in result.nodes)
    assert all(node.calls == 1 for node in result.nodes)
    lane = tmp_report(result)["run"]["lanes"][0]["items"]
    assert len(lane) == 100


def test_threads_have_their_part() -> None:
    if usable_cpus() < 2:
        pytest.skip("there is one CPU")
    text = "g (float[512,512] x, float[512,512] w) => (float[512,512] y) { y = MatMul(x, w) }"
    options = bascule.SessionOptions()
    options.intra_op_num_threads = 2
    result = profile(parsed(text), runs=5, session_options=options)
    trace = json.loads(saved(result))
    work = [event for event in trace["traceEvents"] if event.get("cat") == "Work"]
    assert work and all(event["name"] == result.nodes[0].name for event in work)
    threads = [e for e in trace["traceEvents"] if e["name"] == "thread_name"]
    assert any(event["args"]["name"].startswith("worker 1") for event in threads)


def test_sizes_of_the_run_are_what_counts() -> None:
    text = "g (float[a,b] x, float[b,c] w) => (float[a,c] y) { y = MatMul(x, w) }"
    feeds = {"x": np.ones((3, 5), np.float32), "w": np.ones((5, 7), np.float32)}
    (node,) = profile(parsed(text), feeds, runs=1).nodes
    assert node.flops == 2 * 3 * 5 * 7 and node.bytes == 4 * (15 + 35 + 21)


def test_wrong_arguments() -> None:
    with pytest.raises(errors.InvalidArgument, match="runs is 0"):
        profile(DIGITS, runs=0)
    with pytest.raises(ValueError, match="digits"):
        profile(DIGITS, runs=1).save("digits.txt")


@pytest.mark.parametrize("kind", ["session", "model", "bytes"])
def test_what_can_be_profiled(kind: str) -> None:
    source: Any = {
        "session": lambda: bascule.InferenceSession(DIGITS),
        "model": lambda: bascule.load(DIGITS),
        "bytes": DIGITS.read_bytes,
    }[kind]()
    assert profile(source, runs=1).nodes


# --- costs


@pytest.mark.parametrize(
    ("text", "flops", "nbytes"),
    [
        ("g (float[2,3] x) => (float[3,2] y) { y = Transpose(x) }", 0, 48),
        ("g (float[2,3] x, int64[1] s) => (float[6] y) { y = Reshape(x, s) }", 0, 0),
        ("g (float[9,3] x, int64[2] i) => (float[2,3] y) { y = Gather(x, i) }", 0, 64),
        ("g (float[2,3] x) => (float[2,3] y) { y = Add(x, x) }", 6, 48),
        ("g (float[2,3] x, float[3,5] w) => (float[2,5] y) { y = MatMul(x, w) }", 60, 124),
        ("g (float[n,3] x) => (float[n,3] y) { y = Exp(x) }", None, None),
        (
            "g (float[1,2,1,4] q, float[1,2,1,4] k, float[1,2,6,4] p) => (float[1,2,1,4] y,"
            " float[1,2,7,4] nk, float[1,2,7,4] nv) { y, nk, nv = Attention(q, k, k, , p, p) }",
            4 * 8 * 7,
            4 * (2 * 8 + 48 + 8 + 2 * 56),
        ),
        ("g (float[2,3] x) => (float[1,1] y) { y = ReduceSum(x) }", 6, 28),
        ("g (float[1,1,4] x) => (float[1,1,2] y) { y = MaxPool<kernel_shape=[3]>(x) }", 6, 24),
    ],
)
def test_costs(text: str, flops: int | None, nbytes: int | None) -> None:
    (node,) = load_model(parsed(text)).graph
    assert (cost_of(node).flops, cost_of(node).bytes) == (flops, nbytes)


def test_costs_of_fused_nodes(tmp_path: Path) -> None:
    session = bascule.InferenceSession(
        parsed(
            "g (float[4,8] x) => (float[4,8] y) { a = Exp(x) b = Neg(a) y = Tanh(b) }"
        ).SerializeToString(),
        profiled(tmp_path / "unused"),
    )
    graph = session._trace.loaded.graph
    assert graph is not None
    (found,) = costs_of(graph, {"x": (4, 8)}, {}).values()
    assert (found.flops, found.bytes) == (3 * 32, 2 * 4 * 32)


def test_peaks() -> None:
    peaks = Peaks(1, 100.0, 10.0, 50.0)
    assert peaks.least_seconds(10**9, 0) == pytest.approx(0.01)
    assert peaks.least_seconds(0, 10**9) == pytest.approx(0.1)
    assert peaks.least_seconds(0, 10**6) == pytest.approx(10**6 / 50e9)
    assert peaks.share(10**9, 0, 0.02) == pytest.approx(0.5)
    assert peaks.share(None, None, 1) is None and peaks.share(1, 1, 0) is None


def test_text_of_numbers() -> None:
    assert [duration(s) for s in (2, 0.0123, 4e-6, 3e-9)] == ["2 s", "12.3 ms", "4 µs", "3 ns"]
    assert [size(n) for n in (3e9, 2.5e6, 1000, 12)] == ["3 GB", "2.5 MB", "1 kB", "12 B"]


# --- the trace


def saved(result: Profile, ending: str = ".json") -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"profile{ending}"
        result.save(path)
        return path.read_text(encoding="utf-8")


def test_the_trace(found: Profile) -> None:
    trace = json.loads(saved(found))
    events = trace["traceEvents"]
    categories = {event.get("cat") for event in events}
    assert categories >= {"Session", "Optimizer.pass", "Optimizer.rewrite", "Run", "Node"}
    assert "Allocation" in categories
    for event in events:
        if event["ph"] == "X":
            assert event["dur"] >= 0 and event["ts"] >= 0
    nodes = [event for event in events if event.get("cat") == "Node"]
    assert len(nodes) >= 5 * len(found.nodes)
    product = next(e for e in nodes if e["args"]["op_name"] == "MatMul")
    assert product["args"]["GFLOP/s"] > 0 and product["args"]["GB/s"] > 0
    assert product["args"]["source"].startswith("net.py:10 in forward")
    assert product["args"]["module"] == "net.first" and "%" in product["args"]["of peak"]
    assert any(event["ph"] == "C" and event["args"]["live"] >= 0 for event in events)
    names = {e["args"]["name"].split()[0] for e in events if e["name"] == "thread_name"}
    assert {"loading", "run"} <= names
    runs = [event for event in events if event.get("cat") == "Run"]
    assert len(runs) == 5
    for node in nodes[-len(found.nodes) :]:
        assert any(r["ts"] <= node["ts"] <= r["ts"] + r["dur"] for r in runs)


def profiled(prefix: Any) -> bascule.SessionOptions:
    options = bascule.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    return options


def test_the_trace_of_a_session(tmp_path: Path) -> None:
    session = bascule.InferenceSession(network().SerializeToString(), profiled(tmp_path / "trace"))
    x = np.ones((16, 64), np.float32)
    for _ in range(3):
        session.run(None, {"x": x})
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event for event in events if event["cat"] == "Node"]
    assert len(nodes) == 3 * len(session.explain().rows)
    product = next(event for event in nodes if event["args"]["op_name"] == "MatMul")
    assert product["args"]["GFLOP/s"] > 0 and product["args"]["source"].startswith("net.py:10")
    assert {"load", "optimize"} <= {e["name"] for e in events if e["cat"] == "Session"}


def test_a_run_that_fails_is_in_the_trace(tmp_path: Path) -> None:
    text = "g (float[a] x, float[b] z) => (float[c] y) { s = Sin(x) y = Add(s, z) }"
    session = bascule.InferenceSession(
        parsed(text).SerializeToString(),
        profiled(tmp_path / "trace"),
        disabled_optimizers=["fuse_elementwise"],
    )
    feeds = {"x": np.ones(3, np.float32), "z": np.ones(4, np.float32)}
    with pytest.raises(errors.Fail):
        session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text())
    assert [e["args"]["op_name"] for e in events if e["cat"] == "Node"] == ["Sin"]


def test_sessions_without_profiling_keep_nothing() -> None:
    session = bascule.InferenceSession(DIGITS)
    assert session._trace.profiler is None and session._trace.loaded.graph is None
    assert not session._compiled.spans


def test_copies_have_a_profile_of_their_own(tmp_path: Path) -> None:
    import copy

    first = bascule.InferenceSession(DIGITS, profiled(tmp_path / "trace"))
    second = copy.copy(first)
    feeds = {first.get_inputs()[0].name: np.zeros((1, 1, 8, 8), np.float32)}
    second.run(None, feeds)
    counts = []
    for session in (first, second):
        events = json.loads(Path(session.end_profiling()).read_text())
        counts.append(sum(event["cat"] == "Node" for event in events))
    assert counts == [0, len(first.explain().rows)]


def test_equal_names_are_told_apart() -> None:
    graph = load_model(
        parsed("g (float x) => (float y) { a = Sin(x) b = Cos(a) y = Tan(b) }")
    ).graph
    for node in graph:
        node.name = "same"
    name_apart(graph)
    assert [node.name for node in graph] == ["same#2", "same#3", "same"]


def test_a_clock_keeps_spans_only_where_asked() -> None:
    for keeps in (False, True):
        clock = LoadClock(keeps)
        clock.phase("one")
        clock.phase("two")
        clock.phase("one")
        assert set(clock.seconds) == {"one", "two"}
        assert [span.name for span in clock.spans] == (["one", "two", "one"] if keeps else [])


# --- the report


def tmp_report(result: Profile) -> dict[str, Any]:
    """The figures in the report."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', saved(result, ".html"), re.S
    )
    assert found is not None
    record: dict[str, Any] = json.loads(found[1])
    return record


def test_the_report_has_all_and_needs_nothing(found: Profile) -> None:
    html = saved(found, ".html")
    outside = set(re.findall(r"https?://[^\"'\s<>]+", html)) - {"http://www.w3.org/2000/svg"}
    assert not outside and " src=" not in html and "<link" not in html and "@import" not in html
    assert "default-src 'none'" in html
    assert "@DATA@" not in html and "@SCRIPT@" not in html
    data = tmp_report(found)
    assert [node["name"] for node in data["nodes"]] == [node.name for node in found.nodes]
    assert data["lines"] and data["by_line"] and data["operators"] and data["load"]
    assert data["run"]["length"] > 0 and data["run"]["memory"]
    (lane,) = (each for each in data["run"]["lanes"] if each["name"].startswith("run"))
    assert [item[0] for item in lane["items"]] == list(range(len(found.nodes)))
    for _, start, length, _ in lane["items"]:
        assert 0 <= start <= start + length <= data["run"]["length"]


def test_text_of_a_model_stays_text() -> None:
    proto = parsed("g (float[4] x) => (float[4] y) { y = Sin(x) }")
    proto.graph.node[0].name = evil = "</script><script>alert(1)</script><!-- @SCRIPT@ @STYLE@"
    result = profile(proto, runs=1)
    result.model = "<b>&@DATA@"
    html = saved(result, ".html")
    assert html.count("<script") == 2 and "alert(1)</script>" not in html
    assert "<title>&lt;b&gt;&amp;@DATA@: profile</title>" in html
    assert tmp_report(result)["nodes"][0]["name"] == evil


# --- the command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html, trace = str(tmp_path / "p.html"), str(tmp_path / "p.json")
    command = ["profile", str(DIGITS), "--runs", "2", "--dim", "N=3"]
    assert main([*command, "--html", html, "--trace", trace, "--top", "2"]) == 0
    printed = capsys.readouterr().out
    assert "a run takes" in printed and "more" in printed
    assert Path(html).stat().st_size > 1000 and json.loads(Path(trace).read_text())["traceEvents"]
    assert main([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["nodes"] and record["feeds"].popitem()[1].startswith("float32[3,")
    assert main([*command, "--html", "report.txt"]) == 2
    assert main(["profile", str(DIGITS), "--runs", "0"]) == 2
