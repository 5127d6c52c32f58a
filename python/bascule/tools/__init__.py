# SPDX-License-Identifier: Apache-2.0
"""What the command line and notebooks show."""
