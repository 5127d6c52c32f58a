// SPDX-License-Identifier: Apache-2.0
// Runs the threads of a grid on one host thread, a block at a time.
//
// A fiber runs thread after thread; one that has to wait, at a barrier or for its warp, keeps the
// fiber, and another fiber goes on. So a kernel without barriers costs a plain call per thread.
//
// What only a GPU would show is brought about: threads and blocks run in an order that is nobody's,
// so that a barrier is missed where one is missing; memory that a block shares is NaN at first, and
// has no better alignment than its type asks for.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numeric>
#include <tuple>
#include <type_traits>
#include <vector>
#if !defined(__x86_64__) || defined(BASCULE_UCONTEXT)
#define BASCULE_UCONTEXT 1
#include <ucontext.h>
#endif

namespace bascule_emulator {

// Stacks lie one above the other behind one guard: a process that runs all kernels would have more
// mappings than Linux allows, if each had its own. A word at the end of each shows what overran it.
constexpr size_t stack_bytes = 256 * 1024, guard_bytes = 64 * 1024, stacks_together = 64;
constexpr uint64_t stack_end = 0x5afe57ac6e4d0fffull;

struct Fiber;

struct Thread {
  uint3 index;
  Fiber* fiber;
  // What it brings to an exchange between lanes, and what it takes from it.
  unsigned mask, votes;
  bool predicate;
  int source;
  uint64_t value, received;
};

struct Warp {
  unsigned alive, arrived;
};

struct Exchanged {
  unsigned votes;
  uint64_t received;
};

static uint3 block_index;
static dim3 block_size, grid_size;
static unsigned char* shared_memory;  // dynamic
static size_t shared_bytes;

static std::vector<Thread> threads;  // of the block
static std::vector<Warp> warps;
static Thread* current;          // runs now
static unsigned started, alive;  // threads of this block
static std::vector<Thread*> at_barrier, ready;
static size_t ready_first;  // `ready` is a queue from here on
static int votes_at_barrier, votes_of_barrier;
static void (*run_thread)(const void*);
static const void* run_argument;
static const char* failure;
static char failure_text[256];

inline unsigned char* dynamic_shared() { return shared_memory; }

// Numbers below `count`, each once, with 0 in the middle.
struct Order {
  size_t count = 1, step = 1;

  explicit Order(size_t count) : count(count), step(count * 5 / 8) {
    while (std::gcd(step, count) != 1) ++step;
  }
  size_t operator[](size_t position) const {
    return (position + count - count / 2) % count * step % count;
  }
};
static Order order_of_threads{1};

// --- memory that a block shares

struct Bytes {
  void* begin;
  size_t count;
};
static std::vector<Bytes> shared_arrays;  // those with a name, that were seen so far
static unsigned launch_number;
static size_t named_bytes;  // of those that this launch has come to

inline void forget(Bytes bytes) { memset(bytes.begin, 0xff, bytes.count); }

template <typename T>
class Shared {
 public:
  Shared() {
    void* memory = nullptr;  // of the heap, so that AddressSanitizer sees where it ends
    if (posix_memalign(&memory, 128, alignof(T) + sizeof(T)) != 0) abort();
    shared_arrays.push_back({memory, alignof(T) + sizeof(T)});
    forget(shared_arrays.back());
    // An odd multiple of the alignment, so that it is no better one.
    value_ = reinterpret_cast<T*>(static_cast<unsigned char*>(memory) + alignof(T));
  }
  T& value() {
    if (launch_ != launch_number) named_bytes += (sizeof(T) + 15) / 16 * 16;
    launch_ = launch_number;
    return *value_;
  }

 private:
  T* value_;
  unsigned launch_ = 0;
};

// --- fibers

struct Fiber {
#if !defined(BASCULE_UCONTEXT)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
};

static Fiber main_fiber;
static Fiber* running = &main_fiber;
static std::vector<Fiber*> idle;

#if !defined(BASCULE_UCONTEXT)
// Saves the registers that a call preserves and the stack pointer in *from, and takes over `to`.
extern "C" void bascule_switch(void** from, void* to) __attribute__((visibility("hidden")));
asm(R"(
.text
.hidden bascule_switch
.type bascule_switch, @function
bascule_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size bascule_switch, .-bascule_switch
)");
#endif

inline void switch_to(Fiber* next) {
  Fiber* const previous = running;
  running = next;
#if !defined(BASCULE_UCONTEXT)
  bascule_switch(&previous->stack_pointer, next->stack_pointer);
#else
  swapcontext(&previous->context, &next->context);
#endif
}

inline void fiber_main();

static std::vector<unsigned char*> stacks, unused_stacks;

inline unsigned char* take_stack() {
  if (unused_stacks.empty()) {
    constexpr size_t bytes = guard_bytes + stacks_together * stack_bytes;
    auto* base = static_cast<unsigned char*>(
        mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (base == MAP_FAILED ||
        mprotect(base + guard_bytes, bytes - guard_bytes, PROT_READ | PROT_WRITE) != 0) {
      abort();
    }
    for (size_t i = 0; i < stacks_together; ++i) {
      unused_stacks.push_back(base + guard_bytes + i * stack_bytes);
    }
  }
  unsigned char* const stack = unused_stacks.back();
  unused_stacks.pop_back();
  memcpy(stack, &stack_end, sizeof(stack_end));
  stacks.push_back(stack);
  return stack;
}

inline bool stacks_are_whole() {
  for (const unsigned char* stack : stacks) {
    if (memcmp(stack, &stack_end, sizeof(stack_end)) != 0) return false;
  }
  return true;
}

inline Fiber* make_fiber() {
  unsigned char* const stack = take_stack();
  auto* fiber = new Fiber;
#if !defined(BASCULE_UCONTEXT)
  auto* top = reinterpret_cast<void**>(stack + stack_bytes) - 8;
  memset(top, 0, 8 * sizeof(void*));
  top[6] = reinterpret_cast<void*>(&fiber_main);  // where bascule_switch returns to
  fiber->stack_pointer = top;
#else
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = stack;
  fiber->context.uc_stack.ss_size = stack_bytes;
  makecontext(&fiber->context, reinterpret_cast<void (*)()>(&fiber_main), 0);
#endif
  return fiber;
}

// --- scheduling

// The run ends with this error; fibers that wait are dropped as they are.
inline void fail(const char* message) {
  failure = message;
  switch_to(&main_fiber);
}

// Another fiber that can go on. At the end of the block that is the main one.
inline Fiber* next_fiber() {
  if (ready_first < ready.size()) {
    current = ready[ready_first++];
    if (ready_first == ready.size()) {
      ready.clear();
      ready_first = 0;
    }
    return current->fiber;
  }
  if (started < threads.size()) {
    if (idle.empty()) return make_fiber();
    Fiber* const fiber = idle.back();
    idle.pop_back();
    return fiber;
  }
  if (alive > 0) failure = "deadlock: threads wait for others that never come";
  return &main_fiber;
}

// Give way until the thread is ready again.
inline void wait() {
  Thread* const self = current;
  self->fiber = running;
  Fiber* const next = next_fiber();
  if (next != running) switch_to(next);
  current = self;
}

inline void release_barrier() {
  votes_of_barrier = votes_at_barrier;
  votes_at_barrier = 0;
  for (Thread* thread : at_barrier) ready.push_back(thread);
  at_barrier.clear();
}

// How many threads came with `vote`. Threads that have ended count as arrived.
inline int block_barrier(int vote) {
  votes_at_barrier += vote;
  if (at_barrier.size() + 1 == alive) {
    release_barrier();
  } else {
    at_barrier.push_back(current);
    wait();
  }
  return votes_of_barrier;
}

inline int lane() { return static_cast<int>((current - threads.data()) % 32); }
inline Warp& warp_of(const Thread* thread) { return warps[(thread - threads.data()) / 32]; }
inline unsigned active_lanes() { return warp_of(current).alive; }

// When all lanes of `mask` have come: hand out the values. True when it did.
inline bool complete(Warp& warp, unsigned mask) {
  const unsigned group = mask & warp.alive;
  if (group == 0 || (group & ~warp.arrived) != 0) return false;
  Thread* const first = threads.data() + (&warp - warps.data()) * 32;
  unsigned votes = 0;
  for (unsigned left = group; left != 0; left &= left - 1) {
    const int each = __builtin_ctz(left);
    votes |= static_cast<unsigned>(first[each].predicate) << each;
  }
  for (unsigned left = group; left != 0; left &= left - 1) {
    Thread& thread = first[__builtin_ctz(left)];
    // What a lane that takes no part sends is undefined: NaN, so that it shows.
    const bool defined = (group >> thread.source) & 1;
    thread.received = defined ? first[thread.source].value : ~uint64_t{0};
    thread.votes = votes;
    if (&thread != current) ready.push_back(&thread);
  }
  warp.arrived &= ~group;
  return true;
}

// Meet the lanes of `mask`: their predicates, and the value that lane `source` brought.
inline Exchanged exchange(unsigned mask, bool predicate, uint64_t value, int source) {
  Thread* const self = current;
  Warp& warp = warp_of(self);
  if (((mask >> lane()) & 1) == 0) fail("a thread is not in the mask that it names");
  self->mask = mask;
  self->predicate = predicate;
  self->value = value;
  self->source = source;
  warp.arrived |= 1u << lane();
  if (!complete(warp, mask)) wait();
  return {self->votes, self->received};
}

// A thread has ended: others may have waited for it alone.
inline void leave() {
  Warp& warp = warp_of(current);
  warp.alive &= ~(1u << lane());
  current = nullptr;
  --alive;
  Thread* const first = threads.data() + (&warp - warps.data()) * 32;
  for (unsigned left = warp.arrived; left != 0; left &= left - 1) {
    const int each = __builtin_ctz(left);
    if ((warp.arrived >> each) & 1) complete(warp, first[each].mask);
  }
  if (alive > 0 && at_barrier.size() == alive) release_barrier();
}

inline void fiber_main() {
  for (;;) {
    while (started < threads.size()) {
      current = &threads[order_of_threads[started++]];
      run_thread(run_argument);
      leave();
    }
    idle.push_back(running);
    switch_to(next_fiber());  // back here for threads of another block
  }
}

inline void prepare_block() {
  for (const Bytes& bytes : shared_arrays) forget(bytes);
  forget({shared_memory, shared_bytes});
  started = 0;
  alive = static_cast<unsigned>(threads.size());
  votes_at_barrier = 0;
  for (size_t w = 0; w < warps.size(); ++w) {
    const size_t lanes = threads.size() - 32 * w;
    warps[w] = {lanes >= 32 ? 0xffffffffu : (1u << lanes) - 1, 0};
  }
}

inline void prepare_threads() {
  threads.assign(size_t{block_size.x} * block_size.y * block_size.z, Thread{});
  order_of_threads = Order(threads.size());
  warps.assign((threads.size() + 31) / 32, Warp{});
  Thread* thread = threads.data();
  for (unsigned z = 0; z < block_size.z; ++z) {
    for (unsigned y = 0; y < block_size.y; ++y) {
      for (unsigned x = 0; x < block_size.x; ++x) (thread++)->index = {x, y, z};
    }
  }
}

// Why the grid could not run to its end, or null.
inline const char* run_grid(const unsigned* sizes, void (*run)(const void*), const void* argument) {
  grid_size = {sizes[0], sizes[1], sizes[2]};
  block_size = {sizes[3], sizes[4], sizes[5]};
  shared_bytes = sizes[6];
  named_bytes = 0;
  ++launch_number;
  failure = nullptr;
  run_thread = run;
  run_argument = argument;
  prepare_threads();
  void* memory = nullptr;
  if (posix_memalign(&memory, 128, shared_bytes) != 0) return "no memory for shared memory";
  shared_memory = static_cast<unsigned char*>(memory);
  const size_t blocks = size_t{grid_size.x} * grid_size.y * grid_size.z;
  const Order order(blocks > 0 ? blocks : 1);
  for (size_t i = 0; i < blocks && failure == nullptr; ++i) {
    const size_t block = order[i];
    block_index.x = static_cast<unsigned>(block % grid_size.x);
    block_index.y = static_cast<unsigned>(block / grid_size.x % grid_size.y);
    block_index.z = static_cast<unsigned>(block / grid_size.x / grid_size.y);
    prepare_block();
    switch_to(next_fiber());
  }
  if (failure == nullptr && named_bytes + shared_bytes > sizes[7]) {
    snprintf(failure_text, sizeof(failure_text),
             "%zu bytes of shared memory and %zu dynamic ones are more than %u", named_bytes,
             shared_bytes, sizes[7]);
    failure = failure_text;
  }
  if (!stacks_are_whole()) abort();  // what lies behind is not to be trusted either
  if (failure != nullptr) {          // fibers in the middle of something are never used again
    at_barrier.clear();
    ready.clear();
    ready_first = 0;
  }
  free(memory);
  return failure;
}

// --- calling a kernel with packed arguments

template <typename... A>
struct Launch {
  void (*kernel)(A...);
  std::tuple<std::remove_cv_t<A>...> arguments;

  static void run(const void* self) {
    const auto* launch = static_cast<const Launch*>(self);
    std::apply(launch->kernel, launch->arguments);
  }
};

// A letter for each parameter's kind, and its size.
template <typename T>
inline void describe(char** text) {
  constexpr bool half = std::is_same<T, __half>::value || std::is_same<T, __nv_bfloat16>::value;
  const char kind = std::is_pointer<T>::value                  ? 'p'
                    : std::is_floating_point<T>::value || half ? 'f'
                    : std::is_same<T, bool>::value             ? 'b'
                    : std::is_signed<T>::value                 ? 'i'
                    : std::is_integral<T>::value               ? 'u'
                                                               : 's';
  *text += snprintf(*text, 16, "%c%zu ", kind, sizeof(T));
}

template <typename... A>
inline void signature(void (*)(A...), char* text) {
  *text = 0;
  (describe<std::remove_cv_t<A>>(&text), ...);
}

// `packed` holds the arguments one after the other, without gaps.
template <typename... A>
inline const char* launch(void (*kernel)(A...), const char* packed, const unsigned* sizes) {
  Launch<A...> launch{kernel, {}};
  std::apply(
      [&](auto&... each) {
        ((memcpy(static_cast<void*>(&each), packed, sizeof(each)), packed += sizeof(each)), ...);
      },
      launch.arguments);
  return run_grid(sizes, &Launch<A...>::run, &launch);
}

}  // namespace bascule_emulator

// --- what -fsanitize=alignment calls

struct bascule_mismatch {
  struct {
    const char* file;
    uint32_t line, column;
  } location;
  const struct {
    uint16_t kind, info;
    char name[1];
  }* type;
  unsigned char log2_of_alignment, access;
};
extern "C" void __ubsan_handle_type_mismatch_v1(bascule_mismatch* what, uintptr_t address) {
  snprintf(bascule_emulator::failure_text, sizeof(bascule_emulator::failure_text),
           "line %u: the address %p of %s is no multiple of %d", what->location.line,
           reinterpret_cast<void*>(address), what->type->name, 1 << what->log2_of_alignment);
  bascule_emulator::fail(bascule_emulator::failure_text);
}

#define BASCULE_EXPORT extern "C" __attribute__((visibility("default")))
#define BASCULE_ENTRY(name)                                                                       \
  BASCULE_EXPORT void name##__signature(char* text) { bascule_emulator::signature(&name, text); } \
  BASCULE_EXPORT const char* name##__launch(const char* packed, const unsigned* sizes) {          \
    return bascule_emulator::launch(&name, packed, sizes);                                        \
  }
