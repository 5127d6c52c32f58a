# SPDX-License-Identifier: Apache-2.0
"""The graph in memory, and reading and writing it."""
