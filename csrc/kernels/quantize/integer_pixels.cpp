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

// The numbers of one vector of output channels.
struct Finish {
  __attribute__((always_inline)) Finish(const IntegerFinish& f, int64_t column)
      : bias(load_int(f.bias + column)),
        is_scaled(f.factors != nullptr),
        has_zeros(f.weight_zero != nullptr),
        factor(is_scaled ? load(f.factors + column) : F32{}),
        low(set(f.low - f.zero)),
        high(set(f.high - f.zero)),
        zero(set_int(static_cast<int32_t>(f.zero))),
        weight_zero(has_zeros ? load_int(f.weight_zero + column) : I32{}) {}

  // Arithmetic is modulo 2^32, so on unsigned lanes.
  __attribute__((always_inline)) I32 whole(I32 sum, I32 pixel_sum) const {
    U32 value = reinterpret_cast<U32>(sum) + reinterpret_cast<U32>(bias);
    if (has_zeros) {
      value -= reinterpret_cast<U32>(weight_zero) * reinterpret_cast<U32>(pixel_sum);
    }
    return reinterpret_cast<I32>(value);
  }
  // The bounds are integers: clamping before the rounding is the same. NaN becomes the lowest.
  __attribute__((always_inline)) I32 scaled(I32 value) const {
    const F32 scaled = to_float(value) * factor;
    return to_nearest_int(at_most(at_least(scaled, low), high)) + zero;
  }
  __attribute__((always_inline)) void operator()(I32 sum, I32 pixel_sum, uint8_t* y,
                                                 int64_t count) const {
    const I32 value = whole(sum, pixel_sum);
    if (is_scaled) {
      store_narrow(y, scaled(value), count);
    } else {
      store_part(reinterpret_cast<int32_t*>(y), value, count);
    }
  }

  I32 bias;
  bool is_scaled, has_zeros;
  F32 factor, low, high;
  I32 zero, weight_zero;
};

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
  const int64_t size = finish.factors != nullptr ? 1 : 4;
  for (int64_t column = 0; column < g.columns; column += panel_width) {
    const int8_t* b = g.b + column / panel_width * g.b_panel_stride;
    I32 sum[runs][longest][vectors] = {};
    for (int64_t tap = 0; tap < g.tap_count; ++tap) {
      const uint8_t* a[2] = {g.runs[0].a + g.taps[tap], g.runs[runs - 1].a + g.taps[tap]};
      for (int64_t k = 0; k < g.tap_quads; ++k) {
        Quad columns[vectors];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) columns[v] = as_quads(load_int(b + v * vector_bytes));
        add_pixels<0, pixels, runs>(a, one, three, five, columns, sum);
        a[0] += 4;
        a[1] += 4;
        b += vectors * vector_bytes;
      }
    }
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      const int64_t first = column + v * lanes, count = g.columns - first;
      if (count <= 0) break;
      const Finish each(finish, first);
#pragma GCC unroll 2
      for (int run = 0; run < runs; ++run) {
        uint8_t* y = g.runs[run].y + first * size;
#pragma GCC unroll 7
        for (int r = 0; r < pixels; ++r) {
          if (r >= g.runs[run].skip) {
            each(sum[run][r][v], set_int(pixel_sums[run][r]), y + r * g.y_stride, count);
          }
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
BASCULE_INLINE void depthwise_pixels(const DepthwiseRow& d, const Finish& finish, int64_t first) {
  I32 sums[pixels], pixel_sums[pixels] = {};
  sum_columns<pixels>(d, d.weights, first, sums);
  if (finish.has_zeros) sum_columns<pixels>(d, d.ones, first, pixel_sums);
#pragma GCC unroll 4
  for (int p = 0; p < pixels; ++p) {
    finish(sums[p], pixel_sums[p], d.y + (first + p) * d.y_stride, d.channels);
  }
}

void depthwise_row(const DepthwiseRow& d, const IntegerFinish& f) {
  fill_columns(d);
  const Finish finish(f, 0);
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
