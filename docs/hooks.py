# SPDX-License-Identifier: Apache-2.0
"""What mkdocs does besides: the measurements of bench/ are pages, other links out of docs/ text."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parent.parent
_PAGES = ("RESULTS.md", "RESULTS.svg", "MORE_RESULTS.md", "GPU.md", "MICRO.md")
_OUTWARD = re.compile(r"\[([^\]]+)\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    for name in _PAGES:
        source = str(_ROOT / "bench" / name)
        files.append(File.generated(config, f"bench/{name}", abs_src_path=source))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """In the repository bench/ stands beside docs/, on the site inside; the rest is not there."""
    folder = posixpath.dirname(page.file.src_uri)

    def inside(match: re.Match[str]) -> str:
        text, link, anchor = match[1], match[2], match[3] or ""
        target = posixpath.normpath(posixpath.join(folder, link))
        if not target.startswith("../"):
            return match[0]
        target = target.removeprefix("../")
        if target in (f"bench/{name}" for name in _PAGES):
            return f"[{text}]({posixpath.relpath(target, folder or '.')}{anchor})"
        return f"{text} (`{target}` in the repository)"

    return _OUTWARD.sub(inside, markdown)
