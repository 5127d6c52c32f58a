# SPDX-License-Identifier: Apache-2.0
"""Compiled plans on disk: what they are found by, and how they are read and written."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

from bascule import errors
from bascule._version import __version__
from bascule.compiled import Argument, CompiledModel
from bascule.errors import InvalidArgument
from bascule.ir.types import shared_sizes
from bascule.logging import LOGGER
from bascule.native import _native
from bascule.options import SessionOptions
from bascule.plans.contents import RACE_NS, Contents
from bascule.plans.description import describe, restore
from bascule.plans.folder import SUFFIX, CacheFolder, UnusableFolder

FOLDER = "session.cache_dir"
LIMIT = "session.cache_max_bytes"
_DEFAULT_LIMIT = 16 << 30
_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"

_OPTIONS = (
    "graph_optimization_level",
    "execution_mode",
    "execution_order",
    "use_deterministic_compute",
)
"""Attributes of SessionOptions that a plan may depend on, beside all config entries."""

_DAMAGED = (
    *errors.ALL,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    MemoryError,
    RuntimeError,
)
"""What reading a file that we did not write may come to."""


class PlanCache:
    """The plans of one folder, for one session."""

    def __init__(self, options: SessionOptions, disabled: Sequence[str], threads: int) -> None:
        self._options = options
        self._disabled = sorted(disabled)
        self._threads = threads
        self._most = _limit(options)
        self._folder: CacheFolder | None = None
        self.note = ""
        """What became of the plan, for explain()."""
        path = options._config[FOLDER]
        try:
            if os.name != "posix":
                raise UnusableFolder("plans are not cached on this system")
            self._folder = CacheFolder(path)
            self._contents = Contents(self._folder)
        except UnusableFolder as error:
            self.refuse(str(error), warn=True)
        self._key: bytes | None = None
        self._model: str | None = None
        self._started_ns = 0

    def refuse(self, reason: str, warn: bool = False) -> None:
        """The cache is not used for this session."""
        self._folder = None
        self.note = f"not used: {reason}"
        level = logging.WARNING if warn else logging.INFO
        LOGGER.log(level, "plan cache %s %s", self._options._config[FOLDER], self.note)

    @property
    def is_used(self) -> bool:
        return self._folder is not None

    def load(self, source: str | bytes) -> CompiledModel | None:
        """The plan of a model, if there is one."""
        if self._folder is None:
            return None
        started = time.perf_counter()
        self._started_ns = time.time_ns()
        self._key = self._find_key(source)
        if self._key is None:
            return None
        found = time.perf_counter()
        compiled = self._open(checked=False)
        with contextlib.suppress(OSError):
            self._contents.save()
        if compiled is not None:
            compiled.seconds = {
                "find": found - started,
                "map": time.perf_counter() - found,
            }
            self._folder.note_use(self._name)
            self.note = f"read {os.path.join(self._folder.path, self._name)}"
        return compiled

    def store(
        self, source: str | bytes, compiled: CompiledModel, external_files: list[str]
    ) -> CompiledModel:
        """Keep a plan. Returns it as it is read back, over the memory that all readers share."""
        if self._folder is None:
            return compiled
        from bascule.providers.cpu.lower import native_constant

        if self._model is not None:
            self._contents.note_externals(self._externals_of(self._model), external_files)
        model = self._model
        key = self._find_key(source)
        if key is None or model != self._model or self._is_new(source, external_files):
            self.note = "not written: the model was changed meanwhile"
            return compiled
        self._key = key
        description = describe(compiled)
        program: Any = compiled.program
        defaults = [native_constant(each) for each in compiled.defaults.values()]

        def fill(descriptor: int) -> None:
            number = program.write_plan(descriptor, key, description, defaults)
            if number:
                raise OSError(number, os.strerror(number))
            # Any change from now on shows, as it cannot have a time as old as this.
            now = time.time_ns()
            os.utime(descriptor, ns=(now, now - 2 * RACE_NS))

        try:
            self._folder.write(self._name, fill)
            removed = self._folder.trim(self._most)
        except OSError as error:
            self.note = f"not written: {error.strerror}"
            LOGGER.warning("plan cache %s %s", self._folder.path, self.note)
            return compiled
        except errors.NotImplemented as error:
            self.note = f"not written: {str(error).split(' : ', 3)[-1]}"
            LOGGER.info("plan cache %s %s", self._folder.path, self.note)
            return compiled
        if self._name in removed:
            self.note = f"not kept: the plan alone is larger than {LIMIT}, {self._most}"
            LOGGER.warning("plan cache %s %s", self._folder.path, self.note)
        else:
            self.note = f"wrote {os.path.join(self._folder.path, self._name)}"
        kept = self._open(checked=True)
        with contextlib.suppress(OSError):
            self._contents.save()
        if kept is None:
            return compiled
        kept.seconds = compiled.seconds
        return kept

    @property
    def _name(self) -> str:
        assert self._key is not None
        return self._key.hex() + SUFFIX

    def _open(self, checked: bool) -> CompiledModel | None:
        """Read the plan; one that is not as it should be counts as none."""
        assert self._folder is not None and self._key is not None
        descriptor = self._folder.open(self._name)
        if descriptor is None:
            return None
        try:
            now = time.time_ns()
            status = os.fstat(descriptor)
            known = self._contents.is_checked(self._name, status)
            plan = _native.PlanFile(descriptor, self._key, not (known or checked))
            compiled = restore(
                plan.description, functools.partial(self._program, plan), plan.attachments
            )
            if not known:
                self._contents.note_checked(self._name, status, now)
            return compiled
        except _DAMAGED as error:
            LOGGER.info("plan cache %s: %s is not used: %s", self._folder.path, self._name, error)
            return None
        finally:
            os.close(descriptor)

    def _program(self, plan: Any, inputs: list[Argument], outputs: list[Argument]) -> Any:
        return plan.runner(
            [each.name for each in inputs],
            [each.name for each in outputs],
            self._threads,
            shared_sizes([each.type for each in inputs]),
        )

    # --- what a plan is found by

    def _is_new(self, source: str | bytes, names: list[str]) -> bool:
        """Whether external data was written since the cache was asked for the plan."""
        paths = [os.path.join(self._external_folder(source), name) for name in names]
        try:
            return any(os.stat(path).st_mtime_ns >= self._started_ns for path in paths)
        except OSError:
            return True

    def _external_folder(self, source: str | bytes) -> str:
        folder = self._options._config.get(_EXTERNAL_FOLDER)
        if folder is None:
            folder = os.path.dirname(source) if isinstance(source, str) else ""
        return folder or os.curdir

    def _find_key(self, source: str | bytes) -> bytes | None:
        """The name of the plan; None when not all that it depends on is known."""
        model = self._model = self._model_digest(source)
        if model is None:
            return None
        external = self._external_digests(source, model)
        if external is None:
            return None
        options = self._options
        config = {
            key: value for key, value in options._config.items() if key not in (FOLDER, LIMIT)
        }
        parts = {
            "model": model,
            "external": external,
            "in memory": {
                name: self._contents.digest(data) for name, data in options._files.items()
            },
            "program": [__version__, *_build()],
            "processor": [_native.active_isa(), _native.cpu_model()],
            "disabled": self._disabled,
            "options": [int(getattr(options, name)) for name in _OPTIONS],
            "config": config,
            # What is chosen by timing is chosen for these threads.
            "threads": self._threads if any("autotune" in key for key in config) else 0,
            "dimensions": options._dimensions,
            "denotations": options._denotations,
            "initializers": {
                name: self._array_digest(value._array)
                for name, value in options._initializers.items()
            },
        }
        text = json.dumps(parts, sort_keys=True).encode("ascii")
        return bytes.fromhex(self._contents.digest(text))

    def _model_digest(self, source: str | bytes) -> str | None:
        if isinstance(source, bytes):
            return self._contents.digest(source) if source else None
        return self._contents.file_digest(source)

    def _externals_of(self, model: str) -> str:
        """Which files a model refers to depends on those that are in memory, too."""
        names = json.dumps([model, sorted(self._options._files)])
        return self._contents.digest(names.encode("ascii"))

    def _external_digests(self, source: str | bytes, model: str) -> dict[str, str] | None:
        names = self._contents.externals(self._externals_of(model))
        if names is None:
            return None
        digests = {}
        for name in names:
            digest = self._contents.file_digest(os.path.join(self._external_folder(source), name))
            if digest is None:
                return None
            digests[name] = digest
        return digests

    def _array_digest(self, array: Any) -> list[Any]:
        import numpy as np

        from bascule.ir.constant import Constant

        constant = Constant.from_numpy(np.asarray(array))
        data: Any
        if constant.strings is not None:
            data = json.dumps(constant.strings.tolist()).encode("ascii")
        else:
            data = constant.raw or b""
        return [int(constant.dtype), list(constant.shape), self._contents.digest(data)]


@functools.cache
def _build() -> list[int]:
    """The newest change of the package's files, and how many there are."""
    newest = count = 0
    folders = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name == "__pycache__":
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name.endswith((".py", ".so", ".pyd")):
                    newest = max(newest, entry.stat().st_mtime_ns)
                    count += 1
    return [newest, count]


def _limit(options: SessionOptions) -> int:
    text = options._config.get(LIMIT, str(_DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidArgument(f"{LIMIT} must be a number of bytes, not '{text}'")
    return int(text)
