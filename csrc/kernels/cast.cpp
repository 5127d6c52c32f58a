// SPDX-License-Identifier: Apache-2.0
// Cast and CastLike between all types. Types that share bytes between elements are unpacked to, and
// packed from, a byte or a float per element.
#include <cstring>
#include <optional>

#include "kernels/cast_string.h"
#include "kernels/cast_tile.h"
#include "kernels/elementwise/elementwise.h"

namespace bascule {
namespace {

// A packed type: the type that one element is unpacked to, and the float format if it is one.
struct Packed {
  DType unpacked;
  bool is_signed;
  const NarrowFormat* format;
};

std::optional<Packed> packed_type(DType dtype) {
  switch (dtype) {
    case DType::int4:
    case DType::int2:
      return Packed{DType::int8, true, nullptr};
    case DType::uint4:
    case DType::uint2:
      return Packed{DType::uint8, false, nullptr};
    case DType::float4e2m1:
      return Packed{DType::float32, true, &format_e2m1};
    case DType::float6e2m3:
      return Packed{DType::float32, true, &format_e2m3};
    case DType::float6e3m2:
      return Packed{DType::float32, true, &format_e3m2};
    default:
      return std::nullopt;
  }
}

DType unpacked_type(DType dtype) {
  const auto packed = packed_type(dtype);
  return packed ? packed->unpacked : dtype;
}

// The type that text is read as, before it is converted to `to`.
DType parsed_type(DType to) {
  const DType unpacked = unpacked_type(to);
  const bool as_it_is =
      to == DType::float32 || to == DType::boolean || (contains(IntegerTypes{}, unpacked));
  return as_it_is ? unpacked : DType::float64;
}

void unpack(const Tensor& from, int64_t first, int64_t count, std::byte* to) {
  const Packed packed = *packed_type(from.dtype());
  const int bits = bits_of(from.dtype());
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t pattern = get_packed(from.raw(), bits, first + i);
    if (packed.format != nullptr) {
      const float value = decode_narrow(pattern, *packed.format);
      std::memcpy(to + i * 4, &value, 4);
    } else {
      const bool negative = packed.is_signed && (pattern >> (bits - 1)) != 0;
      to[i] = static_cast<std::byte>(negative ? pattern | (0xff << bits) : pattern);
    }
  }
}

void pack(const std::byte* from, Tensor& to, int64_t first, int64_t count) {
  const Packed packed = *packed_type(to.dtype());
  const int bits = bits_of(to.dtype());
  for (int64_t i = 0; i < count; ++i) {
    uint8_t pattern;
    if (packed.format != nullptr) {
      float value;
      std::memcpy(&value, from + i * 4, 4);
      pattern = encode_narrow(value, *packed.format, Overflow::saturate);
    } else {
      pattern = static_cast<uint8_t>(static_cast<uint8_t>(from[i]) & ((1 << bits) - 1));
    }
    set_packed(to.raw(), bits, first + i, pattern);
  }
}

std::string read_options(const NodeSpec& node, CastOptions& options) {
  options.saturate = node.get_int("saturate", 1) != 0;
  const std::string mode = node.get_string("round_mode", "up");
  if (mode == "up") {
    options.round_mode = RoundMode::up;
  } else if (mode == "down") {
    options.round_mode = RoundMode::down;
  } else if (mode == "nearest") {
    options.round_mode = RoundMode::nearest;
  } else {
    return "round_mode='" + mode + "' is not known";
  }
  return "";
}

DType target_of(const NodeSpec& node) {
  if (node.op_type == "CastLike") return node.dtype(1);
  const int64_t to = node.get_int("to", 0);
  return to > 0 && to < dtype_count ? static_cast<DType>(to) : DType::undefined;
}

class Cast final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    CastOptions options;
    const std::string reason = read_options(node, options);
    if (!reason.empty()) return reject(reason);
    const DType from = node.dtype(), to = target_of(node);
    if (from == to && from != DType::undefined) return accept;
    const auto castable = [](DType dtype) {
      return dtype == DType::string ||
             cast_tile(unpacked_type(dtype), DType::float32, {}).run != nullptr;
    };
    if (castable(from) && castable(to)) return accept;
    return reject(std::string("no conversion from ") + name_of(from) + " to " + name_of(to));
  }

  explicit Cast(const NodeSpec& node) : to_(target_of(node)) {
    CastOptions options;
    read_options(node, options);
    options.rounds_again = is_packed(to_);
    DType from = unpacked_type(node.dtype());
    if (from == DType::string) from = parsed_type(to_);
    if (to_ != DType::string) tile_ = cast_tile(from, unpacked_type(to_), options);
  }

  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    if (x.dtype() == to_) {
      c.alias_output(0, x, x.shape());
      return;
    }
    if (x.dtype() == DType::string || to_ == DType::string) return cast_strings(c, x);
    cast(c, x);
  }

 private:
  void cast(RunContext& c, const Tensor& x) const {
    if (is_packed(x.dtype()) || is_packed(to_)) return cast_packed(c, x);
    const std::byte* from = x.raw();
    const int64_t from_size = item_size(x.dtype()), to_size = item_size(to_);
    std::byte* out = c.output(0, to_, x.shape()).raw();
    c.parallel_for(x.size(), 1, [&](int64_t begin, int64_t end) {
      tile_.run(tile_, from + begin * from_size, nullptr, nullptr, out + begin * to_size,
                end - begin);
    });
  }

  void cast_strings(RunContext& c, const Tensor& x) const {
    if (x.dtype() == DType::string) {
      const DType parsed = parsed_type(to_);
      if (parsed == to_) return cast_from_strings(x, c.output(0, to_, x.shape()));
      Tensor numbers = Tensor::allocate(parsed, x.shape());
      cast_from_strings(x, numbers);
      return cast(c, numbers);
    }
    Tensor& y = c.output(0, to_, x.shape());
    const auto packed = packed_type(x.dtype());
    if (!packed) return cast_to_strings(x, nullptr, y);
    Tensor wide = Tensor::allocate(packed->unpacked, x.shape());
    unpack(x, 0, x.size(), wide.raw());
    cast_to_strings(wide, packed->format, y);
  }

  // Pieces of tile_size elements are whole bytes in every packed type.
  void cast_packed(RunContext& c, const Tensor& x) const {
    Tensor& y = c.output(0, to_, x.shape());
    const int64_t size = x.size();
    const int64_t tiles = (size + tile_size - 1) / tile_size;
    c.parallel_for(tiles, 8 * tile_size, [&](int64_t begin, int64_t end) {
      std::byte source[tile_size * 4], target[tile_size * 4];
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = tile * tile_size;
        const int64_t count = std::min(size - first, tile_size);
        const std::byte* from = source;
        if (is_packed(x.dtype())) {
          unpack(x, first, count, source);
        } else {
          from = x.raw() + first * item_size(x.dtype());
        }
        std::byte* to = is_packed(to_) ? target : y.raw() + first * item_size(to_);
        tile_.run(tile_, from, nullptr, nullptr, to, count);
        if (is_packed(to_)) pack(target, y, first, count);
      }
    });
  }

  DType to_;
  TileOp tile_;
};
BASCULE_KERNEL("Cast", Cast, InPlace{0, 0});
BASCULE_KERNEL("CastLike", Cast);

std::string resolve_cast(const NodeSpec& node, ElementwiseOp& op) {
  CastOptions options;
  const std::string reason = read_options(node, options);
  if (!reason.empty()) return reason;
  op.output = target_of(node);
  op.tile = cast_tile(node.dtype(), op.output, options);
  return require_function(op, node.dtype());
}
[[maybe_unused]] const bool registered_resolver = register_elementwise("Cast", resolve_cast);

// The bits of the elements under another type of the same width.
class BitCast final : public Kernel {
 public:
  static Capability capability(const NodeSpec& node) {
    const DType from = node.dtype(), to = target_of(node);
    if (from == DType::string || to == DType::string || to == DType::undefined ||
        bits_of(from) != bits_of(to)) {
      return reject(std::string(name_of(from)) + " and " + name_of(to) + " differ in width");
    }
    return accept;
  }
  explicit BitCast(const NodeSpec& node) : to_(target_of(node)) {}
  void run(RunContext& c) const override {
    const Tensor& x = c.input(0);
    const size_t bytes = static_cast<size_t>(x.bytes());
    const std::byte* from = x.raw();
    std::byte* to = c.output(0, to_, x.shape()).raw();
    if (to != from && bytes > 0) std::memcpy(to, from, bytes);
  }

 private:
  DType to_;
};
BASCULE_KERNEL("BitCast", BitCast, InPlace{0, 0});

struct Identity final : Kernel {
  void run(RunContext& c) const override {
    const Value& value = c.value(0);
    if (value.is_tensor()) {
      c.alias_output(0, value.tensor(), value.tensor().shape());
    } else {
      c.set_output(0, value);
    }
  }
};
BASCULE_KERNEL("Identity", Identity);

}  // namespace
}  // namespace bascule
