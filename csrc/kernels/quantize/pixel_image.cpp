// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize/pixel_image.h"

#include <cstring>

#include "kernels/quantize/span.h"

namespace bascule {
namespace {

constexpr int64_t slack = 64;
constexpr Spatial ones{1, 1, 1}, nothing{0, 0, 0};

PixelImage whole(const ConvSizes& s, const uint8_t* x) {
  const int64_t row = s.in[2] * s.in_channels, plane = row * s.in[1];
  return {x, s, row, plane, plane * s.in[0]};
}

void flip_bytes(const uint8_t* from, int64_t count, uint8_t flip, uint8_t* to) {
  if (flip == 0) {
    std::memcpy(to, from, static_cast<size_t>(count));
    return;
  }
  for (int64_t i = 0; i < count; ++i) to[i] = from[i] ^ flip;
}

// The pixels under each tap of each output pixel, side by side.
PixelImage gathered(RunContext& c, const ConvSizes& s, const uint8_t* x, uint8_t border,
                    uint8_t flip) {
  ConvSizes own = s;
  for (size_t i = 0; i < 3; ++i) own.in[i] = s.out[i] * s.kernel[i];
  own.stride = s.kernel;
  own.dilation = ones;
  own.pad = nothing;
  const int64_t channels = s.in_channels, rows = own.in[0] * own.in[1];
  auto* to = c.workspace<uint8_t>(s.batch * own.in_pixels() * channels + slack);
  const PixelImage from = whole(s, x), result = whole(own, to);
  // Where tap i of an axis reads; outside of the input it is negative.
  const auto place = [&](size_t axis, int64_t i) {
    const int64_t at =
        i / s.kernel[axis] * s.stride[axis] + i % s.kernel[axis] * s.dilation[axis] - s.pad[axis];
    return at < s.in[axis] ? at : -1;
  };
  c.parallel_for(
      s.batch * rows, static_cast<double>(own.in[2] * (channels + 16)) / 16,
      [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t z = place(0, i % rows / own.in[1]), y = place(1, i % own.in[1]);
          uint8_t* line = to + i * result.row;
          for (int64_t j = 0; j < own.in[2]; ++j, line += channels) {
            const int64_t at = place(2, j);
            if (z < 0 || y < 0 || at < 0) {
              std::memset(line, border ^ flip, static_cast<size_t>(channels));
            } else {
              flip_bytes(x + i / rows * from.image + z * from.plane + y * from.row + at * channels,
                         channels, flip, line);
            }
          }
        }
      });
  return result;
}

// What the taps touch, from the padding on.
PixelImage bordered(RunContext& c, const ConvSizes& s, const uint8_t* x, uint8_t border,
                    uint8_t flip) {
  const Span span(s);
  const int64_t channels = s.in_channels, rows = span.rows(), row_bytes = span.width() * channels;
  auto* to = c.workspace<uint8_t>(s.batch * rows * row_bytes + slack);
  PixelImage result{to, s, row_bytes, span.plane_rows() * row_bytes, rows * row_bytes};
  result.sizes.pad = nothing;
  const auto outside = static_cast<uint8_t>(border ^ flip);
  c.parallel_for(s.batch * rows, static_cast<double>(row_bytes + 32) / 32,
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     const Span::Row row = span.row(i % rows);
                     const uint8_t* image = x + i / rows * s.in_pixels() * channels;
                     uint8_t* line = to + i * row_bytes;
                     const int64_t first = row.begin * channels, last = row.end * channels;
                     std::memset(line, outside, static_cast<size_t>(first));
                     flip_bytes(image + row.pixel * channels, last - first, flip, line + first);
                     std::memset(line + last, outside, static_cast<size_t>(row_bytes - last));
                   }
                 });
  return result;
}

}  // namespace

PixelRows::PixelRows(const PixelImage& image)
    : width(image.sizes.out[2]),
      count(image.sizes.batch * image.sizes.out[0] * image.sizes.out[1]),
      image_(image) {
  const ConvSizes& s = image.sizes;
  if (s.kernel == ones && s.stride == ones && s.in == s.out) {
    width *= count;
    count = 1;
  }
}

PixelImage dense_image(RunContext& c, const ConvSizes& s, const uint8_t* x, uint8_t border) {
  return Span(s).is_dense() ? whole(s, x) : gathered(c, s, x, border, 0);
}

PixelImage unsigned_image(RunContext& c, const ConvSizes& s, const uint8_t* x, uint8_t border,
                          uint8_t flip, bool copied) {
  const Span span(s);
  const bool is_moved = s.kernel == ones && s.stride != ones;
  const bool is_inside = span.is_inside();
  if (is_inside && flip == 0 && !copied) return whole(s, x);
  return !span.is_dense() || is_moved ? gathered(c, s, x, border, flip)
                                      : bordered(c, s, x, border, flip);
}

}  // namespace bascule
