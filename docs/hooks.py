# SPDX-License-Identifier: Apache-2.0
"""What mkdocs does besides: the measurements of bench/ are pages, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_BENCH = Path(__file__).resolve().parent.parent / "bench"
_PAGES = ("RESULTS.md", "RESULTS.svg", "MORE_RESULTS.md", "GPU.md", "MICRO.md")


def on_files(files: Files, config: Any) -> Files:
    for name in _PAGES:
        files.append(File.generated(config, f"bench/{name}", abs_src_path=str(_BENCH / name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """In the repository bench/ stands beside docs/, on the site inside."""
    return markdown.replace("](../bench/", "](bench/")
