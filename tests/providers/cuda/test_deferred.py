# SPDX-License-Identifier: Apache-2.0
"""Libraries that are imported without what they import for others."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from bascule.providers.cuda.libraries.deferred import deferred


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package, `heavy`, and a module that imports it, `light`; neither is loaded before."""
    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy" / "__init__.py").write_text("answer = 42\n")
    (tmp_path / "heavy" / "part.py").write_text("answer = 43\n")
    (tmp_path / "light.py").write_text(
        "try:\n    import heavy\nexcept ImportError:\n    heavy = None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("heavy", "light")]:
        del sys.modules[name]


def light() -> Any:
    with deferred("heavy"):
        return importlib.import_module("light")


@pytest.mark.usefixtures("library")
def test_it_is_loaded_when_it_is_used() -> None:
    module = light()
    assert "heavy" not in sys.modules
    assert module.heavy.answer == 42
    assert sys.modules["heavy"].answer == 42 and sys.modules["heavy"] is not module.heavy


@pytest.mark.usefixtures("library")
def test_what_is_loaded_stays() -> None:
    loaded = importlib.import_module("heavy")
    assert light().heavy is loaded is sys.modules["heavy"]


@pytest.mark.usefixtures("library")
def test_others_import_it_meanwhile() -> None:
    with deferred("heavy"):
        assert importlib.import_module("heavy.part").answer == 43
        assert sys.modules["heavy"].answer == 42
    assert sys.modules["heavy"].answer == 42


@pytest.mark.usefixtures("library")
def test_what_is_missing_is_missing(tmp_path: Path) -> None:
    (tmp_path / "heavy" / "part.py").unlink()
    (tmp_path / "heavy" / "__init__.py").unlink()
    (tmp_path / "heavy").rmdir()
    importlib.invalidate_caches()
    assert light().heavy is None
