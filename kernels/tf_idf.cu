// SPDX-License-Identifier: Apache-2.0
// How often n-grams occur in rows of tokens. A thread makes one element of the result.
#include "common.cuh"

struct Counting {
  int64_t rows, columns, size;  // size: elements of a row of the result
  int64_t skips;
  int32_t weighting;  // TF, IDF, TFIDF
};

// N-gram g is pool[begin[g]] to pool[begin[g + 1]]; those of element i are first[i] to first[i +
// 1].
template <typename T>
__device__ void count_grams(const T* tokens, const int64_t* pool, const int64_t* begin,
                            const int64_t* first, const float* weights, float* y, Counting c) {
  const int64_t total = c.rows * c.size;
  for (int64_t i = thread_number(); i < total; i += thread_count()) {
    const int64_t element = i % c.size;
    const T* row = tokens + i / c.size * c.columns;
    int64_t count = 0;
    for (int64_t g = first[element]; g < first[element + 1]; ++g) {
      const int64_t* gram = pool + begin[g];
      const int64_t length = begin[g + 1] - begin[g];
      // Skips mean nothing to single tokens, which count once.
      for (int64_t distance = 1; distance <= (length > 1 ? c.skips + 1 : 1); ++distance) {
        if ((length - 1) * distance >= c.columns) break;
        for (int64_t start = 0; start + (length - 1) * distance < c.columns; ++start) {
          int64_t same = 0;
          while (same < length && row[start + same * distance] == gram[same]) ++same;
          count += same == length;
        }
      }
    }
    float value = static_cast<float>(count);
    if (c.weighting == 1) value = count > 0 ? 1.0f : 0.0f;
    if (c.weighting != 0 && weights != nullptr) value *= weights[element];
    y[i] = value;
  }
}

#define TF_IDF(name, T)                                                                         \
  extern "C" __global__ void tf_idf_##name(const T* tokens, const int64_t* pool,                \
                                           const int64_t* begin, const int64_t* first,          \
                                           const float* weights, float* y, Counting counting) { \
    count_grams<T>(tokens, pool, begin, first, weights, y, counting);                           \
  }
TF_IDF(int32, int32_t)
TF_IDF(int64, int64_t)
