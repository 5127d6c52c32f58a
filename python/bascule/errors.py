# SPDX-License-Identifier: Apache-2.0
"""The exceptions that loading and running raise.

Each derives directly from Exception, as code that catches them by name expects, and begins with
``[ONNXRuntimeError] : <code> : <NAME> : ``. Keyword arguments name what the error is about (node,
op, input, shape, expected ...); they are appended to the text and kept in `details`.
"""

from __future__ import annotations

_PREFIX = "[ONNXRuntimeError]"


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
    """A model or a run that cannot go on, for a reason with no type of its own."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(1, "FAIL", message, details))
        self.details = details


class InvalidArgument(Exception):
    """A name, type, shape or value from the caller that the model does not take."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(2, "INVALID_ARGUMENT", message, details))
        self.details = details


class NoSuchFile(Exception):
    """The model file does not exist."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(3, "NO_SUCHFILE", message, details))
        self.details = details


class NoModel(Exception):
    """There is no model to work on."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(4, "NO_MODEL", message, details))
        self.details = details


class EngineError(Exception):
    """The machinery under a provider failed."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(5, "ENGINE_ERROR", message, details))
        self.details = details


class RuntimeException(Exception):
    """A kernel failed while running."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(6, "RUNTIME_EXCEPTION", message, details))
        self.details = details


class InvalidProtobuf(Exception):
    """The bytes are not an ONNX model."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(7, "INVALID_PROTOBUF", message, details))
        self.details = details


class ModelLoaded(Exception):
    """A model is loaded already."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(8, "MODEL_LOADED", message, details))
        self.details = details


class NotImplemented(Exception):
    """No provider has a kernel for a node."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(9, "NOT_IMPLEMENTED", message, details))
        self.details = details


class InvalidGraph(Exception):
    """The model breaks a rule of the standard."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(10, "INVALID_GRAPH", message, details))
        self.details = details


class EPFail(Exception):
    """A device failed inside its execution provider."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(11, "EP_FAIL", message, details))
        self.details = details


class ModelLoadCanceled(Exception):
    """Loading was cancelled by the caller."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(12, "MODEL_LOAD_CANCELED", message, details))
        self.details = details


class ModelRequiresCompilation(Exception):
    """The model must be compiled for the provider first."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(13, "MODEL_REQUIRES_COMPILATION", message, details))
        self.details = details


class NotFound(Exception):
    """A thing asked for by name is not there."""

    def __init__(self, message: object = "", **details: object) -> None:
        super().__init__(_text(14, "NOT_FOUND", message, details))
        self.details = details


class DeviceReset(Exception):
    """The device was reset; its sessions are lost."""

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
