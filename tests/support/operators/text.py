# SPDX-License-Identifier: Apache-2.0
"""Operators on strings."""

from __future__ import annotations

from typing import Any

from bascule.ir.dtype import DataType
from tests.support.operators.case import case
from tests.support.typed import Binding, fixed, numbers


def _pool(dtype: DataType, values: list[Any]) -> Any:
    """A pool attribute, empty where the binding asks for the other pool."""

    def make(binding: Binding, captured: str) -> list[Any] | None:
        is_text = binding["T"].dtype is DataType.STRING
        return values if is_text == (dtype is DataType.STRING) else None

    return make


CASES = [
    case(
        "TfIdfVectorizer",
        fixed([1, 2, 3, 2, 3]),
        mode="TF",
        min_gram_length=1,
        max_gram_length=2,
        max_skip_count=0,
        ngram_counts=[0, 2],
        ngram_indexes=[0, 1, 2],
        pool_int64s=_pool(DataType.INT64, [2, 3, 2, 3]),
        pool_strings=_pool(DataType.STRING, ["2", "3", "2", "3"]),
    ),
    case("StringConcat", numbers(3, 5), numbers(5)),
    case("StringSplit", fixed(["a b", "c"]), outputs=2),
    case("StringNormalizer", fixed(["Monday", "tuesday"]), case_change_action="UPPER"),
    case("RegexFullMatch", fixed(["abc", "abcd"]), pattern="[a-c]+"),
]
