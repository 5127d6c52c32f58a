// SPDX-License-Identifier: Apache-2.0
// instruction sets: base avx2 avx512
#include "kernels/measure_peak.h"

#include "simd/vec.h"

namespace bascule::BASCULE_ISA {
namespace {

// As many chains as registers hold beside the two operands: enough to hide the latency.
#if defined(__AVX512F__)
constexpr int chains = 24;
#else
constexpr int chains = 12;
#endif

}  // namespace

int64_t operations_of_a_step() { return int64_t{2} * chains * lanes; }

float multiply_add_chains(int64_t steps) {
  F32 sums[chains];
#pragma GCC unroll 24
  for (int c = 0; c < chains; ++c) sums[c] = set(static_cast<float>(c));
  // Each chain tends to 2, so that no value ever becomes special.
  const F32 half = set(0.5f), one = set(1.0f);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 24
    for (int c = 0; c < chains; ++c) sums[c] = fma(sums[c], half, one);
  }
  F32 total = sums[0];
#pragma GCC unroll 24
  for (int c = 1; c < chains; ++c) total += sums[c];
  return total[0];
}

float read_all(const float* x, int64_t count) {
  constexpr int streams = 8;
  F32 sums[streams] = {};
  for (int64_t i = 0; i < count; i += streams * lanes) {
#pragma GCC unroll 8
    for (int s = 0; s < streams; ++s) sums[s] += load(x + i + s * lanes);
  }
  F32 total = sums[0];
#pragma GCC unroll 8
  for (int s = 1; s < streams; ++s) total += sums[s];
  return total[0];
}

}  // namespace bascule::BASCULE_ISA

#if BASCULE_ONCE
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>

#include "core/buffer_cache.h"
#include "core/error.h"
#include "runtime/thread_pool.h"

namespace bascule {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t block = int64_t{1} << 18;  // floats read between two looks at the clock: 1 MB
constexpr int64_t steps_of_a_block = 20000;

volatile float sink;  // keeps the compiler from leaving out what nobody reads

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check(int threads, double seconds) {
  if (threads < 1 || threads > 1024) {
    throw Error(Code::invalid_argument,
                "threads must be between 1 and 1024, not " + std::to_string(threads));
  }
  if (!(seconds > 0) || seconds > 60) {
    throw Error(Code::invalid_argument, "seconds must be above 0 and at most 60");
  }
}

template <class Body>
void on_threads(int threads, Body&& body) {
  const auto piece = [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) body(t);
  };
  Loop loop = Loop::over(threads, piece);
  loop.threads = loop.pieces = threads;
  ThreadPool::shared().run(loop);
}

constexpr int rounds = 7;

// Blocks a second that `work(thread, index)` is done by all threads together, in several
// measurements, the slowest first.
template <class Work>
std::array<double, rounds> blocks_a_second(int threads, double seconds, Work&& work) {
  std::array<double, rounds> rates;
  for (double& rate : rates) {
    std::atomic<int64_t> done{0};
    const Clock::time_point start = Clock::now();
    on_threads(threads, [&](int64_t thread) {
      int64_t count = 0;
      do {
        work(thread, count++);
      } while (seconds_since(start) < seconds / rounds);
      done += count;
    });
    rate = static_cast<double>(done) / seconds_since(start);
  }
  std::sort(rates.begin(), rates.end());
  return rates;
}

}  // namespace

double peak_gflops(int threads, double seconds) {
  check(threads, seconds);
  const auto chains = BASCULE_PICK(multiply_add_chains);
  // The best: whatever disturbs a measurement makes it slower.
  const auto rates =
      blocks_a_second(threads, seconds, [&](int64_t, int64_t) { sink = chains(steps_of_a_block); });
  return rates.back() * steps_of_a_block *
         static_cast<double>(BASCULE_PICK(operations_of_a_step)()) / 1e9;
}

double read_bandwidth(int threads, double seconds, int64_t bytes) {
  check(threads, seconds);
  constexpr int64_t block_bytes = block * static_cast<int64_t>(sizeof(float));
  const int64_t share = bytes / block_bytes / threads;  // blocks of one thread
  if (share < 1) {
    throw Error(Code::invalid_argument, "bytes must be at least 1 MiB for each thread");
  }
  const std::shared_ptr<void> memory =
      allocate_buffer(static_cast<size_t>(share * threads * block_bytes));
  if (memory == nullptr) throw Error(Code::fail, "not enough memory to measure bandwidth");
  auto* x = static_cast<float*>(memory.get());
  // Written first: pages that nobody has written are all the same page of zeros.
  on_threads(threads, [&](int64_t t) { std::fill_n(x + t * share * block, share * block, 1.0f); });
  const auto read = BASCULE_PICK(read_all);
  // The median: threads that a virtual machine moves to another part of the chip for a moment have
  // twice the bandwidth there.
  const auto rates = blocks_a_second(threads, seconds, [&](int64_t thread, int64_t index) {
    sink = read(x + (thread * share + index % share) * block, block);
  });
  return rates[rounds / 2] * static_cast<double>(block_bytes) / 1e9;
}

}  // namespace bascule
#endif
