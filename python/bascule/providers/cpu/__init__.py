# SPDX-License-Identifier: Apache-2.0
"""The CPU provider: lowering of a graph to a native Program."""
