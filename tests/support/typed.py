# SPDX-License-Identifier: Apache-2.0
"""Nodes of one operator in every element type that its newest schema allows.

A Case says of what material its inputs are; `bindings` gives every choice of types for the type
parameters of the schema, and `node_model` puts one node for each of several bindings in a model.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.defs import OpSchema

from bascule.ir.dtype import DataType

_DTYPES = {dtype.onnx_name: dtype for dtype in DataType}
COMPLEX = (DataType.COMPLEX64, DataType.COMPLEX128)


@dataclass(frozen=True)
class TypeText:
    """A type as schemas write it: "tensor(float)", "seq(tensor(int8))", "optional(...)"."""

    text: str

    @functools.cached_property
    def dtype(self) -> DataType:
        """The element type of the tensors, or of a map's values."""
        return _DTYPES[re.findall(r"\w+", self.text)[-1]]

    @functools.cached_property
    def containers(self) -> tuple[str, ...]:
        """What is around the tensor, the outermost first: ("optional", "seq")."""
        return tuple(re.findall(r"(seq|optional|map)\(", self.text))

    @property
    def is_sequence(self) -> bool:
        return "seq" in self.containers

    @property
    def is_map(self) -> bool:
        return self.containers == ("map",)

    def key(self, number: int) -> Any:
        """A key of a map."""
        return number if "map(int64" in self.text else f"key{number}"

    def with_dtype(self, dtype: DataType) -> TypeText:
        return TypeText(re.sub(r"\w+(\)+)$", rf"{dtype.onnx_name}\1", self.text))

    def proto(self, shape: Sequence[int | None] | None = None) -> onnx.TypeProto:
        proto = helper.make_tensor_type_proto(int(self.dtype), shape)
        for container in reversed(self.containers):
            if container == "seq":
                proto = helper.make_sequence_type_proto(proto)
            elif container == "optional":
                proto = helper.make_optional_type_proto(proto)
            else:
                key = _DTYPES[re.findall(r"map\((\w+)", self.text)[0]]
                proto = helper.make_map_type_proto(int(key), proto)
        return proto


Binding = dict[str, TypeText]
"""What each type parameter of a schema stands for."""


def widened(type: TypeText) -> TypeText:
    """The type in which references compute."""
    dtype = type.dtype
    if dtype.is_float:
        return type.with_dtype(DataType.DOUBLE)
    if dtype in COMPLEX:
        return type.with_dtype(DataType.COMPLEX128)
    return type


def widen_value(value: Any) -> Any:
    """A value of whatever structure with the elements of `widened`."""
    if isinstance(value, list):
        return [widen_value(item) for item in value]
    if isinstance(value, dict):
        return {key: widen_value(item) for key, item in value.items()}
    if not isinstance(value, np.ndarray):
        return value
    dtype = DataType.from_numpy(value.dtype)
    return value.astype(widened(TypeText(f"tensor({dtype.onnx_name})")).dtype.numpy)


def integer_range(dtype: DataType) -> tuple[int, int]:
    bits = int(re.sub(r"\D", "", dtype.onnx_name))
    if dtype.name.startswith("U"):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


# --- what inputs are made of


@dataclass(frozen=True)
class Numbers:
    """Random elements: multiples of `step` that float16 and bfloat16 hold exactly.

    Integers come from `integers`, or from the whole range of their type with its ends; strings
    are words, some of them empty.
    """

    shape: tuple[int, ...]
    low: float = -4
    high: float = 4
    step: float = 1 / 16
    integers: tuple[int, int] | None = None
    distinct: bool = False
    nonzero: bool = False
    digits: bool = False
    """Strings are numbers, for operators that read them."""

    def __call__(self, dtype: DataType, random: np.random.Generator) -> np.ndarray[Any, Any]:
        if dtype is DataType.BOOL:
            return random.integers(0, 2, self.shape).astype(bool)
        if dtype is DataType.STRING:
            words = [str(k) if self.digits else f"{chr(97 + k % 26)}{k}" for k in range(1, 64)]
            return np.array(["0" if self.digits else "", *words], object)[
                self._ticks(0, 63, random)
            ]
        if dtype is DataType.FLOAT8E8M0:
            return (2.0 ** self._ticks(-3, 3, random)).astype(dtype.numpy)
        if dtype.is_integer:
            return self._integers(dtype, random)
        real = self._ticks(round(self.low / self.step), round(self.high / self.step), random)
        real = real * self.step
        if dtype in COMPLEX:
            return (real + 1j * random.permuted(real)).astype(dtype.numpy)
        return real.astype(dtype.numpy)

    def _ticks(self, low: int, high: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
        if self.distinct:
            return random.choice(np.arange(low, high + 1), self.shape, replace=False)
        ticks = random.integers(low, high + 1, self.shape)
        return np.where(ticks == 0, 1, ticks) if self.nonzero else ticks

    def _integers(self, dtype: DataType, random: np.random.Generator) -> np.ndarray[Any, Any]:
        low, high = integer_range(dtype)
        if self.integers is not None:
            low, high = max(low, self.integers[0]), min(high, self.integers[1])
        wide = np.uint64 if low >= 0 else np.int64
        count = int(np.prod(self.shape))
        if self.distinct and high - low < 4 * count:
            values = random.permutation(np.arange(low, high + 1))[:count]
        else:
            values = random.integers(low, high, count, dtype=wide, endpoint=True)
            if not self.distinct and count > 1:
                values[random.permutation(count)[:2]] = low, high
        if self.nonzero:
            values[values == 0] = 1
        return values.astype(wide).reshape(self.shape).astype(dtype.numpy)


@dataclass(frozen=True)
class Fixed:
    """The elements given, in any type."""

    values: Any

    def __call__(self, dtype: DataType, random: np.random.Generator) -> np.ndarray[Any, Any]:
        if dtype is DataType.STRING:
            return np.array(self.values, dtype=str).astype(object)
        return np.asarray(self.values).astype(dtype.numpy)


Material = Callable[[DataType, np.random.Generator], "np.ndarray[Any, Any]"]


def numbers(*shape: int, **options: Any) -> Numbers:
    return Numbers(shape, **options)


def small(*shape: int, high: int = 4, **options: Any) -> Numbers:
    """Numbers that stay small in integer types too."""
    return Numbers(shape, integers=(-high, high), **options)


def fixed(values: Any) -> Fixed:
    return Fixed(values)


# --- cases

Reference = Callable[..., Any]


def fill(material: Material, type: TypeText, seed: int) -> Any:
    """A value of the type; a sequence has two items, a map the keys 1 to n."""
    random = np.random.default_rng(seed)
    if type.is_map:
        elements = material(type.dtype, random).tolist()
        return {type.key(number): element for number, element in enumerate(elements, 1)}
    if type.is_sequence:
        return [material(type.dtype, random) for _ in range(2)]
    return material(type.dtype, random)


@dataclass(frozen=True)
class Case:
    """An operator, the material of its inputs (None: left out), and its attributes.

    An attribute may be a function of the binding, and of the material's generator where it holds a
    tensor. `outputs` counts those asked for. `allows` leaves out bindings that the operator's text
    excludes. `expect` computes the outputs from inputs in the widest type; without it
    onnx.reference does, or bascule itself where `own` is set.
    """

    op_type: str
    inputs: tuple[Material | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    domain: str = ""
    allows: Callable[[Binding], bool] = lambda binding: True
    expect: Reference | None = None
    own: bool = False
    tolerance: float = 1.0
    captured: Material | None = None
    """What nested graphs read from outside, as an input of the type that `V` stands for."""
    parameters: tuple[str, ...] = ()
    """The type parameters of the inputs, where the schema has one for all of them."""
    opset: int | None = None
    """The opset of a deprecated operator; None for the newest."""
    before: Callable[[list[str]], tuple[list[onnx.NodeProto], dict[str, Any]]] | None = None
    """Nodes that come first, and attributes that name values, by the names of the inputs."""
    label: str = ""
    constants: tuple[int, ...] = ()
    """The inputs that no caller can replace."""

    @functools.cached_property
    def schema(self) -> OpSchema:
        if self.opset is not None:
            return onnx.defs.get_schema(self.op_type, self.opset, self.domain)
        return onnx.defs.get_schema(self.op_type, domain=self.domain)

    @property
    def name(self) -> str:
        return f"{self.op_type}-{self.label}" if self.label else self.op_type

    def input_type(self, index: int, binding: Binding) -> TypeText:
        if self.parameters:
            return binding[self.parameters[index]]
        return _formal_type(self.schema.inputs, index, binding)

    def output_type(self, index: int, binding: Binding) -> TypeText:
        return _formal_type(self.schema.outputs, index, binding)

    def feeds(self, binding: Binding) -> list[Any]:
        """An array, or a list of arrays, for each input."""
        result: list[Any] = []
        for index, material in enumerate(self.inputs):
            if material is None:
                result.append(None)
                continue
            type = self.input_type(index, binding)
            result.append(fill(material, type, index))
        return result

    def attributes_for(self, binding: Binding, captured: str = "") -> dict[str, Any]:
        return {
            key: value(binding, captured) if callable(value) else value
            for key, value in self.attributes.items()
        }


def _formal_type(
    formals: Sequence[OpSchema.FormalParameter], index: int, binding: Binding
) -> TypeText:
    text = formals[min(index, len(formals) - 1)].type_str
    return binding.get(text) or TypeText(text)


def used_parameters(case: Case) -> dict[str, list[TypeText]]:
    """The type parameters that the inputs and outputs of a case stand for, with what is allowed."""
    schema = case.schema
    formals = [
        schema.inputs[min(i, len(schema.inputs) - 1)]
        for i, m in enumerate(case.inputs)
        if m is not None
    ]
    formals += [schema.outputs[min(i, len(schema.outputs) - 1)] for i in range(case.outputs)]
    used = {formal.type_str for formal in formals} | set(case.parameters)
    return {
        constraint.type_param_str: [TypeText(text) for text in sorted(constraint.allowed_type_strs)]
        for constraint in schema.type_constraints
        if constraint.type_param_str in used
    }


def bindings(case: Case) -> Iterator[Binding]:
    """Every choice of types that the schema allows."""
    parameters = used_parameters(case)
    for types in itertools.product(*parameters.values()):
        binding = dict(zip(parameters, types))
        if case.allows(binding):
            yield binding


@dataclass
class Call:
    """One node of a model that `node_model` made: its binding, and what it is fed."""

    case: Case
    binding: Binding
    inputs: list[Any]
    feeds: dict[str, Any]
    outputs: list[str]


def node_model(case: Case, chosen: Sequence[Binding]) -> tuple[onnx.ModelProto, list[Call]]:
    """A model with a node of the operator for each binding, all apart from each other."""
    nodes, graph_inputs, graph_outputs, constants, calls = [], [], [], [], []
    for number, binding in enumerate(chosen):
        names, feeds, arrays = [], {}, case.feeds(binding)
        for index, value in enumerate(arrays):
            if value is None:
                names.append("")
                continue
            name = f"x{number}_{index}"
            names.append(name)
            if index in case.constants:
                constants.append(tensor_proto(value, name))
                continue
            type = case.input_type(index, binding)
            feeds[name] = value
            shape = None if type.containers else value.shape
            graph_inputs.append(helper.make_value_info(name, type.proto(shape)))
        results = [f"y{number}_{index}" for index in range(case.outputs)]
        for index, name in enumerate(results):
            graph_outputs.append(
                helper.make_value_info(name, case.output_type(index, binding).proto())
            )
        captured = ""
        if case.captured is not None:
            captured = f"captured{number}"
            feeds[captured] = fill(case.captured, binding["V"], 100)
            graph_inputs.append(helper.make_value_info(captured, binding["V"].proto()))
        attributes = case.attributes_for(binding, captured)
        if case.before is not None:
            first, naming = case.before(names)
            nodes.extend(first)
            attributes |= naming
        nodes.append(
            helper.make_node(
                case.op_type, names, results, f"node{number}", domain=case.domain, **attributes
            )
        )
        calls.append(Call(case, binding, arrays, feeds, results))
    graph = helper.make_graph(nodes, "types", graph_inputs, graph_outputs, constants)
    versions = {"": onnx.defs.onnx_opset_version()}
    if case.opset is not None or case.domain:
        versions[case.domain] = case.opset or case.schema.since_version
    opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    return helper.make_model(graph, opset_imports=opsets), calls


def tensor_proto(array: np.ndarray[Any, Any], name: str = "") -> onnx.TensorProto:
    dtype = DataType.from_numpy(array.dtype)
    if dtype is DataType.STRING:
        return helper.make_tensor(name, int(dtype), array.shape, [s.encode() for s in array.flat])
    return onnx.numpy_helper.from_array(array, name)
