# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from bascule.ir.dtype import DataType
from bascule.ir.symbols import settle_names
from bascule.ir.types import Dim, TensorType


def tensor(*shape: Dim) -> TensorType:
    return TensorType(DataType.FLOAT, shape)


def test_names_last() -> None:
    found = settle_names({"a": tensor("unk__7", 3)}, [("a", tensor("unk__2", 3), True)])
    assert found == {"a": tensor("unk__2", 3)}


def test_name_of_the_model_is_better() -> None:
    known = [("a", tensor("unk__2"), True), ("b", tensor("batch"), True)]
    found = settle_names({"a": tensor("unk__7"), "b": tensor("unk__7")}, known)
    assert found == {"a": tensor("batch"), "b": tensor("batch")}


def test_new_names_are_new() -> None:
    known = [("a", tensor("unk__0"), True), ("b", None, True)]
    found = settle_names({"a": tensor("unk__1"), "b": tensor("unk__0")}, known)
    assert found["a"] == tensor("unk__0") and found["b"] != found["a"]


def test_name_of_an_output_is_not_taken_again() -> None:
    known = [("y", tensor("unk__5"), False), ("b", None, True)]
    found = settle_names({"b": tensor("unk__5")}, known)
    assert found["b"] != tensor("unk__5")
