# SPDX-License-Identifier: Apache-2.0
"""A ModelProto that is being rewritten: names, initializers, who makes and who reads a value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bascule.ir.walk import graphs_in, graphs_of

Array = np.ndarray[Any, Any]
Source: TypeAlias = str | os.PathLike[str] | onnx.ModelProto


def load(model: Source) -> onnx.ModelProto:
    """A model to be changed: a copy, or what a file has."""
    if isinstance(model, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    return onnx.load(os.fspath(model))


def save(
    model: onnx.ModelProto, path: str | os.PathLike[str], use_external_data_format: bool = False
) -> None:
    """Write a model, its tensors to ``<path>.data`` if that is asked for."""
    target = os.fspath(path)
    if use_external_data_format:
        location = Path(target).name + ".data"
        Path(target).with_name(location).unlink(missing_ok=True)  # onnx would add to it
        onnx.save(model, target, save_as_external_data=True, location=location)
    else:
        onnx.save(model, target)


class ONNXModel:
    """A model and what is known of its main graph.

    Constant nodes become initializers when it is made.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._lift_constants()
        self.initializers = {each.name: each for each in self.graph.initializer}
        self._names = {name for node in self.graph.node for name in (*node.output, node.name)}
        self._names |= set(self.initializers) | {each.name for each in self.graph.input}
        self.values: dict[str, Array] = {}

    @property
    def graph(self) -> onnx.GraphProto:
        """The main graph."""
        return self.model.graph

    def _lift_constants(self) -> None:
        kept = []
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                made = self.graph.initializer.add()
                made.CopyFrom(node.attribute[0].t)
                made.name = node.output[0]
            else:
                kept.append(node)
        self.set_nodes(kept)

    def set_nodes(self, nodes: list[onnx.NodeProto]) -> None:
        """Put these nodes in the place of all."""
        copies = [helper.make_node("Identity", ["x"], ["y"]) for _ in nodes]
        for copy, node in zip(copies, nodes):
            copy.CopyFrom(node)
        del self.graph.node[:]
        self.graph.node.extend(copies)

    def unique(self, name: str) -> str:
        """A name that nothing has yet."""
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found

    def array(self, name: str) -> Array | None:
        """The value of an initializer; None for what is none."""
        if name not in self.initializers:
            return None
        if name not in self.values:
            self.values[name] = numpy_helper.to_array(self.initializers[name])
        return self.values[name]

    def add(self, name: str, array: Array, element_type: int | None = None) -> str:
        """A new initializer, of an element type that NumPy may not have; returns its name."""
        unique = self.unique(name)
        made = numpy_helper.from_array(np.asarray(array), unique)
        if element_type is not None and made.data_type != element_type:
            raise TypeError(f"initializer '{name}' has type {made.data_type}, not {element_type}")
        self.graph.initializer.append(made)
        self.initializers[unique] = self.graph.initializer[-1]
        return unique

    def remove_unused(self) -> None:
        """Forget initializers that nothing reads."""
        used = {value.name for value in self.graph.output}
        for graph in graphs_in(self.graph):
            used |= {name for node in graph.node for name in node.input}
            used |= {value.name for value in graph.output}
        kept = [each for each in self.graph.initializer if each.name in used]
        gone = {each.name for each in self.graph.initializer} - used
        inputs = [value for value in self.graph.input if value.name not in gone]
        if gone:
            for field, values in ((self.graph.initializer, kept), (self.graph.input, inputs)):
                copies = [type(value).FromString(value.SerializeToString()) for value in values]
                del field[:]
                field.extend(copies)

    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """The nodes that read each value; those with a graph that does count as well."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            names = set(node.input)
            for graph in (graph for inner in graphs_of(node) for graph in graphs_in(inner)):
                names |= {name for each in graph.node for name in each.input}
                names |= {value.name for value in graph.output}
            for name in names:
                found.setdefault(name, []).append(node)
        return found

    def element_types(self) -> dict[str, int]:
        """The element type of each tensor whose type is declared or inferred."""
        inferred = onnx.shape_inference.infer_shapes(self.model).graph
        known = {each.name: int(each.data_type) for each in self.graph.initializer}
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            if value.type.HasField("tensor_type"):
                known[value.name] = int(value.type.tensor_type.elem_type)
        return known

    def opset(self) -> int:
        """The version of the standard's operators."""
        versions = [int(e.version) for e in self.model.opset_import if e.domain in ("", "ai.onnx")]
        return versions[0] if versions else 1

    def raise_opset(self, version: int) -> None:
        """Bring the standard's operators to a version, if they are older."""
        if self.opset() < version:
            converted = onnx.version_converter.convert_version(self.model, version)
            self.__init__(converted)  # type: ignore[misc]

    def import_domain(self, domain: str, version: int = 1) -> None:
        """Import a domain if it is not yet."""
        if all(each.domain != domain for each in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(domain, version))

    def save_model_to_file(
        self, output_path: str | os.PathLike[str], use_external_data_format: bool = False
    ) -> None:
        """Write the model; see save."""
        save(self.model, output_path, use_external_data_format)


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    for each in node.attribute:
        if each.name == name:
            return helper.get_attribute_value(each)
    return default


FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
"""Element types that are quantized."""
