# SPDX-License-Identifier: Apache-2.0
"""Control flow, sequences and optionals: carriers of every type."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from tests.support.operators import references
from tests.support.operators.case import case, dtype_number
from tests.support.typed import Binding, TypeText, fixed, numbers

_MATRIX = numbers(2, 3)


Body = Callable[[Binding, str], onnx.GraphProto]


def _graph(
    inputs: dict[str, TypeText], outputs: dict[str, tuple[str, TypeText]]
) -> onnx.GraphProto:
    """A graph whose outputs are the values named: themselves where they are no tensors."""
    copied = {n: v for n, v in outputs.items() if not v[1].containers}
    named = {name if name in copied else value[0]: value[1] for name, value in outputs.items()}
    return helper.make_graph(
        [helper.make_node("Identity", [source], [name]) for name, (source, _) in copied.items()],
        "body",
        [helper.make_value_info(name, type.proto()) for name, type in inputs.items()],
        [helper.make_value_info(name, type.proto()) for name, type in named.items()],
    )


def _branch(binding: Binding, captured: str) -> onnx.GraphProto:
    return _graph({}, {"result": (captured, binding["V"])})


def _loop_body(scans: bool) -> Body:
    """The carried value stays; with `scans` each iteration hands it out too."""

    def make(binding: Binding, captured: str) -> onnx.GraphProto:
        flag, carried = TypeText("tensor(bool)"), binding["V"]
        inputs = {"step": TypeText("tensor(int64)"), "on": flag, "carried": carried}
        outputs = {"still_on": ("on", flag), "next": ("carried", carried)}
        return _graph(inputs, outputs | ({"item": ("carried", carried)} if scans else {}))

    return make


def _scan_body(binding: Binding, captured: str) -> onnx.GraphProto:
    type = binding["V"]
    outputs = {"next": ("state", type), "result": ("item", type)}
    return _graph({"state": type, "item": type}, outputs)


def _map_body(binding: Binding, captured: str) -> onnx.GraphProto:
    item, added = TypeText(binding["S"].text[4:-1]), binding["V"]
    if added.is_sequence:
        added = TypeText(added.text[4:-1])
    return _graph({"item": item, "added": added}, {"result": ("item", item)})


def _is_tensor(binding: Binding) -> bool:
    return not binding["V"].containers


def _sequence_matches(binding: Binding) -> bool:
    return (
        "T" not in binding or "S" not in binding or binding["S"].text == f"seq({binding['T'].text})"
    )


def _optional_matches(binding: Binding) -> bool:
    return binding["O"].text in (f"optional({binding['V'].text})", binding["V"].text)


CASES = [
    case("SequenceConstruct", _MATRIX, numbers(4), allows=_sequence_matches),
    case("SequenceEmpty", dtype=dtype_number("S")),
    case("SequenceAt", _MATRIX, fixed(-1), allows=_sequence_matches),
    case("SequenceErase", _MATRIX, fixed(0)),
    case("SequenceInsert", _MATRIX, numbers(4), fixed(1), allows=_sequence_matches),
    case("SequenceLength", _MATRIX),
    case("ConcatFromSequence", _MATRIX, allows=_sequence_matches, axis=1),
    case("SplitToSequence", numbers(5, 3), fixed([2, 3]), allows=_sequence_matches),
    case("Optional", _MATRIX, expect=references.same, allows=_optional_matches),
    case("OptionalGetElement", _MATRIX, allows=_optional_matches),
    case("OptionalHasElement", _MATRIX),
    case("If", fixed(True), captured=_MATRIX, then_branch=_branch, else_branch=_branch),
    case("Loop", fixed(3), fixed(True), _MATRIX, body=_loop_body(scans=False)),
    case(
        "Loop",
        fixed(3),
        fixed(True),
        _MATRIX,
        outputs=2,
        label="scan",
        allows=_is_tensor,
        expect=references.by(lambda trips, on, x: (x, np.stack([x] * 3))),
        body=_loop_body(scans=True),
    ),
    case("Scan", numbers(2), numbers(3, 2), outputs=2, num_scan_inputs=1, body=_scan_body),
    case("SequenceMap", _MATRIX, _MATRIX, body=_map_body),
]
