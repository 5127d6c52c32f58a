# SPDX-License-Identifier: Apache-2.0
"""The operators that run on a GPU, a file per family; importing one registers its kernels."""

from __future__ import annotations

import importlib
import pkgutil


def load_all() -> None:
    """Import every family."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
