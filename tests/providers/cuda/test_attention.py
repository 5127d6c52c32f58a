# SPDX-License-Identifier: Apache-2.0
"""Attention of the CUDA provider against the CPU's, in all forms that it has for shapes."""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule.errors import Fail
from tests.support import cuda_emulation, native
from tests.support.cuda_emulation import EmulatedDevice, emulated_device, run_node

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

TOLERANCE = {"float32": 3e-6, "float64": 1e-12, "float16": 3e-3, "bfloat16": 2e-2}
FAST = [np.float32, np.float16, ml_dtypes.bfloat16]
TYPES = [*FAST, np.float64]


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def flat(x: np.ndarray) -> np.ndarray:
    """[B, H, S, D] as [B, S, H * D]."""
    return np.swapaxes(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)


def check(
    inputs: list[Any],
    attributes: dict[str, Any] | None = None,
    outputs: int = 1,
    domain: str = "",
    device: Any = None,
    tolerance: float = 0.0,
) -> list[str]:
    """Compare with the CPU; the kernels that were started."""
    launches = (device or emulated_device()).launches
    before = len(launches)
    actual = run_node("Attention", inputs, attributes, outputs, domain, device=device)
    # 16-bit inputs are exact in float32, where the reference rounds nothing.
    wide = [x.astype(np.float32) if x is not None and x.dtype.itemsize == 2 else x for x in inputs]
    expected = native.run_node("Attention", wide, attributes, outputs, domain)
    tolerance = tolerance or TOLERANCE[inputs[0].dtype.name]
    for found, wanted in zip(actual, expected):
        assert found.dtype == inputs[0].dtype
        np.testing.assert_allclose(
            found.astype(np.float64), wanted.astype(np.float64), tolerance, 2 * tolerance
        )
    return launches[before:]


def inputs_of(
    dtype: Any, batch: int, heads: tuple[int, int], rows: tuple[int, int], sizes: tuple[int, int]
) -> list[np.ndarray]:
    return [
        normal(batch, heads[0], rows[0], sizes[0], dtype=dtype),
        normal(batch, heads[1], rows[1], sizes[0], seed=1, dtype=dtype),
        normal(batch, heads[1], rows[1], sizes[1], seed=2, dtype=dtype),
    ]


@pytest.mark.parametrize("dtype", FAST)
@pytest.mark.parametrize("queries, keys", [(1, 5), (3, 160), (17, 64), (64, 65), (130, 70)])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2)])
def test_sizes(dtype: Any, queries: int, keys: int, heads: tuple[int, int]) -> None:
    q, k, v = inputs_of(dtype, 2, heads, (queries, keys), (64, 64))
    check([q, k, v], {"is_causal": 1})
    attributes = {"q_num_heads": heads[0], "kv_num_heads": heads[1]}
    check([flat(q), flat(k), flat(v)], attributes)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "sizes", [(8, 8), (24, 40), (40, 16), (96, 96), (128, 72), (200, 128), (256, 256), (33, 7)]
)
@pytest.mark.parametrize("queries", [1, 20])
def test_head_sizes(dtype: Any, sizes: tuple[int, int], queries: int) -> None:
    check(list(inputs_of(dtype, 1, (2, 1), (queries, 71), sizes)), {"scale": 0.2})


def form(inputs: list[Any], attributes: dict[str, Any] | None = None, **more: Any) -> str:
    return check(inputs, attributes, **more)[-1]


@pytest.mark.host
def test_forms() -> None:
    """The kernel for each shape; a device with few processors has enough blocks sooner."""
    half = inputs_of(np.float16, 1, (2, 2), (100, 100), (64, 64))
    single = [x.astype(np.float32) for x in half]
    assert form(half) == "flash_float16_64_16"
    assert form(single) == "tiles_float32_64"
    assert form([x.astype(np.float64) for x in half]) == "rows_float64"
    assert form([x[..., :63] for x in half]) == "rows_float16"
    assert form([half[0][:, :, :1], *half[1:]]) == "decode_tiles_float16_64"
    long = inputs_of(np.float16, 1, (8, 2), (1, 1000), (64, 64))
    assert check(long) == ["decode_clusters_float16_64"]
    many = inputs_of(np.float16, 2, (20, 20), (150, 70), (40, 40))
    device = EmulatedDevice()
    device.processors = 40
    assert form(many, device=device) == "flash_float16_64_128"


@pytest.mark.parametrize("dtype", FAST)
@pytest.mark.parametrize("processors, rows", [(100, 16), (10, 64), (4, 128)])
@pytest.mark.parametrize("keys", [170, 171])
def test_rows_of_a_block(dtype: Any, processors: int, rows: int, keys: int) -> None:
    """Few rows a block where there are few blocks, with masks that begin at any address."""
    device = EmulatedDevice()
    device.tf32, device.processors = True, processors
    q, k, v = inputs_of(dtype, 2, (2, 1), (150, keys), (64, 56))
    more: dict[str, Any] = {"device": device}
    if dtype is np.float32:
        more["tolerance"] = 2e-3
    launches = check([q, k, v], {"is_causal": 1}, **more)
    assert launches == [f"flash_{np.dtype(dtype).name}_64_{rows}"]
    boolean, added = normal(2, 2, 150, keys) > 0.5, normal(150, keys, seed=1, dtype=dtype)
    boolean[0, 1, 3], boolean[1, 0, :, :140] = False, False
    check([q, k, v, boolean], **more)
    check([q, k, v, added[:1, : keys - 5]], {"softcap": 4.0}, **more)
    check([q, k, v, added.astype(np.float32)], {"left_window_size": 60}, **more)
    lengths = np.array([99, 0])
    check([q, k, v, added, None, None, lengths], {"scale": -0.2}, **more)


@pytest.mark.parametrize("sizes", [(24, 32), (64, 64), (72, 96), (128, 100)])
@pytest.mark.parametrize("processors", [1, 132])
def test_tf32(sizes: tuple[int, int], processors: int) -> None:
    device = EmulatedDevice()
    device.tf32, device.processors = True, processors
    q, k, v = inputs_of(np.float32, 2, (4, 2), (150, 170), sizes)
    rows = 64 if sizes != (64, 64) else 128 if processors == 1 else 16
    size = next(n for n in (32, 64, 96, 128) if n >= max(sizes))
    attributes = {"is_causal": 1, "softcap": 3.0}
    launches = check([q, k, v], attributes, device=device, tolerance=2e-3)
    assert launches == [f"flash_float32_{size}_{rows}"]
    lengths = np.array([100, 3])
    mask = normal(150, 170, seed=4) > -1
    check([q, k, v, mask, None, None, lengths], device=device, tolerance=2e-3)
    q[0, 0, 3, 2] = np.nan
    check([q, k, v], device=device, tolerance=2e-3)
    wide = inputs_of(np.float32, 1, (1, 1), (20, 20), (136, 136))
    assert check(wide, device=device) == ["tiles_float32_256"]


@pytest.mark.host
def test_older_devices() -> None:
    device = EmulatedDevice()
    device.capability, device.shared_memory = 75, 65536
    half = inputs_of(np.float16, 1, (2, 2), (70, 80), (32, 24))
    assert form(half, {"is_causal": 1}, device=device) == "tiles_float16_32"
    for size in (64, 128):  # tiles of fewer keys, for which shared memory is enough
        half = inputs_of(np.float16, 1, (2, 1), (70, 80), (size, size - 8))
        name = f"tiles_float16_{size}"
        assert form(half, {"is_causal": 1}, device=device) == name
        mask, lengths = normal(70, 80, seed=3, dtype=np.float16), np.array([77])
        assert form([*half, mask, None, None, lengths], {"softcap": 4.0}, device=device) == name
    few = inputs_of(np.float16, 1, (8, 2), (1, 300), (64, 64))
    assert check(few, device=device) == ["decode_float16_64_4"]
    for dtype in (np.float16, np.float32):
        name = f"decode_{np.dtype(dtype)}_256_8"
        wide = inputs_of(dtype, 1, (8, 1), (1, 300), (256, 256))
        assert check(wide, device=device) == [name]


class FakeCudnn:
    """cuDNN's attention in NumPy, by the layouts that it is told."""

    workspace = 3

    def attention_plan(
        self, dtype: Any, *layouts: Any, scale: float, bias: Any, **causal: bool
    ) -> FakeCudnn:
        self.dtype, self.scale, self.causal = dtype, scale, causal
        self.layouts = [*layouts[:3], *([] if bias is None else [bias]), layouts[3]]
        return self

    def run(self, pointers: list[int], workspace: int) -> None:
        q, k, v, *bias, o = (
            np.lib.stride_tricks.as_strided(
                np.ctypeslib.as_array((ctypes.c_uint16 * 1).from_address(pointer)).view(
                    self.dtype.numpy
                ),
                layout.shape,
                [2 * step for step in layout.strides],
            )
            for pointer, layout in zip(pointers, self.layouts, strict=True)
        )
        group = q.shape[1] // k.shape[1]
        wide = [np.repeat(x.astype(np.float64), n, 1) for x, n in ((q, 1), (k, group), (v, group))]
        scores = wide[0] @ np.swapaxes(wide[1], 2, 3) * self.scale
        if bias:
            scores = scores + bias[0].astype(np.float64)
        queries, keys = scores.shape[-2:]
        shift = keys - queries if self.causal["causal_at_end"] else 0
        if any(self.causal.values()):
            seen = np.arange(keys) <= np.arange(queries)[:, None] + shift
            scores = np.where(seen, scores, -np.inf)
        top = scores.max(-1, keepdims=True)
        weights = np.exp(scores - np.where(top == -np.inf, 0, top))
        total = weights.sum(-1, keepdims=True)
        o[...] = weights / np.where(total == 0, 1, total) @ wide[2]


@pytest.fixture
def with_cudnn() -> EmulatedDevice:
    """So small that there is no need for blocks of few rows."""
    device = EmulatedDevice()
    device.cudnn, device.processors = FakeCudnn(), 1
    return device


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("causal", [0, 1])
def test_cudnn_is_told_what_to_do(with_cudnn: EmulatedDevice, dtype: Any, causal: int) -> None:
    attributes = {"is_causal": causal}
    q, k, v = inputs_of(dtype, 2, (4, 2), (30, 30), (40, 24))
    assert not check([q, k, v], attributes, device=with_cudnn)
    pk, pv = normal(2, 2, 9, 40, seed=3, dtype=dtype), normal(2, 2, 9, 24, seed=4, dtype=dtype)
    attributes |= {"q_num_heads": 4, "kv_num_heads": 2}
    launches = check([flat(q), flat(k), flat(v), None, pk, pv], attributes, 3, device=with_cudnn)
    assert launches == ["join_16"]


@pytest.mark.parametrize("shape", [(30,), (30, 30), (2, 1, 1, 30), (1, 4, 30, 30)])
def test_cudnn_takes_masks(with_cudnn: EmulatedDevice, shape: tuple[int, ...]) -> None:
    inputs = inputs_of(np.float16, 2, (4, 2), (30, 30), (40, 24))
    mask = normal(*shape, seed=5, dtype=np.float16)
    mask.reshape(-1, 30)[-1] = -np.inf
    assert not check([*inputs, mask], device=with_cudnn)


def test_cudnn_is_not_asked_for_what_it_does_otherwise(with_cudnn: EmulatedDevice) -> None:
    def launches(dtype: Any, mask: Any, **attributes: Any) -> list[str]:
        inputs = inputs_of(dtype, 1, (1, 1), (30, 30), (40, 24))
        return check([*inputs, mask], attributes, device=with_cudnn)

    assert not launches(np.float16, None)
    added = normal(30, 30, dtype=np.float16)
    half = ["flash_float16_64_64"]
    assert launches(np.float16, added > 0) == half
    assert launches(np.float16, added, is_causal=1) == half
    assert launches(np.float16, added[:, :20]) == half
    assert launches(np.float16, added.astype(np.float32)) == half
    assert launches(np.float16, None, softcap=2.0) == half
    assert launches(np.float16, None, left_window_size=3) == half
    brain = added.astype(ml_dtypes.bfloat16)
    assert launches(ml_dtypes.bfloat16, brain) == ["flash_bfloat16_64_64"]


def test_short_attention_that_leaves_processors_idle_is_not_cudnn_s() -> None:
    device = EmulatedDevice()
    device.cudnn = FakeCudnn()
    inputs = inputs_of(np.float16, 1, (2, 2), (100, 100), (64, 64))
    assert form(inputs, device=device) == "flash_float16_64_16"
    assert not check(inputs_of(np.float16, 1, (2, 2), (100, 300), (64, 64)), device=device)


@pytest.mark.parametrize("dtype", FAST)
@pytest.mark.parametrize("queries", [1, 2, 100])
@pytest.mark.parametrize("past", [0, 1, 70])
def test_cache(dtype: Any, queries: int, past: int) -> None:
    q, k, v = inputs_of(dtype, 2, (4, 2), (queries, queries), (16, 24))
    pk, pv = (
        normal(2, 2, past, 16, seed=3, dtype=dtype),
        normal(2, 2, past, 24, seed=4, dtype=dtype),
    )
    check([q, k, v, None, pk, pv], {"is_causal": 1}, 3)
    attributes = {"is_causal": 1, "q_num_heads": 4, "kv_num_heads": 2}
    check([flat(q), flat(k), flat(v), None, pk, pv], attributes, 3)
    check([flat(q), flat(k), flat(v)], attributes, 3)
    check([q, k, v], {}, 3)


def test_a_cache_of_odd_size() -> None:
    q, k, v = inputs_of(np.float16, 2, (3, 3), (5, 5), (7, 9))
    pk, pv = normal(2, 3, 4, 7, dtype=np.float16), normal(2, 3, 4, 9, dtype=np.float16)
    assert check([q, k, v, None, pk, pv], {}, 3) == ["join_2", "rows_float16"]
    check([q, k, v, None, pk, pv], {}, 1)


MASKS = [(40,), (30, 40), (1, 1, 40), (4, 1, 1), (2, 1, 30, 40), (1, 4, 1, 33)]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", MASKS)
@pytest.mark.parametrize("kind", [np.bool_, None, np.float32, np.int32])
def test_masks(dtype: Any, shape: tuple[int, ...], kind: Any) -> None:
    q, k, v = inputs_of(dtype, 2, (4, 2), (30, 40), (32, 32))
    mask = normal(*shape, seed=5, dtype=np.float16)
    mask = mask > -0.5 if kind is np.bool_ else (3 * mask).astype(kind or dtype)
    check([q, k, v, mask], {"softcap": 2.0, "is_causal": 1})
    part = mask[..., :1, :] if len(shape) > 1 else mask
    check([q[:, :, :1], k, v, part])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("queries", [2, 20])
def test_rows_that_see_nothing_are_zero(dtype: Any, queries: int) -> None:
    q, k, v = inputs_of(dtype, 1, (2, 2), (queries, 30), (32, 32))
    mask = np.ones((queries, 30), bool)
    mask[1] = False
    assert not run_node("Attention", [q, k, v, mask])[0][:, :, 1].any()
    check([q, k, v, mask])
    check([q, k[:, :, :0], v[:, :, :0]])


@pytest.mark.parametrize("dtype", FAST)
@pytest.mark.parametrize("queries", [2, 150])
@pytest.mark.parametrize("left, right, causal", [(3, -1, 0), (-1, 2, 0), (70, 0, 1), (0, 0, 0)])
def test_windows(dtype: Any, queries: int, left: int, right: int, causal: int) -> None:
    inputs = inputs_of(dtype, 1, (1, 1), (queries, 150), (32, 32))
    check(list(inputs), {"left_window_size": left, "right_window_size": right, "is_causal": causal})


@pytest.mark.parametrize("dtype", FAST)
@pytest.mark.parametrize("queries", [1, 4, 40])
@pytest.mark.parametrize("causal", [0, 1])
def test_lengths_hide_the_padding(dtype: Any, queries: int, causal: int) -> None:
    q, k, v = inputs_of(dtype, 4, (4, 2), (queries, 200), (32, 32))
    lengths = np.array([200, 70, 2, 0], np.int64)
    for item, length in enumerate(lengths):
        k[item, :, length:], v[item, :, length:] = np.nan, np.nan
    check([q, k, v, None, None, None, lengths], {"is_causal": causal})
    check([q, k, v, None, None, None, lengths], {"left_window_size": 30, "is_causal": causal})
    attributes = {"q_num_heads": 4, "is_causal": causal}
    check([flat(q), k, v, None, None, None, lengths], attributes, domain="bascule")


@pytest.mark.parametrize("dtype", FAST)
@pytest.mark.parametrize("queries", [1, 40])
def test_sinks(dtype: Any, queries: int) -> None:
    q, k, v = inputs_of(dtype, 2, (4, 2), (queries, 300), (32, 32))
    sinks = (3 * normal(4, seed=7)).astype(dtype)
    sinks[2] = -np.inf
    check([q, k, v, None, None, None, None, sinks], domain="bascule")
    lengths = np.array([0, 299], np.int64)
    check([q, k, v, None, None, None, lengths, sinks], domain="bascule")


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", TYPES)
def test_scores_are_shown(dtype: Any, mode: int) -> None:
    inputs = inputs_of(dtype, 2, (4, 2), (12, 14), (8, 8))
    attributes = {"qk_matmul_output_mode": mode, "is_causal": 1, "softcap": 1.5}
    check([*inputs, normal(12, 14, dtype=dtype)], attributes, 4)


def test_negative_scale_and_large_scores() -> None:
    for dtype in TYPES:
        for queries in (1, 20):
            q, k, v = inputs_of(dtype, 1, (1, 1), (queries, 90), (32, 32))
            check([q, k, v], {"scale": -0.3})
            check([q, k, v], {"scale": 0.0})
            mask = np.where(normal(queries, 90, seed=9) > 0, 0, -60000).astype(dtype)
            check([q, k, v, mask])


def test_rows_that_the_lowest_finite_number_hides() -> None:
    """Nothing is left of their scores: all keys weigh the same."""
    for dtype in FAST:
        lowest = ml_dtypes.finfo(dtype).min
        for queries in (1, 20):
            q, k, v = inputs_of(dtype, 1, (2, 2), (queries, 150), (64, 64))
            mask = np.zeros((queries, 150), dtype)
            mask[0], mask[-1] = lowest, lowest
            mask[-1, 140:] = 0
            check([q, k, v, mask])
            check([q, k, v, mask.astype(np.float32)])
            mask[0] = np.where(np.arange(150) < 130, lowest, -np.inf)
            check([q, k, v, mask])


def test_nan_and_infinity_are_kept() -> None:
    for dtype in (np.float32, np.float16):
        for queries in (1, 20):
            q, k, v = inputs_of(dtype, 1, (2, 2), (queries, 90), (32, 32))
            q[0, 0, 0, 3] = np.nan
            v[0, 1, 7, 5] = np.inf
            check([q, k, v])


def test_empty() -> None:
    for shape in [(0, 2, 3, 8), (2, 2, 0, 8)]:
        q = np.empty(shape, np.float32)
        y = run_node("Attention", [q, q, q])[0]
        assert y.shape == shape


def test_the_same_bits_for_a_batch_of_its_own() -> None:
    q, k, v = inputs_of(np.float16, 3, (2, 2), (70, 90), (64, 64))
    y = run_node("Attention", [q, k, v])[0]
    assert np.array_equal(y[1:2], run_node("Attention", [q[1:2], k[1:2], v[1:2]])[0])


def test_random() -> None:
    random = np.random.default_rng(11)
    for number in range(80):
        dtype = TYPES[random.integers(4)]
        kv_heads, group = (int(n) for n in random.integers(1, 4, 2))
        longest = 20 if dtype is np.float64 else 150
        batch, queries, keys = int(random.integers(1, 4)), *random.integers(1, longest, 2)
        size, v_size = (8 * int(n) for n in random.integers(1, 18, 2))
        heads, rows = (kv_heads * group, kv_heads), (int(queries), int(keys))
        inputs: list[Any] = list(inputs_of(dtype, batch, heads, rows, (size, v_size)))
        attributes = {"is_causal": int(random.integers(2))}
        if random.integers(2):
            attributes |= {"q_num_heads": heads[0], "kv_num_heads": heads[1]}
            inputs = [flat(x) for x in inputs]
        if random.integers(3) == 0:
            attributes["left_window_size"] = int(random.integers(0, 80))
        mask = None
        if random.integers(2):
            shape = [n if random.integers(2) else 1 for n in (batch, heads[0], queries)]
            mask = random.standard_normal((*shape, int(random.integers(1, keys + 1))))
            mask = mask > -1 if random.integers(2) else mask.astype(dtype)
        lengths = random.integers(0, keys + 1, batch) if random.integers(2) else None
        try:
            check([*inputs, mask, None, None, lengths], attributes)
        except AssertionError as error:
            raise AssertionError(f"case {number}: {attributes}, {heads}, {rows}") from error


def test_shapes_that_do_not_fit_are_refused() -> None:
    q, k = normal(1, 3, 4, 8), normal(1, 2, 5, 8)
    with pytest.raises(Fail, match="not a multiple"):
        run_node("Attention", [q, k, k])
    with pytest.raises(Fail, match="V has shape"):
        run_node("Attention", [k, k, k[:, :, :4]])
    with pytest.raises(Fail, match="attn_mask"):
        run_node("Attention", [k, k, k, np.zeros((5, 6), np.float32)])


def test_caches_are_not_updated_by_attention() -> None:
    """Such a node, of a model that was saved for the CPU, is left to its definition."""
    q, past = normal(1, 2, 8), normal(1, 2, 5, 4)
    inputs = [q, q, q, None, past, past, None, None, np.array([1]), np.array([5])]
    attributes = {"q_num_heads": 2, "kv_num_heads": 2}
    with pytest.raises(NotImplementedError, match="operators of their own"):
        run_node("Attention", inputs, attributes, 3, "bascule")
