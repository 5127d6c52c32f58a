# SPDX-License-Identifier: Apache-2.0
"""LSTM, GRU and RNN."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.libraries.cublaslt import Problem
from bascule.providers.cuda.libraries.cublaslt_tuning import fastest_algorithm
from bascule.providers.cuda.registry import FLOATS, kernel
from bascule.providers.cuda.tensor import Tensor

_BLOCK = 256
_WARPS = _BLOCK // 32
_ALIGNMENT = 16

# name: (number in recurrent.cu, how many parameters it takes from the lists, alpha, beta)
_ACTIVATIONS = {
    "sigmoid": (0, 0, 0.0, 0.0),
    "tanh": (1, 0, 0.0, 0.0),
    "relu": (2, 0, 0.0, 0.0),
    "affine": (3, 2, 1.0, 0.0),
    "leakyrelu": (4, 1, 0.01, 0.0),
    "thresholdedrelu": (5, 1, 1.0, 0.0),
    "scaledtanh": (6, 2, 1.0, 1.0),
    "hardsigmoid": (7, 2, 0.2, 0.5),
    "elu": (8, 1, 1.0, 0.0),
    "softsign": (9, 0, 0.0, 0.0),
    "softplus": (10, 0, 0.0, 0.0),
}
_USUAL = {
    "LSTM": ("sigmoid", "tanh", "tanh"),
    "GRU": ("sigmoid", "tanh"),
    "RNN": ("tanh",),
}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _directions(node: Node) -> int:
    return 2 if node.attributes.get("direction", "forward") == "bidirectional" else 1


def _names(node: Node) -> list[str]:
    """The activations of all directions, in small letters."""
    usual = _USUAL[node.op_type] * _directions(node)
    return [str(name).lower() for name in node.attributes.get("activations") or usual]


def _accepts(node: Node) -> str:
    names = _names(node)
    unknown = [name for name in names if name not in _ACTIVATIONS]
    if unknown:
        return f"activation '{unknown[0]}' is not known"
    if len(names) != len(_USUAL[node.op_type]) * _directions(node):
        return f"{len(names)} activations"
    return ""


def _cell(node: Node) -> Struct:
    """Activations and options, as struct Cell."""
    alphas = list(node.attributes.get("activation_alpha") or ())
    betas = list(node.attributes.get("activation_beta") or ())
    kinds, alpha, beta = [0] * 6, [0.0] * 6, [0.0] * 6
    for index, name in enumerate(_names(node)):
        kinds[index], parameters, alpha[index], beta[index] = _ACTIVATIONS[name]
        # Only the activations that have parameters take some from the lists.
        if parameters > 0 and alphas:
            alpha[index] = alphas.pop(0)
        if parameters > 1 and betas:
            beta[index] = betas.pop(0)
    option = node.attributes.get("input_forget", 0) or node.attributes.get("linear_before_reset", 0)
    clip = node.attributes.get("clip", float("inf"))
    count = len(_USUAL[node.op_type])
    return Struct(struct.pack("<6i6f6fiif", *kinds, *alpha, *beta, count, bool(option), clip))


@dataclass(frozen=True, slots=True)
class _Walk:
    """The sizes of a node's run, and what its launches share."""

    call: Call
    steps: int
    batch: int
    hidden: int
    directions: int
    batch_first: bool
    name: str
    wide: DataType
    sizes: Struct
    cell: Struct

    @property
    def state_shape(self) -> tuple[int, int, int]:
        if self.batch_first:
            return self.batch, self.directions, self.hidden
        return self.directions, self.batch, self.hidden

    @property
    def y_shape(self) -> tuple[int, ...]:
        if self.batch_first:
            return self.batch, self.steps, self.directions, self.hidden
        return self.steps, self.directions, self.batch, self.hidden

    def state(self) -> Tensor:
        return self.call.empty((self.directions, self.batch, self.hidden), self.wide)

    def loaded(self, initial: Tensor | None) -> Tensor:
        """A state with what an input says, or zeros."""
        state = self.state()
        grid = -(-state.size // _BLOCK)
        name = f"load_state_{self.name}"
        self.call.launch("recurrent", name, grid, _BLOCK, initial, state, self.sizes)
        return state

    def stored(self, state: Tensor, output: int, dtype: DataType) -> Tensor | None:
        if not self.call.wants(output):
            return None
        result = self.call.empty(self.state_shape, dtype)
        grid = -(-state.size // _BLOCK)
        name = f"store_state_{self.name}"
        self.call.launch("recurrent", name, grid, _BLOCK, state, result, self.sizes)
        return result

    def step(self, kernel_name: str, *arguments: Tensor | None, number: int) -> None:
        grid = -(-self.directions * self.batch * self.hidden // _WARPS)
        rest = (self.sizes, self.cell, np.int64(number))
        name = f"{kernel_name}_{self.name}"
        self.call.launch("recurrent", name, grid, _BLOCK, *arguments, *rest)


def _begin(call: Call, x: Tensor, w: Tensor, r: Tensor) -> _Walk:
    node = call.node
    gates, directions = _GATES[node.op_type], _directions(node)
    batch_first = bool(call.attribute("layout", 0))
    if x.rank != 3 or w.rank != 3 or r.rank != 3:
        raise call.error(f"X, W, R have shapes {x.shape}, {w.shape}, {r.shape}, not of three axes")
    steps, batch = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
    hidden = r.shape[2]
    for name, tensor, size in (("W", w, x.shape[2]), ("R", r, hidden)):
        expected = (directions, gates * hidden, size)
        if tensor.shape != expected:
            raise call.error(f"{name} has shape {tensor.shape}, expected {expected}")
    reverse = call.attribute("direction", "forward") == "reverse"
    numbers = (steps, batch, x.shape[2], hidden, directions, gates, reverse, batch_first)
    wide = DataType.DOUBLE if x.dtype is DataType.DOUBLE else DataType.FLOAT
    sizes = Struct(struct.pack("<4q4i", *numbers))
    return _Walk(
        *(call, steps, batch, hidden, directions, batch_first),
        *(type_name(x.dtype), wide, sizes, _cell(node)),
    )


def _check(
    walk: _Walk,
    bias: Tensor | None,
    lengths: Tensor | None,
    initial_h: Tensor | None,
    **others: tuple[Tensor | None, tuple[int, ...]],
) -> None:
    """The shapes of the optional inputs; `others` are those of one operator, and what they are."""
    gates = _GATES[walk.call.node.op_type]
    shapes = {
        "B": (bias, (walk.directions, 2 * gates * walk.hidden)),
        "sequence_lens": (lengths, (walk.batch,)),
        "initial_h": (initial_h, walk.state_shape),
        **others,
    }
    for name, (tensor, expected) in shapes.items():
        if tensor is not None and tensor.shape != expected:
            raise walk.call.error(f"{name} has shape {tensor.shape}, expected {expected}")


def _projected(walk: _Walk, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """The inputs of all steps times W, with the biases."""
    columns = w.shape[1]
    rows = walk.steps * walk.batch
    projected = walk.call.empty((walk.directions, rows, columns), walk.wide)
    if not projected.size or _by_library(walk, x, w, bias, projected):
        return projected
    grid = (-(-rows // 16) * -(-columns // 16), walk.directions)
    name = f"recurrent_project_{walk.name}"
    arguments = (x, w, bias, projected, walk.sizes, walk.cell)
    walk.call.launch("recurrent", name, grid, 256, *arguments)
    return projected


def _by_library(walk: _Walk, x: Tensor, w: Tensor, bias: Tensor | None, projected: Tensor) -> bool:
    """By cuBLASLt, both directions at once, if it is there and can do it."""
    call, library = walk.call, walk.call.device.cublas
    if library is None or not x.size:
        return False
    directions, rows, columns = projected.shape
    several = directions > 1
    addresses = x.address | w.address | _ALIGNMENT
    if several:
        addresses |= w.shape[1] * w.shape[2] * w.itemsize | rows * columns * projected.itemsize
    problem = Problem(
        x.dtype,
        *(rows, columns, w.shape[2]),
        transpose_b=True,
        batch=directions,
        b_stride=columns * w.shape[2],
        d_stride=rows * columns,
        bias_stride=columns if several and bias is not None else 0,
        bias=bias is not None,
        alignment=addresses & -addresses,
        wide=walk.wide is not x.dtype,
    )
    plan = call.planned(f"plan {problem}", lambda _: library.plan(problem))
    if plan is None:
        return False
    sums = None if bias is None else _summed(walk, bias)
    places = (x.address, w.address, projected.address, projected.address)
    bias_address = 0 if sums is None else sums.address
    if not library.is_settled(problem):
        library.settle(plan, fastest_algorithm(call.device, library, plan, *places, bias_address))
    workspace = call.workspace(plan.workspace) if plan.workspace else None
    room = 0 if workspace is None else workspace.address
    plan.run(*places, bias_address, room, call.device.stream.ptr)
    return True


def _summed(walk: _Walk, bias: Tensor) -> Tensor:
    """What is added to the products with W."""

    def make(call: Call) -> Tensor:
        sums = call.empty((walk.directions, bias.shape[1] // 2), walk.wide)
        grid = -(-sums.size // _BLOCK)
        name = f"recurrent_bias_{walk.name}"
        call.launch("recurrent", name, grid, _BLOCK, bias, sums, walk.sizes, walk.cell)
        return sums

    if not walk.call.is_constant(3):
        return make(walk.call)
    kept: Tensor = walk.call.prepared("bias", make)
    return kept


def _output(walk: _Walk, dtype: DataType, lengths: Tensor | None) -> Tensor | None:
    """Y; zeros where sequences may be shorter."""
    if not walk.call.wants(0):
        return None
    make = walk.call.empty if lengths is None else walk.call.zeros
    return make(walk.y_shape, dtype)


@kernel("LSTM", dtypes=FLOATS, accepts=_accepts)
def lstm(
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Long short-term memory, with any activations, peepholes, and coupled gates."""
    walk = _begin(call, x, w, r)
    peephole_shape = (walk.directions, 3 * walk.hidden)
    cell = (initial_c, walk.state_shape)
    _check(walk, bias, lengths, initial_h, initial_c=cell, P=(peepholes, peephole_shape))
    projected, y = _projected(walk, x, w, bias), _output(walk, x.dtype, lengths)
    h, c, spare = walk.loaded(initial_h), walk.loaded(initial_c), walk.state()
    for number in range(walk.steps):
        arguments = (projected, r, peepholes, lengths, h, spare, c, y)
        walk.step("lstm_step", *arguments, number=number)
        h, spare = spare, h
    return y, walk.stored(h, 1, x.dtype), walk.stored(c, 2, x.dtype)


@kernel("GRU", dtypes=FLOATS, accepts=_accepts)
def gru(
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Gated recurrent units, the reset before or after the product."""
    walk = _begin(call, x, w, r)
    _check(walk, bias, lengths, initial_h)
    projected, y = _projected(walk, x, w, bias), _output(walk, x.dtype, lengths)
    h, spare, update, reset = walk.loaded(initial_h), walk.state(), walk.state(), walk.state()
    for number in range(walk.steps):
        walk.step("gru_gates", projected, r, lengths, h, update, reset, number=number)
        arguments = (projected, r, bias, lengths, h, spare, update, reset, y)
        walk.step("gru_output", *arguments, number=number)
        h, spare = spare, h
    return y, walk.stored(h, 1, x.dtype)


@kernel("RNN", dtypes=FLOATS, accepts=_accepts)
def rnn(
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """The plain recurrent network."""
    walk = _begin(call, x, w, r)
    _check(walk, bias, lengths, initial_h)
    projected, y = _projected(walk, x, w, bias), _output(walk, x.dtype, lengths)
    h, spare = walk.loaded(initial_h), walk.state()
    for number in range(walk.steps):
        walk.step("rnn_step", projected, r, lengths, h, spare, y, number=number)
        h, spare = spare, h
    return y, walk.stored(h, 1, x.dtype)
