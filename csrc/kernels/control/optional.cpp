// SPDX-License-Identifier: Apache-2.0
// Optional values: made, tested and opened.
#include "runtime/kernel.h"

namespace bascule {
namespace {

void hand_on(RunContext& c, const Value& value) {
  if (value.is_tensor()) {
    c.alias_output(0, value.tensor(), value.tensor().shape());
  } else {
    c.set_output(0, value.owned());
  }
}

struct Optional final : Kernel {
  void run(RunContext& c) const override {
    if (!c.has_input(0)) return c.set_output(0, Value());
    hand_on(c, c.value(0));
  }
};
BASCULE_KERNEL("Optional", Optional);

struct OptionalGetElement final : Kernel {
  void run(RunContext& c) const override {
    if (!c.has_input(0)) invalid("Trying to use OptionalGetElement on an optional without a value");
    hand_on(c, c.value(0));
  }
};
BASCULE_KERNEL("OptionalGetElement", OptionalGetElement);

struct OptionalHasElement final : Kernel {
  void run(RunContext& c) const override {
    const bool has = c.has_input(0);
    *c.output(0, DType::boolean, {}).data<bool>() = has;
  }
};
BASCULE_KERNEL("OptionalHasElement", OptionalHasElement);

}  // namespace
}  // namespace bascule
