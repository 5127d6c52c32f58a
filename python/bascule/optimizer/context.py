# SPDX-License-Identifier: Apache-2.0
"""What passes may ask of the world outside the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from bascule.ir.graph import Node
from bascule.ir.serialize import Definitions

Array = np.ndarray[Any, Any]
Fold = Callable[[Node, list[Union[Array, None]]], list[Array] | None]


@dataclass(frozen=True)
class Context:
    """The caller's answers to passes."""

    fold: Fold | None = None
    """Computes a node on constants; None, as the function or as its result, when it cannot."""
    definitions: Definitions | None = None
    """The functions behind fused nodes, from which their types follow."""
