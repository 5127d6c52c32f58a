# SPDX-License-Identifier: Apache-2.0
"""Weights of 2, 4 or 8 bits as a model has them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.device import Argument
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.cuda.weight import Weight

KINDS = {DataType.FLOAT: 0, DataType.FLOAT16: 1, DataType.BFLOAT16: 2, DataType.UINT8: 3}
"""How kernels tell the types of scales, zero points and biases."""


@dataclass(frozen=True, slots=True)
class Packed:
    """The weights of a node, ``[n, k]``."""

    data: Weight
    scales: Weight
    zeros: Weight | None
    groups: Tensor | None
    values: Tensor | None
    n: int
    k: int
    bits: int
    block_size: int

    @property
    def blocks(self) -> int:
        return -(-self.k // self.block_size)

    @property
    def row_bytes(self) -> int:
        return self.blocks * self.block_size * self.bits // 8

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """As kernels take it, last in their lists."""
        zeros = None if self.zeros is None else self.zeros.tensor
        return (
            *(self.data.tensor, self.scales.tensor, zeros, self.groups, self.values),
            *(np.int64(size) for size in (self.n, self.k, self.blocks, self.row_bytes)),
            np.int32(self.block_size.bit_length() - 1),
            np.int32(KINDS[self.scales.dtype]),
            np.int32(0 if self.zeros is None else KINDS[self.zeros.dtype]),
        )
