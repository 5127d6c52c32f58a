# SPDX-License-Identifier: Apache-2.0
"""The digest is what docs/digest.md says, and takes little memory."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Union

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bascule.tools.digest import digest
from bascule.tools.digest.tensors import PIECE
from tests.api.models import model, tensor
from tests.support.own_process import memory_of


def hash_fields(kind: str, *fields: Union[bytes, str, int]) -> bytes:
    text = b""
    for field in (kind, *fields):
        if isinstance(field, str):
            field = field.encode()
        elif isinstance(field, int):
            field = field.to_bytes(8, "little")
        text += len(field).to_bytes(8, "little") + field
    return hashlib.sha256(text).digest()


def test_it_is_what_the_documentation_says() -> None:
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("LeakyRelu", ["m"], ["y"], alpha=0.5),
    ]
    proto = model(
        nodes, [tensor("x")], [tensor("y", shape=None)], [numpy_helper.from_array(array, "w")]
    )
    w = hash_fields("tensor", 1, 2, 3, 2, hashlib.sha256(array.tobytes()).digest())
    shape = hash_fields("shape", "named", "n", "fixed", 3)
    x = hash_fields("input", 1, 0, "x", hash_fields("tensor type", 1, shape), b"")
    product = hash_fields("node", "", "MatMul", "", 21, 1, 2, x, w)
    m = hash_fields("value", 0, product)
    alpha = hash_fields("float", np.float32(0.5).tobytes())
    relu = hash_fields("node", "", "LeakyRelu", "", 21, 1, 1, m, "alpha", alpha)
    y = hash_fields("output", "y", hash_fields("value", 0, relu))
    graph = hash_fields("graph", 1, x, 1, y, 2, *sorted([product, relu]), w)
    assert digest(proto).digest == f"bascule1:{hash_fields('model', graph).hex()}"


@pytest.mark.parametrize("size", [0, 1, PIECE // 4 - 1, PIECE // 4, PIECE // 4 + 1, PIECE])
def test_pieces(size: int) -> None:
    array = np.random.default_rng(5).standard_normal(size).astype(np.float32)
    proto = model(
        [helper.make_node("Identity", ["w"], ["y"])],
        [],
        [tensor("y", shape=(size,))],
        [numpy_helper.from_array(array, "w")],
    )
    seen: list[int] = []
    found = digest(proto.SerializeToString(), seen.append)
    assert sum(seen) == found.tensor_bytes == 4 * size and found.tensors == 1
    data = array.tobytes()
    pieces = [
        hashlib.sha256(data[start : start + PIECE]).digest() for start in range(0, len(data), PIECE)
    ]
    w = hash_fields("tensor", 1, 1, size, *pieces)
    node = hash_fields("node", "", "Identity", "", 21, 1, 1, w)
    y = hash_fields("output", "y", hash_fields("value", 0, node))
    assert found.digest.endswith(
        hash_fields("model", hash_fields("graph", 0, 1, y, 1, node, w)).hex()
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file with holes")
def test_a_large_model_is_not_held(tmp_path: Path) -> None:
    size = 600 << 20
    with open(tmp_path / "data.bin", "wb") as file:
        file.truncate(size)
    weight = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[size], data_location=1)
    weight.external_data.add(key="location", value="data.bin")
    node = helper.make_node("Identity", ["w"], ["y"])
    onnx.save(
        model([node], [], [tensor("y", TensorProto.UINT8, [size])], [weight]),
        tmp_path / "large.onnx",
    )
    code = (
        "import sys\n"
        "from bascule.tools.digest import digest\n"
        "print(digest(sys.argv[1]).tensor_bytes)\n"
    )
    [nbytes], most = memory_of(code, tmp_path / "large.onnx")
    assert int(nbytes) == size and most < 300e6
