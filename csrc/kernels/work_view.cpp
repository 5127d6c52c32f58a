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

template <class T>
WorkRows<T>::WorkRows(const Tensor& x, int64_t n)
    : data_(x.raw()), step_(n * item_size(x.dtype())), n_(n) {
  if (x.dtype() != dtype_of<T>) convert_ = cast_tile(x.dtype(), dtype_of<T>, {});
}

template <class T>
const T* WorkRows<T>::row(int64_t i, T* space) const {
  const std::byte* from = data_ + i * step_;
  if (convert_.run == nullptr) return reinterpret_cast<const T*>(from);
  convert_.run(convert_, from, nullptr, nullptr, space, n_);
  return space;
}

template <class T>
WorkTargetRows<T>::WorkTargetRows(Tensor& y, int64_t n)
    : data_(y.raw()), step_(n * item_size(y.dtype())), n_(n) {
  if (y.dtype() != dtype_of<T>) convert_ = cast_tile(dtype_of<T>, y.dtype(), {});
}

template <class T>
T* WorkTargetRows<T>::row(int64_t i, T* space) const {
  return convert_.run == nullptr ? reinterpret_cast<T*>(data_ + i * step_) : space;
}

template <class T>
void WorkTargetRows<T>::store(int64_t i, const T* values) const {
  if (convert_.run == nullptr) return;
  convert_.run(convert_, values, nullptr, nullptr, data_ + i * step_, n_);
}

DType widest_work_dtype(const RunContext& c) {
  for (int i = 0; i < c.input_count(); ++i) {
    if (c.has_input(i) && c.input(i).dtype() == DType::float64) return DType::float64;
  }
  return DType::float32;
}

#define BASCULE_WORK_TYPE(T)                                  \
  template const T* work_view<T>(RunContext&, const Tensor&); \
  template class WorkRows<T>;                                 \
  template class WorkTargetRows<T>;                           \
  template T* work_target<T>(RunContext&, Tensor&);           \
  template void store_work<T>(RunContext&, const T*, Tensor&)
BASCULE_WORK_TYPE(float);
BASCULE_WORK_TYPE(double);
BASCULE_WORK_TYPE(int32_t);
BASCULE_WORK_TYPE(int64_t);
BASCULE_WORK_TYPE(uint64_t);

}  // namespace bascule
