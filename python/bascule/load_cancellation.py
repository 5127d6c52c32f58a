# SPDX-License-Identifier: Apache-2.0
"""A flag that stops the loading of models, from any thread."""

from __future__ import annotations

from bascule.errors import ModelLoadCanceled


class LoadCancellation:
    """Shared by SessionOptions and its copies, of which each session has one."""

    def __init__(self, requested: bool = False) -> None:
        self.requested = requested

    def check(self) -> None:
        """Raise ModelLoadCanceled if that was requested; called between the steps of loading."""
        if self.requested:
            raise ModelLoadCanceled("Graph loading canceled due to user request")

    def __copy__(self) -> LoadCancellation:
        return self
