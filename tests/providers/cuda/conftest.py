# SPDX-License-Identifier: Apache-2.0
"""Whatever takes a device can run on a GPU, which `pytest -m gpu` asks for."""

from __future__ import annotations

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.get_closest_marker("host") is None:
        item.add_marker(pytest.mark.gpu)
