# SPDX-License-Identifier: Apache-2.0
"""Compiled plans that are kept in a folder, one file each, and mapped at the next start."""
