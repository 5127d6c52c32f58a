// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512 avx512_vnni
// Micro-kernels of channels-last 8-bit convolutions.
#include "kernels/quantize/integer_pixels.h"

#include "kernels/quantize/byte_quads.h"
#include "kernels/quantize/narrow_lanes.h"
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int vectors = 2;
constexpr int panel_width = vectors * lanes;
constexpr int ahead = 8 * vectors * vector_bytes;  // of the weights that are read
constexpr int longest = static_cast<int>(PixelTile::longest_run);

// Nearest, ties to even.
BASCULE_INLINE I32 to_nearest_int(F32 v) {
#if defined(__AVX512F__)
  return reinterpret_cast<I32>(_mm512_cvtps_epi32(reinterpret_cast<__m512>(v)));
#elif defined(__AVX2__)
  return reinterpret_cast<I32>(_mm256_cvtps_epi32(reinterpret_cast<__m256>(v)));
#else
  return to_int(round(v));
#endif
}

BASCULE_INLINE void store_part(int32_t* to, I32 value, int64_t count) {
  if (count >= lanes) return store_int(to, value);
  for (int64_t i = 0; i < count; ++i) to[i] = value[i];
}

// Arithmetic modulo 2^32 is on unsigned lanes.
BASCULE_INLINE I32 add(I32 a, I32 b) {
  return reinterpret_cast<I32>(reinterpret_cast<U32>(a) + reinterpret_cast<U32>(b));
}

// Sums of a vector of output channels to bytes. The bounds are integers: clamping before the
// rounding is the same. NaN becomes the lowest.
struct ToBytes {
  __attribute__((always_inline)) ToBytes(const IntegerFinish& f, int64_t column)
      : bias(load_int(f.bias + column)),
        factor(load(f.factors + column)),
        low(set(f.low - f.zero)),
        high(set(f.high - f.zero)),
        zero(set_int(static_cast<int32_t>(f.zero))) {}
  __attribute__((always_inline)) I32 operator()(I32 sum) const {
    const F32 scaled = to_float(add(sum, bias)) * factor;
    return to_nearest_int(at_most(at_least(scaled, low), high)) + zero;
  }

  I32 bias;
  F32 factor, low, high;
  I32 zero;
};

// What is taken off the sums of a pixel for the zero points of the weights.
BASCULE_INLINE I32 without_zeros(const IntegerFinish& f, int64_t column, I32 sum, I32 pixel_sum) {
  if (f.weight_zero == nullptr) return sum;
  const U32 zeros = reinterpret_cast<U32>(load_int(f.weight_zero + column));
  return add(sum, reinterpret_cast<I32>(-(zeros * reinterpret_cast<U32>(pixel_sum))));
}

// `count` results from `column` on, of a pixel whose results begin at y.
BASCULE_INLINE void finish_any(const IntegerFinish& f, int64_t column, I32 sum, uint8_t* y,
                               int64_t count) {
  if (f.factors != nullptr) {
    store_narrow(y + column, ToBytes(f, column)(sum), count);
  } else {
    const I32 value = add(sum, load_int(f.bias + column));
    store_part(reinterpret_cast<int32_t*>(y) + column, value, count);
  }
}

// The sum of all bytes under the taps of a pixel.
int32_t sum_pixel(const PixelTile& g, const uint8_t* a) {
  I32 sums = {};
  for (int64_t tap = 0; tap < g.tap_count; ++tap) {
    const uint8_t* from = a + g.taps[tap];
    for_vectors(g.tap_bytes,
                [&](int64_t i, int64_t count) { sums += load_narrow(from + i, count); });
  }
  int32_t sum = 0;
  for (int lane = 0; lane < lanes; ++lane) sum += sums[lane];
  return sum;
}

// Pixel r of a run, with three multiples of the stride in registers.
template <int r>
BASCULE_INLINE int64_t moved(int64_t one, int64_t three, int64_t five) {
  if constexpr (r == 3) return three;
  if constexpr (r == 5) return five;
  if constexpr (r == 6) return 2 * three;
  return r * one;
}

template <int r, int pixels, int runs>
BASCULE_INLINE void add_pixels(const uint8_t* const* a, int64_t one, int64_t three, int64_t five,
                               const Quad* columns, I32 (*sum)[longest][vectors]) {
  if constexpr (r < pixels) {
#pragma GCC unroll 2
    for (int run = 0; run < runs; ++run) {
      int32_t quad;
      __builtin_memcpy(&quad, a[run] + moved<r>(one, three, five), sizeof(quad));
      const Quad value = broadcast_quad(quad);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        sum[run][r][v] = multiply_add(value, columns[v], sum[run][r][v]);
      }
    }
    add_pixels<r + 1, pixels, runs>(a, one, three, five, columns, sum);
  }
}

template <int pixels, int runs>
void run_tile(const PixelTile& g, const IntegerFinish& finish) {
  int32_t pixel_sums[2][longest] = {};
  if (finish.weight_zero != nullptr) {
    for (int run = 0; run < runs; ++run) {
      for (int r = 0; r < pixels; ++r) {
        pixel_sums[run][r] = sum_pixel(g, g.runs[run].a + r * g.a_stride);
      }
    }
  }
  const int64_t one = g.a_stride, three = 3 * one, five = 5 * one;
  const bool is_plain = finish.factors != nullptr && finish.weight_zero == nullptr &&
                        g.runs[0].skip == 0 && g.runs[runs - 1].skip == 0;
  for (int64_t column = 0; column < g.columns; column += panel_width) {
    const int8_t* b = g.b + column / panel_width * g.b_panel_stride;
    I32 sum[runs][longest][vectors] = {};
    for (int64_t tap = 0; tap < g.tap_count; ++tap) {
      const uint8_t* a[2] = {g.runs[0].a + g.taps[tap], g.runs[runs - 1].a + g.taps[tap]};
      for (int64_t k = 0; k < g.tap_quads; ++k) {
        Quad columns[vectors];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
          columns[v] = as_quads(load_int(b + v * vector_bytes));
          __builtin_prefetch(b + ahead + v * vector_bytes);
        }
        add_pixels<0, pixels, runs>(a, one, three, five, columns, sum);
        a[0] += 4;
        a[1] += 4;
        b += vectors * vector_bytes;
      }
    }
    if (is_plain && column + panel_width <= g.columns) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        const ToBytes to_bytes(finish, column + v * lanes);
#pragma GCC unroll 2
        for (int run = 0; run < runs; ++run) {
          uint8_t* y = g.runs[run].y + column + v * lanes;
#pragma GCC unroll 7
          for (int r = 0; r < pixels; ++r) {
            store_narrow(y + r * g.y_stride, to_bytes(sum[run][r][v]), lanes);
          }
        }
      }
      continue;
    }
    I32 sums[runs][longest][vectors];
    __builtin_memcpy(sums, sum, sizeof(sums));
    for (int run = 0; run < runs; ++run) {
      for (int64_t r = g.runs[run].skip; r < pixels; ++r) {
        for (int v = 0; v < vectors; ++v) {
          const int64_t first = column + v * lanes;
          if (first >= g.columns) break;
          const I32 value =
              without_zeros(finish, first, sums[run][r][v], set_int(pixel_sums[run][r]));
          finish_any(finish, first, value, g.runs[run].y + r * g.y_stride, g.columns - first);
        }
      }
    }
  }
}

template <int runs>
void run_pixels(const PixelTile& g, const IntegerFinish& finish) {
  using Function = void (*)(const PixelTile&, const IntegerFinish&);
  static constexpr Function functions[longest] = {
      run_tile<1, runs>, run_tile<2, runs>, run_tile<3, runs>, run_tile<4, runs>,
      run_tile<5, runs>, run_tile<6, runs>, run_tile<7, runs>};
  functions[g.pixels - 1](g, finish);
}

void run_either(const PixelTile& g, const IntegerFinish& finish) {
  (g.run_count == 1 ? run_pixels<1> : run_pixels<2>)(g, finish);
}

// The quads of all columns of the input.
void fill_columns(const DepthwiseRow& d) {
  const auto every = [](uint8_t byte) { return set_int(static_cast<int32_t>(byte * 0x01010101u)); };
  const I32 border = every(d.border), flip = every(d.flip);
  for (int64_t g = 0; g < d.quads; ++g) {
    int32_t* to = d.space + g * d.columns * lanes;
    for (int64_t x = 0; x < d.begin; ++x) store_int(to + x * lanes, border);
    const uint8_t* const* rows = d.rows + 4 * g;
    const int64_t* steps = d.steps + 4 * g;
    for (int64_t x = d.begin; x < d.end; ++x) {
      const int64_t at = x - d.begin;
      const I32 quads = load_narrow(rows[0] + at * steps[0], d.channels) |
                        load_narrow(rows[1] + at * steps[1], d.channels) << 8 |
                        load_narrow(rows[2] + at * steps[2], d.channels) << 16 |
                        load_narrow(rows[3] + at * steps[3], d.channels) << 24;
      store_int(to + x * lanes, quads ^ flip);
    }
    for (int64_t x = d.end; x < d.columns; ++x) store_int(to + x * lanes, border);
  }
}

template <int pixels>
BASCULE_INLINE void sum_columns(const DepthwiseRow& d, const int32_t* weights, int64_t first,
                                I32* sums) {
#pragma GCC unroll 4
  for (int p = 0; p < pixels; ++p) sums[p] = I32{};
  for (int64_t g = 0; g < d.quads; ++g) {
    const int32_t* from = d.space + (g * d.columns + first * d.stride) * lanes;
    for (int64_t tap = 0; tap < d.kernel; ++tap, weights += lanes) {
      const Quad weight = as_quads(load_int(weights));
      const int32_t* at = from + tap * d.dilation * lanes;
#pragma GCC unroll 4
      for (int p = 0; p < pixels; ++p) {
        const Quad value = as_unsigned_quads(load_int(at + p * d.stride * lanes));
        sums[p] = multiply_add(value, weight, sums[p]);
      }
    }
  }
}

template <int pixels>
BASCULE_INLINE void depthwise_pixels(const DepthwiseRow& d, const IntegerFinish& finish,
                                     int64_t first) {
  I32 sums[pixels];
  sum_columns<pixels>(d, d.weights, first, sums);
  uint8_t* y = d.y + first * d.y_stride;
  if (finish.weight_zero == nullptr && finish.factors != nullptr && d.channels == lanes) {
    const ToBytes to_bytes(finish, 0);
#pragma GCC unroll 4
    for (int p = 0; p < pixels; ++p) store_narrow(y + p * d.y_stride, to_bytes(sums[p]), lanes);
    return;
  }
  I32 pixel_sums[pixels] = {};
  if (finish.weight_zero != nullptr) sum_columns<pixels>(d, d.ones, first, pixel_sums);
#pragma GCC unroll 4
  for (int p = 0; p < pixels; ++p) {
    const I32 value = without_zeros(finish, 0, sums[p], pixel_sums[p]);
    finish_any(finish, 0, value, y + p * d.y_stride, d.channels);
  }
}

void depthwise_row(const DepthwiseRow& d, const IntegerFinish& finish) {
  fill_columns(d);
  int64_t i = 0;
  for (; i + 4 <= d.pixels; i += 4) depthwise_pixels<4>(d, finish, i);
  for (; i < d.pixels; ++i) depthwise_pixels<1>(d, finish, i);
}

}  // namespace

const IntegerPixelFunctions& integer_pixel_functions() {
  static constexpr IntegerPixelFunctions functions = {lanes, run_either, depthwise_row};
  return functions;
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include "simd/isa.h"

namespace bascule {
BASCULE_PER_ISA_VNNI(const IntegerPixelFunctions& integer_pixel_functions());

const IntegerPixelFunctions& integer_pixels() {
  static const IntegerPixelFunctions& functions = BASCULE_PICK_VNNI(integer_pixel_functions)();
  return functions;
}
}  // namespace bascule
#endif
