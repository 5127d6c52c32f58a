# SPDX-License-Identifier: Apache-2.0
"""What a diff driver of git prints (docs/diff.md)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bascule.errors import ALL
from bascule.ir.load import load_model
from bascule.tools.diff import diff_models

if TYPE_CHECKING:
    from bascule.ir.graph import Model


def driver_text(path: str, old: str, new: str) -> str:
    """The report on one file of a repository.

    Args:
        path: of the file in the repository, which is the current folder.
        old, new: files with its contents before and after, ``/dev/null`` where it is not there.
    """
    title = f"bascule diff a/{path} b/{path}"
    if old == os.devnull or new == os.devnull:
        return f"{title}\n{'new' if old == os.devnull else 'deleted'} model"
    try:
        return f"{title}\n{diff_models(_load(old, path), _load(new, path))}"
    except ALL as error:
        return f"{title}\ncannot be compared: {error}"


def _load(file: str, path: str) -> Model:
    """The model, whose external data git does not hand out: it is that of the working tree."""
    return load_model(file, external_folder=os.path.dirname(path) or os.curdir)
