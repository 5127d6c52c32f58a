# SPDX-License-Identifier: Apache-2.0
"""OrtValueVector: a raw list of values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bascule.devices import OrtDevice
from bascule.values import OrtValue


class OrtValueVector:
    """Values in a row, for run_with_ortvaluevector; grows at its end."""

    def __init__(self) -> None:
        self._values: list[OrtValue] = []

    def reserve(self, count: int) -> None:
        """Accepted: a list needs no room in advance."""

    def shrink_to_fit(self) -> None:
        """Accepted: a list has no room to give back."""

    def push_back(self, value: Any) -> None:
        """Append an OrtValue, or one over the memory of a DLPack capsule.

        Raises:
            TypeError: `value` is neither.
        """
        self._values.append(value if isinstance(value, OrtValue) else OrtValue.from_dlpack(value))

    def push_back_batch(
        self,
        tensors: Sequence[Any],
        data_ptrs: Sequence[int],
        element_types: Sequence[Any],
        shapes: Sequence[Sequence[int]],
        devices: Sequence[OrtDevice],
    ) -> None:
        """Append values over the memory of other libraries' tensors, which are kept alive.

        Args:
            tensors: the owners of the memory.
            data_ptrs: the address of each.
            element_types: the NumPy type of each.
            shapes: the sizes of each.
            devices: where each is.

        Raises:
            RuntimeError: the lists differ in length.
        """
        rows = (tensors, data_ptrs, element_types, shapes, devices)
        if len({len(row) for row in rows}) != 1:
            raise RuntimeError(f"the lists have {[len(row) for row in rows]} elements, not as many")
        for owner, pointer, element_type, shape, device in zip(*rows):
            self._values.append(OrtValue._over(owner, pointer, element_type, shape, device))

    def element_type_at(self, idx: int) -> int:
        """The ONNX number of the element type of value `idx`; IndexError where there is none."""
        return self._values[idx].element_type()

    def dlpack_at(self, idx: int) -> Any:
        """A DLPack capsule over value `idx`; IndexError where there is none."""
        return self._values[idx].__dlpack__()

    def to_dlpacks(self, to_tensor: Callable[[Any], Any] | None) -> list[Any]:
        """A DLPack capsule over each value, or what `to_tensor` makes of each capsule."""
        capsules = [value.__dlpack__() for value in self._values]
        return capsules if to_tensor is None else [to_tensor(capsule) for capsule in capsules]

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[OrtValue]:
        return iter(self._values)

    def __getitem__(self, idx: int) -> OrtValue:
        if idx < 0:
            raise TypeError(f"the index of an OrtValueVector is no negative number: {idx}")
        return self._values[idx]
