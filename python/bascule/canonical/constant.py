# SPDX-License-Identifier: Apache-2.0
"""Constant nodes become initializers of their graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.canonical.builder import Builder
from bascule.canonical.registry import EVERY_VERSION, rewrite
from bascule.ir.constant import Constant
from bascule.ir.graph import AttributeReference, Node, SparseConstant, Value
from bascule.ir.tensors import densify

_FORMS: dict[str, Any] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": object,
    "value_strings": object,
}


@rewrite("Constant", until=EVERY_VERSION)
def constant(node: Node, build: Builder) -> None:
    if len(node.attributes) != 1:
        raise build.invalid("exactly one of the value attributes must be given")
    ((name, attribute),) = node.attributes.items()
    if isinstance(attribute, AttributeReference):
        return
    if isinstance(attribute, Constant):
        data = attribute
    elif isinstance(attribute, SparseConstant):
        data = densify(attribute, node.name)
    else:
        data = Constant.from_numpy(np.array(attribute, dtype=_FORMS[name]))
    old = node.output
    new = Value(constant=data)
    # An output of the graph keeps its name, and reads the constant through an Identity.
    new.name = build.graph.fresh_name(old.name) if old.is_graph_output else old.name
    new.metadata = old.metadata
    build.graph.add_initializer(new)
    old.replace_uses(new)
    build.graph.remove(node)
