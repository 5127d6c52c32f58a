# SPDX-License-Identifier: Apache-2.0
"""CUDA C++ to device code: the toolkit's headers, NVRTC, and a cache on disk."""

from __future__ import annotations

import functools
import os
import sysconfig
from pathlib import Path


@functools.cache
def include_folders(*headers: str) -> tuple[str, ...]:
    """The folders that hold `headers` of the CUDA toolkit; none if one is missing."""
    found: list[str] = []
    for header in headers:
        folder = next((f for f in _candidates() if (f / header).is_file()), None)
        if folder is None:
            return ()
        if str(folder) not in found:
            found.append(str(folder))
    return tuple(found)


@functools.cache
def _candidates() -> tuple[Path, ...]:
    site = Path(sysconfig.get_path("purelib")) / "nvidia"
    folders = [site / "cu13" / "include", *sorted(site.glob("*/include"))]
    roots = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    for root in roots:
        if root:
            folders += [Path(root, "include"), Path(root, "include", "cccl")]
    return tuple(folders + [f / "cccl" for f in folders])
