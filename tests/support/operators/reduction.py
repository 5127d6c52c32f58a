# SPDX-License-Identifier: Apache-2.0
"""Reductions, products and normalizations."""

from __future__ import annotations

import numpy as np

from tests.support.operators import references
from tests.support.operators.case import case, dtype_number
from tests.support.typed import fixed, numbers, small

_ROWS = numbers(2, 3, 4)
_POSITIVE = numbers(2, 3, 4, low=0.0625)

CASES = [
    *(case(op_type, _ROWS, fixed([1])) for op_type in ("ReduceMax", "ReduceMin", "ReduceSum")),
    *(
        case(op_type, small(2, 3, 4, high=9), fixed([1]), keepdims=0)
        for op_type in (
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSumExp",
            "ReduceMean",
            "ReduceProd",
            "ReduceSumSquare",
        )
    ),
    case("ReduceLogSum", _POSITIVE, fixed([-1])),
    case("ReduceSum", _ROWS, label="all"),
    case("ArgMax", _ROWS, axis=1),
    case("ArgMin", _ROWS, axis=-1, keepdims=0, select_last_index=1),
    case("CumSum", _ROWS, fixed(1)),
    case("CumSum", _ROWS, fixed(-1), label="exclusive_reverse", exclusive=1, reverse=1),
    case("CumProd", small(2, 3, 4), fixed(2)),
    case("TopK", numbers(3, 7, distinct=True), fixed([3]), outputs=2),
    case("MatMul", numbers(2, 3, 4), numbers(4, 5)),
    case("Gemm", small(3, 4), small(5, 4), small(5), transB=1),
    case("Einsum", numbers(2, 3, 4), numbers(2, 4, 5), equation="bij,bjk->bik"),
    case("Det", numbers(2, 3, 3)),
    case(
        "BatchNormalization",
        numbers(2, 3, 4),
        numbers(3),
        numbers(3),
        numbers(3),
        numbers(3, low=0.5),
    ),
    case(
        "BatchNormalization",
        numbers(2, 3, 4),
        numbers(3),
        numbers(3),
        numbers(3),
        numbers(3, low=0.5),
        label="training",
        outputs=3,
        training_mode=1,
    ),
    case("InstanceNormalization", numbers(2, 3, 5), numbers(3), numbers(3)),
    case(
        "GroupNormalization",
        numbers(2, 4, 5),
        numbers(4),
        numbers(4),
        expect=references.by(references.group_normalization),
        num_groups=2,
    ),
    case("LayerNormalization", numbers(2, 3, 5), numbers(5), numbers(5)),
    case(
        "LayerNormalization",
        numbers(2, 3, 5),
        numbers(5),
        outputs=3,
        label="statistics",
        expect=references.by(references.layer_normalization),
        stash_type=dtype_number("U"),
    ),
    case("RMSNormalization", numbers(2, 3, 5), numbers(5)),
    case("LpNormalization", numbers(2, 3, 5), axis=1),
    case(
        "LpNormalization",
        numbers(2, 3, 5),
        label="p1",
        expect=references.by(lambda x: x / np.abs(x).sum(-1, keepdims=True)),
        p=1,
    ),
    case(
        "MeanVarianceNormalization",
        numbers(2, 3, 4, 4),
        expect=references.by(references.mean_variance_normalization),
    ),
    case("LRN", numbers(2, 5, 3, 3), expect=references.by(references.local_response), size=3),
    case("NegativeLogLikelihoodLoss", numbers(3, 5), fixed([1, 0, 4]), numbers(5, low=0.0625)),
    case(
        "SoftmaxCrossEntropyLoss",
        numbers(3, 5),
        fixed([1, 0, 4]),
        numbers(5, low=0.0625),
        outputs=2,
    ),
]
