# SPDX-License-Identifier: Apache-2.0
"""What is to be quantized, and how."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

from bascule.quantization.quant_utils import QuantType


@dataclass
class Settings:
    """Choices of a quantization, as arguments of quantize_static and quantize_dynamic give them."""

    op_types: Collection[str]
    weight_type: QuantType = QuantType.QInt8
    activation_type: QuantType = QuantType.QUInt8
    per_channel: bool = False
    reduce_range: bool = False
    nodes: Collection[str] = ()
    """Only these nodes, if there are any."""
    excluded: Collection[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def takes(self, node: onnx.NodeProto) -> bool:
        """Whether a node is to be quantized."""
        if node.op_type not in self.op_types or node.name in self.excluded:
            return False
        return not self.nodes or node.name in self.nodes

    @property
    def weight_symmetric(self) -> bool:
        """Whether the zero point of weights is zero."""
        return bool(self.options.get("WeightSymmetric", self.weight_type.is_signed))

    @property
    def activation_symmetric(self) -> bool:
        """Whether ranges of activations are symmetric about zero."""
        return bool(self.options.get("ActivationSymmetric", False))
