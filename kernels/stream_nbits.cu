// SPDX-License-Identifier: Apache-2.0
// parts: 1_1_float16 2_1_float16 2_2_float16 4_1_float16 4_2_float16 4_4_float16
// parts: 1_1_bfloat16 2_1_bfloat16 2_2_bfloat16 4_1_bfloat16 4_2_bfloat16 4_4_bfloat16
//
// Products of a few rows with weights of 4 bits, for 16-bit elements: as fast as the weights can be
// read.
//
// Weights lie in units (nbits_units.cuh). A block has whole tiles of columns; each of its warps
// reads a run of their units through a ring in shared memory, of which every lane reads what it has
// copied itself; scales and zero points several lanes copy to one place. So warps wait for nobody
// before the end, where the sums of those that have parts of a tile are joined.
//
// Tensor cores multiply whole numbers, and scales are applied to sums over a block of weights, so
// that a weight costs little more than being taken out of its word. The 8 columns of B, of which
// one row of x takes one, are used for different blocks.
#include "nbits_numbers.cuh"
#include "nbits_units.cuh"
#include "stream.cuh"

namespace {

constexpr int depth = 6;         // units in a ring, or `shallow`
constexpr int noted_bytes = 32;  // of a row of x and a unit, see Order

// In which order x is multiplied, and what is known of its segments: a sum, and one weighed by what
// `expand` adds.
template <typename T, int segments, bool has_zeros>
struct Order {
  float* noted;

  __device__ static int place(int i) { return i % 4 * 2 + i / 4; }  // as `expand` makes pairs

  __device__ void note(int row, int k, int end, const uint4& raw) const {
    constexpr int lanes = together / segments / 8;  // that have a segment
    float values[8];
    unpack<T>(raw, values);
    float even = values[0] + values[2] + (values[4] + values[6]);
    float odd = values[1] + values[3] + (values[5] + values[7]);
#pragma unroll
    for (int step = 1; step < lanes; step *= 2) {
      even += __shfl_xor_sync(0xffffffffu, even, step);
      odd += __shfl_xor_sync(0xffffffffu, odd, step);
    }
    if (threadIdx.x % lanes == 0 && k < end) {
      const int group = row * (end / together) + k / together;
      float* to = noted + group * (noted_bytes / 4) + k % together / 8 / lanes * 2;
      const float zero = has_zeros ? 0 : 8;
      to[0] = even * (Added<T>::even + zero) + odd * (Added<T>::odd + zero);
      to[1] = even + odd;
    }
  }
};

// Keeps a number in its register: it would be computed again where it is used.
__device__ inline void hold(int& number) {
#ifndef BASCULE_EMULATED
  asm volatile("" : "+r"(number));
#endif
}

// What a warp adds to its sums for each unit. With `sets` it multiplies by so many times 8 columns
// of B.
template <typename T, int segments, int sets, bool has_zeros>
struct Multiplier {
  using Lies = Unit<segments, has_zeros>;
  static constexpr int rows_of_set = 8 / segments;

  // Where this lane reads, in bytes of shared memory: x, of which it may have to give zeros, and
  // what is noted of it, both for k = 0; scales and zero points from what it reads of a unit on.
  int x_at[sets], noted_at[sets][2], scales_at, zeros_at;
  int steps[sets];  // of x, from a unit to the next
  float sums[sets][4];

  // With [m][groups * together] elements from 0 on and zeros behind, and with what is noted of them
  // from `noted` on.
  __device__ Multiplier(int noted, int m, int groups) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const bool gives = g % segments == t / (4 / segments);
    const int row_elements = groups * together;
#pragma unroll
    for (int s = 0; s < sets; ++s) {
      const int row = s * rows_of_set + g / segments;
      const bool exists = gives && row < m;
      const int first = exists ? row * row_elements + t * (together / 4) : m * row_elements;
      x_at[s] = first * static_cast<int>(sizeof(T));
      steps[s] = exists ? together * static_cast<int>(sizeof(T)) : 0;
      hold(x_at[s]);
      hold(steps[s]);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int sum = t * 2 + j, of_row = min(s * rows_of_set + sum / segments, m - 1);
        noted_at[s][j] = noted + of_row * groups * noted_bytes + sum % segments * 8;
        hold(noted_at[s][j]);
      }
    }
    scales_at = data_bytes + Lies::place(lane) * Lies::scale_bytes - lane * 16;
    zeros_at = Lies::zeros_at + Lies::place(lane) * 2 - lane * 16;
    hold(scales_at);
    if (has_zeros) hold(zeros_at);
    begin();
  }

  __device__ void begin() {
#pragma unroll
    for (int s = 0; s < sets; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[s][i] = 0;
    }
  }

  // Unit number `group` of a tile, of which this lane has its part at `unit`.
  __device__ void add(const unsigned char* memory, const unsigned char* unit, int group) {
    const uint4 low = *reinterpret_cast<const uint4*>(unit);
    const uint4 high = *reinterpret_cast<const uint4*>(unit + data_bytes / 2);
    float c[sets][2][4] = {};
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      uint32_t pairs[2][4];
      expand<T>(word_of(low, word), pairs[0]);
      expand<T>(word_of(high, word), pairs[1]);
#pragma unroll
      for (int s = 0; s < sets; ++s) {
        const uint4 values =
            reinterpret_cast<const uint4*>(memory + (x_at[s] + group * steps[s]))[word];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const uint32_t a[4] = {pairs[0][2 * half], pairs[1][2 * half], pairs[0][2 * half + 1],
                                 pairs[1][2 * half + 1]};
          multiply_tiles<T>(c[s][half], a, half == 0 ? values.x : values.z,
                            half == 0 ? values.y : values.w);
        }
      }
    }
    float scale[2][2], zero[2][2] = {};
    if constexpr (segments == 1) {
      float both[2];
      unpack_word<T>(*reinterpret_cast<const uint32_t*>(unit + scales_at), both);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        scale[0][j] = both[0];
        scale[1][j] = both[1];
      }
    } else {
      const uint2 both = *reinterpret_cast<const uint2*>(unit + scales_at);
      unpack_word<T>(both.x, scale[0]);
      unpack_word<T>(both.y, scale[1]);
    }
    if constexpr (has_zeros) {
      const uint32_t bits = *reinterpret_cast<const uint16_t*>(unit + zeros_at);
#pragma unroll
      for (int i = 0; i < 4; ++i) zero[i / 2][i % 2] = static_cast<float>(bits >> 4 * i & 15);
    }
#pragma unroll
    for (int s = 0; s < sets; ++s) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float2 of_x =
            *reinterpret_cast<const float2*>(memory + (noted_at[s][j] + group * noted_bytes));
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float sum = c[s][0][2 * i + j] + c[s][1][2 * i + j] - of_x.x;
          if constexpr (has_zeros) sum -= zero[i][j] * of_x.y;
          sums[s][2 * i + j] += sum * scale[i][j];
        }
      }
    }
  }

  // Segments to their rows, at [row][column].
  __device__ void store(float* to, int m) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int s = 0; s < sets; ++s) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float* column = to + g + 8 * i;
        const int first = s * rows_of_set;
        if constexpr (segments == 1) {
          if (first + 2 * t < m) column[(first + 2 * t) * tile_columns] = sums[s][2 * i];
          if (first + 2 * t + 1 < m)
            column[(first + 2 * t + 1) * tile_columns] = sums[s][2 * i + 1];
        } else {
          float sum = sums[s][2 * i] + sums[s][2 * i + 1];
          if constexpr (segments == 4) sum += __shfl_xor_sync(0xffffffffu, sum, 1);
          const int row = first + (segments == 4 ? t / 2 : t);
          if (row < m) column[row * tile_columns] = sum;
        }
      }
    }
  }
};

// The product by the warps of a block.
template <typename T, int segments, int sets, bool has_zeros>
__device__ void multiply_units(const Product<T>& p, const unsigned char* units, int stages,
                               const Epilogue<T>& epilogue) {
  using Lies = Unit<segments, has_zeros>;
  DYNAMIC_SHARED(memory);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int groups = (p.k + together - 1) / together, pair = p.gated ? 2 : 1;
  const int of_x = p.m * groups * together;  // elements, and 32 zeros behind
  const int noted = (of_x + 32) * static_cast<int>(sizeof(T));
  T* staged = reinterpret_cast<T*>(memory);
  const Order<T, segments, has_zeros> order{reinterpret_cast<float*>(memory + noted)};
  // [tile + warp][row][column]
  float* parts = reinterpret_cast<float*>(memory + noted + p.m * groups * noted_bytes);

  // The tiles of this block, and the units of this warp.
  const int64_t pairs = (p.n / pair + tile_columns - 1) / tile_columns;
  const int first = static_cast<int>(pairs * blockIdx.x / gridDim.x) * pair;
  const int tiles = static_cast<int>(pairs * (blockIdx.x + 1) / gridDim.x) * pair - first;
  const int total = tiles * groups;
  const int begin = total * warp / stream_warps, end = total * (warp + 1) / stream_warps;
  const int part_bytes = p.m * tile_columns * static_cast<int>(sizeof(float));
  const int rings = noted + p.m * groups * noted_bytes + (tiles + stream_warps) * part_bytes;
  const int ring_bytes = stages * Lies::bytes;
  int read_at = rings + warp * ring_bytes + lane * 16, write_at = read_at;
  const int ring_end = read_at + ring_bytes;
  const auto next = [&](int& at) {
    at += Lies::bytes;
    if (at == ring_end) at -= ring_bytes;
  };
  const unsigned char* from =
      units + (static_cast<int64_t>(first) * groups + begin) * Lies::bytes + lane * 16;
  int scales_at = data_bytes + Lies::place(lane) * Lies::scale_bytes - lane * 16;
  int zeros_at = Lies::zeros_at + Lies::place(lane) / 2 * 4 - lane * 16;
  hold(scales_at);
  int left = end - begin;  // to be fetched
  const auto fetch = [&] {
    if (left > 0) {
      unsigned char* to = memory + write_at;
      copy_16_bytes(to, from, true);
      copy_16_bytes(to + data_bytes / 2, from + data_bytes / 2, true);
      copy_few_bytes<Lies::scale_bytes>(to + scales_at, from + scales_at);
      if constexpr (has_zeros) copy_few_bytes<4>(to + zeros_at, from + zeros_at);
      from += Lies::bytes;
      next(write_at);
      --left;
    }
    end_batch_of_copies();
  };
#pragma unroll 1
  for (int i = 0; i < stages - 1; ++i) fetch();
  Stage<T, Order<T, segments, has_zeros>> stage(p, groups * together);
  if (!p.constant) wait_for_previous_kernels();
  stage.read_normalization(threadIdx.x * 8);
  if (p.constant) wait_for_previous_kernels();

  if (threadIdx.x < 32) staged[of_x + threadIdx.x] = narrow<T>(0.0f);
#pragma unroll 1
  for (int r = 0; r < p.m; ++r) stage.run(r, staged + r * groups * together, order);
  const auto output_of = [&](int i) {
    const int row = i / tile_columns % p.m, tile = i / tile_columns / p.m * pair;
    const int column = column_of(first + tile, p.n, p.gated) + i % tile_columns;
    return Output<T>(p, epilogue, row, column, tile < tiles);
  };
  const Output<T> ahead = output_of(threadIdx.x);
  __syncthreads();

  Multiplier<T, segments, sets, has_zeros> sums(noted, p.m, groups);
  int group = begin % groups;
  float* part = parts + (begin / groups + warp) * p.m * tile_columns;
  if (begin == end) sums.store(part, p.m);  // zeros: others count on it
#pragma unroll 1
  for (int count = end - begin; count > 0; --count) {
    if (stages == depth) {
      wait_for_batches<depth - 2>();
    } else {
      wait_for_batches<shallow - 2>();
    }
    __syncwarp();  // all lanes have read the scales of the unit that is overwritten
    fetch();
    sums.add(memory, memory + read_at, group);
    next(read_at);
    if (++group == groups || count == 1) {
      sums.store(part, p.m);
      sums.begin();
      part += p.m * tile_columns;
      group = 0;
    }
  }
  __syncthreads();
  // The sum of a tile over the warps that have units of it.
  const auto sum_of = [&](int of_tile, int row, int column) {
    const int from_warp = (stream_warps * (of_tile * groups + 1) - 1) / total;
    const int to_warp = (stream_warps * (of_tile + 1) * groups - 1) / total;
    float sum = 0;
#pragma unroll 4
    for (int w = from_warp; w <= to_warp; ++w) {
      sum += parts[((of_tile + w) * p.m + row) * tile_columns + column];
    }
    return sum;
  };
#pragma unroll 1
  for (int i = threadIdx.x; i < tiles / pair * p.m * tile_columns; i += stream_threads) {
    const Output<T> output = i == threadIdx.x ? ahead : output_of(i);
    if (!output.exists) continue;
    const int row = i / tile_columns % p.m, of_tile = i / tile_columns / p.m * pair;
    const float sum = sum_of(of_tile, row, i % tile_columns);
    output.store(p, epilogue, sum, p.gated ? sum_of(of_tile + 1, row, i % tile_columns) : 0.0f);
  }
}

}  // namespace

#define STREAMED(name, T, segments, sets, kind, has_zeros)                                   \
  extern "C" __global__ void __launch_bounds__(stream_threads)                               \
      stream_nbits_##kind##segments##_##sets##_##name(                                       \
          const T* x, const unsigned char* units, T* y, const T* norm, float epsilon, int m, \
          int n, int k, int stages, int gated, int constant, EPILOGUE_PARAMETERS(T)) {       \
    wait_for_previous_kernels(true);                                                         \
    const Product<T> product{x, norm, nullptr, y, epsilon, 0, m, n, k, gated, constant};     \
    multiply_units<T, segments, sets, has_zeros>(product, units, stages, EPILOGUE(T));       \
  }
#define FOR_SETS(name, T, segments, sets)                                        \
  IN_PART(segments##_##sets##_##name, STREAMED(name, T, segments, sets, , false) \
                                          STREAMED(name, T, segments, sets, zeros_, true))
#define FOR_TYPES(name, T) \
  FOR_SETS(name, T, 1, 1)  \
  FOR_SETS(name, T, 2, 1)  \
  FOR_SETS(name, T, 2, 2)  \
  FOR_SETS(name, T, 4, 1)  \
  FOR_SETS(name, T, 4, 2)  \
  FOR_SETS(name, T, 4, 4)
FOR_TYPES(float16, float16)
FOR_TYPES(bfloat16, bfloat16)
