# SPDX-License-Identifier: Apache-2.0
"""Operators of ai.onnx.ml that give numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.operators.linear_models import FEATURES, rows_of
from bascule.providers.cuda.registry import NUMBERS, kernel
from bascule.providers.cuda.tensor import Tensor

_DOMAIN = "ai.onnx.ml"
_FLOAT = frozenset((DataType.FLOAT, DataType.DOUBLE))

Array = np.ndarray[Any, Any]


def _columns(call: Call, x: Tensor) -> int:
    """The size of the last axis, which holds the features."""
    if x.rank == 0:
        raise call.error("the input is a scalar, expected at least one axis")
    return x.shape[-1]


@kernel("Binarizer", domain=_DOMAIN, dtypes=FEATURES)
def binarizer(call: Call, x: Tensor) -> Tensor:
    """1 above the threshold, else 0."""
    array = call.array(x)
    threshold = np.float32(call.attribute("threshold", 0.0))
    if x.dtype in _FLOAT:
        return call.tensor((array > threshold.astype(x.dtype.numpy)).astype(array.dtype))
    if not -(2.0**63) <= threshold < 2.0**63:
        return call.tensor(call.device.xp.full_like(array, int(threshold < 0)))
    # A whole number is above the threshold where it is above the threshold's floor.
    whole = np.int64(np.floor(threshold))
    return call.tensor((array.astype(np.int64) > whole).astype(array.dtype))


@kernel(
    "MelWeightMatrix",
    host=(0, 1, 2, 3, 4),
    accepts=lambda node: "" if node.outputs[0].dtype in NUMBERS else "no kernel for its type",
)
def mel_weight_matrix(
    call: Call, bands: Array, points: Array, rate: Array, low: Array, high: Array
) -> Tensor:
    """Triangles, evenly spaced on the mel scale, over the bins of a spectrum."""
    count, length = int(bands.reshape(())), int(points.reshape(()))
    hertz, first, last = (float(x.reshape(())) for x in (rate, low, high))
    if not (0 <= count <= 1 << 24 and 0 <= length <= 1 << 24 and 0 <= first <= last <= hertz > 0):
        raise call.error("the numbers of bands and points, the rate or the edges do not fit")
    bins = length // 2 + 1
    begin, end = (2595 * np.log1p(edge / 700) / np.log(10) for edge in (first, last))
    mels = begin + (end - begin) / (count + 2) * np.arange(count + 2)
    edges = np.floor((length + 1) * (700 * np.expm1(mels / 2595 * np.log(10))) / hertz)
    matrix = np.zeros((bins, count))
    at = np.arange(bins)
    for band in range(count):
        left, top, right = (int(edge) for edge in edges[band : band + 3])
        if left == top:
            matrix[at == top, band] = 1
        else:
            rising = (at >= left) & (at <= top)
            matrix[rising, band] = (at[rising] - left) / (top - left)
        falling = (at >= top) & (at < right)
        matrix[falling, band] = (right - at[falling]) / max(right - top, 1)
    dtype = call.dtype().numpy
    wide = np.float32 if dtype.itemsize == 2 else np.float64  # as the narrow floats are rounded
    return call.upload(matrix.astype(wide).astype(dtype))


def _row(call: Call, name: str, values: Any, columns: int, dtype: Any) -> Any:
    """An attribute with a number for each feature, or one for all, on the device."""
    row = np.asarray(values)
    if len(row) not in (1, columns):
        raise call.error(f"{name} has {len(row)} elements for {columns} features")
    return call.array(call.upload(row.astype(dtype)))


@kernel("Scaler", domain=_DOMAIN, dtypes=FEATURES)
def scaler(call: Call, x: Tensor) -> Tensor:
    """(x - offset) * scale, rounded to float32 at the end."""
    columns = _columns(call, x)
    wide = np.float32 if x.dtype is DataType.FLOAT else np.float64
    offset, scale = (
        _row(call, name, np.asarray(call.attribute(name) or [usual], np.float32), columns, wide)
        for name, usual in (("offset", 0.0), ("scale", 1.0))
    )
    return call.tensor(((call.array(x).astype(wide) - offset) * scale).astype(np.float32))


@kernel("Imputer", domain=_DOMAIN, dtypes=FEATURES)
def imputer(call: Call, x: Tensor) -> Tensor:
    """Other values in the place of one that stands for what is missing."""
    array, xp, columns = call.array(x), call.device.xp, _columns(call, x)
    is_float = x.dtype in _FLOAT
    name, other = "imputed_value_floats", "imputed_value_int64s"
    name, other = (name, other) if is_float else (other, name)
    values = call.attribute(name)
    if not values or call.attribute(other):
        raise call.error(f"an input of type {x.dtype.onnx_name} needs {name} and no other")
    if is_float:
        row = _row(call, name, np.asarray(values, np.float32), columns, array.dtype)
        replaced = np.float32(call.attribute("replaced_value_float", 0.0))
        hit = xp.isnan(array) if np.isnan(replaced) else array == replaced.astype(array.dtype)
        return call.tensor(xp.where(hit, row, array))
    limits = np.iinfo(array.dtype)
    if not limits.min <= min(values) <= max(values) <= limits.max:
        raise call.error(f"{name} has a value that is no {array.dtype.name}")
    row = _row(call, name, np.asarray(values, np.int64), columns, array.dtype)
    hit = array.astype(np.int64) == np.int64(call.attribute("replaced_value_int64", 0))
    return call.tensor(xp.where(hit, row, array))


@kernel("Normalizer", domain=_DOMAIN, dtypes=FEATURES)
def normalizer(call: Call, x: Tensor) -> Tensor:
    """Rows divided by their largest magnitude, their sum of magnitudes, or their length."""
    xp, norm = call.device.xp, call.attribute("norm", "MAX")
    rows_of(call, x)
    if norm not in ("MAX", "L1", "L2"):
        raise call.error(f"norm '{norm}' is not one of MAX, L1, L2")
    array = call.array(x).astype(np.float64)
    if 0 in x.shape:
        return call.empty(x.shape, DataType.FLOAT)
    axis = None if x.rank == 1 else -1
    if norm == "L2":
        divisor = xp.sqrt((array * array).sum(axis=axis, keepdims=True))
    else:
        magnitudes = xp.abs(array)
        function = magnitudes.sum if norm == "L1" else magnitudes.max
        divisor = function(axis=axis, keepdims=True)
    return call.tensor((array / xp.where(divisor == 0, 1.0, divisor)).astype(np.float32))


def _refuses_inputs(node: Node) -> str:
    """Why not all inputs are features."""
    for value in node.inputs:
        if value is not None and value.dtype not in FEATURES:
            return f"no kernel for {value.dtype.onnx_name if value.dtype else 'unknown'}"
    return ""


@kernel("FeatureVectorizer", domain=_DOMAIN, accepts=_refuses_inputs)
def feature_vectorizer(call: Call, *inputs: Tensor) -> Tensor:
    """The inputs side by side as float32, each cut or filled with zeros to its size."""
    sizes = [rows_of(call, x) for x in inputs]
    widths = list(call.attribute("inputdimensions") or [columns for _, columns in sizes])
    if len(widths) != len(inputs) or min(widths) < 0 or max(widths) > 1 << 40:
        raise call.error(f"inputdimensions is {widths} for {len(inputs)} inputs")
    counts = {rows for rows, _ in sizes}
    if len(counts) > 1:
        raise call.error(f"inputs have {' and '.join(map(str, sorted(counts)))} rows")
    xp, parts = call.device.xp, []
    for x, (rows, columns), width in zip(inputs, sizes, widths):
        part = call.array(x).reshape(rows, columns)[:, :width].astype(np.float32)
        parts += [part, xp.zeros((rows, max(width - columns, 0)), np.float32)]
    return call.tensor(xp.concatenate(parts, axis=1))


def _numbered(node: Node) -> str:
    return "strings stay on the CPU" if node.attributes.get("cats_strings") else ""


def _may_be_unknown(node: Node) -> str:
    if not node.attributes.get("zeros", 1):
        return "unknown categories are an error"
    return _numbered(node)


def _one_hot(call: Call, x: Tensor) -> tuple[Any, Any]:
    """A new last axis with a one where the category stands, and which elements are none."""
    xp, array = call.device.xp, call.array(x)
    categories = np.asarray(call.attribute("cats_int64s") or [], np.int64)
    if not len(categories):
        raise call.error("one of cats_int64s and cats_strings is needed")
    # Of equal categories the last one counts.
    last = [value not in categories[i + 1 :] for i, value in enumerate(categories)]
    known = xp.ones(x.shape, bool)
    if x.dtype in _FLOAT:  # fractions are cut off
        known = (array >= -(2.0**63)) & (array < 2.0**63)
        array = xp.where(known, array, xp.zeros_like(array))
    equal = array.astype(np.int64)[..., None] == call.array(call.upload(categories))
    hit = equal & call.array(call.upload(np.array(last))) & known[..., None]
    return hit, ~hit.any(axis=-1)


@kernel("OneHotEncoder", domain=_DOMAIN, dtypes=FEATURES, accepts=_may_be_unknown)
def one_hot_encoder(call: Call, x: Tensor) -> Tensor:
    """Numbers as ones at the places of their categories."""
    return call.tensor(_one_hot(call, x)[0].astype(np.float32))


@kernel("OneHotEncoder", domain=_DOMAIN, dtypes=FEATURES, accepts=_numbered, synchronizes=True)
def strict_one_hot_encoder(call: Call, x: Tensor) -> Tensor:
    """The same; a number that is no category is an error."""
    hit, unknown = _one_hot(call, x)
    if bool(unknown.any()):
        raise call.error("an element of the input is no category, and zeros is 0")
    return call.tensor(hit.astype(np.float32))


# --- LabelEncoder

_LABELS = FEATURES | {DataType.INT16}
_LISTS = {"floats": np.float32, "int64s": np.int64}


def _listed(node: Node, prefix: str) -> Array | None:
    """The one of `prefix`_floats, _int64s and _tensor that is given; None for anything else."""
    found = [
        np.asarray(node.attributes[f"{prefix}_{name}"], dtype)
        for name, dtype in _LISTS.items()
        if node.attributes.get(f"{prefix}_{name}")
    ]
    tensor = node.attributes.get(f"{prefix}_tensor")
    if tensor is not None:
        found.append(tensor.numpy().reshape(-1))
    if len(found) != 1 or node.attributes.get(f"{prefix}_strings"):
        return None
    return found[0] if DataType.from_numpy(found[0].dtype) in _LABELS else None


def _refuses_labels(node: Node) -> str:
    keys, values = _listed(node, "keys"), _listed(node, "values")
    if keys is None or values is None:
        return "keys and values are not both numbers"
    first = node.input(0)
    if first is not None and first.dtype is not DataType.from_numpy(keys.dtype):
        return "the keys are of another type than the input"
    return "" if len(keys) == len(values) else f"{len(keys)} keys and {len(values)} values"


def _usual_label(call: Call, dtype: Any) -> Array:
    """What stands for keys that are unknown."""
    tensor = call.attribute("default_tensor")
    if tensor is not None:
        given = tensor.numpy()
        if given.dtype != dtype or given.size != 1:
            raise call.error(f"default_tensor is {given.dtype.name}{list(given.shape)}")
        return np.asarray(given).reshape(1)
    usual: Any = -0.0 if dtype.kind == "f" else -1
    if dtype == np.float32:
        usual = call.attribute("default_float", usual)
    elif dtype == np.int64:
        usual = call.attribute("default_int64", usual)
    return np.array([usual], dtype)


@kernel("LabelEncoder", domain=_DOMAIN, dtypes=_LABELS, accepts=_refuses_labels)
def label_encoder(call: Call, x: Tensor) -> Tensor:
    """The value beside the key that an element is; all NaN are one key."""
    xp, node = call.device.xp, call.node
    keys, values = _listed(node, "keys"), _listed(node, "values")
    assert keys is not None and values is not None
    keys = keys.astype(np.float64 if keys.dtype.kind == "f" else np.int64)
    usual = _usual_label(call, values.dtype)
    known = {key: i for i, key in enumerate(keys.tolist()) if key == key}  # the last of equal ones
    order = sorted(known)
    nan = np.flatnonzero(keys != keys)
    array = call.array(x).astype(keys.dtype)
    result = xp.full(x.shape, usual[0], values.dtype)
    if order:
        chosen = values[[known[key] for key in order]]
        table, labels = (call.array(call.upload(a)) for a in (np.array(order, keys.dtype), chosen))
        at = xp.minimum(xp.searchsorted(table, array.reshape(-1)), len(order) - 1).reshape(x.shape)
        result = xp.where(table[at] == array, labels[at], result)
    if len(nan):
        result = xp.where(array != array, xp.full(x.shape, values[nan[-1]], values.dtype), result)
    return call.tensor(result)
