# SPDX-License-Identifier: Apache-2.0
"""run_with_ortvaluevector: runs on raw lists of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bascule.errors import InvalidArgument
from bascule.values import OrtValue

if TYPE_CHECKING:
    from bascule.options import RunOptions
    from bascule.session import InferenceSession


def run_with_vectors(
    session: InferenceSession,
    run_options: RunOptions,
    feed_names: Sequence[str],
    feeds: Any,
    fetch_names: Sequence[str],
    fetches: Any,
) -> None:
    """See InferenceSession.run_with_ortvaluevector."""
    _check_count("feed", feed_names, feeds)
    if len(fetches):
        _check_count("fetch", fetch_names, fetches)
    given = {name: _value(feeds[i]) for i, name in enumerate(feed_names)}
    results = session.run_with_ort_values(list(fetch_names), given, run_options)
    held = len(fetches)
    for i, (name, result) in enumerate(zip(fetch_names, results)):
        if i < held:
            _write(name, _value(fetches[i]), result)
        else:
            fetches.push_back(result)


def _check_count(what: str, names: Sequence[str], values: Any) -> None:
    if len(names) != len(values):
        raise InvalidArgument(
            f"{what} names has {len(names)} elements, but {what} has {len(values)} elements."
        )


def _value(item: Any) -> OrtValue:
    if not isinstance(item, OrtValue):
        raise TypeError(
            "incompatible function arguments: expected a vector of OrtValue, not of "
            f"{type(item).__name__}"
        )
    return item


def _write(name: str, target: OrtValue, result: OrtValue) -> None:
    """Put a result into the memory that the caller has for it."""
    if target.data_type() != result.data_type():
        raise InvalidArgument(
            f"Unexpected output data type. Actual: ({target.data_type()}) , expected: "
            f"({result.data_type()})",
            output=name,
        )
    if target.shape() != result.shape():
        wrong = [
            f" index: {axis} Got: {got} Expected: {dim}"
            for axis, (got, dim) in enumerate(zip(target.shape(), result.shape()))
            if got != dim
        ]
        raise InvalidArgument(
            f"Got invalid dimensions for output: {name} for the following indices\n"
            + "\n".join(wrong)
            + "\n Please fix either the inputs/outputs or the model.",
            got=target.shape(),
            expected=result.shape(),
        )
    if isinstance(target._array, np.ndarray):
        target._array[...] = result.numpy()
    else:
        target.update_inplace(result.numpy())
