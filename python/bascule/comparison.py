# SPDX-License-Identifier: Apache-2.0
"""compare: two backends, precisions or versions of a model beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bascule.tools.compare import Comparison, Spec


def compare(
    a: Spec,
    b: Spec = "reference",
    feeds: Mapping[str, Any] | None = None,
    *,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    disabled: Sequence[str] = (),
    bisect: bool = True,
    outputs: bool = True,
) -> Comparison:
    """Compare what two sides compute, value by value, and find what is to blame for a difference.

    `a` runs as it is; each node of `b` is run on the values that `a` has, so that what is out of
    bounds was computed there and nowhere before. An error is the distance from the same nodes of
    `a` computed in float64; its bound is the rounding that they may do (docs/find_out_why.md).
    Memory holds the values that are alive and one node's weights; at the end, with `outputs`, it
    holds all of `b`.

    Source: the bound grows with the square root of a sum's length, as in N. Higham, T. Mary, A New
    Approach to Probabilistic Rounding Error Analysis, SIAM J. Sci. Comput. 41 (2019).

    Args:
        a: a model (a path, bytes, an onnx.ModelProto, an InferenceSession or a Model), a backend
            (of the model of the other side), or (model, backend). Backends are ``cpu`` and
            ``cuda``, both also with a level, as in ``cpu:basic`` (``disabled``, ``basic``,
            ``extended``, ``all``); ``onnxruntime``; and ``reference``, which is onnx.reference.
            A model alone is on ``cpu``; only one side may be a backend alone.
        b: the other side, in the same ways.
        feeds: by input name; by default seeded random ones. Floats are cast to what a side takes.
        dims: sizes of symbolic dimensions, for random feeds.
        seed: of random feeds.
        disabled: names of optimizer passes that `b` leaves out.
        bisect: whether the guilty pass and the smallest reproduction are looked for.
        outputs: whether `b` is also run in one piece, to compare its outputs with those of `a`.

    Returns:
        A Comparison: print it for a table. `agrees`, `first`, `guilty_nodes`, `guilty_pass` and
        `write(folder)`, which writes the smallest model and inputs that show the difference.

    Raises:
        InvalidArgument: a backend is unknown, or two of them stand without a model.
        ImportError: a backend is not installed; the message names the pip command.
        EngineError: there is no GPU for ``cuda``, or something that it needs is missing.
        Fail: a node cannot run; the message names it.

    Examples:
        >>> print(bascule.compare("model.onnx", "onnxruntime"))
        >>> bascule.compare("float32.onnx", "float16.onnx").guilty_nodes
        >>> bascule.compare(("model.onnx", "cpu:disabled"), "cpu").guilty_pass
    """
    # Imported here: it imports onnx.
    from bascule.tools.compare import compare as run

    return run(
        a,
        b,
        feeds,
        dims=dims,
        seed=seed,
        disabled=disabled,
        bisect=bisect,
        outputs=outputs,
    )
