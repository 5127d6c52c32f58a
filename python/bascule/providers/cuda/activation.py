# SPDX-License-Identifier: Apache-2.0
"""The activation at the end of a fused node, as ``kernels/activation.cuh`` takes it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from bascule.ir.graph import Node
from bascule.providers.cuda.device import Argument, Struct

_LARGEST = float(np.finfo(np.float32).max)
# Number, and the defaults of alpha and beta.
_KNOWN = {
    "": (0, 0.0, 0.0),
    "Relu": (1, 0.0, 0.0),
    "LeakyRelu": (2, 0.01, 0.0),
    "Clip": (3, -_LARGEST, _LARGEST),
    "Gelu": (4, 0.0, 0.0),
    "GeluTanh": (5, 0.0, 0.0),
    "Sigmoid": (6, 0.0, 0.0),
    "Tanh": (7, 0.0, 0.0),
    "Swish": (8, 1.0, 0.0),
    "HardSwish": (9, 0.0, 0.0),
    "HardSigmoid": (10, 0.2, 0.5),
    "Elu": (11, 1.0, 0.0),
}


@dataclass(frozen=True, slots=True)
class Activation:
    """What attributes `activation`, `activation_alpha` and `activation_beta` ask for."""

    name: str = ""
    alpha: float = 0.0
    beta: float = 0.0

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """As kernels take it in three parameters: number, alpha, beta."""
        return np.int32(_KNOWN[self.name][0]), np.float32(self.alpha), np.float32(self.beta)

    @property
    def argument(self) -> Struct:
        """As kernels take it in one."""
        return Struct(struct.pack("<iff", _KNOWN[self.name][0], self.alpha, self.beta))


NO_ACTIVATION = Activation()


def activation_of(node: Node) -> Activation:
    """The activation of a node that `accepts_activation` accepts."""
    name = str(node.attributes.get("activation", ""))
    _, alpha, beta = _KNOWN[name]
    attributes = node.attributes
    return Activation(
        name,
        float(attributes.get("activation_alpha", alpha)),
        float(attributes.get("activation_beta", beta)),
    )


def accepts_activation(node: Node) -> str:
    """Why no kernel has the activation of a node; empty when they do."""
    name = node.attributes.get("activation", "")
    return "" if name in _KNOWN else f"activation '{name}' is not known"
