// SPDX-License-Identifier: Apache-2.0
// Fetching the constants of a kernel into the caches while those before it compute.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace bascule {

// What a kernel that takes part offers, beside Kernel.
class ReadsAhead {
 public:
  virtual ~ReadsAhead() = default;
  // Constant memory that a run reads once, and waits for; empty where the computation takes longer.
  virtual std::span<const std::byte> streamed() const { return {}; }
  // Bytes that a run can fetch for others beside its own work.
  virtual int64_t spare_bytes() const { return 0; }

  // What a run should fetch; as long-lived as this kernel.
  std::span<const std::byte> ahead() const { return ahead_; }
  void set_ahead(std::span<const std::byte> memory) { ahead_ = memory; }

 private:
  std::span<const std::byte> ahead_;
};

// Shares out what each of the kernels streams among those that run shortly before it, the nearest
// first.
void plan_read_ahead(std::span<ReadsAhead* const> kernels);

}  // namespace bascule
