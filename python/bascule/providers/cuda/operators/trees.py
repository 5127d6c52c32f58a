# SPDX-License-Identifier: Apache-2.0
"""TreeEnsemble, and TreeEnsembleRegressor and TreeEnsembleClassifier before it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.operators.linear_models import FEATURES, TRANSFORMS, transform_of
from bascule.providers.cuda.registry import kernel
from bascule.providers.cuda.tensor import Tensor

_DOMAIN = "ai.onnx.ml"
_BLOCK = 128
_FLOATS = frozenset((DataType.FLOAT, DataType.DOUBLE, DataType.FLOAT16))

_NODE = np.dtype(
    [("split", "<f8")]
    + [(name, "<i4") for name in ("feature", "mode", "missing", "yes", "no", "first", "last")]
    + [("unused", "<i4")]
)
"""struct TreeNode of kernels/trees.cu."""
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
_MEMBER = 6
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class _Votes:
    """Weights for targets; those of leaf i begin at first[i]."""

    first: Array
    weights: Array
    targets: Array


@dataclass(frozen=True, slots=True)
class _Forest:
    tables: tuple[Tensor | None, ...]
    """As kernels take them."""
    trees: int
    nodes: int
    features: int
    targets: int
    aggregate: int
    votes: _Votes
    base: Array


def _numbers(node: Node, name: str) -> Array:
    """An attribute that is a tensor or a list, as an array of one axis; empty if left out."""
    value = node.attributes.get(name)
    if value is None:
        return np.empty(0, np.int64)
    array = value.numpy() if hasattr(value, "numpy") else np.asarray(value)
    return array.reshape(-1)


def _reals(call: Call, name: str) -> Array:
    """The list `name`, of float32, or the tensor beside it."""
    listed, tensor = (_numbers(call.node, n) for n in (name, f"{name}_as_tensor"))
    _require(call, not (len(listed) and len(tensor)), f"both {name} and {name}_as_tensor are given")
    return (
        tensor.astype(np.float64) if len(tensor) else listed.astype(np.float32).astype(np.float64)
    )


def _integers(call: Call, name: str, count: int | None = None) -> Array:
    values = _numbers(call.node, name).astype(np.int64)
    if count is not None:
        _require(call, len(values) == count, f"{name} has {len(values)} elements, not {count}")
    return values


def _require(call: Call, holds: Any, message: str) -> None:
    if not holds:
        raise call.error(message)


def _target_count(asked: int, targets: Array) -> int:
    """What is asked for, or else one more than the largest target that has votes."""
    return asked if asked > 0 else max(int(targets.max(initial=0)) + 1, 1)


# --- TreeEnsemble


def _ways(call: Call, way: str, count: int, leaves: int) -> Array:
    """Where nodes lead: other nodes, or ~leaf."""
    name = f"nodes_{way}nodeids"
    ids = _integers(call, name, count)
    is_leaf = _integers(call, f"nodes_{way}leafs", count).astype(bool)
    most = np.where(is_leaf, leaves, count)
    _require(call, ((ids >= 0) & (ids < most)).all(), f"{name} leads to nodes that do not exist")
    return np.where(is_leaf, ~ids, ids)


def _table(call: Call, features: Array, splits: Array, modes: Array) -> Array:
    count = len(features)
    _require(call, len(splits) == len(modes) == count, "nodes_* differ in their sizes")
    _require(call, (features < 2**31 - 1).all(), "a feature is too far to the right")
    table = np.zeros(count, _NODE)
    table["split"], table["mode"] = splits, modes
    table["feature"] = np.maximum(features, -1)
    return table


def _missing(call: Call, count: int) -> Array:
    flags = _integers(call, "nodes_missing_value_tracks_true")
    _require(call, len(flags) in (0, count), "nodes_missing_value_tracks_true has another size")
    return flags != 0 if len(flags) else np.zeros(count, bool)


def _read_forest(call: Call) -> _Forest:
    """The attributes of TreeEnsemble, checked and uploaded."""
    node = call.node
    features, modes = _integers(call, "nodes_featureids"), _integers(call, "nodes_modes")
    _require(call, ((modes >= 0) & (modes <= _MEMBER)).all(), "nodes_modes are to be 0 to 6")
    table = _table(call, features, _numbers(node, "nodes_splits"), modes)
    weights = _numbers(node, "leaf_weights").astype(np.float64)
    targets = _integers(call, "leaf_targetids", len(weights))
    table["missing"] = _missing(call, len(table))
    table["yes"] = _ways(call, "true", len(table), len(weights))
    table["no"] = _ways(call, "false", len(table), len(weights))
    roots = _integers(call, "tree_roots")
    _require(call, ((roots >= 0) & (roots < len(table))).all(), "a tree has no root")
    count = _target_count(int(call.attribute("n_targets", 0)), targets)
    votes = _Votes(np.arange(len(weights) + 1), weights, targets)
    aggregate = int(call.attribute("aggregate_function", 1))
    _require(call, 0 <= aggregate < len(_AGGREGATES), f"aggregate_function is {aggregate}")
    members = _sets(call, table)
    return _forest(call, table, roots, members, votes, np.empty(0), count, aggregate)


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


def _forest(
    call: Call,
    table: Array,
    roots: Array,
    members: Array,
    votes: _Votes,
    base: Array,
    targets: int,
    aggregate: int,
) -> _Forest:
    """What both forms of attributes say, checked once more and uploaded."""
    valid = (votes.targets >= 0) & (votes.targets < targets)
    _require(call, valid.all(), "there are votes for targets that do not exist")
    _require(call, len(base) in (0, targets), f"base_values has {len(base)} elements")
    features = _used_features(call, table, roots)
    arrays: tuple[Array, ...] = (
        table.view(np.uint8),
        roots.astype(np.int32),
        members,
        votes.first.astype(np.int32),
        votes.weights,
        votes.targets.astype(np.int32),
    )
    tables = (*map(call.upload, arrays), call.upload(base) if len(base) else None)
    return _Forest(tables, len(roots), len(table), features, targets, aggregate, votes, base)


def _used_features(call: Call, table: Array, roots: Array) -> int:
    """How many columns the nodes that can be reached look at; none of them is its own child."""
    level, most = np.unique(roots[roots >= 0]), -1
    for _ in range(len(table) + 1):
        if not len(level):
            return most + 1
        used = table["feature"][level]
        _require(call, used.min() >= 0, "nodes_featureids has a negative index for a node in use")
        most = max(most, int(used.max()))
        below = np.concatenate([table["yes"][level], table["no"][level]])
        level = np.unique(below[below >= 0])
    raise call.error("a path through the nodes goes in a circle")


# --- the operators before it


def _positions(call: Call, keys: tuple[Array, Array], wanted: tuple[Array, Array]) -> Array:
    """Where in the lists (tree, node) stands, for each that is wanted."""
    order = np.lexsort((keys[1], keys[0]))
    pairs = np.empty(len(order), [("tree", np.int64), ("node", np.int64)])
    pairs["tree"], pairs["node"] = keys[0][order], keys[1][order]
    _require(call, len(np.unique(pairs)) == len(pairs), "a node of a tree is there twice")
    asked = np.empty(len(wanted[0]), pairs.dtype)
    asked["tree"], asked["node"] = wanted
    if not len(pairs):
        _require(call, not len(asked), "the trees have no nodes")
        return np.empty(0, np.int64)
    found = np.minimum(np.searchsorted(pairs, asked), len(pairs) - 1)
    _require(call, (pairs[found] == asked).all(), "a node that is named does not exist")
    return order[found]


def _read_lists(call: Call, prefix: str, asked: int, aggregate: int) -> _Forest:
    """The attributes of the two operators before TreeEnsemble, checked and uploaded."""
    features = _integers(call, "nodes_featureids")
    count = len(features)
    names = ("nodes_treeids", "nodes_nodeids", "nodes_truenodeids", "nodes_falsenodeids")
    trees, ids, yes, no = (_integers(call, name, count) for name in names)
    modes = list(call.attribute("nodes_modes") or ())
    unknown = [mode for mode in modes if mode not in (*_MODES, "LEAF")]
    _require(call, not unknown, f"nodes_modes has {unknown[:1]}")
    _require(call, len(modes) == count, "nodes_* differ in their sizes")
    is_leaf = np.array([mode == "LEAF" for mode in modes], bool)
    places = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1)
    branches = np.flatnonzero(~is_leaf)
    numbers = np.array([_MODES.index(modes[i]) for i in branches], np.int32)
    values = _reals(call, "nodes_values")
    _require(call, len(values) == count, "nodes_* differ in their sizes")
    table = _table(call, features[branches], values[branches], numbers)
    table["missing"] = _missing(call, count)[branches]
    is_child = np.zeros(count, bool)
    for name, way in (("yes", yes), ("no", no)):
        children = _positions(call, (trees, ids), (trees[branches], way[branches]))
        table[name] = places[children]
        is_child[children] = True
    # The root of a tree is its first node that is no child.
    tops = np.flatnonzero(~is_child)
    _, firsts = np.unique(trees[tops], return_index=True)
    _require(call, len(firsts) == len(np.unique(trees)), "the nodes of a tree form a circle")
    roots = places[np.sort(tops[firsts])]
    targets = _target_count(asked, _integers(call, f"{prefix}_ids"))
    # Of a regressor with one target only the first weight of a leaf counts: see ml/forest.cpp.
    single = prefix == "target" and targets == 1
    votes = _read_votes(call, prefix, (trees, ids), places, int(is_leaf.sum()), single)
    base = _reals(call, "base_values")
    if prefix == "class" and targets == 2 and len(base) == 1:
        base = np.append(base, 0.0)
    return _forest(call, table, roots, np.empty(0), votes, base, targets, aggregate)


def _read_votes(
    call: Call,
    prefix: str,
    keys: tuple[Array, Array],
    places: Array,
    leaves: int,
    single: bool,
) -> _Votes:
    """The votes of each leaf in their order in the lists; those of other nodes mean nothing."""
    targets = _integers(call, f"{prefix}_ids")
    trees, nodes = (_integers(call, f"{prefix}_{n}", len(targets)) for n in ("treeids", "nodeids"))
    weights = _reals(call, f"{prefix}_weights")
    _require(call, len(weights) == len(targets), f"{prefix}_weights has {len(weights)} elements")
    voters = places[_positions(call, keys, (trees, nodes))]
    own = np.flatnonzero(voters < 0)
    own = own[np.argsort(~voters[own], kind="stable")]
    if single:
        own = own[np.unique(voters[own], return_index=True)[1][::-1]]
    first = np.searchsorted(~voters[own], np.arange(leaves + 1))
    return _Votes(first, weights[own], targets[own])


# --- running them


def _scores(call: Call, x: Tensor, forest: _Forest) -> tuple[Tensor, Tensor, int]:
    """The scores of the targets in float64, which of them have votes, and the number of rows."""
    if x.rank not in (1, 2) or x.shape[-1] < forest.features:
        raise call.error(f"input has shape {x.shape}, expected {forest.features} columns")
    rows = x.shape[0] if x.rank == 2 else 1
    scores = call.empty((rows, forest.targets), DataType.DOUBLE)
    seen = call.empty((rows, forest.targets), DataType.UINT8)
    # Integers are compared as float32 where the thresholds are float32.
    is_integer = x.dtype in (DataType.INT32, DataType.INT64)
    single = is_integer and call.attribute("nodes_values_as_tensor") is None
    sizes = (forest.trees, forest.nodes, forest.targets, forest.aggregate, single)
    ensemble = Struct(struct.pack("<2q5i4x", rows, x.shape[-1], *sizes))
    name = f"tree_scores_{type_name(x.dtype)}"
    arguments = (x, *forest.tables, scores, seen, ensemble)
    call.launch("trees", name, -(-rows // _BLOCK), _BLOCK, *arguments)
    return scores, seen, rows


def _values(call: Call, x: Tensor, forest: _Forest, transform: int) -> Tensor:
    scores, _, rows = _scores(call, x, forest)
    y = call.empty((rows, forest.targets), call.dtype())
    numbers = (np.int64(rows), np.int64(forest.targets), np.int32(transform))
    name = f"tree_values_{type_name(y.dtype)}"
    call.launch("trees", name, -(-rows // _BLOCK), _BLOCK, scores, y, *numbers)
    return y


def _accepts_number(node: Node) -> str:
    transform = node.attributes.get("post_transform", 0)
    return "" if transform in range(len(TRANSFORMS)) else f"no kernel for transform {transform}"


@kernel("TreeEnsemble", domain=_DOMAIN, dtypes=_FLOATS, accepts=_accepts_number)
def tree_ensemble(call: Call, x: Tensor) -> Tensor:
    """The scores that trees give to rows."""
    forest: _Forest = call.prepared("forest", _read_forest)
    return _values(call, x, forest, int(call.attribute("post_transform", 0)))


@kernel("TreeEnsembleRegressor", domain=_DOMAIN, dtypes=FEATURES)
def tree_ensemble_regressor(call: Call, x: Tensor) -> Tensor:
    """The scores that trees give to rows, as float32."""
    name = call.attribute("aggregate_function", "SUM")
    _require(call, name in _AGGREGATES, f"aggregate_function is '{name}'")
    asked = int(call.attribute("n_targets", 0))

    def read(keeping: Call) -> _Forest:
        return _read_lists(keeping, "target", asked, _AGGREGATES.index(name))

    return _values(call, x, call.prepared("forest", read), transform_of(call))


def _accepts_labels(node: Node) -> str:
    strings = node.attributes.get("classlabels_strings")
    return "labels that are strings stay on the CPU" if strings else ""


@kernel("TreeEnsembleClassifier", domain=_DOMAIN, dtypes=FEATURES, accepts=_accepts_labels)
def tree_ensemble_classifier(call: Call, x: Tensor) -> tuple[Tensor, Tensor]:
    """The class that most trees vote for, and the scores of all."""
    labels = _integers(call, "classlabels_int64s")
    classes = len(labels)
    _require(call, classes, "one of classlabels_int64s and classlabels_strings is needed")

    def read(keeping: Call) -> _Forest:
        return _read_lists(keeping, "class", classes, _AGGREGATES.index("SUM"))

    forest: _Forest = call.prepared("forest", read)
    scores, seen, rows = _scores(call, x, forest)
    named, z = call.empty((rows,), DataType.INT64), call.empty((rows, classes), DataType.FLOAT)
    decision = _decision(call, forest, rows)
    arguments = (scores, seen, call.upload(labels), named, z, decision)
    call.launch("trees", "tree_classes", -(-rows // _BLOCK), _BLOCK, *arguments)
    return named, z


def _decision(call: Call, forest: _Forest, rows: int) -> Struct:
    """As struct Decision."""
    votes, transform = forest.votes, transform_of(call)
    voted = set(votes.targets.tolist()) if forest.targets == 2 else set()
    positive = not (votes.weights < 0).any()
    kind = TRANSFORMS[transform]
    numbers = (
        forest.targets,
        voted.pop() if len(voted) == 1 else -1,
        kind == "PROBIT" or (positive and kind != "LOGISTIC"),
        len(forest.base) > 0,
        transform,
        call.attribute("class_weights_as_tensor") is None,
    )
    return Struct(struct.pack("<q6i", rows, *numbers))
