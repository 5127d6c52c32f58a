# SPDX-License-Identifier: Apache-2.0
"""onnxruntime, where it does not saturate."""

from __future__ import annotations

from typing import Any

import pytest

ort = pytest.importorskip("onnxruntime")


def exact_peer(model: bytes, in_floats: bool = False) -> Any:
    """A session whose quantized products are exact on processors without VNNI, too.

    Its sums of products of bytes saturate there, unless it is told not to, or computes what lies
    between DequantizeLinear and QuantizeLinear `in_floats`.
    """
    options = ort.SessionOptions()
    if in_floats:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    else:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
