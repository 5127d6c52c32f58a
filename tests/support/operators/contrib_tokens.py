# SPDX-License-Identifier: Apache-2.0
"""Operators of com.microsoft that newer language models consist of."""

from __future__ import annotations

from tests.support.operators.contrib_case import HALVES, contrib
from tests.support.typed import fixed, numbers

_FRACTION = {"low": -1, "high": 1}
_X = numbers(2, 3, 8)
_BRANCHES = numbers(2, 3, 4, 8)
_SUMS = fixed([0, 2, 5])

_ATTENTION = [
    contrib(
        "LinearAttention",
        "T T T S T T -> T S",
        numbers(2, 3, 8, **_FRACTION),
        numbers(2, 3, 8, **_FRACTION),
        numbers(2, 3, 8, **_FRACTION),
        numbers(2, 2, 4, 4, **_FRACTION),
        numbers(2, 3, 2, low=-1, high=0),
        numbers(2, 3, 2, low=0, high=1),
        T=HALVES,
        S=HALVES,
        q_num_heads=2,
        kv_num_heads=2,
    ),
    contrib(
        "LinearAttention",
        "T T T S T T -> T S",
        numbers(1, 40, 8, **_FRACTION),
        numbers(1, 40, 4, low=-0.5, high=0.5),
        numbers(1, 40, 4, **_FRACTION),
        numbers(1, 1, 4, 4, **_FRACTION),
        numbers(1, 40, 1, low=-1, high=0),
        numbers(1, 40, 1, low=0, high=1),
        T=HALVES,
        S=HALVES,
        label="chunks",
        q_num_heads=2,
        kv_num_heads=1,
    ),
    contrib(
        "LinearAttention",
        "T T T S T -> T S",
        numbers(2, 3, 8, **_FRACTION),
        numbers(2, 3, 8, **_FRACTION),
        numbers(2, 3, 8, **_FRACTION),
        numbers(2, 2, 2, 4, 4, **_FRACTION),
        numbers(2, 3, 8, low=-1, high=0),
        T=HALVES,
        S=HALVES,
        label="window",
        q_num_heads=2,
        kv_num_heads=2,
        state_window=2,
        update_rule="gated",
    ),
    contrib(
        "LinearAttentionGate",
        "T float float T -> T T",
        numbers(2, 3, 4),
        numbers(4),
        numbers(4),
        numbers(2, 3, 4),
        T=HALVES,
    ),
    contrib(
        "GatedDeltaNet",
        "T T T int32 T T float float float int32 -> T float float",
        numbers(12, 16),
        None,
        None,
        fixed([0, 12]),
        numbers(12, 2, low=-1, high=0),
        numbers(12, 2, low=0, high=1),
        numbers(1, 2, 4, 2),
        numbers(2, **_FRACTION),
        numbers(2, **_FRACTION),
        fixed([2]),
        T=HALVES,
        label="packed",
        gate_activation="softplus",
        qk_l2_norm=1,
        state_update_capacity=2,
    ),
    contrib(
        "GatedDeltaNet",
        "T T T int32 TG TG float -> T float",
        numbers(5, 2, 4),
        numbers(5, 2, 4),
        numbers(5, 4, 6),
        _SUMS,
        numbers(5, 4, low=-1, high=0),
        numbers(5, 4, low=0, high=1),
        numbers(2, 4, 6, 4),
        T=HALVES,
        TG=HALVES,
        qk_l2_norm=1,
    ),
]

_CONVOLUTIONS = [
    contrib(
        "CausalConvWithState",
        "T T T T -> T T",
        numbers(2, 3, 5),
        numbers(3, 1, 3),
        numbers(3),
        numbers(2, 3, 2),
        T=HALVES,
        activation="silu",
    ),
    contrib(
        "CausalConvWithState",
        "T T T T -> T T",
        numbers(2, 5, 3),
        numbers(3, 1, 3),
        numbers(3),
        numbers(2, 2, 4, 3),
        T=HALVES,
        label="window",
        channels_last=1,
        dilation=2,
        state_window=2,
    ),
    contrib(
        "VarlenCausalConvWithState",
        "T T int32 T T int32 -> T T T",
        numbers(5, 3),
        numbers(3, 1, 3),
        _SUMS,
        numbers(3),
        numbers(2, 3, 2),
        fixed([1, 2]),
        T=HALVES,
        state_update_capacity=2,
    ),
]

_GATES = [
    contrib("GatedRMSNorm", "T T T", _X, numbers(4), _X, T=HALVES),
    contrib("BranchwiseRMSNorm", "T M", _X, numbers(2, 4), T=HALVES, M=HALVES, num_branches=2),
    contrib("GatedAdd", "T T T", _X, _X, numbers(2, 3, 1), T=HALVES),
    contrib("ScaledSiLU", "T M", _X, fixed(1.5), T=HALVES, M=HALVES),
    contrib("SwiGLU", "T T", _X, _X, T=HALVES, limit=2.0, activation_beta=1.0),
    contrib(
        "EngramGate",
        "T T T T T T -> T T",
        _BRANCHES,
        _BRANCHES,
        _X,
        numbers(4, 8),
        numbers(4, 8),
        numbers(4, 8),
        T=HALVES,
    ),
]

_STREAMS = [
    contrib("HyperConnectionPreMix", "T M", _BRANCHES, numbers(2, 3, 4), T=HALVES, M=HALVES),
    contrib(
        "HyperConnectionPostMix",
        "T T M M",
        _BRANCHES,
        _X,
        numbers(2, 3, 4),
        numbers(2, 3, 4, 4),
        T=HALVES,
        M=HALVES,
    ),
]

_OTHERS = [
    contrib(
        "GatherPacked",
        "uint8 I -> float",
        fixed([[0, 60, *range(16)], [0, 56, *range(100, 116)]]),
        fixed([[0, 1], [1, 2]]),
        I="int32 int64",
        packed_type=2,
        K=32,
        output_dtype=1,
    ),
    contrib(
        "MRotaryEmbedding",
        "T int64 T T",
        numbers(2, 3, 8),
        fixed([[[0, 1, 2], [5, 3, 4]], [[0, 1, 1], [2, 3, 4]], [[0, 2, 2], [1, 3, 4]]]),
        numbers(6, 2),
        numbers(6, 2),
        T=HALVES,
        mrope_section=[1, 0, 1],
        num_heads=2,
    ),
    contrib(
        "RMSNormRotary",
        "T float int64 TCos TCos -> bfloat16",
        numbers(2, 3, 2, 6),
        numbers(6),
        fixed([[0, 1, 2], [5, 3, 4]]),
        numbers(6, 2),
        numbers(6, 2),
        T="float16 bfloat16",
        TCos="float bfloat16",
        rotary_embedding_dim=4,
    ),
    contrib(
        "MoEGroupRouter",
        "T float",
        numbers(3, 8, distinct=True),
        numbers(8),
        T=HALVES,
        n_group=4,
        topk_group=2,
        top_k=3,
    ),
]

CASES = [*_ATTENTION, *_CONVOLUTIONS, *_GATES, *_STREAMS, *_OTHERS]
