# SPDX-License-Identifier: Apache-2.0
"""The public ONNX backend suite as data: models, inputs and expected outputs.

python -m tests.support.suite 'test_softmax*' 'test_add*'    runs node cases on the kernels alone,
with canonicalization but no optimizer and no session in between.
"""

from __future__ import annotations

import fnmatch
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

DATA = Path(onnx.__file__).parent / "backend/test/data"
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "light")


@dataclass(frozen=True)
class Case:
    """One case. `read` gives the serialized model and its (inputs, expected outputs) pairs."""

    name: str
    kind: str
    rtol: float
    atol: float
    read: Callable[[], tuple[bytes, list[tuple[list[Any], list[Any]]]]]


def cases(kind: str) -> Iterator[Case]:
    """All cases of a kind, by name."""
    if kind == "node":
        yield from _node_cases()
    elif kind == "light":
        yield from _light_cases()
    else:
        for folder in sorted((DATA / kind).iterdir()):
            if (folder / "model.onnx").exists():
                settings = _settings(folder)
                yield Case(folder.name, kind, *settings, lambda f=folder: _read_folder(f))


def _settings(folder: Path) -> tuple[float, float]:
    path = folder / "data.json"
    data = json.loads(path.read_text()) if path.exists() else {}
    return data.get("rtol", 1e-3), data.get("atol", 1e-7)


def _node_cases() -> Iterator[Case]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    for case in sorted(found, key=lambda c: c.name):

        def read(case: Any = case) -> tuple[bytes, list[tuple[list[Any], list[Any]]]]:
            sets = [
                ([_plain(v) for v in inputs], [_plain(v) for v in outputs])
                for inputs, outputs in case.data_sets
            ]
            return case.model.SerializeToString(), sets

        yield Case(case.name, "node", case.rtol, case.atol, read)


def _plain(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _light_cases() -> Iterator[Case]:
    """Real networks whose big weights are replaced by constant-filling nodes."""
    for folder in sorted((DATA / "real").iterdir()):
        url = json.loads((folder / "data.json").read_text())["url"]
        path = DATA / "light" / Path(url).name

        def read(path: Path = path) -> tuple[bytes, list[tuple[list[Any], list[Any]]]]:
            model = onnx.load(str(path))
            known = {tensor.name for tensor in model.graph.initializer}
            inputs = []
            for value in model.graph.input:
                if value.name not in known:
                    shape = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
                    count = int(np.prod(shape))
                    inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
            expected = path.with_name(path.stem + "_output_0.pb").read_bytes()
            output = numpy_helper.to_array(onnx.TensorProto.FromString(expected))
            return path.read_bytes(), [(inputs, [output])]

        yield Case(folder.name, "light", *_settings(folder), read)


def _read_folder(folder: Path) -> tuple[bytes, list[tuple[list[Any], list[Any]]]]:
    data = (folder / "model.onnx").read_bytes()
    graph = onnx.ModelProto.FromString(data).graph
    sets = []
    for data_set in sorted(folder.glob("test_data_set_*")):
        inputs = [
            _read_value(data_set / f"input_{i}.pb", graph.input[i].type)
            for i in range(len(list(data_set.glob("input_*.pb"))))
        ]
        outputs = [
            _read_value(data_set / f"output_{i}.pb", graph.output[i].type)
            for i in range(len(list(data_set.glob("output_*.pb"))))
        ]
        sets.append((inputs, outputs))
    return data, sets


def _read_value(path: Path, type_proto: onnx.TypeProto) -> Any:
    data = path.read_bytes()
    kind = type_proto.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def compare(actual: Any, expected: Any, rtol: float, atol: float) -> None:
    """Raise AssertionError unless both are equal within the suite's own tolerances."""
    if isinstance(expected, (list, tuple)):
        assert isinstance(actual, list), f"expected a list, got {type(actual)}"
        assert len(actual) == len(expected), f"{len(actual)} items, expected {len(expected)}"
        for a, e in zip(actual, expected):
            compare(a, e, rtol, atol)
        return
    if expected is None:
        assert actual is None, f"expected nothing, got {actual!r}"
        return
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    if expected.dtype == object or expected.dtype.kind in "US":
        assert actual.astype(str).tolist() == expected.astype(str).tolist()
        return
    assert actual.dtype == expected.dtype, f"dtype {actual.dtype}, expected {expected.dtype}"
    if expected.dtype.name == "bfloat16":
        rtol = max(rtol, 2**-6)
    if expected.dtype.kind in "V" or expected.dtype.name not in np.sctypeDict:
        actual, expected = actual.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_allclose(actual, expected, rtol, atol)


def feed_value(value: Any) -> Any:
    """An input as a Program takes it: strings as object arrays, scalars as arrays."""
    if value is None or isinstance(value, (list, dict)):
        return [feed_value(item) for item in value] if isinstance(value, list) else value
    array = np.asarray(value)
    if array.dtype.kind in "US":
        return array.astype(object)
    return np.asarray(array, order="C")


def run_on_kernels(case: Case) -> None:
    """Run every data set of one case; raises when something differs."""
    from bascule.canonical import canonicalize
    from bascule.ir.infer import infer_types
    from bascule.ir.load import load_model
    from tests.support.native import compile_graph

    data, sets = case.read()
    model = load_model(data)
    canonicalize(model)
    infer_types(model)
    runner = compile_graph(model.graph)
    for inputs, outputs in sets:
        results = runner.run_values([feed_value(value) for value in inputs], [])
        for actual, expected in zip(results, outputs):
            compare(actual, expected, case.rtol, case.atol)


def main(patterns: Sequence[str]) -> int:
    passed, failed = 0, 0
    for case in cases("node"):
        if not any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns):
            continue
        try:
            run_on_kernels(case)
            passed += 1
        except Exception as error:
            failed += 1
            text = " ".join(str(error).split())[:300]
            print(f"FAIL {case.name}: {type(error).__name__}: {text}")
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["*"]))
