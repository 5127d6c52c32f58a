# SPDX-License-Identifier: Apache-2.0
"""CUDA C++ of elementwise nodes, one kernel for a graph of them.

The text depends on the operators, their attributes and the element types only: constants of one
element are passed as an argument, so nodes that differ in these share a kernel, and so do all
shapes. Every operator's result is rounded to its element type, as if it were run alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Node, Value
from bascule.providers.cuda.elementwise_functions import (
    SCALARS,
    Refused,
    c_type,
    float_literal,
    result_dtype,
    write,
)

NAME = "elementwise"
"""Of every generated kernel."""
_MOST_OPERANDS = 32  # a bit of Layout's masks each
_MOST_RESULTS = 64


@dataclass(frozen=True, slots=True)
class Program:
    """A generated kernel: its operands, its results, and the text."""

    source: str
    operands: tuple[int, ...]
    """The numbers of the node's inputs that are read from memory."""
    scalars: frozenset[int]
    """Positions in `operands` that have one element and no part in the result's shape."""
    constant_shapes: tuple[tuple[int, ...], ...]
    """The shapes of the other inputs, which are one element each."""
    results: tuple[DataType, ...]
    constants: bytes
    """The struct of constants; empty when there is none."""
    width: int
    """How many neighbouring elements a thread computes."""


@dataclass(slots=True)
class _Constants:
    """The fields of the struct of constants, widest first, so that there are no gaps."""

    fields: list[tuple[DataType, bytes, str]] = field(default_factory=list)

    def add(self, value: Value) -> str:
        assert value.constant is not None
        dtype, data = value.constant.dtype, value.constant.numpy().tobytes()
        self.fields.append((dtype, data, f"c{len(self.fields)}"))
        return f"constants.{self.fields[-1][2]}"

    def _sorted(self) -> list[tuple[DataType, bytes, str]]:
        return sorted(self.fields, key=lambda each: -len(each[1]))

    def declaration(self) -> str:
        fields = " ".join(f"{c_type(dtype)} {name};" for dtype, _, name in self._sorted())
        return f"struct Constants {{ {fields} }};\n"

    def data(self) -> bytes:
        fields = self._sorted()
        joined = b"".join(data for _, data, _ in fields)
        return joined + bytes(-len(joined) % len(fields[0][1])) if fields else b""


def node_program(node: Node) -> Program:
    """The kernel of a single node; Refused says why there is none."""
    return _program([node], node.inputs, node.outputs, {})


def body_program(body: Graph, inputs: Sequence[Value | None]) -> Program:
    """The kernel of a graph of elementwise nodes; `inputs` are those of the node that holds it."""
    if len(inputs) != len(body.inputs) or any(value is None for value in inputs):
        raise Refused("an input of the body is missing")
    passed = dict(body.initializers)
    for name, value in passed.items():
        if value.constant is None or value.constant.size != 1:
            raise Refused(f"constant '{name}' is not one element")
    return _program(body.nodes, body.inputs, body.outputs, passed)


def written_program(
    operands: Sequence[DataType], results: Sequence[DataType], statements: Sequence[str]
) -> Program:
    """The kernel of statements that make ``b0.at[i]`` ... of ``a0.at[i]`` ..."""
    width = _width([*operands, *results])
    source = _text(operands, results, statements, _Constants(), width)
    numbers = tuple(range(len(operands)))
    return Program(source, numbers, frozenset(), (), tuple(results), b"", width)


def _program(
    nodes: Sequence[Node],
    inputs: Sequence[Value | None],
    outputs: Sequence[Value],
    initializers: dict[str, Value],
) -> Program:
    constants = _Constants()
    names: dict[Value, str] = {}
    exponents = _exponents(nodes)
    for value in initializers.values():
        names[value] = exponents.get(value) or constants.add(value)
    operands: list[int] = []
    places: dict[Value, int] = {}
    constant_shapes = []
    part_of_shape = _part_of_shape(nodes)
    for index, each in enumerate(inputs):
        if each is None:
            continue
        if each in names:
            if each.constant is not None and each in part_of_shape:
                constant_shapes.append(each.constant.shape)
            continue
        constant = each.constant
        if constant is not None and constant.size == 1 and constant.dtype.numpy.itemsize <= 8:
            names[each] = exponents.get(each) or constants.add(each)
            if each in part_of_shape:
                constant_shapes.append(constant.shape)
            continue
        names[each] = f"a{len(operands)}.at[i]"
        places[each] = len(operands)
        operands.append(index)
    statements = _statements(nodes, names)
    for position, output in enumerate(outputs):
        if output not in names:
            raise Refused("a result is not computed")
        statements.append(f"b{position}.at[i] = {names[output]};")
    if len(operands) > _MOST_OPERANDS or len(outputs) > _MOST_RESULTS:
        raise Refused(f"{len(operands)} operands and {len(outputs)} results are too many")
    in_types = [_dtype(value) for value in places]
    out_types = tuple(_dtype(output) for output in outputs)
    width = _width([*in_types, *out_types])
    return Program(
        _text(in_types, out_types, statements, constants, width),
        tuple(operands),
        frozenset(place for value, place in places.items() if value not in part_of_shape),
        tuple(constant_shapes),
        out_types,
        constants.data(),
        width,
    )


def _dtype(value: Value) -> DataType:
    if value.dtype is None:
        raise Refused("a type is unknown")
    return value.dtype


def _part_of_shape(nodes: Sequence[Node]) -> set[Value]:
    """The values that say something about the shape of the result: not the bounds of Clip."""
    found: set[Value] = set()
    for node in nodes:
        scalars = SCALARS.get(node.op_type, ())
        found.update(v for i, v in enumerate(node.inputs) if v is not None and i not in scalars)
    return found


def _exponents(nodes: Sequence[Node]) -> dict[Value, str]:
    """Constant exponents as literals, so that the compiler sees a square as a product."""
    found = {}
    for node in nodes:
        value = node.input(1) if node.is_op("Pow") else None
        if value is None or value.constant is None or value.constant.size != 1:
            continue
        if any(not use.node.is_op("Pow") or use.index != 1 for use in value.uses):
            continue
        dtype, number = value.constant.dtype, value.constant.numpy().reshape(())[()]
        if dtype.is_integer and abs(int(number)) < 1 << 31:
            found[value] = f"{c_type(dtype)}({int(number)})"
        elif dtype in (DataType.FLOAT, DataType.DOUBLE):
            found[value] = float_literal(float(number), dtype)
        elif dtype in (DataType.FLOAT16, DataType.BFLOAT16):
            found[value] = f"narrow<{c_type(dtype)}>({float_literal(float(number))})"
    return found


def _statements(nodes: Sequence[Node], names: dict[Value, str]) -> list[str]:
    statements: list[str] = []
    for node in nodes:
        if len(node.outputs) != 1:
            raise Refused(f"{node.op_type} has not one output")
        if any(value is not None and value not in names for value in node.inputs):
            raise Refused(f"{node.op_type} reads a value from outside")
        inputs = ["" if value is None else names[value] for value in node.inputs]
        try:
            expression = write(node, inputs)
        except Refused as refused:
            raise Refused(f"{node.op_type}: {refused}") from None
        name = f"t{len(statements)}"
        statements.append(f"const {c_type(result_dtype(node))} {name} = {expression};")
        names[node.output] = name
    return statements


def _width(dtypes: Sequence[DataType]) -> int:
    """Elements that fill 16 bytes of the widest type; four at least."""
    return max(4, 16 // max(dtype.numpy.itemsize for dtype in dtypes))


def _text(
    operands: Sequence[DataType],
    results: Sequence[DataType],
    statements: Sequence[str],
    constants: _Constants,
    width: int,
) -> str:
    count = max(len(operands), 1)
    parameters = [f"const {c_type(dtype)}* x{k}" for k, dtype in enumerate(operands)]
    parameters += [f"{c_type(dtype)}* y{k}" for k, dtype in enumerate(results)]
    parameters.append("const __grid_constant__ Operands operands")
    if constants.fields:
        parameters.append("const Constants constants")
    loads = [f"const auto a{k} = at.load(x{k}, {k});" for k in range(len(operands))]
    made = [f"Elements<{c_type(dtype)}, {width}> b{k};" for k, dtype in enumerate(results)]
    stores = [f"at.store(y{k}, b{k});" for k in range(len(results))]
    lines = [
        f'extern "C" __global__ void {NAME}({", ".join(parameters)}) {{',
        "  wait_for_previous_kernels();",
        f"  for (Vectors<{width}, {count}> at(operands); at.more(); at.next()) {{",
        *(f"    {line}" for line in (*loads, *made)),
        "#pragma unroll",
        f"    for (int i = 0; i < {width}; ++i) {{",
        *(f"      {line}" for line in statements),
        "    }",
        *(f"    {line}" for line in stores),
        "  }",
        "}",
    ]
    declared = constants.declaration() if constants.fields else ""
    head = f'#include "elementwise.cuh"\nusing Operands = Layout<{count}>;\n{declared}'
    return head + "\n".join(lines) + "\n"
