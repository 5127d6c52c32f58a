# SPDX-License-Identifier: Apache-2.0
"""Convolutions, pooling, images, recurrent layers, attention and signals."""

from __future__ import annotations

from tests.support.operators import references
from tests.support.operators.case import case, dtype_number
from tests.support.typed import fixed, numbers

_IMAGE = numbers(2, 3, 6, 5)
_FRACTION = {"low": -1, "high": 1, "step": 1 / 64}
_SIGNAL = numbers(1, 12, 1)
_ROIS = fixed([[0, 0, 3, 3], [1, 0, 4, 5]])
_HEADS = numbers(2, 2, 3, 4)


def _recurrent(op_type: str, gates: int, states: int):
    return case(
        op_type,
        numbers(3, 2, 4),
        numbers(1, gates * 3, 4, **_FRACTION),
        numbers(1, gates * 3, 3, **_FRACTION),
        numbers(1, 2 * gates * 3, **_FRACTION),
        fixed([3, 2]),
        outputs=states,
        hidden_size=3,
        own=True,
    )


CASES = [
    case("ImageDecoder", references.Bitmap(), expect=references.pixels),
    case("Conv", _IMAGE, numbers(4, 3, 3, 3), numbers(4), pads=[1, 1, 1, 1]),
    case("Conv", _IMAGE, numbers(3, 1, 3, 2), label="depthwise", group=3),
    case("Conv", numbers(2, 3, 7), numbers(4, 3, 3), label="1d", strides=[2]),
    case("ConvTranspose", _IMAGE, numbers(3, 4, 3, 3), numbers(4), strides=[2, 2]),
    case("DeformConv", _IMAGE, numbers(4, 3, 2, 2), numbers(2, 8, 5, 4, **_FRACTION), numbers(4)),
    case(
        "CausalConvWithState",
        numbers(2, 3, 5),
        numbers(3, 1, 3),
        numbers(3),
        numbers(2, 3, 2),
        outputs=2,
        activation="silu",
    ),
    case("AveragePool", _IMAGE, kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 1, 0]),
    case("MaxPool", _IMAGE, outputs=2, kernel_shape=[3, 2], strides=[1, 2]),
    case("LpPool", _IMAGE, kernel_shape=[2, 2]),
    case("GlobalAveragePool", _IMAGE),
    case("GlobalMaxPool", _IMAGE),
    case("GlobalLpPool", _IMAGE, expect=references.by(references.global_lp_pool)),
    case(
        "MaxUnpool",
        numbers(1, 1, 2, 2),
        fixed([[[[0, 3], [8, 10]]]]),
        kernel_shape=[2, 2],
        strides=[2, 2],
    ),
    case(
        "MaxRoiPool",
        numbers(1, 2, 6, 6),
        fixed([[0, 0, 0, 3, 3], [0, 1, 0, 4, 5]]),
        pooled_shape=[2, 2],
        own=True,
    ),
    case(
        "RoiAlign",
        numbers(1, 2, 6, 6),
        _ROIS,
        fixed([0, 0]),
        output_height=2,
        output_width=2,
        sampling_ratio=2,
    ),
    case(
        "AffineGrid",
        numbers(2, 2, 3, **_FRACTION),
        fixed([2, 3, 3, 4]),
        expect=references.by(references.affine_grid),
    ),
    case(
        "NonMaxSuppression",
        fixed([[[0, 0, 1, 1], [0, 0, 1, 1.125], [0, 2, 1, 3]]]),
        fixed([[[0.5, 0.75, 0.25]]]),
        fixed([2]),
        fixed([0.5]),
        fixed([0.0]),
    ),
    _recurrent("RNN", 1, 2),
    _recurrent("GRU", 3, 2),
    _recurrent("LSTM", 4, 3),
    case("Attention", _HEADS, numbers(2, 2, 5, 4), numbers(2, 2, 5, 6), numbers(3, 5)),
    case("RotaryEmbedding", _HEADS, numbers(2, 3, 2), numbers(2, 3, 2)),
    case(
        "RotaryEmbedding",
        _HEADS,
        numbers(7, 2),
        numbers(7, 2),
        fixed([[0, 1, 2], [6, 3, 4]]),
        label="positions",
    ),
    case(
        "LinearAttention",
        numbers(2, 3, 8, **_FRACTION),
        numbers(2, 3, 8, **_FRACTION),
        numbers(2, 3, 8, **_FRACTION),
        numbers(2, 2, 4, 4, **_FRACTION),
        numbers(2, 3, 2, low=-1, high=0),
        numbers(2, 3, 2, low=0, high=1),
        outputs=2,
        q_num_heads=2,
        kv_num_heads=2,
    ),
    case("DFT", numbers(2, 5, 1), None, fixed(1)),
    case("DFT", numbers(2, 5, 1), fixed(4), fixed(1), label="length"),
    case("DFT", numbers(2, 5, 2), None, fixed(1), label="inverse", inverse=1),
    case("STFT", _SIGNAL, fixed(4), numbers(4), fixed(4)),
    *(
        case(op_type, fixed(9), output_datatype=dtype_number("T2"))
        for op_type in ("BlackmanWindow", "HammingWindow", "HannWindow")
    ),
    case(
        "MelWeightMatrix",
        fixed(4),
        fixed(16),
        fixed(8192),
        fixed(0),
        fixed(4096),
        output_datatype=dtype_number("T3"),
    ),
    case("Dropout", _IMAGE, fixed(0.5), fixed(0), outputs=2),
]
