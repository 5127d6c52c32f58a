# SPDX-License-Identifier: Apache-2.0
"""How far the accelerators of phones could run a model."""
