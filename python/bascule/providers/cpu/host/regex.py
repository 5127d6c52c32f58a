# SPDX-License-Identifier: Apache-2.0
"""RegexFullMatch, by RE2."""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.ir.graph import Node
from bascule.providers.cpu.host.re2_patterns import compiled, utf8
from bascule.providers.cpu.host.registry import HostFunction, host_operator


@host_operator("RegexFullMatch")
def regex_full_match(node: Node) -> HostFunction:
    full_match = compiled(node, node.attribute("pattern", "")).fullmatch

    def run(text: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        found = np.empty(text.size, np.bool_)
        for index, item in enumerate(text.flat):
            found[index] = full_match(utf8(item)) is not None
        result: np.ndarray[Any, Any] = found.reshape(text.shape)
        return result

    return run
