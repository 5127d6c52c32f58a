# SPDX-License-Identifier: Apache-2.0
"""Memory, devices and private names of sessions, beside onnxruntime's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bascule as ort
from bascule.capi.onnxruntime_pybind11_state import SessionIOBinding
from tests.api.models import linear, session

CPU = ["CPUExecutionProvider"]


def _memories(infos: list[Any]) -> list[tuple[str, int, int, int]]:
    return [
        (info.name, info.device_id, int(info.mem_type), int(info.allocator_type)) for info in infos
    ]


CALLS: dict[str, Callable[[Any], Any]] = {
    "get_input_memory_infos": lambda s: _memories(s.get_input_memory_infos()),
    "get_tuning_results": lambda s: s.get_tuning_results(),
    "set_tuning_results": lambda s: s.set_tuning_results([]),
    "set_ep_dynamic_options": lambda s: s.set_ep_dynamic_options({"key": "value"}),
    "create_ortvalue_from_shape_and_type": lambda s: s.create_ortvalue_from_shape_and_type(
        [2, 3], np.float32, "cpu"
    ).shape(),
    "get_output_memory_infos": lambda s: _memories(s.get_output_memory_infos()),
    "_provider_options": lambda s: s._provider_options,
    "_fallback_providers": lambda s: s._fallback_providers,
    "_sess_options": lambda s: s._sess_options.intra_op_num_threads,
}


@pytest.mark.parametrize("name", CALLS)
def test_same_as_onnxruntime(name: str) -> None:
    reference = pytest.importorskip("onnxruntime")
    theirs = reference.InferenceSession(linear().SerializeToString(), providers=CPU)
    assert CALLS[name](session(linear(), providers=CPU)) == CALLS[name](theirs)


def test_results_of_another_runtime() -> None:
    made = session(linear())
    made.set_tuning_results([{"ep": "CPUExecutionProvider"}])
    with pytest.raises(RuntimeError, match="tuning results"):
        made.set_tuning_results([{"ep": "CPUExecutionProvider"}], error_on_invalid=True)


def test_a_binding_of_the_inner_session() -> None:
    made = session(linear())
    binding = SessionIOBinding(made._sess)
    x = np.ones((2, 3), np.float32)
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(x))
    binding.bind_output(made.get_outputs()[0].name)
    made.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.get_outputs()[0].numpy(), made.run(None, {"x": x})[0])
