# SPDX-License-Identifier: Apache-2.0
"""Whether a provider runs a model: the bundled digit classifier on its samples."""

from __future__ import annotations

import numpy as np

from bascule.providers.names import CPU, CUDA
from bascule.session import InferenceSession
from bascule.tools.doctor.finding import Finding


def on_cpu() -> Finding:
    """A run on the CPU."""
    return _trial("cpu", [CPU])


def on_cuda() -> Finding:
    """A run on the first GPU."""
    return _trial("cuda", [CUDA, CPU])


def _trial(area: str, providers: list[str]) -> Finding:
    from bascule.examples import digits

    model, samples, labels = digits()
    try:
        session = InferenceSession(model, providers=providers, enable_fallback=0)
        (scores,) = session.run(None, {session.get_inputs()[0].name: samples})
    except Exception as error:  # whatever it is, it is what the user has to know
        return Finding(area, "runs a model", f"{type(error).__name__}: {error}", "wrong", True)
    right = int(np.sum(np.argmax(scores, axis=1) == labels))
    state = "ok" if right == len(labels) else "wrong"
    return Finding(area, "runs a model", f"{right} of {len(labels)} digits right", state, True)
