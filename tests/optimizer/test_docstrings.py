# SPDX-License-Identifier: Apache-2.0
"""Every pass does what its docstring says, and computes the same numbers."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

import pytest

import bascule.optimizer
from bascule.optimizer.eliminate_dead_code import eliminate_dead_code
from bascule.optimizer.fused import definition
from bascule.optimizer.passes import GraphPass, Pass
from bascule.optimizer.rewrite import Rule
from tests.optimizer.graphs import (
    assert_close,
    feeds_for,
    parse,
    run_passes,
    run_reference,
    sections,
    structure,
)

APPROXIMATIONS = "approximations"
"""Passes that change results by more than rounding, each described by itself."""


def pass_modules() -> list[ModuleType]:
    names = [info.name for info in pkgutil.iter_modules(bascule.optimizer.__path__)]
    modules = [
        importlib.import_module(f"bascule.optimizer.{name}")
        for name in names
        if name != APPROXIMATIONS
    ]
    return [module for module in modules if passes_of(module)]


def passes_of(module: ModuleType) -> list[Pass]:
    found = [each for each in vars(module).values() if isinstance(each, (Rule, GraphPass))]
    return [each for each in found if each.module == module.__name__]


def examples() -> list[Any]:
    found = []
    for module in pass_modules():
        name = module.__name__.rpartition(".")[2]
        parts = sections(module.__doc__ or "")
        number = 0
        for index, (kind, reason, text) in enumerate(parts):
            if kind == "After":
                continue
            number += 1
            after = parts[index + 1][2] if kind == "Before" else text
            assert kind != "Before" or parts[index + 1][0] == "After", name
            found.append(pytest.param(module, kind, reason, text, after, id=f"{name}-{number}"))
    return found


@pytest.mark.parametrize("module", pass_modules(), ids=lambda m: m.__name__.rpartition(".")[2])
def test_documented(module: ModuleType) -> None:
    assert passes_of(module), "a pass module defines a pass"
    assert any(kind == "Before" for kind, _, _ in sections(module.__doc__ or ""))


@pytest.mark.parametrize(("module", "kind", "reason", "before", "after"), examples())
def test_example(
    module: ModuleType, kind: str, reason: str | None, before: str, after: str
) -> None:
    original, model, expected = (parse(text, definition) for text in (before, before, after))
    report = run_passes(model, *passes_of(module))
    eliminate_dead_code.function(model.graph, None)  # type: ignore[arg-type]
    assert structure(model.graph) == structure(expected.graph)
    if reason is not None:
        assert reason in [each.reason for each in report.rejections]
    if kind == "Before":
        feeds = feeds_for(original)
        numbers = run_reference(original, feeds, definition)
        assert_close(run_reference(model, feeds, definition), numbers)
