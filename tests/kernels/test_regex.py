# SPDX-License-Identifier: Apache-2.0
"""RegexFullMatch, by the rules of RE2."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import onnx
import pytest

import bascule
from bascule import errors
from tests.support.native import run_node

WORDS = ["", "a", "abc", "Abc", "a b", "äöü", "日本語", "x@y.org", "a\nb", "a\0b", "\0", "1" * 1000]


def text(*values: Any) -> np.ndarray:
    return np.array(values, dtype=object)


def matches(pattern: str, values: np.ndarray) -> np.ndarray:
    (result,) = run_node("RegexFullMatch", [values], {"pattern": pattern}, runs=2)
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.bool_
    assert result.shape == values.shape
    return result


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a",
        "[a-z]+",
        "(?i)ABC",
        ".*",
        "(?s).*",
        "[^b]*",
        "a|abc",
        "(a)(b)?(c)?",
        r"\w+@\w+\.(org|net)",
        "[äöü]{3}",
        "...",
        "日.語",
        "a\0b",
        r"a\x00b",
        r"\d{1000}",
        "^abc$",
    ],
)
def test_what_python_matches_too(pattern: str) -> None:
    expected = [re.fullmatch(pattern, word, re.ASCII) is not None for word in WORDS]
    assert matches(pattern, text(*WORDS)).tolist() == expected


def test_where_re2_differs() -> None:
    assert matches(r"\pL+", text("äb", "a1")).tolist() == [True, False]
    assert matches(r"a\z", text("a", "a\n")).tolist() == [True, False]
    assert matches("abc$", text("abc", "abc\n")).tolist() == [
        True,
        False,
    ]  # no end before a newline


def test_time_is_linear() -> None:
    assert not matches("(a*)*b", text("a" * 20000)).any()


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3), (), (2, 3)])
def test_shapes(shape: tuple[int, ...]) -> None:
    values = np.full(shape, "ab", object)
    assert matches("ab", values).all()
    assert not matches("b", values).any()


def test_bytes_that_are_no_text() -> None:
    """A constant may hold any bytes; no character class matches one that is no UTF-8."""
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.STRING, dims=[3])
    tensor.string_data.extend([b"a\xff", b"\xc3\xa4", b"\xff"])
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("RegexFullMatch", ["w"], ["y"], pattern=".+")],
        "g",
        [],
        [helper.make_tensor_value_info("y", onnx.TensorProto.BOOL, [3])],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = bascule.InferenceSession(model.SerializeToString())
    assert session.run(None, {})[0].tolist() == [False, True, False]


HEADER = '<ir_version: 10, opset_import: ["" : 21]>'


def make(pattern: str) -> bascule.InferenceSession:
    body = "g (string[N] a) => (bool[N] y) { y = RegexFullMatch(a) }"
    model = onnx.parser.parse_model(HEADER + body)
    model.graph.node[0].name = "the_node"
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("pattern", pattern))
    return bascule.InferenceSession(model.SerializeToString())


def test_in_a_session() -> None:
    (result,) = make("[ab]+").run(None, {"a": text("ab", "", "abc")})
    assert result.tolist() == [True, False, False]
    assert make("a").run(None, {"a": text()})[0].shape == (0,)


@pytest.mark.parametrize(
    "pattern", ["(", "[a", "a**", "(?=a)", r"\1", "a{2000}", r"\pX", "(" * 2000]
)
def test_an_invalid_pattern_makes_no_session(
    pattern: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(errors.InvalidGraph) as caught:
        make(pattern)
    assert "RegexFullMatch node 'the_node'" in str(caught.value)
    assert pattern in str(caught.value)
    assert "is no regular expression of RE2" in str(caught.value)
    assert capfd.readouterr().err == ""


def test_without_re2_no_session_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(errors.NotImplemented, match=r"'the_node'(?s:.*)pip install google-re2"):
        make("a")


def test_re2_is_imported_only_for_the_operator() -> None:
    import subprocess

    code = (
        "import sys, onnx.parser, bascule\n"
        f"m = onnx.parser.parse_model('{HEADER} g (float[2] a) => (float[2] y) {{ y = Neg(a) }}')\n"
        "bascule.InferenceSession(m.SerializeToString())\n"
        "assert not {'re2', 'PIL'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
