# SPDX-License-Identifier: Apache-2.0
"""What is kept for one set of shapes: a layout of memory, and graphs recorded over it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from bascule.providers.cuda.device import CapturedGraph
from bascule.providers.cuda.entry import Entry
from bascule.providers.cuda.memory import Layout
from bascule.providers.cuda.steps import Values
from bascule.providers.cuda.tensor import Tensor

_MOST_BOUND = 4
_MOST_SEEN = 16
_MOST_PATIENCE = 256

Addresses = tuple[int, ...]
"""Where inputs are read and outputs written; 0 where a graph has memory of its own."""

ANYWHERE: Addresses = ()
"""Of the recording whose inputs are copied in and whose outputs are copied out."""


@dataclass
class Recording:
    """A captured graph."""

    graph: CapturedGraph | None
    """None once the recording is given up."""
    inputs: dict[int, Tensor]
    """What has to be filled before each launch."""
    outputs: Values
    leftover: list[object]
    """Memory that the graph uses beyond the arena."""


@dataclass
class Plan:
    """What is kept for one set of shapes."""

    kept: dict[str, Tensor] = field(default_factory=dict)
    layout: Layout | None = None
    blocks: dict[int, int] = field(default_factory=dict)
    """Outputs that have an allocation to themselves: its number."""
    made: dict[int, Tensor] = field(default_factory=dict)
    """Types and shapes of the outputs that are on the device."""
    is_eager: bool = False
    """It runs by hand: capturing failed, or is not wanted."""
    recordings: OrderedDict[Addresses, Recording] = field(default_factory=OrderedDict)
    seen: OrderedDict[Addresses, int] = field(default_factory=OrderedDict)
    """How often runs had these addresses, for the latest of them."""
    patience: int = 1
    """How often addresses must have been seen before a graph is bound to them."""

    def is_worth_binding(self, addresses: Addresses) -> bool:
        """Whether to record a graph for these addresses.

        It is worth it for the first ones, which may well stay, and for what comes back.
        """
        count = self.seen.pop(addresses, 0)
        self.seen[addresses] = count + 1
        if len(self.seen) > _MOST_SEEN:
            self.seen.popitem(last=False)
        return count >= self.patience or not self.recordings

    def keep(self, addresses: Addresses, recording: Recording) -> None:
        """Keep a recording; of those that are bound, one that was not used for long goes."""
        self.recordings[addresses] = recording
        bound = [key for key in self.recordings if key != ANYWHERE]
        if len(bound) > _MOST_BOUND:
            self.recordings.pop(bound[0]).graph = None
            self.seen.pop(bound[0], None)
            # There are more sets of addresses than graphs: record more rarely.
            self.patience = min(2 * self.patience, _MOST_PATIENCE)

    def give_up(self) -> None:
        """Forget all recordings; nothing may be running."""
        for recording in self.recordings.values():
            recording.graph = None
        self.recordings.clear()


def tangled(targets: Mapping[int, Tensor], others: Mapping[int, Entry]) -> set[int]:
    """The targets whose memory overlaps that of another target, or of another value."""
    spans = [(t.address, t.address + t.nbytes, number) for number, t in targets.items()]
    for entry in others.values():
        if entry.is_on_device and entry.is_tensor:
            tensor = entry.tensor
            spans.append((tensor.address, tensor.address + tensor.nbytes, -1))
    found: set[int] = set()
    end, last = 0, -1
    for start, stop, number in sorted(span for span in spans if span[0] < span[1]):
        if start < end:
            found |= {number, last}
        if stop > end:
            end, last = stop, number
    return found - {-1}
