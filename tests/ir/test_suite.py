# SPDX-License-Identifier: Apache-2.0
"""Every model of the public suite is loaded, inferred, saved and loaded again."""

from __future__ import annotations

import onnx
import pytest

from bascule.ir.infer import infer_types
from bascule.ir.load import load_model
from bascule.ir.printer import format_graph
from bascule.ir.save import to_bytes
from tests.support.suite import KINDS, cases


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: str) -> None:
    for case in cases(kind):
        model = load_model(case.read()[0])
        infer_types(model)
        data = to_bytes(model)
        onnx.checker.check_model(data)
        assert format_graph(load_model(data).graph) == format_graph(model.graph), case.name
