// SPDX-License-Identifier: Apache-2.0
#include "simd/tiles.h"

#include <new>

#include "simd/isa.h"

#if defined(__linux__) && defined(__x86_64__) && BASCULE_WITH_AVX512_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace bascule {

namespace {

// Whether there are tiles with these features of CPUID.7.0:EDX, which may be used.
bool has_tiles([[maybe_unused]] unsigned features) {
#if defined(__linux__) && defined(__x86_64__) && BASCULE_WITH_AVX512_AMX
  if (active_isa() < Isa::avx512_vnni || active_isa() != detected_isa()) return false;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & features) != features) return false;
  // Linux gives the registers to a process that asks for them: arch_prctl(ARCH_REQ_XCOMP_PERM,
  // XFEATURE_XTILEDATA).
  constexpr long request = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
  return false;
#endif
}

constexpr unsigned of_bfloat16 = 1u << 22, of_tiles = 1u << 24, of_bytes = 1u << 25;

}  // namespace

bool has_bfloat16_tiles() {
  static const bool has = has_tiles(of_tiles | of_bfloat16);
  return has;
}

bool has_byte_tiles() {
  static const bool has = has_tiles(of_tiles | of_bytes);
  return has;
}

namespace {

struct Space {
  static constexpr std::align_val_t alignment{64};
  void* data = nullptr;
  size_t bytes = 0;

  Space() = default;
  Space(const Space&) = delete;
  Space& operator=(const Space&) = delete;
  ~Space() { ::operator delete(data, alignment); }
  void grow(size_t wanted) {
    ::operator delete(data, alignment);
    data = nullptr;
    bytes = 0;
    data = ::operator new(wanted, alignment);
    bytes = wanted;
  }
};

}  // namespace

void* tile_space(size_t bytes) {
  thread_local Space space;
  if (space.bytes < bytes) space.grow(bytes);
  return space.data;
}

}  // namespace bascule
