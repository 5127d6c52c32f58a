# SPDX-License-Identifier: Apache-2.0
"""A run again on the same memory: nothing but the launch of a graph."""

from __future__ import annotations

import threading
from typing import Any

from bascule.providers.cuda.device import Device
from bascule.providers.cuda.plan import Recording
from bascule.providers.cuda.steps import stop_if_asked


class Replay:
    """Does what an earlier run did, as long as its inputs and outputs are where they were."""

    __slots__ = ("_device", "_lock", "_recording")

    def __init__(self, device: Device, lock: threading.Lock, recording: Recording) -> None:
        self._device = device
        self._lock = lock
        self._recording = recording

    def start(self, terminate: Any = None, waits: bool = True) -> bool:
        """Run, and wait for the end if `waits`; False if the graph is not kept any more."""
        device = self._device
        with device.selected(), self._lock:
            graph = self._recording.graph
            if graph is None:
                return False
            stop_if_asked(terminate)
            device.start(graph)
        if waits:
            device.synchronize()
        return True
