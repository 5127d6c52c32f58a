# SPDX-License-Identifier: Apache-2.0
"""What this installation is, for programs that ask before they start."""

from __future__ import annotations

import platform

import numpy as np

from bascule._version import __version__
from bascule.providers.names import CUDA, available_providers

package_name = "bascule"
"""The name of the package."""
version = __version__
"""The version of bascule."""
cuda_version = ""
"""Empty: the CUDA that is used is that of the packages which are installed."""


def get_device() -> str:
    """What is computed on: ``GPU`` where the CUDA provider is available, else ``CPU``."""
    return "GPU" if CUDA in available_providers() else "CPU"


def get_version_string() -> str:
    """The version of bascule."""
    return __version__


def get_build_info() -> str:
    """One line about the build and the system."""
    return (
        f"bascule Build Info: version={__version__}, machine={platform.machine()}, "
        f"python={platform.python_version()}, numpy={np.__version__}"
    )


def print_debug_info() -> None:
    """Print what a bug report should hold."""
    print(get_build_info())
    print(f"system: {platform.platform()}")


def has_collective_ops() -> bool:
    """False: a model runs in one process."""
    return False


def preload_dlls(
    cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: str | None = None
) -> None:
    """Nothing needs to be loaded in advance: the CUDA provider finds its libraries itself.

    Args:
        cuda: accepted.
        cudnn: accepted.
        msvc: accepted.
        directory: accepted.
    """


def enable_telemetry_events() -> None:
    """Nothing: bascule sends no telemetry."""


def disable_telemetry_events() -> None:
    """Nothing: bascule sends no telemetry."""
