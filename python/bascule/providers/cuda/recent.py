# SPDX-License-Identifier: Apache-2.0
"""What is kept of things without number, such as plans for ever new sizes: those used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """At most `most` values by key; the one that was not asked for longest makes room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, V] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: Hashable) -> V:
        self._values.move_to_end(key)
        return self._values[key]

    def __setitem__(self, key: Hashable, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of `key`; one that is not there is made and kept."""
        if key not in self:
            self[key] = make()
        return self[key]
