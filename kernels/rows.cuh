// SPDX-License-Identifier: Apache-2.0
// Rows of tensors: 16 bytes at a time, by teams of threads that work on one row each.
//
// Which thread takes which elements depends on the length of a row alone, also where addresses do
// not allow accesses of 16 bytes: a row's sum is the same wherever the row stands.
#pragma once

#include "common.cuh"

// 16 bytes of elements, as they are in memory.
template <typename T>
struct alignas(16) Packed {
  T data[16 / sizeof(T)];
};

// The same in registers, to be taken apart where they are used: a load is not waited for before.
template <typename T>
struct Raw {
  uint32_t words[4];
};

// The same elements in the type that they are computed with.
template <typename T>
struct Pack {
  static constexpr int width = 16 / sizeof(T);
  wide_t<T> data[width];
};

template <typename T>
__device__ inline Pack<T> widened(const Raw<T>& raw) {
  Packed<T> packed;
  memcpy(&packed, &raw, sizeof(raw));
  Pack<T> pack;
#pragma unroll
  for (int i = 0; i < Pack<T>::width; ++i) pack.data[i] = widen(packed.data[i]);
  return pack;
}

// Elements [first, first + width) of a row of n; `fill` for those beyond its end.
template <typename T>
__device__ inline Raw<T> load_raw(const T* row, int64_t first, int64_t n, bool aligned, T fill) {
  Raw<T> raw;
  if (aligned) {
    // Its use is not seen by all compilers.
    [[maybe_unused]] const uint4 words = *reinterpret_cast<const uint4*>(row + first);
    raw = {{words.x, words.y, words.z, words.w}};
  } else {
    Packed<T> packed;
#pragma unroll
    for (int i = 0; i < Pack<T>::width; ++i) {
      packed.data[i] = first + i < n ? row[first + i] : fill;
    }
    memcpy(&raw, &packed, sizeof(raw));
  }
  return raw;
}
template <typename T>
__device__ inline Pack<T> load_pack(const T* row, int64_t first, int64_t n, bool aligned,
                                    wide_t<T> fill) {
  Pack<T> pack = widened(load_raw(row, first, n, aligned, T(0)));
  if (!aligned) {
#pragma unroll
    for (int i = 0; i < Pack<T>::width; ++i) {
      if (first + i >= n) pack.data[i] = fill;  // as it is: a mean may be beyond the range of T
    }
  }
  return pack;
}

template <typename T>
__device__ inline void store_pack(T* row, int64_t first, int64_t n, bool aligned,
                                  const Pack<T>& pack) {
  if (aligned) {
    Packed<T> raw;
#pragma unroll
    for (int i = 0; i < Pack<T>::width; ++i) raw.data[i] = narrow<T>(pack.data[i]);
    *reinterpret_cast<Packed<T>*>(row + first) = raw;
  } else {
#pragma unroll
    for (int i = 0; i < Pack<T>::width; ++i) {
      if (first + i < n) row[first + i] = narrow<T>(pack.data[i]);
    }
  }
}

// The sum of f(element) over a pack, as a tree.
template <typename T, typename F>
__device__ inline wide_t<T> sum_of_pack(const Pack<T>& pack, F f) {
  wide_t<T> values[Pack<T>::width];
#pragma unroll
  for (int i = 0; i < Pack<T>::width; ++i) values[i] = f(pack.data[i]);
#pragma unroll
  for (int step = Pack<T>::width / 2; step > 0; step /= 2) {
#pragma unroll
    for (int i = 0; i < step; ++i) values[i] += values[i + step];
  }
  return values[0];
}

template <typename T>
__device__ inline wide_t<T> largest_of_pack(const Pack<T>& pack) {
  wide_t<T> largest = pack.data[0];
#pragma unroll
  for (int i = 1; i < Pack<T>::width; ++i) largest = Largest()(largest, pack.data[i]);
  return largest;
}

// How many threads of a warp share a row of up to 1024 elements where a thread holds up to 32 of
// them. The order of a row's sums is theirs: each thread adds up its packs, then a tree joins them.
__device__ inline int held_lanes(int64_t n) { return n <= 256 ? 8 : n <= 512 ? 16 : 32; }

// `lanes` threads of a warp for each row: 8, 16 or 32.
template <int lanes>
struct WarpTeam {
  __device__ explicit WarpTeam(int64_t) {}
  __device__ static int index() { return threadIdx.x % lanes; }
  __device__ static int size() { return lanes; }
  __device__ static int64_t row() {
    return static_cast<int64_t>(blockIdx.x) * (blockDim.x / lanes) + threadIdx.x / lanes;
  }
  template <typename T, typename Join>
  __device__ T reduce(T value, T, Join join) {
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2) {
      value = join(value, __shfl_xor_sync(0xffffffffu, value, step));
    }
    return value;
  }
};

// As many threads of a warp for each row of up to 256 elements as there are packs, for few rows:
// the results are those of WarpTeam<8>.
template <int lanes>
struct SpreadWarpTeam : WarpTeam<lanes> {
  using WarpTeam<lanes>::WarpTeam;
  template <typename T, typename Join>
  __device__ T reduce(T value, T neutral, Join join) {
    T total = neutral;
#pragma unroll
    for (int first = 0; first < lanes; first += 8) {
      total = join(total, __shfl_sync(0xffffffffu, value, first + threadIdx.x % 8, lanes));
    }
#pragma unroll
    for (int step = 4; step > 0; step /= 2) {
      total = join(total, __shfl_xor_sync(0xffffffffu, total, step));
    }
    return total;
  }
};

// A block for each row. Two reductions may follow each other.
struct BlockTeam {
  int turn = 0;

  __device__ explicit BlockTeam(int64_t) {}
  __device__ static int index() { return threadIdx.x; }
  __device__ static int size() { return blockDim.x; }
  __device__ static int64_t row() { return blockIdx.x; }
  template <typename T, typename Join>
  __device__ T reduce(T value, T neutral, Join join) {
    __shared__ T of_warps[2][32];
    T* parts = of_warps[turn++];
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    value = warp_reduce(value, join);
    if (lane == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    return warp_reduce(lane < warps ? parts[lane] : neutral, join);
  }
};

// As many threads of a block for each row of up to 1024 elements as there are packs of `width`,
// for few rows: the results are those of WarpTeam. Two reductions may follow each other.
template <int width>
struct SpreadBlockTeam {
  int lanes, turn = 0;

  __device__ explicit SpreadBlockTeam(int64_t n) : lanes(held_lanes(n)) {}
  __device__ static int index() { return threadIdx.x; }
  __device__ static int size() { return blockDim.x; }
  __device__ static int64_t row() { return blockIdx.x; }
  template <typename T, typename Join>
  __device__ T reduce(T value, T neutral, Join join) {
    __shared__ T of_threads[2][1024 / width];
    T* parts = of_threads[turn++];
    parts[threadIdx.x] = value;
    __syncthreads();
    T total = neutral;
    for (int i = threadIdx.x & (lanes - 1); i < blockDim.x; i += lanes)
      total = join(total, parts[i]);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      if (step < lanes) total = join(total, __shfl_xor_sync(0xffffffffu, total, step));
    }
    return total;
  }
};

// A thread's part of a row, in registers: `packs` packs. `source(first, fill)` loads one.
template <typename T, int packs, typename Team, typename Source>
struct HeldRow {
  Pack<T> held[packs];
  int n;

  __device__ HeldRow(const Source& source, int64_t length, wide_t<T> fill)
      : n(static_cast<int>(length)) {
#pragma unroll
    for (int k = 0; k < packs; ++k) {
      if (first(k) < n) held[k] = source(first(k), fill);
    }
  }
  __device__ static int first(int k) { return (k * Team::size() + Team::index()) * Pack<T>::width; }
  // f(number of the first element, pack) for each pack, which f may change.
  template <typename F>
  __device__ void each(F f) {
#pragma unroll
    for (int k = 0; k < packs; ++k) {
      if (first(k) < n) f(first(k), held[k]);
    }
  }
  // What elements beyond the end are from now on.
  __device__ void pad(wide_t<T> fill) {
    if (n % Pack<T>::width == 0) return;
#pragma unroll
    for (int k = 0; k < packs; ++k) {
#pragma unroll
      for (int i = 0; i < Pack<T>::width; ++i) {
        if (first(k) + i >= n) held[k].data[i] = fill;
      }
    }
  }
};

// A thread's part of a row of any length, loaded again each time.
template <typename T, typename Team, typename Source>
struct StreamedRow {
  Source source;
  int64_t n;
  wide_t<T> fill;

  __device__ StreamedRow(const Source& from, int64_t length, wide_t<T> value)
      : source(from), n(length), fill(value) {}
  template <typename F>
  __device__ void each(F f) {
    const int64_t step = static_cast<int64_t>(Team::size()) * Pack<T>::width;
    for (int64_t first = Team::index() * Pack<T>::width; first < n; first += step) {
      Pack<T> pack = source(first, fill);
      f(first, pack);
    }
  }
  __device__ void pad(wide_t<T> value) { fill = value; }
};

template <typename S>
__device__ inline S shuffled(S state, int step) {
  return __shfl_xor_sync(0xffffffffu, state, step);
}

// The states of a team of `lanes` threads, joined in the first of them: a power of two up to 32, or
// the whole block, of whole warps. All threads of the block must call it.
template <typename Fold, typename S>
__device__ inline S team_join(const Fold& fold, S state, int lanes) {
  __shared__ S of_warps[32];
#pragma unroll 1
  for (int step = (lanes < 32 ? lanes : 32) / 2; step > 0; step /= 2) {
    state = fold.join(state, shuffled(state, step));
  }
  if (lanes <= 32) return state;
  const int lane = threadIdx.x % 32;
  if (lane == 0) of_warps[threadIdx.x / 32] = state;
  __syncthreads();
  state = lane < blockDim.x / 32 ? of_warps[lane] : fold.neutral();
#pragma unroll 1
  for (int step = 16; step > 0; step /= 2) state = fold.join(state, shuffled(state, step));
  return state;
}
