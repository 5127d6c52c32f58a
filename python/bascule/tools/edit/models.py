# SPDX-License-Identifier: Apache-2.0
"""Editing in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bascule.tools.edit.document import Source
from bascule.tools.edit.editor import Editor


def edit(source: Source | Editor, **options: Any) -> Editor:
    """An Editor of a model: ``bascule.edit("m.onnx").delete("dropout").save("out.onnx")``.

    Args:
        source: the path of an .onnx file, the bytes of one, an onnx.ModelProto, a loaded model, or
            an Editor.
        **options: those of Editor.

    Raises:
        NoSuchFile, InvalidProtobuf, InvalidArgument, InvalidGraph: the model cannot be read.
    """
    return Editor(source, **options)


def merge_models(*models: Source | Editor, prefixes: Sequence[str] | None = None) -> Editor:
    """Models side by side, as one; see Editor.merge.

    Args:
        models: paths of .onnx files, bytes, onnx.ModelProtos, loaded models or Editors.
        prefixes: for each but the first, what comes before all of its names.

    Raises:
        InvalidArgument: they cannot be one model; the message says why.
    """
    first, *others = models
    return Editor(first).merge(*others, prefixes=prefixes)


def chain_models(
    *models: Source | Editor,
    connect: Sequence[tuple[str, str]] | Mapping[str, str] | None = None,
    keep: Iterable[str] = (),
    prefixes: Sequence[str] | None = None,
) -> Editor:
    """Models one behind the other, as one: ``chain_models(before, model, after)``.

    Args:
        models: paths of .onnx files, bytes, onnx.ModelProtos, loaded models or Editors.
        connect: which outputs go to which inputs, as `Editor.chain` tells.
        keep: outputs that stay outputs although they go to an input.
        prefixes: for each but the first, what comes before all of its names.

    Raises:
        InvalidArgument: they cannot be one model; the message says why.
    """
    first, *others = models
    return Editor(first).chain(*others, connect=connect, keep=keep, prefixes=prefixes)
