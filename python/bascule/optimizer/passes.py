# SPDX-License-Identifier: Apache-2.0
"""What a pass, a stage and a level are."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Union

from bascule.ir.graph import Graph
from bascule.optimizer.context import Context
from bascule.optimizer.rewrite import Rule


class Level(enum.IntEnum):
    """How much is done; each level includes the ones before."""

    DISABLED = 0
    BASIC = 1
    EXTENDED = 2
    ALL = 99


@dataclass(frozen=True)
class GraphPass:
    """A pass over a whole graph, nested graphs included; returns how much it changed."""

    name: str
    function: Callable[[Graph, Context], int]
    module: str


Pass = Union[Rule, GraphPass]


def graph_pass(function: Callable[[Graph, Context], int]) -> GraphPass:
    """Make a pass over whole graphs, named like the function."""
    return GraphPass(function.__name__, function, function.__module__)


@dataclass(frozen=True)
class Stage:
    """Passes that run in this order, again and again until none changes anything."""

    name: str
    level: Level
    passes: tuple[Pass, ...]
