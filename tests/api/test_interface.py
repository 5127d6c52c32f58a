# SPDX-License-Identifier: Apache-2.0
"""Every row of onnxruntime's interface has a test, and what is left out is told."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.api.interface import INTERFACE, LEFT_OUT, ROW_MODULES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "coming_from_onnxruntime.md"


def marked() -> dict[str, Any]:
    """The rows that tests are marked with, and the functions."""
    found: dict[str, Any] = {}
    for name in ROW_MODULES:
        module = importlib.import_module(f"tests.api.test_rows_{name}")
        rows = getattr(module.row, "functions", None)
        found.update(module.ROWS if rows is None else rows)
    return found


def named() -> set[str]:
    return {test for rows in INTERFACE.values() for tests in rows.values() for test in tests}


@pytest.mark.parametrize("section", INTERFACE)
def test_rows_have_tests(section: str) -> None:
    known = marked()
    for row, tests in INTERFACE[section].items():
        assert tests, row
        for test in tests:
            path, _, function = test.partition("::")
            if not function:
                assert test in known, f"{row}: no row '{test}' is marked"
                continue
            module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
            assert callable(getattr(module, function, None)), f"{row}: {test}"


def test_marked_rows_are_listed() -> None:
    """What is tested as a row belongs to a row; entries count by what they do."""
    known = {name for name in marked() if f"{name} acts" not in marked()}
    assert not known - named()


def test_what_is_left_out_is_told() -> None:
    assert len(LEFT_OUT) <= 5 and not set(LEFT_OUT.values()) - marked().keys()
    text = PAGE.read_text(encoding="utf-8").partition("## What is left out")[2]
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(lines) == len(LEFT_OUT)
    for line, name in zip(lines, LEFT_OUT):
        assert name in line, name
        assert all(cell.strip() for cell in line.strip("|").split("|")), line
