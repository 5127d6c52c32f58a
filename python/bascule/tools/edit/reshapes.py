# SPDX-License-Identifier: Apache-2.0
"""Constants in which a size is baked in that has become dynamic.

A Reshape to ``[1, 12, 64]`` of what was ``[1, 768]`` and is now ``[batch, 768]`` fails for any
other batch, or mixes up samples where a -1 hides it. Its target is mended only where input and
output, cut into the smallest groups of axes with equal products, leave one reading: the dynamic
axis is a group of its own and meets one axis, which is then copied; it is merged with the axes that
it can only be merged with; or it leads a merged axis that is split again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from bascule.ir.constant import Constant
from bascule.ir.types import Dim, Shape, TensorType, Type
from bascule.tools.edit.baked import integers, scopes
from bascule.tools.edit.change import Change, prune
from bascule.tools.edit.document import Document
from bascule.tools.edit.names import all_names, constant_tensor, fresh, label, reads
from bascule.tools.edit.types import downstream, infer, show

Types = Mapping[str, Type]
MENDED = "the target is now"
"""Stands in notes on what was mended."""

_MAX_ROUNDS = 500
_TIMES = "*"
"""Between name and factor in the name of a merged size."""


@dataclass(frozen=True)
class Mended:
    """The types of values before sizes were freed, and afterwards.

    `facts` are those afterwards that inference does not find; a size may be a name and a factor, as
    ``batch*12``.
    """

    old: Types
    new: Types
    facts: Types


def mend_reshapes(
    before: Document,
    after: Document,
    change: Change,
    roots: set[str],
    mend: bool,
) -> Mended:
    """Mend what can be, and note the rest.

    `roots` are the inputs whose sizes were numbers before, and have names now.
    """
    old = infer(before)
    facts: dict[str, Type] = {}
    for _ in range(_MAX_ROUNDS):
        stale = downstream(after.proto.graph, roots)
        new = infer(after, stale, facts=facts)
        unclear: list[str] = []
        progress = 0
        for graph, node, target in list(_reshapes(after)):
            try:
                found = _better(node, target, old, new)
            except _Unclear as reason:
                unclear.append(_told(node, target, reason, old, new))
                continue
            if found is None:
                continue
            better, type = found
            if better != target and not mend:
                unclear.append(_told(node, target, f"{better} would do", old, new))
                continue
            if better != target:
                _set_target(after, graph, node, better, change)
                change.note(f"{label(node)}: {MENDED} {better}, which was {target}")
                progress += 1
            name = node.output[0]
            if type is not None and type != new.get(name) and graph is after.proto.graph:
                progress += facts.get(name) != type
                facts[name] = type
        if not progress:
            break
    for text in unclear:
        change.note(text)
    return Mended(old, new, facts)


def _reshapes(
    document: Document,
) -> Iterator[tuple[onnx.GraphProto, onnx.NodeProto, list[int]]]:
    """The nodes that have a constant target, with it."""
    for graph, constants in scopes(document.proto.graph):
        for node in graph.node:
            if node.op_type in ("Reshape", "Expand") and not node.domain and len(node.input) > 1:
                target = integers(document, constants, node.input[1])
                if target is not None:
                    yield graph, node, target


class _Unclear(Exception):
    """A target that holds a size, and cannot be mended with certainty."""


def _told(
    node: onnx.NodeProto, target: Sequence[int], reason: object, old: Types, new: Types
) -> str:
    types = f"{show(old.get(node.input[0]))} before, {show(new.get(node.input[0]))} now"
    return f"{label(node)} has the constant target {list(target)}, and reads {types}: {reason}"


def _better(
    node: onnx.NodeProto, target: Sequence[int], old: Types, new: Types
) -> tuple[list[int], Type | None] | None:
    """A target without sizes that are dynamic now, and the type that it gives, if that is known.

    None where no size that the node reads is dynamic now.
    """
    was, now = old.get(node.input[0]), new.get(node.input[0])
    if not isinstance(was, TensorType) or not isinstance(now, TensorType):
        return None
    if was.shape is None or now.shape is None or len(was.shape) != len(now.shape):
        return None
    pairs = zip(was.shape, now.shape)
    moving = {i for i, (a, b) in enumerate(pairs) if isinstance(a, int) and not isinstance(b, int)}
    if not moving:
        return None
    if node.op_type == "Expand":
        better = _expanded(was.shape, moving, target)
        return better, None
    sizes = _static(was.shape)
    if sizes is None:
        raise _Unclear("its sizes are not all known")
    if 0 in sizes:
        raise _Unclear("it has no elements")
    zero_is_size = any(a.name == "allowzero" and a.i for a in node.attribute)
    made = _made(sizes, target, zero_is_size)
    plan = _Reshape(sizes, made, now.shape, moving, list(target), zero_is_size)
    return plan.target(), TensorType(now.dtype, tuple(plan.shape))


def _static(shape: Shape | None) -> list[int] | None:
    found = [dim for dim in shape or () if isinstance(dim, int)]
    return found if shape is not None and len(found) == len(shape) else None


def _made(sizes: list[int], target: Sequence[int], zero_is_size: bool) -> list[int]:
    """The shape that a target gives."""
    made = [sizes[i] if t == 0 and not zero_is_size and i < len(sizes) else t
            for i, t in enumerate(target)]  # fmt: skip
    total, rest = math.prod(sizes), math.prod(size for size in made if size != -1)
    if rest == 0 or total % rest or (-1 not in made and total != rest):
        raise _Unclear("it does not fit what it reads")
    return [total // rest if size == -1 else size for size in made]


def _expanded(shape: Shape, moving: set[int], target: Sequence[int]) -> list[int]:
    """Of Expand: an axis that had the size already keeps what it has if 1 is asked for."""
    better = list(target)
    for axis in moving:
        place = axis + len(target) - len(shape)
        if place >= 0 and shape[axis] == better[place]:
            better[place] = 1
    return better


@dataclass
class _Reshape:
    """A Reshape from `sizes` to `made`, whose input is now of shape `now`."""

    sizes: list[int]
    made: list[int]
    now: Shape
    moving: set[int]
    """The input's axes that are dynamic now."""
    asked: list[int]
    """The target."""
    zero_is_size: bool

    def __post_init__(self) -> None:
        self.shape: list[Dim] = list(self.made)
        """The output's shape by the new target."""

    def target(self) -> list[int]:
        """A target that holds no size of `moving`, the same if it did not."""
        better = list(self.asked)
        groups = list(_groups(self.sizes, self.made))
        for index, (ins, outs) in enumerate(groups):
            if not self.moving.intersection(ins):
                continue
            if self._is_computed(ins, outs):
                continue
            if len(ins) == len(outs) == 1:
                place, value = self._copied(ins[0], outs[0])
            elif len(outs) == 1:
                place, value = self._merged(ins, outs[0], index == 0)
            elif len(ins) == 1 and outs:
                place, value = self._split(ins[0], outs)
            else:
                raise _Unclear("the dynamic axis is mixed with others")
            better[place] = value
        if better.count(-1) > 1:
            for ins, outs in groups:  # what does not move need not be computed
                for place in outs:
                    if self.asked[place] == -1 and not self.moving.intersection(ins):
                        better[place] = self.made[place]
        if better.count(-1) > 1:
            raise _Unclear("more than one of its sizes would have to be computed")
        return better

    def _is_computed(self, ins: list[int], outs: list[int]) -> bool:
        """Whether the target leaves the size open already, and nothing has to be mended."""
        if not self.zero_is_size and len(outs) == 1 and self.asked[outs[0]] == 0:
            self.shape[outs[0]] = self.now[outs[0]]
            return True
        place = next((place for place in outs if self.asked[place] == -1), None)
        if place is None:
            return False
        self.shape[place] = None
        if len(outs) == 1:
            self.shape[place] = self._product(ins)
        elif len(ins) == 1 and place == outs[0]:
            name, factor = self._factors(ins[0])
            inner = math.prod(self.made[other] for other in outs[1:])
            self.shape[place] = name if factor == inner else None
        return True

    def _product(self, axes: list[int]) -> Dim:
        """The size of axes that are merged: a name, if the first has one, and a factor."""
        leading, rest = self.now[axes[0]], [self.now[axis] for axis in axes[1:]]
        if not isinstance(leading, str) or not all(isinstance(dim, int) for dim in rest):
            return None
        factor = math.prod(self.sizes[axis] for axis in axes[1:])
        return f"{leading}{_TIMES}{factor}" if factor != 1 else leading

    def _factors(self, axis: int) -> tuple[str, int]:
        """Name and factor of the size of an axis that was merged before."""
        dim = self.now[axis]
        name, times, factor = dim.rpartition(_TIMES) if isinstance(dim, str) else ("", "", "")
        return (name, int(factor)) if times and factor.isdecimal() else ("", 0)

    def _copied(self, axis: int, place: int) -> tuple[int, int]:
        """An axis that stays one."""
        if self.sizes[axis] == 1 and len(_ones(self.made, place)) > len(_ones(self.sizes, axis)):
            raise _Unclear(_either(self.made, place))
        self.shape[place] = self.now[axis]
        return place, 0 if axis == place and not self.zero_is_size else -1

    def _merged(self, ins: list[int], place: int, is_first: bool) -> tuple[int, int]:
        """Several axes that become one."""
        first = min(self.moving.intersection(ins))
        if self.sizes[first] == 1 and not (is_first and math.prod(self.sizes[:first]) == 1):
            raise _Unclear("the dynamic axis may be merged with that before or behind it")
        self.shape[place] = self._product(ins)
        return place, -1

    def _split(self, axis: int, outs: list[int]) -> tuple[int, int]:
        """An axis that was merged before, and is split again."""
        name, factor = self._factors(axis)
        if factor != math.prod(self.made[place] for place in outs[1:]):
            raise _Unclear("the dynamic axis is split")
        if self.made[outs[0]] == 1 and len(_ones(self.made, outs[0])) > 1:
            raise _Unclear(_either(self.made, outs[0]))
        self.shape[outs[0]] = name
        return outs[0], -1


def _groups(sizes: list[int], made: list[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Input and output axes in the smallest groups with equal products, in order."""
    i = j = 0
    while i < len(sizes) and j < len(made):
        ins, outs = [i], [j]
        a, b = sizes[i], made[j]
        while a != b:
            if a < b and ins[-1] + 1 < len(sizes):
                ins.append(ins[-1] + 1)
                a *= sizes[ins[-1]]
            elif a > b and outs[-1] + 1 < len(made):
                outs.append(outs[-1] + 1)
                b *= made[outs[-1]]
            else:
                raise _Unclear("it does not fit what it reads")
        yield ins, outs
        i, j = ins[-1] + 1, outs[-1] + 1
    for axis in range(i, len(sizes)):  # of size 1
        yield [axis], []
    for place in range(j, len(made)):
        yield [], [place]


def _ones(sizes: Sequence[int], axis: int) -> list[int]:
    """The axes of size 1 that stand in a row with this one."""
    first, last = axis, axis
    while first > 0 and sizes[first - 1] == 1:
        first -= 1
    while last + 1 < len(sizes) and sizes[last + 1] == 1:
        last += 1
    return list(range(first, last + 1))


def _either(made: Sequence[int], place: int) -> str:
    axes = " or ".join(map(str, _ones(made, place)))
    return f"its axis {axes} may be the dynamic one"


def _own_tensor(graph: onnx.GraphProto, name: str) -> onnx.TensorProto | None:
    """The tensor behind a constant that this graph itself has."""
    for tensor in graph.initializer:
        if tensor.name == name:
            return tensor
    for node in graph.node:
        if name in node.output:
            return constant_tensor(node)
    return None


def _set_target(
    document: Document,
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    target: list[int],
    change: Change,
) -> None:
    """Let a node have this target, and no other node that shares the constant."""
    name = node.input[1]
    constant = Constant.from_numpy(np.array(target, np.int64))
    tensor = _own_tensor(graph, name)
    readers = sum(name in reads(each) for each in graph.node)
    readers += sum(info.name == name for info in graph.output)
    if readers == 1 and tensor is not None:
        document.set_tensor(tensor, constant)
        return
    own = fresh(f"{name}_{node.output[0]}", all_names(document.proto))
    document.set_tensor(graph.initializer.add(name=own), constant)
    if document.proto.ir_version <= 3 and graph is document.proto.graph:
        info = graph.input.add(name=own)
        info.CopyFrom(onnx.helper.make_tensor_value_info(own, 7, [len(target)]))
    node.input[1] = own
    prune(document.proto, change, [name])
