# SPDX-License-Identifier: Apache-2.0
"""Where a caller wants an output."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from bascule.providers.cuda.tensor import Tensor

if TYPE_CHECKING:
    from bascule.providers.cuda.device import Device


class Where(enum.Enum):
    """A place that is no memory of the device's."""

    HOST = "host"


@dataclass(frozen=True)
class Fresh:
    """In device memory that nobody else has."""

    again: Tensor | None = None
    """Such memory, given out by an earlier run, which is taken if it fits."""

    def of(self, made: Tensor, device: Device) -> Tensor:
        """Memory for an output like `made`."""
        again = self.again
        if again is None or again.dtype is not made.dtype or again.nbytes != made.nbytes:
            again = Tensor(made.dtype, made.shape, *device.allocate(max(made.nbytes, 1)))
        return Tensor(made.dtype, made.shape, again.address, again.owner)


OnDevice = Union[Tensor, Fresh]
"""Memory that is bound to an output, or fresh memory."""

Wanted = Union[OnDevice, Where]
