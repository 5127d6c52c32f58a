# SPDX-License-Identifier: Apache-2.0
"""What is set for all tests.

One profile for all properties: the same few examples on every machine and in every run.
`pytest --hypothesis-profile=deep` looks for new ones.

`pytest -m gpu` runs the tests of the CUDA provider on a GPU; without it they run on the emulated
device.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

_COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("bascule", max_examples=40, derandomize=True, **_COMMON)
settings.register_profile("deep", max_examples=300, print_blob=True, **_COMMON)


# Hypothesis takes numbers also from the source of whichever local modules are loaded by then: other
# ones when other tests ran before, and in an installed package none.
assert callable(providers._get_local_constants)  # else they are taken in some other way
providers._get_local_constants = lambda: providers.Constants()


_STARTS: dict[str, Any] = {}
"""States of the modules' generators before any of their tests ran."""


@pytest.fixture(autouse=True)
def _numbers_of_its_own(request: pytest.FixtureRequest) -> None:
    """Start a module's random generators anew: no test's numbers depend on those before it."""
    for name, value in vars(request.module).items() if request.module is not None else ():
        if isinstance(value, np.random.Generator):
            key = f"{request.module.__name__}.{name}"
            value.bit_generator.state = _STARTS.setdefault(key, value.bit_generator.state)


_OF_GPU = Path(__file__).parent / "providers" / "cuda"


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("hypothesis_profile", None) is None:
        settings.load_profile("bascule")
    if _asks_for_gpu(config):
        from tests.support import cuda_emulation

        cuda_emulation.use_gpu()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where a GPU is asked for, other tests' packages need not be installed."""
    if not _asks_for_gpu(config):
        return None
    is_near = collection_path == _OF_GPU or _OF_GPU in collection_path.parents
    return None if is_near or collection_path in _OF_GPU.parents else True


def _asks_for_gpu(config: pytest.Config) -> bool:
    markers = config.getoption("markexpr") or ""
    return bool(re.search(r"(?<!not )\bgpu\b", markers))
