# SPDX-License-Identifier: Apache-2.0
"""Operators that Python functions run: values, errors, threads, and what is kept alive."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bascule import errors
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Node, Value
from bascule.ir.types import OptionalType, SequenceType, TensorType, Type
from bascule.providers.cpu.host import registry
from bascule.providers.cpu.provider import CpuProvider
from tests.support.native import compile_graph

FLOAT = TensorType(DataType.FLOAT, (None, None))
X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)

Make = Callable[..., Any]


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], str]:
    """Registers a function as an operator of domain "test"; returns the operator's name."""
    monkeypatch.setattr(registry, "_factories", {})

    def register(function: Callable[..., Any]) -> str:
        name = f"Op{len(registry._factories)}"
        registry.host_operator(name, "test")(lambda node: function)
        return name

    return register


def graph_of(
    op_type: str,
    inputs: list[Type | None],
    outputs: list[Type],
    before: str | None = None,
    after: str | None = None,
) -> Graph:
    """The operator alone, or with an operator of one input around it on each side."""
    graph = Graph("test")
    values = [
        None if type is None else graph.add_input(Value(f"x{index}", type))
        for index, type in enumerate(inputs)
    ]
    if before is not None:
        node = graph.append(Node(before, values[:1], name="before"))
        node.output.type = inputs[0]
        values[0] = node.output
    node = graph.append(Node(op_type, values, len(outputs), domain="test", name="the_node"))
    for value, type in zip(node.outputs, outputs):
        value.type = type
        result = value
        if after is not None:
            last = graph.append(Node(after, [value], name="after"))
            last.output.type = type
            result = last.output
        graph.add_output(result)
    return graph


def runner_of(
    op_type: str,
    inputs: list[Type | None] | None = None,
    outputs: list[Type] | None = None,
    **more: Any,
) -> Any:
    return compile_graph(graph_of(op_type, inputs or [FLOAT], outputs or [FLOAT], **more))


# --- values


def test_inputs_are_read_only_views(operator: Make) -> None:
    seen = []

    def double(x: np.ndarray) -> np.ndarray:
        seen.append((x.ctypes.data, x.flags.writeable))
        return x * 2

    runner = runner_of(operator(double))
    for _ in range(2):
        np.testing.assert_array_equal(runner.run_values([X], [])[0], X * 2)
    assert seen == [(X.ctypes.data, False)] * 2


@pytest.mark.parametrize("before", [None, "Neg"])
def test_inputs_may_be_kept(operator: Make, before: str | None) -> None:
    """Neither later runs nor the end of the program change or free what a function holds."""
    kept: list[np.ndarray] = []

    def keep(x: np.ndarray) -> np.ndarray:
        kept.append(x[1:])
        return x + 1

    runner = runner_of(operator(keep), before=before, after="Sigmoid")
    for i in range(5):
        runner.run_values([X * i], [])
    del runner
    gc.collect()
    np.empty((64, 1000), np.float32).fill(7)
    for i, array in enumerate(kept):
        np.testing.assert_array_equal(array, X[1:] * (i if before is None else -i))


@pytest.mark.parametrize("after", [None, "Neg"])
def test_what_a_function_returns(operator: Make, after: str | None) -> None:
    buffer = np.zeros((3, 4), np.float32)

    def reused(x: np.ndarray) -> np.ndarray:
        buffer[...] = x
        return buffer

    def view_of_reused(x: np.ndarray) -> np.ndarray:
        return reused(x)[:, :]

    fresh: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda x: x,
        lambda x: x.reshape(3, 4),
        lambda x: x.copy(),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: x[:, ::-1].copy()[:, ::-1],
        lambda x: x.astype(">f4"),
        lambda x: (x * 1,),
        lambda x: x.reshape(-1).copy().reshape(3, 4),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(3, 4),
    ]
    for function in [reused, view_of_reused, *fresh]:
        runner = runner_of(operator(function), after=after)
        expected = -X if after else X
        results = [runner.run_values([X * i], [])[0] for i in range(4)]
        for i, result in enumerate(results):
            np.testing.assert_array_equal(result, expected * i)
            result[...] = 5  # the caller's own
        np.testing.assert_array_equal(runner.run_values([X], [])[0], expected)


def test_a_new_array_is_not_copied(operator: Make) -> None:
    addresses = []

    def new(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        results = x + 1, (x + 2).reshape(4, 3)
        addresses.extend(array.ctypes.data for array in results)
        return results

    runner = runner_of(operator(new), outputs=[FLOAT, FLOAT])
    results = runner.run_values([X], [])
    assert [array.ctypes.data for array in results] == addresses


def test_a_kept_tuple_is_copied(operator: Make) -> None:
    kept = (X + 1, X + 2)
    runner = runner_of(operator(lambda x: kept), outputs=[FLOAT, FLOAT])
    for array in runner.run_values([X], []):
        array[...] = 0
    np.testing.assert_array_equal(kept[1], X + 2)


@pytest.mark.parametrize("dtype", [d for d in DataType if d is not DataType.UNDEFINED])
def test_every_element_type(operator: Make, dtype: DataType) -> None:
    if dtype is DataType.STRING:
        data = np.array([["a", ""], ["ß", "x\0"]], object)
    else:
        data = np.array([[1, 0.5], [1, 1]], np.float32).astype(dtype.numpy)
    type = TensorType(dtype, (None, None))
    received = []

    def same(x: np.ndarray) -> np.ndarray:
        received.append(x.dtype)
        return x

    runner = runner_of(operator(same), [type], [type], before="Identity")
    for _ in range(2):
        (result,) = runner.run_values([data], [])
        assert result.dtype == data.dtype
        assert result.tolist() == data.tolist()
    assert received == [data.dtype] * 2


def test_strings_of_fixed_width_and_scalars(operator: Make) -> None:
    text = TensorType(DataType.STRING, (None,))
    runner = runner_of(operator(lambda x: np.array(["ab", "c"])), [text], [text])
    assert runner.run_values([np.array(["x"], object)], [])[0].tolist() == ["ab", "c"]
    scalar = TensorType(DataType.FLOAT, ())
    runner = runner_of(operator(lambda x: x.sum()), [FLOAT], [scalar])
    (result,) = runner.run_values([X], [])
    assert result.shape == ()
    assert result == X.sum()


def test_empty_tensors(operator: Make) -> None:
    runner = runner_of(operator(lambda x: x.T), before="Neg", after="Neg")
    for shape in [(0, 3), (3, 0), (0, 0), (2, 3)]:
        (result,) = runner.run_values([np.ones(shape, np.float32)], [])
        assert result.shape == shape[::-1]


def test_absent_inputs_and_unused_outputs(operator: Make) -> None:
    seen = []

    def function(*inputs: Any) -> tuple[Any, ...]:
        seen.append([value is None for value in inputs])
        return X, "not looked at", X + 1

    graph = graph_of(operator(function), [FLOAT, None, FLOAT], [FLOAT, FLOAT, FLOAT])
    del graph.outputs[1]
    graph.nodes[0].outputs[1].output_count = 0
    first, second = compile_graph(graph).run_values([X, X], [])
    np.testing.assert_array_equal(first, X)
    np.testing.assert_array_equal(second, X + 1)
    assert seen == [[False, True, False]]


def test_sequences_and_optionals(operator: Make) -> None:
    sequence = SequenceType(FLOAT)
    runner = runner_of(operator(lambda items: [item * 2 for item in items]), [sequence], [sequence])
    (result,) = runner.run_values([[X, X[:1]]], [])
    np.testing.assert_array_equal(result[1], X[:1] * 2)
    assert runner.run_values([[]], [])[0] == []
    optional = OptionalType(FLOAT)
    runner = runner_of(operator(lambda x: x), [optional], [optional])
    assert runner.run_values([None], [])[0] is None
    np.testing.assert_array_equal(runner.run_values([X], [])[0], X)


# --- errors


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError


def raising(error: BaseException) -> Callable[[np.ndarray], np.ndarray]:
    def function(x: np.ndarray) -> np.ndarray:
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (raising(ValueError("the reason")), r"ValueError: the reason \[inputs: float\{3,4\}\]"),
        (raising(KeyError("k")), "KeyError: 'k'"),
        (raising(MemoryError()), r"MemoryError \["),
        (raising(Silent()), r"Silent \["),
        (lambda: X, "TypeError: .*takes 0 positional arguments"),
        (lambda x: x.astype(np.float64), r"output 0 'y' of the function is tensor\(double\)"),
        (lambda x: x[0], r"is tensor\(float\)\{4\}; expected tensor\(float\)\{\?,4\}"),
        (lambda x: x[:, :2], r"is tensor\(float\)\{3,2\}; expected tensor\(float\)\{\?,4\}"),
        (lambda x: None, "an object of type NoneType"),
        (lambda x: [x], "an object of type list"),
        (lambda x: 1.0, "an object of type float"),
        (lambda x: x.astype("M8[s]"), r"an array of datetime64\[s\]"),
        (lambda x: np.array([[object()]]), "is tensor\\(string\\)"),
        (lambda x: (), "returned 0 outputs; the node has 1"),
    ],
)
def test_errors_name_the_node(operator: Make, function: Any, message: str) -> None:
    graph = graph_of(operator(function), [FLOAT], [TensorType(DataType.FLOAT, (None, 4))])
    graph.outputs[0].name = "y"
    runner = compile_graph(graph)
    for _ in range(2):
        with pytest.raises(errors.Fail, match=rf"running Op0 node. Name:'the_node'.*{message}"):
            runner.run_values([X], [])


def test_wrong_elements(operator: Make) -> None:
    text = TensorType(DataType.STRING, (None,))
    runner = runner_of(operator(lambda x: np.array([1, None], object)), [FLOAT], [text])
    with pytest.raises(errors.InvalidArgument, match=r"the_node.*only hold str items"):
        runner.run_values([X], [])
    sequence = SequenceType(FLOAT)
    for wrong in ([X.astype(np.int32)], [[X]], [None]):
        runner = runner_of(operator(lambda x, wrong=wrong: wrong), [FLOAT], [sequence])
        with pytest.raises(errors.Fail, match="a list that holds something else"):
            runner.run_values([X], [])


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interruptions_reach_the_caller(operator: Make, kind: type[BaseException]) -> None:
    state = {"raise": True}

    def function(x: np.ndarray) -> np.ndarray:
        if state["raise"]:
            raise kind("as it is")
        return x

    runner = runner_of(operator(function), before="Neg")
    for _ in range(2):
        with pytest.raises(kind, match="as it is"):
            runner.run_values([X], [])
    state["raise"] = False
    np.testing.assert_array_equal(runner.run_values([X], [])[0], -X)


def test_reasons_of_factories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_factories", {})

    @registry.host_operator("Op", "test")
    def factory(node: Node) -> registry.HostFunction:
        if node.attribute("valid", 1):
            raise registry.Unavailable("pip install something")
        raise errors.InvalidGraph(f"Op node '{node.name}' makes no sense")

    graph = graph_of("Op", [FLOAT], [FLOAT])
    (answer,) = CpuProvider(1).capabilities(graph).values()
    assert (answer.accepted, answer.reason) == (False, "pip install something")
    graph.nodes[0].attributes["valid"] = 0
    with pytest.raises(errors.InvalidGraph, match="the_node"):
        CpuProvider(1).capabilities(graph)


# --- nested graphs


def loop(op_type: str, trips: int) -> Graph:
    """y = Loop(trips) of x = op(x, captured)."""
    graph = Graph("outer")
    x = graph.add_input(Value("x", FLOAT))
    negated = graph.append(Node("Neg", [x], name="neg")).output
    negated.type = FLOAT
    body = Graph("body")
    body.add_input(Value("i", TensorType(DataType.INT64, ())))
    condition = body.add_input(Value("c", TensorType(DataType.BOOL, ())))
    state = body.add_input(Value("s", FLOAT))
    inner = body.append(Node(op_type, [state, negated, x], domain="test", name="inner")).output
    inner.type = FLOAT
    body.add_output(condition)
    body.add_output(inner)
    trip_count = graph.constant(np.array(trips))
    node = graph.append(Node("Loop", [trip_count, None, x], 1, {"body": body}, name="loop"))
    node.output.type = FLOAT
    graph.add_output(node.output)
    return graph


def test_in_the_body_of_a_loop(operator: Make) -> None:
    kept: list[np.ndarray] = []

    def function(state: np.ndarray, negated: np.ndarray, x: np.ndarray) -> np.ndarray:
        kept.extend((state, negated, x))
        return state + negated

    graph = loop(operator(function), 3)
    (answer,) = [a for n, a in CpuProvider(1).capabilities(graph).items() if n.op_type == "Loop"]
    assert answer.accepted
    runner = compile_graph(graph)
    for i in range(3):
        np.testing.assert_allclose(runner.run_values([X * i], [])[0], X * i * -2, rtol=1e-6)
    for i, (negated, x) in enumerate(zip(kept[1::3], kept[2::3])):
        np.testing.assert_array_equal(negated, X * -(i // 3))
        np.testing.assert_array_equal(x, X * (i // 3))


def test_an_error_in_a_nested_graph_names_its_node(operator: Make) -> None:
    def function(*_: np.ndarray) -> np.ndarray:
        raise ValueError("deep inside")

    runner = compile_graph(loop(operator(function), 2))
    with pytest.raises(errors.Fail, match=r"Op0 node. Name:'inner'.*ValueError: deep inside"):
        runner.run_values([X], [])


# --- threads


def test_runs_overlap(operator: Make) -> None:
    """Every call waits for the others: with a lock held from run to run this would never end."""
    callers = 4
    barrier = threading.Barrier(callers, timeout=30)

    def function(x: np.ndarray) -> np.ndarray:
        barrier.wait()
        return x + 1

    runner = runner_of(operator(function), before="Neg", after="Neg")
    failures: list[Any] = []

    def work(index: int) -> None:
        for i in range(20):
            feed = X * (index * 100 + i)
            (result,) = runner.run_values([feed], [])
            if not np.array_equal(result, feed - 1):
                failures.append((index, i))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)


def test_a_function_may_run_another_program(operator: Make) -> None:
    inner = runner_of(operator(lambda x: x * 2), before="Neg")
    outer = runner_of(operator(lambda x: inner.run_values([x], [])[0] + 1), before="Neg")
    np.testing.assert_array_equal(outer.run_values([X], [])[0], X * 2 + 1)


EXIT = """
import threading, time
import numpy as np
from bascule.providers.cpu.host import registry
from tests.providers.test_host import X, runner_of
registry.host_operator("Op", "test")({factory})
runner = runner_of("Op", before="Neg")
runner.run_values([X], [])
def work():
    while True:
        runner.run_values([X], [])
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
"""


@pytest.mark.parametrize(
    "factory", ["lambda n: lambda x: x + 1", "lambda n: lambda x: time.sleep(0.001) or x + 1"]
)
def test_the_process_may_end_while_threads_run(factory: str) -> None:
    code = EXIT.format(factory=factory)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- what is kept alive


def test_nothing_is_kept_after_the_program(operator: Make) -> None:
    class Function:
        def __call__(self, x: np.ndarray) -> np.ndarray:
            return x + 1

    function = Function()
    name = operator(function)
    before = sys.getrefcount(function)
    runner = runner_of(name, before="Neg", after="Neg")
    runner.run_values([X], [])
    assert sys.getrefcount(function) > before
    del runner
    gc.collect()
    assert sys.getrefcount(function) == before


class Problem(ValueError):
    """Unlike ValueError itself, it can be referred to weakly."""


def test_nothing_is_kept_after_a_run(operator: Make) -> None:
    made: list[weakref.ref[Any]] = []

    def function(x: np.ndarray, strings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        results = x + 1, np.array(["result"] * 2, object)
        if x[0, 0] > 50:
            error = Problem("too large")
            made.append(weakref.ref(error))
            raise error
        made.extend(weakref.ref(array) for array in (x, strings, *results))
        return results

    text = TensorType(DataType.STRING, (None,))
    runner = runner_of(operator(function), [FLOAT, text], [FLOAT, text])
    x, strings = X.copy(), np.array(["first", "second"], object)
    x[0, 0] = 0
    item = strings[0]
    counts = [sys.getrefcount(each) for each in (x, strings, item)]
    for i in range(5):
        results = runner.run_values([x, strings], [])
        del results
        with pytest.raises(errors.Fail, match="Problem: too large"):
            runner.run_values([x + 100, strings], [])
        del i
    gc.collect()
    assert [sys.getrefcount(each) for each in (x, strings, item)] == counts
    assert len(made) == 25
    assert [ref() for ref in made] == [None] * len(made)
