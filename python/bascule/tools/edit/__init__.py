# SPDX-License-Identifier: Apache-2.0
"""Editing models: parts cut out, nodes and weights changed, sizes freed, models joined."""

from __future__ import annotations

from bascule.tools.edit.editor import Editor
from bascule.tools.edit.models import chain_models, edit, merge_models

__all__ = ["Editor", "chain_models", "edit", "merge_models"]
