# SPDX-License-Identifier: Apache-2.0
"""QDQQuantizer under the module that callers of onnxruntime import it from."""

from bascule.quantization.quantizers import QDQQuantizer

__all__ = ["QDQQuantizer"]
