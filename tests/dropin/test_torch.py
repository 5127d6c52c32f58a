# SPDX-License-Identifier: Apache-2.0
"""torch's exporter checks its models with what it takes for onnxruntime."""

from __future__ import annotations

import pytest

from tests.dropin.alias import run

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

CODE = """
import torch, torch.onnx.verification
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4))
    def forward(self, x, scale):
        return self.layers(x) * scale, x + x

torch.manual_seed(0)
for dtype in (torch.float32, torch.bfloat16):
    net = Net().eval().to(dtype)
    args = (torch.randn(3, 8, dtype=dtype), torch.ones(1, dtype=dtype))
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        net, args, dynamo=True, verify=True, dynamic_shapes=({0: batch}, None), verbose=False
    )
    for found, want in zip(program(*args), net(*args)):
        assert found.dtype == dtype
        error = 0.05 if dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(found, want, atol=error, rtol=0.02)
    program.initialize_inference_session()
    assert type(program._inference_session).__module__.startswith("bascule")
    infos = torch.onnx.verification.verify_onnx_program(
        program, args, compare_intermediates=dtype == torch.float32
    )
    assert infos and all(info.max_abs_diff < 0.05 for info in infos), infos
    from torch.onnx._internal.exporter import _testing
    if dtype == torch.float32:
        _testing.assert_onnx_program(program, strategy=None)
print("verified")
"""

TORCHSCRIPT = """
import io, torch, warnings
from torch.onnx._internal.torchscript_exporter import verification
warnings.simplefilter("ignore")
net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU()).eval()
verification.verify(net, (torch.randn(1, 1, 8, 8),))
print("verified")
"""


def test_the_exporter_verifies() -> None:
    assert "verified" in run(CODE)


def test_the_old_exporter_verifies() -> None:
    assert "verified" in run(TORCHSCRIPT)
