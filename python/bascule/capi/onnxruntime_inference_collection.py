# SPDX-License-Identifier: Apache-2.0
"""The Python classes of onnxruntime under their defining module."""

from bascule.binding import IOBinding
from bascule.devices import OrtDevice
from bascule.session import InferenceSession
from bascule.sparse import SparseTensor
from bascule.values import OrtValue

__all__ = ["IOBinding", "InferenceSession", "OrtDevice", "OrtValue", "SparseTensor"]
