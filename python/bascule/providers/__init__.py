# SPDX-License-Identifier: Apache-2.0
"""Execution providers and how a graph is split over them."""
