// SPDX-License-Identifier: Apache-2.0
#include "kernels/resize/axis_table.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string_view>

#include "core/error.h"

namespace bascule {
namespace {

template <class E>
E parse(const NodeSpec& node, const char* name, std::initializer_list<std::string_view> values) {
  const std::string value = node.get_string(name, std::string(*values.begin()));
  int index = 0;
  for (std::string_view known : values) {
    if (value == known) return static_cast<E>(index);
    ++index;
  }
  invalid(std::string("attribute '") + name + "' is '" + value + "'");
}

// place / scale, rounded once. Nearest divides by a given scale in its own precision, as other
// runtimes do: 3 / 0.6f is 5 in float32 and a little less in float64.
double unscaled(const Sampling& sampling, const ResizedAxis& axis, double place) {
  if (sampling.mode == ResizeMode::nearest && axis.is_given) {
    return static_cast<double>(static_cast<float>(place) / static_cast<float>(axis.numerator));
  }
  return place * axis.denominator / axis.numerator;
}

double source_of(const Sampling& sampling, const ResizedAxis& axis, double o) {
  const auto input = static_cast<double>(axis.input);
  const auto output = static_cast<double>(axis.output);
  const auto half_pixel = [&] { return unscaled(sampling, axis, o + 0.5) - 0.5; };
  switch (sampling.coordinates) {
    case Coordinates::half_pixel:
      return half_pixel();
    case Coordinates::half_pixel_symmetric: {
      const double adjustment = output / (axis.scale() * input);
      return input / 2 * (1 - adjustment) + half_pixel();
    }
    case Coordinates::pytorch_half_pixel:
      return axis.output == 1 ? 0 : half_pixel();
    case Coordinates::align_corners:
      return axis.output == 1 ? 0 : o * (input - 1) / (output - 1);
    case Coordinates::asymmetric:
      return unscaled(sampling, axis, o);
    case Coordinates::tf_crop_and_resize: {
      const double length = (axis.region_end - axis.region_begin) * (input - 1);
      const double within = axis.output == 1 ? length / 2 : o * length / (output - 1);
      return axis.region_begin * (input - 1) + within;
    }
  }
  return 0;
}

// How far from the middle of two elements is still halfway: 4.5 / 0.3f is 14.999999.
constexpr double halfway = 1e-6;

double nearest_of(NearestMode mode, double x) {
  const double low = std::floor(x);
  const double part = x - low;
  switch (mode) {
    case NearestMode::round_prefer_floor:
      return part > 0.5 + halfway ? low + 1 : low;
    case NearestMode::round_prefer_ceil:
      return part >= 0.5 - halfway ? low + 1 : low;
    case NearestMode::floor:
      return low;
    case NearestMode::ceil:
      return std::ceil(x);
  }
  return low;
}

// The filters, of the distance in (stretched) input elements.
double linear_filter(double x) { return std::max(0.0, 1 - std::abs(x)); }
double cubic_filter(double x, double a) {
  x = std::abs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

double stretch(const Sampling& sampling, const ResizedAxis& axis) {
  return sampling.antialias ? std::min(axis.scale(), 1.0) : 1.0;
}

// Distance of the first tap from the element at or below the source.
int64_t first_tap(const Sampling& sampling, const ResizedAxis& axis) {
  const double radius = sampling.mode == ResizeMode::cubic ? 2 : 1;
  return static_cast<int64_t>(std::floor(-radius / stretch(sampling, axis))) + 1;
}

}  // namespace

Sampling::Sampling(const NodeSpec& node)
    : mode(parse<ResizeMode>(node, "mode", {"nearest", "linear", "cubic"})),
      coordinates(parse<Coordinates>(node, "coordinate_transformation_mode",
                                     {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",
                                      "align_corners", "asymmetric", "tf_crop_and_resize"})),
      nearest(parse<NearestMode>(node, "nearest_mode",
                                 {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"})),
      antialias(node.get_int("antialias", 0) != 0),
      exclude_outside(node.get_int("exclude_outside", 0) != 0),
      cubic_a(static_cast<double>(node.get_float("cubic_coeff_a", -0.75f))) {}

bool ResizedAxis::is_identity(const Sampling& sampling) const {
  return input == output && std::abs(scale() - 1) < 1e-9 &&
         (sampling.coordinates != Coordinates::tf_crop_and_resize ||
          (region_begin == 0 && region_end == 1));
}

int64_t tap_count(const Sampling& sampling, const ResizedAxis& axis) {
  if (sampling.mode == ResizeMode::nearest) return 1;
  const int64_t count = 2 - 2 * first_tap(sampling, axis);
  if (count > int64_t{1} << 20) {
    fail("a scale of " + std::to_string(axis.scale()) + " is too small to antialias");
  }
  return count;
}

void fill_taps(const Sampling& sampling, const ResizedAxis& axis, int32_t* indices,
               double* weights) {
  const auto last = static_cast<double>(axis.input - 1);
  const int64_t taps = tap_count(sampling, axis);
  const double step = stretch(sampling, axis);
  for (int64_t o = 0; o < axis.output; ++o) {
    const double x = source_of(sampling, axis, static_cast<double>(o));
    const auto at = [&](int64_t t) { return t * axis.output + o; };
    if (sampling.coordinates == Coordinates::tf_crop_and_resize && !(x >= 0 && x <= last)) {
      for (int64_t t = 0; t < taps; ++t) indices[at(t)] = -1;
      continue;
    }
    if (sampling.mode == ResizeMode::nearest) {
      indices[o] = static_cast<int32_t>(std::clamp(nearest_of(sampling.nearest, x), 0.0, last));
      continue;
    }
    const double low = std::floor(x);
    const auto first = static_cast<double>(first_tap(sampling, axis));
    double sum = 0;
    for (int64_t t = 0; t < taps; ++t) {
      const double place = low + first + static_cast<double>(t);
      const double distance = (place - x) * step;
      double weight = sampling.mode == ResizeMode::cubic ? cubic_filter(distance, sampling.cubic_a)
                                                         : linear_filter(distance);
      if (sampling.exclude_outside && (place < 0 || place > last)) weight = 0;
      sum += weight;
      weights[at(t)] = weight;
      indices[at(t)] = static_cast<int32_t>(std::clamp(place, 0.0, last));
    }
    if ((sampling.antialias || sampling.exclude_outside) && sum != 0) {
      for (int64_t t = 0; t < taps; ++t) weights[at(t)] /= sum;
    }
  }
}

}  // namespace bascule
