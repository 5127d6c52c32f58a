# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import pickle

import pytest

from bascule import errors

CODES = {
    "Fail": "1 : FAIL",
    "InvalidArgument": "2 : INVALID_ARGUMENT",
    "NoSuchFile": "3 : NO_SUCHFILE",
    "NoModel": "4 : NO_MODEL",
    "EngineError": "5 : ENGINE_ERROR",
    "RuntimeException": "6 : RUNTIME_EXCEPTION",
    "InvalidProtobuf": "7 : INVALID_PROTOBUF",
    "ModelLoaded": "8 : MODEL_LOADED",
    "NotImplemented": "9 : NOT_IMPLEMENTED",
    "InvalidGraph": "10 : INVALID_GRAPH",
    "EPFail": "11 : EP_FAIL",
    "ModelLoadCanceled": "12 : MODEL_LOAD_CANCELED",
    "ModelRequiresCompilation": "13 : MODEL_REQUIRES_COMPILATION",
    "NotFound": "14 : NOT_FOUND",
    "DeviceReset": "15 : DEVICE_RESET",
}


@pytest.mark.parametrize("name", CODES)
def test_text_starts_with_the_code(name: str) -> None:
    kind = getattr(errors, name)
    assert kind.__bases__ == (Exception,)
    assert str(kind("what")) == f"[ONNXRuntimeError] : {CODES[name]} : what"


def test_all_is_complete() -> None:
    assert {kind.__name__ for kind in errors.ALL} == set(CODES)


def test_details_are_kept_and_shown() -> None:
    error = errors.Fail("sizes differ", node="n", shape=(2, 3), expected=None)
    assert str(error).endswith("sizes differ [node: n; shape: (2, 3)]")
    assert error.details["shape"] == (2, 3)


def test_pickle_and_copy_keep_the_text() -> None:
    error = errors.InvalidGraph("bad", node="n")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(copy.copy(error)) == str(error)
