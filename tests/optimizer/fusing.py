# SPDX-License-Identifier: Apache-2.0
"""Graphs in ONNX text before and after a fusion, run on the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import onnx
import onnx.inliner
from onnx.reference import ReferenceEvaluator

from bascule.ir.graph import Graph, Model
from bascule.ir.save import to_proto
from bascule.optimizer.context import Context
from bascule.optimizer.fused import definition
from bascule.optimizer.passes import Pass
from tests.optimizer.graphs import (
    assert_close,
    feeds_for,
    parse,
    reference_fold,
    run_passes,
    type_of,
)

CONTEXT = Context(reference_fold, definition)


def ops(graph: Graph) -> Counter[str]:
    """How often each operator stands in `graph`; fused ones with their domain."""
    return Counter(f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in graph)


def run_expanded(model: Model, feeds: dict[str, Any]) -> Sequence[Any]:
    """The outputs by the reference evaluator, with fused nodes replaced by their definitions."""
    proto = onnx.inliner.inline_local_functions(to_proto(model, definitions=definition))
    for info in proto.graph.input:
        array_type = type_of(feeds[info.name])
        for dim, size in zip(info.type.tensor_type.shape.dim, array_type.shape or ()):
            dim.dim_value = size  # operators with a function body need to know their types
    typed = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    if all(info.type.tensor_type.HasField("shape") for info in typed.graph.output):
        onnx.checker.check_model(typed)
    return ReferenceEvaluator(typed).run(None, feeds)  # type: ignore[no-any-return]


def fuse(text: str, *passes: Pass, feeds: dict[str, Any] | None = None) -> Model:
    """`text` after `passes`, which must not change what it computes."""
    before, after = parse(text, definition), parse(text, definition)
    run_passes(after, *passes, context=CONTEXT)
    numbers = {**feeds_for(before), **(feeds or {})}
    assert_close(run_expanded(after, numbers), run_expanded(before, numbers))
    return after


def assert_fused(text: str, *passes: Pass, to: dict[str, int], **keywords: Any) -> Model:
    """`text` becomes exactly the operators `to`, and computes the same."""
    model = fuse(text, *passes, **keywords)
    assert ops(model.graph) == Counter(to), ops(model.graph)
    return model


def assert_kept(text: str, *passes: Pass) -> None:
    """None of `passes` finds anything in `text`."""
    before, after = parse(text, definition), parse(text, definition)
    run_passes(after, *passes, context=CONTEXT)
    assert ops(after.graph) == ops(before.graph)
