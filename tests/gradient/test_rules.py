# SPDX-License-Identifier: Apache-2.0
"""The rule of each operator against central differences, with sizes known and not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import bascule
from tests.gradient.differences import (
    Case,
    assert_near,
    case,
    central_differences,
    distinct,
    inside,
    ints,
    model,
    normal,
    positive,
    rng,
)

MASK = np.array([[True, False, True], [False, True, True]])

UNARY = [
    "Abs",
    "Neg",
    "Exp",
    "Sin",
    "Cos",
    "Tan",
    "Sinh",
    "Cosh",
    "Tanh",
    "Asinh",
    "Atan",
    "Sigmoid",
    "Relu",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "Softplus",
    "Softsign",
    "HardSigmoid",
    "HardSwish",
    "Swish",
    "Mish",
    "Erf",
    "Reciprocal",
    "Identity",
    "Gelu",
    "ThresholdedRelu",
    "Ceil",
    "Floor",
    "Round",
    "Sign",
]

ELEMENTWISE = [
    *(case(f"{op}(x)", x=(2, 3)) for op in UNARY),
    *(case(f"{op}(x)", x=positive(2, 3)) for op in ("Sqrt", "Log")),
    *(case(f"{op}(x)", x=inside(2, 3)) for op in ("Asin", "Acos", "Atanh")),
    case("Acosh(x)", x=positive(2, 3) + 1),
    case('Gelu<approximate="tanh">(x)', x=(2, 3)),
    case("LeakyRelu<alpha=0.3>(x)", x=(2, 3)),
    case("Elu<alpha=0.7>(x)", x=(2, 3)),
    case("Selu<alpha=1.2, gamma=0.9>(x)", x=(2, 3)),
    case("Celu<alpha=0.7>(x)", x=(2, 3)),
    case("HardSigmoid<alpha=0.4, beta=0.3>(x)", x=(2, 3)),
    case("Swish<alpha=1.5>(x)", x=(2, 3)),
    case("ThresholdedRelu<alpha=0.4>(x)", x=(2, 3)),
    case("Shrink<lambd=0.9, bias=0.3>(x)", x=(2, 3)),
    case("PRelu(x, s)", x=(2, 3), s=(3,)),
    case("Cast<to=11>(x)", x=(2, 3)),
    case("CastLike(x, x)", x=(2, 3)),
    case("Trilu<upper=0>(x, k)", x=(3, 4), k=np.array(1)),
]

ARITHMETIC = [
    *(
        case(f"{op}(a, b)", a=positive(*a), b=positive(*b) + 0.5)
        for op in ("Add", "Sub", "Mul", "Div", "Pow")
        for a, b in (((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (4, 1, 3)), ((), (2,)))
    ),
    case("Pow(x, e)", x=(2, 3), e=np.array(2)),
    case("Pow(x, e)", x=(2, 3), e=np.array(0)),
    case("Pow(x, e)", x=(2, 3), e=ints(3, 1, 2)),
    case("Mod<fmod=1>(a, b)", a=normal(2, 3) * 3, b=positive(3)),
    case("Max(a, b, c)", a=distinct(2, 3), b=distinct(3)[::-1].copy() + 0.1, c=np.array(0.3)),
    case("Min(a, b)", a=distinct(2, 3), b=distinct(3)[::-1].copy() + 0.1),
    case("Max(a)", a=(2, 3)),
    case("Sum(a, b, c)", a=(2, 3), b=(3,), c=(2, 1)),
    case("Mean(a, b, c)", a=(2, 3), b=(3,), c=(2, 1)),
    case("Clip(x, a, b)", x=(2, 3), a=np.array(-0.7), b=np.array(0.6)),
    case("Clip(x, , b)", x=(2, 3), b=np.array(0.6)),
    case("Clip(x, a)", x=(2, 3), a=np.array(-0.7)),
    case("Where(m, a, b)", m=MASK, a=(2, 3), b=(3,)),
    case("Where(m, a, b)", m=MASK, a=(2, 1), b=(4, 1, 1)),
    case("c = Greater(a, b) y = Where(c, a, b)", a=distinct(2, 3), b=distinct(3) + 0.2),
]

REDUCTIONS = [
    *(
        case(f"{op}{attributes}(x{', a' if axes else ''})", x=x, **axes)
        for op, x in (
            ("ReduceSum", normal(2, 3, 2)),
            ("ReduceMean", normal(2, 3, 2)),
            ("ReduceMax", distinct(2, 3, 2)),
            ("ReduceMin", distinct(2, 3, 2)),
            ("ReduceProd", normal(2, 3, 2)),
            ("ReduceL1", normal(2, 3, 2)),
            ("ReduceL2", normal(2, 3, 2)),
            ("ReduceLogSum", positive(2, 3, 2)),
            ("ReduceLogSumExp", normal(2, 3, 2)),
            ("ReduceSumSquare", normal(2, 3, 2)),
        )
        for attributes, axes in (
            ("", {}),
            ("<keepdims=0>", {"a": ints(-1, 0)}),
            ("<keepdims=1>", {"a": ints(1)}),
        )
    ),
    case("ReduceSumSquare<noop_with_empty_axes=1>(x)", x=(2, 3)),
    case("ReduceProd<keepdims=0>(x, a)", x=np.array([[0.0, 2, 3], [0, 0, 4]]), a=ints(1)),
    case("CumSum(x, a)", x=(2, 3), a=np.array(1)),
    case("CumSum<exclusive=1, reverse=1>(x, a)", x=(2, 3), a=np.array(-2)),
]

PRODUCTS = [
    *(
        case("MatMul(a, b)", a=a, b=b)
        for a, b in (
            ((2, 3), (3, 4)),
            ((3,), (3,)),
            ((3,), (2, 3, 2)),
            ((2, 2, 3), (3,)),
            ((2, 2, 3), (3, 4)),
            ((2, 3), (2, 3, 2)),
            ((2, 1, 2, 3), (3, 3, 2)),
        )
    ),
    *(
        case(
            f"Gemm<transA={i}, transB={j}, alpha=0.5, beta=2.0>(a, b, c)",
            a=(3, 2) if i else (2, 3),
            b=(4, 3) if j else (3, 4),
            c=c,
        )
        for i, j, c in ((0, 0, (4,)), (0, 1, (2, 4)), (1, 0, (2, 1)), (1, 1, ()))
    ),
    case("Gemm(a, b)", a=(2, 3), b=(3, 2)),
    *(
        case(f'Einsum<equation="{equation}">({", ".join("abc"[: len(shapes)])})', **shapes)
        for equation, shapes in (
            ("ij,jk->ik", {"a": (2, 3), "b": (3, 2)}),
            ("bij, bkj -> bki", {"a": (2, 2, 3), "b": (2, 4, 3)}),
            ("ij,ij", {"a": (2, 3), "b": (1, 3)}),
            ("i...,k...->ik...", {"a": (2, 1, 3), "b": (3, 2, 3)}),
            ("ij->", {"a": (2, 3)}),
            ("ij->j", {"a": (2, 3)}),
            ("ii->i", {"a": (3, 3)}),
            ("ii", {"a": (3, 3)}),
            ("i,j", {"a": (2,), "b": (3,)}),
            ("i,ij,j->", {"a": (2,), "b": (2, 3), "c": (3,)}),
            ("...ij,...jk->...ik", {"a": (2, 1, 2, 3), "b": (1, 3, 3, 2)}),
            ("...i,i->...", {"a": (2, 2, 3), "b": (3,)}),
        )
    ),
]

# The reference evaluator gets a grouped ConvTranspose with output_padding wrong, and where MaxPool
# found its maxima.
WINDOWS = [
    case("Conv(x, w, b)", x=(2, 2, 5), w=(3, 2, 3), b=(3,)),
    case("Conv<strides=[2], pads=[1,0], dilations=[2]>(x, w)", x=(2, 2, 8), w=(3, 2, 2)),
    case("Conv<strides=[2,3], pads=[1,0,0,2]>(x, w, b)", x=(1, 2, 6, 5), w=(2, 2, 3, 2), b=(2,)),
    case(
        "Conv<group=2, strides=[2,1], dilations=[1,2]>(x, w)",
        x=(2, 4, 4, 5),
        w=(2, 2, 2, 2),
        reference=False,
    ),
    case("Conv<group=3>(x, w)", x=(1, 3, 3, 4), w=(3, 1, 2, 2)),
    case("Conv<strides=[3,2]>(x, w)", x=(1, 1, 6, 7), w=(1, 1, 1, 2)),
    case('Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', x=(1, 2, 5, 4), w=(2, 2, 3, 2)),
    case('Conv<auto_pad="SAME_LOWER", strides=[2,1]>(x, w)', x=(1, 2, 4, 4), w=(2, 2, 3, 2)),
    case('Conv<auto_pad="VALID">(x, w)', x=(1, 1, 4, 4), w=(1, 1, 3, 2)),
    case("Conv<pads=[1,0,1,0,1,0], strides=[1,2,1]>(x, w)", x=(1, 1, 2, 4, 2), w=(2, 1, 2, 2, 2)),
    case("ConvTranspose(x, w, b)", x=(2, 2, 3), w=(2, 3, 2), b=(3,)),
    case(
        "ConvTranspose<strides=[2,3], pads=[1,0,0,1], output_padding=[1,2]>(x, w)",
        x=(1, 2, 3, 2),
        w=(2, 2, 3, 2),
    ),
    case(
        "ConvTranspose<group=2, dilations=[2,1], strides=[1,2]>(x, w)",
        x=(2, 4, 2, 3),
        w=(4, 1, 2, 2),
    ),
    case('ConvTranspose<auto_pad="SAME_UPPER", strides=[2]>(x, w)', x=(1, 1, 3), w=(1, 2, 3)),
    case("ConvTranspose<output_shape=[6], strides=[2]>(x, w)", x=(1, 1, 3), w=(1, 2, 3)),
    case("ConvTranspose<strides=[1,1,2]>(x, w)", x=(1, 1, 2, 2, 2), w=(1, 1, 2, 1, 2)),
    case("AveragePool<kernel_shape=[3]>(x)", x=(2, 2, 5)),
    case("AveragePool<kernel_shape=[2,3], strides=[2,1], pads=[1,0,0,1]>(x)", x=(1, 2, 5, 4)),
    case(
        "AveragePool<kernel_shape=[2,3], strides=[2,2], pads=[1,1,1,1], count_include_pad=1>(x)",
        x=(1, 2, 4, 5),
    ),
    case(
        "AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1, count_include_pad=1, "
        "pads=[0,0,1,0]>(x)",
        x=(1, 1, 4, 5),
    ),
    case("AveragePool<kernel_shape=[2,2], strides=[3,3], ceil_mode=1>(x)", x=(1, 1, 5, 4)),
    case(
        'AveragePool<kernel_shape=[3,2], strides=[2,2], auto_pad="SAME_UPPER">(x)', x=(1, 1, 4, 5)
    ),
    case("AveragePool<kernel_shape=[2,2], dilations=[2,1]>(x)", x=(1, 1, 4, 3)),
    case("AveragePool<kernel_shape=[2,3], strides=[2,3], pads=[1,0,1,1]>(x)", x=(1, 2, 5, 5)),
    case("AveragePool<kernel_shape=[9,9], strides=[9,9], ceil_mode=1>(x)", x=(2, 2, 4, 3)),
    case("AveragePool<kernel_shape=[1,2,2], strides=[1,2,1]>(x)", x=(1, 1, 2, 4, 3)),
    case("MaxPool<kernel_shape=[3], strides=[2]>(x)", x=distinct(2, 2, 5)),
    case("MaxPool<kernel_shape=[2,3], strides=[1,2], pads=[1,1,0,1]>(x)", x=distinct(2, 2, 3, 4)),
    case(
        "MaxPool<kernel_shape=[2,2], storage_order=1>(x)", x=distinct(1, 2, 3, 4), reference=False
    ),
    case("MaxPool<kernel_shape=[2,2], ceil_mode=1, strides=[2,2]>(x)", x=distinct(1, 1, 3, 5)),
    case(
        'MaxPool<kernel_shape=[2,2,1], auto_pad="SAME_LOWER">(x)',
        x=distinct(1, 1, 2, 3, 2),
        reference=False,
    ),
    case("y, i = MaxPool<kernel_shape=[2,2], dilations=[1,2]>(x)", x=distinct(1, 1, 3, 4)),
    case("GlobalAveragePool(x)", x=(2, 2, 2, 3)),
    case("GlobalMaxPool(x)", x=distinct(2, 2, 2, 3)),
]

_STATISTICS = {"s": normal(3), "b": normal(3), "m": normal(3), "v": positive(3)}
_NORMALIZED = {"s": normal(4), "b": normal(4)}

NORMALIZATIONS = [
    case("BatchNormalization<epsilon=0.01>(x, s, b, m, v)", x=(2, 3, 2), **_STATISTICS),
    case("BatchNormalization(x, s, b, m, v)", x=(2, 3), **_STATISTICS),
    case("BatchNormalization(x, s, b, m, v)", x=(2, 3, 1, 2, 1), **_STATISTICS),
    case(
        "y, rm, rv = BatchNormalization<training_mode=1>(x, s, b, m, v)",
        x=(3, 3, 2, 2),
        **_STATISTICS,
    ),
    case("LayerNormalization(x, s, b)", x=(2, 3, 4), **_NORMALIZED),
    case("LayerNormalization<axis=1, epsilon=0.01>(x, s)", x=(2, 3, 2), s=(3, 2)),
    case("LayerNormalization<axis=-2>(x, s, b)", x=(2, 3, 2), s=(1, 2), b=(3, 2)),
    case("RMSNormalization(x, s)", x=(2, 3, 4), s=(4,)),
    case("RMSNormalization<axis=1>(x, s)", x=(2, 3, 2), s=(2,)),
    case("GroupNormalization<num_groups=2>(x, s, b)", x=(2, 4, 2, 2), **_NORMALIZED),
    case("GroupNormalization<num_groups=2, epsilon=0.1>(x, s, b)", x=(2, 4, 3), **_NORMALIZED),
    case("InstanceNormalization(x, s, b)", x=(2, 4, 2, 3), **_NORMALIZED),
    case("MeanVarianceNormalization<axes=[0,2]>(x)", x=(2, 3, 4)),
    case("Softmax(x)", x=(2, 3)),
    case("Softmax<axis=1>(x)", x=(2, 3, 2)),
    case("LogSoftmax<axis=0>(x)", x=(2, 3, 2)),
]

MOVEMENTS = [
    case("Reshape(x, s)", x=(2, 6), s=ints(3, 0 + 2, -1)),
    case("Flatten<axis=2>(x)", x=(2, 3, 2)),
    case("Squeeze(x, a)", x=(2, 1, 3, 1), a=ints(1, -1)),
    case("Squeeze(x)", x=(1, 3, 1)),
    case("Unsqueeze(x, a)", x=(2, 3), a=ints(0, -1)),
    case("Transpose(x)", x=(2, 3, 4)),
    case("Transpose<perm=[1,2,0]>(x)", x=(2, 3, 4)),
    case("Concat<axis=-1>(a, b, a)", a=(2, 3), b=(2, 1)),
    case("Concat<axis=0>(a)", a=(2, 3)),
    case("a, y = Split<axis=1>(x, s)", x=(2, 5), s=ints(2, 3)),
    case("a, b = Split<num_outputs=2>(x) y = Mul(a, b)", x=(4, 3)),
    case("Slice(x, s, e)", x=(4, 5), s=ints(1, -4), e=ints(3, 99)),
    case("Slice(x, s, e, a)", x=(4, 5), s=ints(-2), e=ints(5), a=ints(-1)),
    case(
        "Slice(x, s, e, a, t)", x=(4, 5), s=ints(3, 0), e=ints(-99, 5), a=ints(0, 1), t=ints(-2, 3)
    ),
    # The reference evaluator does not pad by less than nothing.
    case("Pad(x, p)", x=(2, 3), p=ints(1, 0, 0, 2), reference=False),
    case("Pad(x, p, c)", x=(2, 3), p=ints(1, -1, 0, 2), c=np.array(0.7), reference=False),
    case("Pad(x, p, c, a)", x=(2, 3), p=ints(1, 2), c=np.array(0.7), a=ints(-1), reference=False),
    *(
        case(f'Pad<mode="{mode}">(x, p)', x=(3, 4), p=ints(1, 2, 0, 1))
        for mode in ("reflect", "edge", "wrap")
    ),
    case("Expand(x, s)", x=(2, 1), s=ints(3, 1, 4)),
    case("Tile(x, r)", x=(2, 3), r=ints(2, 3)),
    case("Trilu(x)", x=(2, 3, 3)),
    *(
        case(f'DepthToSpace<blocksize=2, mode="{mode}">(x)', x=(1, 8, 2, 1))
        for mode in ("DCR", "CRD")
    ),
    case("SpaceToDepth<blocksize=2>(x)", x=(1, 2, 2, 4)),
    case("ReverseSequence<batch_axis=1, time_axis=0>(x, n)", x=(4, 3, 2), n=ints(2, 4, 1)),
]

INDEXING = [
    case("Gather(x, i)", x=(3, 2), i=ints([0, -1], [2, 0])),
    case("Gather<axis=1>(x, i)", x=(2, 3, 2), i=ints(2, -3, 2)),
    case("Gather<axis=-1>(x, i)", x=(2, 3), i=np.array(1)),
    case("GatherElements<axis=1>(x, i)", x=(2, 3), i=ints([0, 0], [-1, 1])),
    case("GatherND(x, i)", x=(2, 3, 2), i=ints([0, 1], [1, -1], [0, 1])),
    case("GatherND<batch_dims=1>(x, i)", x=(2, 3, 2), i=ints([[1], [0]], [[2], [2]])),
    case("GatherND<batch_dims=2>(x, i)", x=(2, 2, 3), i=ints([[1], [0]], [[2], [2]])),
    *(
        case(
            f'ScatterElements<axis=1, reduction="{reduction}">(x, i, u)',
            x=distinct(2, 4),
            i=ints([0, 3], [-1, 1]),
            u=distinct(2, 2) + 0.05,
        )
        for reduction in ("none", "add", "max", "min")
    ),
    *(
        case(
            f'ScatterND<reduction="{reduction}">(x, i, u)',
            x=distinct(3, 2),
            i=ints([2], [0]),
            u=distinct(2, 2) + 0.05,
        )
        for reduction in ("none", "add", "max", "min")
    ),
    case("y, i = TopK(x, k)", x=distinct(2, 4), k=ints(2)),
    case("y, i = TopK<axis=0, largest=0>(x, k)", x=distinct(4, 2), k=ints(3)),
    case("Compress<axis=1>(x, c)", x=(2, 3), c=np.array([True, False, True])),
    case("Compress(x, c)", x=(2, 3), c=np.array([False, True, True, False, True])),
]

_CLASSES = ints(2, 0, 1, 2)
_PIXELS = ints([0, 2], [1, -1])

LOSSES = [
    *(
        case(f"{op}{attributes}(x, t{', w' if weights else ''})", x=x, t=t, **weights)
        for op in ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
        for attributes, x, t, weights in (
            ("", (4, 3), _CLASSES, {}),
            ('<reduction="none">', (4, 3), _CLASSES, {"w": positive(3)}),
            ('<reduction="sum", ignore_index=-1>', (2, 3, 2), _PIXELS, {}),
            ('<reduction="mean", ignore_index=-1>', (2, 3, 2), _PIXELS, {"w": positive(3)}),
            ("<ignore_index=2>", (4, 3), _CLASSES, {}),
        )
    ),
    case(
        "l, p = SoftmaxCrossEntropyLoss(x, t) e = Exp(p) y = Add(l, e)",
        x=(4, 3),
        t=_CLASSES,
    ),
    case("l, y = SoftmaxCrossEntropyLoss(x, t)", x=(4, 3), t=_CLASSES),
    case("Dropout(x)", x=(2, 3)),
    case("r = Constant<value_float=0.5>() y = Dropout(x, r, t)", x=(2, 3), t=np.array(False)),
]

_HEADS = {"q": normal(1, 2, 3, 4), "k": normal(1, 2, 3, 4) / 2, "v": distinct(1, 2, 3, 4)}

DEFINITIONS = [
    case("Attention(q, k, v)", **_HEADS),
    case("Attention<is_causal=1, scale=0.7>(q, k, v)", **_HEADS),
    case(
        "Attention(q, k, v, m)",
        m=np.array([[True, False, True], [False, False, False], [True, True, False]]),
        reference=False,  # it warns of a row that has nothing to attend to
        **_HEADS,
    ),
    case("Attention<softcap=2.0>(q, k, v, m)", m=(3, 3), **_HEADS),
    case(
        "Attention<q_num_heads=4, kv_num_heads=2>(q, k, v)",
        q=(2, 2, 8),
        k=(2, 3, 4),
        v=(2, 3, 4),
    ),
    *(
        case(
            f"RotaryEmbedding<{attributes}>(x, c, s{', p' if places else ''})",
            x=normal(*x).astype(np.float32),
            c=normal(*cache).astype(np.float32),
            s=(normal(*cache) / 2).astype(np.float32),
            **places,
        )
        for attributes, x, cache, places in (
            ("num_heads=2", (1, 3, 8), (1, 3, 2), {}),
            ("interleaved=1", (2, 2, 3, 4), (5, 2), {"p": ints([0, 4, 1], [2, 2, 3])}),
            ("rotary_embedding_dim=2, num_heads=1", (1, 2, 6), (1, 2, 1), {}),
        )
    ),
    case("SwiGLU(a, b)", a=(2, 3), b=(2, 3)),
]

CASES = [
    *ELEMENTWISE,
    *ARITHMETIC,
    *REDUCTIONS,
    *PRODUCTS,
    *WINDOWS,
    *NORMALIZATIONS,
    *MOVEMENTS,
    *INDEXING,
    *LOSSES,
    *DEFINITIONS,
]


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text.replace(" ", ""))
def test_rule(case: Case, dynamic: bool) -> None:
    feeds = {**case.inputs, **(case.constants if dynamic else {})}
    forward = bascule.InferenceSession(model(case, None, dynamic).SerializeToString())
    y = forward.run(None, feeds)[0]
    weights = np.asarray(rng().uniform(0.5, 1.5, y.shape) * rng().choice([-1, 1], y.shape), y.dtype)
    feeds["weights"] = weights
    proto = model(case, weights, dynamic)
    gradient = bascule.grad(proto, case.wrt, "weighted", allow_unused=True)
    onnx.checker.check_model(gradient)
    found = bascule.InferenceSession(gradient).run(None, feeds)
    session = bascule.InferenceSession(proto.SerializeToString())
    # What has no float64 is linear in each input.
    step, tolerance = (1e-5, 1e-6) if y.dtype == np.float64 else (1.0, 1e-5)
    for name, actual in zip(case.wrt, found, strict=True):
        assert_near(actual, central_differences(session, feeds, name, step), tolerance)
    if not dynamic and case.reference:
        expected = ReferenceEvaluator(gradient).run(None, feeds)
        for actual, one in zip(found, expected, strict=True):
            assert_near(actual, np.asarray(one), tolerance)
