# SPDX-License-Identifier: Apache-2.0
"""Runs the passes of each stage until nothing changes."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from bascule.errors import Fail
from bascule.ir.graph import Graph, Model, Node
from bascule.ir.infer import infer_types
from bascule.optimizer.context import Context, Spoiled
from bascule.optimizer.passes import Pass, Stage
from bascule.optimizer.report import Report
from bascule.optimizer.rewrite import Rule
from bascule.optimizer.verifier import verify as verify_graph

_ROUNDS = 16
"""How often a stage is repeated at most; real models need two to four rounds."""


class PassError(Fail):
    """A pass failed; the message names it and the node."""


def run_stages(
    model: Model,
    stages: Sequence[Stage],
    context: Context,
    *,
    disabled: Collection[str] = (),
    repeats: bool = True,
    verify: bool = False,
) -> Report:
    """Run `stages` on `model`, leaving out the passes named in `disabled`.

    Each stage runs until nothing changes, without `repeats` once. With `verify` the structure of
    the graph is checked after every change.
    """
    runner = _Runner(model.graph, context, verify)
    most = _ROUNDS if repeats else 1
    for stage in stages:
        passes = [each for each in stage.passes if each.name not in disabled]
        with _timed(context, "stage", stage.name):
            changed = runner.run(passes)
            rounds = 1
            while changed and rounds <= most:
                with (
                    _named(f"type inference after stage '{stage.name}'"),
                    _timed(context, "inference", "types"),
                ):
                    infer_types(
                        model, context.definitions, check=False, settled=True, from_file=False
                    )
                if rounds == most:
                    break
                changed = runner.run(passes)
                rounds += 1
    for graph in model.graph.walk_graphs():
        graph.remove_unused_initializers()
    return runner.report


class _Runner:
    def __init__(self, graph: Graph, context: Context, verify: bool) -> None:
        self.report = Report()
        self._graph = graph
        self._context = context
        self._verify = verify

    def run(self, passes: Sequence[Pass]) -> bool:
        """Run each pass once, neighbouring rules together; True when something changed."""
        changed = False
        rules: list[Rule] = []
        for each in passes:
            if isinstance(each, Rule):
                rules.append(each)
                continue
            changed |= self._apply_rules(rules)
            rules = []
            check = self._context.check
            if check is not None and check.is_dropped(each.name):
                continue
            with _named(f"pass '{each.name}'"), _timed(self._context, "pass", each.name):
                count = int(each.function(self._graph, self._context))
                self._changed(each, count)
            if count and check is not None and not check.graph(each.name, self._graph):
                raise Spoiled
            changed |= count > 0
        return self._apply_rules(rules) or changed

    def _apply_rules(self, rules: Sequence[Rule]) -> bool:
        if not rules:
            return False
        by_root = _by_root(rules)
        changed = False
        with _timed(self._context, "rules", f"{len(rules)} rules"):
            for graph in list(self._graph.walk_graphs()):
                for node in graph:
                    for each in by_root.get((node.domain, node.op_type), ()):
                        changed |= self._apply_rule(each, node)
                        if node.graph is None:
                            break
        return changed

    def _apply_rule(self, rule: Rule, node: Node) -> bool:
        note = self._context.note
        begin = 0 if note is None else time.monotonic_ns()
        try:  # not by _named(), which takes longer than most rules
            if not rule.apply(node, self._context, self.report):
                return False
            self._changed(rule, 1)
            if note is not None:
                note("rewrite", rule.name, begin, time.monotonic_ns(), node.name)
            return True
        except Spoiled:
            raise
        except Exception as error:
            at = f"at node '{node.name}' ({node.op_type})"
            raise PassError(f"pass '{rule.name}' failed {at}: {error}") from error

    def _changed(self, each: Pass, count: int) -> None:
        self.report.change(each.name, count)
        if count and self._verify:
            verify_graph(self._graph)


def _by_root(rules: Sequence[Rule]) -> dict[tuple[str, str], list[Rule]]:
    """The rules to try on a node, by its operator."""
    found: dict[tuple[str, str], list[Rule]] = {}
    for each in rules:
        for root in each.patterns:
            for op_type in root.op_types:
                bucket = found.setdefault((root.domain, op_type), [])
                if each not in bucket:
                    bucket.append(each)
    return found


@contextmanager
def _timed(context: Context, category: str, name: str) -> Iterator[None]:
    if context.note is None:
        yield
        return
    begin = time.monotonic_ns()
    yield
    context.note(category, name, begin, time.monotonic_ns())


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise PassError(f"{what} failed: {error}") from error
