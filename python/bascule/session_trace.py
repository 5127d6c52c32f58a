# SPDX-License-Identifier: Apache-2.0
"""What sessions show of a run on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bascule.tools.trace import TracedValue


class SessionTrace:
    """The part of a session that shows intermediate values."""

    def trace(
        self,
        feeds: Mapping[str, Any],
        nodes: str | Iterable[str] | None = None,
        fused: bool = False,
        stop_on: str = "",
    ) -> Iterator[TracedValue]:
        """Run the model node by node and yield each value that is made, in execution order.

        A value is computed when it is asked for and forgotten after its last reader. The session
        and its runs are not touched: each node is compiled alone, for this trace only.

        Args:
            feeds: by input name, as for run.
            nodes: names of nodes or values, or patterns such as ``"layer.0/*"``, whose values are
                yielded; only what they need is run. By default all.
            fused: whether the graph is traced as it runs, after the optimizer, with the bits of
                run; else node for node as the model says it.
            stop_on: watchpoints, joined by ``|``: ``nan``; ``inf``; ``overflow``, where the largest
                finite number of the element type is reached, or an infinity comes out of finite
                inputs. The value at which one halts is the last; its `alarm` and `inputs` say why.
                All that is run is watched: with `nodes` also what these need, and bodies in it.

        Yields:
            A TracedValue for each output of each node that something reads: name, node, source
            nodes, dtype, shape, array and statistics. Those in the bodies of If, Loop and Scan come
            before those of the node that holds them, once an iteration.

        Raises:
            InvalidArgument: `stop_on` is unknown, nothing is called as `nodes` says, or a feed is
                wrong.
            ValueError: a required input is missing.
            Fail: a node cannot run; the message names it.
        """
        # Imported here: few sessions are traced.
        from bascule.tools.trace import trace

        return trace(self, feeds, nodes, fused, stop_on)  # type: ignore[arg-type]
