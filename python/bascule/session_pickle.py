# SPDX-License-Identifier: Apache-2.0
"""Copies of sessions, and sessions in other processes.

A session made from a file is pickled as the file's path with digests of it and of its external
data; one made from bytes as these bytes.
"""

from __future__ import annotations

import os
import pickle
import threading
from typing import Any

from bascule.errors import Fail, NoSuchFile
from bascule.session_profile import Trace

_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
_ADDRESSES = ("user_compute_stream", "gpu_external_alloc", "gpu_external_free")
"""Provider options that are addresses, which mean nothing in another process."""


class Picklable:
    """The part of InferenceSession that makes copies."""

    def __reduce__(self) -> Any:
        session: Any = self
        for name, options in session._resolved:
            held = [key for key in _ADDRESSES if options.get(key, "0") != "0"]
            if held:
                raise pickle.PicklingError(
                    f"the session has addresses of this process in its options of {name}: {held}"
                )
        source, files = session._model_bytes, {}
        if session._model_path is not None:
            source = os.path.abspath(session._model_path)
            if file_stamp(source) != session._stamp:
                raise Fail(
                    f"The model file '{source}' has changed since the session was made, so the "
                    "session cannot be pickled by reference to it",
                    fix="make the session again",
                )
            files = {path: _digest(path) for path in [source, *_external_paths(session, source)]}
        state = {
            "source": source,
            "files": files,
            "options": session._options,
            "providers": session._asked,
            "keywords": {
                "disabled_optimizers": session._disabled,
                "enable_fallback": int(session._enable_fallback),
                "read_config_from_model": 0,
            },
        }
        return _restore, (type(self), state)

    def __copy__(self) -> Any:
        """Another session over the same compiled programs; it takes no memory of its own."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        session: Any = made
        session._options = session._options.copy()
        session._general_lock = threading.Lock()
        session._trace = Trace(
            session._options.profile_file_prefix, session._options.enable_profiling
        )
        session._trace.loaded = self._trace.loaded  # type: ignore[attr-defined]
        session._trace.end_with(made)
        return made

    def __deepcopy__(self, memo: Any) -> Any:
        return self.__copy__()


def file_stamp(path: str) -> tuple[int, ...]:
    """What changes when a file is replaced or written to; () when it is not there."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a name with a null byte is a ValueError
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _restore(kind: Any, state: dict[str, Any]) -> Any:
    for path, expected in state["files"].items():
        if not os.path.exists(path):
            raise NoSuchFile(
                f"Load model from {path} failed:Load model {path} failed. File doesn't exist. The "
                "pickled session refers to it"
            )
        if _digest(path) != expected:
            raise Fail(
                f"The file '{path}' has changed since the session was pickled",
                fix="make the session again, or bring the file back",
            )
    providers, provider_options = state["providers"]
    return kind(state["source"], state["options"], providers, provider_options, **state["keywords"])


def _digest(path: str) -> str:
    import hashlib  # only here: it takes long to import

    made = hashlib.blake2b(digest_size=32)
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            made.update(part)
    return made.hexdigest()


def _external_paths(session: Any, source: str) -> list[str]:
    names = session._external_files
    if names is None:  # the session came from a plan
        from bascule.overrides import load_with

        names = load_with(source, session._options).external_files
    folder = session._options._config.get(_EXTERNAL_FOLDER) or os.path.dirname(source)
    paths = [os.path.abspath(os.path.join(folder, name)) for name in names]
    return [path for path in paths if os.path.exists(path)]
