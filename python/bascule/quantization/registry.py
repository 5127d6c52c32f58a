# SPDX-License-Identifier: Apache-2.0
"""Which operators are quantized, in each way: keys, as callers of onnxruntime read them."""

from __future__ import annotations

from bascule.quantization.dynamic import OPERATORS as _DYNAMIC
from bascule.quantization.qdq import OPERATORS as _STATIC

IntegerOpsRegistry = dict.fromkeys(_DYNAMIC)
QLinearOpsRegistry = dict.fromkeys(_STATIC)
QDQRegistry = dict.fromkeys(_STATIC)
