# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import onnx
import pytest

from bascule.ir.infer import infer_types
from bascule.ir.load import load_model
from bascule.ir.skeleton import SkeletonWriter
from tests.ir.models import TEXTS, text_model

ROUNDS = ((False, False), (True, False), (True, True), (True, False), (False, False))
"""Whether types are known, and whether computed shapes are followed."""


@pytest.mark.parametrize("name", TEXTS)
def test_each_round_is_written_as_by_a_writer_of_its_own(name: str) -> None:
    model = load_model(text_model(name))
    infer_types(model)
    writer = SkeletonWriter(model, None)

    def written(by: SkeletonWriter, types_known: bool, compute_shapes: bool) -> onnx.ModelProto:
        return by.write_round({}, types_known=types_known, compute_shapes=compute_shapes)

    for each in ROUNDS:
        assert written(writer, *each) == written(SkeletonWriter(model, None), *each)


def test_a_node_is_written_once() -> None:
    model = load_model(text_model("chain"))
    writer = SkeletonWriter(model, None)
    first = writer.write_round({}, types_known=False)
    model.graph.nodes[0].op_type = "Gemm"  # a writer does not look at it again
    second = writer.write_round({}, types_known=True)
    assert [node.op_type for node in second.graph.node] == ["MatMul", "Relu"]
    assert second.graph.node == first.graph.node
