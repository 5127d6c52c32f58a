# SPDX-License-Identifier: Apache-2.0
"""Constant nodes become initializers of their graph."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bascule.canonical.builder import Builder
from bascule.canonical.registry import EVERY_VERSION, rewrite
from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import AttributeReference, Node, SparseConstant, Value

# A few bytes in a file may claim a dense tensor of any size.
_MAX_DENSE_BYTES = 1 << 31

_FORMS: dict[str, Any] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": object,
    "value_strings": object,
}


@rewrite("Constant", until=EVERY_VERSION)
def constant(node: Node, build: Builder) -> None:
    if len(node.attributes) != 1:
        raise build.invalid("exactly one of the value attributes must be given")
    ((name, attribute),) = node.attributes.items()
    if isinstance(attribute, AttributeReference):
        return
    if isinstance(attribute, Constant):
        data = attribute
    elif isinstance(attribute, SparseConstant):
        data = _densify(attribute, build)
    else:
        data = Constant.from_numpy(np.array(attribute, dtype=_FORMS[name]))
    old = node.output
    new = Value(constant=data)
    # An output of the graph keeps its name, and reads the constant through an Identity.
    new.name = build.graph.fresh_name(old.name) if old.is_graph_output else old.name
    new.metadata = old.metadata
    build.graph.add_initializer(new)
    old.replace_uses(new)
    build.graph.remove(node)


def _densify(sparse: SparseConstant, build: Builder) -> Constant:
    dtype = sparse.values.dtype
    size = math.prod(sparse.shape)
    if size * max(dtype.bits, 8) // 8 > _MAX_DENSE_BYTES:
        raise build.invalid(f"a sparse value of shape {list(sparse.shape)} is too large")
    values = sparse.values.numpy().reshape(-1)
    indices = sparse.indices.numpy()
    if indices.ndim == 2:
        if indices.shape[1] != len(sparse.shape):
            raise build.invalid("the indices of a sparse value do not fit its shape")
        strides = [math.prod(sparse.shape[axis + 1 :]) for axis in range(len(sparse.shape))]
        if indices.size and ((indices < 0) | (indices >= np.array(sparse.shape))).any():
            raise build.invalid("an index of a sparse value lies outside its shape")
        indices = indices @ np.array(strides, dtype=np.int64)
    if indices.shape != values.shape:
        raise build.invalid("a sparse value has not as many indices as values")
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise build.invalid("an index of a sparse value lies outside its shape")
    dense = np.zeros(size, dtype=dtype.numpy)
    if dtype is DataType.STRING:
        dense[:] = ""
    dense[indices] = values
    return Constant.from_numpy(dense.reshape(sparse.shape))
