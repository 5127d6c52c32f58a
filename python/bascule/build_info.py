# SPDX-License-Identifier: Apache-2.0
"""What this installation is, for programs that ask before they start."""

from __future__ import annotations

import platform

import numpy as np

from bascule._version import __version__

package_name = "bascule"
version = __version__
cuda_version = ""


def get_device() -> str:
    """What this installation computes on: ``CPU``."""
    return "CPU"


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
    """Nothing needs to be loaded before the first session of this installation."""


def enable_telemetry_events() -> None:
    """Nothing: bascule sends no telemetry."""


def disable_telemetry_events() -> None:
    """Nothing: bascule sends no telemetry."""
