# SPDX-License-Identifier: Apache-2.0
"""Operators of ai.onnx.ml."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import onnx

from bascule.ir.dtype import DataType
from tests.support.operators import references
from tests.support.operators.case import case
from tests.support.typed import Binding, Call, TypeText, fixed, numbers, small, tensor_proto

_ml = functools.partial(case, domain="ai.onnx.ml")
_ROWS = small(3, 4, high=9)
_COEFFICIENTS = [0.5, -0.25, 1.5, 0.125, -1.0, 0.75, 0.25, -0.5]
_SUPPORT = [1.0, 2.0, -1.0, 0.5, -2.0, 1.0, 0.5, 3.0]


def _labels(name: str, classes: int, parameter: str = "T2"):
    """Class labels: numbers or text, as the output's type is."""

    def numbered(binding: Binding, captured: str) -> list[int] | None:
        is_text = binding[parameter].dtype is DataType.STRING
        return None if is_text else list(range(10, 10 + classes))

    def named(binding: Binding, captured: str) -> list[str] | None:
        is_text = binding[parameter].dtype is DataType.STRING
        return [f"class{i}" for i in range(classes)] if is_text else None

    return {f"classlabels_{name}": numbered, "classlabels_strings": named}


def _encoded(parameter: str, values: list[Any]):
    """A tensor attribute of the type that `parameter` stands for."""

    def make(binding: Binding, captured: str) -> onnx.TensorProto:
        return tensor_proto(fixed(values)(binding[parameter].dtype, np.random.default_rng(0)))

    return make


def _forest(kind: str) -> dict[str, Any]:
    """One tree of three leaves."""
    return {
        "nodes_treeids": [0] * 5,
        "nodes_nodeids": [0, 1, 2, 3, 4],
        "nodes_featureids": [0, 2, 0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "BRANCH_LT", "LEAF", "LEAF", "LEAF"],
        "nodes_values": [1.0, -0.5, 0.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 3, 0, 0, 0],
        "nodes_falsenodeids": [2, 4, 0, 0, 0],
        f"{kind}_treeids": [0, 0, 0],
        f"{kind}_nodeids": [2, 3, 4],
        f"{kind}_ids": [0, 1, 1],
        f"{kind}_weights": [0.5, 0.75, 0.25],
    }


def _tensor_forest() -> dict[str, Any]:
    return {
        "n_targets": 2,
        "tree_roots": [0],
        "nodes_featureids": [0, 2],
        "nodes_splits": _encoded("T", [1.0, -0.5]),
        "nodes_modes": tensor_proto(np.array([0, 1], np.uint8)),
        "nodes_truenodeids": [1, 1],
        "nodes_trueleafs": [0, 1],
        "nodes_falsenodeids": [0, 2],
        "nodes_falseleafs": [1, 1],
        "leaf_targetids": [0, 1, 1],
        "leaf_weights": _encoded("T", [0.5, 0.75, -0.25]),
    }


def _cast_map(call: Call) -> list[Any]:
    """The elements in the order of the keys; text of a float has six decimal places."""
    elements = [element for _, element in sorted(call.inputs[0].items())]
    dtype = call.case.output_type(0, call.binding).dtype
    if dtype is DataType.STRING:
        text = [item if isinstance(item, str) else f"{item:.6f}" for item in elements]
        return [np.array([text], object)]
    return [np.array([[float(item) for item in elements]]).astype(dtype.numpy)]


def _categories(call: Call) -> list[Any]:
    [x] = call.inputs
    known = dict(zip(range(4), ["0", "1", "2", "3"]))
    if x.dtype == object:
        numbers_of = {text: number for number, text in known.items()}
        return [np.vectorize(lambda text: numbers_of.get(text, -1), otypes=[np.int64])(x)]
    return [np.vectorize(lambda number: known.get(number, "_Unused"), otypes=[object])(x)]


def _vocabulary(call: Call) -> list[Any]:
    """The element of key 1 and what there is for a key that is missing."""
    [given] = call.inputs
    keys = [1, 7] if 1 in given else ["key1", "key7"]
    is_text = call.case.output_type(0, call.binding).dtype is DataType.STRING
    dtype = object if is_text else call.case.output_type(0, call.binding).dtype.numpy
    return [np.array([[given.get(key, "" if is_text else 0) for key in keys]], dtype)]


def _machine(call: Call) -> list[Any]:
    """onnx.reference knows numbered classes only."""
    numbered = dataclasses.replace(call, binding=call.binding | {"T2": TypeText("tensor(int64)")})
    labels, scores = references.in_double("T1")(numbered)
    if call.binding["T2"].dtype is DataType.STRING:
        labels = np.array([f"class{label - 10}" for label in labels], object)
    return [labels, scores]


def _zipped(call: Call) -> list[Any]:
    [x] = call.inputs
    text = "string" in call.binding["T"].text
    labels = [f"class{i}" for i in range(3)] if text else [10, 11, 12]
    return [[dict(zip(labels, row.tolist())) for row in x]]


def _is_one_vocabulary(binding: Binding) -> bool:
    return binding["T1"].dtype is binding["T2"].dtype


def _has_key(name: str):
    def keep(keys: list[Any]):
        return lambda binding, captured: keys if f"map({name}" in binding["T1"].text else None

    return keep


def _cast_name(binding: Binding, captured: str) -> str:
    return {"float": "TO_FLOAT", "int64": "TO_INT64"}.get(
        binding["T2"].dtype.onnx_name, "TO_STRING"
    )


def _floating(value: Any):
    return lambda binding, captured: value if binding["T"].dtype.is_float else None


def _integral(value: Any):
    return lambda binding, captured: None if binding["T"].dtype.is_float else value


def _one_kind(value: Any, text: bool):
    return lambda binding, captured: (
        value if (binding["T"].dtype is DataType.STRING) == text else None
    )


def _zip_labels() -> dict[str, Any]:
    def numbered(binding: Binding, captured: str) -> list[int] | None:
        return None if "string" in binding["T"].text else [10, 11, 12]

    def named(binding: Binding, captured: str) -> list[str] | None:
        return [f"class{i}" for i in range(3)] if "string" in binding["T"].text else None

    return {"classlabels_int64s": numbered, "classlabels_strings": named}


def _differs(binding: Binding) -> bool:
    return binding["T1"].dtype is not binding["T2"].dtype


CASES = [
    _ml("ArrayFeatureExtractor", numbers(3, 5), fixed([4, 0])),
    _ml("Binarizer", _ROWS, threshold=1.0),
    _ml("CastMap", numbers(3, digits=True), expect=_cast_map, cast_to=_cast_name),
    _ml(
        "CategoryMapper",
        numbers(3, 5, digits=True, integers=(0, 5)),
        allows=_differs,
        expect=_categories,
        cats_int64s=[0, 1, 2, 3],
        cats_strings=["0", "1", "2", "3"],
    ),
    _ml(
        "DictVectorizer",
        numbers(3),
        allows=_is_one_vocabulary,
        expect=_vocabulary,
        int64_vocabulary=_has_key("int64")([1, 7]),
        string_vocabulary=_has_key("string")(["key1", "key7"]),
    ),
    _ml("FeatureVectorizer", _ROWS, small(3, 2, high=9), inputdimensions=[4, 2]),
    _ml(
        "Imputer",
        _ROWS,
        imputed_value_floats=_floating([0.5]),
        replaced_value_float=_floating(1.0),
        imputed_value_int64s=_integral([7]),
        replaced_value_int64=_integral(1),
    ),
    _ml(
        "LabelEncoder",
        numbers(3, 5, digits=True, integers=(0, 5), low=0, high=5, step=1),
        keys_tensor=_encoded("T1", [0, 1, 2, 3]),
        values_tensor=_encoded("T2", [3, 1, 0, 2]),
        default_tensor=_encoded("T2", [4]),
    ),
    _ml(
        "LinearClassifier",
        _ROWS,
        outputs=2,
        expect=references.in_double("T1"),
        coefficients=_COEFFICIENTS,
        intercepts=[0.5, -1.0],
        **_labels("ints", 2),
    ),
    _ml(
        "LinearRegressor",
        _ROWS,
        expect=references.in_double("T"),
        coefficients=_COEFFICIENTS,
        intercepts=[0.5, -1.0],
        targets=2,
    ),
    *(
        _ml(
            "Normalizer",
            small(3, 4, nonzero=True),
            label=norm,
            expect=references.in_double("T"),
            norm=norm,
        )
        for norm in ("L1", "L2")
    ),
    _ml(
        "OneHotEncoder",
        numbers(3, digits=True, integers=(0, 5), low=0, high=5, step=1),
        cats_int64s=_one_kind([0, 1, 2, 3], text=False),
        cats_strings=_one_kind(["0", "1", "2", "3"], text=True),
    ),
    _ml(
        "Scaler",
        _ROWS,
        expect=references.in_double("T"),
        scale=[0.5, 2.0, 1.0, 0.25],
        offset=[1.0, 0.0, -1.0, 0.5],
    ),
    _ml(
        "SVMClassifier",
        small(3, 4),
        outputs=2,
        expect=_machine,
        coefficients=[0.5, -0.75],
        kernel_params=[0.25, 0.0, 3.0],
        kernel_type="RBF",
        prob_a=[-0.5],
        prob_b=[0.125],
        rho=[0.125],
        support_vectors=_SUPPORT,
        vectors_per_class=[1, 1],
        **_labels("ints", 2),
    ),
    _ml(
        "SVMRegressor",
        small(3, 4),
        expect=references.in_double("T"),
        coefficients=[0.5, -0.75],
        kernel_params=[0.25, 0.0, 3.0],
        kernel_type="RBF",
        n_supports=2,
        rho=[0.125],
        support_vectors=_SUPPORT,
    ),
    _ml("TreeEnsemble", small(3, 4), **_tensor_forest()),
    _ml(
        "TreeEnsembleClassifier",
        small(3, 4),
        expect=references.in_double("T1"),
        outputs=2,
        opset=3,
        **_forest("class"),
        **_labels("int64s", 2),
    ),
    _ml(
        "TreeEnsembleRegressor",
        small(3, 4),
        expect=references.in_double("T"),
        opset=3,
        n_targets=2,
        **_forest("target"),
    ),
    _ml("ZipMap", numbers(2, 3), expect=_zipped, **_zip_labels()),
]
