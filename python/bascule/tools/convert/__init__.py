# SPDX-License-Identifier: Apache-2.0
"""Models in another precision, opset or form: measured, checked, and nothing else changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Union

from bascule.errors import Fail, InvalidArgument
from bascule.options import SessionOptions

if TYPE_CHECKING:
    import onnx

    from bascule.session import InferenceSession
    from bascule.tools.convert.document import Document
    from bascule.tools.convert.opset import OpsetChange
    from bascule.tools.convert.outputs import AnyFeeds, Feeds
    from bascule.tools.convert.precision import Precision

__all__ = ["Conversion", "convert"]

ModelSource = Union[str, "os.PathLike[str]", bytes, "onnx.ModelProto"]

SUFFIXES = ".onnx, .onnxtxt (text) or .safetensors (the weights alone)"


@dataclass
class Conversion:
    """A converted model; large tensors stay in the files that they came from until it is saved.

    Attributes:
        document: the model, as the other parts of the tools take it; `proto` and `session` are for
            users.
        precision: what became float16 or bfloat16, what did not and why; None if nothing was to.
        opset: what was done for another opset; None if nothing was to.
        replaced: the weights that came from a safetensors file.
        written: the files that were written.
    """

    document: Document = field(repr=False)
    precision: Precision | None = None
    opset: OpsetChange | None = None
    replaced: tuple[str, ...] = ()
    written: list[str] = field(default_factory=list)

    def proto(self) -> onnx.ModelProto:
        """The model with all elements in it.

        Raises:
            InvalidArgument: it is larger than one protobuf can be, 2 GB.
        """
        return self.document.whole()

    def session(self, options: SessionOptions | None = None) -> InferenceSession:
        """A session of the model, without a file."""
        return self.document.session(options)

    def save(self, path: str | os.PathLike[str], external_data: bool | str | None = None) -> None:
        """Write the model; the suffix of `path` says how.

        ``.onnx``: protobuf; ``.onnxtxt``: the standard's text form, with large weights in a file
        beside it; ``.safetensors``: the weights alone, under their names. Files appear under their
        names only when they are complete, so that a model may be written over itself.

        Args:
            path: where to.
            external_data: whether tensors of 1 kB and more go to a file beside the model, or the
                name of that file; with the suffix ``.safetensors`` it is one that other programs
                read. By default only what is too large for one file is written so.

        Raises:
            InvalidArgument: the suffix is unknown, or the file cannot be written.
            Fail: the text form cannot say something of the model.
        """
        from bascule.tools.convert.document import TEXT_SUFFIXES

        name = os.fspath(path)
        if name.endswith(TEXT_SUFFIXES):
            from bascule.tools.convert.text import write_text

            write_text(self.document, name, external_data)
        elif name.endswith(".safetensors"):
            from bascule.tools.convert.weights import write_weights

            write_weights(self.document, name)
        elif name.endswith(".onnx"):
            self.document.save(name, external_data)
        else:
            raise InvalidArgument(f"'{name}' has no suffix that is known: {SUFFIXES}")
        self.written.append(name)

    def records(self) -> dict[str, Any]:
        """What was done, as plain data."""
        from bascule.tools.convert.show import record

        return record(self)

    def __str__(self) -> str:
        from bascule.tools.convert.show import text

        return text(self)

    __repr__ = __str__


def convert(
    model: ModelSource,
    output: str | os.PathLike[str] | None = None,
    *,
    to: str | None = None,
    budget: float = 1e-3,
    feeds: AnyFeeds | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    keep_io_types: bool | Collection[str] = False,
    opset: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    external_data: bool | str | None = None,
    check: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Conversion:
    """Convert a model: its precision, its opset, where its weights are, the form of its file.

    What is asked for is done in this order: weights, opset, precision. Names, doc strings and
    metadata stay. Large tensors are read from their files only when they are needed.

    Args:
        model: a path, bytes or an onnx.ModelProto; a path ending in ``.onnxtxt`` is text.
        output: where to write the result, as `Conversion.save` tells; None: nowhere.
        to: ``float16`` or ``bfloat16``: float32 values become that, but for those of nodes that
            must stay so that outputs are within `budget`. Which these are is found by measuring.
        budget: how far an output may be off, as a part of its largest element; of outputs that are
            no floats: the part of elements that may differ.
        feeds: inputs to measure and check with: arrays by name, or a list of such sets. Inputs
            without one are random and seeded (two sets, if there are no feeds at all).
        dims: sizes of symbolic dimensions for random inputs (``{"batch": 4}``); others are 1.
        seed: of random inputs.
        keep_io_types: with `to`, whether inputs and outputs stay float32, or which of them.
        opset: the version of the standard's operators, older or newer. Outputs on the feeds are
            compared with those of the model.
        weights: a safetensors file whose tensors replace those of the same names.
        external_data: as `Conversion.save` tells.
        check: whether outputs are compared after a change of opset.
        progress: called with a line on each step.

    Returns:
        A Conversion: print it for what was done.

    Raises:
        InvalidArgument: an argument does not fit.
        Fail: a node cannot be said in the opset, or outputs differ: the message names the node; the
            budget cannot be met; a safetensors file is damaged.
        NoSuchFile, InvalidProtobuf, InvalidGraph: the model cannot be read.

    Examples:
        >>> print(bascule.convert("net.onnx", "net16.onnx", to="float16", keep_io_types=True))
    """
    # Imported here: they import onnx.
    from bascule.tools.convert.document import Document

    if external_data is not None and output is None:
        raise InvalidArgument("external_data says how to write a model, and there is no output")
    document = Document.read(model)
    result = Conversion(document)
    tell = progress or (lambda line: None)
    if weights is not None:
        from bascule.tools.convert.weights import replace_weights

        result.document, result.replaced = replace_weights(result.document, weights)
    if opset is not None:
        result.document, result.opset = _to_opset(
            result.document, opset, feeds, dims or {}, seed, check, tell
        )
    if to is not None:
        from bascule.tools.convert.precision import convert_precision

        result.document, result.precision = convert_precision(
            result.document,
            to,
            budget=budget,
            feeds=feeds,
            dims=dims,
            seed=seed,
            keep_io_types=keep_io_types,
            progress=progress,
        )
    if output is not None:
        result.save(output, external_data)
    return result


def _to_opset(
    document: Document,
    version: int,
    feeds: AnyFeeds | None,
    dims: Mapping[str, int],
    seed: int,
    check: bool,
    tell: Callable[[str], None],
) -> tuple[Document, OpsetChange]:
    from bascule.tools.convert.opset import convert_opset

    made, change = convert_opset(document, version)
    made.model()  # which is checked
    if not check or change.before == change.after:
        change.checked = "not asked for" if not check else ""
        return made, change
    from bascule.tools.convert.outputs import all_feeds, errors_of, run_all

    tell("comparing outputs")
    sessions = [document.session(), made.session()]
    sets = all_feeds(sessions[0], feeds, dims, seed)
    wanted = run_all(sessions[0], sets)
    found = run_all(sessions[1], sets)
    if not any(errors_of(wanted, found).values()):
        change.checked = "same bits"
    elif any(errors_of(wanted, run_all(sessions[0], sets)).values()):
        change.checked = "no: the results of this model are random"
    else:
        _compare(document, made, sets, version)
        change.checked = "within rounding"
    return made, change


def _compare(before: Document, after: Document, sets: Sequence[Feeds], version: int) -> None:
    """Refuse a conversion whose values differ by more than rounding explains.

    Raises:
        Fail: naming the first node and value that do.
    """
    from bascule.ir.walk import graphs_in
    from bascule.tools.compare import compare
    from bascule.tools.convert.outputs import plain_session

    sessions = plain_session(before), plain_session(after)
    for feeds in sets:
        result = compare(sessions[0], sessions[1], feeds, bisect=False, outputs=False)
        first = result.first
        if first is None:
            continue
        known = {node.name for graph in graphs_in(after.proto.graph) for node in graph.node}
        names = [name for name in first.sources if name in known] or [first.node]
        nodes = ", ".join(f"'{name}'" for name in names)
        raise Fail(
            f"In opset {version} the model computes something else: the first value that differs "
            f"is '{first.name}' of {nodes} ({first.op_type}), by {first.judged.error:.3g} where "
            f"rounding explains {first.judged.bound:.3g}",
            source=first.line,
        )
