# SPDX-License-Identifier: Apache-2.0
"""The kernels of the CUDA provider by operator, and which of them takes a node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Union

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node

FLOATS = frozenset((DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16, DataType.DOUBLE))
INTEGERS = frozenset(d for d in DataType if d.is_integer and d.bits >= 8)
NUMBERS = FLOATS | INTEGERS
FIXED_WIDTH = frozenset(d for d in DataType if d not in (DataType.UNDEFINED, DataType.STRING))
"""Everything but strings."""

Accept = Callable[[Node], str]
"""Why a kernel cannot take a node; empty when it can."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """How an operator runs on the device: `function` launches it."""

    name: str
    function: Callable[..., Any]
    dtypes: Collection[DataType]
    host: Collection[int]
    """The inputs that `function` takes as NumPy arrays."""
    weights: Collection[int]
    """The inputs that `function` takes as Weights."""
    synchronizes: bool
    """True when `function` reads results back: it cannot be part of a captured graph."""
    accepts: Accept | None
    updates: Mapping[int, int]
    """Outputs that may lie where the input is of which they are a changed copy."""
    lengths: Mapping[int, int]
    """Host inputs that matter only as far as they exceed axis 2 of another input."""

    def refuses(self, node: Node) -> str:
        """Why this kernel cannot take `node`; empty when it can."""
        first = next((v for v in (*node.inputs, *node.outputs) if v is not None), None)
        if self.dtypes and first is not None and first.dtype not in self.dtypes:
            name = first.dtype.onnx_name if first.dtype is not None else "unknown"
            return f"no kernel for {name}"
        return self.accepts(node) if self.accepts is not None else ""


_KERNELS: dict[tuple[str, str], list[Kernel]] = {}

Factory = Callable[[Node], Union[Kernel, str]]
"""The kernel of a node, or why there is none."""

_factories: dict[tuple[str, str], Factory] = {}


def kernel(
    *op_types: str,
    domain: str = "",
    dtypes: Collection[DataType] = (),
    host: Collection[int] = (),
    weights: Collection[int] = (),
    synchronizes: bool = False,
    accepts: Accept | None = None,
    updates: Mapping[int, int] = MappingProxyType({}),
    lengths: Mapping[int, int] = MappingProxyType({}),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as the kernel of operators.

    The function is called as ``function(call, *inputs)``: a Call, and one Tensor per input of the
    node (None where one is left out; a NumPy array for those numbered in `host`, a Weight for those
    in `weights`; a list for a sequence). It returns a Tensor, or a tuple with one entry per output,
    None for unused ones.

    Args:
        *op_types: operators of `domain`, in their newest form.
        domain: the operators' domain.
        dtypes: the element types of the first input (of the output, without inputs) it can take.
        host: numbers of the inputs whose values are needed on the host, such as sizes and axes.
        weights: numbers of the inputs that may be wanted in another layout.
        synchronizes: it reads device memory back, for results of sizes that depend on values.
        accepts: tells what else stands against a node.
        updates: the inputs by the numbers of the outputs that may be given their memory. The
            function sees it by the address of what it allocates, and then keeps what is there.
        lengths: host inputs of one element, which matter only if they are more than the size of
            axis 2 of an input, by the number of which they have here.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for op_type in op_types:
            made = Kernel(
                *(function.__name__, function, dtypes, frozenset(host), frozenset(weights)),
                *(synchronizes, accepts, updates, lengths),
            )
            _KERNELS.setdefault((domain, op_type), []).append(made)
        return function

    return register


def device_operator(op_type: str, domain: str, factory: Factory | None) -> None:
    """Let an operator's nodes have the kernels that `factory` makes; None takes it away."""
    _factories.pop((domain, op_type), None)
    if factory is not None:
        _factories[domain, op_type] = factory


def find(node: Node) -> tuple[Kernel | None, str]:
    """(the first kernel that takes `node`, "") or (None, the reasons of all)."""
    reasons = []
    factory = _factories.get((node.domain, node.op_type)) if node.binding is None else None
    if factory is not None:
        made = factory(node)
        return (None, made) if isinstance(made, str) else (made, "")
    for candidate in _KERNELS.get((node.domain, node.op_type), ()):
        reason = candidate.refuses(node)
        if not reason:
            return candidate, ""
        reasons.append(reason)
    return None, "; ".join(reasons) or "no kernel for this operator"
