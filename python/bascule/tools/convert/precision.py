# SPDX-License-Identifier: Apache-2.0
"""float16 and bfloat16 within a budget of error: which nodes have to stay float32, by measuring.

A trial converts the model with a list of nodes that stay, and runs it, each node by itself, beside
the float32 model. Where nothing needs to stay there is one trial. Else nodes are ranked: by
overflows, then by what the part of the graph that holds them does to the outputs when it alone is
narrow, shared among its nodes by their errors on rounded inputs. Of this ranking the shortest
beginning that meets the budget is found by bisection, and what turns out not to be needed in it is
taken out again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from bascule.errors import Fail, InvalidArgument
from bascule.ir.constant import Constant
from bascule.ir.replaced import PRODUCTS
from bascule.ir.walk import graphs_in
from bascule.tools.convert.candidates import Candidates, node_key
from bascule.tools.convert.document import Document
from bascule.tools.convert.local import LocalError, local_errors
from bascule.tools.convert.nodes import inline
from bascule.tools.convert.outputs import (
    AnyFeeds,
    Feeds,
    all_feeds,
    errors_of,
    plain_session,
    run_all,
)
from bascule.tools.convert.rewrite import (
    BFLOAT,
    HALF,
    TYPE_NAMES,
    Rewriting,
    narrow_array,
    narrow_tensor,
)

TYPES = {"float16": HALF, "bfloat16": BFLOAT}

SMALLEST = {HALF: 5.96e-08, BFLOAT: 0.0}
"""Weights nearer to zero are moved to this size: an epsilon must not vanish."""

_PARTS = 24
"""Parts of the graph that are measured alone."""

_FEWER_TRIALS = 32
"""Trials that look for nodes that need not stay."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class KeptNode:
    """A node that stays in float32."""

    name: str
    op_type: str
    reason: str
    """``overflow``, ``budget``, ``between`` (nodes that stay), ``operator``."""
    text: str
    """The reason in words."""
    error: float
    """Its error on rounded inputs, as a part of its largest element; 0 where not measured."""
    source: str = ""
    """The exporter's source line."""


@dataclass
class Precision:
    """What was converted to a narrow type, and what it costs."""

    to: str
    """``float16`` or ``bfloat16``."""
    budget: float
    """The error of an output that was allowed, as a part of its largest element."""
    error: float
    """The largest error of an output, as errors_of in outputs.py tells it."""
    outputs: dict[str, float]
    """The error of each output, by name."""
    nodes: int
    """Nodes that computed in float32."""
    kept: list[KeptNode] = field(default_factory=list)
    """The nodes that stay in float32, and why."""
    trials: int = 0
    """How often the model was converted and measured."""
    inlined: int = 0
    """Functions of the model whose calls were replaced by what they do."""


def convert_precision(
    document: Document,
    to: str,
    *,
    budget: float,
    feeds: AnyFeeds | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    keep_io_types: bool | Collection[str] = False,
    progress: Progress | None = None,
) -> tuple[Document, Precision]:
    """A narrow copy of a model, within the budget; the arguments are those of convert().

    Raises:
        Fail: the budget cannot be met, even with every node in float32.
        InvalidArgument: an argument does not fit.
    """
    if to not in TYPES:
        raise InvalidArgument(f"to is '{to}', which is none of {', '.join(TYPES)}")
    if not budget > 0:
        raise InvalidArgument(f"budget is {budget}; expected a number above 0, as 1e-3")
    version = next(
        (i.version for i in document.proto.opset_import if i.domain in ("", "ai.onnx")), 0
    )
    if to == "bfloat16" and 0 < version < 13:
        raise InvalidArgument(f"bfloat16 came with opset 13, and the model has {version}: raise it")
    document, inlined = inline(document)
    session = plain_session(document)
    sets = all_feeds(session, feeds, dims, seed)
    wanted = run_all(session, sets)
    del session  # it holds all weights
    search = _Search(document, TYPES[to], budget, sets, wanted, keep_io_types, progress)
    blocks = search.find()
    made = search.convert(blocks)
    errors = search.errors(made)
    precision = Precision(
        to,
        budget,
        max(errors.values(), default=0.0),
        errors,
        search.float_nodes,
        search.described(blocks),
        search.trials,
        inlined,
    )
    return made, precision


class _Search:
    def __init__(
        self,
        document: Document,
        to: int,
        budget: float,
        feeds: Sequence[Feeds],
        wanted: Sequence[Feeds],
        keep_io_types: bool | Collection[str],
        progress: Progress | None,
    ) -> None:
        self._document = document
        self._to = to
        self._budget = budget
        self._feeds = feeds
        self._wanted = wanted
        self._tell = progress or (lambda text: None)
        graph = document.proto.graph
        border = {value.name for value in (*graph.input, *graph.output)}
        self._kept = _kept_names(border, keep_io_types)
        self._narrowed: dict[int, Constant] = {}
        self._local: dict[str, LocalError] = {}
        self._alone: dict[str, float] = {}
        self.trials = 0
        self._nodes = Candidates(document, TYPE_NAMES[to], to)

    @property
    def float_nodes(self) -> int:
        return len(self._nodes.found) + len(self._nodes.rules)

    # --- trials

    def convert(self, blocks: Collection[str]) -> Document:
        """The model with the nodes `blocks`, by their first outputs, in float32."""
        stay = {*blocks, *self._nodes.between(blocks)}
        work = self._document.copy()

        def narrow(tensor: onnx.TensorProto) -> None:
            constant = work.stored(tensor)
            if constant is None:
                narrow_tensor(tensor, self._to, SMALLEST[self._to])
                return
            found = self._narrowed.get(id(constant))
            if found is None:
                array = narrow_array(constant.numpy(), self._to, SMALLEST[self._to])
                found = self._narrowed[id(constant)] = Constant.from_numpy(array)
            work.refer(tensor, found)

        Rewriting(
            work.proto,
            floats=self._nodes.floats,
            is_blocked=lambda node: node_key(node) in stay or self._nodes.stays(node),
            to=self._to,
            narrow=narrow,
        ).run(self._kept)
        _require_ir_version(work.proto, self._to)
        return work

    def errors(self, made: Document) -> dict[str, float]:
        """Of each output, run node by node and run as a session does by default."""
        found = errors_of(self._wanted, run_all(plain_session(made), self._feeds))
        if max(found.values(), default=0.0) > self._budget:
            return found
        optimized = errors_of(self._wanted, run_all(made.session(), self._feeds))
        return {name: max(error, optimized[name]) for name, error in found.items()}

    def _error(self, blocks: Collection[str]) -> float:
        self.trials += 1
        error = max(self.errors(self.convert(blocks)).values(), default=0.0)
        self._tell(f"{len(blocks)} nodes in float32: error {error:.2g}")
        return error

    def _is_enough(self, blocks: Collection[str]) -> bool:
        return self._error(blocks) <= self._budget

    # --- the search

    def find(self) -> list[str]:
        """The nodes that have to stay, beside those that stay by rule."""
        if self._is_enough(()):
            return []
        everything = [each.key for each in self._nodes.found]
        floor = self._error(everything)
        if floor > self._budget:
            again = run_all(plain_session(self._document), self._feeds)
            if any(errors_of(self._wanted, again).values()):
                raise Fail("The results of this model are random, so that nothing can be measured")
            advice = "a larger budget"
            if not self._kept:
                advice = "keep_io_types, or " + advice
            raise Fail(
                f"The budget of {self._budget:g} cannot be met: with every node in float32 the "
                f"error is {floor:.2g}, of what the inputs and outputs lose alone; {advice} helps"
            )
        scores = self._score()
        ranking = sorted(everything, key=lambda key: scores[key], reverse=True)
        products = {each.key for each in self._nodes.found if each.op_type in PRODUCTS}
        # Products are what a narrow type is for: perhaps it is enough to keep others.
        others_first = sorted(ranking, key=lambda key: (not scores[key][0], key in products))
        found = [self._shortest(each) for each in (ranking, others_first)]
        best = min(found, key=lambda keys: (len(products.intersection(keys)), len(keys)))
        return self._fewer(sorted(best, key=lambda key: key in products))

    def _shortest(self, ranking: list[str]) -> list[str]:
        """The shortest beginning of a ranking that is enough; all of it is."""
        low, high = 0, len(ranking)  # the first `high` are enough, the first `low` are not
        while high - low > 1:
            middle = (low + high) // 2
            if self._is_enough(ranking[:middle]):
                high = middle
            else:
                low = middle
        return ranking[:high]

    def _score(self) -> dict[str, tuple[bool, float]]:
        """Of each node: whether it overflows, and about what it adds to the error."""
        self._tell("each node on rounded inputs")
        session = plain_session(self._document)
        for feeds in self._feeds:
            local_errors(session, feeds, self._to, self._local)
        del session
        everything = [each.key for each in self._nodes.found]
        size = max(math.ceil(len(everything) / _PARTS), 1)
        scores: dict[str, tuple[bool, float]] = {}
        for start in range(0, len(everything), size):
            part = self._nodes.found[start : start + size]
            inside = {each.key for each in part}
            error = self._error([key for key in everything if key not in inside])
            local = [self._local.get(each.name, LocalError()) for each in part]
            worst = max((each.error for each in local), default=0.0)
            for each, found in zip(part, local):
                share = found.error / worst if worst else 1.0
                overflows = found.overflow > 0 and error > self._budget
                scores[each.key] = overflows, error * share if math.isfinite(error) else error
                if size == 1:
                    self._alone[each.key] = error
        return scores

    def _fewer(self, blocks: list[str]) -> list[str]:
        """Without those that need not be in it; the last of the ranking are tried first."""
        left = _FEWER_TRIALS
        size = max(len(blocks) // 2, 1)
        while left > 0 and blocks:
            start = len(blocks)
            while start > 0 and left > 0:
                start = max(start - size, 0)
                rest = blocks[:start] + blocks[start + size :]
                left -= 1
                if rest and self._is_enough(rest):
                    blocks = rest
            if size == 1:
                break
            size //= 2
        return blocks

    # --- the report

    def described(self, blocks: Collection[str]) -> list[KeptNode]:
        between = self._nodes.between(blocks)
        found = []
        names = {node_key(n): n for g in graphs_in(self._document.proto.graph) for n in g.node}
        for key, node in names.items():
            name = self._nodes.names.get(key, node.name)
            if key in self._nodes.rules:
                reason, text = "operator", self._nodes.rules[key]
            elif key in between:
                reason, text = "between", "between nodes that stay"
            elif key in blocks:
                reason, text = self._why(key, name)
            else:
                continue
            local = self._local.get(name, LocalError())
            found.append(
                KeptNode(
                    name or key,
                    node.op_type,
                    reason,
                    text,
                    local.error,
                    self._nodes.sources.get(key, ""),
                )
            )
        return found

    def _why(self, key: str, name: str) -> tuple[str, str]:
        local = self._local.get(name, LocalError())
        if local.overflow:
            largest = 65504 if self._to == HALF else 3.39e38
            return "overflow", f"{local.overflow:.3g} in '{local.value}' is more than {largest:g}"
        text = f"its error on rounded inputs is {local.error:.2g}"
        if key in self._alone:
            text += f"; alone it makes outputs differ by {self._alone[key]:.2g}"
        return "budget", text


def _kept_names(border: Collection[str], keep_io_types: bool | Collection[str]) -> set[str]:
    if isinstance(keep_io_types, bool):
        return set(border) if keep_io_types else set()
    unknown = [name for name in keep_io_types if name not in border]
    if unknown:
        raise InvalidArgument(
            f"keep_io_types: the model has no inputs or outputs {unknown}", known=sorted(border)
        )
    return set(keep_io_types)


def _require_ir_version(proto: onnx.ModelProto, to: int) -> None:
    """bfloat16 came with IR version 4."""
    if to == BFLOAT and proto.ir_version < 4:
        proto.ir_version = 4
