# SPDX-License-Identifier: Apache-2.0
"""Batch and group normalization."""

from __future__ import annotations

from bascule.canonical.builder import Builder
from bascule.canonical.registry import rewrite
from bascule.ir.graph import Node, Value


@rewrite("BatchNormalization", until=13, types=True)
def batch_normalization(node: Node, build: Builder) -> None:
    """The number of outputs told training from inference; there were two outputs more."""
    tests = node.attributes.pop("is_test", 0)
    spatial = node.attributes.pop("spatial", 1)
    x, mean, variance = node.inputs[0], node.inputs[3], node.inputs[4]
    assert x is not None and mean is not None and variance is not None
    trains = len(node.outputs) > 1 and not tests
    if not spatial and x.rank != 2:
        x = _flatten_activations(node, build, trains)
    if not trains:
        for value, given in zip(
            build.drop_outputs(1), (mean, variance, mean, variance), strict=False
        ):
            if not value.is_unused:
                build.op("Identity", given, outputs=[value])
        return
    node.attributes["training_mode"] = 1
    saved = build.drop_outputs(3)
    if not all(value.is_unused for value in saved):
        # All axes but that of the channels.
        axes = build.op("Concat", build.ints(0), build.axes_from(2, x), axis=0)
        batch_mean = build.op("ReduceMean", x, axes, keepdims=1)
        build.op("Squeeze", batch_mean, axes, outputs=saved[:1])
        difference = build.op("Sub", x, batch_mean)
        square = build.op("Mul", difference, difference)
        if len(saved) > 1:
            build.op("ReduceMean", square, axes, keepdims=0, outputs=saved[1:])


def _flatten_activations(node: Node, build: Builder, trains: bool) -> Value:
    """Normalize each activation for itself: each becomes a channel of a matrix."""
    x = node.inputs[0]
    assert x is not None
    matrix = build.op("Flatten", x, axis=1)
    node.set_input(0, matrix)
    parameters = node.inputs[1:]
    for index, value in enumerate(parameters, start=1):
        assert value is not None
        node.set_input(index, build.as_vector(value))
    build.convert_output(0, "Reshape", build.shape(x), allowzero=1)
    if trains:
        for index in range(1, len(node.outputs)):
            statistic = parameters[2 + (index - 1) % 2]
            assert statistic is not None
            build.convert_output(index, "Reshape", build.shape(statistic), allowzero=1)
    return matrix


@rewrite("GroupNormalization", until=20, types=True)
def group_normalization(node: Node, build: Builder) -> None:
    """Scale and bias were given for each group, not for each channel."""
    x = node.inputs[0]
    assert x is not None
    groups = node.attributes["num_groups"]
    channels = x.shape[1] if x.shape is not None and len(x.shape) > 1 else None
    if isinstance(channels, int):
        if groups <= 0 or channels % groups:
            raise build.invalid(f"{channels} channels cannot be split into {groups} groups")
        each = build.ints(channels // groups)
    else:
        each = build.op("Div", build.op("Shape", x, start=1, end=2), build.ints(groups))
    target = build.op("Concat", build.ints(groups), each, axis=0)
    for index in (1, 2):
        column = build.op("Unsqueeze", node.inputs[index], build.ints(1))
        node.set_input(index, build.as_vector(build.op("Expand", column, target)))
