# SPDX-License-Identifier: Apache-2.0
"""The same names under the module that onnxruntime itself imports them from."""

from bascule.capi.onnxruntime_pybind11_state import *  # noqa: F403
