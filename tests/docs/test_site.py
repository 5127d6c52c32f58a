# SPDX-License-Identifier: Apache-2.0
"""The documentation site, as far as it can be checked without what builds it."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import bascule
import bascule.errors
from bascule.cli import make_parser
from tests.api.test_public_names import public_names
from tests.support import reference_pages
from tests.support.reference import DOCS, ROOT, directives, resolve

_NAV = re.compile(r"^ +- [^:]+: ([\w/]+\.md)$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|<(?:img|a) [^>]*(?:src|href)=\"([^\"]+)\"")
_IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CONFIG_ENTRY = re.compile(r"[\"']((?:session|optimization)\.[a-z_.]+)[\"']")

PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def _nav() -> list[str]:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    return _NAV.findall(text.partition("\nnav:\n")[2])


def _prose(path: Path) -> str:
    """A page without its listings."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def _anchor(heading: str) -> str:
    """What mkdocs and GitHub both make of a heading."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))


def _links(path: Path) -> Iterator[str]:
    for match in [*_LINK.finditer(_prose(path)), *_IMAGE.finditer(_prose(path))]:
        target = next(filter(None, match.groups()))
        if not re.match(r"[a-z]+:", target):
            yield target


def test_every_page_of_the_navigation_exists() -> None:
    nav = _nav()
    assert len(nav) == len(set(nav)) > 30
    for page in nav:
        # The measurements are pages of the site, too: docs/hooks.py.
        assert (DOCS / page).is_file() or (page.startswith("bench/") and (ROOT / page).is_file())


def test_every_page_is_in_the_navigation() -> None:
    assert set(PAGES) - set(_nav()) == set()


@pytest.mark.parametrize("page", [*(f"docs/{page}" for page in PAGES), "README.md"])
def test_relative_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for link in _links(path):
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), f"{page}: {link}"
        assert found.is_relative_to(ROOT)
        if anchor and found.suffix == ".md":
            headings = map(_anchor, _HEADING.findall(_prose(found)))
            assert anchor in headings, f"{page}: {link}"


def _commands(path: Path) -> Iterator[str]:
    """The lines of listings that call the command line."""
    for block in _FENCE.finditer(path.read_text(encoding="utf-8")):
        for line in block[0].splitlines():
            line = line.removeprefix("$ ").partition("  #")[0]
            for part in line.split(" && "):
                if re.match(r"bascule [a-z]+(?!:)\b", part):
                    yield part


@pytest.mark.parametrize("page", [*(f"docs/{page}" for page in PAGES), "README.md"])
def test_commands_and_snippets_are_well_formed(page: str) -> None:
    """Verbs and options exist, and Python compiles; tests/docs/test_guides.py runs some of them."""
    path = ROOT / page
    for command in _commands(path):
        try:
            make_parser().parse_args(shlex.split(command)[1:])
        except SystemExit:
            pytest.fail(f"{page}: {command}")
    for block in _PYTHON.finditer(path.read_text(encoding="utf-8")):
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        compile(block[1], page, "exec", flags=flags, dont_inherit=True)


def test_every_public_name_stands_on_a_reference_page() -> None:
    shown: dict[str, list[str] | None] = {}
    objects = {}
    for path, page, members in directives():
        assert path not in shown, f"{path} is on two pages, one is {page}"
        shown[path] = members
        objects[id(resolve(path))] = path
    text = (DOCS / "reference" / "onnxruntime_modules.md").read_text(encoding="utf-8")
    for name in public_names():
        top, *member = name.split(".")
        if top != "capi":
            members = shown.get(f"bascule.{top}", [])
            assert f"bascule.{top}" in shown, name
            assert not member or members is None or member[0] in members, name
        elif member:
            value = getattr(getattr(bascule.capi, member[0]), member[1])
            is_error = inspect.isclass(value) and value.__module__ == "bascule.errors"
            assert id(value) in objects or is_error or f"`{member[1]}`" in text, name


def test_every_error_is_on_its_page() -> None:
    shown = next(members for path, _, members in directives() if path == "bascule.errors")
    assert shown == [*(error.__name__ for error in bascule.errors.ALL), "ALL"]


def test_every_config_entry_is_explained() -> None:
    """Each that the code reads is in the table of docs/reference/options.md, and no other."""
    read = {
        entry
        for path in sorted((ROOT / "python" / "bascule").rglob("*.py"))
        for entry in _CONFIG_ENTRY.findall(path.read_text(encoding="utf-8"))
    }
    page = (DOCS / "reference" / "options.md").read_text(encoding="utf-8")
    assert (
        set(re.findall(r"^\| `((?:session|optimization)\.[a-z_.]+)`", page, re.MULTILINE)) == read
    )


@pytest.mark.parametrize("page", ["INDEX", "COMMANDS"])
def test_pages_written_from_the_code_are_current(page: str) -> None:
    expected = {"INDEX": reference_pages.index_page, "COMMANDS": reference_pages.command_page}
    found = getattr(reference_pages, page).read_text(encoding="utf-8")
    for line, wanted in zip(found.splitlines(), expected[page]().splitlines(), strict=True):
        assert line == wanted, "write it anew: python -m tests.support.reference_pages"
