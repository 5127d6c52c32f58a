# SPDX-License-Identifier: Apache-2.0
"""Where code written for onnxruntime looks for exceptions and option classes."""
