# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bascule
from bascule.errors import InvalidGraph
from tests.support.cuda_emulation import missing
from tests.support.cuda_session import EmulatedSession, floats_on_cpu

from .comparison import Array, check, feeds_of, model_of, normal, session

HEADS, SIZE, BLOCK, BLOCKS = 4, 16, 16, 4
CACHE = BLOCK * BLOCKS


def layouts(count: int) -> tuple[Array, Array]:
    """Of blocks below the diagonal, about half; rows and columns, with padding."""
    rng = np.random.default_rng(count)
    rows, columns = [], []
    for _ in range(count):
        seen = np.tril(rng.random((BLOCKS, BLOCKS)) < 0.5) | np.eye(BLOCKS, dtype=bool)
        rows.append([0, *np.cumsum(seen.sum(1))])
        columns.append(np.nonzero(seen)[1])
    longest = max(map(len, columns))
    padded = [np.pad(each, (0, longest - len(each)), constant_values=-1) for each in columns]
    return np.array(rows, dtype=np.int32), np.array(padded, dtype=np.int32)


def inputs_of(
    rows: int,
    lengths: list[int],
    key_heads: int = 2,
    count: int = 2,
    packed: bool = False,
    rotary: bool = False,
) -> list[Any]:
    batch = len(lengths)
    widths = [HEADS * SIZE, key_heads * SIZE, key_heads * SIZE]
    query, key, value = (normal(batch, rows, n, seed=i) for i, n in enumerate(widths))
    joined = [np.concatenate([query, key, value], 2), None, None]
    caches = [normal(batch, key_heads, CACHE, SIZE, seed=seed) for seed in (3, 4)]
    total = np.array([max(lengths)], dtype=np.int32)
    angles = [normal(CACHE, 8, seed=seed) for seed in (5, 6)] if rotary else []
    last = [*layouts(count), total, np.array(lengths, dtype=np.int32), *angles]
    return [*(joined if packed else [query, key, value]), *caches, *last]


def rotated(x: Array, cosines: Array, sines: Array, interleaved: int) -> Array:
    """``[heads, rows, size]``, by angles of each row."""
    y, half = x.copy(), cosines.shape[1]
    low, high = slice(0, half), slice(half, 2 * half)
    if interleaved:
        low, high = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    y[..., low] = x[..., low] * cosines - x[..., high] * sines
    y[..., high] = x[..., high] * cosines + x[..., low] * sines
    return y


def reference(
    query: Array,
    key: Array | None,
    value: Array | None,
    past_key: Array,
    past_value: Array,
    rows: Array,
    columns: Array,
    total: Array,
    lengths: Array,
    cosines: Array | None = None,
    sines: Array | None = None,
    *,
    interleaved: int = 0,
    scale: float = SIZE**-0.5,
) -> list[Array]:
    count, key_heads = query.shape[1], past_key.shape[1]
    if key is None or value is None:
        query, key, value = np.split(query, [HEADS * SIZE, (HEADS + key_heads) * SIZE], 2)
    keys, values, y = past_key.copy(), past_value.copy(), np.zeros_like(query)
    for sample, length in enumerate(lengths):
        start = max(int(length) - count, 0)
        q, k, v = (
            each[sample].reshape(count, -1, SIZE).swapaxes(0, 1) for each in (query, key, value)
        )
        if cosines is not None and sines is not None:
            at = slice(start, start + count)
            q, k = (rotated(each, cosines[at], sines[at], interleaved) for each in (q, k))
        keys[sample, :, start : start + count] = k
        values[sample, :, start : start + count] = v
        for head in range(HEADS):
            own = head // (HEADS // key_heads)
            begins, blocks = rows[head % len(rows)], columns[head % len(rows)]
            for row in range(count):
                block = (start + row) // BLOCK
                seen = blocks[begins[block] : begins[block + 1]]
                places = [t for t in range(start + row + 1) if t // BLOCK in seen]
                scores = keys[sample, own, places] @ q[head, row] * scale
                weights = np.exp(scores - scores.max())
                result = weights @ values[sample, own, places] / weights.sum()
                y[sample, row, head * SIZE : (head + 1) * SIZE] = result
    return [y, keys, values]


def attributes(key_heads: int = 2, **others: Any) -> dict[str, Any]:
    return {
        "num_heads": HEADS,
        "kv_num_heads": key_heads,
        "sparse_block_size": BLOCK,
        **others,
    }


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize(("rows", "lengths"), [(37, [37, 37]), (1, [50, 23]), (1, [1])])
def test_layouts(rows: int, lengths: list[int], count: int, packed: bool) -> None:
    """Elsewhere caches are updated in place, and this kernel takes nothing else."""
    inputs = inputs_of(rows, lengths, count=count, packed=packed)
    check("SparseAttention", reference, inputs, attributes(), elsewhere=False)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize(("rows", "lengths"), [(20, [20]), (1, [50, 23])])
def test_rotated_and_scaled(rows: int, lengths: list[int], interleaved: int) -> None:
    made = attributes(1, do_rotary=1, rotary_interleaved=interleaved, scale=0.5)
    check(
        "SparseAttention",
        lambda *inputs: reference(*inputs, interleaved=interleaved, scale=0.5),
        inputs_of(rows, lengths, 1, rotary=True),
        made,
        constants=(5, 6, 9, 10),
        elsewhere=False,
    )


def test_prompts_with_padding() -> None:
    """What stands behind the end of a prompt is nothing."""
    check(
        "SparseAttention",
        reference,
        inputs_of(20, [20, 9]),
        attributes(),
        elsewhere=False,
        selects=lambda index, x: np.concatenate([x[0, :20], x[1, :9]]) if index == 0 else x,
    )


@pytest.mark.parametrize(("rows", "lengths"), [(37, [37, 37]), (1, [50])])
def test_beside_the_other_runtime(rows: int, lengths: list[int]) -> None:
    """Of samples of one length: it mixes up the scores of others."""
    onnxruntime = pytest.importorskip("onnxruntime")
    inputs = inputs_of(rows, lengths, count=2, rotary=True)
    model = model_of("SparseAttention", inputs, attributes(do_rotary=1), 3)
    found = session(model).run(None, feeds_of(inputs))
    made = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    bound, values = made.io_binding(), {}
    for name, array in feeds_of(inputs).items():
        values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array.copy())
        bound.bind_ortvalue_input(name, values[name])
    bound.bind_output("out0")
    bound.bind_ortvalue_output("out1", values["in3"])
    bound.bind_ortvalue_output("out2", values["in4"])
    made.run_with_iobinding(bound)
    for ours, theirs in zip(found, bound.get_outputs(), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), 1e-4, 1e-5)


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize(("rows", "lengths"), [(18, [18]), (1, [50, 23])])
def test_on_the_device(rows: int, lengths: list[int]) -> None:
    inputs = inputs_of(rows, lengths, rotary=True)
    content = model_of("SparseAttention", inputs, attributes(do_rotary=1), 3).SerializeToString()
    made = EmulatedSession(content)
    assert not floats_on_cpu(made)
    expected = bascule.InferenceSession(content).run(None, feeds_of(inputs))
    for ours, theirs in zip(made.run(None, feeds_of(inputs)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-4, 1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_heads": 3}, r"num_heads \(3\) must be a positive multiple"),
        ({"sparse_block_size": 0}, "'sparse_block_size' is 0"),
        ({"do_rotary": 1}, "needs inputs cos_cache and sin_cache"),
    ],
)
def test_wrong_attributes(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        session(model_of("SparseAttention", inputs_of(1, [9]), {**attributes(), **wrong}, 3))


def test_wrong_inputs() -> None:
    with pytest.raises(InvalidGraph, match="a multiple of the 3 layouts"):
        session(model_of("SparseAttention", inputs_of(1, [9], count=3), attributes(), 3))
    inputs = inputs_of(1, [9])
    inputs[2] = None
    with pytest.raises(InvalidGraph, match="key and value must both be given"):
        session(model_of("SparseAttention", inputs, attributes(), 3))
