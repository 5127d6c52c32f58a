# SPDX-License-Identifier: Apache-2.0
"""What was found on this machine, what is missing, and what mends it."""

from __future__ import annotations

from collections.abc import Collection

from bascule.tools.doctor import cpu, cuda, installation, trial
from bascule.tools.doctor.finding import Finding

PROVIDERS = ("cpu", "cuda")


def examine(asked: Collection[str] = ("cpu",), measure: bool = False) -> list[Finding]:
    """Everything that `bascule doctor` shows.

    Args:
        asked: the providers that must work, of PROVIDERS; the CPU is always one.
        measure: whether to measure what the CPU and its memory do at most, for a few seconds.
    """
    needs_cuda = "cuda" in asked
    of_cuda = cuda.examine(needs_cuda)
    found = [*installation.bascule(), *cpu.examine(), trial.on_cpu(), *installation.packages()]
    found += of_cuda
    if needs_cuda and all(each.is_well for each in of_cuda):
        found.append(trial.on_cuda())
    found += installation.caches()
    if measure:
        found += cpu.measure()
    return found
