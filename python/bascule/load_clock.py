# SPDX-License-Identifier: Apache-2.0
"""How long each phase of making a session takes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LoadSpan:
    """Something that was done while a model was loaded."""

    category: str
    """``phase``, ``stage``, ``rules`` (tried together), ``pass``, ``rewrite`` or ``inference``."""
    name: str
    start_ns: int
    """Of time.monotonic_ns()."""
    duration_ns: int
    node: str = ""
    """Of a rewrite: the node that was rewritten."""


@dataclass(slots=True)
class LoadClock:
    """Takes the time of phases, which follow one another; keeps spans where that is asked for."""

    keeps_spans: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    spans: list[LoadSpan] = field(default_factory=list)
    _since: int = field(default_factory=time.monotonic_ns)

    def phase(self, name: str) -> None:
        """End the phase that began with the last one's end."""
        now = time.monotonic_ns()
        self.seconds[name] = self.seconds.get(name, 0.0) + (now - self._since) / 1e9
        if self.keeps_spans:
            self.note("phase", name, self._since, now)
        self._since = now

    def skip(self) -> None:
        """Let the next phase begin now."""
        self._since = time.monotonic_ns()

    def note(self, category: str, name: str, start_ns: int, end_ns: int, node: str = "") -> None:
        """Keep a span."""
        self.spans.append(LoadSpan(category, name, start_ns, end_ns - start_ns, node))
