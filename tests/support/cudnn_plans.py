# SPDX-License-Identifier: Apache-2.0
"""Asks cuDNN for plans for an H200, without a GPU: ``python -m tests.support.cudnn_plans``.

Planning only wants the symbols of libcuda.so.1, which `driver` makes: in this test alone, in a
process of its own. Prints a line for each problem that has no plan.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bascule.ir.dtype import DataType
from bascule.providers.cuda.libraries.cudnn import Cudnn, Layout
from bascule.providers.cuda.windows import Convolution

H200: dict[str, Any] = {
    "deviceName": "NVIDIA H200",
    "deviceVer": 900,
    "driverVer": 13000,
    "cudaDeviceId": 0,
    "totalGlobalMem": 150000000000,
    "multiProcessorCount": 132,
    "smCountOrigin": 0,
    "warpSize": 32,
    "maxGridSize": [2147483647, 65535, 65535],
    "maxBlockSize": [1024, 1024, 64],
    "regsPerBlock": 65536,
    "maxRegistersPerSM": 65536,
    "maxSharedMemoryPerBlock": 49152,
    "maxSharedMemoryPerBlockOptin": 232448,
    "oversizedSharedMemoryPerBlock": 0,
    "reservedSharedMemoryPerBlock": 1024,
    "maxCtasPerSM": 32,
    "maxThreadsPerBlock": 1024,
    "maxThreadsPerSM": 2048,
    "pciDeviceId": 0,
    "isTccDriver": 0,
    "supportCoopLaunch": 1,
    "smClockRateKHz": 1980000,
    "memClockRateKHz": 3201000,
    "memoryBusWidth": 6144,
    "l2CacheSize": 62914560,
}

_HANDLES = [
    "cuModuleLoadData",
    "cuModuleLoadDataEx",
    "cuModuleGetFunction",
    "cuLibraryLoadData",
    "cuLibraryGetKernel",
    "cuKernelGetFunction",
    "cuLibraryGetModule",
]
_NOTHING = [
    "cuTensorMapEncodeTiled",
    "cuTensorMapEncodeIm2col",
    "cuLibraryUnload",
    "cuModuleUnload",
    "cuKernelSetAttribute",
    "cuFuncSetAttribute",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
    "cuLaunchCooperativeKernel",
    "cuTensorMapReplaceAddress",
    "cuCtxGetCurrent",
    "cuCtxGetLimit",
    "cuCtxPopCurrent",
    "cuCtxPushCurrent",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuLibraryLoadFromFile",
    "cuLinkAddData",
    "cuLinkComplete",
    "cuLinkCreate",
    "cuLinkDestroy",
    "cuOccupancyMaxPotentialClusterSize",
    "cuStreamGetCtx",
]
_SOURCE = """
static char place[4096];
int cuInit(unsigned flags) { return 100; }
int cuDriverGetVersion(int* version) { *version = 13000; return 0; }
int cuKernelGetAttribute(int* value) { *value = 0; return 0; }
int cuFuncGetAttribute(int* value) { *value = 0; return 0; }
"""

# Channels in, side, channels out, kernel, stride, padding, groups.
CONVOLUTIONS = {
    "ResNet-50": [
        (3, 224, 64, 7, 2, 3, 1),
        *((c, s, c, 3, 1, 1, 1) for c, s in ((64, 56), (128, 28), (256, 14), (512, 7))),
        *((c, s, c, 3, 2, 1, 1) for c, s in ((128, 56), (256, 28), (512, 14))),
        *((c, s, 4 * c, 1, 1, 0, 1) for c, s in ((64, 56), (128, 28), (256, 14), (512, 7))),
        *((4 * c, s, c, 1, 1, 0, 1) for c, s in ((64, 56), (128, 28), (256, 14), (512, 7))),
        *((c, s, 2 * c, 1, 2, 0, 1) for c, s in ((256, 56), (512, 28), (1024, 14))),
        *((c, s, c // 2, 1, 1, 0, 1) for c, s in ((256, 56), (512, 28), (1024, 14))),
    ],
    "MobileNetV2": [
        (3, 224, 32, 3, 2, 1, 1),
        *((c, s, c, 3, 1, 1, c) for c, s in ((32, 112), (144, 56), (192, 28), (384, 14))),
        *((c, s, c, 3, 1, 1, c) for c, s in ((576, 14), (960, 7))),
        *((c, s, c, 3, 2, 1, c) for c, s in ((96, 112), (144, 56), (192, 28), (576, 14))),
        *((c, 112, k, 1, 1, 0, 1) for c, k in ((32, 16), (16, 96))),
        *((c, 56, k, 1, 1, 0, 1) for c, k in ((96, 24), (24, 144), (144, 24))),
        *((c, 28, k, 1, 1, 0, 1) for c, k in ((144, 32), (32, 192), (192, 32))),
        *((c, 14, k, 1, 1, 0, 1) for c, k in ((192, 64), (64, 384), (384, 96), (96, 576))),
        *((c, 7, k, 1, 1, 0, 1) for c, k in ((576, 160), (160, 960), (960, 320), (320, 1280))),
    ],
    "ConvNeXt-T": [
        (3, 224, 96, 4, 4, 0, 1),
        *((c, s, c, 7, 1, 3, c) for c, s in ((96, 56), (192, 28), (384, 14), (768, 7))),
        *((c, s, 2 * c, 2, 2, 0, 1) for c, s in ((96, 56), (192, 28), (384, 14))),
    ],
    "ViT-B/16": [(3, 224, 768, 16, 16, 0, 1)],
}

# Batch, heads, length, and what is masked.
ATTENTION = {
    "BERT": (1, 12, 128, "padding"),
    "BERT-32": (32, 12, 128, "padding"),
    "ViT-B/16": (1, 12, 197, ""),
    "GPT-2": (1, 12, 1024, "causal"),
}


def driver(folder: Path) -> None:
    """Compile the stand-in for libcuda.so.1."""
    handles = "".join(f"int {name}(void** p) {{ *p = place; return 0; }}\n" for name in _HANDLES)
    nothing = "".join(f"int {name}(void) {{ return 0; }}\n" for name in _NOTHING)
    (folder / "libcuda.c").write_text(_SOURCE + handles + nothing)
    target = str(folder / "libcuda.so.1")
    flags = ["-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1"]
    subprocess.run(["gcc", *flags, "-o", target, str(folder / "libcuda.c")], check=True)


def missing() -> str:
    """What there is not of what planning needs."""
    needed = {
        "nvidia-cudnn-frontend": importlib.util.find_spec("cudnn") is not None,
        "nvidia-cudnn-cu13": any(list(each.glob("libcudnn.so*")) for each in _wheels()),
        "nvidia-cublas": any(list(each.glob("libcublasLt.so*")) for each in _wheels()),
        "gcc": shutil.which("gcc") is not None,
    }
    return ", ".join(name for name, is_there in needed.items() if not is_there)


def _wheels() -> list[Path]:
    return [lib for path in sys.path for lib in Path(path).glob("nvidia/*/lib")]


def environment(folder: Path) -> dict[str, str]:
    """Where the process that plans finds its libraries: those of wheels, and the stand-in."""
    paths = os.pathsep.join(map(str, [folder, *_wheels()]))
    return {**os.environ, "LD_LIBRARY_PATH": paths, "PYTHONPATH": os.pathsep.join(sys.path)}


def convolutions() -> Iterator[tuple[str, Convolution]]:
    for model, problems in CONVOLUTIONS.items():
        for problem in problems:
            c, side, k, kernel, stride, pad, groups = problem
            out = (side + 2 * pad - kernel) // stride + 1
            yield (
                f"{model} {problem}",
                Convolution(
                    transposed=False,
                    channels_last=True,
                    rank=4,
                    batch=1,
                    groups=groups,
                    in_channels=c,
                    out_channels=k,
                    in_=(1, side, side),
                    out=(1, out, out),
                    kernel=(1, kernel, kernel),
                    stride=(1, stride, stride),
                    dilation=(1, 1, 1),
                    pad=(0, pad, pad),
                ),
            )


def attention(cudnn: Cudnn, batch: int, heads: int, length: int, masked: str) -> Any:
    size = 64
    strides = (length * heads * size, size, heads * size, 1)
    layout = Layout((batch, heads, length, size), strides)
    bias = Layout((batch, 1, 1, length), (length, length, length, 1))
    return cudnn.attention_plan(
        DataType.FLOAT16,
        *(layout,) * 4,
        scale=0.125,
        causal=masked == "causal",
        bias=bias if masked == "padding" else None,
    )


def main() -> None:
    count = 0
    for tf32 in (True, False):
        cudnn = Cudnn(0, tf32, described=json.dumps(H200))
        for name, sizes in convolutions():
            for dtype in (DataType.FLOAT16, DataType.FLOAT):
                for residual in (False, True):
                    count += 1
                    if cudnn.convolution(sizes, dtype, True, residual, True) is None:
                        print(f"no plan for {name} {dtype.name} residual {residual} tf32 {tf32}")
    for name, problem in ATTENTION.items():
        count += 1
        if attention(cudnn, *problem) is None:
            print(f"no plan for the attention of {name}")
    print(f"asked for {count} plans")


if __name__ == "__main__":
    main()
