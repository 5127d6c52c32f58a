# SPDX-License-Identifier: Apache-2.0
"""Pools over windows, and over all of an image."""

from __future__ import annotations

import numpy as np

from bascule.gradient.build import Builder, Term
from bascule.gradient.indexing import add_at
from bascule.gradient.registry import Gradients, gradient
from bascule.gradient.window import window_of
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.ir.types import TensorType


@gradient("AveragePool")
def average_pool(node: Node, dy: Term, build: Builder) -> Gradients:
    """Every element gets its share from each window that holds it; channels are seen as images."""
    (x,) = build.inputs(node)
    window = window_of(node, build, x, build(node.output))
    counts = window.counts(bool(node.attribute("count_include_pad", 0)))
    share = dy / build.cast(counts, dy.dtype)
    if window.touch:
        return [window.repeat(share)]
    images = build.size(x, [0, 1])
    rows = build.concat(build.reshape(images, build.ints(1)), build.ints(1))
    share = build.reshape(share, build.concat(rows, build.shape(dy, 2)))
    ones = build.constant(np.ones([1, 1, *node.attributes["kernel_shape"]], dy.dtype.numpy))
    return [build.reshape_like(window.spread(share, ones, 1), x)]


@gradient("MaxPool")
def max_pool(node: Node, dy: Term, build: Builder) -> Gradients:
    """The second output says where in all of x each maximum was found."""
    (x,) = build.inputs(node)
    if node.attribute("storage_order", 0):
        attributes = {**node.attributes, "storage_order": 0}
        places = build.node_of("MaxPool", [x], attributes, outputs=2)[1]
        places.value.type = TensorType(DataType.INT64)
    else:
        places = build.extra_output(node, 1)
    return [add_at(build, places, dy, x)]


@gradient("GlobalAveragePool")
def global_average_pool(node: Node, dy: Term, build: Builder) -> Gradients:
    (x,) = build.inputs(node)
    count = build.cast(build.size(x, range(2, x.rank)), dy.dtype)
    return [build.expand_like(dy / count, x)]


@gradient("GlobalMaxPool")
def global_max_pool(node: Node, dy: Term, build: Builder) -> Gradients:
    """Elements that are equal share the gradient."""
    (x,) = build.inputs(node)
    chosen = build.Equal(x, build(node.output))
    count = build.sum(build.cast(chosen, dy.dtype), range(2, x.rank), keepdims=True)
    return [build.Where(chosen, dy / count, 0)]
