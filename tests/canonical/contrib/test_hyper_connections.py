# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import InvalidGraph

from .comparison import Array, assert_close, check, model_of, normal, run_elsewhere, session

STREAMS = [((2, 3, 4, 8), 0), ((2, 3, 32), 4), ((4, 8), 0), ((3, 32), 4)]


def lead_of(shape: tuple[int, ...], branches: int) -> tuple[int, ...]:
    return shape[:-1] if branches else shape[:-2]


def attributes_of(branches: int, **attributes: Any) -> dict[str, Any]:
    return {**attributes, **({"num_branches": branches} if branches else {})}


def check_all_types(op_type: str, reference: Any, inputs: list[Any], attributes: Any) -> None:
    check(op_type, reference, inputs, attributes)
    # The other runtime takes no arrays of bfloat16.
    check(op_type, reference, inputs, attributes, dtypes=[ml_dtypes.bfloat16], elsewhere=False)


@pytest.mark.parametrize("shape, branches", STREAMS)
@pytest.mark.parametrize("gate", [(4,), (4, 1), (4, 8), (32,)])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_pre_mix(
    scale: float, gate: tuple[int, ...], shape: tuple[int, ...], branches: int
) -> None:
    if gate == (32,) and not branches:
        return
    lead = lead_of(shape, branches)

    def reference(x: Array, weights: Array) -> Array:
        x, weights = x.reshape(*lead, 4, 8), weights.reshape(*lead, 4, -1)
        return scale * (x * weights).sum(-2)

    inputs = [normal(*shape), normal(*lead, *gate, seed=1)]
    attributes = attributes_of(branches, reduction_scale=scale)
    check_all_types("HyperConnectionPreMix", reference, inputs, attributes)


@pytest.mark.parametrize("shape, branches", STREAMS)
@pytest.mark.parametrize("gate", [(4,), (4, 1), (4, 8)])
@pytest.mark.parametrize("with_matrix", [False, True])
def test_post_mix(
    with_matrix: bool, gate: tuple[int, ...], shape: tuple[int, ...], branches: int
) -> None:
    lead = lead_of(shape, branches)

    def reference(x: Array, block: Array, weights: Array, matrix: Any = None) -> Array:
        x, weights = x.reshape(*lead, 4, 8), weights.reshape(*lead, 4, -1)
        mixed = x if matrix is None else np.einsum("...ck,...ch->...kh", matrix, x)
        return (mixed + weights * block[..., None, :]).reshape(shape)

    inputs = [normal(*shape), normal(*lead, 8, seed=1), normal(*lead, *gate, seed=2)]
    inputs += [normal(*lead, 4, 4, seed=3)] * with_matrix
    check_all_types("HyperConnectionPostMix", reference, inputs, attributes_of(branches))


def test_gates_of_another_type() -> None:
    x, weights = normal(2, 3, 4, 8, dtype=np.float16), normal(2, 3, 4, seed=1)
    model = model_of("HyperConnectionPreMix", [x, weights], shapes="symbolic")
    feeds = {"in0": x, "in1": weights}
    [found] = session(model).run(None, feeds)
    assert found.dtype == np.float16
    assert_close(found, (x.astype(np.float64) * weights[..., None]).sum(-2), 1e-3, "NumPy")
    for other in run_elsewhere(model, feeds) or ():
        assert_close(found, other, 1e-3, "beside the other runtime")


@pytest.mark.parametrize(
    "shape, branches, problem",
    [((8,), 0, "rank 1 has no branches"), ((2, 8), 3, "rows of 8 are not 3 branches")],
)
def test_refused(shape: tuple[int, ...], branches: int, problem: str) -> None:
    attributes = attributes_of(branches)
    model = model_of("HyperConnectionPreMix", [normal(*shape), normal(2, 3)], attributes)
    with pytest.raises(InvalidGraph, match=f"HyperConnectionPreMix.*{problem}.*node"):
        session(model)
