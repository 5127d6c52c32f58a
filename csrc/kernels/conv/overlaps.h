// SPDX-License-Identifier: Apache-2.0
// Convolutions to few channels, whose direct form would leave most of a panel empty: all taps are
// columns of one product for each group, and its results are added where they overlap.
#pragma once

#include "kernels/conv/run.h"

namespace bascule {

// Whether that is the form of a ConvTranspose; all but its image sizes is known.
template <class T>
bool takes_overlaps(const ConvSizes& s) {
  return s.kernel[0] == 1 && s.taps() > 1 && s.group_in() >= 4 &&
         8 * s.group_out() <= gemm_functions<T>().panel_width;
}

template <class T>
int64_t overlaps_weights_size(const ConvSizes& s) {
  return s.group * packed_size<T>(s.group_in(), s.taps() * s.group_out());
}
// Packs weights [C, M / group, kernel...] as panels of [c, (m, tap)].
template <class T>
void pack_overlaps(const ConvSizes& s, const T* w, T* packed);
template <class T>
void run_overlaps(RunContext& c, const Convolution<T>& convolution);

// A Conv without stride is the ConvTranspose with its taps in the other order. Whether that is its
// form: the kernel reaches over the border on both sides, so few results are not asked for.
template <class T>
bool conv_takes_overlaps(const ConvSizes& s) {
  for (size_t i = 0; i < 3; ++i) {
    const int64_t reach = (s.kernel[i] - 1) * s.dilation[i];
    if (s.stride[i] != 1 || s.pad[i] < reach / 2 || s.pad[i] > reach) return false;
  }
  return takes_overlaps<T>(s);
}
// Packs weights [M, C / group, kernel...].
template <class T>
void pack_conv_overlaps(const ConvSizes& s, const T* w, T* packed);
template <class T>
void run_conv_overlaps(RunContext& c, const Convolution<T>& convolution);

}  // namespace bascule
