# SPDX-License-Identifier: Apache-2.0
"""Sparse matrices as callers hold them: coordinates, or compressed rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bascule.devices import OrtDevice
from bascule.ir.dtype import DataType
from bascule.named_enum import NamedEnum

Array = np.ndarray[Any, Any]


class OrtSparseFormat(NamedEnum):
    """How a SparseTensor says where its values are.

    Attributes:
        ORT_SPARSE_UNDEFINED: not at all.
        ORT_SPARSE_COO: by coordinates.
        ORT_SPARSE_CSRC: by compressed rows.
        ORT_SPARSE_BLOCK_SPARSE: by blocks, of which no tensor here is.
    """

    ORT_SPARSE_UNDEFINED = 0
    ORT_SPARSE_COO = 1
    ORT_SPARSE_CSRC = 2
    ORT_SPARSE_BLOCK_SPARSE = 4


def _read_only(array: Any) -> Array:
    view: Array = np.asarray(array).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, slots=True)
class CooView:
    """Coordinates of a SparseTensor's values."""

    _indices: Array

    def indices(self) -> Array:
        """int64, [nnz] positions in the flattened tensor or [nnz, 2] (row, column) pairs."""
        return self._indices


@dataclass(frozen=True, slots=True)
class CsrcView:
    """Compressed rows of a SparseTensor."""

    _inner: Array
    _outer: Array

    def inner(self) -> Array:
        """int64 [nnz]: the column of each value."""
        return self._inner

    def outer(self) -> Array:
        """int64 [rows + 1]: where each row's values begin."""
        return self._outer


class SparseTensor:
    """A matrix of which only some values are stored; its static methods make one.

    Args:
        dense_shape: the sizes with all zeros written out.
        values: [nnz], of any element type.
        format: how positions are stored.
        view: the positions.
    """

    def __init__(
        self,
        dense_shape: Sequence[int],
        values: Array,
        format: OrtSparseFormat,
        view: CooView | CsrcView,
    ) -> None:
        self._shape = [int(size) for size in dense_shape]
        self._values = values
        self._format = format
        self._view = view

    @staticmethod
    def sparse_coo_from_numpy(
        dense_shape: Sequence[int], values: Array, coo_indices: Array, ort_device: OrtDevice
    ) -> SparseTensor:
        """A tensor of values and their coordinates; numbers are shared, text is copied.

        Args:
            dense_shape: the sizes with all zeros written out.
            values: [nnz], of any element type.
            coo_indices: int64 [nnz], positions in the flattened tensor, or [nnz, 2], (row, column).
            ort_device: not read; the tensor is on the CPU.

        Raises:
            RuntimeError: the number of indices does not fit that of values.
        """
        indices = np.asarray(coo_indices, np.int64)
        count = int(np.size(values))
        if indices.shape not in ((count,), (count, 2)):
            raise RuntimeError(
                f"{count} values need indices of shape [{count}] or [{count}, 2], "
                f"not {list(indices.shape)}"
            )
        return SparseTensor(
            dense_shape,
            _kept(values),
            OrtSparseFormat.ORT_SPARSE_COO,
            CooView(_read_only(indices)),
        )

    @staticmethod
    def sparse_csr_from_numpy(
        dense_shape: Sequence[int],
        values: Array,
        inner_indices: Array,
        outer_indices: Array,
        ort_device: OrtDevice,
    ) -> SparseTensor:
        """A tensor of values in compressed rows; numbers are shared, text is copied.

        Args:
            dense_shape: [rows, columns].
            values: [nnz], of any element type.
            inner_indices: int64 [nnz], the column of each value.
            outer_indices: int64 [rows + 1], where each row's values begin.
            ort_device: not read; the tensor is on the CPU.

        Raises:
            RuntimeError: the counts do not fit each other.
            TypeError: `dense_shape` is no list of two numbers.
        """
        if not isinstance(dense_shape, (list, tuple)) or len(dense_shape) != 2:
            raise TypeError(
                "incompatible function arguments: dense_shape must be [rows, columns], not "
                f"{dense_shape!r}"
            )
        inner, outer = np.asarray(inner_indices, np.int64), np.asarray(outer_indices, np.int64)
        if inner.shape != (np.size(values),) or outer.shape != (dense_shape[0] + 1,):
            raise RuntimeError(
                f"{np.size(values)} values in {dense_shape[0]} rows need as many inner indices and "
                f"{dense_shape[0] + 1} outer ones, not {list(inner.shape)} and {list(outer.shape)}"
            )
        return SparseTensor(
            dense_shape,
            _kept(values),
            OrtSparseFormat.ORT_SPARSE_CSRC,
            CsrcView(_read_only(inner), _read_only(outer)),
        )

    def _get_c_tensor(self) -> SparseTensor:  # read by callers of the raw classes
        return self

    def values(self) -> Array:
        """The stored values [nnz], read-only."""
        return _read_only(self._values)

    def as_coo_view(self) -> CooView:
        """The coordinates; RuntimeError when the format is another."""
        if not isinstance(self._view, CooView):
            raise RuntimeError(f"the tensor is {self._format.name}, not in coordinates")
        return self._view

    def as_csrc_view(self) -> CsrcView:
        """The compressed rows; RuntimeError when the format is another."""
        if not isinstance(self._view, CsrcView):
            raise RuntimeError(f"the tensor is {self._format.name}, not in compressed rows")
        return self._view

    def as_blocksparse_view(self) -> Any:
        """RuntimeError: no tensor here is in blocks."""
        raise RuntimeError(f"the tensor is {self._format.name}, not in blocks")

    def format(self) -> OrtSparseFormat:
        """How positions are stored."""
        return self._format

    def dense_shape(self) -> list[int]:
        """The shape with all zeros written out."""
        return list(self._shape)

    def data_type(self) -> str:
        """The type as text, such as ``sparse_tensor(float)``."""
        return f"sparse_tensor({DataType.from_numpy(self._values.dtype).onnx_name})"

    def device_name(self) -> str:
        """Where the values are: ``cpu``."""
        return "cpu"

    def to_cuda(self, ort_device: OrtDevice) -> SparseTensor:
        """Refused: sparse tensors stay on the CPU.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("to_cuda needs the CUDA provider, which this installation does not have")


def _kept(values: Any) -> Array:
    """Numbers are shared, text is copied."""
    array: Array = np.asarray(values)
    return array.astype(object) if array.dtype.kind in "OUST" else array
