// SPDX-License-Identifier: Apache-2.0
// Memory of runs that have no plan yet: a value that dies leaves its block to later ones.
#pragma once

#include <memory>

#include "core/tensor.h"

namespace bascule {

class BlockPool {
 public:
  BlockPool();

  // A tensor like that of Tensor::allocate, over a free block if one fits. Its block comes back
  // when its last owner lets go of it, on whatever thread that happens.
  Tensor allocate(DType dtype, const Shape& shape);

  // Gives the free blocks to the system; those in use will go there too.
  void clear();

 private:
  struct Blocks;
  std::shared_ptr<Blocks> blocks_;
};

}  // namespace bascule
