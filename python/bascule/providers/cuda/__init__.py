# SPDX-License-Identifier: Apache-2.0
"""The CUDA provider: graphs as launches over device memory, replayed as CUDA graphs."""
