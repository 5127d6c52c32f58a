# SPDX-License-Identifier: Apache-2.0
"""Constants that a kernel wants in a layout of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bascule.providers.cuda.entry import Entry
from bascule.providers.cuda.tensor import Tensor
from bascule.providers.cuda.weight import Weight, laid_out
from tests.support import cuda_emulation
from tests.support.cuda_emulation import EmulatedDevice

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing()),
]


def test_they_are_laid_out_once_and_not_kept_as_they_are() -> None:
    device = EmulatedDevice()
    entries = [Entry(host=np.arange(n, dtype=np.float32), is_constant=True) for n in (3, 4)]
    made: list[Sequence[Tensor]] = []

    def make(plain: Sequence[Tensor]) -> Tensor:
        made.append(plain)
        return plain[0]

    def of(entry: Entry) -> Weight:
        return Weight(entry, device, lambda: entry.on_device(device, device.allocate))

    def weights() -> list[Weight]:  # as each node gets them
        return [of(entry) for entry in entries]

    first = laid_out(weights(), "a", make)
    assert laid_out(weights(), "a", make) is first
    assert laid_out(weights(), "b", make) is not first
    assert laid_out(weights()[:1], "a", make) is not first
    assert [len(plain) for plain in made] == [2, 2, 1]
    assert not any(entry.is_on_device for entry in entries)
    given = weights()[1]
    assert (given.shape, given.is_constant) == ((4,), True)
    assert given.tensor.shape == (4,)
    assert entries[1].is_on_device
