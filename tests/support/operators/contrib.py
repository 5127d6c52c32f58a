# SPDX-License-Identifier: Apache-2.0
"""Operators of com.microsoft. The types are those that the definitions of the operators allow."""

from __future__ import annotations

from tests.support.operators import contrib_quantized, contrib_search, contrib_tokens
from tests.support.operators import contrib_nchwc, contrib_quantized
from tests.support.operators.contrib_case import (
    BYTES,
    FLOATS,
    HALVES,
    NUMBERS,
    OLD,
    SINGLE,
    WIDE,
    contrib,
)
from tests.support.typed import fixed, numbers

_X = numbers(2, 3, 8)
_ROWS = numbers(3, 8)
_ROW = numbers(8)
_IMAGE = numbers(1, 4, 6, 6)
_IMAGE_LAST = numbers(1, 6, 6, 4)
_HEADS = numbers(2, 2, 3, 4)
_ONE = fixed(1)
_SPACE = fixed([[0, 1], [2, 3]])

_ATTENTION = [
    contrib("Attention", "T T T", _X, numbers(8, 24), numbers(24), T=HALVES, num_heads=2),
    contrib("MultiHeadAttention", "T T T", _X, _X, _X, T=HALVES, num_heads=2),
    contrib(
        "DecoderMaskedMultiHeadAttention",
        "T T T int32 T T T int32 -> T T T",
        numbers(2, 1, 8),
        numbers(2, 1, 8),
        numbers(2, 1, 8),
        None,
        None,
        numbers(2, 2, 5, 4),
        numbers(2, 2, 5, 4),
        fixed([2]),
        T=SINGLE,
        num_heads=2,
        past_present_share_buffer=1,
    ),
    contrib(
        "GroupQueryAttention",
        "T T T T T int32 int32 -> T T T",
        numbers(2, 1, 16),
        numbers(2, 1, 8),
        numbers(2, 1, 8),
        numbers(2, 2, 5, 4),
        numbers(2, 2, 5, 4),
        fixed([2, 3]),
        fixed([4]),
        T=HALVES,
        num_heads=4,
        kv_num_heads=2,
    ),
    contrib(
        "PackedAttention",
        "T T T int32 int32",
        numbers(4, 8),
        numbers(8, 24),
        numbers(24),
        _SPACE,
        fixed([0, 2, 4]),
        T=SINGLE,
        num_heads=2,
    ),
    contrib(
        "PackedMultiHeadAttention",
        "T T T T int32 int32",
        numbers(4, 8),
        numbers(4, 8),
        numbers(4, 8),
        None,
        _SPACE,
        fixed([0, 2, 4]),
        T=SINGLE,
        num_heads=2,
    ),
    contrib(
        "RotaryEmbedding",
        "T int64 T T",
        _HEADS,
        fixed([0]),
        numbers(6, 2),
        numbers(6, 2),
        T=HALVES,
    ),
    contrib(
        "RelativePositionBias",
        "T int64 int64",
        numbers(8, 2),
        fixed([3]),
        fixed([4]),
        T=SINGLE,
        max_distance=16,
    ),
    contrib(
        "GatedRelativePositionBias",
        "T T T T T T",
        _X,
        _ROW,
        numbers(1, 2, 3, 3),
        numbers(4, 8),
        _ROW,
        numbers(1, 2, 1, 1),
        T=SINGLE,
        num_heads=2,
    ),
]

_ELEMENTWISE = [
    contrib("BiasAdd", "T T T", _X, _ROW, _X, T=SINGLE),
    contrib("BiasDropout", "T T T", _X, _ROW, _X, T=FLOATS),
    contrib("BiasGelu", "T T", _X, _ROW, T=FLOATS),
    contrib("BiasSoftmax", "T T", _X, _X, T=WIDE, axis=2, is_inner_broadcast=0),
    contrib("BiasSplitGelu", "T T", _X, _ROW, T=SINGLE),
    contrib("FastGelu", "T T", _X, _ROW, T=FLOATS),
    contrib("Gelu", "T", _X, T=FLOATS),
    contrib("QuickGelu", "T", _X, T=FLOATS),
    contrib("ComplexMul", "T T", numbers(3, 2), numbers(3, 2), T=WIDE),
    contrib("ComplexMulConj", "T T", numbers(3, 2), numbers(3, 2), T=WIDE),
    contrib("Rfft", "T", _ROWS, T=WIDE, signal_ndim=1),
    contrib("Irfft", "T", numbers(3, 5, 2), T=WIDE, signal_ndim=1),
    contrib("CDist", "T T", _ROWS, _ROWS, T="float double", metric="euclidean"),
    contrib("Inverse", "T", fixed([[2, 1], [1, 3]]), T=WIDE),
]

_PRODUCTS = [
    contrib("FusedMatMul", "T T", _ROWS, numbers(8, 5), T=FLOATS),
    contrib("TransposeMatMul", "T T", _ROWS, numbers(8, 5), T=FLOATS),
    contrib("FusedMatMulActivation", "T T", _ROWS, numbers(8, 5), T=FLOATS, activation="Relu"),
    contrib(
        "FusedGemm",
        "T T T",
        _ROWS,
        numbers(8, 5),
        numbers(5),
        T=f"{WIDE} uint32 uint64 int32 int64",
    ),
    contrib("GemmFastGelu", "T T T", _ROWS, numbers(8, 5), numbers(5), T=HALVES),
    contrib("FusedConv", "T T", _IMAGE, numbers(2, 4, 3, 3), T=WIDE, activation="Relu"),
    contrib("NhwcConv", "T T", _IMAGE_LAST, numbers(2, 3, 3, 4), T=WIDE),
    contrib("NhwcFusedConv", "T T", _IMAGE_LAST, numbers(2, 4, 3, 3), T=SINGLE),
    contrib(
        "ConvTransposeWithDynamicPads",
        "T T int64",
        _IMAGE,
        numbers(4, 2, 3, 3),
        fixed([1, 1, 1, 1]),
        T=WIDE,
    ),
    contrib(
        "MoE",
        "T T T T T",
        _ROWS,
        numbers(3, 2),
        numbers(2, 5, 8),
        None,
        numbers(2, 8, 5),
        T=HALVES,
    ),
]

_NORMALIZATION = [
    contrib("SkipLayerNormalization", "T T T", _X, _X, _ROW, T=HALVES),
    contrib("SkipSimplifiedLayerNormalization", "T T T", _X, _X, _ROW, T=HALVES),
    contrib(
        "GroupNorm",
        "T M M",
        _IMAGE_LAST,
        numbers(4),
        numbers(4),
        T=SINGLE,
        M=SINGLE,
        activation=1,
        groups=2,
    ),
    contrib(
        "SkipGroupNorm",
        "T M M T",
        _IMAGE_LAST,
        numbers(4),
        numbers(4),
        _IMAGE_LAST,
        T=SINGLE,
        M=SINGLE,
        activation=1,
        groups=2,
    ),
    contrib(
        "EmbedLayerNormalization",
        "int32 int32 T T T T T -> T int32",
        fixed([[0, 2, 1]]),
        fixed([[0, 1, 1]]),
        numbers(4, 8),
        numbers(5, 8),
        numbers(2, 8),
        _ROW,
        _ROW,
        T=SINGLE,
    ),
]

_MOVEMENT = [
    contrib(
        "CropAndResize",
        "T T int32 int32",
        _IMAGE,
        fixed([[0, 0, 1, 1]]),
        fixed([0]),
        fixed([3, 3]),
        T=WIDE,
    ),
    contrib("ExpandDims", "T int32", _X, fixed([1]), T=OLD),
    contrib("GatherND", "T I", _ROWS, fixed([[1], [0]]), T=OLD, I="int32 int64"),
    contrib("GridSample", "T T", numbers(1, 2, 4, 4), numbers(1, 3, 3, 2, low=-1, high=1), T=WIDE),
    contrib(
        "MurmurHash3",
        "T -> uint32",
        numbers(6),
        T="uint32 int32 uint64 int64 float double string",
        seed=5,
    ),
    contrib(
        "NGramRepeatBlock",
        "Tid T -> T",
        fixed([[1, 2, 1]]),
        numbers(1, 4),
        Tid="int64",
        T="float",
        ngram_size=2,
    ),
    contrib("NhwcMaxPool", "T", _IMAGE_LAST, T=BYTES, kernel_shape=[2, 2]),
    contrib("Pad", "T int64 T", _ROWS, fixed([1, 0, 0, 2]), _ONE, T=WIDE),
    contrib("Range", "T T T", _ONE, fixed(7), fixed(2), T="float double int16 int32 int64"),
    contrib("RemovePadding", "T int32 -> T int32 int32 int32", _X, fixed([2, 3]), T=SINGLE),
    contrib("RestorePadding", "T int32", numbers(4, 8), _SPACE, T=SINGLE),
    contrib("TorchEmbedding", "T int64", _ROWS, fixed([2, 0]), T=f"{NUMBERS} bfloat16"),
    contrib(
        "Tokenizer",
        "T",
        numbers(4),
        T="string",
        mark=1,
        mincharnum=1,
        pad_value="",
        separators=[","],
    ),
    contrib("Trilu", "T int64", _ROWS, _ONE, T=f"{NUMBERS} bfloat16 bool"),
    contrib("UnfoldTensor", "T", _X, T=f"{OLD} bfloat16", size=2),
    contrib("Unique", "T -> T int64 int64", numbers(6), T=OLD),
]

CASES = [
    *_ATTENTION,
    *_ELEMENTWISE,
    *_PRODUCTS,
    *_NORMALIZATION,
    *_MOVEMENT,
    *contrib_quantized.CASES,
    *contrib_tokens.CASES,
    *contrib_search.CASES,
    *contrib_nchwc.CASES,
]
