# SPDX-License-Identifier: Apache-2.0
"""Which of the algorithms that cuBLASLt proposes for a product is fastest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bascule.providers.cuda.device import Device
from bascule.providers.cuda.libraries.cublaslt import CublasLt, MatMulPlan, Problem
from bascule.providers.cuda.tuning import copies, fastest


def fastest_algorithm(
    device: Device, library: CublasLt, plan: MatMulPlan, a: int, b: int, c: int, d: int, bias: int
) -> int:
    """The number of the algorithm; the arguments are those of `plan.run`, D is overwritten."""
    problem = plan.problem
    key = f"cublasLt {library.version} {library.tf32} {problem}"
    room: _Room | None = None

    def start(number: int) -> Callable[[int], None]:
        nonlocal room
        room = room or _room(device, plan, b)
        addresses, workspace = room.addresses, room.workspace
        plan.take(number)
        stream = device.stream.ptr

        def run(turn: int) -> None:
            plan.run(a, addresses[turn % len(addresses)], c, d, bias, workspace, stream)

        return run

    return fastest(device, key, len(plan.algorithms), start)


@dataclass(frozen=True)
class _Room:
    """Memory to time a product in."""

    addresses: list[int]
    """Of B and its copies."""
    workspace: int
    owners: tuple[object, ...]


def _room(device: Device, plan: MatMulPlan, b: int) -> _Room:
    addresses, owner = copies(device, b, _bytes_of_b(plan.problem))
    most = max(int(each.workspace) for each in plan.algorithms)
    workspace, memory = device.allocate(max(most, 1))
    return _Room(addresses, workspace, (owner, memory))


def _bytes_of_b(problem: Problem) -> int:
    matrices = problem.batch if problem.b_stride else 1
    rows, columns = (problem.n, problem.k) if problem.transpose_b else (problem.k, problem.n)
    matrix = (rows - 1) * (problem.b_row or columns) + columns
    return ((matrices - 1) * problem.b_stride + matrix) * problem.dtype.numpy.itemsize
