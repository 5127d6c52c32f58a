# SPDX-License-Identifier: Apache-2.0
"""What stands on the reference pages of the documentation."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_DIRECTIVE = re.compile(r"^::: ([\w.]+)$((?:\n    .*)*)", re.MULTILINE)
_MEMBERS = re.compile(r"members: *\[([^\]]*)\]")


def directives() -> Iterator[tuple[str, str, list[str] | None]]:
    """(path of the object, page, the members that are shown if not all) of each entry."""
    for page in sorted((DOCS / "reference").glob("*.md")):
        for match in _DIRECTIVE.finditer(page.read_text(encoding="utf-8")):
            members = _MEMBERS.search(match[2])
            shown = None if members is None else [m.strip() for m in members[1].split(",")]
            yield match[1], page.name, shown


def resolve(path: str) -> Any:
    """What a dotted path names: an attribute before a module of the same name."""
    parts = path.split(".")
    for count in (*range(len(parts) - 1, 0, -1), len(parts)):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
            for part in parts[count:]:
                found = getattr(found, part)
        except (ModuleNotFoundError, AttributeError):
            continue
        return found
    raise LookupError(path)
