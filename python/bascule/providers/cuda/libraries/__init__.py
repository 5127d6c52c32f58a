# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's libraries, as far as the provider calls them."""
