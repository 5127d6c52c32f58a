# SPDX-License-Identifier: Apache-2.0
"""Operators of com.microsoft that carry a decoder."""

from __future__ import annotations

from tests.support.decoders import Decoder
from tests.support.encoders import EncoderDecoder
from tests.support.operators.contrib_case import contrib
from tests.support.typed import fixed, numbers

_DECODER = Decoder().graph()
_WHISPER = EncoderDecoder(is_whisper=True)
_PROMPT = fixed([[1, 2, 3], [4, 5, 10]])

CASES = [
    contrib(
        "BeamSearch",
        "F I I I I T T -> I T T",
        _PROMPT,
        *(fixed([each]) for each in (6, 5, 3, 2, 1, 1.5)),
        F="int32",
        T="float float16",
        I="int32",
        decoder=_DECODER,
        eos_token_id=9,
        pad_token_id=10,
    ),
    contrib(
        "GreedySearch",
        "I I I T -> I",
        _PROMPT,
        fixed([6]),
        fixed([5]),
        fixed([1.5]),
        T="float",
        I="int32",
        decoder=_DECODER,
        eos_token_id=9,
        pad_token_id=10,
    ),
    contrib(
        "Sampling",
        "I I I T I I I I I -> I",
        _PROMPT,
        fixed([6]),
        fixed([5]),
        fixed([1.5]),
        *[None] * 4,
        fixed([3]),
        T="float",
        I="int32",
        decoder=_DECODER,
        eos_token_id=9,
        pad_token_id=10,
        top_p=0.5,
    ),
    contrib(
        "WhisperBeamSearch",
        "float I I I I T T -> I T T",
        numbers(2, 5, 4),
        *(fixed([each]) for each in (6, 5, 3, 2, 1, 1.5)),
        T="float float16",
        I="int32",
        decoder=_WHISPER.decoder(),
        encoder=_WHISPER.encoder(),
        eos_token_id=2,
        pad_token_id=10,
        decoder_start_token_id=9,
    ),
]
