# SPDX-License-Identifier: Apache-2.0
"""Further forms of operators, whose attributes or optional inputs lead to code of their own.

What they compute is tested elsewhere: here a result in any type is held to that of the widest one.
"""

from __future__ import annotations

import dataclasses

from bascule.ir.dtype import DataType
from tests.support.operators.case import case
from tests.support.typed import Binding, Case, fixed, numbers, small

_MATRIX = numbers(3, 5)
_IMAGE = numbers(1, 2, 6, 6)
_CLASSES = numbers(3, 5, 2)
_LABELS = fixed([[1, 0], [2, 2], [0, 1]])
_PAST = numbers(2, 2, 5, 4)


def _has_order(binding: Binding) -> bool:
    """Neither text nor complex numbers: they have no order, and text no sum."""
    return not any(
        type.dtype in (DataType.STRING, DataType.COMPLEX64, DataType.COMPLEX128)
        for type in binding.values()
    )


def _is_number(binding: Binding) -> bool:
    return not any(type.dtype is DataType.STRING for type in binding.values())


_SCATTERS = [
    each
    for reduction in ("add", "mul", "max", "min")
    for each in (
        case(
            "ScatterElements",
            _MATRIX,
            fixed([[0, 1, 2, 0, -1]]),
            numbers(1, 5),
            label=reduction,
            allows=_has_order,
            reduction=reduction,
        ),
        case(
            "ScatterND",
            _MATRIX,
            fixed([[0, 4], [2, 1]]),
            numbers(2),
            label=reduction,
            allows=_has_order,
            reduction=reduction,
        ),
    )
]

_SAMPLES = [
    case(
        "GridSample",
        _IMAGE,
        numbers(1, 3, 3, 2, low=-1, high=1),
        label=f"{mode}-{padding}",
        allows=_is_number,
        mode=mode,
        padding_mode=padding,
    )
    for mode in ("linear", "cubic")
    for padding in ("border", "reflection")
]

_REDUCTIONS = [
    each
    for name in (
        "L1",
        "L2",
        "LogSum",
        "LogSumExp",
        "Max",
        "Mean",
        "Min",
        "Prod",
        "Sum",
        "SumSquare",
    )
    for each in (
        case(f"Reduce{name}", numbers(2, 3, 4, low=0.5), label="all"),
        case(f"Reduce{name}", numbers(2, 3, 4, low=0.5), fixed([0, 2]), label="ends", keepdims=0),
        case(f"Reduce{name}", numbers(2, 3, 4, low=0.5), label="none", noop_with_empty_axes=1),
    )
]

_RECURRENT = [
    case(
        op_type,
        numbers(4, 2, 5),
        numbers(2, gates * 3, 5),
        numbers(2, gates * 3, 3),
        numbers(2, 2 * gates * 3),
        fixed([4, 2]),
        *states,
        outputs=2,
        label="bidirectional",
        direction="bidirectional",
        hidden_size=3,
        clip=2.0,
    )
    for op_type, gates, states in (
        ("RNN", 1, [numbers(2, 2, 3)]),
        ("GRU", 3, [numbers(2, 2, 3)]),
        ("LSTM", 4, [numbers(2, 2, 3), numbers(2, 2, 3)]),
    )
] + [
    case(
        "GRU",
        numbers(2, 4, 5),
        numbers(1, 9, 5),
        numbers(1, 9, 3),
        outputs=2,
        label="reset after",
        hidden_size=3,
        linear_before_reset=1,
        layout=1,
    ),
    case(
        "LSTM",
        numbers(4, 2, 5),
        numbers(1, 12, 5),
        numbers(1, 12, 3),
        numbers(1, 24),
        None,
        None,
        None,
        numbers(1, 9),
        outputs=3,
        label="peepholes",
        hidden_size=3,
        activations=["HardSigmoid", "Elu", "Softsign"],
        activation_alpha=[0.2, 0.5],
        input_forget=1,
    ),
]

_POOLS = [
    case(
        "AveragePool",
        _IMAGE,
        label="padded",
        kernel_shape=[2, 2],
        dilations=[2, 2],
        ceil_mode=1,
        count_include_pad=1,
        pads=[1, 1, 1, 1],
    ),
    case(
        "AveragePool",
        numbers(1, 2, 5, 5, 5),
        label="volume",
        kernel_shape=[2, 2, 2],
        auto_pad="SAME_UPPER",
    ),
    case(
        "MaxPool",
        _IMAGE,
        outputs=2,
        label="columns",
        kernel_shape=[2, 2],
        strides=[2, 2],
        dilations=[2, 1],
        storage_order=1,
    ),
    case("MaxPool", numbers(1, 2, 7), outputs=2, label="line", kernel_shape=[3], ceil_mode=1),
    case("LpPool", _IMAGE, label="cubes", kernel_shape=[2, 2], p=3, dilations=[2, 2]),
    case("LpPool", _IMAGE, label="sums", kernel_shape=[2, 2], p=1),
    case("GlobalLpPool", _IMAGE, label="cubes", p=3),
    case(
        "RoiAlign",
        _IMAGE,
        fixed([[0, 0, 3, 3]]),
        fixed([0]),
        label="max",
        mode="max",
        output_height=2,
        output_width=2,
    ),
    case(
        "MaxUnpool",
        numbers(1, 1, 2, 2),
        fixed([[[[0, 3], [9, 11]]]]),
        label="strides",
        kernel_shape=[2, 2],
        strides=[2, 2],
    ),
]

_CONVOLUTIONS = [
    case(
        "Conv",
        _IMAGE,
        numbers(4, 1, 3, 3),
        numbers(4),
        label="groups",
        group=2,
        strides=[2, 2],
        auto_pad="SAME_LOWER",
    ),
    case("Conv", numbers(1, 2, 9), numbers(4, 2, 3), label="line", dilations=[2]),
    case("Conv", numbers(1, 2, 4, 4, 4), numbers(4, 2, 3, 3, 3), label="volume"),
    case(
        "ConvTranspose",
        _IMAGE,
        numbers(2, 1, 3, 3),
        numbers(2),
        label="groups",
        group=2,
        strides=[2, 2],
        output_padding=[1, 1],
    ),
    case("ConvTranspose", numbers(1, 2, 9), numbers(2, 3, 3), label="line", dilations=[2]),
    case(
        "DeformConv",
        _IMAGE,
        numbers(2, 2, 3, 3),
        numbers(1, 18, 4, 4),
        numbers(2),
        numbers(1, 9, 4, 4),
        label="mask",
    ),
]

_PRODUCTS = [
    case(
        "Gemm",
        _MATRIX,
        numbers(3, 4),
        numbers(5, 1),
        label="transposed",
        transA=1,
        alpha=0.5,
        beta=0.25,
    ),
    case("MatMul", numbers(2, 1, 3, 5), numbers(4, 5, 2), label="batches"),
    case("MatMul", numbers(5), numbers(5), label="vectors"),
    case("Einsum", _MATRIX, numbers(5, 4), label="turned", equation="ij,jk->ki"),
    case("Einsum", numbers(3, 3), label="diagonal", equation="ii->i"),
    case(
        "Attention",
        numbers(2, 3, 8),
        numbers(2, 4, 8),
        numbers(2, 4, 8),
        None,
        _PAST,
        _PAST,
        outputs=3,
        label="past",
        q_num_heads=2,
        kv_num_heads=2,
        is_causal=1,
        softcap=2.0,
    ),
    case(
        "Attention",
        numbers(2, 4, 3, 8),
        numbers(2, 2, 4, 8),
        numbers(2, 2, 4, 6),
        numbers(3, 4),
        label="groups",
    ),
]

_NORMALIZATIONS = [
    case(
        "BatchNormalization",
        _IMAGE,
        numbers(2),
        numbers(2),
        numbers(2),
        numbers(2, low=0.5),
        outputs=3,
        label="training",
        training_mode=1,
    ),
    case("LayerNormalization", _MATRIX, numbers(3, 5), label="whole", axis=0),
    case("LogSoftmax", _MATRIX, label="columns", axis=0),
    case("Hardmax", _MATRIX, label="columns", axis=0),
    case("LpNormalization", _MATRIX, label="sums", p=1, axis=0),
    *(
        case(
            op_type,
            _CLASSES,
            _LABELS,
            numbers(5),
            outputs=outputs,
            label="weights",
            reduction=reduction,
            ignore_index=2,
        )
        for op_type, outputs, reduction in (
            ("NegativeLogLikelihoodLoss", 1, "none"),
            ("SoftmaxCrossEntropyLoss", 2, "none"),
        )
    ),
]

_OTHERS = [
    case("Gelu", _MATRIX, label="tanh", approximate="tanh"),
    case("BitShift", _MATRIX, small(3, 5), label="right", direction="RIGHT"),
    case("Mod", _MATRIX, numbers(3, 5, nonzero=True), label="fmod", fmod=1),
    case("ArgMax", _MATRIX, label="last", select_last_index=1, axis=-1, keepdims=0),
    case("ArgMin", _MATRIX, label="last", select_last_index=1, axis=0),
    case("TopK", _MATRIX, fixed([2]), outputs=2, label="smallest", largest=0, axis=0),
    case("CumSum", _MATRIX, fixed(0), label="backwards", exclusive=1, reverse=1),
    case("CumProd", _MATRIX, fixed(1), label="backwards", exclusive=1, reverse=1),
    case("Clip", _MATRIX, fixed(1), label="below"),
    case("Clip", _MATRIX, None, fixed(2), label="above"),
    case("DFT", numbers(2, 6, 1), label="onesided", onesided=1),
    case("DFT", numbers(2, 6, 2), fixed(8), fixed(1), label="inverse", inverse=1),
    case("STFT", numbers(1, 16, 1), fixed(4), numbers(8), label="window"),
    case("PRelu", numbers(2, 3, 4), numbers(3, 1), label="channels"),
    case("Max", _MATRIX, numbers(5), numbers(3, 1), label="many"),
    case("Sum", _MATRIX, numbers(5), numbers(3, 1), label="many"),
    case("Dropout", _MATRIX, fixed(0.5), fixed(True), outputs=2, label="training", seed=3),
    case("TensorScatter", numbers(2, 4, 3), numbers(2, 2, 3), label="linear", axis=1),
    case("GatherND", numbers(2, 3, 4), fixed([[1], [0]]), label="batches", batch_dims=1),
    case("Compress", _MATRIX, fixed([1, 0, 1, 1, 0, 1]), label="flat"),
]

CASES: list[Case] = [
    dataclasses.replace(each, own=True)
    for each in (
        *_SCATTERS,
        *_SAMPLES,
        *_REDUCTIONS,
        *_RECURRENT,
        *_POOLS,
        *_CONVOLUTIONS,
        *_PRODUCTS,
        *_NORMALIZATIONS,
        *_OTHERS,
    )
]
