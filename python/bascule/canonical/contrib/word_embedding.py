# SPDX-License-Identifier: Apache-2.0
"""Embeddings of words by their characters."""

from __future__ import annotations

import numpy as np

from bascule.canonical.contrib.operator import ContribBuilder, Outputs, operator
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value


@operator("WordConvEmbedding")
def word_conv_embedding(
    build: ContribBuilder,
    Sequence: Value,
    W: Value,
    B: Value,
    C: Value,
    *,
    char_embedding_size: int | None = None,
    conv_window_size: int | None = None,
    embedding_size: int | None = None,
) -> Outputs:
    """The largest of each filter's results over the places of a word, then Tanh.

    A word has as many characters as numbers above 0; one whose first is 0 is padding, and gives
    zeros.
    """
    for name, given, axis in (
        ("embedding_size", embedding_size, 0),
        ("conv_window_size", conv_window_size, 2),
        ("char_embedding_size", char_embedding_size, 3),
    ):
        known = build.known_dim(W, axis)
        if given is not None and known is not None and given != known:
            raise build.invalid(
                f"attribute '{name}' is {given}, but axis {axis} of the weights has size {known}"
            )
    letters = build.op("Gather", C, Sequence, axis=0)
    image = build.op("Unsqueeze", letters, build.ints(1))
    places = build.op("Squeeze", build.op("Conv", image, W, B), build.ints(3))
    zero = build.constant(np.array(0, np.int32))
    present = build.op("Cast", build.op("Greater", Sequence, zero), to=int(DataType.INT64))
    lengths = build.op("ReduceSum", present, build.ints(1))
    width = build.dim(W, 2)
    last = build.op("Max", build.op("Sub", lengths, width), build.ints(0))
    numbers = build.numbers(build.op("Shape", places, start=2))
    inside = build.op("Unsqueeze", build.op("LessOrEqual", numbers, last), build.ints(1))
    never = build.like(float("-inf"), build.typed(W))
    found = build.op(
        "ReduceMax", build.op("Where", inside, places, never), build.ints(2), keepdims=0
    )
    first = build.op("Slice", Sequence, build.ints(0), build.ints(1), build.ints(1))
    padding = build.op("Equal", first, zero)
    return build.op("Where", padding, build.like(0.0, build.typed(W)), build.op("Tanh", found))
