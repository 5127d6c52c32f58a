# SPDX-License-Identifier: Apache-2.0
"""Products by cuBLASLt, and our kernel for what it leaves to do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.providers.cuda.activation import NO_ACTIVATION
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.libraries.cublaslt import ACTIVATIONS, MatMulPlan, Problem
from bascule.providers.cuda.libraries.cublaslt_tuning import fastest_algorithm
from bascule.providers.cuda.operators.product import Axis, Epilogue, Product
from bascule.providers.cuda.registry import FLOATS
from bascule.providers.cuda.tensor import Tensor

_MOST_CALLS = 64
"""Products of a batch that the library is called for one by one, at most."""
_ACTIVATING = 128
"""Threads of a block: few, so that small results reach all processors."""
_VECTOR = 16


def multiply_by_library(call: Call, p: Product, y: Tensor) -> bool:
    """By cuBLASLt, if it is there and can do it."""
    library = call.device.cublas
    if library is None or p.k == 0 or p.a.dtype not in FLOATS:
        return False
    strided = max(p.batch, key=lambda axis: axis.size, default=Axis(1, 0, 0, p.m * p.n))
    rest = [axis for axis in p.batch if axis is not strided]
    if math.prod(axis.size for axis in rest) > _MOST_CALLS:
        return False
    problem = _problem(p, y, strided, rest)

    def make(_: Call) -> Any:
        return _plan(library, problem)

    plan, done = call.planned(f"plan {problem}", make)
    if plan is None:
        return False
    addend = p.epilogue.residual or y
    bias = p.epilogue.bias if done.bias else None
    places = []
    for index in itertools.product(*(range(axis.size) for axis in rest)):
        moved = [(at, axis) for at, axis in zip(index, rest, strict=True)]
        to_a, to_b, to_y = (
            sum(at * getattr(axis, name) for at, axis in moved) * tensor.itemsize
            for name, tensor in (("a", p.a), ("b", p.b), ("y", y))
        )
        places.append(
            (p.a.address + to_a, p.b.address + to_b, addend.address + to_y, y.address + to_y)
        )
    run_plan(call, plan, places, bias)
    left = Epilogue(
        bias=None if done.bias else p.epilogue.bias,
        activation=NO_ACTIVATION if done.activation else p.epilogue.activation,
    )
    if not left.is_plain:
        activate(call, y, p.n, left)
    return True


def run_plan(
    call: Call, plan: MatMulPlan, places: Sequence[tuple[int, int, int, int]], bias: Tensor | None
) -> None:
    """Run a plan of the device's library at each of these addresses of A, B, C and D.

    The first of them serve to choose its algorithm, if that is still to be done.
    """
    library, bias_address = call.device.cublas, 0 if bias is None else bias.address
    if not library.is_settled(plan.problem):
        fastest = fastest_algorithm(call.device, library, plan, *places[0], bias_address)
        library.settle(plan, fastest)
    workspace = call.workspace(plan.workspace) if plan.workspace else None
    address = 0 if workspace is None else workspace.address
    for place in places:
        plan.run(*place, bias_address, address, call.device.stream.ptr)


def _problem(p: Product, y: Tensor, strided: Axis, rest: Sequence[Axis]) -> Problem:
    steps = [
        (axis.a | axis.b) * p.a.itemsize | axis.y * y.itemsize for axis in (*rest, strided)
    ]  # the lowest bit set in any of them
    addresses = p.a.address | p.b.address | y.address | _VECTOR
    if p.epilogue.residual is not None:
        addresses |= p.epilogue.residual.address
    bits = addresses
    for step in steps if p.batch else ():
        bits |= step
    return Problem(
        p.a.dtype,
        p.m,
        p.n,
        p.k,
        p.transpose_a,
        p.transpose_b,
        strided.size,
        strided.a,
        strided.b,
        strided.y,
        alpha=p.epilogue.alpha,
        beta=1.0 if p.epilogue.residual is not None else 0.0,
        bias=p.epilogue.bias is not None,
        activation=p.epilogue.activation.name,
        alignment=bits & -bits,
        wide=y.dtype is not p.a.dtype,
    )


@dataclass(frozen=True, slots=True)
class _Done:
    """What a plan does besides the product itself."""

    bias: bool
    activation: bool


def _plan(library: Any, wanted: Problem) -> tuple[Any, _Done]:
    """The plan that does most of what is wanted."""
    # Its Gelu is as accurate as float32 is, in float64 too.
    coarse = wanted.activation == "GeluTanh" and wanted.dtype is DataType.DOUBLE
    choices = [wanted] if wanted.activation in ACTIVATIONS and not coarse else []
    choices += [replace(wanted, activation=""), replace(wanted, activation="", bias=False)]
    for problem in dict.fromkeys(choices):
        plan = library.plan(problem)
        if plan is not None:
            done = _Done(problem.bias or not wanted.bias, problem.activation == wanted.activation)
            return plan, done
    return None, _Done(False, False)


def activate(call: Call, y: Tensor, n: int, epilogue: Epilogue) -> None:
    """What the library could not do, on its result in place."""
    width = _VECTOR // y.itemsize
    in_vectors = n % width == 0 and y.address % _VECTOR == 0
    items = y.size // width if in_vectors else y.size
    call.launch(
        "activate",
        f"activate_{type_name(y.dtype)}",
        min(-(-items // _ACTIVATING), 1 << 20),
        _ACTIVATING,
        *(y, np.int64(y.size), np.int64(n), np.int32(in_vectors)),
        *epilogue.arguments,
    )
