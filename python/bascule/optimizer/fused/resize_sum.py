# SPDX-License-Identifier: Apache-2.0
"""The sum of images that are resized to one size."""

from __future__ import annotations

import numpy as np

from bascule.ir.graph import Node
from bascule.optimizer.fused.body import Body


def define_resize_sum(node: Node) -> Body:
    """``Resize(X1, sizes) + Resize(X2, sizes) + ...``."""
    names = [f"X{index + 1}" for index in range(len(node.inputs))]
    body = Body(node, *names)
    attributes = {name: value for name, value in node.attributes.items() if name != "sizes"}
    sizes = body.constant(np.array(node.attribute("sizes"), np.int64))
    total = None
    for name in names:
        image = body.call("Resize", body.input(name), None, None, sizes, **attributes)
        total = image if total is None else body.call("Add", total, image)
    assert total is not None
    return body.output(total)
