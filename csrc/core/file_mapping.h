// SPDX-License-Identifier: Apache-2.0
// A whole file in memory, read-only and shared: with other processes by the system, in this process
// by all who map the same file while one of them still does.
#pragma once

#include <cstddef>
#include <memory>

namespace bascule {

struct FileMapping {
  std::shared_ptr<void> data;  // null when the file is empty or cannot be mapped
  size_t size = 0;
};

// The descriptor may be closed afterwards.
FileMapping map_file(int descriptor);

}  // namespace bascule
