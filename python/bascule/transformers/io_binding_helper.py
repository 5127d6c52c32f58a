# SPDX-License-Identifier: Apache-2.0
"""Types of a session's inputs and outputs, as NumPy, torch and ONNX number them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bascule.ir.dtype import DataType

if TYPE_CHECKING:
    from bascule.session import InferenceSession


class TypeHelper:
    """Conversions between type texts, such as ``tensor(float)``, and other libraries' types.

    Each raises ValueError for a type or name that there is not.
    """

    @staticmethod
    def get_input_type(ort_session: InferenceSession, name: str) -> str:
        """The type of an input."""
        return _type_of(ort_session.get_inputs(), name)

    @staticmethod
    def get_output_type(ort_session: InferenceSession, name: str) -> str:
        """The type of an output."""
        return _type_of(ort_session.get_outputs(), name)

    @staticmethod
    def get_io_onnx_type_map(ort_session: InferenceSession) -> dict[str, int]:
        """The ONNX number of each input's and output's element type, by name."""
        arguments = [*ort_session.get_inputs(), *ort_session.get_outputs()]
        return {each.name: int(_element(each.type)) for each in arguments}

    @staticmethod
    def ort_type_to_onnx_type(ort_type: str) -> int:
        """The ONNX number of the element type."""
        return int(_element(ort_type))

    @staticmethod
    def ort_type_to_numpy_type(ort_type: str) -> Any:
        """The NumPy or ml_dtypes type; ``bool`` for booleans."""
        found = _element(ort_type).numpy.type
        return bool if found is np.bool_ else found

    @staticmethod
    def ort_type_to_torch_type(ort_type: str) -> Any:
        """The torch type."""
        import torch

        name = _TORCH.get(_element(ort_type), _element(ort_type).numpy.name)
        if not isinstance(getattr(torch, name, None), torch.dtype):
            raise ValueError(f"torch has no type for {ort_type}")
        return getattr(torch, name)

    @staticmethod
    def numpy_type_to_torch_type(numpy_type: Any) -> Any:
        """The torch type of a NumPy one."""
        element = DataType.from_numpy(numpy_type)
        return TypeHelper.ort_type_to_torch_type(f"tensor({element.onnx_name})")

    @staticmethod
    def torch_type_to_numpy_type(torch_type: Any) -> Any:
        """The NumPy or ml_dtypes type of a torch one; ``bool`` for booleans."""
        name = str(torch_type).removeprefix("torch.")
        for element in DataType:
            if element in (DataType.UNDEFINED, DataType.STRING):
                continue
            if name == _TORCH.get(element, element.name.lower()) or name == _name(element):
                return TypeHelper.ort_type_to_numpy_type(f"tensor({element.onnx_name})")
        raise ValueError(f"{torch_type} has no counterpart")


_TORCH = {DataType.BOOL: "bool", DataType.FLOAT: "float32", DataType.DOUBLE: "float64"}


def _name(element: DataType) -> str:
    try:
        return str(element.numpy.name)
    except (KeyError, AttributeError):  # an element type that no array has
        return ""


def _type_of(arguments: Any, name: str) -> str:
    for each in arguments:
        if each.name == name:
            return str(each.type)
    raise ValueError(f"{name} not found among {[each.name for each in arguments]}")


def _element(ort_type: str) -> DataType:
    inner = ort_type.removeprefix("tensor(").removesuffix(")")
    if not ort_type.startswith("tensor(") or inner.upper() not in DataType.__members__:
        raise ValueError(f"{ort_type} not found in map")
    return DataType[inner.upper()]
