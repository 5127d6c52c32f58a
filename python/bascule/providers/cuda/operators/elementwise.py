# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators, alone and fused, as generated kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bascule.ir.graph import FUSED_DOMAIN, Graph, Node
from bascule.providers.cuda import broadcasting, expressions
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.device import Argument, Struct
from bascule.providers.cuda.elementwise_functions import OPERATORS, Refused
from bascule.providers.cuda.expressions import Program, body_program, node_program
from bascule.providers.cuda.registry import FIXED_WIDTH, kernel
from bascule.providers.cuda.tensor import Tensor

_SPECIAL = frozenset(("Cast", "DequantizeLinear", "Identity", "QuantizeLinear"))
_THREADS = 256


def refusal(node: Node) -> str:
    """Why there is no kernel for a node that is elementwise; empty when there is one."""
    try:
        _make(node)
    except Refused as refused:
        return str(refused)
    return ""


def _make(node: Node) -> Program:
    if node.is_op("Elementwise", domain=FUSED_DOMAIN):
        body = node.attribute("body")
        if not isinstance(body, Graph):
            raise Refused("attribute body is missing")
        return body_program(body, node.inputs)
    return node_program(node)


def program_of(call: Call) -> Program:
    """The kernel of the call's node."""
    made: Program = call.prepared("elementwise program", lambda call: _make(call.node))
    return made


@kernel(*(name for name in OPERATORS if "." not in name and name not in _SPECIAL), accepts=refusal)
@kernel("Elementwise", "QLinearAdd", domain=FUSED_DOMAIN, accepts=refusal)
def elementwise(call: Call, *inputs: Tensor | None) -> Tensor | tuple[Tensor, ...]:
    program = program_of(call)
    if len(inputs) == 1 and call.node.is_op("Max", "Mean", "Min", "Sum") and inputs[0] is not None:
        return inputs[0]
    operands = [tensor for index in program.operands if (tensor := inputs[index]) is not None]
    for place in program.scalars:
        if operands[place].size != 1:
            raise call.error(f"an operand of shape {operands[place].shape} is not a scalar")
    shapes = [t.shape for k, t in enumerate(operands) if k not in program.scalars]
    try:
        shape = np.broadcast_shapes(*shapes, *program.constant_shapes)
    except ValueError:
        raise call.error(f"the shapes {shapes} do not broadcast") from None
    results = launch(call, program, shape, operands)
    return results if len(results) > 1 else results[0]


@kernel("Identity")
def identity(call: Call, x: Tensor) -> Tensor:
    return x


@kernel("Cast", accepts=refusal)
def cast(call: Call, x: Tensor) -> Tensor:
    if x.dtype is call.dtype():
        return x
    program = program_of(call)  # which has a constant of one element inside
    return launch(call, program, x.shape, [x] if program.operands else [])[0]


def _bit_cast_refusal(node: Node) -> str:
    dtypes = [value.dtype for value in (*node.inputs[:1], node.output) if value is not None]
    if any(dtype is None or dtype not in FIXED_WIDTH for dtype in dtypes):
        return "a type is not of fixed width"
    bits = [dtype.bits for dtype in dtypes if dtype is not None]
    return "the types differ in width" if len(set(bits)) != 1 else ""


@kernel("BitCast", accepts=_bit_cast_refusal)
def bit_cast(call: Call, x: Tensor) -> Tensor:
    return x.viewed(call.dtype())


def launch(
    call: Call, program: Program, shape: Sequence[int], operands: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Run a generated kernel on operands that broadcast to `shape`."""
    results = tuple(call.empty(shape, dtype) for dtype in program.results)
    if results[0].size:
        _launch(call, program, tuple(shape), operands, results)
    return results


def _launch(
    call: Call,
    program: Program,
    shape: tuple[int, ...],
    operands: Sequence[Tensor],
    results: Sequence[Tensor],
) -> None:
    layout = broadcasting.layout(shape, operands, results, program.width)
    if layout is None:
        _launch_parts(call, program, shape, operands, results)
        return
    arguments: list[Argument] = [*operands, *results, Struct(layout)]
    if program.constants:
        arguments.append(Struct(program.constants))
    vectors = -(-results[0].size // program.width)
    # Small tensors in small blocks, so that every multiprocessor has a part.
    threads = _THREADS if vectors >= 2 * _THREADS * call.device.processors else _THREADS // 2
    blocks = min(-(-vectors // threads), 32 * call.device.processors)
    call.launch_generated(program.source, expressions.NAME, blocks, threads, *arguments)


def _launch_parts(
    call: Call,
    program: Program,
    shape: tuple[int, ...],
    operands: Sequence[Tensor],
    results: Sequence[Tensor],
) -> None:
    """A launch for each half of the outermost dimension that has more than one element."""
    axis = next(d for d, size in enumerate(shape) if size > 1)
    inner, half = shape[axis + 1 :], shape[axis] // 2
    for start, size in ((0, half), (half, shape[axis] - half)):
        _launch(
            call,
            program,
            (size, *inner),
            [_at(tensor, len(inner), start, size) for tensor in operands],
            [_at(tensor, len(inner), start, size) for tensor in results],
        )


def _at(tensor: Tensor, rank: int, start: int, size: int) -> Tensor:
    """The part of an operand that `size` indices of the result from `start` on read."""
    inner = tensor.shape[max(tensor.rank - rank, 0) :]
    if tensor.rank > rank and tensor.shape[tensor.rank - rank - 1] > 1:
        return tensor.part(start * math.prod(inner), (size, *inner))
    return tensor.reshaped(inner)
