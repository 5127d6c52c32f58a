# SPDX-License-Identifier: Apache-2.0
"""Models that call operators of the test libraries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

import bascule
from tests.api.models import model, tensor


def call(
    name: str,
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
    domain: str = "test",
    **attributes: Any,
) -> onnx.NodeProto:
    return helper.make_node(name, inputs, outputs, name="here", domain=domain, **attributes)


def graph(
    *nodes: onnx.NodeProto,
    inputs: Any = None,
    outputs: Any = None,
    version: int = 1,
    **more: Any,
) -> onnx.ModelProto:
    """Of ``x`` (float[n,3]) and ``y`` (of nodes' first output's type), unless it is told."""
    domains = [("test", version), ("test.factor", 1)]
    inputs = [tensor("x")] if inputs is None else inputs
    outputs = [tensor("y", TensorProto.FLOAT, None)] if outputs is None else outputs
    return model(nodes, inputs, outputs, domains=domains, **more)


def session(
    proto: onnx.ModelProto, *libraries: Path, options: bascule.SessionOptions | None = None
) -> bascule.InferenceSession:
    """A session that knows the operators of these libraries."""
    options = bascule.SessionOptions() if options is None else options
    for library in libraries:
        options.register_custom_ops_library(str(library))
    return bascule.InferenceSession(proto.SerializeToString(), options)
