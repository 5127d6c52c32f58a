# SPDX-License-Identifier: Apache-2.0
"""The exceptions that loading and running raise.

Each derives directly from Exception, as code that catches them by name expects, and begins with
``[ONNXRuntimeError] : <code> : <NAME> : ``. Keyword arguments name what the error is about (node,
op, input, shape, expected ...); they are appended to the text and kept in the attribute `details`,
a dict.
"""

from __future__ import annotations

import re

_PREFIX = "[ONNXRuntimeError]"
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")


def _text(code: int, name: str, message: object, details: dict[str, object]) -> str:
    text = str(message)
    if text.startswith(_PREFIX):  # rebuilt from `args`, by pickle or copy
        return text
    known = [
        f"{key}: {value}" for key, value in details.items() if value is not None and value != ""
    ]
    if known:
        text = f"{text} [{'; '.join(known)}]"
    return f"{_PREFIX} : {code} : {name} : {text}"


def without_code(error: Exception) -> str:
    """The message without what it begins with in this module, or the type's name for none."""
    return _CODE.sub("", str(error)) or type(error).__name__


def add_details(error: Exception, **details: object) -> None:
    """Tell more about an error that is on its way; what it tells already stays as it is."""
    known: dict[str, object] = getattr(error, "details", {})
    more = {k: v for k, v in details.items() if v is not None and v != "" and k not in known}
    if not more or not error.args:
        return
    told = "; ".join(f"{key}: {value}" for key, value in more.items())
    text = str(error.args[0])
    if known and text.endswith("]"):
        error.args = (f"{text[:-1]}; {told}]",)
    else:
        error.args = (f"{text} [{told}]",)
    error.details = {**known, **more}  # type: ignore[attr-defined]


class Fail(Exception):
    """Code 1: a model or a run that cannot go on, for a reason with no type of its own.

    An operator of a domain that nobody knows, external data that cannot be had, what an operator
    of your own raises, a run that was terminated.
    """

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(1, "FAIL", message, details))
        self.details = details


class InvalidArgument(Exception):
    """Code 2: a name, type, shape or value from the caller that the model does not take."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(2, "INVALID_ARGUMENT", message, details))
        self.details = details


class NoSuchFile(Exception):
    """Code 3: the model file does not exist."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(3, "NO_SUCHFILE", message, details))
        self.details = details


class NoModel(Exception):
    """Code 4: there is no model to work on.

    Nothing here raises it; code that catches it goes on.
    """

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(4, "NO_MODEL", message, details))
        self.details = details


class EngineError(Exception):
    """Code 5: the machinery under a provider failed.

    There is no GPU, or a library or driver that the CUDA provider needs is missing or fails.
    """

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(5, "ENGINE_ERROR", message, details))
        self.details = details


class RuntimeException(Exception):
    """Code 6: a kernel failed while running.

    Nothing here raises it, such failures are Fail; code that catches it goes on.
    """

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(6, "RUNTIME_EXCEPTION", message, details))
        self.details = details


class InvalidProtobuf(Exception):
    """Code 7: the bytes are not an ONNX model, or are cut short."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(7, "INVALID_PROTOBUF", message, details))
        self.details = details


class ModelLoaded(Exception):
    """Code 8: a model is loaded already.

    Nothing here raises it; code that catches it goes on.
    """

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(8, "MODEL_LOADED", message, details))
        self.details = details


class NotImplemented(Exception):
    """Code 9: nodes have no kernel in any provider, or no derivative; all are told."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(9, "NOT_IMPLEMENTED", message, details))
        self.details = details


class InvalidGraph(Exception):
    """Code 10: the model breaks a rule of the standard."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(10, "INVALID_GRAPH", message, details))
        self.details = details


class EPFail(Exception):
    """Code 11: a device failed inside its execution provider.

    Nothing here raises it; a run that meets it goes on with the CPU if the session allows that.
    """

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(11, "EP_FAIL", message, details))
        self.details = details


class ModelLoadCanceled(Exception):
    """Code 12: loading was cancelled, by SessionOptions.set_load_cancellation_flag."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(12, "MODEL_LOAD_CANCELED", message, details))
        self.details = details


class ModelRequiresCompilation(Exception):
    """Code 13: the model must be compiled for the provider first.

    Nothing here raises it; code that catches it goes on.
    """

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(13, "MODEL_REQUIRES_COMPILATION", message, details))
        self.details = details


class NotFound(Exception):
    """Code 14: a thing asked for by name is not there.

    Nothing here raises it; code that catches it goes on.
    """

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(14, "NOT_FOUND", message, details))
        self.details = details


class DeviceReset(Exception):
    """Code 15: the device was reset; its sessions are lost.

    Nothing here raises it; code that catches it goes on.
    """

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(15, "DEVICE_RESET", message, details))
        self.details = details


ALL = (
    Fail,
    InvalidArgument,
    NoSuchFile,
    NoModel,
    EngineError,
    RuntimeException,
    InvalidProtobuf,
    ModelLoaded,
    NotImplemented,
    InvalidGraph,
    EPFail,
    ModelLoadCanceled,
    ModelRequiresCompilation,
    NotFound,
    DeviceReset,
)
"""Every exception of this module, for `except errors.ALL`."""
