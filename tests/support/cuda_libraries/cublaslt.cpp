// SPDX-License-Identifier: Apache-2.0
// The functions of cuBLASLt that the provider calls, computed on the host as its manual says:
// matrices by columns, D = epilogue(alpha op(A) op(B) + beta C + bias).
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace {

enum { success = 0, invalid_value = 7, not_supported = 15 };
enum { type_f32 = 0, type_f64 = 1, type_f16 = 2, type_s8 = 3, type_s32 = 10, type_bf16 = 14 };

struct Description {
  int compute, scale, transpose_a = 0, transpose_b = 0, epilogue = 1;
  uint64_t bias = 0;
  int64_t bias_stride = 0;
};
struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t leading;
  int32_t batch = 1;
  int64_t stride = 0;
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t alignments[4] = {256, 256, 256, 256};
};
struct Algorithm {
  uint64_t data[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Algorithm) == 96);

double read(const Layout& x, const void* data, int64_t i) {
  switch (x.type) {
    case type_f32:
      return static_cast<const float*>(data)[i];
    case type_f64:
      return static_cast<const double*>(data)[i];
    case type_f16:
      return static_cast<double>(static_cast<const _Float16*>(data)[i]);
    case type_s8:
      return static_cast<const int8_t*>(data)[i];
    case type_s32:
      return static_cast<const int32_t*>(data)[i];
    default: {
      const uint32_t bits = uint32_t{static_cast<const uint16_t*>(data)[i]} << 16;
      float value;
      std::memcpy(&value, &bits, 4);
      return value;
    }
  }
}

void write(const Layout& x, void* data, int64_t i, double value) {
  switch (x.type) {
    case type_f32:
      static_cast<float*>(data)[i] = static_cast<float>(value);
      return;
    case type_f64:
      static_cast<double*>(data)[i] = value;
      return;
    case type_f16:
      static_cast<_Float16*>(data)[i] = static_cast<_Float16>(value);
      return;
    case type_s32:
      static_cast<int32_t*>(data)[i] = static_cast<int32_t>(value);
      return;
    default: {
      const auto narrow = static_cast<float>(value);
      uint32_t bits;
      std::memcpy(&bits, &narrow, 4);
      bits += 0x7fff + (bits >> 16 & 1);
      static_cast<uint16_t*>(data)[i] = static_cast<uint16_t>(bits >> 16);
    }
  }
}

double scalar(const Description& d, const void* from) {
  if (d.scale == type_f64) return *static_cast<const double*>(from);
  return d.scale == type_s32 ? *static_cast<const int32_t*>(from)
                             : *static_cast<const float*>(from);
}

bool fits(const Description& d, const Layout& a, const Layout& b, const Layout& result) {
  const bool integer = d.compute == 72, wide = d.compute == 70;
  if (integer != (a.type == type_s8 && result.type == type_s32)) return false;
  if (wide != (a.type == type_f64) || a.type != b.type) return false;
  if ((integer || wide) && d.epilogue != 1) return false;
  if (d.epilogue & 4 && d.bias == 0) return false;
  const uint64_t m = d.transpose_a ? a.columns : a.rows, k = d.transpose_a ? a.rows : a.columns;
  const uint64_t n = d.transpose_b ? b.rows : b.columns;
  return k == (d.transpose_b ? b.columns : b.rows) && m == result.rows && n == result.columns &&
         a.batch == result.batch && b.batch == result.batch;
}

template <class T>
int set(T& to, const void* from, size_t size) {
  if (size != sizeof(T)) return invalid_value;
  std::memcpy(&to, from, size);
  return success;
}

template <class T>
int destroy(T* made) {
  delete made;
  return success;
}

}  // namespace

extern "C" {

int cublasLtCreate(void** handle) {
  *handle = new int(0);
  return success;
}
int cublasLtDestroy(int* handle) { return destroy(handle); }
size_t cublasLtGetVersion() { return 130100; }
const char* cublasLtGetStatusString(int status) {
  return status == invalid_value ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_NOT_SUPPORTED";
}

int cublasLtMatmulDescCreate(Description** made, int compute, int scale) {
  *made = new Description{compute, scale};
  return success;
}
int cublasLtMatmulDescDestroy(Description* d) { return destroy(d); }
int cublasLtMatmulDescSetAttribute(Description* d, int attribute, const void* from, size_t size) {
  switch (attribute) {
    case 3:
      return set(d->transpose_a, from, size);
    case 4:
      return set(d->transpose_b, from, size);
    case 7:
      return set(d->epilogue, from, size);
    case 8:
      return set(d->bias, from, size);
    case 10:
      return set(d->bias_stride, from, size);
  }
  return invalid_value;
}

int cublasLtMatrixLayoutCreate(Layout** made, int type, uint64_t rows, uint64_t columns,
                               int64_t leading) {
  if (leading < static_cast<int64_t>(rows)) return invalid_value;
  *made = new Layout{type, rows, columns, leading};
  return success;
}
int cublasLtMatrixLayoutDestroy(Layout* x) { return destroy(x); }
int cublasLtMatrixLayoutSetAttribute(Layout* x, int attribute, const void* from, size_t size) {
  if (attribute == 5) return set(x->batch, from, size);
  return attribute == 6 ? set(x->stride, from, size) : int{invalid_value};
}

int cublasLtMatmulPreferenceCreate(Preference** made) {
  *made = new Preference;
  return success;
}
int cublasLtMatmulPreferenceDestroy(Preference* p) { return destroy(p); }
int cublasLtMatmulPreferenceSetAttribute(Preference* p, int attribute, const void* from,
                                         size_t size) {
  uint32_t reductions;
  if (attribute == 1) return set(p->workspace, from, size);
  if (attribute == 3) return set(reductions, from, size);
  return attribute >= 5 && attribute <= 8 ? set(p->alignments[attribute - 5], from, size)
                                          : int{invalid_value};
}

// Its algorithms write all of their workspace, and remember what they were chosen for.
int cublasLtMatmulAlgoGetHeuristic(int*, const Description* d, const Layout* a, const Layout* b,
                                   const Layout* c, const Layout* result, const Preference* p,
                                   int room, Algorithm* found, int* count) {
  *count = 0;
  if (room < 1 || c != result || !fits(*d, *a, *b, *result)) return not_supported;
  *found = Algorithm{};
  found->workspace = p->workspace < 1000 ? p->workspace : 1000;
  found->data[0] = p->alignments[0];
  found->data[1] = static_cast<uint64_t>(d->epilogue);
  *count = 1;
  return success;
}

int cublasLtMatmul(int*, const Description* d, const void* alpha, const void* a, const Layout* la,
                   const void* b, const Layout* lb, const void* beta, const void* c,
                   const Layout* lc, void* y, const Layout* ly, const Algorithm* algorithm,
                   void* workspace, size_t bytes, void* stream) {
  if (!fits(*d, *la, *lb, *ly) || bytes < algorithm->workspace || stream != nullptr) {
    return invalid_value;
  }
  if (algorithm->data[1] != static_cast<uint64_t>(d->epilogue)) return invalid_value;
  for (const void* address : {a, b, c, static_cast<const void*>(y)}) {
    if (reinterpret_cast<uintptr_t>(address) % algorithm->data[0] != 0) return invalid_value;
  }
  if (bytes > 0) std::memset(workspace, 0xee, bytes);
  const double factor = scalar(*d, alpha), kept = scalar(*d, beta);
  const Layout bias_layout{ly->type, 0, 0, 0};
  const auto k = static_cast<int64_t>(d->transpose_a ? la->rows : la->columns);
  for (int64_t item = 0; item < ly->batch; ++item) {
    for (int64_t i = 0; i < static_cast<int64_t>(ly->rows); ++i) {
      for (int64_t j = 0; j < static_cast<int64_t>(ly->columns); ++j) {
        double sum = 0;
        for (int64_t l = 0; l < k; ++l) {
          const int64_t at_a = d->transpose_a ? i * la->leading + l : l * la->leading + i;
          const int64_t at_b = d->transpose_b ? l * lb->leading + j : j * lb->leading + l;
          sum += read(*la, a, item * la->stride + at_a) * read(*lb, b, item * lb->stride + at_b);
        }
        const int64_t at = j * ly->leading + i + item * ly->stride;
        sum *= factor;
        if (kept != 0) sum += kept * read(*lc, c, at);
        if (d->epilogue & 4) {
          const int64_t bias_at = item * d->bias_stride + i;
          sum += read(bias_layout, reinterpret_cast<const void*>(d->bias), bias_at);
        }
        if (d->epilogue & 2) sum = sum < 0 ? 0 : sum;
        if (d->epilogue & 32) {
          sum *= 0.5 * (1 + std::tanh(0.79788456080286535588 * (sum + 0.044715 * sum * sum * sum)));
        }
        write(*ly, y, at, sum);
      }
    }
  }
  return success;
}
}
