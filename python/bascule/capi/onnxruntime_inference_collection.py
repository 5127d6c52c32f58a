# SPDX-License-Identifier: Apache-2.0
"""The Python classes of onnxruntime under their defining module."""

from bascule.session import InferenceSession
from bascule.values import IOBinding, OrtDevice, OrtValue

__all__ = ["IOBinding", "InferenceSession", "OrtDevice", "OrtValue"]
