# SPDX-License-Identifier: Apache-2.0
"""Rows of onnxruntime's interface as tests: each a function of the module that is imported."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Row = Callable[..., None]


@dataclass(frozen=True)
class Rows:
    """Functions by the row that they check, of `ort` and, if they want it, a `folder`."""

    functions: dict[str, Row]

    def __call__(self, *names: str, only: bool = False) -> Callable[[Row], Row]:
        """Mark the function of rows; `only`: onnxruntime behaves worse there, or has no such."""

        def note(function: Row) -> Row:
            for name in names:
                assert name not in self.functions, name
                self.functions[name] = function
            function.only = only  # type: ignore[attr-defined]
            return function

        return note

    def parameters(self) -> list[Any]:
        """(name, runtime) of each test."""
        has_other = importlib.util.find_spec("onnxruntime") is not None
        absent = pytest.mark.skipif(not has_other, reason="onnxruntime is not installed")
        found = []
        for name, function in self.functions.items():
            found.append(pytest.param(name, "bascule", id=f"{name}-bascule"))
            if not function.only:  # type: ignore[attr-defined]
                found.append(
                    pytest.param(name, "onnxruntime", id=f"{name}-onnxruntime", marks=absent)
                )
        return found

    def check(self, name: str, runtime: str, folder: Path) -> None:
        function = self.functions[name]
        module = importlib.import_module(runtime)
        takes_folder = "folder" in inspect.signature(function).parameters
        with warnings.catch_warnings():
            if runtime != "bascule":
                warnings.simplefilter("ignore", DeprecationWarning)
            function(module, **({"folder": folder} if takes_folder else {}))
