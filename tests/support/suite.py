# SPDX-License-Identifier: Apache-2.0
"""Run node cases of the public ONNX backend suite on the kernels, with no front end in between.

python -m tests.support.suite 'test_softmax*' 'test_add*'
"""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bascule.canonical import canonicalize
from bascule.ir.infer import infer_types
from bascule.ir.load import load_model
from tests.support.native import compile_graph

DATA = Path(onnx.__file__).parent / "backend/test/data"


def read_value(path: Path, type_proto: onnx.TypeProto) -> Any:
    """An input or output of a case as NumPy arrays and lists of them."""
    data = path.read_bytes()
    kind = type_proto.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def compare(actual: Any, expected: Any, rtol: float = 1e-3, atol: float = 1e-5) -> None:
    """Raise AssertionError unless both are equal within the suite's tolerances."""
    if isinstance(expected, list):
        assert isinstance(actual, list) and len(actual) == len(expected), (actual, expected)
        for a, e in zip(actual, expected):
            compare(a, e, rtol, atol)
        return
    if expected is None:
        assert actual is None
        return
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    if expected.dtype == object or expected.dtype.kind in "US":
        assert actual.astype(str).tolist() == expected.astype(str).tolist()
        return
    assert actual.dtype == expected.dtype, f"dtype {actual.dtype}, expected {expected.dtype}"
    if expected.dtype.kind in "fc":
        np.testing.assert_allclose(actual, expected, rtol, atol)
    elif expected.dtype.kind == "V":
        np.testing.assert_allclose(
            actual.astype(np.float32), expected.astype(np.float32), rtol, atol
        )
    else:
        np.testing.assert_array_equal(actual, expected)


def run_case(folder: Path) -> None:
    """Run every data set of one case; raises when something differs."""
    proto = onnx.load(str(folder / "model.onnx"))
    model = load_model(str(folder / "model.onnx"))
    canonicalize(model)
    infer_types(model)
    runner = compile_graph(model.graph)
    for data in sorted(folder.glob("test_data_set_*")):
        feeds = [
            read_value(data / f"input_{i}.pb", v.type) for i, v in enumerate(proto.graph.input)
        ]
        results = runner.run_values(
            [
                np.asarray(f, dtype=object)
                if getattr(f, "dtype", None) is not None and f.dtype.kind in "US"
                else f
                for f in feeds
            ],
            [],
        )
        for i, value in enumerate(proto.graph.output):
            compare(results[i], read_value(data / f"output_{i}.pb", value.type))


def main(patterns: list[str]) -> int:
    passed, failed = 0, []
    for folder in sorted((DATA / "node").iterdir()):
        if not any(fnmatch.fnmatch(folder.name, pattern) for pattern in patterns):
            continue
        try:
            run_case(folder)
            passed += 1
        except Exception as error:  # every kind of failure is listed
            failed.append(folder.name)
            print(f"FAIL {folder.name}: {type(error).__name__}: {str(error)[:300]}")
    print(f"{passed} passed, {len(failed)} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["*"]))
