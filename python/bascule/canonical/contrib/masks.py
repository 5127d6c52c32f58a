# SPDX-License-Identifier: Apache-2.0
"""What keys a query does not see, in the forms of the attention operators, as numbers to add.

Nothing is hidden for good: to the scores of hidden keys a number is added, -10000 unless the node
says another. A query that sees no key at all still weighs them by their scores.
"""

from __future__ import annotations

from bascule.canonical.contrib.operator import ContribBuilder
from bascule.ir.graph import Value


def padding_mask(
    build: ContribBuilder,
    mask: Value,
    query: Value,
    total: Value,
    filter_value: float,
    past: Value | None = None,
) -> Value:
    """``[batch, heads or 1, rows or 1, keys]``, of the element type of the query.

    A vector holds where the keys of each sample end, and maybe where they begin; other forms have
    a number for each key that is positive where it is seen. `total` is the number of keys and
    `past` of those among them that stand before the queries, each as a vector of one element.
    """
    rank = build.typed(mask).rank
    if rank == 1:
        seen = _seen_by_bounds(build, build.int64(mask), build.dim(query, 0), total)
        return _as_addend(build, build.op("Unsqueeze", seen, build.ints(1, 2)), query, filter_value)
    if rank is None or not 2 <= rank <= 4:
        raise build.invalid(f"the mask '{mask.name}' has rank {rank}, expected 1, 2, 3 or 4")
    seen = build.op("Greater", mask, build.like(0, mask))
    if rank == 4:
        seen = _rows_of_queries(build, seen, build.dim(query, 1), total, past)
    else:
        seen = build.op("Unsqueeze", seen, build.ints(1, 2) if rank == 2 else build.ints(1))
    added = _as_addend(build, seen, query, filter_value)
    known = build.known_dim(mask, -1)
    if known is not None and known > 1:
        return added
    # One number stands for all keys, while the standard hides the keys that a mask lacks.
    shape = build.op("Concat", build.ints(1, 1, 1), total, axis=0)
    return build.op("Expand", added, shape)


def _as_addend(build: ContribBuilder, seen: Value, query: Value, filter_value: float) -> Value:
    build.typed(query)
    return build.op("Where", seen, build.like(0.0, query), build.like(filter_value, query))


def _seen_by_bounds(build: ContribBuilder, bounds: Value, batch: Value, total: Value) -> Value:
    """Whether each sample sees each key, ``[batch, keys]``.

    There are as many ends as samples, maybe with as many begins behind them. More than these are
    positions in packed sequences, which say the same again.
    """
    steps = build.numbers(total)
    ends = build.op("Slice", bounds, build.ints(0), batch)
    seen = build.op("Less", steps, build.op("Unsqueeze", ends, build.ints(1)))
    count = build.known_dim(bounds, 0)
    if count is not None and count % 2:
        return seen
    twice = build.op("Mul", batch, build.ints(2))
    has_begins = build.op("Equal", build.op("Shape", bounds), twice)
    # Without begins the ends are taken once more, and then not looked at.
    again = build.op("Concat", bounds, bounds, axis=0)
    begins = build.op("Slice", again, batch, twice)
    begins = build.op("Where", has_begins, begins, build.ints(0))
    later = build.op("GreaterOrEqual", steps, build.op("Unsqueeze", begins, build.ints(1)))
    return build.op("And", seen, later)


def _rows_of_queries(
    build: ContribBuilder, seen: Value, rows: Value, total: Value, past: Value | None
) -> Value:
    """What belongs to the queries at hand, of a matrix for the longest sequence."""
    begin = build.ints(0) if past is None else past
    begins = build.op("Concat", begin, build.ints(0), axis=0)
    ends = build.op("Concat", build.op("Add", begin, rows), total, axis=0)
    return build.op("Slice", seen, begins, ends, build.ints(2, 3))
