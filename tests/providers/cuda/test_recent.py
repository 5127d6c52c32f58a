# SPDX-License-Identifier: Apache-2.0
"""A store that keeps what was used last."""

import pytest

from bascule.providers.cuda.recent import Recent

pytestmark = pytest.mark.host


def test_what_was_not_asked_for_longest_goes() -> None:
    kept: Recent[int] = Recent(2)
    kept["a"], kept["b"] = 1, 2
    assert kept["a"] == 1
    kept["c"] = 3
    assert "b" not in kept and len(kept) == 2
    assert kept.get("b", lambda: 4) == 4
    assert "a" not in kept and kept.get("c", lambda: 5) == 3


def test_what_cannot_be_made_is_not_kept() -> None:
    kept: Recent[int] = Recent(2)
    with pytest.raises(ZeroDivisionError):
        kept.get("a", lambda: 1 // 0)
    assert "a" not in kept


def test_nothing_is_a_value() -> None:
    kept: Recent[None] = Recent(2)
    kept["a"] = None
    assert kept.get("a", lambda: pytest.fail("it is there")) is None
