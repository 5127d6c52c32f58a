# SPDX-License-Identifier: Apache-2.0
"""Which node of one graph is which of another.

The surest signs come first: all that a node is computed from and all that reads it, weights
included; then one of these; then its own weights, or weights near them, as training leaves them;
then the structure alone; then names. After each sign the neighbours of what was recognised are.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from bascule.tools.diff.hashes import Hashes
from bascule.tools.diff.items import Item, Items, Made
from bascule.tools.diff.weights import sample

_LEAST_WEIGHTS = 16
"""Elements of a tensor from which on it tells a node from others."""

_NEAR = 0.35
"""The distance of weights, as a share of their size, up to which training may have changed them."""

_MOST_COMPARED = 4_000_000
"""Pairs of nodes that are tried at most for an alignment in order."""


class Matcher:
    """Pairs of items of two graphs: `old` and `new` map each way."""

    def __init__(self, old: Items, new: Items, fingerprints: dict[int, bytes]) -> None:
        self.old: dict[Item, Item] = {}
        self.new: dict[Item, Item] = {}
        self._items = old.items, new.items
        self._hashes = Hashes(old, fingerprints), Hashes(new, fingerprints)
        self._samples: dict[Item, np.ndarray[Any, Any]] = {}
        self._queue: deque[tuple[Item, Item]] = deque()
        self._meets: Callable[[Item, Item], bool] = self._are_alike
        """Whether neighbours of a pair in the same place are a pair: ever easier to please."""

    def match(self) -> None:
        """Find the pairs."""
        a, b = self._hashes
        self._by_key(lambda x, h: (h.up_weighted[x], h.down_weighted[x]), same_count=True)
        self._by_key(lambda x, h: h.up_weighted[x])
        self._by_key(lambda x, h: h.down_weighted[x])
        self._by_key(lambda x, h: h.weighted[x] if _has_weights(x) else None)
        self._by_near_weights()
        self._meets = lambda x, y: a.local[x] == b.local[y]
        self._by_key(lambda x, h: (h.up[x], h.down[x]))
        self._propagate_again()
        self._by_key(lambda x, h: h.up[x])
        self._by_key(lambda x, h: h.down[x])
        self._meets = lambda x, y: x.operator == y.operator
        self._by_key(lambda x, h: (x.operator, x.node.name) if x.node.name else None)
        self._by_key(lambda x, h: (x.operator, *(v.name for v in x.node.outputs)))
        self._propagate_again()
        # Copies of one thing in one place: their order decides.
        self._by_key(lambda x, h: (h.up[x], h.down[x]), any_count=True)
        self._by_key(lambda x, h: h.place[x], same_count=True)
        self._in_order(lambda x: (a if x in a.local else b).local[x])
        self._in_order(lambda x: x.operator)
        self._replaced()

    # --- signs

    def _left(self) -> tuple[list[Item], list[Item]]:
        old, new = self._items
        return [x for x in old if x not in self.old], [x for x in new if x not in self.new]

    def _by_key(
        self,
        key: Callable[[Item, Hashes], Hashable],
        same_count: bool = False,
        any_count: bool = False,
    ) -> None:
        """Pair items whose key is the only one of its kind in both graphs.

        With `same_count` also those of which there are equally many, with `any_count` as many as
        there are, in their order.
        """
        groups: dict[Hashable, tuple[list[Item], list[Item]]] = {}
        for side, items in enumerate(self._left()):
            for item in items:
                found = key(item, self._hashes[side])
                if found is not None:
                    groups.setdefault(found, ([], []))[side].append(item)
        for old, new in groups.values():
            unique = len(old) == len(new) == 1
            if unique or any_count or (same_count and len(old) == len(new)):
                self._link_all(zip(old, new))
        self._propagate()

    def _by_near_weights(self) -> None:
        """Pair items of one kind of which each is the only one with weights near the other's."""
        groups: dict[bytes, tuple[list[Item], list[Item]]] = {}
        for side, items in enumerate(self._left()):
            for item in items:
                if _has_weights(item):
                    local = self._hashes[side].local[item]
                    groups.setdefault(local, ([], []))[side].append(item)
        for old, new in groups.values():
            if old and new and len(old) * len(new) <= _MOST_COMPARED:
                self._link_all(_nearest(old, new, self._sample))
        self._propagate()

    def _sample(self, item: Item) -> np.ndarray[Any, Any]:
        if item not in self._samples:
            parts = [sample(t.constant) for _, t in item.tensors if t.constant.dtype.is_float]
            self._samples[item] = np.concatenate([*parts, np.zeros(0, np.float32)])
        return self._samples[item]

    def _in_order(self, key: Callable[[Item], Hashable]) -> None:
        """Pair what is left as the longest common runs of both lists go."""
        old, new = self._left()
        if old and new and len(old) * len(new) <= _MOST_COMPARED:
            runs = SequenceMatcher(None, [key(x) for x in old], [key(x) for x in new], False)
            for start, other, size in runs.get_matching_blocks():
                pairs = zip(old[start : start + size], new[other : other + size])
                self._link_all((x, y) for x, y in pairs if self._share_neighbour(x, y))
        self._propagate()

    def _share_neighbour(self, old: Item, new: Item) -> bool:
        """Whether a source or a reader of one is that of the other; so has a node without any."""
        mine, others = self._neighbours(old, self.old), self._neighbours(new, None)
        return bool(mine & others) or not (mine or others)

    def _neighbours(self, item: Item, partners: dict[Item, Item] | None) -> set[tuple[str, Item]]:
        """The items around it, as those of the new graph."""
        around = [("source", s.item) for s in item.inputs if isinstance(s, Made)]
        around += [("reader", reader) for _, reader, _ in item.readers]
        if partners is None:
            return {(kind, x) for kind, x in around if x in self.new}
        return {(kind, partners[x]) for kind, x in around if x in partners}

    def _replaced(self) -> None:
        """Pair nodes of other operators that stand between the same neighbours."""
        votes: Counter[tuple[Item, Item]] = Counter()
        sides: dict[tuple[Item, Item], set[str]] = {}
        for old, new in list(self.old.items()):
            for pair, side in self._across(old, new):
                votes[pair] += 1
                sides.setdefault(pair, set()).add(side)
        old_left, new_left = self._left()
        for x in old_left:
            for y in new_left if len(old_left) * len(new_left) <= _MOST_COMPARED else ():
                ends = {key for _, key in x.outputs} & {key for _, key in y.outputs}
                given = bool(_given(x) and _given(x) == _given(y))
                if ends or given:
                    votes[x, y] += len(ends) + given
                    sides.setdefault((x, y), set()).update(
                        ["reader"] * bool(ends) + ["source"] * given
                    )
        for (x, y), _ in votes.most_common():
            if x not in self.old and y not in self.new and len(sides[x, y]) == 2:
                self._link(x, y)
        self._queue.clear()

    def _across(self, old: Item, new: Item) -> Iterable[tuple[tuple[Item, Item], str]]:
        """Pairs of items that are not recognised, on the same side of two that are."""
        for s, t in zip(old.inputs, new.inputs):
            if isinstance(s, Made) and isinstance(t, Made) and self._are_free(s.item, t.item):
                yield (s.item, t.item), "reader"
        for output, reader, at in old.readers:
            if reader not in self.old:
                for other_output, other, other_at in new.readers:
                    if (other_output, other_at) == (output, at) and other not in self.new:
                        yield (reader, other), "source"

    # --- pairs

    def _are_free(self, old: Item, new: Item) -> bool:
        return old not in self.old and new not in self.new

    def _link_all(self, pairs: Iterable[tuple[Item, Item]]) -> None:
        for old, new in pairs:
            if self._are_free(old, new):
                self._link(old, new)

    def _link(self, old: Item, new: Item) -> None:
        self.old[old] = new
        self.new[new] = old
        self._queue.append((old, new))

    def _are_alike(self, old: Item, new: Item) -> bool:
        a, b = self._hashes
        return a.weighted[old] == b.weighted[new]

    def _propagate_again(self) -> None:
        self._queue.extend(self.old.items())
        self._propagate()

    def _propagate(self) -> None:
        """Recognise the neighbours of what was recognised, and theirs."""
        while self._queue:
            old, new = self._queue.popleft()
            for s, t in zip(old.inputs, new.inputs):
                if isinstance(s, Made) and isinstance(t, Made) and s.index == t.index:
                    self._meet(s.item, t.item)
            groups: dict[Hashable, tuple[list[Item], list[Item]]] = {}
            for side, readers in enumerate((old.readers, new.readers)):
                for output, reader, at in readers:
                    if reader not in (self.old, self.new)[side]:
                        key = output, at, reader.operator
                        groups.setdefault(key, ([], []))[side].append(reader)
            for mine, theirs in groups.values():
                self._meet_all(mine, theirs)

    def _meet_all(self, old: list[Item], new: list[Item]) -> None:
        if len(old) == len(new) == 1:
            self._meet(old[0], new[0])
            return
        a, b = self._hashes
        for mine, theirs in ((a.weighted, b.weighted), (a.local, b.local)):
            keys: dict[bytes, tuple[list[Item], list[Item]]] = {}
            for side, items in enumerate((old, new)):
                for item in items:
                    local = (mine, theirs)[side][item]
                    keys.setdefault(local, ([], []))[side].append(item)
            for x, y in keys.values():
                if len(x) == len(y) == 1:
                    self._meet(x[0], y[0])

    def _meet(self, old: Item, new: Item) -> None:
        if self._are_free(old, new) and self._meets(old, new):
            self._link(old, new)


def _has_weights(item: Item) -> bool:
    return any(t.constant.size >= _LEAST_WEIGHTS for _, t in item.tensors)


def _given(item: Item) -> set[str]:
    return {key for s in item.inputs if (key := getattr(s, "key", None)) is not None}


def _nearest(
    old: Sequence[Item], new: Sequence[Item], sample_of: Callable[[Item], np.ndarray[Any, Any]]
) -> Iterable[tuple[Item, Item]]:
    """Pairs of which each is much nearer to the other than to anything else."""
    a, b = (np.stack([sample_of(x) for x in items]) for items in (old, new))
    if not a.shape[1]:
        return
    with np.errstate(all="ignore"):
        scale = np.linalg.norm(a, axis=1)
        far = np.stack([np.linalg.norm(b - row, axis=1) for row in a]) / scale[:, np.newaxis]
    far = np.where(np.isfinite(far), far, np.inf)
    for i, row in enumerate(far):
        j = int(row.argmin())
        others = [*np.delete(row, j), *np.delete(far[:, j], i)]
        if row[j] <= _NEAR and all(row[j] * 2 < other for other in others):
            yield old[i], new[j]
