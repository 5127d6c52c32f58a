# SPDX-License-Identifier: Apache-2.0
"""The optimizers of domain ai.onnx.preview.training, as arithmetic.

The factors that all elements share are computed in float64, whatever the tensors are: powers of a
number near one and differences from one would lose digits.
"""

from __future__ import annotations

import numpy as np

from bascule.canonical.builder import Builder
from bascule.canonical.registry import EVERY_VERSION, rewrite
from bascule.ir.dtype import DataType
from bascule.ir.graph import Node, Value

TRAINING_DOMAIN = "ai.onnx.preview.training"


@rewrite("Adagrad", until=EVERY_VERSION, types=True, domain=TRAINING_DOMAIN)
def adagrad(node: Node, build: Builder) -> None:
    update = _Update(node, build, states=1)
    decay_factor = _double(build, update.attribute("decay_factor", 0.0))
    decay = build.op("Mul", update.count, decay_factor)
    rate = build.op("Div", update.rate, build.op("Add", decay, _double(build, 1.0)))
    for x, gradient, (squares,), (x_out, squares_out) in update.tensors():
        gradient = update.regularized(x, gradient)
        squares = _product_sum(build, gradient, gradient, squares, squares_out)
        step = build.op("Div", gradient, update.divisor(squares, x))
        step = build.op("Mul", update.cast(rate, x), step)
        build.op("Sub", x, step, outputs=[x_out])
    update.finish()


@rewrite("Adam", until=EVERY_VERSION, types=True, domain=TRAINING_DOMAIN)
def adam(node: Node, build: Builder) -> None:
    update = _Update(node, build, states=2)
    alpha, beta = update.attribute("alpha", 0.9), update.attribute("beta", 0.999)
    one = _double(build, 1.0)
    bias = build.op("Sub", one, build.op("Pow", _double(build, alpha), update.count))
    square_bias = build.op("Sub", one, build.op("Pow", _double(build, beta), update.count))
    corrected = build.op("Div", build.op("Mul", update.rate, build.op("Sqrt", square_bias)), bias)
    rate = build.op("Where", update.is_later, corrected, update.rate)
    kept = 1 - update.attribute("norm_coefficient_post", 0.0)
    for x, gradient, (mean, squares), (x_out, mean_out, squares_out) in update.tensors():
        gradient = update.regularized(x, gradient)
        square = build.op("Mul", gradient, gradient)
        mean = _average(build, mean, gradient, alpha, x, mean_out)
        squares = _average(build, squares, square, beta, x, squares_out)
        step = build.op("Div", mean, update.divisor(squares, x))
        step = build.op("Mul", update.cast(rate, x), step)
        if kept == 1:
            build.op("Sub", x, step, outputs=[x_out])
        else:
            moved = build.op("Sub", x, step)
            build.op("Mul", _like(build, kept, x), moved, outputs=[x_out])
    update.finish()


@rewrite("Momentum", until=EVERY_VERSION, types=True, domain=TRAINING_DOMAIN)
def momentum(node: Node, build: Builder) -> None:
    mode = node.attributes["mode"]
    if mode not in ("standard", "nesterov"):
        raise build.invalid(f"attribute 'mode' is '{mode}', not 'standard' or 'nesterov'")
    update = _Update(node, build, states=1)
    alpha = update.attribute("alpha", 0.0)
    beta = _double(build, update.attribute("beta", 1.0))
    weight = build.op("Where", update.is_later, beta, _double(build, 1.0))
    for x, gradient, (velocity,), (x_out, velocity_out) in update.tensors():
        gradient = update.regularized(x, gradient)
        scaled = build.op("Mul", update.cast(weight, x), gradient)
        velocity = _product_sum(build, _like(build, alpha, x), velocity, scaled, velocity_out)
        step = velocity
        if mode == "nesterov":
            step = _product_sum(build, _like(build, alpha, x), velocity, gradient)
        step = build.op("Mul", update.cast(update.rate, x), step)
        build.op("Sub", x, step, outputs=[x_out])
    update.finish()


class _Update:
    """The inputs that the three have in common; `states` is how many tensors go with each x."""

    def __init__(self, node: Node, build: Builder, states: int) -> None:
        self._node, self._build, self._states = node, build, states
        self._groups, rest = divmod(len(node.inputs) - 2, 2 + states)
        if rest or not self._groups:
            raise build.invalid(
                f"{len(node.inputs)} inputs are not R, T and {2 + states} for each tensor"
            )
        if len(node.outputs) > self._groups * (1 + states):
            raise build.invalid(
                f"{len(node.outputs)} outputs are more than {1 + states} for each of "
                f"{self._groups} tensors"
            )
        rate, count, *self._inputs = (self._present(value) for value in node.inputs)
        self.rate = build.cast(build.as_scalar(rate), DataType.DOUBLE)
        self.count = build.cast(build.as_scalar(count), DataType.DOUBLE)
        self._outputs = build.drop_outputs(0)

    def _present(self, value: Value | None) -> Value:
        if value is None:
            raise self._build.invalid("an input is missing")
        return value

    @property
    def is_later(self) -> Value:
        """Whether there was an update before."""
        return self._build.op("Greater", self.count, _double(self._build, 0.0))

    def attribute(self, name: str, default: float) -> float:
        """As the standard has it, in float32, the default too."""
        return float(np.float32(self._node.attribute(name, default)))

    def tensors(self) -> list[tuple[Value, Value, list[Value], list[Value]]]:
        """x, its gradient, its states, and the outputs, of each tensor."""
        groups, outputs = self._groups, list(self._outputs)
        outputs += [Value() for _ in range(groups * (1 + self._states) - len(outputs))]
        return [
            (
                self._inputs[index],
                self._inputs[groups + index],
                self._inputs[2 * groups + index :: groups],
                outputs[index::groups],
            )
            for index in range(groups)
        ]

    def regularized(self, x: Value, gradient: Value) -> Value:
        """With the gradient of ``0.5 * norm_coefficient * ||x||^2``."""
        coefficient = self.attribute("norm_coefficient", 0.0)
        if not coefficient:
            return gradient
        return _product_sum(self._build, _like(self._build, coefficient, x), x, gradient)

    def divisor(self, squares: Value, x: Value) -> Value:
        epsilon = _like(self._build, self.attribute("epsilon", 1e-6), x)
        return self._build.op("Add", self._build.op("Sqrt", squares), epsilon)

    def cast(self, factor: Value, x: Value) -> Value:
        """A float64 scalar in the type of `x`."""
        if x.dtype is None:
            return self._build.op("CastLike", factor, x)
        return self._build.cast(factor, x.dtype)

    def finish(self) -> None:
        self._build.graph.remove(self._node)


def _double(build: Builder, number: float) -> Value:
    return build.constant(np.array(number, dtype=np.float64))


def _like(build: Builder, number: float, reference: Value) -> Value:
    """`number` in the type of `reference`, with all the digits that this has."""
    if reference.dtype is None:
        return build.op("CastLike", _double(build, number), reference)
    return build.constant(np.array(number).astype(reference.dtype.numpy))


def _product_sum(
    build: Builder, a: Value, b: Value, c: Value, output: Value | None = None
) -> Value:
    """``a * b + c``"""
    return build.op("Add", build.op("Mul", a, b), c, outputs=1 if output is None else [output])


def _average(
    build: Builder, old: Value, new: Value, weight: float, x: Value, output: Value
) -> Value:
    """``weight * old + (1 - weight) * new``, in the type of `x`."""
    scaled = build.op("Mul", _like(build, 1 - weight, x), new)
    return _product_sum(build, _like(build, weight, x), old, scaled, output)
