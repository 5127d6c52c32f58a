# SPDX-License-Identifier: Apache-2.0
"""What CUDA C++ has beyond C++, and the compilation of kernels as host code."""
