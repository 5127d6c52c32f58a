// SPDX-License-Identifier: Apache-2.0
// Which processors the threads of the process's pool run on.
#pragma once

#include <vector>

namespace bascule {

// Binds worker i of the pool, and of those made after a fork(), to the processors of entry i,
// counted from 0. Workers without an entry stay as they are, and so do those whose processors the
// system refuses. Where the system knows no such thing, nothing happens.
void bind_workers(std::vector<std::vector<int>> processors);

// Called by a worker when it starts: it is the next one.
void register_worker();

}  // namespace bascule
