# SPDX-License-Identifier: Apache-2.0
"""docs/operators.md says what is true."""

from __future__ import annotations

from tests.support import operator_page


def test_the_page_is_current() -> None:
    found = operator_page.PAGE.read_text(encoding="utf-8")
    for line, expected in zip(found.splitlines(), operator_page.page().splitlines(), strict=True):
        assert line == expected, "write it anew: python -m tests.support.operator_page"
