# SPDX-License-Identifier: Apache-2.0
"""Reading DequantizeLinear and QuantizeLinear of bytes, for the passes that compute in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value
from bascule.optimizer.pattern import attribute_of, constant_of

Array = np.ndarray[Any, Any]

BYTES = (DataType.INT8, DataType.UINT8)
ACCUMULATORS = (DataType.INT32,)


@dataclass(frozen=True)
class Quantization:
    """Integers and the constants that say which float32 numbers they stand for."""

    value: Value
    dtype: DataType
    scale: Array
    """A scalar, or a vector along `axis`."""
    zero: Array
    """Of the shape of `scale`, and the type of the integers."""
    axis: int

    @property
    def of_tensor(self) -> bool:
        """True for one scale and one zero point for all elements."""
        return self.scale.ndim == 0

    def along(self, axis: int) -> bool:
        """True if all elements at a place along `axis`, counted from the end, share a scale."""
        rank = self.value.rank
        return self.of_tensor or (rank is not None and self.axis % rank == rank + axis)

    def same_as(self, other: Quantization) -> bool:
        """True if the same integers stand for the same numbers, with one scale for all."""
        return (
            self.of_tensor
            and other.of_tensor
            and self.dtype is other.dtype
            and bool(self.scale == other.scale and self.zero == other.zero)
        )


def dequantized(value: Value | None, dtypes: tuple[DataType, ...] = BYTES) -> Quantization | None:
    """What `value` is dequantized from."""
    node = None if value is None else value.producer
    if node is None or not node.is_op("DequantizeLinear"):
        return None
    source = node.input(0)
    if source is None or node.output.dtype is not DataType.FLOAT:
        return None
    return _quantization(node, source, dtypes)


def quantized(node: Node) -> Quantization | None:
    """How QuantizeLinear `node` quantizes."""
    source = node.input(0)
    if source is None or source.dtype is not DataType.FLOAT:
        return None
    return _quantization(node, node.output, BYTES)


def is_quantized(value: Value) -> bool:
    """True if `value` has only one reader, which makes bytes of it with one scale for all."""
    readers = [use.node for use in value.uses]
    if value.output_count or len(readers) != 1 or not readers[0].is_op("QuantizeLinear"):
        return False
    found = quantized(readers[0])
    return found is not None and found.of_tensor


def _quantization(node: Node, integers: Value, dtypes: tuple[DataType, ...]) -> Quantization | None:
    dtype = integers.dtype
    if dtype is None or dtype not in dtypes or attribute_of(node, "block_size"):
        return None
    scale = constant_of(node.input(1))
    if scale is None or scale.dtype is not DataType.FLOAT or len(scale.shape) > 1:
        return None
    factors = scale.numpy()
    # What is no normal number, and more than makes sense, would not be the same in integers.
    if not factors.size or not ((factors > 1e-30) & (factors < 1e30)).all():
        return None
    zeros = np.zeros(factors.shape, dtype.numpy)
    if node.input(2) is not None:
        given = constant_of(node.input(2))
        if given is None or given.dtype is not dtype or given.size != factors.size:
            return None
        zeros = given.numpy().reshape(factors.shape)
    if factors.size == 1:
        factors, zeros = factors.reshape(()), zeros.reshape(())
    return Quantization(integers, dtype, factors, zeros, int(attribute_of(node, "axis")))


def accumulated(value: Value | None, scale: Array) -> Quantization | None:
    """int32 numbers behind `value` that are of the same scale as the sums of a product."""
    found = dequantized(value, ACCUMULATORS)
    if found is None or found.zero.any():
        return None
    if found.scale.size not in (1, scale.size) and scale.size != 1:
        return None
    return found if np.allclose(found.scale, scale, rtol=1e-6, atol=0) else None
