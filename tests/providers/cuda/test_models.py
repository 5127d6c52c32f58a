# SPDX-License-Identifier: Apache-2.0
"""Real architectures on the device: the outputs are torch's own.

On a GPU all of them; on the emulated device, where kernels take seconds to compile, a few.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.models.test_models import DATA, ILL_CONDITIONED, MODELS, assert_agrees, load_runs
from tests.support.cuda_emulation import missing, new_device, on_gpu
from tests.support.cuda_session import EmulatedSession

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

_FEW = ["bert", "convnext", "gpt2", "llama", "mobilenetv2", "resnet", "vit", "whisper_decoder"]


@pytest.fixture(scope="module")
def device() -> Any:
    """With the algorithms that are fastest, whichever these are."""
    return new_device(tunes=True)


@pytest.mark.parametrize("name", MODELS if on_gpu() else _FEW)
def test_outputs_are_torchs(name: str, device: Any) -> None:
    class Session(EmulatedSession):
        pass

    Session.device = device
    session = Session(DATA / f"{name}.onnx")
    for _ in range(3):  # by hand, captured, replayed
        for inputs, expected in load_runs(name):
            outputs = session.run(list(expected), inputs)
            for output, actual in zip(expected, outputs, strict=True):
                assert_agrees(actual, expected[output], output, ILL_CONDITIONED.get(name))
