# SPDX-License-Identifier: Apache-2.0
"""Operators of com.microsoft. The types are those that the definitions of the operators allow."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from onnx.defs import OpSchema

from tests.support.typed import Case, Material, fixed, numbers

DOMAIN = "com.microsoft"

_SINGLE = "float float16"
_HALVES = "float float16 bfloat16"
_WIDE = "float float16 double"
_FLOATS = "float float16 double bfloat16"
_BYTES = "int8 uint8"
_NUMBERS = f"{_WIDE} int8 int16 int32 int64 uint8 uint16 uint32 uint64"
_OLD = f"{_NUMBERS} bool string complex64 complex128"
"""What there was before bfloat16."""


@dataclass(frozen=True)
class ContribCase(Case):
    """A case of an operator that has no schema in onnx: a type for each input and output."""

    types: dict[str, str] = field(default_factory=dict)
    input_types: tuple[str, ...] = ()
    output_types: tuple[str, ...] = ()

    @functools.cached_property
    def schema(self) -> OpSchema:
        def formal(number: int, text: str) -> OpSchema.FormalParameter:
            return OpSchema.FormalParameter(
                f"parameter{number}", text if text in self.types else f"tensor({text})"
            )

        return OpSchema(
            self.op_type,
            DOMAIN,
            1,
            inputs=[formal(*each) for each in enumerate(self.input_types)],
            outputs=[formal(*each) for each in enumerate(self.output_types)],
            type_constraints=[
                (name, [f"tensor({each})" for each in allowed.split()], "")
                for name, allowed in self.types.items()
            ],
        )


def contrib(op_type: str, signature: str, *inputs: Material | None, **options: Any) -> ContribCase:
    """`signature` is like "T T M -> T": type parameters, or the types themselves.

    Options in capitals are the types that a parameter may stand for.
    """
    before, _, after = signature.partition("->")
    types = {name: options.pop(name) for name in list(options) if name in before.split()}
    outputs = tuple(after.split() or before.split()[:1])
    label = options.pop("label", "")
    return ContribCase(
        op_type,
        inputs,
        options,
        len(outputs),
        DOMAIN,
        label=label,
        types=types,
        input_types=tuple(before.split()),
        output_types=outputs,
    )


_X = numbers(2, 3, 8)
_ROWS = numbers(3, 8)
_ROW = numbers(8)
_IMAGE = numbers(1, 4, 6, 6)
_IMAGE_LAST = numbers(1, 6, 6, 4)
_HEADS = numbers(2, 2, 3, 4)
_ONE = fixed(1)
_SCALE = fixed(0.25)
_ZERO = fixed(3)
_SPACE = fixed([[0, 1], [2, 3]])


def _q(op_type: str, *inputs: Material, signature: str, **attributes: Any) -> ContribCase:
    return contrib(op_type, signature, *inputs, T=_BYTES, **attributes)


_ATTENTION = [
    contrib("Attention", "T T T", _X, numbers(8, 24), numbers(24), T=_HALVES, num_heads=2),
    contrib("MultiHeadAttention", "T T T", _X, _X, _X, T=_HALVES, num_heads=2),
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
        T=_SINGLE,
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
        T=_HALVES,
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
        T=_SINGLE,
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
        T=_SINGLE,
        num_heads=2,
    ),
    contrib(
        "RotaryEmbedding",
        "T int64 T T",
        _HEADS,
        fixed([0]),
        numbers(6, 2),
        numbers(6, 2),
        T=_HALVES,
    ),
    contrib(
        "RelativePositionBias",
        "T int64 int64",
        numbers(8, 2),
        fixed([3]),
        fixed([4]),
        T=_SINGLE,
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
        T=_SINGLE,
        num_heads=2,
    ),
]

_ELEMENTWISE = [
    contrib("BiasAdd", "T T T", _X, _ROW, _X, T=_SINGLE),
    contrib("BiasDropout", "T T T", _X, _ROW, _X, T=_FLOATS),
    contrib("BiasGelu", "T T", _X, _ROW, T=_FLOATS),
    contrib("BiasSoftmax", "T T", _X, _X, T=_WIDE, axis=2, is_inner_broadcast=0),
    contrib("BiasSplitGelu", "T T", _X, _ROW, T=_SINGLE),
    contrib("FastGelu", "T T", _X, _ROW, T=_FLOATS),
    contrib("Gelu", "T", _X, T=_FLOATS),
    contrib("QuickGelu", "T", _X, T=_FLOATS),
    contrib("ComplexMul", "T T", numbers(3, 2), numbers(3, 2), T=_WIDE),
    contrib("ComplexMulConj", "T T", numbers(3, 2), numbers(3, 2), T=_WIDE),
    contrib("Rfft", "T", _ROWS, T=_WIDE, signal_ndim=1),
    contrib("Irfft", "T", numbers(3, 5, 2), T=_WIDE, signal_ndim=1),
    contrib("CDist", "T T", _ROWS, _ROWS, T="float double", metric="euclidean"),
    contrib("Inverse", "T", fixed([[2, 1], [1, 3]]), T=_WIDE),
]

_PRODUCTS = [
    contrib("FusedMatMul", "T T", _ROWS, numbers(8, 5), T=_FLOATS),
    contrib("TransposeMatMul", "T T", _ROWS, numbers(8, 5), T=_FLOATS),
    contrib("FusedMatMulActivation", "T T", _ROWS, numbers(8, 5), T=_FLOATS, activation="Relu"),
    contrib(
        "FusedGemm",
        "T T T",
        _ROWS,
        numbers(8, 5),
        numbers(5),
        T=f"{_WIDE} uint32 uint64 int32 int64",
    ),
    contrib("GemmFastGelu", "T T T", _ROWS, numbers(8, 5), numbers(5), T=_HALVES),
    contrib("FusedConv", "T T", _IMAGE, numbers(2, 4, 3, 3), T=_WIDE, activation="Relu"),
    contrib("NhwcConv", "T T", _IMAGE_LAST, numbers(2, 3, 3, 4), T=_WIDE),
    contrib("NhwcFusedConv", "T T", _IMAGE_LAST, numbers(2, 4, 3, 3), T=_SINGLE),
    contrib(
        "ConvTransposeWithDynamicPads",
        "T T int64",
        _IMAGE,
        numbers(4, 2, 3, 3),
        fixed([1, 1, 1, 1]),
        T=_WIDE,
    ),
    contrib(
        "MoE",
        "T T T T T",
        _ROWS,
        numbers(3, 2),
        numbers(2, 5, 8),
        None,
        numbers(2, 8, 5),
        T=_HALVES,
    ),
]

_NORMALIZATION = [
    contrib("SkipLayerNormalization", "T T T", _X, _X, _ROW, T=_HALVES),
    contrib("SkipSimplifiedLayerNormalization", "T T T", _X, _X, _ROW, T=_HALVES),
    contrib(
        "GroupNorm",
        "T M M",
        _IMAGE_LAST,
        numbers(4),
        numbers(4),
        T=_SINGLE,
        M=_SINGLE,
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
        T=_SINGLE,
        M=_SINGLE,
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
        T=_SINGLE,
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
        T=_WIDE,
    ),
    contrib("ExpandDims", "T int32", _X, fixed([1]), T=_OLD),
    contrib("GatherND", "T I", _ROWS, fixed([[1], [0]]), T=_OLD, I="int32 int64"),
    contrib("GridSample", "T T", numbers(1, 2, 4, 4), numbers(1, 3, 3, 2, low=-1, high=1), T=_WIDE),
    contrib(
        "NGramRepeatBlock",
        "Tid T -> T",
        fixed([[1, 2, 1]]),
        numbers(1, 4),
        Tid="int64",
        T="float",
        ngram_size=2,
    ),
    contrib("NhwcMaxPool", "T", _IMAGE_LAST, T=_BYTES, kernel_shape=[2, 2]),
    contrib("Pad", "T int64 T", _ROWS, fixed([1, 0, 0, 2]), _ONE, T=_WIDE),
    contrib("Range", "T T T", _ONE, fixed(7), fixed(2), T="float double int16 int32 int64"),
    contrib("RemovePadding", "T int32 -> T int32 int32 int32", _X, fixed([2, 3]), T=_SINGLE),
    contrib("RestorePadding", "T int32", numbers(4, 8), _SPACE, T=_SINGLE),
    contrib("TorchEmbedding", "T int64", _ROWS, fixed([2, 0]), T=f"{_NUMBERS} bfloat16"),
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
    contrib("Trilu", "T int64", _ROWS, _ONE, T=f"{_NUMBERS} bfloat16 bool"),
    contrib("UnfoldTensor", "T", _X, T=f"{_OLD} bfloat16", size=2),
    contrib("Unique", "T -> T int64 int64", numbers(6), T=_OLD),
]

_QUANTIZED = [
    contrib(
        "QuantizeLinear",
        "T1 T1 T2 -> T2",
        _ROWS,
        _SCALE,
        _ONE,
        T1=_SINGLE,
        T2="int8 uint8 int16 uint16 int4 uint4",
    ),
    contrib(
        "DequantizeLinear",
        "T1 T2 T1 -> T2",
        _ROWS,
        _SCALE,
        _ONE,
        T1="int8 uint8 int16 uint16 int32 int4 uint4",
        T2=_SINGLE,
    ),
    contrib(
        "DynamicQuantizeMatMul", "float T2 float -> float", _ROWS, numbers(8, 5), _SCALE, T2=_BYTES
    ),
    contrib(
        "MatMulIntegerToFloat",
        "T1 T2 T3 T3 -> T3",
        _ROWS,
        numbers(8, 5),
        _SCALE,
        _SCALE,
        T1=_BYTES,
        T2=_BYTES,
        T3=_SINGLE,
    ),
    contrib(
        "MatMulInteger16",
        "T1 T2 -> int32",
        _ROWS,
        numbers(8, 5),
        T1="int16 uint16",
        T2="int16 uint16",
    ),
    contrib("MulInteger", "T T T T -> int32", _ROWS, _ONE, _ROWS, _ONE, T=_BYTES),
    contrib("ReduceSumInteger", "T -> int32", _ROWS, T="int8", axes=[1], keepdims=1),
    contrib("ReduceSumInteger", "T -> uint32", _ROWS, T="uint8", axes=[1], keepdims=1),
    contrib(
        "MatMulNBits",
        "T1 uint8 T1",
        numbers(3, 32),
        numbers(5, 1, 16),
        numbers(5),
        T1=_HALVES,
        K=32,
        N=5,
        bits=4,
        block_size=32,
    ),
    contrib(
        "GatherBlockQuantized",
        "T1 I T2 -> T2",
        numbers(4, 16),
        fixed([2, 0]),
        numbers(4, 2),
        T1="uint8",
        T2=_HALVES,
        I="int32 int64",
        label="bytes",
        block_size=16,
    ),
    contrib(
        "GatherBlockQuantized",
        "T1 I T2 -> T2",
        numbers(4, 32),
        fixed([2, 0]),
        numbers(4, 2),
        T1="int4 uint4",
        T2=_HALVES,
        I="int32 int64",
        block_size=16,
    ),
    _q(
        "QGemm",
        _ROWS,
        _SCALE,
        _ONE,
        numbers(8, 5),
        _SCALE,
        _ONE,
        None,
        fixed(0.5),
        _ONE,
        signature="T float T T float T int32 float T",
    ),
    _q(
        "QLinearAdd",
        _X,
        _SCALE,
        _ONE,
        _X,
        _SCALE,
        _ONE,
        fixed(0.5),
        _ONE,
        signature="T float T T float T float T",
    ),
    _q(
        "QLinearMul",
        _X,
        _SCALE,
        _ONE,
        _X,
        _SCALE,
        _ONE,
        fixed(0.5),
        _ONE,
        signature="T float T T float T float T",
    ),
    _q(
        "QLinearAveragePool",
        _IMAGE,
        _SCALE,
        _ONE,
        _SCALE,
        _ONE,
        signature="T float T float T",
        kernel_shape=[2, 2],
    ),
    _q(
        "QLinearGlobalAveragePool",
        _IMAGE,
        _SCALE,
        _ONE,
        _SCALE,
        _ONE,
        signature="T float T float T",
    ),
    _q(
        "QLinearConcat",
        _SCALE,
        _ONE,
        _ROWS,
        _SCALE,
        _ONE,
        _ROWS,
        fixed(0.5),
        _ONE,
        signature="float T T float T T float T -> T",
        axis=1,
    ),
    _q(
        "QLinearConv",
        _IMAGE,
        _SCALE,
        _ONE,
        numbers(2, 4, 3, 3),
        _SCALE,
        _ONE,
        fixed(0.5),
        _ONE,
        signature="T float T T float T float T",
    ),
    _q("QLinearLeakyRelu", _X, _SCALE, _ONE, _SCALE, _ONE, signature="T float T float T"),
    _q(
        "QLinearReduceMean",
        _X,
        _SCALE,
        _ONE,
        _SCALE,
        _ONE,
        signature="T float T float T",
        axes=[1],
        keepdims=1,
    ),
    _q("QLinearSigmoid", _X, _SCALE, _ONE, _SCALE, _ONE, signature="T float T float T"),
    _q("QLinearSoftmax", _X, _SCALE, _ONE, _SCALE, _ONE, signature="T float T float T", opset=13),
    _q(
        "QLinearWhere",
        fixed([[True], [False], [True]]),
        _ROWS,
        _SCALE,
        _ONE,
        _ROWS,
        _SCALE,
        _ONE,
        fixed(0.5),
        _ONE,
        signature="bool T float T T float T float T -> T",
    ),
]

CASES = [*_ATTENTION, *_ELEMENTWISE, *_PRODUCTS, *_NORMALIZATION, *_MOVEMENT, *_QUANTIZED]
