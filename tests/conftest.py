# SPDX-License-Identifier: Apache-2.0
"""One profile for all properties: the same few examples on every machine and in every run.

`pytest --hypothesis-profile=deep` looks for new ones.
"""

from __future__ import annotations

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


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("hypothesis_profile", None) is None:
        settings.load_profile("bascule")
