// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize/quad_image.h"

#include <cstring>

namespace bascule {
namespace {

// Neighbouring output pixels of a row: where the first is in the span, and how many there are.
struct Run {
  int64_t at;
  int64_t count;
};

// The quads of a run; some bytes beyond it are read and written.
void copy_run(const int8_t* from, int64_t count, int64_t stride, int8_t* to) {
  constexpr int64_t step = 32;
  static_assert(step <= QuadImage::slack);
  if (stride == 1) {
    for (int64_t i = 0; i < count * 4; i += step) std::memcpy(to + i, from + i, step);
    return;
  }
  for (int64_t i = 0; i < count; ++i) std::memcpy(to + 4 * i, from + 4 * i * stride, 4);
}

}  // namespace

QuadImage::QuadImage(RunContext& c, const ConvSizes& sizes, const uint8_t* x, uint8_t border,
                     ByteSign sign)
    : sizes_(sizes), span_(sizes), quads_(quads_of(sizes.group_in())) {
  const int64_t items = sizes.batch * sizes.group, rows = span_.rows();
  data_ = c.workspace<int8_t>(items * quads_ * span_.positions() * 4 + slack);
  sums_ = c.workspace<int32_t>(items * span_.positions());
  // What stands for channels beyond the last: zero after the flip.
  auto* missing = c.workspace<uint8_t>(sizes.in[2]);
  std::memset(missing, sign.flip, static_cast<size_t>(sizes.in[2]));
  c.parallel_for(items * rows, static_cast<double>(quads_ * span_.width()) / 4,
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     fill_row(i / rows, i % rows, x, missing, border, sign);
                   }
                 });
}

void QuadImage::fill_row(int64_t item, int64_t index, const uint8_t* x, const uint8_t* missing,
                         uint8_t border, ByteSign sign) {
  const ConvSizes& s = sizes_;
  const Span::Row row = span_.row(index);
  const int64_t at = index * span_.width(), count = row.end - row.begin;
  const int64_t channels = s.group_in();
  const auto outside = static_cast<int8_t>(border ^ sign.flip);
  int32_t* sums = sums_ + item * span_.positions() + at;
  std::fill_n(sums, span_.width(), static_cast<int32_t>(channels) * outside);
  std::fill_n(sums + row.begin, count, 0);
  const uint8_t* pixels = x + item * channels * s.in_pixels() + row.pixel;
  for (int64_t quad = 0; quad < quads_; ++quad) {
    int8_t* to = data_ + ((item * quads_ + quad) * span_.positions() + at) * 4;
    int8_t around[4] = {};
    const uint8_t* rows[4];
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t channel = quad * 4 + i;
      const bool is_there = channel < channels;
      if (is_there) around[i] = outside;
      rows[i] = is_there ? pixels + channel * s.in_pixels() : missing;
    }
    for (int64_t i = 0; i < row.begin; ++i) std::memcpy(to + 4 * i, around, 4);
    integer_gemm().interleave_line(rows, count, sign.flip, to + 4 * row.begin, sums + row.begin);
    for (int64_t i = row.end; i < span_.width(); ++i) std::memcpy(to + 4 * i, around, 4);
  }
}

void QuadImage::pack(int64_t item, int64_t first, int64_t count, int8_t* panels,
                     int32_t* column_sums) const {
  const int64_t width = integer_gemm().panel_width;
  const int64_t bytes = panel_bytes(sizes_.taps() * quads_ * 4);
  for (int64_t i = 0; i < count; i += width) {
    pack_panel(item, first + i, std::min(width, count - i), panels + i / width * bytes,
               column_sums + i);
  }
}

void QuadImage::pack_panel(int64_t item, int64_t first, int64_t count, int8_t* panel,
                           int32_t* column_sums) const {
  const ConvSizes& s = sizes_;
  constexpr int64_t most = 64;
  Run runs[most];
  int64_t run_count = 0;
  for (int64_t i = 0; i < count; i += runs[run_count++].count) {
    const int64_t pixel = first + i;
    const int64_t x = pixel % s.out[2], y = pixel / s.out[2] % s.out[1];
    const int64_t z = pixel / s.out[2] / s.out[1];
    runs[run_count] = {span_.of_output(z, y, x), std::min(count - i, s.out[2] - x)};
  }
  const int64_t width = integer_gemm().panel_width, stride = s.stride[2];
  const int8_t* quads = data_ + item * quads_ * span_.positions() * 4;
  const int32_t* sums = sums_ + item * span_.positions();
  std::fill_n(column_sums, count, 0);
  for (int64_t tap = 0; tap < s.taps(); ++tap) {
    const int64_t moved = span_.of_tap(tap);
    for (int64_t quad = 0; quad < quads_; ++quad, panel += width * 4) {
      const int8_t* from = quads + (quad * span_.positions() + moved) * 4;
      int8_t* to = panel;
      for (int64_t i = 0; i < run_count; to += 4 * runs[i++].count) {
        copy_run(from + 4 * runs[i].at, runs[i].count, stride, to);
      }
    }
    int32_t* column = column_sums;
    for (int64_t i = 0; i < run_count; ++i) {
      const int32_t* from = sums + moved + runs[i].at;
      for (int64_t j = 0; j < runs[i].count; ++j) *column++ += from[j * stride];
    }
  }
}

}  // namespace bascule
