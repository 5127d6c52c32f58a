# SPDX-License-Identifier: Apache-2.0
"""What is exported: a module, its inputs, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from bench.models import Adapter, Forward, set_random_weights
from torch import Tensor, nn

Axes = Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class Case:
    """One exported model.

    The first run is the one the exporter sees; every run is stored with torch's outputs. ``opset``
    None is the exporter's own default.
    """

    module: nn.Module
    runs: Sequence[Mapping[str, Tensor]]
    outputs: Sequence[str]
    dynamo: bool = True
    opset: int | None = None
    axes: Axes = field(default_factory=dict)


def adapt(module: nn.Module, forward: Forward, seed: int = 0) -> Adapter:
    """The module in evaluation mode, with random weights, behind a function of tensors."""
    module.eval()
    set_random_weights(module, seed)
    return Adapter(module, forward).eval()


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tokens(*shape: int, vocabulary: int, seed: int = 1) -> Tensor:
    return torch.randint(0, vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def padding_mask(*lengths: int) -> Tensor:
    """1 for a token, 0 for the padding after it, a row per length."""
    return (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).to(torch.int64)
