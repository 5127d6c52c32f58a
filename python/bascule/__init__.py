# SPDX-License-Identifier: Apache-2.0
"""bascule runs ONNX models.

``import bascule as ort`` serves code that was written for onnxruntime.
"""

from __future__ import annotations

from bascule._version import __version__
from bascule.logging import set_default_logger_severity
from bascule.metadata import ModelMetadata, NodeArg
from bascule.options import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    RunOptions,
    SessionOptions,
)
from bascule.session import InferenceSession
