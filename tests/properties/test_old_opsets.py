# SPDX-License-Identifier: Apache-2.0
"""Each old form of an operator gives the bits of the newest form that says the same.

Oracle: the newest form, written out by hand here, through the same session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.running import assert_same_bits, run
from tests.properties.strategies import TAME, Array, Setup, arrays, axis_of, setups, shapes

F32 = np.dtype(np.float32)


@dataclass
class Form:
    """One way to write a node; `shape` is what its first output is brought to."""

    op_type: str
    inputs: list[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    outputs: int = 1

    def run(self, opset: int | None, setup: Setup) -> Array:
        constants = frozenset(i for i in setup.constants if i < len(self.inputs))
        kept = replace(setup, constants=constants)
        options = {} if opset is None else {"opset": opset}
        wanted = (True,) * self.outputs
        y = run(self.op_type, self.inputs, self.attributes, kept, wanted, **options)[0]
        return y if self.shape is None else y.reshape(self.shape)


Draw = Callable[[Any], tuple[Form, Form]]


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def tensor(draw: Any, least: int = 1, most: int = 4, empty: bool = True) -> Array:
    return np.asarray(draw(arrays(F32, draw(shapes(least, most, 600, empty)), TAME)))


def flattened(op_type: str) -> Draw:
    """Softmax and its kin used to see a matrix, cut at the axis."""

    def form(draw: Any) -> tuple[Form, Form]:
        x = tensor(draw, empty=False)
        axis = draw(axis_of(x.ndim))
        at = axis % x.ndim
        matrix = x.reshape(int(np.prod(x.shape[:at])), -1)
        return Form(op_type, [x], {"axis": axis}), Form(op_type, [matrix], {"axis": 1}, x.shape)

    return form


def reduced(op_type: str) -> Draw:
    """Axes used to be an attribute."""

    def form(draw: Any) -> tuple[Form, Form]:
        x = tensor(draw, empty=False)
        axes = draw(st.one_of(st.none(), st.lists(axis_of(x.ndim), min_size=1, max_size=1)))
        keep = draw(st.integers(0, 1))
        old: dict[str, Any] = {"keepdims": keep}
        new: list[Any] = [x]
        if axes is not None:
            old["axes"] = axes
            new.append(ints(*axes))
        return Form(op_type, [x], old), Form(op_type, new, {"keepdims": keep})

    return form


def pad(draw: Any) -> tuple[Form, Form]:
    x = tensor(draw)
    pads = [draw(st.integers(0, 3)) for _ in range(2 * x.ndim)]
    value = draw(st.sampled_from([0.0, 1.5, -2.0]))
    new = [x, ints(*pads), np.float32(value)]
    return Form("Pad", [x], {"pads": pads, "value": value}), Form("Pad", new)


def slices(draw: Any) -> tuple[Form, Form]:
    x = tensor(draw)
    axes = sorted(draw(st.sets(st.integers(0, x.ndim - 1), min_size=1)))
    bounds = st.integers(-9, 9)
    starts, ends = [draw(bounds) for _ in axes], [draw(bounds) for _ in axes]
    old = {"starts": starts, "ends": ends, "axes": axes}
    return Form("Slice", [x], old), Form("Slice", [x, ints(*starts), ints(*ends), ints(*axes)])


def clip(draw: Any) -> tuple[Form, Form]:
    x = tensor(draw, 0)
    low, high = sorted(draw(st.tuples(*[st.sampled_from([-1.0, 0.0, 0.5, 6.0])] * 2)))
    new = [x, np.float32(low), np.float32(high)]
    return Form("Clip", [x], {"min": low, "max": high}), Form("Clip", new)


def squeeze(draw: Any) -> tuple[Form, Form]:
    x = tensor(draw)[None, :, None]
    return Form("Squeeze", [x], {"axes": [0, 2]}), Form("Squeeze", [x, ints(0, 2)])


def unsqueeze(draw: Any) -> tuple[Form, Form]:
    x = tensor(draw)
    return Form("Unsqueeze", [x], {"axes": [2, 0]}), Form("Unsqueeze", [x, ints(2, 0)])


def split(draw: Any) -> tuple[Form, Form]:
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=1))
    x = np.asarray(draw(arrays(F32, (lengths[0], 3), TAME)))
    return Form("Split", [x], {"split": lengths}), Form("Split", [x, ints(*lengths)])


def top_k(draw: Any) -> tuple[Form, Form]:
    x = tensor(draw, empty=False)
    k = draw(st.integers(1, x.shape[-1]))
    return Form("TopK", [x], {"k": k}, outputs=2), Form("TopK", [x, ints(k)], outputs=2)


def reshape(draw: Any) -> tuple[Form, Form]:
    x = tensor(draw, empty=False)
    return Form("Reshape", [x], {"shape": [0, -1]}), Form("Reshape", [x, ints(0, -1)])


def tile(draw: Any) -> tuple[Form, Form]:
    x = tensor(draw, 2, 2)
    axis = draw(st.integers(0, 1))
    count = draw(st.integers(1, 3))
    repeats = [1, 1]
    repeats[axis] = count
    old = [x, np.array([count], F32), np.array([axis], F32)]
    return Form("Tile", old), Form("Tile", [x, ints(*repeats)])


def arithmetic(op_type: str) -> Draw:
    """Broadcasting used to be asked for, from an axis on."""

    def form(draw: Any) -> tuple[Form, Form]:
        a = tensor(draw, 1, 4)
        at = draw(st.integers(0, a.ndim - 1))
        count = draw(st.integers(1, a.ndim - at))
        b = np.asarray(draw(arrays(F32, a.shape[at : at + count], TAME)))
        wide = b.reshape(*b.shape, *(1,) * (a.ndim - at - count))
        return Form(op_type, [a, b], {"broadcast": 1, "axis": at}), Form(op_type, [a, wide])

    return form


def gemm(draw: Any) -> tuple[Form, Form]:
    a, b = (np.asarray(draw(arrays(F32, s, TAME))) for s in ((4, 5), (5, 7)))
    c = np.asarray(draw(arrays(F32, (7,), TAME)))
    return Form("Gemm", [a, b, c], {"broadcast": 1, "beta": 0.5}), Form(
        "Gemm", [a, b, c], {"beta": 0.5}
    )


def upsample(draw: Any) -> tuple[Form, Form]:
    x = np.asarray(draw(arrays(F32, (1, 2, 3, 4), TAME)))
    mode = draw(st.sampled_from(["nearest", "linear"]))
    scales = [1.0, 1.0, draw(st.sampled_from([1.0, 2.0, 1.5])), draw(st.sampled_from([2.0, 3.0]))]
    new = {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return (
        Form("Upsample", [x], {"mode": mode, "scales": scales}),
        Form("Resize", [x, None, np.array(scales, F32)], new),
    )


def scatter(draw: Any) -> tuple[Form, Form]:
    x = np.asarray(draw(arrays(F32, (5, 3), TAME)))
    at = np.array([draw(st.permutations(range(5)))[:2]] * 3, np.int64).T
    updates = np.asarray(draw(arrays(F32, (2, 3), TAME)))
    inputs = [x, np.ascontiguousarray(at), updates]
    return Form("Scatter", inputs), Form("ScatterElements", inputs)


def batch_normalization(draw: Any) -> tuple[Form, Form]:
    x = np.asarray(draw(arrays(F32, (2, 3, 4), TAME)))
    rows = [np.asarray(draw(arrays(F32, (3,), ("plain",)))) for _ in range(3)]
    variance = np.abs(np.asarray(draw(arrays(F32, (3,), ("plain",))))) + np.float32(0.5)
    inputs = [x, *rows, variance]
    return (
        Form("BatchNormalization", inputs, {"spatial": 1}),
        Form("BatchNormalization", inputs),
    )


def dropout(draw: Any) -> tuple[Form, Form]:
    x = tensor(draw, 0)
    return Form("Dropout", [x], {"ratio": 0.25}), Form("Dropout", [x, np.float32(0.25)])


REDUCTIONS = [
    f"Reduce{name}"
    for name in (
        "Sum",
        "Mean",
        "Max",
        "Min",
        "Prod",
        "L1",
        "L2",
        "LogSum",
        "LogSumExp",
        "SumSquare",
    )
]

CASES: dict[str, tuple[tuple[int, ...], Draw]] = {
    **{op: ((1, 9, 11, 12), flattened(op)) for op in ("Softmax", "LogSoftmax", "Hardmax")},
    **{
        op: ((1, 11, 13, 17) if op != "ReduceSum" else (1, 11, 12), reduced(op))
        for op in REDUCTIONS
    },
    **{op: ((1, 6), arithmetic(op)) for op in ("Add", "Sub", "Mul", "Div", "Pow")},
    "Pad": ((2, 10), pad),
    "Slice": ((1, 9), slices),
    "Clip": ((1, 6, 10), clip),
    "Squeeze": ((1, 11, 12), squeeze),
    "Unsqueeze": ((1, 11, 12), unsqueeze),
    "Split": ((2, 11, 12), split),
    "TopK": ((1, 9), top_k),
    "Reshape": ((1, 4), reshape),
    "Tile": ((1, 5), tile),
    "Gemm": ((1, 6), gemm),
    "Upsample": ((7, 8), upsample),
    "Scatter": ((9, 10), scatter),
    "BatchNormalization": ((7, 8), batch_normalization),
    "Dropout": ((7, 10, 11), dropout),
}


@given(data=st.data())
@pytest.mark.parametrize("name", sorted(CASES))
def test_old_forms(name: str, data: st.DataObject) -> None:
    opsets, form = CASES[name]
    old, new = form(data.draw)
    setup = data.draw(setups(3))
    expected = new.run(None, setup)
    with np.errstate(all="ignore"):
        assert_same_bits(old.run(data.draw(st.sampled_from(opsets)), setup), expected)
