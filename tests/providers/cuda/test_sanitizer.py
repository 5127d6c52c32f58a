# SPDX-License-Identifier: Apache-2.0
"""AddressSanitizer sees where an emulated kernel leaves its memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.cuda_emulator import build

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(
        bool(build.missing() or build.sanitizer_missing()),
        reason=build.missing() or build.sanitizer_missing(),
    ),
]

PROGRAM = """
import sys
import numpy as np
from tests.support.cuda_emulation import blank_call

source = '''#include "common.cuh"
extern "C" __global__ void test(float* out, int n) {
  __shared__ float fixed[4];
  DYNAMIC_SHARED(bytes);
  float* dynamic = reinterpret_cast<float*>(bytes);
  if (threadIdx.x < n) {
    fixed[threadIdx.x % 4] = 1;
    dynamic[threadIdx.x] = 2;
  }
  __syncthreads();
  ''' + sys.argv[1] + '''
}'''
call = blank_call()
out = call.upload(np.zeros(5, np.float32))
call.launch_generated(source, "test", 1, 32, out, np.int32(5), shared=20)
print("done")
"""


@pytest.mark.parametrize(
    "statement,finding",
    [
        ("if (threadIdx.x < n) out[threadIdx.x] = dynamic[4 - threadIdx.x];", ""),
        ("if (threadIdx.x <= n) out[threadIdx.x] = 1;", "heap-buffer-overflow"),
        ("if (threadIdx.x == 0) out[0] = dynamic[-1];", "heap-buffer-overflow"),
        ("if (threadIdx.x == 0) out[0] = fixed[n - 1];", "heap-buffer-overflow"),
    ],
)
def test_an_access_out_of_bounds_is_found(statement: str, finding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, statement],
        env={**os.environ, **build.sanitizer_environment()},
        capture_output=True,
        text=True,
    )
    assert (finding or "done") in done.stdout + done.stderr, done.stderr
    assert (done.returncode == 0) == (finding == ""), done.stderr
