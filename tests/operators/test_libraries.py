# SPDX-License-Identifier: Apache-2.0
"""Libraries of operators in C++: what they can do, and where sessions show it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import bascule
from bascule import errors
from bascule.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph
from bascule.ir.dtype import DataType
from bascule.operators import registry
from tests.api.models import tensor
from tests.operators.build import SOURCES, built, needs_compiler
from tests.operators.models import call, graph, session
from tests.support.cuda_emulation import missing as cuda_missing
from tests.support.cuda_session import EmulatedSession

pytestmark = needs_compiler

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def library() -> Path:
    return built(SOURCES / "operators.cpp")


@pytest.fixture
def nothing_left() -> Iterator[None]:
    yield
    for each in list(registry):
        registry.remove(each)


def factor(number: int) -> Path:
    return built(SOURCES / "factor.cpp", f"-DFACTOR={number}")


def y(dtype: int = TensorProto.FLOAT, name: str = "y") -> Any:
    return tensor(name, dtype, None)


# --- values


@pytest.mark.parametrize(
    "dtype", [d for d in DataType if d not in (DataType.UNDEFINED, DataType.STRING)]
)
def test_every_element_type(library: Path, dtype: DataType) -> None:
    x = np.array([[1, 0.5, 1], [1, 1, 0]], np.float32).astype(dtype.numpy)
    nodes = [call("Copy", ["x"], ["before"]), call("Copy", ["before"], ["y"])]
    inputs, outputs = [tensor("x", int(dtype), ("n", 3))], [y(int(dtype))]
    made = session(graph(*nodes, inputs=inputs, outputs=outputs, ir_version=13), library)
    for _ in range(2):
        (found,) = made.run(None, {"x": x})
        assert found.dtype == x.dtype
        assert found.tobytes() == x.tobytes()


def test_no_elements_and_no_axes(library: Path) -> None:
    made = session(graph(call("Copy"), inputs=[y(name="x")]), library)
    for shape in [(), (0,), (3, 0, 2), (1,) * 8]:
        (found,) = made.run(None, {"x": np.ones(shape, np.float32)})
        assert found.shape == shape


def test_strings(library: Path) -> None:
    words = np.array([["a", "ß\0", ""], ["b" * 100, "", "c"]], object)
    node = call("Join", ["x"], ["y", "z"], by="-")
    inputs = [tensor("x", TensorProto.STRING)]
    made = session(
        graph(node, inputs=inputs, outputs=[y(TensorProto.STRING), y(TensorProto.INT64, "z")]),
        library,
    )
    for _ in range(2):
        lines, sizes = made.run(None, {"x": words})
        assert lines.tolist() == ["a-ß\0-", "b" * 100 + "--c"]
        assert sizes.tolist() == [6, 103]
    bad = graph(call("BadJoin"), inputs=inputs, outputs=[y(TensorProto.STRING)])
    with pytest.raises(Fail, match="1 strings do not fill output 0"):
        session(bad, library).run(None, {"x": words})


def test_strings_are_handed_out_if_asked_for(library: Path) -> None:
    inputs, outputs = [tensor("x", TensorProto.STRING)], [y(TensorProto.STRING)]
    with pytest.raises(errors.NotImplemented, match=r"input 0 'x' is tensor\(string\)"):
        session(graph(call("Copy"), inputs=inputs, outputs=outputs), library)


def test_optional_and_variadic_inputs(library: Path) -> None:
    for names, expected in [
        (["x"], X),
        (["x", "b"], X + 10),
        (["x", "", "x"], 2 * X),
        (["x", "b", "x", "x"], 3 * X + 10),
    ]:
        bias = numpy_helper.from_array(np.array([10], np.float32), "b")
        made = session(graph(call("Sum", names), initializers=[bias]), library)
        np.testing.assert_array_equal(made.run(None, {"x": X})[0], expected)


def test_loops_over_threads(library: Path) -> None:
    big = np.random.default_rng(0).standard_normal((100_000, 3), np.float32)
    found = []
    for threads in (1, 4):
        options = bascule.SessionOptions()
        options.intra_op_num_threads = threads
        made = session(graph(call("Sum", ["x", "", "x"])), library, options=options)
        found.append(made.run(None, {"x": big})[0])
        count = graph(call("Threads", []), inputs=[], outputs=[y(TensorProto.INT64)])
        assert session(count, library, options=options).run(None, {})[0] == threads
    np.testing.assert_array_equal(found[0], 2 * big)
    np.testing.assert_array_equal(found[0], found[1])


def test_runs_at_the_same_time(library: Path) -> None:
    made = session(graph(call("Sum", ["x", "", "x"], ["t"]), call("Copy", ["t"])), library)
    feeds = [np.full((20_000, 3), i, np.float32) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: made.run(None, {"x": x})[0], feeds * 4))
    for each, x in zip(found, feeds * 4, strict=True):
        np.testing.assert_array_equal(each, 2 * x)


def test_attributes(library: Path) -> None:
    def run(**given: Any) -> list[float]:
        outputs = [y(TensorProto.DOUBLE)]
        made = session(graph(call("Attributes", [], **given), inputs=[], outputs=outputs), library)
        return made.run(None, {})[0].tolist()  # type: ignore[no-any-return]

    assert run() == [3, 0.5, 4, 1, 1, 2, 1, 0]
    table = helper.make_tensor("t", TensorProto.INT32, [3], [7, 8, 9])
    given = {"int": -1, "float": 2.0, "string": "ß", "flag": 0, "ints": [5], "floats": [1.5, 2.5]}
    assert run(**given, strings=["abc"], tensor=table) == [-1, 2, 2, 0, 5, 1.5, 2.5, 3, 7, 8, 9]


def test_16_bit_floats_round_as_numpy_does(library: Path) -> None:
    random = np.random.default_rng(0)
    x = (random.standard_normal(3000) * 10.0 ** random.integers(-9, 6, 3000)).astype(np.float32)
    edges = [0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.99, 65520, 2**-24, 2**-25, 6.1e-5, 1e-8]
    x = np.concatenate([x, np.array(edges, np.float32)]).reshape(-1, 3)
    node = call("Narrow", ["x"], ["half", "brain"])
    made = session(graph(node, outputs=[y(name="half"), y(name="brain")]), library)
    half, brain = made.run(None, {"x": x})
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(half, x.astype(np.float16).astype(np.float32))
    narrow = DataType.BFLOAT16.numpy
    np.testing.assert_array_equal(brain, x.astype(narrow).astype(np.float32))


# --- types


def shapes(made: bascule.InferenceSession) -> list[Any]:
    return [out.shape for out in made.get_outputs()]


def test_rules_for_types(library: Path) -> None:
    node = call("Sizes", ["x"], ["y", "z"])
    made = session(graph(node, outputs=[y(), y(name="z")]), library)
    assert shapes(made) == [["n", 7], [3]]
    one, two = made.run(None, {"x": X})
    assert one.shape == (2, 7) and two.shape == (3,)
    inputs = [tensor("x", shape=("n", "d"))]
    made = session(graph(node, inputs=inputs, outputs=[y(), y(name="z")]), library)
    assert shapes(made)[1] == ["d"] and shapes(made)[0][0] == "n"
    assert not isinstance(shapes(made)[0][1], int)
    made = session(graph(call("Sizes"), inputs=[y(name="x")]), library)
    assert made.run(None, {"x": X})[0].shape == (2, 7)


def test_a_rule_sees_constants(library: Path) -> None:
    shape = numpy_helper.from_array(np.array([3, 2]), "s")
    made = session(graph(call("Reshape", ["x", "s"]), initializers=[shape]), library)
    assert shapes(made) == [[3, 2]]
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], X.reshape(3, 2))
    fed = [tensor("x"), tensor("s", TensorProto.INT64, (2,))]
    made = session(graph(call("Reshape", ["x", "s"]), inputs=fed), library)
    assert made.run(None, {"x": X, "s": np.array([1, 6])})[0].shape == (1, 6)


def test_types_without_a_rule(library: Path) -> None:
    """Operators that read the outputs know what is declared."""
    nodes = [call("Sum", ["x", "", "x"], ["t"]), helper.make_node("Exp", ["t"], ["y"])]
    (found,) = session(graph(*nodes), library).run(None, {"x": X})
    np.testing.assert_allclose(found, np.exp(2 * X), rtol=1e-6)


def test_versions(library: Path) -> None:
    with pytest.raises(errors.NotImplemented, match="since version 2 of its domain; the model is"):
        session(graph(call("Number"), version=1), library)
    for version, expected in ((2, 2), (3, 2), (4, 4), (9, 4)):
        (found,) = session(graph(call("Number"), version=version), library).run(None, {"x": X})
        assert (found == expected).all()


# --- which sessions


def test_sessions_do_not_disturb_each_other() -> None:
    proto = graph(call("Scale", domain="test.factor"))
    two, three = session(proto, factor(2)), session(proto, factor(3))
    for made, expected in ((two, 2), (three, 3), (two, 2)):
        np.testing.assert_array_equal(made.run(None, {"x": X})[0], X * expected)
    with pytest.raises(Fail, match=r"Scale.* is not a registered function/op"):
        session(proto)
    with pytest.raises(Fail, match=r"test\.factor\.Scale since 1 is in .*factor.*already"):
        session(proto, factor(2), factor(3))
    twice = session(proto, factor(2), factor(2))
    np.testing.assert_array_equal(twice.run(None, {"x": X})[0], X * 2)


def test_all_sessions_of_the_process(library: Path, nothing_left: None) -> None:
    loaded = bascule.load_operators(library)
    assert bascule.load_operators(library) is loaded
    assert loaded.version == "2.5" and loaded.name == library.name and len(loaded.digest) == 64
    one = next(each for each in loaded.operators if each.name == "Attributes")
    assert one.attributes[1]["default"] == 0.5 and one.outputs[0]["dtypes"] == [11]
    np.testing.assert_array_equal(session(graph(call("Copy"))).run(None, {"x": X})[0], X)
    assert bascule.load(graph(call("Copy")).SerializeToString())(X).tolist() == X.tolist()
    for version, expected in ((3, 2), (4, 4)):
        (found,) = session(graph(call("Number"), version=version)).run(None, {"x": X})
        assert (found == expected).all()
    with pytest.raises(Exception, match="was registered without a gradient"):
        bascule.grad(graph(call("Copy"), outputs=[tensor("y")]), wrt="x", of="y")


def test_of_the_process_and_of_a_session(nothing_left: None) -> None:
    bascule.load_operators(factor(3))
    proto = graph(call("Scale", domain="test.factor"))
    np.testing.assert_array_equal(session(proto).run(None, {"x": X})[0], X * 3)
    np.testing.assert_array_equal(session(proto, factor(2)).run(None, {"x": X})[0], X * 2)
    with pytest.raises(InvalidArgument, match="already; pass replace=True"):
        bascule.load_operators(factor(2))
    np.testing.assert_array_equal(session(proto).run(None, {"x": X})[0], X * 3)
    bascule.load_operators(factor(2), replace=True)
    np.testing.assert_array_equal(session(proto).run(None, {"x": X})[0], X * 2)


def test_in_functions_and_nested_graphs(library: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    branch = [
        helper.make_graph([call("Sum", ["x", "", "x"], ["t"])], "then", [], [y(name="t")]),
        helper.make_graph([call("Scale", ["x"], ["t"], "test.factor")], "else", [], [y(name="t")]),
    ]
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=branch[0], else_branch=branch[1])
    made = session(graph(chosen, inputs=[x, condition]), library, factor(5))
    for value, expected in ((True, 2), (False, 5)):
        (found,) = made.run(None, {"x": X, "c": np.array(value)})
        np.testing.assert_array_equal(found, expected * X)

    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("test", 3)]
    body = [call("Number", ["a"], ["b"])]
    function = helper.make_function("own", "F", ["a"], ["b"], body, opsets)
    proto = graph(call("F", domain="own"), call("Number", ["x"], ["z"]), version=4)
    proto.graph.output.append(y(name="z"))
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    one, two = session(proto, library).run(None, {"x": X})
    assert (one == 2).all() and (two == 4).all()


def test_objects_go_with_their_sessions(library: Path) -> None:
    proto = graph(call("Counted", []), inputs=[], outputs=[y(TensorProto.INT64)])
    first = session(proto, library)
    before = int(first.run(None, {})[0])
    second = session(proto, library)
    assert first.run(None, {})[0] == before + 1
    del second
    assert first.run(None, {})[0] == before


def test_copies_of_sessions(library: Path) -> None:
    made = session(graph(call("Sum", ["x", "", "x"])), library)
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(again.run(None, {"x": X})[0], 2 * X)


# --- where it shows


def test_explain_profile_and_check_name_the_library(library: Path) -> None:
    proto = graph(call("Sum", ["x", "", "x"]))
    made = session(proto, library)
    (row,) = made.explain().rows
    assert (row.kernel, row.provider) == (library.name, "CPUExecutionProvider")
    options = made.get_session_options()
    profile = bascule.profile(proto, {"x": X}, session_options=options, runs=2)
    assert library.name in {each.kernel for each in profile.nodes}
    checked = bascule.check(proto, session_options=options)
    assert checked.can_run
    assert f"test.Sum is run by {library.name}" in "".join(f.text for f in checked.findings)
    assert not bascule.check(proto).can_run


def test_trace_and_compare(library: Path, nothing_left: None) -> None:
    nodes = [call("Sum", ["x", "", "x"], ["t"]), helper.make_node("Exp", ["t"], ["y"])]
    values = {each.name: each.array for each in session(graph(*nodes), library).trace({"x": X})}
    np.testing.assert_array_equal(values["t"], 2 * X)
    bascule.load_operators(library)
    assert bascule.compare(graph(*nodes), "cpu:disabled", {"x": X}).agrees


def test_no_plan_is_written(library: Path, tmp_path: Path) -> None:
    options = bascule.SessionOptions()
    options.add_session_config_entry("session.cache_dir", str(tmp_path))
    made = session(graph(call("Copy")), library, options=options)
    assert f"is run by the library {library.name}" in made.explain().plan_cache
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], X)


# --- errors


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("run", r"Broken node. Name:'here'.*cannot go on \[inputs: float\{2,3\}\]"),
        ("run, an int", "an exception that is no std::exception"),
        ("loop", "the last part failed"),
        ("type", "elements of type 1 were read as type 11"),
        ("input", "input 1 is left out"),
        ("axis", "axis 5 of a tensor of rank 2"),
        ("attribute", "attribute 'where' was read as another type"),
        ("no attribute", "there is no attribute 'what'"),
        ("workspace", "the library asks for -1 bytes"),
    ],
)
def test_errors_of_runs_name_the_node(library: Path, where: str, message: str) -> None:
    made = session(graph(call("Broken", where=where)), library)
    for _ in range(2):
        with pytest.raises(Fail, match=message):
            made.run(None, {"x": X})


def test_errors_of_loads_name_the_node(library: Path) -> None:
    with pytest.raises(InvalidGraph, match="Broken node 'here': no such thing"):
        session(graph(call("Broken", where="create")), library)
    with pytest.raises(InvalidGraph, match=r"test\.Broken node 'here': such types cannot be"):
        session(graph(call("Broken", where="types")), library)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (call("Copy", []), "input 0 'x' is left out"),
        (call("Copy", ["", "x"]), "it has 2 inputs; the operator has 1"),
        (call("Copy", ["x"], ["y", "z"]), "it has 2 outputs; the operator has 1"),
        (call("Narrow", ["x"], ["y"]), "output 1 'brain' is left out"),
        (call("Copy", some=1), "the operator has no attribute 'some'"),
        (call("Broken"), "attribute 'where' is missing"),
        (call("Broken", where=1), "attribute 'where' is not a string"),
        (call("Attributes", [], ints=[0.5]), "attribute 'ints' is not integers"),
        (call("Attributes", [], float=1), "attribute 'float' is not a float"),
    ],
)
def test_nodes_that_do_not_fit(library: Path, node: Any, message: str) -> None:
    dtype = TensorProto.DOUBLE if node.op_type == "Attributes" else TensorProto.FLOAT
    with pytest.raises(InvalidGraph, match=rf"node 'here': {message} \({library.name}\)"):
        session(graph(node, outputs=[y(dtype)]), library)


def test_element_types_that_do_not_fit(library: Path) -> None:
    inputs = [tensor("x"), tensor("z", TensorProto.DOUBLE)]
    with pytest.raises(
        errors.NotImplemented, match=r"input 2 'terms' is tensor\(double\), and input 0 tensor\(flo"
    ):
        session(graph(call("Sum", ["x", "", "z"]), inputs=inputs), library)
    with pytest.raises(errors.NotImplemented, match="the operator takes float"):
        session(graph(call("Sizes", ["z"]), inputs=inputs), library)


def test_attributes_that_are_graphs(library: Path) -> None:
    nested = helper.make_graph([helper.make_node("Relu", ["x"], ["t"])], "g", [], [y(name="t")])
    with pytest.raises(InvalidGraph, match="attribute 'g' is a graph, which no operator of a"):
        session(graph(call("Copy", g=nested)), library)


def test_beside_a_gpu(library: Path) -> None:
    """Inputs and outputs are copied."""
    if cuda_missing():
        pytest.skip(cuda_missing())
    nodes = [
        helper.make_node("Exp", ["x"], ["a"]),
        call("Sum", ["a", "", "x"], ["b"]),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    options = bascule.SessionOptions()
    options.register_custom_ops_library(str(library))
    made = EmulatedSession(graph(*nodes).SerializeToString(), options)
    rows = {row.op_type: (row.provider, row.kernel) for row in made.explain().rows}
    assert rows["Sum"] == ("CPUExecutionProvider", library.name)
    assert rows["Exp"][0] == "CUDAExecutionProvider"
    np.testing.assert_allclose(made.run(None, {"x": X})[0], -(np.exp(X) + X), rtol=1e-5)
