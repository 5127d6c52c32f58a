# SPDX-License-Identifier: Apache-2.0
"""What a kernel function is handed: its node, and the device to run it on."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bascule import errors
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda import sources
from bascule.providers.cuda.device import Argument, Device
from bascule.providers.cuda.tensor import Tensor

_MOST_BLOCKS = 2**31 - 1, 65535, 65535
"""Along the axes of a grid."""

Allocate = Callable[[int], "tuple[int, object]"]


class Call:
    """One execution of one node. Kernel functions allocate and launch through it."""

    def __init__(
        self,
        node: Node,
        device: Device,
        allocate: Allocate,
        prepared: dict[str, Any],
        kept: dict[Any, Any],
    ) -> None:
        self.node = node
        self.device = device
        self._allocate = allocate
        self._prepared = prepared
        self._kept = kept

    # --- the node

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        return self.node.attributes.get(name, default)

    def wants(self, output: int) -> bool:
        """Whether anybody reads output number `output`."""
        return output < len(self.node.outputs) and not self.node.outputs[output].is_unused

    def dtype(self, output: int = 0) -> DataType:
        """The element type of an output."""
        dtype = self.node.outputs[output].dtype
        assert dtype is not None
        return dtype

    def is_constant(self, index: int) -> bool:
        """Whether input number `index` is the same in every run."""
        value = self.node.input(index)
        return value is not None and value.constant is not None

    def error(self, message: str, kind: type[Exception] = errors.Fail) -> Exception:
        """An error about this node, to be raised."""
        return kind(f"{self.node.op_type} node '{self.node.name}': {message}")

    # --- memory

    def empty(self, shape: Sequence[int], dtype: DataType) -> Tensor:
        """A tensor with whatever was in its memory before."""
        tensor = Tensor(dtype, tuple(int(size) for size in shape), 0, None)
        address, owner = self._allocate(max(tensor.nbytes, 1))
        return Tensor(dtype, tensor.shape, address, owner)

    def like(self, tensor: Tensor) -> Tensor:
        """An empty tensor of the type and shape of another."""
        return self.empty(tensor.shape, tensor.dtype)

    def zeros(self, shape: Sequence[int], dtype: DataType) -> Tensor:
        """A tensor of zeros."""
        tensor = self.empty(shape, dtype)
        if tensor.nbytes:
            self.device.fill(tensor.address, 0, tensor.nbytes)
        return tensor

    def workspace(self, nbytes: int) -> Tensor:
        """Bytes to work in; free again when the last reference is dropped."""
        return self.empty((nbytes,), DataType.UINT8)

    def copied(self, tensor: Tensor) -> Tensor:
        """The same elements in memory of their own."""
        result = self.like(tensor)
        self.copy(result, tensor)
        return result

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Copy all bytes of `source` to the start of `target`."""
        if source.nbytes:
            self.device.copy(target.address, source.address, source.nbytes)

    def upload(self, array: np.ndarray[Any, Any]) -> Tensor:
        """A host array as a tensor, which lives as long as a captured graph may read it."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        digest = hashlib.sha256(array.tobytes())
        key = f"{array.dtype} {array.shape} {digest.hexdigest()}"
        if key not in self._kept:
            address, owner = self.device.allocate(max(array.nbytes, 1))
            tensor = Tensor(DataType.from_numpy(array.dtype), array.shape, address, owner)
            if array.nbytes:
                self.device.upload(address, array)
            self._kept[key] = tensor
        found: Tensor = self._kept[key]
        return found

    def download(self, tensor: Tensor) -> np.ndarray[Any, Any]:
        """A tensor as a host array; only for kernels that are registered as synchronizing."""
        array = np.empty(tensor.shape, tensor.dtype.numpy)
        if array.nbytes:
            self.device.download(array, tensor.address)
        return array

    def prepared(self, key: str, make: Callable[[Call], Any]) -> Any:
        """What `make(call)` returns, made once per node and kept: weights in another layout, plans.

        It may depend only on constant inputs, on attributes, and on what `key` says, of which
        there are few.
        """
        return self._kept_in(self._prepared, key, make)

    def planned(self, key: str, make: Callable[[Call], Any]) -> Any:
        """What `make(call)` returns, made once for the shapes of the inputs.

        It is kept as long as they are remembered, and as long as a captured graph may use it.
        """
        return self._kept_in(self._kept, (self.node, key), make)

    def _kept_in(self, kept: dict[Any, Any], key: Any, make: Callable[[Call], Any]) -> Any:
        if key not in kept:
            kept[key] = make(Call(self.node, self.device, self.device.allocate, kept, kept))
        return kept[key]

    # --- the array module

    def array(self, tensor: Tensor) -> Any:
        """An array of ``call.device.xp`` (CuPy) over the memory of `tensor`."""
        return self.device.array(tensor)

    def tensor(self, array: Any) -> Tensor:
        """An array of ``call.device.xp`` as a tensor; it is made dense."""
        xp = self.device.xp
        dense = xp.ascontiguousarray(array).reshape(array.shape)
        address = dense.data.ptr if hasattr(dense.data, "ptr") else dense.ctypes.data
        return Tensor(DataType.from_numpy(dense.dtype), dense.shape, int(address), dense)

    # --- launching

    def launch(
        self,
        module: str,
        name: str,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        *arguments: Argument,
        shared: int = 0,
    ) -> None:
        """Start the kernel `name` of ``kernels/<module>.cu``; nothing when the grid is empty.

        Of a file in parts that do not occur in the names of kernels, the module is ``file.part``.
        """
        found = self.device.function(sources.module_of(module, name), name)
        self._start(found, grid, block, arguments, shared)

    def launch_generated(
        self,
        source: str,
        name: str,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        *arguments: Argument,
        shared: int = 0,
    ) -> None:
        """Start the kernel `name` of CUDA C++ code made at run time."""
        self._start(self.device.generated(source, name), grid, block, arguments, shared)

    def _start(
        self,
        function: Any,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        arguments: Sequence[Argument],
        shared: int,
    ) -> None:
        blocks, threads = _dim3(grid), _dim3(block)
        if 0 in blocks:
            return
        if any(count > most for count, most in zip(blocks, _MOST_BLOCKS)):
            raise self.error(f"its tensors are too large: they need a grid of {blocks} blocks")
        self.device.launch(function, blocks, threads, arguments, shared)


def _dim3(sizes: int | tuple[int, ...]) -> tuple[int, int, int]:
    if isinstance(sizes, int):
        return sizes, 1, 1
    x, y, z = (*sizes, 1, 1)[:3]
    return x, y, z


@functools.cache
def type_name(dtype: DataType) -> str:
    """The element type as the names of kernels have it: ``float32``, ``bfloat16``, ``int64``..."""
    return str(dtype.numpy.name)
