# SPDX-License-Identifier: Apache-2.0
"""bascule runs ONNX models.

``import bascule as ort`` serves code that was written for onnxruntime.
"""

from __future__ import annotations

from bascule._version import __version__
from bascule.logging import set_default_logger_severity
from bascule.metadata import ModelMetadata, NodeArg
from bascule.native import _native
from bascule.options import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    RunOptions,
    SessionOptions,
)
from bascule.providers.names import all_providers as get_all_providers
from bascule.providers.names import available_providers as get_available_providers
from bascule.session import InferenceSession
from bascule.values import IOBinding, OrtDevice, OrtValue


def set_seed(seed: int) -> None:
    """Seed the random operators that have no seed of their own."""
    _native.set_random_seed(seed)


def get_device() -> str:
    """What this installation computes on: ``CPU``."""
    return "CPU"


def get_version_string() -> str:
    """The version of bascule."""
    return __version__
