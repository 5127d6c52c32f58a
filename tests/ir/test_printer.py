# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from bascule.ir.copy import copy_model
from bascule.ir.infer import infer_types
from bascule.ir.load import load_model
from bascule.ir.printer import format_graph
from bascule.ir.text import parse_graph
from tests.ir.models import TEXTS, text_model


def test_one_node_per_line_with_types() -> None:
    model = parse_graph(
        "g (float[N,3] a) => (float[N,3] y) <float one = {1}> "
        "{ t = Add(a, one) y = Softmax<axis=1>(t) }"
    )
    infer_types(model)
    assert format_graph(model.graph) == (
        "g (a: float[N,3]) => (y: float[N,3]) {\n"
        "  t: float[N,3] = Add(a, float(1.0))  # Add_0\n"
        "  y: float[N,3] = Softmax<axis=1>(t)  # Softmax_1\n"
        "}"
    )


def test_nested_graphs_are_indented() -> None:
    text = format_graph(load_model(text_model("if")).graph)
    assert "\n      z: ? = Relu(a)  # Relu_0\n" in text


@pytest.mark.parametrize("name", TEXTS)
def test_copies_are_equal_and_independent(name: str) -> None:
    model = load_model(text_model(name))
    before = format_graph(model.graph)
    copy = copy_model(model)
    assert format_graph(copy.graph) == before
    copy.graph.release()
    assert format_graph(model.graph) == before


def test_text_that_is_no_model() -> None:
    with pytest.raises(ValueError, match="not an ONNX model in text form"):
        parse_graph("g (")
    deep = f"g ({'seq(' * 100_000}float{')' * 100_000} x) => (float y) {{ y = Relu(x) }}"
    with pytest.raises(ValueError, match="nests deeper than"):
        parse_graph(deep)
