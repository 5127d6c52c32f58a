# SPDX-License-Identifier: Apache-2.0
"""Random graphs compute the same after simplification, on special values too."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from bascule.optimizer import Context, Level, optimize
from bascule.optimizer.fused import definition
from tests.optimizer.graphs import assert_close, parse, reference_fold, run_reference

_SHAPES = {"a": (2, 3), "b": (2, 3), "r": (3,), "s": (1, 1), "c": (2, 1)}
_UNARY = ("Abs", "Neg", "Relu", "Identity", "Ceil", "Floor", "Sign", "Sqrt", "Reciprocal")
_BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min")
_CONSTANTS = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, 0.25)


class _Writer:
    """Writes the text of a random graph of 2-D tensors."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.values = dict(_SHAPES)

    def emit(self, call: str, shape: tuple[int, ...]) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {call}")
        self.values[name] = shape
        return name

    def pick(self, rank: int | None = None) -> str:
        recent = list(self.values)[-6:] + list(_SHAPES)
        return self.random.choice(
            [name for name in recent if rank is None or len(self.values[name]) == rank]
        )

    def ints(self, *numbers: int) -> str:
        name = self.emit(f"Constant<value_ints = {list(numbers)}>()", ())
        del self.values[name]
        return name

    def scalar(self) -> str:
        number = self.random.choice(_CONSTANTS)
        shape = self.random.choice(("", "[1]", "[1,1]"))
        return self.emit(f"Constant<value = float{shape} {{{number}}}>()", (1,) * (len(shape) // 2))

    def step(self) -> None:
        steps = (self.unary, self.binary, self.constant, self.transpose, self.reshape)
        steps += (self.slice, self.clip, self.where)
        x = self.pick(2)
        self.random.choice(steps)(x, *self.values[x])

    def unary(self, x: str, m: int, n: int) -> None:
        self.emit(f"{self.random.choice(_UNARY)}({x})", (m, n))

    def binary(self, x: str, m: int, n: int) -> None:
        y = self.pick()
        if all(a == b or 1 in (a, b) for a, b in zip((n, m), self.values[y][::-1])):
            shape = np.broadcast_shapes((m, n), self.values[y])
            operands = ", ".join(self.random.sample((x, y), 2))
            self.emit(f"{self.random.choice(_BINARY)}({operands})", shape)

    def constant(self, x: str, m: int, n: int) -> None:
        operator = self.random.choice((*_BINARY, "Pow"))
        operands = [x, self.scalar()]
        if self.random.random() < 0.3 and operator != "Pow":
            operands.reverse()
        self.emit(f"{operator}({', '.join(operands)})", (m, n))

    def transpose(self, x: str, m: int, n: int) -> None:
        self.emit(f"Transpose<perm = [1, 0]>({x})", (n, m))

    def reshape(self, x: str, m: int, n: int) -> None:
        flat = self.emit(f"Reshape({x}, {self.ints(-1)})", (m * n,))
        self.emit(f"Reshape({flat}, {self.ints(n, m)})", (n, m))

    def slice(self, x: str, m: int, n: int) -> None:
        start = self.random.randrange(m)
        bounds = f"{self.ints(start)}, {self.ints(9)}, {self.ints(0)}"
        self.emit(f"Slice({x}, {bounds})", (m - start, n))

    def clip(self, x: str, m: int, n: int) -> None:
        if m in (1, 2):
            x, m = self.emit(f"Expand({x}, {self.ints(2, 1)})", (2, n)), 2
        zero = self.emit("Constant<value_float = 0.0>()", ())
        self.emit(f"Clip({x}, {zero})", (m, n))

    def where(self, x: str, m: int, n: int) -> None:
        double = self.emit(f"Cast<to = 11>({x})", (0,))
        single = self.emit(f"Cast<to = 1>({double})", (m, n))
        condition = self.emit(f"Less({x}, {x})", (0,))
        self.emit(f"Where({condition}, {x}, {single})", (m, n))
        del self.values[double], self.values[condition]

    def text(self) -> str:
        inputs = ", ".join(f"float{list(shape)} {name}" for name, shape in _SHAPES.items())
        results = [name for name, shape in self.values.items() if len(shape) == 2][-3:]
        outputs = []
        for index, name in enumerate(results):
            self.lines.append(f"y{index} = Add({name}, {name})")
            outputs.append(f"float[{','.join(map(str, self.values[name]))}] y{index}")
        return f"g ({inputs}) => ({', '.join(outputs)}) {{ {' '.join(self.lines)} }}"


def feeds(seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -2.0], dtype=np.float32)
    arrays = {}
    for name, shape in _SHAPES.items():
        array = generator.normal(size=shape).astype(np.float32)
        chosen = generator.random(shape) < 0.3
        arrays[name] = np.where(chosen, generator.choice(special, size=shape), array)
    return arrays


@pytest.mark.parametrize("seed", range(60))
def test_numbers_stay(seed: int) -> None:
    writer = _Writer(seed)
    for _ in range(14):
        writer.step()
    text = writer.text()
    model = parse(text)
    optimize(model, Level.ALL, context=Context(reference_fold, definition), verify=True)
    inputs = feeds(seed)
    assert_close(run_reference(model, inputs, definition), run_reference(parse(text), inputs))
