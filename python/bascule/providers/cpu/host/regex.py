# SPDX-License-Identifier: Apache-2.0
"""RegexFullMatch, by RE2: its syntax is the one that the standard names, and its time is linear."""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.errors import InvalidGraph
from bascule.ir.graph import Node
from bascule.providers.cpu.host.registry import HostFunction, Unavailable, host_operator


@host_operator("RegexFullMatch")
def regex_full_match(node: Node) -> HostFunction:
    try:
        import re2
    except ImportError:
        raise Unavailable("RE2 is not installed: pip install google-re2") from None
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    pattern = _utf8(node.attribute("pattern", ""))
    try:
        full_match = re2.compile(pattern, options).fullmatch
    except re2.error as error:
        reason = error.args[0] if error.args else error
        if isinstance(reason, bytes):
            reason = reason.decode("utf-8", "replace")
        raise InvalidGraph(
            f"RegexFullMatch node '{node.name}': the pattern '{node.attribute('pattern', '')}' is "
            f"no regular expression of RE2: {reason}"
        ) from None

    def run(text: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        found = np.empty(text.size, np.bool_)
        for index, item in enumerate(text.flat):
            found[index] = full_match(_utf8(item)) is not None
        result: np.ndarray[Any, Any] = found.reshape(text.shape)
        return result

    return run


def _utf8(text: str) -> bytes:
    """The bytes of a text; those that are no UTF-8 stand in it as surrogates."""
    return text.encode("utf-8", "surrogateescape")
