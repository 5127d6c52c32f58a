# SPDX-License-Identifier: Apache-2.0
"""Left out; see bascule.transformers."""

from bascule.transformers import LEFT_OUT

raise ImportError(f"{__name__}: {LEFT_OUT}")
