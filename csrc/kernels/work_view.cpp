// SPDX-License-Identifier: Apache-2.0
#include "kernels/work_view.h"

#include "kernels/cast_tile.h"

namespace bascule {
namespace {

void convert(RunContext& c, DType from_type, const std::byte* from, DType to_type, std::byte* to,
             int64_t count) {
  const TileOp op = cast_tile(from_type, to_type, {});
  const int64_t from_size = item_size(from_type), to_size = item_size(to_type);
  c.parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    op.run(op, from + begin * from_size, nullptr, nullptr, to + begin * to_size, end - begin);
  });
}

}  // namespace

template <class T>
const T* work_view(RunContext& c, const Tensor& x) {
  if (x.dtype() == dtype_of<T>) return x.data<T>();
  T* to = c.workspace<T>(x.size());
  convert(c, x.dtype(), x.raw(), dtype_of<T>, reinterpret_cast<std::byte*>(to), x.size());
  return to;
}

template <class T>
T* work_target(RunContext& c, Tensor& y) {
  return y.dtype() == dtype_of<T> ? y.data<T>() : c.workspace<T>(y.size());
}

template <class T>
void store_work(RunContext& c, const T* values, Tensor& y) {
  if (y.dtype() == dtype_of<T>) return;
  convert(c, dtype_of<T>, reinterpret_cast<const std::byte*>(values), y.dtype(), y.raw(), y.size());
}

template const float* work_view(RunContext&, const Tensor&);
template const double* work_view(RunContext&, const Tensor&);
template float* work_target(RunContext&, Tensor&);
template double* work_target(RunContext&, Tensor&);
template void store_work(RunContext&, const float*, Tensor&);
template void store_work(RunContext&, const double*, Tensor&);

}  // namespace bascule
