# SPDX-License-Identifier: Apache-2.0
"""Random graphs: values of several shapes that nodes share, constants, and what gets fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from tests.properties.running import OPSET
from tests.properties.strategies import Array, Shape, arrays, axes_of, axis_of, shapes

FACTORS = (0.5, 1.0, -1.0, 2.0, 0.25, 1.5, 0.0)
UNARY = ("Relu", "Tanh", "Sigmoid", "Abs", "Neg", "Erf", "Softplus", "Identity", "LeakyRelu")
WHOLE_UNARY = ("Abs", "Neg", "Identity", "Sign")
BINARY = ("Add", "Sub", "Mul", "Min", "Max")


class Writer:
    """Appends nodes to a graph; each is drawn. Values of 1 to 4 axes, all of one type."""

    def __init__(self, draw: st.DrawFn, dtype: Any, flavours: Sequence[str]) -> None:
        self.draw = draw
        self.dtype = np.dtype(dtype)
        self.whole = self.dtype.kind in "iu"
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.feeds: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = {}
        for index in range(draw(st.integers(1, 3))):
            self.add_input(
                f"x{index}", draw(shapes(1, 4, 60, draw(st.integers(0, 9)) == 0)), flavours
            )
        for _ in range(draw(st.integers(1, 10))):
            self.step()

    def add_input(self, name: str, shape: Shape, flavours: Sequence[str]) -> None:
        self.feeds[name] = self.draw(arrays(self.dtype, shape, flavours))
        self.shapes[name] = shape

    def choose(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def emit(self, op_type: str, inputs: Sequence[str], shape: Shape, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        self.shapes[name] = shape
        return name

    def constant(self, array: Array) -> str:
        """A constant; the same one for the same array."""
        for name, known in self.constants.items():
            same = known.dtype == array.dtype and known.shape == array.shape
            if same and known.tobytes() == array.tobytes():
                return name
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def number(self) -> str:
        """A scalar, or a tensor of as many axes that holds one number."""
        value = self.choose((1, 0, -1, 2, 3) if self.whole else FACTORS)
        return self.constant(np.full(self.choose([(), (1,)]), value, self.dtype))

    def weights(self, *shape: int) -> str:
        """Small enough that sums of some products stay small."""
        seed = self.draw(st.integers(0, 9))
        plain = np.random.default_rng(seed).standard_normal(shape)
        return self.constant(
            np.asarray(np.round(plain * 2) / (1 if self.whole else 4)).astype(self.dtype)
        )

    def step(self) -> None:
        steps: list[Callable[[str, Shape], Any]] = [
            self.unary, self.binary, self.scaled, self.shifted, self.transpose, self.reshape,
            self.unsqueeze, self.slice, self.concat, self.matmul, self.reduce, self.expand,
            self.where, self.gather, self.pad, self.cast,
        ]  # fmt: skip
        if not self.whole:
            steps += [
                self.softmax, self.gelu, self.swish, self.normalized, self.layer_normalization,
                self.linear, self.attention, self.gemm, self.convolution,
            ]  # fmt: skip
        recent = list(self.shapes)[::-1]
        x = self.choose(recent)
        self.choose(steps)(x, self.shapes[x])

    def unary(self, x: str, shape: Shape) -> str:
        return self.emit(self.choose(WHOLE_UNARY if self.whole else UNARY), [x], shape)

    def binary(self, x: str, shape: Shape) -> None:
        fitting = [y for y in reversed(self.shapes) if broadcasts(shape, self.shapes[y])]
        y = self.choose(fitting)
        operands = self.choose([[x, y], [y, x]])
        op_type = self.choose(BINARY)
        self.emit(op_type, operands, np.broadcast_shapes(shape, self.shapes[y]))

    def scaled(self, x: str, shape: Shape) -> str:
        op_type = self.choose(["Mul", "Add", "Sub", "Max", "Min"])
        operands = [x, self.number()]
        return self.emit(op_type, self.choose([operands, operands[::-1]]), shape)

    def shifted(self, x: str, shape: Shape) -> str:
        return self.emit(self.choose(["Add", "Mul"]), [x, self.weights(shape[-1])], shape)

    def transpose(self, x: str, shape: Shape) -> str:
        order = self.draw(st.permutations(range(len(shape))))
        return self.emit("Transpose", [x], tuple(shape[i] for i in order), perm=order)

    def reshape(self, x: str, shape: Shape) -> str:
        count = int(np.prod(shape))
        options = [(count,), (1, count), (*shape, 1), (1, *shape), shape[::-1]]
        to = self.choose([o for o in options if len(o) <= 4])
        sizes = list(to)
        if count and self.draw(st.booleans()):
            sizes[self.draw(st.integers(0, len(to) - 1))] = -1
        target = self.ints(*sizes)
        return self.emit("Reshape", [x, target], to, allowzero=int(0 in to))

    def unsqueeze(self, x: str, shape: Shape) -> str:
        if len(shape) == 4 or (1 in shape and len(shape) > 1 and self.draw(st.booleans())):
            if 1 not in shape or len(shape) == 1:
                return x
            axis = shape.index(1)
            return self.emit("Squeeze", [x, self.ints(axis)], shape[:axis] + shape[axis + 1 :])
        axis = self.draw(st.integers(0, len(shape)))
        return self.emit("Unsqueeze", [x, self.ints(axis)], (*shape[:axis], 1, *shape[axis:]))

    def slice(self, x: str, shape: Shape) -> str:
        axis = self.draw(axis_of(len(shape)))
        start, end = self.choose([0, 1, -1, -9]), self.choose([2**40, 1, 2, -1])
        step = self.choose([1, 1, 2, -1])
        if step < 0:
            start, end = end, start - 9
        size = len(range(*slice(start, end, step).indices(shape[axis])))
        bounds = [self.ints(start), self.ints(end), self.ints(axis), self.ints(step)]
        to = list(shape)
        to[axis] = size
        return self.emit("Slice", [x, *bounds], tuple(to))

    def concat(self, x: str, shape: Shape) -> str:
        same = [y for y in reversed(self.shapes) if self.shapes[y] == shape]
        parts = self.draw(st.lists(st.sampled_from(same), min_size=1, max_size=3))
        axis = self.draw(axis_of(len(shape)))
        to = list(shape)
        to[axis] *= len(parts)
        return self.emit("Concat", parts, tuple(to), axis=axis) if np.prod(to) < 500 else x

    def matmul(self, x: str, shape: Shape) -> str:
        if len(shape) < 2:
            return x
        fitting = [
            y for y, other in reversed(self.shapes.items())
            if len(other) >= 2 and other[-2] == shape[-1] and broadcasts(shape[:-2], other[:-2])
        ]  # fmt: skip
        if fitting and self.draw(st.booleans()):
            y = self.choose(fitting)
        else:
            width = self.choose([1, 2, 3, 8])
            y = self.weights(shape[-1], width)
            self.shapes[y] = (shape[-1], width)
        other = self.shapes[y]
        if y in self.constants:
            del self.shapes[y]
        batch = np.broadcast_shapes(shape[:-2], other[:-2])
        return self.emit("MatMul", [x, y], (*batch, shape[-2], other[-1]))

    def reduce(self, x: str, shape: Shape) -> str:
        axes = self.draw(axes_of(len(shape), least=1))
        names = ["ReduceSum", "ReduceMax", "ReduceMin"] + ["ReduceMean"] * (not self.whole)
        over = {axis % len(shape) for axis in axes}
        if any(shape[axis] == 0 for axis in over):
            names = ["ReduceSum"]
        to = tuple(1 if axis in over else size for axis, size in enumerate(shape))
        return self.emit(self.choose(names), [x, self.ints(*axes)], to, keepdims=1)

    def expand(self, x: str, shape: Shape) -> str:
        to = tuple(self.choose([1, 2, 3]) if size == 1 else size for size in shape)
        return self.emit("Expand", [x, self.ints(*to)], to)

    def where(self, x: str, shape: Shape) -> str:
        """An input decides: what is computed may be a rounding apart."""
        if x not in self.feeds:
            return x
        test = self.emit(self.choose(["Less", "Equal", "Greater"]), [x, self.number()], shape)
        del self.shapes[test]
        return self.emit("Where", [test, x, self.number()], shape)

    def gather(self, x: str, shape: Shape) -> str:
        axis = self.draw(axis_of(len(shape)))
        if shape[axis] == 0:
            return x
        index = self.draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), max_size=3))
        to = list(shape)
        to[axis] = len(index)
        return self.emit("Gather", [x, self.ints(*index)], tuple(to), axis=axis)

    def pad(self, x: str, shape: Shape) -> str:
        before = [self.choose([0, 1]) for _ in shape]
        after = [self.choose([0, 2]) for _ in shape]
        to = tuple(a + s + b for a, s, b in zip(before, shape, after))
        return self.emit("Pad", [x, self.ints(*before, *after)], to) if np.prod(to) < 500 else x

    def cast(self, x: str, shape: Shape) -> str:
        """To a wider type and back."""
        double = onnx.TensorProto.INT64 if self.whole else onnx.TensorProto.DOUBLE
        there = self.emit("Cast", [x], shape, to=double)
        del self.shapes[there]
        return self.emit("Cast", [there], shape, to=helper.np_dtype_to_tensor_dtype(self.dtype))

    def softmax(self, x: str, shape: Shape) -> str:
        return self.emit("Softmax", [x], shape, axis=self.draw(axis_of(len(shape))))

    def gelu(self, x: str, shape: Shape) -> str:
        def number(value: float) -> str:
            return self.constant(np.array(value, self.dtype))

        inner = self.emit("Div", [x, number(np.sqrt(2))], shape)
        erf = self.emit("Erf", [inner], shape)
        sum_ = self.emit("Add", [erf, number(1)], shape)
        if self.draw(st.booleans()):
            return self.emit("Mul", [self.emit("Mul", [x, sum_], shape), number(0.5)], shape)
        return self.emit("Mul", [self.emit("Mul", [x, number(0.5)], shape), sum_], shape)

    def swish(self, x: str, shape: Shape) -> str:
        gate = self.emit(self.choose(["Sigmoid", "HardSigmoid", "Tanh"]), [x], shape)
        return self.emit("Mul", self.choose([[x, gate], [gate, x]]), shape)

    def normalized(self, x: str, shape: Shape) -> str:
        """LayerNormalization, written out."""
        last = self.ints(-1)
        kept = (*shape[:-1], 1)
        if shape[-1] == 0:
            return x
        mean = self.emit("ReduceMean", [x, last], kept)
        centered = self.emit("Sub", [x, mean], shape)
        square = self.emit("Mul", [centered, centered], shape)
        variance = self.emit("ReduceMean", [square, last], kept)
        added = self.emit("Add", [variance, self.constant(np.array(0.5, self.dtype))], kept)
        y = self.emit("Div", [centered, self.emit("Sqrt", [added], kept)], shape)
        y = self.emit("Mul", [y, self.weights(shape[-1])], shape)
        return self.emit("Add", [y, self.weights(shape[-1])], shape)

    def layer_normalization(self, x: str, shape: Shape) -> str:
        inputs = [x, self.weights(shape[-1]), self.weights(shape[-1])]
        return self.emit("LayerNormalization", inputs, shape, epsilon=0.5) if shape[-1] else x

    def linear(self, x: str, shape: Shape) -> str:
        y = self.matmul(x, shape)
        return y if y == x else self.shifted(y, self.shapes[y])

    def gemm(self, x: str, shape: Shape) -> str:
        if len(shape) != 2:
            return x
        trans_a, trans_b = self.draw(st.booleans()), self.draw(st.booleans())
        m, k = shape[::-1] if trans_a else shape
        inputs = [x, self.weights(*((3, k) if trans_b else (k, 3))), self.weights(3)]
        options = {"alpha": self.choose([1.0, 0.5]), "beta": self.choose([1.0, 0.0, 2.0])}
        return self.emit("Gemm", inputs, (m, 3), transA=trans_a, transB=trans_b, **options)

    def attention(self, x: str, shape: Shape) -> str:
        """Of a value to itself."""
        if len(shape) < 2 or shape[-1] == 0 or shape[-2] == 0:
            return x
        order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        turned = self.emit("Transpose", [x], (*shape[:-2], shape[-1], shape[-2]), perm=order)
        square = (*shape[:-1], shape[-2])
        scores = self.emit("MatMul", [x, turned], square)
        scores = self.emit("Mul", [scores, self.constant(np.array(0.125, self.dtype))], square)
        return self.emit("MatMul", [self.emit("Softmax", [scores], square), x], shape)

    def convolution(self, x: str, shape: Shape) -> str:
        if len(shape) < 3 or 0 in shape:
            return x
        kernel = [self.choose([1, 3]) for _ in shape[2:]]
        out = self.choose([1, 2, 4])
        pads = [size // 2 for size in kernel] * 2
        inputs = [x, self.weights(out, shape[1], *kernel), self.weights(out)]
        to = (shape[0], out, *shape[2:])
        y = self.emit("Conv", inputs, to, pads=pads)
        if self.draw(st.booleans()):
            positive = self.constant(np.full(out, 0.75, self.dtype))
            moments = [self.weights(out), self.weights(out), self.weights(out), positive]
            y = self.emit("BatchNormalization", [y, *moments], to)
        return self.unary(y, to) if self.draw(st.booleans()) else y

    def model(self, symbolic: bool) -> onnx.ModelProto:
        """With the last value and some others as outputs."""
        computed = [name for name in self.shapes if name not in self.feeds]
        kept = {computed[-1]} if computed else set()
        kept |= (
            set(self.draw(st.lists(st.sampled_from(computed), max_size=2))) if computed else set()
        )
        outputs = [name for name in computed if name in kept]
        dtype = helper.np_dtype_to_tensor_dtype(self.dtype)
        infos = []
        for name, array in self.feeds.items():
            shape = [f"{name}_{i}" if symbolic else s for i, s in enumerate(array.shape)]
            infos.append(helper.make_tensor_value_info(name, dtype, shape))
        initializers = [
            numpy_helper.from_array(array, name) for name, array in self.constants.items()
        ]
        graph = helper.make_graph(
            self.nodes, "g", infos, [onnx.ValueInfoProto(name=n) for n in outputs], initializers
        )
        imports = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=imports, ir_version=onnx.IR_VERSION)


def broadcasts(one: Shape, other: Shape) -> bool:
    return all(a == b or 1 in (a, b) for a, b in zip(one[::-1], other[::-1]))
