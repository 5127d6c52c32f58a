# SPDX-License-Identifier: Apache-2.0
"""Running a graph one node at a time, with every value at hand."""
