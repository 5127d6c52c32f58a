# SPDX-License-Identifier: Apache-2.0
"""One line of a report on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was looked for.

    Attributes:
        area: ``bascule``, ``cpu``, ``packages``, ``cuda``, ``caches`` or ``peaks``.
        name: what was looked for.
        found: a text, a number or a list of texts; None if it is not there.
        state: ``ok``, ``missing`` or ``wrong``.
        needed: whether what was asked for works only with it.
        fix: what to do about it.
    """

    area: str
    name: str
    found: Any
    state: str = "ok"
    needed: bool = False
    fix: str = ""

    @property
    def is_well(self) -> bool:
        """Whether nothing that was asked for fails for this."""
        return self.state == "ok" or not self.needed
