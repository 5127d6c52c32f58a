// SPDX-License-Identifier: Apache-2.0
#include "core/file_mapping.h"

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <tuple>

#include "core/fork_safety.h"

#if !defined(_WIN32)
#include <sys/mman.h>
#endif

namespace bascule {

namespace {

#if !defined(_WIN32)
// Device, inode, size and time of change: a file that was written anew is another one.
using Identity = std::tuple<dev_t, ino_t, off_t, time_t, int64_t>;

Identity identity_of(const struct stat& status) {
#if defined(__APPLE__)
  const timespec& time = status.st_mtimespec;
#else
  const timespec& time = status.st_mtim;
#endif
  return {status.st_dev, status.st_ino, status.st_size, time.tv_sec, time.tv_nsec};
}

std::mutex& registry_mutex() { return fork_safe_mutex(ForkSafe::mappings); }

// Never destroyed: mappings may end while the process does.
std::map<Identity, std::weak_ptr<void>>& registry() {
  static auto* entries = new std::map<Identity, std::weak_ptr<void>>;
  return *entries;
}
#endif

}  // namespace

FileMapping map_file(int descriptor) {
#if defined(_WIN32)
  (void)descriptor;
  return {};
#else
  struct stat status{};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) return {};
  const auto size = static_cast<size_t>(status.st_size);
  const std::lock_guard<std::mutex> lock(registry_mutex());
  std::erase_if(registry(), [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<void>& known = registry()[identity_of(status)];
  if (auto data = known.lock()) return {std::move(data), size};
  void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) return {};
  std::shared_ptr<void> owner(data, [size](void* mapped) { munmap(mapped, size); });
  known = owner;
  return {std::move(owner), size};
#endif
}

}  // namespace bascule
