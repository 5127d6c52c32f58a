# SPDX-License-Identifier: Apache-2.0
"""Where tables are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_LEAST_COLUMNS = 120
"""Narrower, tables would lose digits; lines that are too long for a terminal only wrap."""


def make_console() -> Console:
    """A console on stdout that is wide enough for every table here."""
    from rich.console import Console

    console = Console()
    return Console(width=max(console.width, _LEAST_COLUMNS))
