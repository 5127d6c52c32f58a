# SPDX-License-Identifier: Apache-2.0
"""Operators that a Python function runs, inside a native Program: one file a family."""

from bascule.providers.cpu.host import (  # noqa: F401  (importing a family registers its operators)
    image_decoder,
    murmur_hash,
    regex,
    tokenizer,
)
from bascule.providers.cpu.host.registry import has_host_function, host_function

__all__ = ["has_host_function", "host_function"]
