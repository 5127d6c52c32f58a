// SPDX-License-Identifier: Apache-2.0
// Products of a few rows with weights of 4 bits, [n, k] packed along k, for 16-bit elements: as
// fast as the weights can be read. Before it a root mean square normalization of the rows, after it
// a bias, a gate and a residual.
//
// Tensor cores do the arithmetic, so that a weight costs little more than being taken out of its
// word: they multiply whole numbers, and scales are applied to sums over a block. A lane reads 32
// weights of two columns in 16 bytes each; which k these are does not matter to a product, as long
// as x is put in the same order.
#include "gemv.cuh"
#include "tensor_core.cuh"

namespace {

constexpr int tile_columns = 16, together = 128;  // columns of a warp, and k that it reads at once
constexpr int most_warps = 16;
// More than there are in a block: so many are to fit a multiprocessor with their registers.
constexpr int most_threads = 768;
constexpr int ahead = 2;  // reads of `together` that are under way

// What the product works on.
template <typename T>
struct Product {
  const T* x;
  const uint8_t* data;
  const T* scales;
  const uint8_t* zeros;  // null, or packed like the weights, rows of whole bytes
  const T* bias;         // null, or [n]
  const T* norm;         // null, or the scale of the normalization
  const T* residual;     // null, or of the shape of y
  T* y;
  float epsilon;
  int m, n, k, blocks, row_bytes;
  int block_shift;  // log2 of the size of a block
  int slices;       // warps of a block that share the k of their columns
  int gated;        // y is swish(first half of the columns) * second half
};

// Eight weights of a word, less a zero point: (0, 4), (1, 5), (2, 6) and (3, 7). The patterns
// become the low bits of numbers from 1024 (bfloat16: 128) on, so that all of this is exact.
template <typename T>
__device__ inline void expand(uint32_t word, int zero, uint32_t (&pairs)[4]);

#ifdef BASCULE_EMULATED
template <typename T>
__device__ inline void expand(uint32_t word, int zero, uint32_t (&pairs)[4]) {
  for (int i = 0; i < 4; ++i) {
    const int low = word >> (4 * i) & 15, high = word >> (4 * i + 16) & 15;
    pairs[i] = pack_pair<T>(static_cast<float>(low - zero), static_cast<float>(high - zero));
  }
}
#else
// (a & b) | c
__device__ inline uint32_t and_or(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t y;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(a), "r"(b), "r"(c));
  return y;
}
template <typename Pair>
__device__ inline Pair as_pair(uint32_t bits) {
  return *reinterpret_cast<Pair*>(&bits);
}
template <typename Pair>
__device__ inline uint32_t as_bits(Pair pair) {
  return *reinterpret_cast<uint32_t*>(&pair);
}
template <>
__device__ inline void expand<float16>(uint32_t word, int zero, uint32_t (&pairs)[4]) {
  const uint32_t low = 0x64006400u + static_cast<uint32_t>(zero) * 0x00010001u;   // 1024 + zero
  const uint32_t high = 0xd400d400u + static_cast<uint32_t>(zero) * 0x00100010u;  // -64 - zero
  const __half2 offset = as_pair<__half2>(low), moved = as_pair<__half2>(high);
  const __half2 sixteenth = as_pair<__half2>(0x2c002c00u);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t part = i == 0 ? word : word >> 8;
    const __half2 even = as_pair<__half2>(and_or(part, 0x000f000fu, 0x64006400u));
    const __half2 odd = as_pair<__half2>(and_or(part, 0x00f000f0u, 0x64006400u));
    pairs[2 * i] = as_bits(__hsub2(even, offset));
    pairs[2 * i + 1] = as_bits(__hfma2(odd, sixteenth, moved));
  }
}
template <>
__device__ inline void expand<bfloat16>(uint32_t word, int zero, uint32_t (&pairs)[4]) {
  const uint32_t low = 0x43004300u + static_cast<uint32_t>(zero) * 0x00010001u;  // 128 + zero
  const __nv_bfloat162 offset = as_pair<__nv_bfloat162>(low);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t bits = and_or(word >> (4 * i), 0x000f000fu, 0x43004300u);
    pairs[i] = as_bits(__hsub2(as_pair<__nv_bfloat162>(bits), offset));
  }
}
#endif

// `together` weights of two columns, spread over the lanes that share these, with what belongs to
// them. Of `segments` blocks of weights a lane has one.
struct Read {
  uint4 packed[2];
  uint32_t scales[2];  // a pair for each column, of the sums that the lane will have
  uint32_t zeros;      // a byte for each column
};

// A number that the compiler keeps in a register rather than to compute it over and over.
__device__ inline int keep(int x) {
#ifndef BASCULE_EMULATED
  asm volatile("" : "+r"(x));
#endif
  return x;
}

// Where the two columns of a lane begin.
template <typename T>
struct Columns {
  const uint8_t* data;
  const T* scales;
  const uint8_t* zeros;
  uint32_t data_step, scale_step, zero_step;  // to the second column
};

template <typename T, int segments, bool has_zeros>
struct Stream {
  static constexpr int pieces = together / 8;  // of 16 bytes of x

  const Product<T>& p;
  const uint4* staged;
  int g, t, slice, groups;  // groups of `together`
  int bytes, scales;        // of a row, from those of this lane on; no scales for unwanted sums
  int given, given_step;    // what this lane has to give of x, or zeros; to the next group

  __device__ Stream(const Product<T>& product, const uint4* x)
      : p(product), staged(x), g(threadIdx.x % 32 / 4), t(threadIdx.x % 4) {
    slice = threadIdx.x / 32 % p.slices;
    groups = (p.k + together - 1) / together;
    bytes = keep(p.row_bytes - t * 16);
    scales = keep(2 * t / segments < p.m ? p.blocks - 2 * t % segments : 0);
    // Sums over different blocks go to different columns, so that they can be scaled afterwards.
    const bool gives = g % segments == t / (4 / segments) && g / segments < p.m;
    given = keep(gives ? g / segments * groups * pieces + t * 4 : p.m * groups * pieces);
    given_step = keep(gives ? pieces : 0);
  }

  // The block of weights `segment` of a group.
  __device__ int block_of(int group, int segment) const {
    return segments == 1 ? group * together >> p.block_shift : group * segments + segment;
  }

  __device__ Columns<T> columns_from(int first) const {
    const int64_t column = min(first + g, p.n - 1);
    const uint32_t more = min(first + g + 8, p.n - 1) - static_cast<int>(column);
    const int zero_bytes = (p.blocks + 1) / 2;
    return {p.data + column * p.row_bytes + t * 16,
            p.scales + column * p.blocks + 2 * t % segments,
            p.zeros + column * zero_bytes,
            more * p.row_bytes,
            more * p.blocks,
            more * zero_bytes};
  }

  __device__ void fetch(const Columns<T>& from, int group, Read& to) const {
    const int at = group * (together / 2);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      to.packed[i] = make_uint4(0, 0, 0, 0);
      if (at < bytes) to.packed[i] = load_once(from.data + i * from.data_step + at);
      to.scales[i] = 0;
      if constexpr (segments == 1) {
        if (scales > 0) {
          const T scale = from.scales[i * from.scale_step + block_of(group, 0)];
          uint16_t bits;
          memcpy(&bits, &scale, 2);
          to.scales[i] = bits * 0x10001u;
        }
      } else if (group * segments < scales) {  // there is an even number of blocks
        const T* pair = from.scales + i * from.scale_step + group * segments;
        to.scales[i] = *reinterpret_cast<const uint32_t*>(pair);
      }
    }
    if constexpr (has_zeros) {
      const int place = min(block_of(group, t / (4 / segments)), p.blocks - 1) / 2;
      to.zeros = from.zeros[place] | from.zeros[from.zero_step + place] << 8;
    }
  }

  __device__ void multiply(int group, const Read& from, float (&sums)[4]) const {
    int zeros[2] = {8, 8};
    if constexpr (has_zeros) {
      const int shift = block_of(group, t / (4 / segments)) % 2 * 4;
      zeros[0] = from.zeros >> shift & 15;
      zeros[1] = from.zeros >> (8 + shift) & 15;
    }
    const uint4* xs = staged + given + group * given_step;
    float c[4] = {};
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      uint32_t pairs[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint4& packed = from.packed[i];
        const uint32_t bits = word == 0   ? packed.x
                              : word == 1 ? packed.y
                              : word == 2 ? packed.z
                                          : packed.w;
        expand<T>(bits, zeros[i], pairs[i]);
      }
      const uint4 x = xs[word];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t a[4] = {pairs[0][2 * half], pairs[1][2 * half], pairs[0][2 * half + 1],
                               pairs[1][2 * half + 1]};
        multiply_tiles<T>(c, a, half == 0 ? x.x : x.z, half == 0 ? x.y : x.w);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float scales[2];
      unpack_word<T>(from.scales[i], scales);
      sums[2 * i] += c[2 * i] * scales[0];
      sums[2 * i + 1] += c[2 * i + 1] * scales[1];
    }
  }
};

// Rows of x to shared memory, the elements of each eight as (0, 4, 1, 5, 2, 6, 3, 7), after their
// normalization.
template <typename T>
__device__ void stage(const Product<T>& p, uint4* staged) {
  const int pieces = (p.k + together - 1) / together * (together / 8);
  const bool vectors = p.k % 8 == 0 && reinterpret_cast<uintptr_t>(p.x) % 16 == 0 &&
                       reinterpret_cast<uintptr_t>(p.norm) % 16 == 0;
  const auto read = [&](const T* row, int piece, T(&to)[8]) {
    const int k = piece * 8;
    if (vectors && k < p.k) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(row + k);
      return;
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) to[i] = k + i < p.k ? row[k + i] : narrow<T>(0.0f);
  };
  for (int r = 0; r < p.m; ++r) {
    const T* row = p.x + static_cast<int64_t>(r) * p.k;
    float factor = 1;
    if (p.norm != nullptr) {
      float squares = 0;
      for (int piece = threadIdx.x; piece < pieces; piece += blockDim.x) {
        alignas(16) T values[8];
        read(row, piece, values);
#pragma unroll
        for (int i = 0; i < 8; ++i) squares += widen(values[i]) * widen(values[i]);
      }
      squares = block_reduce(squares, 0.0f, Sum());
      factor = 1 / sqrtf(squares / p.k + p.epsilon);
    }
    for (int piece = threadIdx.x; piece < pieces; piece += blockDim.x) {
      alignas(16) T values[8], ordered[8];
      read(row, piece, values);
      if (p.norm != nullptr) {
        alignas(16) T scales[8];
        read(p.norm, piece, scales);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          values[i] = narrow<T>(widen(values[i]) * factor * widen(scales[i]));
        }
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) ordered[i] = values[i / 2 + i % 2 * 4];
      staged[r * pieces + piece] = *reinterpret_cast<const uint4*>(ordered);
    }
  }
}

// What follows the sum of a column.
template <typename T>
__device__ inline void store(const Product<T>& p, int row, int column, float sum) {
  const int64_t at = static_cast<int64_t>(row) * (p.gated ? p.n / 2 : p.n) + column;
  if (p.residual != nullptr) sum += widen(p.residual[at]);
  p.y[at] = narrow<T>(sum);
}

// How tiles are numbered: a tile and its gate follow each other.
template <typename T>
struct Tiles {
  int at_once, count, half;

  __device__ explicit Tiles(const Product<T>& p)
      : at_once(blockDim.x / 32 / p.slices), half(p.gated ? p.n / 2 : 0) {
    count = p.gated ? (half + tile_columns - 1) / tile_columns * 2
                    : (p.n + tile_columns - 1) / tile_columns;
  }
  __device__ int column(int tile) const {
    return half ? tile / 2 * tile_columns + tile % 2 * half : tile * tile_columns;
  }
};

// Asks for the weights that this warp reads first.
template <typename T>
__device__ void prefetch_weights(const Product<T>& p) {
  const Tiles<T> tiles(p);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int tile = blockIdx.x * tiles.at_once + warp / p.slices;
  if (tile >= tiles.count) return;
  const int column = tiles.column(tile) + lane / 4;
#pragma unroll
  for (int u = 0; u < ahead; ++u) {
    const int at = (warp % p.slices + u * p.slices) * (together / 2) + lane % 4 * 16;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (at < p.row_bytes && column + 8 * i < p.n) {
        prefetch(p.data + static_cast<int64_t>(column + 8 * i) * p.row_bytes + at);
      }
    }
  }
}

template <typename T, int segments, bool has_zeros>
__device__ void multiply_streamed(const Product<T>& p) {
  DYNAMIC_SHARED(memory);
  __shared__ float of_warps[most_warps][tile_columns][8];
  uint4* staged = reinterpret_cast<uint4*>(memory);
  const Stream<T, segments, has_zeros> stream(p, staged);
  const Tiles<T> tiles(p);
  const int warp = threadIdx.x / 32, step = gridDim.x * tiles.at_once;
  int tile = blockIdx.x * tiles.at_once + warp / p.slices;
  Read next[ahead];
  Columns<T> columns = stream.columns_from(tiles.column(tile));
#pragma unroll
  for (int u = 0; u < ahead; ++u) {  // before anything that waits for x
    const int group = stream.slice + u * p.slices;
    if (group < stream.groups && tile < tiles.count) stream.fetch(columns, group, next[u]);
  }
  if (threadIdx.x < 4) {  // behind x, for lanes that have nothing of it to give
    staged[p.m * stream.groups * (together / 8) + threadIdx.x] = make_uint4(0, 0, 0, 0);
  }
  stage(p, staged);
  __syncthreads();
  for (int first = blockIdx.x * tiles.at_once; first < tiles.count; first += step) {
    const int following = tile + step;
    float sums[4] = {};
    for (int begin = stream.slice; begin < stream.groups; begin += ahead * p.slices) {
      const bool ends = begin + ahead * p.slices >= stream.groups;
      const int start = ends ? stream.slice : begin + ahead * p.slices;
      const bool exists = !ends || following < tiles.count;
      if (ends && exists) columns = stream.columns_from(tiles.column(following));
#pragma unroll
      for (int u = 0; u < ahead; ++u) {
        const int group = begin + u * p.slices, more = start + u * p.slices;
        const Read now = next[u];
        if (exists && more < stream.groups) stream.fetch(columns, more, next[u]);
        if (group < stream.groups) stream.multiply(group, now, sums);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      of_warps[warp][stream.g + i / 2 * 8][2 * stream.t + i % 2] = sums[i];
    }
    __syncthreads();
    // The sum of slices and blocks, for (tile, row, column) of what this block has made.
    const auto sum_of = [&](int local, int row, int c) {
      float sum = 0;
      for (int slice = 0; slice < p.slices; ++slice) {
#pragma unroll
        for (int s = 0; s < segments; ++s) {
          sum += of_warps[local * p.slices + slice][c][row * segments + s];
        }
      }
      const int column = tiles.column(first + local) + c;
      if (p.bias != nullptr && column < p.n) sum += widen(p.bias[column]);
      return sum;
    };
    const int pair = p.gated ? 2 : 1, made = min(tiles.at_once, tiles.count - first) / pair;
    for (int i = threadIdx.x; i < made * p.m * tile_columns; i += blockDim.x) {
      const int c = i % tile_columns, row = i / tile_columns % p.m;
      const int local = i / tile_columns / p.m * pair, column = tiles.column(first + local) + c;
      if (column >= (p.gated ? p.n / 2 : p.n)) continue;
      float sum = sum_of(local, row, c);
      if (p.gated) {
        sum = widen(narrow<T>(sum));
        sum = sum / (1 + expf(-sum)) * widen(narrow<T>(sum_of(local + 1, row, c)));
      }
      store(p, row, column, sum);
    }
    __syncthreads();
    tile = following;
  }
}

}  // namespace

#define PRODUCT(T)                                                                        \
  Product<T> {                                                                            \
    x, data, scales, zeros, bias, norm, residual, y, epsilon, m, n, k, blocks, row_bytes, \
        block_shift, slices, gated                                                        \
  }
#define STREAMED(name, T, segments, kind, has_zeros)                                              \
  extern "C" __global__ void __launch_bounds__(most_threads)                                      \
      stream_nbits_##kind##segments##_##name(                                                     \
          const T* x, const uint8_t* data, const T* scales, const uint8_t* zeros, const T* bias,  \
          const T* norm, const T* residual, T* y, float epsilon, int m, int n, int k, int blocks, \
          int row_bytes, int block_shift, int slices, int gated) {                                \
    prefetch_weights(PRODUCT(T));                                                                 \
    wait_for_previous_kernels();                                                                  \
    multiply_streamed<T, segments, has_zeros>(PRODUCT(T));                                        \
  }
#define FOR_ZEROS(name, T, segments)   \
  STREAMED(name, T, segments, , false) \
  STREAMED(name, T, segments, zeros_, true)
#define FOR_SEGMENTS(name, T) FOR_ZEROS(name, T, 1) FOR_ZEROS(name, T, 2) FOR_ZEROS(name, T, 4)
FOR_SEGMENTS(float16, float16)
FOR_SEGMENTS(bfloat16, bfloat16)

// y[i] = swish(x) * gate, of the halves of each row of x.
#define GATE(name, T)                                                                    \
  extern "C" __global__ void gate_##name(const T* x, T* y, int64_t size, int64_t half) { \
    wait_for_previous_kernels();                                                         \
    for (int64_t i = thread_number(); i < size; i += thread_count()) {                   \
      const T* from = x + i / half * 2 * half + i % half;                                \
      const float value = widen(from[0]);                                                \
      y[i] = narrow<T>(value / (1 + expf(-value)) * widen(from[half]));                  \
    }                                                                                    \
  }
GATE(float32, float)
GATE(float16, float16)
GATE(bfloat16, bfloat16)
