# SPDX-License-Identifier: Apache-2.0
"""bascule itself, the packages around it, and the folders that it writes to."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from bascule._version import __version__
from bascule.native import _native
from bascule.providers import cache
from bascule.tools.doctor.finding import Finding

REQUIRED = {
    "numpy": "1.26",
    "onnx": "1.21",
    "ml_dtypes": "0.5.4",
    "rich": "13",
    "google-re2": "1.1",
}
"""The least versions of the packages that bascule always needs."""

OPTIONAL = {"pillow": ("10", "image"), "numba": ("0.61", "numba")}
"""The least version of those that some models need, and the extra that brings it."""


def bascule() -> Iterator[Finding]:
    """The version, and the compiled part."""
    yield Finding("bascule", "version", __version__)
    yield Finding("bascule", "python", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("bascule", "compiled part", _native.__file__)
    yield Finding("bascule", "kernels", len(_native.kernels()))


def packages() -> Iterator[Finding]:
    """Of each package its version, and what is wrong with it."""
    for name, least in REQUIRED.items():
        yield _package(name, least, f'pip install "{name}>={least}"', needed=True)
    for name, (least, extra) in OPTIONAL.items():
        yield _package(name, least, f'pip install "bascule[{extra}]"', needed=False)


def version_of(distribution: str) -> str | None:
    """The installed version; None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparing."""
    leading = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in leading.group().split(".")) if leading else ()


def _package(name: str, least: str, fix: str, needed: bool) -> Finding:
    version = version_of(name)
    if version is None:
        return Finding("packages", name, None, "missing", needed, fix)
    if numbers(version) < numbers(least):
        return Finding("packages", name, version, "wrong", needed, fix)
    return Finding("packages", name, version, needed=needed)


def caches() -> Iterator[Finding]:
    """The folders of kernels, tuning results and plans, and whether they can be written to."""
    yield _cache("kernels and tuning", cache.folder(), "BASCULE_CACHE_DIR")


def _cache(name: str, folder: Path | None, variable: str) -> Finding:
    if folder is None:
        return Finding("caches", name, None, "missing", fix=f"set {variable} to a folder")
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        fix = f"{place} cannot be written to: set {variable} to a folder that can"
        return Finding("caches", name, str(folder), "wrong", fix=fix)
    return Finding("caches", name, f"{folder} ({_contents(folder)})")


def _contents(folder: Path) -> str:
    if not folder.exists():
        return "made when needed"
    try:
        sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return f"{len(sizes)} files, {sum(sizes) / 1e6:.1f} MB"
