# SPDX-License-Identifier: Apache-2.0
"""The public names are what the list beside this file says, each with a docstring."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bascule as ort

_LIST = Path(__file__).with_name("public_names.txt")


def members(thing: type) -> Iterator[tuple[str, Any]]:
    """What a class defines for its users; enum members and exceptions' own parts left out."""
    for base in thing.__mro__:
        if not base.__module__.startswith("bascule"):
            continue
        for name, value in vars(base).items():
            if not name.startswith("_"):
                yield name, value


def public_names() -> list[str]:
    names = set()
    for name in dir(ort):
        value = getattr(ort, name)
        if name in ("annotations", "Any", "TYPE_CHECKING"):
            continue
        if name.startswith("_") and name != "__version__":
            continue
        if inspect.ismodule(value) and name != "capi":
            continue
        names.add(name)
        if inspect.isclass(value):
            names |= {f"{name}.{member}" for member, _ in members(value)}
            fields = getattr(value, "_fields", {})
            names |= {f"{name}.{field}" for field in fields}
    for module in (
        "_pybind_state",
        "onnxruntime_inference_collection",
        "onnxruntime_pybind11_state",
    ):
        inner = getattr(ort.capi, module)
        public = getattr(inner, "__all__", [n for n in vars(inner) if not n.startswith("_")])
        names |= {f"capi.{module}.{name}" for name in public}
    return sorted(names)


def test_the_names() -> None:
    """To change them on purpose: ``python -m tests.api.test_public_names``."""
    assert public_names() == _LIST.read_text().split()


def test_the_extension_module_has_the_same_objects() -> None:
    state = ort.capi.onnxruntime_pybind11_state
    shared = [name for name in dir(state) if not name.startswith("_") and hasattr(ort, name)]
    assert {"set_seed", "OrtDevice", "enable_telemetry_events"} <= set(shared)
    assert all(getattr(state, name) is getattr(ort, name) for name in shared)


def test_every_name_is_documented() -> None:
    missing = []
    for name in dir(ort):
        value = getattr(ort, name)
        if name.startswith("_") or not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        if not inspect.getdoc(value):
            missing.append(name)
        if not inspect.isclass(value):
            continue
        for member, item in members(value):
            item = item.__func__ if isinstance(item, (staticmethod, classmethod)) else item
            documentable = inspect.isfunction(item) or isinstance(item, property)
            if documentable and not inspect.getdoc(item):
                missing.append(f"{name}.{member}")
    assert not missing


def test_the_version_parses() -> None:
    packaging = pytest.importorskip("packaging.version")
    packaging.parse(ort.__version__)
    assert ort.get_version_string() == ort.version == ort.__version__
    assert "Build Info" in ort.get_build_info()
    assert ort.has_collective_ops() is False
    ort.preload_dlls(cuda=True, cudnn=False, directory="nowhere")
    ort.disable_telemetry_events()
    ort.enable_telemetry_events()


def test_debug_info(capsys: pytest.CaptureFixture[str]) -> None:
    ort.print_debug_info()
    assert ort.__version__ in capsys.readouterr().out


def test_importing_does_not_import_onnx() -> None:
    code = (
        "import sys, bascule\n"
        "heavy = {'onnx', 'google.protobuf', 'rich', 'torch', 'sympy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    _LIST.write_text("\n".join(public_names()) + "\n")
