# SPDX-License-Identifier: Apache-2.0
"""Weights of a model out to a safetensors file, and in from one."""

from __future__ import annotations

import difflib
import os

from bascule.errors import InvalidArgument
from bascule.ir.constant import Constant
from bascule.tools.convert.document import Document
from bascule.tools.convert.safetensors import can_hold, read_safetensors, write_safetensors


def write_weights(document: Document, path: str) -> None:
    """Write all initializers and tensors of Constant nodes that the format can hold.

    Raises:
        InvalidArgument: the model has no such tensor, or the file cannot be written.
    """
    tensors: dict[str, Constant] = {}
    for name, tensor in document.weights().items():
        constant = document.constant(tensor)
        if can_hold(constant.dtype):
            tensors[name] = constant
    if not tensors:
        raise InvalidArgument("The model has no weights that a safetensors file can hold")
    write_safetensors(path, tensors, {"format": "onnx"})


def replace_weights(
    document: Document, path: str | os.PathLike[str]
) -> tuple[Document, tuple[str, ...]]:
    """A model with the tensors of a file in place of those of the same names, and these names.

    Raises:
        NoSuchFile, Fail: the file is missing or damaged.
        InvalidArgument: a tensor has no counterpart in the model, or another type or shape.
    """
    found = read_safetensors(path)
    work = document.copy()
    known = work.weights()
    for name, constant in found.tensors.items():
        tensor = known.get(name)
        if tensor is None:
            close = difflib.get_close_matches(name, known, 1)
            meant = f"; is '{close[0]}' meant?" if close else ""
            raise InvalidArgument(
                f"'{os.fspath(path)}' has a tensor '{name}', and the model no weight of this name"
                + meant
            )
        given, wanted = ((int(c.dtype), c.shape) for c in (constant, document.constant(tensor)))
        if given != wanted:
            mine = document.constant(tensor)
            raise InvalidArgument(
                f"Tensor '{name}' of '{os.fspath(path)}' is {constant.dtype.onnx_name}"
                f"{list(constant.shape)}",
                expected=f"{mine.dtype.onnx_name}{list(mine.shape)}",
            )
        work.refer(tensor, constant)
    return work, tuple(found.tensors)
