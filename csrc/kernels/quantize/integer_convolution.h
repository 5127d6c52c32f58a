// SPDX-License-Identifier: Apache-2.0
// Convolutions of 8-bit integers with zero points, channels first or last.
#pragma once

#include "kernels/conv/geometry.h"
#include "kernels/quantize/integer_finish.h"
#include "runtime/run_context.h"

namespace bascule {

class IntegerConvolution {
 public:
  // `weights` is the input that they are.
  IntegerConvolution(const NodeSpec& node, size_t weights);

  ConvSizes sizes(RunContext& c) const;
  Shape output_shape(RunContext& c, const ConvSizes& s) const {
    return attributes_.output_shape(s, c.input(0).rank());
  }

  // How sums become bytes: clamp(round(sum * factor) + zero, low, high).
  struct Scaling {
    const float* factors;  // one, or one for each output channel
    int64_t count;
    float zero;
    float low;
    float high;
  };
  struct Residual {
    const uint8_t* data;
    ByteAddition how;
  };
  // To int32 without `scaling`. `w_zero` is null, or has one value or one for each output channel.
  // A residual may be added to bytes.
  void run(RunContext& c, const ConvSizes& s, int32_t x_zero, const Tensor* w_zero,
           const int32_t* bias, const Scaling* scaling, const Residual* residual, void* y) const;

  // The same with what follows from constants alone: if the weights are packed.
  bool is_packed() const { return is_packed_; }
  int64_t out_channels() const { return shape_[0]; }
  IntegerFinish finish(KeptMemory& memory, int32_t x_zero, const Tensor* w_zero,
                       const int32_t* bias, const Scaling& scaling) const;
  void run(RunContext& c, const ConvSizes& s, int32_t x_zero, const IntegerFinish& finish,
           const Residual* residual, void* y) const;

 private:
  // Weights as the micro-kernels read them, and the sum of each output channel.
  struct Weights {
    const int8_t* data;
    const int32_t* sums;
  };
  bool is_depthwise(const ConvSizes& s) const;
  int64_t packed_bytes(const ConvSizes& s) const;
  void pack(const ConvSizes& s, const uint8_t* from, int8_t* to, int32_t* sums) const;
  Weights packed(RunContext& c, const ConvSizes& s) const;
  template <class Memory>
  IntegerFinish make_finish(Memory& memory, const ConvSizes& s, const int32_t* sums, int32_t x_zero,
                            const Tensor* w_zero, const int32_t* bias,
                            const Scaling* scaling) const;
  void run(RunContext& c, const ConvSizes& s, const Weights& weights, int32_t x_zero,
           const IntegerFinish& finish, const Residual* residual, void* y) const;
  void run_last(RunContext& c, const ConvSizes& s, const uint8_t* x, uint8_t border,
                const Weights& weights, const IntegerFinish& finish, const uint8_t* residual,
                uint8_t* y) const;
  void run_panels(RunContext& c, const ConvSizes& s, const uint8_t* x, uint8_t border,
                  const Weights& weights, const IntegerFinish& finish, const uint8_t* residual,
                  uint8_t* y) const;
  void run_depthwise(RunContext& c, const ConvSizes& s, const uint8_t* x, uint8_t border,
                     const Weights& weights, const IntegerFinish& finish, const uint8_t* residual,
                     uint8_t* y) const;

  ConvAttributes attributes_;
  size_t weights_input_;
  ByteSign w_sign_;
  ByteSign x_sign_;
  bool is_undilated_;  // along the last axis
  bool is_packed_ = false;
  Shape shape_;
  Tensor packed_;
  Tensor sums_;
};

}  // namespace bascule
