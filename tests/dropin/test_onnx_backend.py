# SPDX-License-Identifier: Apache-2.0
"""onnx's own test runner takes ``onnxruntime.backend``."""

from __future__ import annotations

from tests.dropin.alias import run

CODE = """
import unittest, onnx.backend.test
import onnxruntime.backend as backend

runner = onnx.backend.test.BackendTest(backend, __name__)
for pattern in (
    "test_softmax_.*_cpu", "test_gemm_.*_cpu", "test_sequence_.*_cpu", "test_if.*_cpu",
    "test_ai_onnx_ml_.*_cpu", "test_strnorm.*_cpu", "test_cast_FLOAT_to_BFLOAT16.*",
):
    runner.include(pattern)
cases = runner.enable_report().test_cases["OnnxBackendNodeModelTest"]
result = unittest.TextTestRunner(verbosity=0).run(
    unittest.defaultTestLoader.loadTestsFromTestCase(cases)
)
assert result.wasSuccessful()
print("passed", result.testsRun - len(result.skipped))
"""


def test_the_runner_of_onnx() -> None:
    word, count = run(CODE).split()[-2:]
    assert word == "passed" and int(count) > 40
