// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512 avx512_vnni
// Micro-kernels of channels-last 8-bit convolutions.
#include "kernels/quantize/integer_pixels.h"

#include "kernels/quantize/byte_quads.h"
#include "kernels/quantize/integer_finish_lanes.h"
#include "kernels/quantize/narrow_lanes.h"
#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

constexpr int vectors = 2;
constexpr int panel_width = vectors * lanes;
constexpr int ahead = 8 * vectors * vector_bytes;  // of the weights that are read
constexpr int longest = static_cast<int>(PixelTile::longest_run);

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

// Whole panels of a tile of which all pixels are to be written.
template <int pixels, int runs, Residual kind>
BASCULE_INLINE void finish_tile(const PixelTile& g, const IntegerFinish& finish, int64_t column,
                                const I32 (*sum)[longest][vectors]) {
  constexpr bool adds = kind != Residual::none;
  const AddNumbers add_residual(adds ? *finish.residual : ByteAddition{});
#pragma GCC unroll 2
  for (int v = 0; v < vectors; ++v) {
    const int64_t first = column + v * lanes;
    const ToBytes to_bytes(finish, first);
#pragma GCC unroll 2
    for (int run = 0; run < runs; ++run) {
      uint8_t* y = g.runs[run].y + first;
      const uint8_t* residual = adds ? g.runs[run].residual + first : nullptr;
#pragma GCC unroll 7
      for (int r = 0; r < pixels; ++r) {
        const I32 value = sum[run][r][v];
        if constexpr (adds) {
          const F32 other = load_numbers<kind>(residual + r * g.y_stride, lanes);
          const I32 bytes = to_nearest_int(add_residual(to_bytes.number(value), other));
          store_narrow(y + r * g.y_stride, bytes, lanes);
        } else {
          store_narrow(y + r * g.y_stride, to_bytes(value), lanes);
        }
      }
    }
  }
}

// The same with a row that is added first. Sums [run][r][v].
template <Residual kind>
void finish_with_row(const PixelTile& g, int64_t run_count, const IntegerFinish& finish,
                     int64_t column, const I32* sums) {
  constexpr bool adds = kind != Residual::none;
  const AddNumbers add_row(*finish.row), add_residual(adds ? *finish.residual : ByteAddition{});
  for (int v = 0; v < vectors; ++v) {
    const int64_t first = column + v * lanes;
    const ToBytes to_bytes(finish, first);
    const F32 row = load(finish.row_values + first);
    const I32* from = sums + v;
    for (int64_t run = 0; run < run_count; ++run) {
      uint8_t* y = g.runs[run].y + first;
      const uint8_t* residual = adds ? g.runs[run].residual + first : nullptr;
      for (int64_t r = 0; r < g.pixels; ++r, from += vectors, y += g.y_stride) {
        F32 value = add_row(to_bytes.number(*from), row);
        if constexpr (adds) {
          value = add_residual(round(value), load_numbers<kind>(residual, lanes));
          residual += g.y_stride;
        }
        store_narrow(y, to_nearest_int(value), lanes);
      }
    }
  }
}

template <int pixels, int runs>
BASCULE_INLINE void finish_plain(const PixelTile& g, const IntegerFinish& finish, int64_t column,
                                 const I32 (*sum)[longest][vectors]) {
  if (finish.row != nullptr) {
    I32 sums[runs][pixels][vectors];
#pragma GCC unroll 2
    for (int run = 0; run < runs; ++run) {
#pragma GCC unroll 7
      for (int r = 0; r < pixels; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sums[run][r][v] = sum[run][r][v];
      }
    }
    using Function = void (*)(const PixelTile&, int64_t, const IntegerFinish&, int64_t, const I32*);
    static constexpr Function functions[] = {finish_with_row<Residual::none>,
                                             finish_with_row<Residual::of_unsigned>,
                                             finish_with_row<Residual::of_signed>};
    return functions[static_cast<int>(residual_of(finish))](g, runs, finish, column,
                                                            &sums[0][0][0]);
  }
  switch (residual_of(finish)) {
    case Residual::none:
      return finish_tile<pixels, runs, Residual::none>(g, finish, column, sum);
    case Residual::of_unsigned:
      return finish_tile<pixels, runs, Residual::of_unsigned>(g, finish, column, sum);
    case Residual::of_signed:
      return finish_tile<pixels, runs, Residual::of_signed>(g, finish, column, sum);
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
  const int64_t y_size = finish.factors != nullptr ? 1 : 4;
  const bool is_plain = finish.factors != nullptr && finish.weight_zero == nullptr &&
                        g.runs[0].skip == 0 && g.runs[runs - 1].skip == 0;
  const int8_t* next = g.next;
  for (int64_t column = 0; column < g.columns; column += panel_width) {
    const int8_t* b = g.b + column / panel_width * g.b_panel_stride;
    for (int run = 0; run < runs; ++run) {
      for (int r = 0; r < pixels; ++r) {
        __builtin_prefetch(g.runs[run].y + r * g.y_stride + column * y_size, 1);
        if (finish.residual != nullptr) {
          __builtin_prefetch(g.runs[run].residual + r * g.y_stride + column);
        }
      }
    }
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
        __builtin_prefetch(next, 0, 2);
        next += g.next_step;
        add_pixels<0, pixels, runs>(a, one, three, five, columns, sum);
        a[0] += 4;
        a[1] += 4;
        b += vectors * vector_bytes;
      }
    }
    if (is_plain && column + panel_width <= g.columns) {
      finish_plain<pixels, runs>(g, finish, column, sum);
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
          const uint8_t* residual = g.runs[run].residual;
          if (residual != nullptr) residual += r * g.y_stride;
          finish_any(finish, first, value, g.runs[run].y + r * g.y_stride, residual,
                     g.columns - first);
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

// Quads of `count` neighbouring columns of the input, of the first `rows` rows of bytes.
template <int rows>
void fill_quads(const uint8_t* const* from, const int64_t* steps, int64_t count, int64_t channels,
                I32 flip, int32_t* to) {
  const uint8_t* row[rows];
  int64_t step[rows];
  for (int i = 0; i < rows; ++i) {
    row[i] = from[i];
    step[i] = steps[i];
  }
  const auto fill = [&](int64_t wide) __attribute__((always_inline)) {
    for (int64_t x = 0; x < count; ++x, to += lanes) {
      I32 quads = flip;
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) {
        quads ^= load_narrow(row[i], wide) << (8 * i);
        row[i] += step[i];
      }
      store_int(to, quads);
    }
  };
  channels == lanes ? fill(lanes) : fill(channels);
}

// Those of all columns, and of the border. What stands in place of missing rows does not matter.
void fill_columns(const DepthwiseRow& d) {
  const auto every = [](uint8_t byte) { return set_int(static_cast<int32_t>(byte * 0x01010101u)); };
  const I32 border = every(d.border), flip = every(d.flip);
  using Function = void (*)(const uint8_t* const*, const int64_t*, int64_t, int64_t, I32, int32_t*);
  static constexpr Function functions[] = {fill_quads<1>, fill_quads<2>, fill_quads<3>,
                                           fill_quads<4>};
  for (int64_t g = 0; g < d.quads; ++g) {
    int32_t* to = d.space + g * d.columns * lanes;
    const int64_t rows = d.row_count - 4 * g < 4 ? d.row_count - 4 * g : 4;
    for (int64_t x = 0; x < d.begin; ++x) store_int(to + x * lanes, border);
    functions[rows - 1](d.rows + 4 * g, d.steps + 4 * g, d.end - d.begin, d.channels, flip,
                        to + d.begin * lanes);
    for (int64_t x = d.end; x < d.columns; ++x) store_int(to + x * lanes, border);
  }
}

// The sums of neighbouring output pixels; `taps` of a row and `quads` of rows, or 0 for any number.
template <int pixels, int taps, int quads>
BASCULE_INLINE void sum_columns(const DepthwiseRow& d, const int32_t* weights, int64_t first,
                                I32* sums) {
#pragma GCC unroll 8
  for (int p = 0; p < pixels; ++p) sums[p] = I32{};
  const int64_t tap_count = taps != 0 ? taps : d.kernel, quad_count = quads != 0 ? quads : d.quads;
  const int64_t stride = d.stride * lanes, dilation = d.dilation * lanes;
#pragma GCC unroll 2
  for (int64_t g = 0; g < quad_count; ++g) {
    const int32_t* from = d.space + g * d.columns * lanes + first * stride;
#pragma GCC unroll 5
    for (int64_t tap = 0; tap < tap_count; ++tap, weights += lanes) {
      const Quad weight = as_quads(load_int(weights));
      const int32_t* at = from + tap * dilation;
#pragma GCC unroll 8
      for (int p = 0; p < pixels; ++p) {
        const Quad value = as_unsigned_quads(load_int(at + p * stride));
        sums[p] = multiply_add(value, weight, sums[p]);
      }
    }
  }
}

template <int pixels, int taps, int quads>
void depthwise_bytes(const DepthwiseRow& d, const ToBytes& to_bytes, int64_t first) {
  I32 sums[pixels];
  sum_columns<pixels, taps, quads>(d, d.weights, first, sums);
  uint8_t* y = d.y + first * d.y_stride;
#pragma GCC unroll 8
  for (int p = 0; p < pixels; ++p) store_narrow(y + p * d.y_stride, to_bytes(sums[p]), lanes);
}

template <int taps, int quads>
void depthwise_plain(const DepthwiseRow& d, const IntegerFinish& finish) {
  const ToBytes to_bytes(finish, 0);
  int64_t i = 0;
  for (; i + 8 <= d.pixels; i += 8) depthwise_bytes<8, taps, quads>(d, to_bytes, i);
  for (; i + 2 <= d.pixels; i += 2) depthwise_bytes<2, taps, quads>(d, to_bytes, i);
  if (i < d.pixels) depthwise_bytes<1, taps, quads>(d, to_bytes, i);
}

void depthwise_any(const DepthwiseRow& d, const IntegerFinish& finish) {
  for (int64_t i = 0; i < d.pixels; ++i) {
    I32 sum, pixel_sum = {};
    sum_columns<1, 0, 0>(d, d.weights, i, &sum);
    if (finish.weight_zero != nullptr) sum_columns<1, 0, 0>(d, d.ones, i, &pixel_sum);
    const I32 value = without_zeros(finish, 0, sum, pixel_sum);
    const uint8_t* residual = d.residual != nullptr ? d.residual + i * d.y_stride : nullptr;
    finish_any(finish, 0, value, d.y + i * d.y_stride, residual, d.channels);
  }
}

void depthwise_row(const DepthwiseRow& d, const IntegerFinish& finish) {
  fill_columns(d);
  if (finish.weight_zero != nullptr || finish.factors == nullptr || finish.residual != nullptr ||
      finish.row != nullptr || d.channels != lanes) {
    return depthwise_any(d, finish);
  }
  if (d.kernel == 3 && d.quads == 1) return depthwise_plain<3, 1>(d, finish);
  if (d.kernel == 5 && d.quads == 2) return depthwise_plain<5, 2>(d, finish);
  depthwise_plain<0, 0>(d, finish);
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
