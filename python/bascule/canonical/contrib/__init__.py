# SPDX-License-Identifier: Apache-2.0
"""Operators of domain ``com.microsoft``, one file per family.

They have one version and no schema here: each rewrite checks what it relies on.
"""

from bascule.canonical.contrib import (  # noqa: F401  (importing a family registers its rewrites)
    linear_quantization,
    qlinear,
    quantized_products,
)
