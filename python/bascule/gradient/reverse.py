# SPDX-License-Identifier: Apache-2.0
"""Reverse-mode differentiation of a graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from bascule import errors
from bascule.gradient.broadcast import sum_to
from bascule.gradient.build import Builder, Term
from bascule.gradient.paths import Paths, find_paths
from bascule.gradient.registry import Refusal, Rule, rule_of
from bascule.ir.check import newest_opsets
from bascule.ir.graph import Graph, Model, Node, Value
from bascule.ir.infer import infer_types
from bascule.ir.inline import inline_call, schema_function

Settle = Callable[[Model], None]
"""Brings nodes that were inlined into the newest form, and infers types."""


def differentiate(
    model: Model,
    ys: Sequence[Value],
    xs: Sequence[Value],
    seeds: Sequence[Value | None] | None = None,
    *,
    graph: Graph | None = None,
    independent: Collection[Value] = (),
    settle: Settle = infer_types,
    allow_unused: bool = True,
) -> list[Value]:
    """The gradient of the sum of all elements of `ys` with respect to each of `xs`.

    Args:
        model: what the values belong to, in the newest form of each operator; types are inferred
            where they are missing. Calls of operators that have no rule, but a definition in
            simpler ones, are replaced by it.
        ys: tensors of floating-point numbers.
        xs: likewise. One may be computed from another, and is differentiated through.
        seeds: what each element of a `y` is multiplied with before it is summed, a tensor of its
            shape; None for ones.
        graph: where the new nodes go, at its end; by default the model's own graph.
        independent: values to be seen as constants by what they are computed from.
        settle: called after definitions have been put in place of calls.
        allow_unused: whether no `y` need depend on one of `xs`.

    Returns:
        For each of `xs` a value of its type and shape; zeros if no `y` depends on it. One value
        may stand for several, and may be a seed.

    Raises:
        InvalidArgument: a value is no tensor of floating-point numbers; or one of `xs` is unused.
        NotImplemented: nodes between `xs` and `ys` have no rule; the message lists them all.
    """
    graph = model.graph if graph is None else graph
    for value in (*ys, *xs):
        if value.dtype is not None and not value.dtype.is_float:
            raise errors.InvalidArgument(
                f"'{value.name}' of type {value.type} cannot be differentiated: its elements are "
                "no floating-point numbers"
            )
    reader = Node("Gradient", [*ys, *xs])  # definitions leave out what nothing reads
    try:
        paths = _expand_definitions(model, ys, xs, independent, settle)
    finally:
        reader.detach()
    names = (node.name for node in model.graph.walk_nodes())
    reverse = _Reverse(Builder(graph, names), paths)
    for y, seed in zip(ys, seeds or [None] * len(ys), strict=True):
        reverse.start(y, seed)
    reverse.run()
    if reverse.refused:
        reverse.build.discard_unused()
        raise errors.NotImplemented(_refusal(reverse.refused, ys, xs, independent))
    unused = [x for x in xs if reverse.total(x) is None]
    if unused and not allow_unused:
        reverse.build.discard_unused()
        raise errors.InvalidArgument(_unused(ys, unused))
    results = [reverse.result(x).value for x in xs]
    reverse.build.discard_unused(results)
    return results


def _expand_definitions(
    model: Model,
    ys: Sequence[Value],
    xs: Sequence[Value],
    independent: Collection[Value],
    settle: Settle,
) -> Paths:
    """Inline the operators without a rule of their own until only such are left as have none."""
    while True:
        paths = find_paths(ys, xs, independent)
        if any(v.shape is None for node in paths.nodes for v in (*node.inputs, *node.outputs) if v):
            settle(model)
            paths = find_paths(ys, xs, independent)
        expanded = False
        for node in paths.nodes:
            if _obstacle(node, paths) and node.graph is not None:
                expanded = _expand(node) or expanded
        if not expanded:
            return paths
        settle(model)


def _expand(node: Node) -> bool:
    """Replace the node by its schema's definition, if it has one."""
    if node.domain not in newest_opsets():
        return False
    function = schema_function(node, newest_opsets()[node.domain])
    if function is None:
        return False
    made = {id(value) for value in function.body.outputs if value.producer is not None}
    if len(made) < len(function.body.outputs):  # an output would become another value
        return False
    inline_call(node, function)
    return True


def _obstacle(node: Node, paths: Paths) -> str:
    """Why the node cannot be differentiated; empty if it can."""
    rule = rule_of(node)
    if rule is None:
        return "it has no rule"
    inputs = [i for i, value in enumerate(node.inputs) if value in paths.active]
    outputs = [i for i, value in enumerate(node.outputs) if value in paths.reached]
    return rule.obstacle(node, inputs, outputs)


class _Reverse:
    """One pass from `ys` back to `xs`."""

    def __init__(self, build: Builder, paths: Paths) -> None:
        self.build = build
        self._paths = paths
        self._parts: dict[Value, list[Term]] = {}
        self.refused: list[tuple[Node, str]] = []

    def start(self, y: Value, seed: Value | None) -> None:
        term = self.build(y)
        if seed is None:
            one = self.build.number(1, term.dtype)
            self.add(y, one if y.rank == 0 else self.build.expand_like(one, term))
        else:
            self.add(y, self.build(seed))

    def add(self, value: Value, part: Term) -> None:
        """`part` is a summand of the gradient with respect to `value`."""
        if value.dtype is not None:
            part = self.build.cast(part, value.dtype)
        if part.value.shape is None and value.type is not None:
            part.value.type = value.type
        self._parts.setdefault(value, []).append(part)

    def total(self, value: Value) -> Term | None:
        """The gradient with respect to `value`, None if it is zero."""
        parts = self._parts.get(value, [])
        if len(parts) > 1:
            total = self.build.op("Sum", *parts)
            total.value.type = value.type
            parts[:] = [total]
        return parts[0] if parts else None

    def result(self, x: Value) -> Term:
        self.build.node = None
        return self.total(x) or self.build.zeros_like(self.build(x))

    def run(self) -> None:
        for node in reversed(self._paths.nodes):
            self.build.node = node
            outputs = [v for v in node.outputs if v in self._paths.reached]
            if not any(v in self._parts for v in outputs):
                continue
            obstacle = _obstacle(node, self._paths)
            rule = rule_of(node)
            if obstacle or rule is None:
                self._refuse(node, obstacle)
                continue
            try:
                self._apply(rule, node)
            except Refusal as refusal:
                self._refuse(node, str(refusal))

    def _apply(self, rule: Rule, node: Node) -> None:
        dys = [self.total(value) for value in node.outputs]
        dy = dys if rule.outputs > 1 else dys[0]
        if not self._wanted(node):
            return
        found = rule.apply(node, dy, self.build)
        for value, part in zip(node.inputs, found):
            if value is None or part is None or value not in self._paths.active:
                continue
            if rule.broadcasts:
                part = sum_to(self.build, part, self.build(node.output), self.build(value))
            self.add(value, part)

    def _wanted(self, node: Node) -> bool:
        return any(value in self._paths.active for value in self._paths.reads[node])

    def _refuse(self, node: Node, reason: str) -> None:
        """Go on as if the gradient were some tensor of the right shape, to find all that fails."""
        self.refused.append((node, reason))
        for value in self._paths.reads[node]:
            if value in self._paths.active:
                self._parts.setdefault(value, []).append(self.build(value))


def _unused(ys: Sequence[Value], xs: Sequence[Value]) -> str:
    names = [", ".join(f"'{value.name}'" for value in values) for values in (ys, xs)]
    verb = "do" if len(ys) > 1 else "does"
    return f"{names[0]} {verb} not depend on {names[1]}, so there is nothing to differentiate"


def _refusal(
    refused: list[tuple[Node, str]],
    ys: Sequence[Value],
    xs: Sequence[Value],
    independent: Collection[Value],
) -> str:
    """One report of every node that stands in the way."""
    count = f"{len(refused)} nodes" if len(refused) > 1 else "a node"
    lines = [f"The gradient cannot be computed because of {count}:"]
    for node, reason in refused:
        domain = f"{node.domain}." if node.domain else ""
        y = next(y for y in ys if node in find_paths([y], xs, independent).reads)
        x = next(x for x in xs if node in find_paths([y], [x], independent).nodes)
        lines.append(
            f"  {domain}{node.op_type} '{node.name}': {reason} "
            f"('{y.name}' depends by it on '{x.name}')"
        )
    return "\n".join(lines)
