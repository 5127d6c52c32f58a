# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import InvalidGraph
from bascule.errors import NotImplemented as NotSupported

from .attending import added_mask, attend, bounds_mask, join_heads, split_heads
from .comparison import Array, check, model_of, normal, session
from .test_quantized_qlinear import BYTES, random_bytes, random_weights, scale

BATCH, ROWS, HEADS, SIZE, WIDTH = 2, 3, 2, 8, 12
HIDDEN = HEADS * SIZE
CONSTANTS = (1, 2, 4, 7)


def inputs(
    dtype: type = np.int8,
    mask: Array | None = None,
    past: Array | None = None,
    columns: tuple[int, ...] = (),
) -> list[Array | None]:
    generator = np.random.default_rng(len(columns))
    return [
        random_bytes(np.uint8, BATCH, ROWS, WIDTH),
        random_weights(dtype, WIDTH, 3 * HIDDEN),
        normal(3 * HIDDEN),
        scale(0.02),
        generator.uniform(0.005, 0.02, columns).astype(np.float32),
        mask,
        np.array(120, np.uint8),
        generator.integers(0, 9, columns).astype(dtype),
        past,
    ]


def reference(attributes: dict[str, Any]) -> Any:
    def run(x: Array, w: Array, b: Array, s: Any, w_s: Any, mask: Any, z: Any, w_z: Any, past: Any):
        moved = (x.astype(np.int64) - (0 if z is None else z)) @ (
            w.astype(np.int64) - (0 if w_z is None else w_z)
        )
        packed = moved * (np.float64(s) * w_s.astype(np.float64)) + b
        q, k, v = (split_heads(part, HEADS) for part in np.split(packed, 3, -1))
        before = 0 if past is None else past.shape[3]
        if past is not None:
            k, v = (np.concatenate([p, new], 2) for p, new in zip(past, (k, v)))
        keys, added = k.shape[2], 0.0
        if mask is not None and mask.ndim == 1:
            added = bounds_mask(mask, BATCH, keys)
        elif mask is not None:
            filter_value = attributes.get("mask_filter_value", -1e4)
            added = added_mask(mask, ROWS, keys, before, filter_value)
        causal = bool(attributes.get("unidirectional"))
        y, _ = attend(q, k, v, added, causal, attributes.get("scale", 0.0), before)
        return [join_heads(y), np.stack([k, v])]

    return run


def run(
    given: list[Array | None], attributes: dict[str, Any] | None = None, **keywords: Any
) -> None:
    attributes = {"num_heads": HEADS, **(attributes or {})}
    keywords = {"constants": CONSTANTS, "dtypes": [np.float32], **keywords}
    check("QAttention", reference(attributes), given, attributes, **keywords)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("columns", [(), (1,), (3 * HIDDEN,)])
def test_projections(columns: tuple[int, ...], dtype: type) -> None:
    run(inputs(dtype, columns=columns))
    run(inputs(dtype, columns=columns), constants=())


def test_without_zero_points() -> None:
    given = inputs()
    given[6] = given[7] = None
    run(given, constants=(1, 2, 4))


@pytest.mark.parametrize(
    "mask",
    [
        np.array([2, 3], np.int32),
        np.array([2, 3, 0, 1], np.int32),
        np.array([[1, 0, 1], [1, 1, 0]], np.int32),
    ],
)
def test_masks(mask: Array) -> None:
    run(inputs(mask=mask), shapes=("static", "symbolic"))


@pytest.mark.parametrize("attributes", [{"unidirectional": 1}, {"scale": 0.2}])
def test_attributes(attributes: dict[str, Any]) -> None:
    # The other runtime's kernel leaves `scale` out of account.
    run(inputs(), attributes, elsewhere="scale" not in attributes)


@pytest.mark.parametrize("causal", [0, 1])
def test_past(causal: int) -> None:
    past = normal(2, BATCH, HEADS, 4, SIZE)
    run(inputs(past=past), {"unidirectional": causal})


def test_is_refused() -> None:
    with pytest.raises(InvalidGraph, match="columns of the weights"):
        given = inputs()
        given[1] = random_bytes(np.int8, WIDTH, 3 * HIDDEN + 1)
        session(model_of("QAttention", given, {"num_heads": HEADS}))
    with pytest.raises(NotSupported, match="'past_present_share_buffer' is not supported"):
        attributes = {"num_heads": HEADS, "past_present_share_buffer": 1}
        session(model_of("QAttention", inputs(), attributes))
