# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's Python interface, row by row: options of the CUDA provider. No GPU is needed."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

import bascule as ort
from bascule import errors
from bascule.providers.cpu.provider import CpuProvider
from bascule.providers.cuda import provider
from bascule.providers.cuda.options import CudaOptions, effective
from tests.api.models import linear
from tests.api.rows import Rows

row = Rows({})
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

DEFAULTS = {
    "device_id": "0",
    "gpu_mem_limit": "18446744073709551615",
    "arena_extend_strategy": "kNextPowerOfTwo",
    "cudnn_conv_algo_search": "EXHAUSTIVE",
    "cudnn_conv_use_max_workspace": "1",
    "cudnn_conv1d_pad_to_nc1d": "0",
    "do_copy_in_default_stream": "1",
    "user_compute_stream": "0",
    "has_user_compute_stream": "0",
    "use_tf32": "1",
    "enable_cuda_graph": "1",  # "0" in onnxruntime, whose users have to bind memory for it
    "fuse_conv_bias": "0",
    "prefer_nhwc": "0",
    "enable_skip_layer_norm_strict_mode": "0",
    "tunable_op_enable": "0",
    "tunable_op_tuning_enable": "1",  # "0" in onnxruntime
    "tunable_op_max_tuning_duration_ms": "10000",  # "0" in onnxruntime
    "sdpa_kernel": "0",
    "gpu_external_alloc": "0",
    "gpu_external_free": "0",
    "gpu_external_empty_cache": "0",
    "use_ep_level_unified_stream": "0",
}


@row(*(f"cuda.{name}" for name in DEFAULTS), only=True)
def _(ort: Any) -> None:
    assert effective({}) == DEFAULTS
    for name, value in DEFAULTS.items():
        assert effective({name: value}) == DEFAULTS


def made(**options: str) -> CudaOptions:
    return CudaOptions.of(options)


@row("cuda options that act", only=True)
def _(ort: Any) -> None:
    usual = CudaOptions(0, 0, True, True, 10, 0)
    assert made() == usual
    assert made(device_id="2").number == 2
    assert made(gpu_mem_limit=str(1 << 30)).memory_limit == 1 << 30
    assert made(use_tf32="0").tf32 is False
    assert made(enable_cuda_graph="0").captures is False
    assert made(use_tf32="false", enable_cuda_graph="True") == made(use_tf32="0")
    assert made(user_compute_stream="4096").user_stream == 4096
    assert effective({"user_compute_stream": "4096"})["has_user_compute_stream"] == "1"
    assert made(tunable_op_max_tuning_duration_ms="250").tuning_seconds == 0.25
    assert made(tunable_op_max_tuning_duration_ms="0").tuning_seconds == math.inf
    assert made(tunable_op_tuning_enable="0").tuning_seconds == 0


@row("cuda options that are refused", only=True)
def _(ort: Any) -> None:
    with pytest.raises(errors.InvalidArgument, match="has no option 'colour'"):
        made(colour="red")
    with pytest.raises(errors.InvalidArgument, match="calls no allocator of others"):
        made(gpu_external_alloc="140000000")
    wrong, duration = errors.InvalidArgument, "tunable_op_max_tuning_duration_ms"
    for name in ("device_id", "gpu_mem_limit", "user_compute_stream", duration):
        for value in ("x", "-1", str(1 << 64), "1e9"):
            with pytest.raises(wrong, match=f"{name} of .*from 0 on.*got: {value}"):
                made(**{name: value})
    for name in ("use_tf32", "enable_cuda_graph", "tunable_op_tuning_enable"):
        for value in ("", "2", "None", "off", "TRUE"):  # none of which is a silent 0
            with pytest.raises(wrong, match=f"{name} of .* is 0 or 1"):
                made(**{name: value})


def test_the_device_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from bascule.providers.cuda import cupy_device

    seen: list[Any] = []
    monkeypatch.setattr(cupy_device, "CupyDevice", lambda *given: seen.append(given))
    monkeypatch.setattr(provider, "CudaProvider", lambda *given: given)
    cpu = CpuProvider(1)
    options = {"device_id": "1", "use_tf32": "0", "enable_cuda_graph": "0"}
    assert provider.make(options, cpu, False) == (None, cpu, False, False)
    assert seen == [(1, 0, False, 10, 0)]


def test_a_session_tells_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    session = ort.InferenceSession(linear().SerializeToString(), providers=[CPU])
    monkeypatch.setattr(session, "_resolved", [(CUDA, {"device_id": "3"}), (CPU, {})])
    assert session.get_provider_options() == {CUDA: {**DEFAULTS, "device_id": "3"}, CPU: {}}
    assert session.run(None, {"x": np.ones((2, 3), np.float32)})[0].shape == (2, 2)


def test_providers_that_cannot_be_had_change_nothing() -> None:
    """Neither what a session says of itself, nor where its next programs and copies run."""
    session = ort.InferenceSession(linear().SerializeToString(), providers=[CPU])
    x = np.ones((2, 3), np.float32)
    expected = session.run(None, {"x": x})[0]
    for providers in ([(CUDA, {"colour": "red"})], [(CUDA, {"use_tf32": "x"}), CPU]):
        with pytest.raises(errors.InvalidArgument):
            session.set_providers(providers)
        assert session.get_providers() == [CPU]
        assert session.get_provider_options() == {CPU: {}}
        copied = pickle.loads(pickle.dumps(session))
        for each in (session, copied):
            np.testing.assert_array_equal(each.run(None, {"x": x})[0], expected)
            assert {row.provider for row in each.explain().rows} == {CPU}


@row("load.provider_option_refused", only=True)
def _(ort: Any) -> None:
    """No silent run on the CPU where a GPU is asked for, unlike onnxruntime's."""
    data = linear().SerializeToString()
    with pytest.raises((errors.InvalidArgument, errors.EngineError)):
        ort.InferenceSession(data, providers=[(CUDA, {"colour": "red"}), CPU])
    with pytest.raises((errors.InvalidArgument, errors.EngineError)):
        ort.InferenceSession(data, providers=[(CUDA, {"device_id": -1}), CPU])
    session = ort.InferenceSession(data, providers=[CPU])
    with pytest.raises((errors.InvalidArgument, errors.EngineError)):
        session.set_providers([(CUDA, {"device_id": -1})])


@pytest.mark.parametrize(("name", "runtime"), row.parameters())
def test_row(name: str, runtime: str, tmp_path: Any) -> None:
    row.check(name, runtime, tmp_path)
