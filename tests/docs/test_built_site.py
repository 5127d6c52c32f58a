# SPDX-License-Identifier: Apache-2.0
"""The documentation site as mkdocs builds it, where that is installed (``bascule[docs]``)."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import bascule
from tests.api.test_public_names import public_names
from tests.support.reference import ROOT, directives, resolve

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

_FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=\"?(?:https?:)?//[^\s>]*"
    r"|<link\b[^>]*\bhref=\"?(?:https?:)?//[^\s>]*"
    r"|@import|url\(\"?(?:https?:)?//"
)
_TARGET = re.compile(r"\b(?:href|src)=\"([^\"#?:]*)(?:#([^\"]*))?\"")
_NAME = re.compile(r"\bid=\"([^\"]+)\"")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "WARNING" not in run.stderr
    return folder


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        found = _FETCHED.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path.relative_to(site)}: {found}"


def test_links_and_anchors_of_the_built_pages_exist(site: Path) -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    ids = {path: {*_NAME.findall(text), ""} for path, text in texts.items()}
    for path, text in texts.items():
        if path.name == "404.html":
            continue  # its links are from the root of a server
        for target, anchor in _TARGET.findall(text):
            found = (path.parent / target).resolve() if target else path
            found = found / "index.html" if found.is_dir() else found
            assert found.is_file(), f"{path.relative_to(site)}: {target}"
            if found in ids:
                assert anchor in ids[found], f"{path.relative_to(site)}: {target}#{anchor}"


def test_every_public_name_has_an_entry(site: Path) -> None:
    """In the inventory by which other projects' documentation links here."""
    head, _, rest = (site / "objects.inv").read_bytes().partition(b"zlib.\n")
    assert head.startswith(b"# Sphinx inventory version 2")
    entries = {line.split(" ")[0] for line in zlib.decompress(rest).decode().splitlines()}
    for path, _, _ in directives():
        assert path in entries or inspect.ismodule(resolve(path)), path
    assert "bascule.errors.Fail" in entries
    for name in public_names():
        kind, _, member = name.partition(".")
        if kind != "capi" and member:
            value = inspect.getattr_static(getattr(bascule, kind), member, None)
            method = callable(value) or isinstance(value, (property, staticmethod, classmethod))
            assert not method or f"bascule.{name}" in entries, name
