# SPDX-License-Identifier: Apache-2.0
"""Inputs that a kernel may want in a layout of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bascule.ir.dtype import DataType
from bascule.providers.cuda.device import Device
from bascule.providers.cuda.entry import Entry, upload
from bascule.providers.cuda.tensor import Tensor


class Weight:
    """An input before it is brought to the device.

    A constant that is only wanted in another layout takes no memory as it is.
    """

    def __init__(self, entry: Entry, device: Device, bring: Callable[[], Tensor]) -> None:
        self._entry = entry
        self._device = device
        self._bring = bring

    @property
    def is_constant(self) -> bool:
        return self._entry.is_constant

    @property
    def shape(self) -> tuple[int, ...]:
        return self._entry.shape

    @property
    def dtype(self) -> DataType:
        return self._entry.dtype

    @property
    def tensor(self) -> Tensor:
        """The input as it is, on the device."""
        return self._bring()

    def _for_a_while(self) -> Tensor:
        if self._entry.is_on_device:
            return self._entry.tensor
        found: Tensor = upload(
            self._entry.on_host(self._device), self._device, self._device.allocate
        )
        return found


def laid_out(
    weights: Sequence[Weight], key: str, make: Callable[[Sequence[Tensor]], Tensor]
) -> Tensor:
    """What ``make(weights)`` gives of constants, made once for all nodes that have them.

    `key` says what else it depends on. The device is done with it when this returns.
    """
    first, device = weights[0]._entry, weights[0]._device
    assert first.layouts is not None
    whole = (key, *(weight._entry for weight in weights[1:]))
    found: Tensor | None = first.layouts.get(whole)
    if found is None:
        found = make([weight._for_a_while() for weight in weights])
        device.synchronize()
        first.layouts[whole] = found
    return found
