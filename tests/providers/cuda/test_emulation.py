# SPDX-License-Identifier: Apache-2.0
"""The emulated device does what a GPU does: threads, warps, barriers, arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.ir.dtype import DataType
from bascule.providers.cuda import operators, registry
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.device import Struct
from bascule.providers.cuda.registry import kernel
from bascule.providers.cuda.tensor import Tensor
from tests.support.cuda_emulation import blank_call, emulated_device, run_node
from tests.support.cuda_emulator import build

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(bool(build.missing()), reason=build.missing()),
]

SOFTMAX = r"""
#include "common.cuh"
template <typename T>
__device__ void softmax_row(const T* x, T* y, int64_t n) {
  x += blockIdx.x * n;
  y += blockIdx.x * n;
  using W = wide_t<T>;
  W top = -INFINITY, sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) top = Largest()(top, widen(x[i]));
  top = block_reduce<W>(top, -INFINITY, Largest());
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += exp(widen(x[i]) - top);
  sum = block_reduce<W>(sum, 0, Sum());
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    y[i] = narrow<T>(exp(widen(x[i]) - top) / sum);
  }
}
#define ENTRY(name, T)                                                                \
  extern "C" __global__ void __launch_bounds__(256)                                   \
      softmax_##name(const T* __restrict__ x, T* __restrict__ y, int64_t n) {         \
    softmax_row(x, y, n);                                                             \
  }
FOR_FLOATS(ENTRY)
"""


@pytest.fixture
def softmax_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Softmax over the last axis, in place of the provider's."""
    operators.load_all()  # else what is loaded later registers in vain
    monkeypatch.setattr(registry, "_KERNELS", {})

    @kernel("Softmax", dtypes=registry.FLOATS)
    def softmax(call: Call, x: Tensor) -> Tensor:
        y = call.like(x)
        name = f"softmax_{x.dtype.numpy.name}"
        n = x.shape[-1]
        call.launch_generated(SOFTMAX, name, x.size // n, 128, x, y, np.int64(n))
        return y


@pytest.mark.usefixtures("softmax_kernel")
@pytest.mark.parametrize("dtype,error", [("float32", 1e-6), ("float16", 1e-3), ("float64", 1e-14)])
@pytest.mark.parametrize("shape", [(7, 300), (3, 1), (2, 2, 31)])
def test_run_node_finds_and_launches_the_kernel(
    dtype: str, error: float, shape: tuple[int, ...]
) -> None:
    x = np.random.default_rng(1).normal(size=shape).astype(dtype)
    (y,) = run_node("Softmax", [x], {"axis": -1})
    expected = np.exp(x.astype("float64"))
    expected /= expected.sum(-1, keepdims=True)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y.astype("float64"), expected, atol=error)


def launch(
    body: str,
    out: np.ndarray[Any, Any],
    grid: Any = 1,
    block: Any = 32,
    *arguments: Any,
    **how: Any,
) -> np.ndarray[Any, Any]:
    """`out` after a kernel with this body, which sees it as `out`."""
    parameters = how.pop("parameters", "")
    source = f"""#include "common.cuh"
    {how.pop("before", "")}
    extern "C" __global__ void test(int* out{parameters}) {{ {body} }}"""
    call = blank_call()
    tensor = call.upload(out)
    call.launch_generated(source, "test", grid, block, tensor, *arguments, **how)
    return call.download(tensor)


def zeros(count: int) -> np.ndarray[Any, Any]:
    return np.zeros(count, np.int32)


def test_every_thread_of_the_grid_runs_once() -> None:
    body = """
      int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
      int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
      out[block * 24 + thread] += block * 1000 + thread;
    """
    found = launch(body, zeros(6 * 24), (3, 2, 1), (2, 3, 4))
    expected = [block * 1000 + thread for block in range(6) for thread in range(24)]
    np.testing.assert_array_equal(found, expected)


def test_shuffles_and_votes() -> None:
    body = """
      const unsigned all = 0xffffffffu;
      const int lane = threadIdx.x % 32, x = threadIdx.x * 10;
      int* mine = out + threadIdx.x * 8;
      mine[0] = __shfl_sync(all, x, 5);
      mine[1] = __shfl_xor_sync(all, x, 3);
      mine[2] = __shfl_up_sync(all, x, 1);
      mine[3] = __shfl_down_sync(all, x, 2, 8);
      mine[4] = __ballot_sync(all, lane % 3 == 0);
      mine[5] = __any_sync(all, threadIdx.x == 40);
      mine[6] = __all_sync(all, threadIdx.x < 32);
      if (lane < 4) mine[7] = __shfl_sync(0xfu, x, lane + 1, 4);
    """
    found = launch(body, zeros(64 * 8), 1, 64).reshape(64, 8)
    t = np.arange(64)
    lane, base = t % 32, t // 32 * 32
    np.testing.assert_array_equal(found[:, 0], (base + 5) * 10)
    np.testing.assert_array_equal(found[:, 1], (t ^ 3) * 10)
    np.testing.assert_array_equal(found[:, 2], np.where(lane > 0, t - 1, t) * 10)
    np.testing.assert_array_equal(found[:, 3], np.where(lane % 8 < 6, t + 2, t) * 10)
    assert {*found[:, 4]} == {sum(1 << i for i in range(0, 32, 3))}
    np.testing.assert_array_equal(found[:, 5], t >= 32)
    np.testing.assert_array_equal(found[:, 6], t < 32)
    np.testing.assert_array_equal(found[:, 7], np.where(lane < 4, base + (lane + 1) % 4, 0) * 10)


def test_lanes_that_take_no_part_send_nonsense() -> None:
    found = launch("out[threadIdx.x] = __shfl_down_sync(0xfffu, 7, 4);", zeros(12), 1, 12)
    np.testing.assert_array_equal(found, [7] * 8 + [-1] * 4)


def test_barriers_order_shared_memory_and_threads_may_end_before_them() -> None:
    body = """
      __shared__ int numbers[96];
      if (threadIdx.x >= 90) return;
      for (int round = 0; round < 3; ++round) {
        numbers[threadIdx.x] = threadIdx.x + round;
        __syncthreads();
        out[threadIdx.x] += numbers[89 - threadIdx.x];
        __syncthreads();
      }
      out[threadIdx.x] += 1000 * __syncthreads_count(threadIdx.x < 50);
    """
    found = launch(body, zeros(96), 2, 96)
    np.testing.assert_array_equal(found[:90], 2 * (3 * (89 - np.arange(90)) + 3 + 50000))
    assert not found[90:].any()


def test_a_barrier_that_is_missed_is_missed() -> None:
    write = "__shared__ int n[64]; n[threadIdx.x] = threadIdx.x + 1;"
    for other in ("0", "63"):
        found = launch(f"{write} out[threadIdx.x] = n[{other}];", zeros(64), 1, 64)
        assert set(found) == {-1, int(other) + 1}


def test_shared_memory_is_undefined_at_first() -> None:
    body = "__shared__ int n; if (threadIdx.x == 7) { out[blockIdx.x] = n; n = 5; }"
    np.testing.assert_array_equal(launch(body, zeros(3), 3), [-1, -1, -1])


@pytest.mark.parametrize(
    "declared,finding",
    [
        ("__shared__ float x[8];", "line .* of 'struct float2' is no multiple of 8"),
        ("__shared__ float2 pairs[4]; float* x = &pairs[0].x;", ""),
        ("__shared__ double wide[4]; float* x = reinterpret_cast<float*>(wide);", ""),
        ("__shared__ double wide[4]; float* x = reinterpret_cast<float*>(wide) + 1;", "float2"),
    ],
)
def test_an_address_that_is_not_aligned_is_found(declared: str, finding: str) -> None:
    body = f"{declared} *reinterpret_cast<float2*>(x) = make_float2(1, 2); out[0] = x[1];"
    if not finding:
        assert launch(body, zeros(1), 1, 1) == [2]
    else:
        with pytest.raises(RuntimeError, match=finding):
            launch(body, zeros(1), 1, 1)


@pytest.mark.parametrize("dynamic", [0, 65520, 65536])
def test_shared_memory_of_both_kinds_has_one_limit(
    dynamic: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulated_device(), "shared_memory", 65536)
    body = "__shared__ int n[4]; n[threadIdx.x] = 1; out[threadIdx.x] = n[threadIdx.x];"
    if dynamic + 16 <= 65536:
        assert launch(body, zeros(4), 1, 4, shared=dynamic).all()
    else:
        with pytest.raises(RuntimeError, match=r"16 bytes of .* 65536 dynamic .* than 65536"):
            launch(body, zeros(4), 1, 4, shared=dynamic)


def test_dynamic_shared_memory() -> None:
    body = """
      DYNAMIC_SHARED(bytes);
      int* numbers = reinterpret_cast<int*>(bytes);
      numbers[threadIdx.x] = threadIdx.x;
      __syncthreads();
      out[threadIdx.x] = numbers[63 - threadIdx.x];
    """
    found = launch(body, zeros(64), 1, 64, shared=256)
    np.testing.assert_array_equal(found, np.arange(64)[::-1])


def test_atomics() -> None:
    body = """
      atomicAdd(out, 1);
      atomicMax(out + 1, static_cast<int>(threadIdx.x));
      atomicCAS(out + 2, 0, 5 + static_cast<int>(blockIdx.x));
    """
    *sums, first = launch(body, zeros(3), 3, 40)
    assert sums == [120, 39] and first in (5, 6, 7)


def test_arguments_of_every_kind() -> None:
    before = "struct Pair { long long a; int b; };"
    parameters = ", int64_t n, uint8_t byte, float x, double y, float16 h, bool flag, Pair pair"
    body = """
      out[0] = n >> 40; out[1] = byte; out[2] = x * 2; out[3] = y * 4; out[4] = widen(h);
      out[5] = flag; out[6] = pair.a; out[7] = pair.b;
    """
    pair = np.array([(-3, 4)], np.dtype([("a", "i8"), ("b", "i4")], align=True))
    given = [np.int64(3 << 40), np.uint8(200), np.float32(1.5), np.float64(0.75)]
    given += [np.float16(2), np.bool_(True), Struct(pair.tobytes())]
    found = launch(body, zeros(8), 1, 1, *given, parameters=parameters, before=before)
    np.testing.assert_array_equal(found, [3, 200, 3, 3, 2, 1, -3, 4])


def test_an_argument_of_another_width_is_refused() -> None:
    with pytest.raises(TypeError, match=r"argument 1 of test is i4, not i8"):
        launch("out[0] = n;", zeros(1), 1, 1, np.int32(1), parameters=", int64_t n")
    with pytest.raises(TypeError, match=r"test takes 1 arguments, not 2"):
        launch("", zeros(1), 1, 1, None)


def test_a_deadlock_is_an_error_and_the_device_goes_on() -> None:
    with pytest.raises(RuntimeError, match="deadlock"):
        launch("if (threadIdx.x < 5) __syncwarp(); else __syncthreads();", zeros(1))
    np.testing.assert_array_equal(launch("out[0] = 3;", zeros(1)), [3])


def test_memory_is_undefined_at_first() -> None:
    device = emulated_device()
    address, owner = device.allocate(8)
    assert np.isnan(device.array(Tensor(DataType.FLOAT, (2,), address, owner))).all()
    assert address % 256 == 0
