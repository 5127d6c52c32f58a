// SPDX-License-Identifier: Apache-2.0
#include "core/mapped_pages.h"

#include <cstdint>
#include <utility>

#if !defined(_WIN32)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace bascule {

namespace {

// The deleter type is the mark: std::get_deleter finds it.
struct MappedOwner {
  std::shared_ptr<void> inner;
  void operator()(void*) { inner.reset(); }
};

}  // namespace

Tensor mark_mapped(const Tensor& tensor) {
  void* data = const_cast<std::byte*>(tensor.raw());
  std::shared_ptr<void> owner(data, MappedOwner{tensor.owner()});
  return Tensor(tensor.dtype(), tensor.shape(), data, std::move(owner));
}

void release_mapped_pages(const Tensor& tensor) {
#if !defined(_WIN32)
  if (std::get_deleter<MappedOwner>(tensor.owner()) == nullptr) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = (reinterpret_cast<uintptr_t>(tensor.raw()) + page - 1) / page * page;
  const auto last =
      (reinterpret_cast<uintptr_t>(tensor.raw()) + static_cast<uintptr_t>(tensor.bytes())) / page *
      page;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
#else
  (void)tensor;
#endif
}

}  // namespace bascule
