# SPDX-License-Identifier: Apache-2.0
"""Nodes computed in float64, and how their results change with their inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bascule.ir.constant import Constant
from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, ONNX_DOMAIN, Attribute, Graph, Model, Node, Use, Value
from bascule.ir.types import TensorType
from bascule.optimizer.fused import definition
from bascule.providers.base import Provider
from bascule.providers.cpu.provider import CpuProvider
from bascule.tools.stepping.part import Part, compile_part, extract

Array = np.ndarray[Any, Any]

_NARROW = (DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16)
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "softmax_precision")

_FIXED = {"Resize": (1, 2), "Range": (0, 1, 2), "Upsample": (1,), "Pow": (1,)}
"""Float inputs that are not changed: shapes follow from them, or whether there is a result."""

_FORMULAS = ("Gelu", "HardSwish", "Mish", "Swish")
"""Computed by the operators that define them, the rounding of each of which is looked at."""

_NOT_ROUNDED = frozenset(
    (
        *("Cast", "CastLike", "Concat", "Constant", "Expand", "Gather", "Identity", "Neg", "Pad"),
        *("Relu", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Tile", "Transpose"),
        "Unsqueeze",
    )
)

BOUNDED = frozenset(("Sigmoid", "Tanh", "Erf", "Sin", "Cos", "Softmax", "HardSigmoid"))
"""Of results between -1 and 1, which libraries compute to so many digits behind the point."""

_NOISE = 16411
"""Normal numbers that are repeated over a tensor; a prime, so that rows get different ones."""

TRIALS = 3


class Reference:
    """What `nodes` compute, in float64.

    Raises whatever keeps these nodes from being computed in float64.
    """

    def __init__(
        self, nodes: Sequence[Node], outputs: Sequence[Value], imports: Mapping[str, int]
    ) -> None:
        # Imported here: it imports onnx.
        from bascule.compiler import legalize, settle

        part = extract(nodes, outputs)
        self.inputs = part.inputs
        self.nodes = list(nodes)
        self._weights = list(_free_weights(part))
        _widen(part.graph)
        for value in self._weights:
            del part.graph.initializers[value.name]
            part.graph.add_input(value)
        self._constants = [value.constant for value in self._weights]
        for value in self._weights:
            value.constant = None
        self._fixed = _fixed_inputs(part)
        model = Model(part.graph, dict(imports), ir_version=10)
        if _inline_formulas(part.graph, imports):
            settle(model)
        self._neutral = _noisy(part.graph)
        provider = CpuProvider()
        provider.winograd = False
        providers: list[Provider] = [provider]
        settle(model)
        legalize(model, providers)
        self._program = compile_part(model.graph, providers)

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        """The outputs for an array for each of `inputs`."""
        return self._run([_wide(array) for array in arrays])

    def _run(self, feeds: list[Any], noise: _Noise | None = None) -> list[Any]:
        weights = []
        for constant in self._constants:
            assert constant is not None
            array = _wide(constant.numpy())
            weights.append(array if noise is None else noise.on(array))
        changes = [0.0] * len(self._neutral) if noise is None else noise.scalars(self._neutral)
        roundings = [np.array(neutral + change) for neutral, change in zip(self._neutral, changes)]
        with np.errstate(all="ignore"):
            return self._program.run_values([*feeds, *weights, *roundings], [])

    def sensitivity(self, arrays: Sequence[Any], results: Sequence[Any], unit: float) -> list[Any]:
        """The root mean square change of each element of `results` under inputs changed by `unit`.

        NaN where a result is not finite; None for what has no numbers.
        """
        wide = [_wide(array) for array in arrays]
        totals: list[Any] = [0.0 if _has_numbers(result) else None for result in results]
        for trial in range(TRIALS):
            noise = _Noise(trial, unit)
            feeds = [
                array if index in self._fixed else noise.on(array)
                for index, array in enumerate(wide)
            ]
            changed = self._run(feeds, noise)
            for index, (one, other) in enumerate(zip(results, changed)):
                if totals[index] is None:
                    continue
                if np.shape(one) != np.shape(other):
                    totals[index] = None
                    continue
                with np.errstate(all="ignore"):
                    change = _number(other) - _number(one)
                    totals[index] = totals[index] + np.square(change)
        with np.errstate(all="ignore"):
            return [None if each is None else np.sqrt(each / TRIALS) for each in totals]


class _Noise:
    """Numbers that change arrays by a relative size of `unit`; seeded by the trial."""

    def __init__(self, trial: int, unit: float) -> None:
        generator = np.random.default_rng(trial)
        self._factors = 1 + unit * generator.standard_normal(_NOISE)
        self._signs = generator.choice([-unit, unit], _NOISE)
        self._shift = 0

    def scalars(self, wanted: Sequence[float]) -> list[float]:
        """For what is computed on the way: each value is changed as a whole."""
        return [float(self._signs[index % _NOISE]) for index in range(len(wanted))]

    def on(self, array: Any) -> Any:
        if not isinstance(array, np.ndarray) or array.dtype != np.float64:
            return array
        self._shift += 1237  # the same numbers on two inputs would cancel
        factors = np.resize(np.roll(self._factors, self._shift), array.shape)
        with np.errstate(all="ignore"):
            return np.asarray(array * factors)  # of one element it would be a scalar


def _free_weights(part: Part) -> Iterator[Value]:
    """The float constants of the part that may be changed."""
    fixed = {
        id(node.inputs[index])
        for node in part.graph.walk_nodes()
        for index in _FIXED.get(node.op_type, ())
        if index < len(node.inputs)
    }
    nested = {id(v) for g in part.graph.walk_graphs() for v in g.captures()}
    used = {id(v) for node in part.graph for v in node.inputs} | nested
    for value in list(part.graph.initializers.values()):
        is_float = value.dtype in (*_NARROW, DataType.DOUBLE)
        if is_float and id(value) in used and id(value) not in fixed:
            yield value


def _inline_formulas(graph: Graph, imports: Mapping[str, int]) -> bool:
    """Put what formulas and fused operators are made of in their places; whether there were any."""
    from bascule.ir.inline import inline_call, schema_function

    found = False
    for node in graph.nodes:
        function = None
        if node.domain == FUSED_DOMAIN:
            function = definition(node)
        elif node.op_type in _FORMULAS and node.domain == ONNX_DOMAIN:
            function = schema_function(node, imports.get(ONNX_DOMAIN, 1))
        if function is not None:
            inline_call(node, function)
            found = True
    return found


def _noisy(graph: Graph) -> list[float]:
    """Give every float that is rounded on the way a scalar input that changes it.

    It is a factor, or, where the value is bounded, added. Returns what changes nothing.
    """
    neutral: list[float] = []
    for node in graph.nodes:
        if node.op_type in _NOT_ROUNDED:
            continue
        for value in node.outputs:
            if value.dtype is not DataType.DOUBLE or value.output_count or not value.uses:
                continue
            factor = graph.add_input(
                Value(graph.fresh_name("rounding"), TensorType(DataType.DOUBLE, ()))
            )
            readers = list(value.uses)
            is_bounded = node.op_type in BOUNDED
            changed = Node("Add" if is_bounded else "Mul", [value, factor])
            scaled = graph.insert_after(node, changed).output
            for use in readers:
                use.node.set_input(use.index, scaled)
            neutral.append(0.0 if is_bounded else 1.0)
    return neutral


def _fixed_inputs(part: Part) -> set[int]:
    found = set()
    for index, value in enumerate(part.graph.inputs):
        for use in value.uses:
            if use.index in _FIXED.get(use.node.op_type, ()):
                found.add(index)
    return found


def _widen(graph: Graph) -> None:
    """Make every float32 and 16-bit float a float64, attributes and nested graphs included."""
    for each in graph.walk_graphs():
        for value in (*each.inputs, *each.initializers.values()):
            if not any(_only_in_float(use) for use in value.uses):
                _widen_value(value)
        for node in each:
            for value in node.outputs:
                _widen_value(value)
            for key, attribute in list(node.attributes.items()):
                node.attributes[key] = _widen_attribute(key, attribute)
            if node.op_type == "Constant":
                _widen_constant_node(node)


def _only_in_float(use: Use) -> bool:
    """Whether an input is read that the standard has in float32 alone."""
    return use.node.op_type == "Resize" and use.index == 2


def _widen_value(value: Value) -> None:
    if value.constant is not None:
        value.constant = _widen_constant(value.constant)
    if isinstance(value.type, TensorType) and value.type.dtype in _NARROW:
        value.type = TensorType(DataType.DOUBLE, value.type.shape)


def _widen_constant(constant: Constant) -> Constant:
    if constant.dtype not in _NARROW:
        return constant
    return Constant.from_numpy(_wide(constant.numpy()))


def _widen_attribute(key: str, attribute: Attribute) -> Attribute:
    if isinstance(attribute, Constant):
        return _widen_constant(attribute)
    if key in _TYPE_ATTRIBUTES and attribute in _NARROW:
        return int(DataType.DOUBLE)
    return attribute


def _widen_constant_node(node: Node) -> None:
    for key in ("value_float", "value_floats"):
        if key in node.attributes:
            array = np.array(node.attributes.pop(key), np.float64)
            node.attributes["value"] = Constant.from_numpy(array)


def _wide(array: Any) -> Any:
    """Narrow floats as float64; sequences item by item."""
    if isinstance(array, list):
        return [_wide(item) for item in array]
    if not isinstance(array, np.ndarray) or array.dtype.kind in "OSUbiuc":
        return array
    if DataType.from_numpy(array.dtype) not in _NARROW:
        return array
    with np.errstate(all="ignore"):
        return array.astype(np.float64)


def _has_numbers(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind not in "OSUc"


def _number(array: Array) -> Array:
    return array.astype(np.float64)
