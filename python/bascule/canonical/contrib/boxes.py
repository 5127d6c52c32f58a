# SPDX-License-Identifier: Apache-2.0
"""Parts of images, resized."""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.graph import Value

_MODES = {"bilinear": "linear", "nearest": "nearest"}


@operator("CropAndResize")
def crop_and_resize(
    build: ContribBuilder,
    X: Value,
    rois: Value,
    batch_indices: Value,
    crop_size: Value,
    *,
    extrapolation_value: float = 0.0,
    mode: str = "bilinear",
) -> Outputs:
    """Corners stay corners; what lies outside of the image is of the extrapolation value."""
    if mode not in _MODES:
        raise build.invalid(f"attribute 'mode' is '{mode}', expected one of {list(_MODES)}")
    images = build.op("Gather", X, batch_indices, axis=0)
    y1, x1, y2, x2 = build.ops("Split", rois, outputs=4, axis=1, num_outputs=4)
    heights, widths = build.ops("Split", build.int64(crop_size), outputs=2, num_outputs=2)
    y, y_inside = _positions(build, y1, y2, heights, build.dim(X, 2), mode)
    x, x_inside = _positions(build, x1, x2, widths, build.dim(X, 3), mode)
    rows, columns = (build.op("Unsqueeze", each, build.ints(2)) for each in (y, y_inside))
    shape = build.op("Concat", build.dim(rois, 0), heights, widths, axis=0)
    grid = [
        build.op("Unsqueeze", build.op("Expand", each, shape), build.ints(-1))
        for each in (build.op("Unsqueeze", x, build.ints(1)), rows)
    ]
    sampled = build.op(
        "GridSample",
        images,
        build.op("Concat", *grid, axis=-1),
        align_corners=1,
        mode=_MODES[mode],
        padding_mode="border",
    )
    inside = build.op("And", columns, build.op("Unsqueeze", x_inside, build.ints(1)))
    outside = build.like(extrapolation_value, build.typed(X))
    return build.op("Where", build.op("Unsqueeze", inside, build.ints(1)), sampled, outside)


def _positions(
    build: ContribBuilder, first: Value, last: Value, count: Value, size: Value, mode: str
) -> tuple[Value, Value]:
    """Where each box is sampled along an axis, from -1 to 1, and whether that is in the image.

    `first` and `last` are ``[boxes, 1]``; one sample alone is in their middle.
    """

    def number(value: float) -> Value:
        return build.like(value, build.typed(first))

    end = build.op("CastLike", build.op("Sub", size, build.ints(1)), first)
    steps = build.op("CastLike", build.numbers(count), first)
    intervals = build.op("CastLike", build.op("Sub", count, build.ints(1)), first)
    width = build.op("Mul", build.op("Sub", last, first), end)
    stride = build.op("Div", width, build.op("Max", intervals, number(1)))
    many = build.op("Add", build.op("Mul", first, end), build.op("Mul", steps, stride))
    middle = build.op("Mul", build.op("Mul", build.op("Add", first, last), end), number(0.5))
    is_many = build.op("Greater", count, build.ints(1))
    at = build.op("Where", is_many, many, middle)
    inside = build.op(
        "And", build.op("GreaterOrEqual", at, number(0)), build.op("LessOrEqual", at, end)
    )
    if mode == "nearest":  # halves are rounded up here, to even there
        at = build.op("Floor", build.op("Add", at, number(0.5)))
    half = build.op("Div", build.op("Max", end, number(1)), number(2))
    return build.op("Sub", build.op("Div", at, half), number(1)), inside
