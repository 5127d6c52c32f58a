# SPDX-License-Identifier: Apache-2.0
"""Which of several ways is fastest, on a device whose times are made up."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bascule.providers.cuda.tuning import copies, fastest
from tests.support.cuda_emulation import EmulatedDevice

pytestmark = pytest.mark.host


class TimedDevice(EmulatedDevice):
    """Work takes as long as it adds to `seconds`."""

    def __init__(self) -> None:
        super().__init__()
        self.tunes = True
        self.seconds = 0.0
        self.measured = 0

    def measure(self, work: Sequence[Callable[[], None]]) -> float:
        self.measured += 1
        self.seconds = 0.0
        for each in work:
            each()
        return self.seconds


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASCULE_CACHE_DIR", str(tmp_path))


def choose(device: TimedDevice, seconds: Sequence[float | None], key: str = "key") -> int:
    def start(choice: int) -> Callable[[int], None]:
        def run(turn: int) -> None:
            taken = seconds[choice]
            if taken is None:
                raise ValueError("does not work")
            device.seconds += taken

        return run

    return fastest(device, key, len(seconds), start)


def test_the_fastest_is_taken() -> None:
    assert choose(TimedDevice(), [3.0, 1.0, 2.0]) == 1


def test_an_earlier_one_stays_where_there_is_little_to_gain() -> None:
    assert choose(TimedDevice(), [1.0, 0.99]) == 0


def test_what_does_not_work_is_no_choice() -> None:
    assert choose(TimedDevice(), [None, 3.0, None, 2.0]) == 3
    assert choose(TimedDevice(), [None, None], "none") == 0


def test_it_is_measured_once() -> None:
    device = TimedDevice()
    assert choose(device, [2.0, 1.0]) == choose(device, [2.0, 1.0]) == 1
    assert device.measured == 2
    assert choose(device, [1.0, 2.0], "another key") == 0


def test_there_is_an_end_to_measuring() -> None:
    device = TimedDevice()
    assert choose(device, [2.0, 1.0], "known") == 1
    device.tuning_seconds = 0.0
    assert choose(device, [2.0, 1.0], "new") == 0 and device.measured == 2
    assert choose(device, [2.0, 1.0], "known") == 1
    assert choose(TimedDevice(), [2.0, 1.0], "new") == 1  # another session has time


def test_no_choice_is_not_measured() -> None:
    device = TimedDevice()
    assert choose(device, [1.0]) == 0 and device.measured == 0
    assert fastest(EmulatedDevice(), "key", 3, lambda choice: lambda turn: None) == 0


def test_copies_hold_the_same() -> None:
    device = EmulatedDevice()
    address, _owner = device.allocate(1000)
    device.fill(address, 7, 1000)
    addresses, _kept = copies(device, address, 1000)
    assert len(set(addresses)) == len(addresses) > 1 and addresses[0] == address
    assert not any(each % 256 for each in addresses)
    assert all(ctypes.string_at(each, 1000) == b"\7" * 1000 for each in addresses)
