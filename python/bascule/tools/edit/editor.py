# SPDX-License-Identifier: Apache-2.0
"""Editor: a model that is changed step by step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import onnx

from bascule.errors import InvalidArgument
from bascule.ir.deserialize import read_type
from bascule.tools.edit import dims, extract, joining, nodes, renaming, weights
from bascule.tools.edit.document import Document, Source
from bascule.tools.edit.names import initializer_names
from bascule.tools.edit.steps import Steps, require
from bascule.tools.edit.types import iter_types, show


class Editor(Steps):
    """A model to edit. Its big tensors stay in their files until they are written.

    An edit changes what it says and nothing else: names, order, metadata, documentation, training
    information, fields of newer versions of ONNX and the way in which tensors are stored stay as
    they were. Each edit leaves a valid model or, if it fails, the model as it was; each can be
    undone. Edits return the editor, so that they can be chained.

    Args:
        source: the path of an .onnx file, the bytes of one, an onnx.ModelProto, a loaded model, or
            an Editor.
        check: whether each edit is checked, types included, if the model was valid before.
        history: how many edits can be undone.

    Raises:
        NoSuchFile, InvalidProtobuf, InvalidArgument, InvalidGraph: the model cannot be read.

    Examples:
        >>> editor = bascule.edit("model.onnx").cut(["x"], ["features"]).save("features.onnx")
    """

    def __init__(self, source: Source | Editor, *, check: bool = True, history: int = 100) -> None:
        document = Document.read(source._document if isinstance(source, Editor) else source)
        super().__init__(document, check, history)

    # --- parts

    def cut(
        self,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        *,
        types: Mapping[str, Any] | None = None,
    ) -> Editor:
        """Keep what computes `outputs` from `inputs` alone.

        Args:
            inputs: the values that become the inputs, in this order; an initializer may be one. By
                default the inputs of the model that are needed.
            outputs: the values that become the outputs, by default the outputs of the model.
            types: types of these values by name, such as ``"float32[batch, 3, ?]"``, where the
                model does not declare one and none can be inferred.

        Raises:
            InvalidArgument: there is no such value, it is inside a nested graph, its type is
                unknown, another input is needed, or one that is given is not.
        """
        title = f"cut {_list(inputs)} to {_list(outputs)}"
        with self._edit(title) as change:
            given = dict(iter_types(types))
            change.same_nodes = True
            proto, notes = extract.cut(self._document, inputs, outputs, given)
            self._document.proto = proto
            change.notes += notes
        return self

    # --- nodes

    def insert(
        self,
        value: str,
        op_type: str,
        *,
        inputs: Sequence[str] | None = None,
        attributes: Mapping[str, Any] | None = None,
        domain: str = "",
        name: str | None = None,
        output: str | None = None,
        constants: Mapping[str, Any] | None = None,
        readers: Iterable[str] | None = None,
    ) -> Editor:
        """Put a node between a value and what reads it.

        An output of the model keeps its name: the node then makes it, and what made it before has
        another name.

        Args:
            value: the value that the node reads.
            op_type: its operator.
            inputs: all that it reads, `value` among them; by default `value` alone.
            attributes: its attributes, by name.
            domain: the domain of the operator; imported in its newest version if it is not yet.
            name: the name of the node.
            output: the name of what it makes.
            constants: arrays that become initializers, by name, for it to read.
            readers: the nodes that are to read the new value, by default all that read `value`,
                and the output.

        Raises:
            InvalidArgument: a name does not exist or is taken, or nothing reads the value.
            Fail, InvalidGraph: the node is not valid there.

        Examples:
            >>> editor.insert("x", "Mul", inputs=["x", "scale"], constants={"scale": np.float32(2)})
        """
        with self._edit(f"insert {op_type} on '{value}'") as change:
            nodes.insert(
                self._document,
                change,
                value,
                op_type,
                inputs=inputs,
                attributes=attributes or {},
                domain=domain,
                name=name,
                output=output,
                constants=constants or {},
                readers=readers,
            )
        return self

    def replace(
        self,
        node: str,
        op_type: str | None = None,
        *,
        domain: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        inputs: Sequence[str | None] | None = None,
        nodes: Sequence[onnx.NodeProto] | None = None,
    ) -> Editor:
        """Change the operator, attributes or inputs of a node, or put other nodes in its place.

        Args:
            node: the name of the node, or of a value that it makes.
            op_type: another operator; attributes that it does not have are removed.
            domain: its domain.
            attributes: attributes to set, by name; None removes one. Others stay.
            inputs: all that it is to read; None for an input that is left out.
            nodes: nodes in its place, which make the values that are read of it.

        Raises:
            InvalidArgument: a name does not exist or is taken, the operator has no such attribute,
                or a value that is read would not be made any more.
            Fail, InvalidGraph: the node would not be valid.
        """
        from bascule.tools.edit import nodes as edits

        if nodes is not None and (op_type, domain, attributes, inputs) != (None,) * 4:
            raise InvalidArgument("Give `nodes`, or what is to change in the node that is there")
        with self._edit(f"replace '{node}'" + (f" by {op_type}" if op_type else "")) as change:
            if nodes is not None:
                edits.replace_by(self._document, change, node, nodes)
            else:
                edits.replace(
                    self._document,
                    change,
                    node,
                    op_type=op_type,
                    domain=domain,
                    attributes=attributes or {},
                    inputs=inputs,
                )
        return self

    def delete(self, node: str, *, join: int | str | None = None) -> Editor:
        """Take a node out, and let what read its result read its input.

        Constants and nodes that nothing else reads go with it.

        Args:
            node: the name of the node, or of a value that it makes.
            join: which input, by number or name; by default the only one that is no constant.

        Raises:
            InvalidArgument: there is no such node, several of its values are read, or it has
                several inputs and `join` is not given.
            Fail, InvalidGraph: what is joined does not fit.
        """
        with self._edit(f"delete '{node}'") as change:
            nodes.delete(self._document, change, node, join)
        return self

    # --- names

    def rename(
        self,
        old: str | Mapping[str, str],
        new: str | None = None,
        *,
        kind: str | None = None,
    ) -> Editor:
        """Rename values (inputs, outputs and initializers are some), nodes and sizes.

        Args:
            old: the name, or a mapping of old names to new ones.
            new: the new name, if `old` is one name.
            kind: value, input, output, initializer, node or dim, where a name is that of several.

        Raises:
            InvalidArgument: there is no such name, it is that of several things, or the new one is
                taken.
        """
        names = {old: new or ""} if isinstance(old, str) else dict(old)
        title = ", ".join(f"'{a}' to '{b}'" for a, b in names.items())
        with self._edit(f"rename {title}") as change:
            renaming.rename(self._document.proto, change, names, kind)
        return self

    # --- constants

    def set_initializer(self, name: str, array: Any) -> Editor:
        """Set a constant, or add one of this name.

        Args:
            name: the initializer, or what a Constant node makes.
            array: a NumPy or ml_dtypes array of any shape and type that the model takes there; it
                must not change afterwards.

        Raises:
            InvalidArgument: ONNX has no such element type, the name is that of another value, or
                the array does not fit the input whose default it is.
            Fail, InvalidGraph: what reads the constant does not take it.
        """
        with self._edit(f"set initializer '{name}'") as change:
            weights.set_initializer(self._document, change, name, array)
        return self

    def initializer_to_input(self, name: str, *, keep_default: bool = False) -> Editor:
        """Let a constant be fed, as the last input.

        Args:
            name: the initializer.
            keep_default: whether its value stays, for when nothing is fed.

        Raises:
            InvalidArgument: there is no such initializer.
        """
        with self._edit(f"initializer '{name}' to input") as change:
            weights.initializer_to_input(self._document, change, name, keep_default)
        return self

    def input_to_initializer(self, name: str, array: Any | None = None) -> Editor:
        """Give an input a value for good.

        Args:
            name: the input.
            array: the value; by default the one that it has when nothing is fed.

        Raises:
            InvalidArgument: there is no such input, it has no default, or the array does not fit.
        """
        with self._edit(f"input '{name}' to initializer") as change:
            weights.input_to_initializer(self._document, change, name, array)
        return self

    # --- sizes

    def set_dims(
        self, sizes: Mapping[str, int | str | Sequence[int | str | None]], *, mend: bool = True
    ) -> Editor:
        """Give sizes a name or a number, in inputs and all that follows from them.

        Reshapes with a constant target that holds a size which is dynamic now are mended where only
        one target has the same meaning; the others are told in `notes`, as are other nodes in which
        the size may be baked in.

        Args:
            sizes: by the name of a size, the number or name it gets (``{"batch": 1}``); by the name
                of an input, its whole shape (``{"image": ["batch", 3, None, None]}``).
            mend: whether Reshapes are mended, or only told.

        Raises:
            InvalidArgument: there is no such size or input, or the rank is another.
            Fail: nodes contradict these sizes.
        """
        if not isinstance(sizes, Mapping):
            raise InvalidArgument(f"sizes must be a dict by name, not {sizes!r}")
        title = ", ".join(f"'{name}' to {_size(size)}" for name, size in sizes.items())
        with self._edit(f"set dims {title}") as change:
            dims.set_dims(self._document, change, sizes, mend)
        return self

    # --- several models

    def merge(self, *others: Source | Editor, prefixes: Sequence[str] | None = None) -> Editor:
        """Put other models beside this one: the inputs and outputs of all, in order.

        All come to the newest of their opsets and IR versions. Names of values, nodes, sizes,
        functions and metadata that are taken get a prefix; `notes` tells those of inputs, outputs
        and sizes.

        Args:
            others: the models.
            prefixes: for each, what comes before all of its names; by default the name of its file
                before those that are taken.

        Raises:
            InvalidArgument: a node cannot be converted to the newer opset, or an operator of one
                model is a function of another.
        """
        return self._join(others, prefixes, None, (), chained=False)

    def chain(
        self,
        *others: Source | Editor,
        connect: Sequence[tuple[str, str]] | Mapping[str, str] | None = None,
        keep: Iterable[str] = (),
        prefixes: Sequence[str] | None = None,
    ) -> Editor:
        """Put other models behind this one: its outputs go to the inputs of the next, and so on.

        Inputs that nothing goes to stay inputs; outputs that go nowhere stay outputs, behind those
        of the last model. Otherwise as `merge`.

        Args:
            others: the models, in the order in which data passes.
            connect: (output, input) pairs, for one other model. By default outputs go to inputs of
                the same name; if there are none, in order, if there are as many of both.
            keep: outputs that stay outputs although they go to an input.
            prefixes: as in `merge`.

        Raises:
            InvalidArgument: an output does not fit its input, it does not follow which goes to
                which, or as in `merge`.
        """
        pairs = list(connect.items() if isinstance(connect, Mapping) else connect or ()) or None
        if pairs is not None and len(others) != 1:
            raise InvalidArgument("`connect` is for one model more: chain one by one")
        return self._join(others, prefixes, pairs, keep, chained=True)

    def _join(
        self,
        others: Sequence[Source | Editor],
        prefixes: Sequence[str] | None,
        pairs: joining.Pairs | None,
        keep: Iterable[str],
        chained: bool,
    ) -> Editor:
        if prefixes is not None and len(prefixes) != len(others):
            raise InvalidArgument(f"There are {len(others)} models and {len(prefixes)} prefixes")
        what, kept = "chain" if chained else "merge", frozenset(keep)
        with self._edit(f"{what} {len(others)} models") as change:
            for index, source in enumerate(others):
                other = Document.read(source._document if isinstance(source, Editor) else source)
                prefix = joining.default_prefix(other, index + 2)
                if prefixes is not None:
                    prefix = prefixes[index]
                joint = joining.Joint(chained, pairs, prefix, prefixes is not None, kept)
                joining.join(self._document, change, other, joint)
        return self

    # --- results

    def check(self) -> Editor:
        """Refuse a model that is not valid, types and external data included.

        Raises:
            Fail, InvalidGraph, InvalidArgument, NotImplemented: why not.
        """
        require(self._document, 1)
        self._document.check_data()
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs, those that have a default included."""
        return tuple(info.name for info in self._document.proto.graph.input)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return tuple(info.name for info in self._document.proto.graph.output)

    def describe(self) -> dict[str, Any]:
        """What there is, for people: the number of nodes and initializers, inputs and outputs.

        Returns:
            ``nodes`` and ``initializers``, numbers; ``inputs`` and ``outputs``, lists of texts such
            as ``image float[batch, 3, 224, 224]``.
        """
        graph = self._document.proto.graph
        constants = set(initializer_names(graph))
        return {
            "nodes": len(graph.node),
            "initializers": len(constants),
            "inputs": [
                f"{info.name} {show(read_type(info.type))}"
                + (" (has a default)" if info.name in constants else "")
                for info in graph.input
            ],
            "outputs": [f"{info.name} {show(read_type(info.type))}" for info in graph.output],
        }

    def to_bytes(self) -> bytes:
        """The model serialized, all data inside.

        Raises:
            InvalidArgument: it is larger than 2 GB.
            Fail, InvalidGraph: external data cannot be had.
        """
        return self._document.to_bytes()

    def to_proto(self) -> onnx.ModelProto:
        """A ModelProto of its own, all data inside; raises what `to_bytes` does."""
        return onnx.ModelProto.FromString(self.to_bytes())

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        external_data: bool | str | None = None,
        size_threshold: int = 1024,
        share_data: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Editor:
        """Write the model; files appear only when complete, so its own may be overwritten.

        Args:
            path: the .onnx file.
            external_data: True or a file name: tensors of `size_threshold` bytes and more go to
                ``<path>.data`` or this file beside it; False: all data goes into the model. By
                default each tensor stays inside or outside, as it was, if the model is not too
                big for one file; what is outside is copied to ``<path>.data``.
            size_threshold: bytes.
            share_data: let tensors that are outside refer to the files that they are in already,
                which must be in the folder of `path`, and are then needed by both models.
            progress: called with the number of bytes of each piece written.

        Raises:
            InvalidArgument: the file cannot be written, or the model is larger than 2 GB.
            Fail, InvalidGraph: external data cannot be had.
        """
        self._document.save(
            path,
            external_data=external_data,
            size_threshold=size_threshold,
            share_data=share_data,
            progress=progress,
        )
        return self

    def __repr__(self) -> str:
        graph = self._document.proto.graph
        return (
            f"<Editor of {self._document.path or graph.name!r}: {len(graph.node)} nodes, "
            f"{len(graph.input)} inputs, {len(graph.output)} outputs, "
            f"{len(self._history.done)} edits>"
        )


def _list(names: Sequence[str] | None) -> str:
    return "all" if names is None else ", ".join(map(repr, names))


def _size(size: Any) -> str:
    return repr(size) if isinstance(size, (str, int)) else f"[{', '.join(map(str, size))}]"
