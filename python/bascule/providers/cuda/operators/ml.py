# SPDX-License-Identifier: Apache-2.0
"""Operators of ai.onnx.ml that give numbers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.registry import kernel
from bascule.providers.cuda.tensor import Tensor

_DOMAIN = "ai.onnx.ml"
_BLOCK = 128
_FLOATS = frozenset((DataType.FLOAT, DataType.DOUBLE, DataType.FLOAT16))
_FLOAT = frozenset((DataType.FLOAT, DataType.DOUBLE))

_NODE = np.dtype(
    [("split", "<f8")]
    + [(name, "<i4") for name in ("feature", "mode", "missing", "yes", "no", "first", "last")]
    + [("unused", "<i4")]
)
"""struct TreeNode of kernels/trees.cu."""
_MEMBER = 6

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class _Forest:
    nodes: Tensor
    roots: Tensor
    members: Tensor
    weights: Tensor
    targets: Tensor
    trees: int
    node_count: int
    features: int


def _numbers(node: Node, name: str) -> Array:
    """An attribute that is a tensor or a list, as an array of one axis; empty if left out."""
    value = node.attributes.get(name)
    if value is None:
        return np.empty(0, np.int64)
    array = value.numpy() if hasattr(value, "numpy") else np.asarray(value)
    return array.reshape(-1)


def _require(call: Call, holds: Any, message: str) -> None:
    if not holds:
        raise call.error(message)


def _ways(call: Call, way: str, count: int, leaves: int) -> Array:
    """Where nodes lead: other nodes, or ~leaf."""
    ids = _numbers(call.node, f"nodes_{way}nodeids").astype(np.int64)
    is_leaf = _numbers(call.node, f"nodes_{way}leafs").astype(bool)
    name = f"nodes_{way}nodeids"
    _require(call, len(ids) == len(is_leaf) == count, f"{name} has {len(ids)} elements")
    most = np.where(is_leaf, leaves, count)
    _require(call, ((ids >= 0) & (ids < most)).all(), f"{name} leads to nodes that do not exist")
    return np.where(is_leaf, ~ids, ids)


def _read_forest(call: Call) -> _Forest:
    """The attributes, checked and uploaded."""
    node = call.node
    features = _numbers(node, "nodes_featureids").astype(np.int64)
    splits, modes = _numbers(node, "nodes_splits"), _numbers(node, "nodes_modes")
    weights, targets = _numbers(node, "leaf_weights"), _numbers(node, "leaf_targetids")
    count, target_count = len(features), int(node.attributes.get("n_targets", 0))
    _require(call, len(splits) == len(modes) == count, "nodes_* differ in their sizes")
    _require(call, len(weights) == len(targets), "leaf_* differ in their sizes")
    _require(call, ((features >= 0) & (features < 2**31)).all(), "a feature is below zero")
    _require(call, (modes <= _MEMBER).all(), "nodes_modes are to be 0 to 6")
    valid = (targets >= 0) & (targets < target_count)
    _require(call, valid.all(), "leaf_targetids has targets that do not exist")
    table = np.zeros(count, _NODE)
    table["split"], table["feature"], table["mode"] = splits, features, modes
    missing = _numbers(node, "nodes_missing_value_tracks_true")
    if len(missing):
        _require(call, len(missing) == count, "nodes_missing_value_tracks_true has another size")
        table["missing"] = missing != 0
    table["yes"] = _ways(call, "true", count, len(weights))
    table["no"] = _ways(call, "false", count, len(weights))
    members = _sets(call, table)
    roots = _numbers(node, "tree_roots").astype(np.int64)
    _require(call, ((roots >= 0) & (roots < count)).all(), "a tree has no root")
    return _Forest(
        call.upload(table.view(np.uint8)),
        call.upload(roots.astype(np.int32)),
        call.upload(members),
        call.upload(weights.astype(np.float64)),
        call.upload(targets.astype(np.int32)),
        len(roots),
        count,
        int(features.max(initial=-1)) + 1,
    )


def _sets(call: Call, table: Array) -> Array:
    """membership_values, cut at the NaNs into a set for each node that wants one."""
    members = _numbers(call.node, "membership_values").astype(np.float64)
    ends = np.flatnonzero(np.isnan(members))
    wanting = np.flatnonzero(table["mode"] == _MEMBER)
    if len(ends) < len(wanting):  # the last set may end without a NaN
        ends = np.append(ends, len(members))
    _require(call, len(ends) >= len(wanting), "membership_values has fewer sets than nodes want")
    start = 0
    for node, end in zip(wanting, ends):
        table["first"][node], table["last"][node] = start, end
        start = end + 1
    return members


def _accepts_trees(node: Node) -> str:
    transform = node.attributes.get("post_transform", 0)
    return "" if transform in (0, 1, 2) else f"no kernel for post_transform {transform}"


@kernel("TreeEnsemble", domain=_DOMAIN, dtypes=_FLOATS, accepts=_accepts_trees)
def tree_ensemble(call: Call, x: Tensor) -> Tensor:
    """The scores that trees give to rows."""
    forest: _Forest = call.prepared("forest", _read_forest)
    if x.rank not in (1, 2) or x.shape[-1] < forest.features:
        raise call.error(f"input has shape {x.shape}, expected {forest.features} columns")
    rows, targets = x.shape[0] if x.rank == 2 else 1, int(call.attribute("n_targets", 0))
    y = call.empty((rows, targets), x.dtype)
    scores = call.empty((rows, targets), DataType.DOUBLE)
    seen = call.empty((rows, targets), DataType.UINT8)
    sizes = (forest.trees, forest.node_count, targets)
    choices = (call.attribute("aggregate_function", 1), call.attribute("post_transform", 0))
    ensemble = Struct(struct.pack("<2q5i4x", rows, x.shape[-1], *sizes, *choices))
    tables = (forest.nodes, forest.roots, forest.members, forest.weights, forest.targets)
    name = f"trees_{type_name(x.dtype)}"
    arguments = (x, *tables, scores, seen, y, ensemble)
    call.launch("trees", name, -(-rows // _BLOCK), _BLOCK, *arguments)
    return y


def _has_features(node: Node) -> str:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return "" if shape is not None and len(shape) in (1, 2) else "not one or two axes"


@kernel("Binarizer", domain=_DOMAIN, dtypes=_FLOAT)
def binarizer(call: Call, x: Tensor) -> Tensor:
    """1 above the threshold, else 0."""
    array = call.array(x)
    threshold = np.float32(call.attribute("threshold", 0.0)).astype(x.dtype.numpy)
    return call.tensor((array > threshold).astype(array.dtype))


@kernel(
    "MelWeightMatrix",
    host=(0, 1, 2, 3, 4),
    accepts=lambda node: "" if node.outputs[0].dtype in _FLOATS else "no kernel for its type",
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
    return call.upload(matrix.astype(call.dtype().numpy))


def _row(call: Call, values: Any, neutral: float, columns: int, wide: Any) -> Any:
    """An attribute with a number for each feature, or one for all, on the device."""
    row = np.asarray(values or [neutral], np.float32)
    if len(row) not in (1, columns):
        raise call.error(f"an attribute has {len(row)} elements for {columns} features")
    return call.array(call.upload(row.astype(wide)))


@kernel("Scaler", domain=_DOMAIN, dtypes=_FLOAT, accepts=_has_features)
def scaler(call: Call, x: Tensor) -> Tensor:
    """(x - offset) * scale, rounded to float32 at the end."""
    array, columns = call.array(x), x.shape[-1]
    offset = _row(call, call.attribute("offset"), 0.0, columns, array.dtype)
    scale = _row(call, call.attribute("scale"), 1.0, columns, array.dtype)
    return call.tensor(((array - offset) * scale).astype(np.float32))


@kernel("Imputer", domain=_DOMAIN, dtypes=_FLOAT, accepts=_has_features)
def imputer(call: Call, x: Tensor) -> Tensor:
    """Other values in the place of one that stands for what is missing."""
    array, xp = call.array(x), call.device.xp
    values = call.attribute("imputed_value_floats")
    if not values:
        raise call.error("imputed_value_floats is needed")
    row = _row(call, values, 0.0, x.shape[-1], array.dtype)
    replaced = np.float32(call.attribute("replaced_value_float", 0.0))
    hit = xp.isnan(array) if np.isnan(replaced) else array == replaced.astype(array.dtype)
    return call.tensor(xp.where(hit, row, array))


@kernel("Normalizer", domain=_DOMAIN, dtypes=_FLOAT, accepts=_has_features)
def normalizer(call: Call, x: Tensor) -> Tensor:
    """Rows divided by their largest magnitude, their sum of magnitudes, or their length."""
    xp, norm = call.device.xp, call.attribute("norm", "MAX")
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
