# SPDX-License-Identifier: Apache-2.0
"""Enumerations of devices have onnxruntime's members."""

from __future__ import annotations

import pytest

import bascule as ort
from bascule.capi import onnxruntime_pybind11_state as state

ENUMS = {
    "OrtHardwareDeviceType": {"CPU": 0, "GPU": 1, "NPU": 2},
    "OrtMemoryInfoDeviceType": {"CPU": 0, "GPU": 1, "FPGA": 2, "NPU": 3},
    "OrtDeviceMemoryType": {"DEFAULT": 0, "HOST_ACCESSIBLE": 5},
    "OrtExecutionProviderDevicePolicy": {
        "DEFAULT": 0,
        "PREFER_CPU": 1,
        "PREFER_NPU": 2,
        "PREFER_GPU": 3,
        "MAX_PERFORMANCE": 4,
        "MAX_EFFICIENCY": 5,
        "MIN_OVERALL_POWER": 6,
    },
    "OrtCompileApiFlags": {
        "NONE": 0,
        "ERROR_IF_NO_NODES_COMPILED": 1,
        "ERROR_IF_OUTPUT_FILE_EXISTS": 2,
    },
}


@pytest.mark.parametrize("name", ENUMS)
def test_members(name: str) -> None:
    kind = getattr(ort, name)
    assert {n: int(member) for n, member in kind.__members__.items()} == ENUMS[name]
    assert getattr(state, name) is kind


@pytest.mark.parametrize("name", ENUMS)
def test_same_as_onnxruntime(name: str) -> None:
    reference = pytest.importorskip("onnxruntime")
    members = getattr(reference, name).__members__
    assert {n: int(member.value) for n, member in members.items()} == ENUMS[name]


@pytest.mark.parametrize(
    "name",
    [
        "disable_telemetry_events",
        "enable_telemetry_events",
        "has_collective_ops",
        "set_default_logger_callback",
        "set_default_logger_severity",
        "set_default_logger_verbosity",
        "set_seed",
    ],
)
def test_functions_of_the_extension_module(name: str) -> None:
    assert getattr(state, name) is getattr(ort, name)
