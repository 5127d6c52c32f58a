// SPDX-License-Identifier: Apache-2.0
// Holds a process to AVX2, whatever its libraries ask the processor: loaded before them
// (LD_PRELOAD), it makes `cpuid` fault (Linux arch_prctl(2), ARCH_SET_CPUID, on processors with
// cpuid_fault) and answers without AVX-512, AMX and AVX-VNNI. bench/run.py --isa avx2 builds it.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { set_cpuid = 0x1012 };

static struct sigaction before;

static long allow_cpuid(unsigned long yes) { return syscall(SYS_arch_prctl, set_cpuid, yes); }

static void answer(uint32_t leaf, uint32_t part, uint32_t r[4]) {
  allow_cpuid(1);
  __asm__ volatile("cpuid"
                   : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                   : "a"(leaf), "c"(part));
  allow_cpuid(0);
  if (leaf == 7 && part == 0) {
    r[1] &= ~(1u << 16 | 1u << 17 | 1u << 21 | 3u << 26 | 1u << 28 | 3u << 30);  // AVX-512
    r[2] &= ~(1u << 1 | 1u << 6 | 3u << 11 | 1u << 14);
    r[3] &= ~(3u << 2 | 1u << 8 | 0xfu << 22);  // and AMX
  } else if (leaf == 7 && part == 1) {
    r[0] &= ~(3u << 4 | 1u << 21 | 1u << 23);
    r[3] &= ~(3u << 4 | 1u << 10 | 1u << 19);
  } else if (leaf == 0xd && part == 0) {
    r[0] &= ~(7u << 5 | 3u << 17);  // registers that the system would save
  } else if (leaf == 0x1d || leaf == 0x1e) {
    memset(r, 0, 4 * sizeof(uint32_t));
  }
}

static void on_fault(int number, siginfo_t* info, void* context) {
  greg_t* g = ((ucontext_t*)context)->uc_mcontext.gregs;
  const uint8_t* at = (const uint8_t*)g[REG_RIP];
  if (info->si_code == SI_KERNEL && at[0] == 0x0f && at[1] == 0xa2) {
    uint32_t r[4];
    answer((uint32_t)g[REG_RAX], (uint32_t)g[REG_RCX], r);
    g[REG_RAX] = r[0];
    g[REG_RBX] = r[1];
    g[REG_RCX] = r[2];
    g[REG_RDX] = r[3];
    g[REG_RIP] += 2;
    return;
  }
  sigaction(number, &before, NULL);  // not ours: it happens again, for whoever was there before
}

__attribute__((constructor)) static void hold(void) {
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  if (sigaction(SIGSEGV, &action, &before) != 0 || allow_cpuid(0) != 0) {
    fprintf(stderr, "only_avx2: this processor or system does not let cpuid fault\n");
    _exit(1);
  }
}
