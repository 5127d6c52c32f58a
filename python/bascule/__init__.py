# SPDX-License-Identifier: Apache-2.0
"""bascule runs ONNX models."""
