// SPDX-License-Identifier: Apache-2.0
// What the launches of a step of decoding take on a GPU, without the runtime around them: the
// kernels of bascule in one CUDA graph, as a session captures them, with weights of their own for
// each layer. Its results mean nothing. Seconds on a GPU, so that variants of kernels can be tried:
//
//   for k in stream_nbits stream_matmul decode_tiles cache_rows; do
//     nvcc -std=c++17 -O3 -arch=sm_90 -cubin -Ikernels -o cubins/$k.cubin kernels/$k.cu; done
//   nvcc -std=c++17 -O2 -o gpu_step bench/gpu_step.cu && ./gpu_step cubins
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr size_t pool_bytes = size_t{12} << 30, buffer_bytes = 1 << 20;
constexpr int threads = 512, stage_bytes = 16384, processors = 132, clusters = 8;
constexpr int unit_bytes = 1152;                // of weights with blocks of 32
constexpr int nbits_depth = 6, half_depth = 5;  // as in the kernels

void check(cudaError_t error, int line) {
  if (error == cudaSuccess) return;
  std::printf("line %d: %s\n", line, cudaGetErrorString(error));
  std::exit(1);
}
#define CHECK(call) check(call, __LINE__)

class Arguments {
 public:
  template <typename T>
  Arguments& operator<<(T value) {
    values_.emplace_back(sizeof(T));
    std::memcpy(values_.back().data(), &value, sizeof(T));
    return *this;
  }
  std::vector<void*> pointers() {
    std::vector<void*> found;
    for (auto& value : values_) found.push_back(value.data());
    return found;
  }

 private:
  std::vector<std::vector<char>> values_;
};

class Gpu {
 public:
  explicit Gpu(std::string folder) : folder_(std::move(folder)) {
    CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    CHECK(cudaMalloc(&pool_, pool_bytes));
    CHECK(cudaMalloc(&buffers_, 64 * buffer_bytes));
    CHECK(cudaMemset(buffers_, 0, 64 * buffer_bytes));
    std::vector<uint32_t> random(1 << 24);
    uint32_t state = 1;
    for (auto& word : random) {  // pairs of small positive float16 numbers
      state = state * 1664525 + 1013904223;
      word = (state & 0x0fff0fffu) | 0x20002000u;
    }
    for (size_t at = 0; at < pool_bytes; at += random.size() * 4) {
      CHECK(cudaMemcpy(pool_ + at, random.data(), random.size() * 4, cudaMemcpyHostToDevice));
    }
  }

  // Memory that nobody has read for a while.
  char* take(size_t bytes) {
    bytes = (bytes + 255) / 256 * 256;
    if (next_ + bytes > pool_bytes) next_ = 0;
    next_ += bytes;
    return pool_ + next_ - bytes;
  }
  char* buffer(int number) const { return buffers_ + number * buffer_bytes; }

  void launch(const std::string& file, const char* name, dim3 grid, int block, int shared,
              Arguments& arguments) {
    cudaLibrary_t& library = libraries_[file];
    const std::string path = folder_ + "/" + file + ".cubin";
    if (library == nullptr) {
      CHECK(cudaLibraryLoadFromFile(&library, path.c_str(), nullptr, nullptr, 0, nullptr, nullptr,
                                    0));
    }
    cudaKernel_t kernel;
    CHECK(cudaLibraryGetKernel(&kernel, library, name));
    const auto function = reinterpret_cast<const void*>(kernel);
    CHECK(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
    cudaLaunchAttribute attribute;
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream_;
    config.attrs = &attribute;
    config.numAttrs = 1;
    CHECK(cudaLaunchKernelExC(&config, function, arguments.pointers().data()));
  }

  // Microseconds of what `work` launches: the median of replays.
  template <typename Work>
  float time(const Work& work) {
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed));
    work();
    CHECK(cudaStreamEndCapture(stream_, &graph));
    CHECK(cudaGraphInstantiate(&replay, graph, 0));
    cudaEvent_t begin, end;
    CHECK(cudaEventCreate(&begin));
    CHECK(cudaEventCreate(&end));
    std::vector<float> found(18);
    for (float& spent : found) {
      CHECK(cudaEventRecord(begin, stream_));
      CHECK(cudaGraphLaunch(replay, stream_));
      CHECK(cudaEventRecord(end, stream_));
      CHECK(cudaEventSynchronize(end));
      CHECK(cudaEventElapsedTime(&spent, begin, end));
    }
    CHECK(cudaGraphExecDestroy(replay));
    CHECK(cudaGraphDestroy(graph));
    std::sort(found.begin() + 3, found.end());
    return found[10] * 1000;
  }

 private:
  std::string folder_;
  cudaStream_t stream_;
  char* pool_;
  char* buffers_;
  size_t next_ = 0;
  std::map<std::string, cudaLibrary_t> libraries_;
};

// How stream.py cuts a product: log2 of the warps that share columns, and blocks.
std::pair<int, int> work_of(int tiles, int groups) {
  int best = 0;
  double least = 1e30;
  for (int slices = 4; slices >= 2; --slices) {
    const int at_once = (16 >> slices) * processors, share = 1 << slices;
    const double cost = ((tiles + at_once - 1) / at_once) * ((groups + share - 1) / share + 1.0);
    if (cost < least) best = slices;
    least = std::min(least, cost);
  }
  const int of_block = 16 >> best;
  return {best, std::min((tiles + of_block - 1) / of_block, processors)};
}

struct Product {
  int n, k;
  bool norm, residual, gated = false;
  int activation = 0;
};

const void* const none = nullptr;

// Returns the bytes of weights.
double nbits(Gpu& gpu, const Product& p, const char* x, char* y) {
  const int groups = (p.k + 127) / 128, pair = p.gated ? 2 : 1;
  const int tiles = (p.n / pair + 15) / 16 * pair;
  const size_t bytes = size_t(tiles) * groups * unit_bytes;
  const int blocks = std::min(tiles / pair, processors);
  const int of_block = (tiles / pair + blocks - 1) / blocks * pair;
  Arguments a;
  a << x << gpu.take(bytes) << y << (p.norm ? gpu.buffer(3) : nullptr) << 1e-5f << 1 << p.n << p.k
    << nbits_depth << int(p.gated) << 1 << none << (p.residual ? gpu.buffer(4) : nullptr) << 1.0f
    << 0 << 0.0f << 0.0f;
  const int shared =
      (groups * 128 + 32) * 2 + groups * 32 + (of_block + 16) * 64 + 16 * nbits_depth * unit_bytes;
  gpu.launch("stream_nbits", "stream_nbits_4_1_float16", blocks, threads, shared, a);
  return double(bytes);
}

double half(Gpu& gpu, const Product& p, const char* x, char* y) {
  const size_t data = size_t(p.n) * p.k * 2;
  const auto [slices, blocks] = work_of((p.n + 15) / 16, (p.k + 31) / 32);
  const char* norm = p.norm ? gpu.buffer(3) : nullptr;
  Arguments a;
  a << x << gpu.take(data) << y << norm << norm << 1e-5f << 1 << 1 << p.n << p.k << slices
    << half_depth << 1 << gpu.buffer(5) << (p.residual ? gpu.buffer(4) : nullptr) << 1.0f
    << p.activation << 0.0f << 0.0f;
  const int shared = (p.k + 32) * 2 + half_depth * stage_bytes;
  gpu.launch("stream_matmul", "stream_matmul_float16", blocks, threads, shared, a);
  return double(data);
}

struct Heads {
  int queries, keys, size, length;
};

// `struct Attention` of attention.cuh.
struct Attention {
  int64_t strides[15];
  double scale, cap;
  int32_t sizes[14];
};

// `struct CacheRows` of cache_rows.cu.
struct CacheRows {
  int64_t batch, count, length, positions;
  int32_t q_heads, heads, size, half, interleaved, id_items;
};

// A new row of keys and values, and attention to all of them.
void attend(Gpu& gpu, const Heads& h, bool turns, const char* qkv, char* y) {
  const size_t cache = size_t(h.keys) * h.length * h.size * 2;
  char *keys = gpu.take(cache), *values = gpu.take(cache), *turned = gpu.buffer(8);
  const char *k = qkv + h.queries * h.size * 2, *v = k + h.keys * h.size * 2;
  const char *q = turns ? turned : qkv, *angles = turns ? gpu.take(1 << 20) : nullptr;
  const int64_t row = h.length - 2;
  char *position = gpu.buffer(40), *length = position + 8;
  static int64_t told = -1;
  if (told != row) {  // outside of a capture the first time: see main
    const int64_t numbers[2] = {row, row + 1};
    CHECK(cudaMemcpy(position, numbers, sizeof(numbers), cudaMemcpyHostToDevice));
    told = row;
  }
  Arguments rows;
  rows << (turns ? qkv : nullptr) << k << v << angles << angles << position << position << turned
       << keys << values << CacheRows{1,      1,      h.length,   h.length, turns ? h.queries : 0,
                                      h.keys, h.size, h.size / 2, 0,        1};
  const int units = ((turns ? h.queries : 0) + 2 * h.keys) * h.size / 8;
  gpu.launch("cache_rows", "cache_rows_vectors_float16", (units + 127) / 128, 128, 0, rows);
  const int64_t q_row = int64_t(h.queries) * h.size, head = int64_t(h.length) * h.size;
  const Attention a = {
      {q_row, h.size, q_row, h.keys * head, head, h.size, h.keys * head, head, h.size, q_row,
       h.size, q_row, 0, 0, 0},
      0.125,
      0,
      {1, h.queries, h.keys, 1, h.length, 0, h.length, h.size, h.size, -1, -1, 1, 0, 0}};
  const int blocks = h.keys * ((h.queries / h.keys + 15) / 16);
  Arguments args;
  args << q << keys << values << none << length << none << y << a << gpu.buffer(44)
       << gpu.buffer(48) << gpu.buffer(50) << clusters;
  const int shared = 8 * std::max(32 * (h.size + 8) * 2, 16 * (h.size + 2) * 4);
  const char* name = h.size == 64 ? "decode_clusters_float16_64" : "decode_clusters_float16_128";
  gpu.launch("decode_tiles", name, dim3(blocks, clusters), 256, shared, args);
}

void report(const char* name, double bytes, float us) {
  std::printf("%-24s %8.1f us %6.0f MB of weights %6.0f GB/s\n", name, us, bytes / 1e6,
              bytes / us / 1e3);
}

void llama(Gpu& gpu, const char* name, int layers, int inner, int vocabulary, const Heads& h) {
  const int width = h.queries * h.size;
  double bytes = 0;
  const auto step = [&] {
    bytes = 0;
    for (int i = 0; i < layers; ++i) {
      bytes += nbits(gpu, {width + 2 * h.keys * h.size, width, true, false}, gpu.buffer(6),
                     gpu.buffer(7));
      attend(gpu, h, true, gpu.buffer(7), gpu.buffer(9));
      bytes += nbits(gpu, {width, width, false, true}, gpu.buffer(9), gpu.buffer(10));
      bytes += nbits(gpu, {2 * inner, width, true, false, true}, gpu.buffer(10), gpu.buffer(11));
      bytes += nbits(gpu, {width, inner, false, true}, gpu.buffer(11), gpu.buffer(6));
    }
    bytes += nbits(gpu, {vocabulary, width, true, false}, gpu.buffer(6), gpu.buffer(12));
  };
  step();
  CHECK(cudaDeviceSynchronize());
  const float us = gpu.time(step);
  report(name, bytes, us);
}

void gpt2(Gpu& gpu) {
  const Heads h = {12, 12, 64, 1024};
  double bytes = 0;
  const auto step = [&] {
    bytes = 0;
    for (int i = 0; i < 12; ++i) {
      bytes += half(gpu, {2304, 768, true, false}, gpu.buffer(6), gpu.buffer(7));
      attend(gpu, h, false, gpu.buffer(7), gpu.buffer(9));
      bytes += half(gpu, {768, 768, false, true}, gpu.buffer(9), gpu.buffer(10));
      bytes += half(gpu, {3072, 768, true, false, false, 5}, gpu.buffer(10), gpu.buffer(11));
      bytes += half(gpu, {768, 3072, false, true}, gpu.buffer(11), gpu.buffer(6));
    }
    bytes += half(gpu, {50257, 768, true, false}, gpu.buffer(6), gpu.buffer(12));
  };
  step();
  CHECK(cudaDeviceSynchronize());
  const float us = gpu.time(step);
  report("GPT-2 124M float16", bytes, us);
}

}  // namespace

int main(int count, char** words) {
  if (count != 2) {
    std::printf("usage: %s FOLDER, with the kernels as cubins\n", words[0]);
    return 2;
  }
  Gpu gpu(words[1]);
  gpt2(gpu);
  llama(gpu, "Llama 1B 4-bit", 16, 8192, 128256, {32, 8, 64, 2048});
  llama(gpu, "Llama 8B 4-bit", 32, 14336, 128256, {32, 8, 128, 2048});
  return 0;
}
