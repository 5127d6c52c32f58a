# SPDX-License-Identifier: Apache-2.0
"""safetensors: files of ours and of others are read, and none that is damaged or hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bascule import errors
from bascule.ir.constant import Constant
from bascule.tools.convert import safetensors
from bascule.tools.convert.safetensors import read_safetensors, write_safetensors

TYPES = (
    *(np.float32, np.float64, np.float16, np.int8, np.int16, np.int32, np.int64, np.bool_),
    *(np.uint8, np.uint16, np.uint32, np.uint64, np.complex64, ml_dtypes.bfloat16),
    *(ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
)


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    made = {
        f"layer.{index}/{np.dtype(kind).name}": generator.integers(0, 2, (3, index)).astype(kind)
        for index, kind in enumerate(TYPES)
    }
    return {**made, "scalar": np.array(2.5, np.float32), "ü": np.zeros((2, 0), np.int64)}


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    given = arrays()
    constants = {name: Constant.from_numpy(array) for name, array in given.items()}
    write_safetensors(path, constants, {"format": "onnx"})
    found = read_safetensors(path)
    assert found.metadata == {"format": "onnx"} and set(found.tensors) == set(given)
    for name, array in given.items():
        back = found.tensors[name].numpy()
        assert back.dtype == array.dtype and back.shape == array.shape
        np.testing.assert_array_equal(back, array)


def test_other_programs_read_and_write_the_same(tmp_path: Path) -> None:
    other = pytest.importorskip("safetensors.numpy")
    given = {name: a for name, a in arrays().items() if a.dtype in (np.float32, np.int64, np.bool_)}
    write_safetensors(
        tmp_path / "ours.safetensors", {n: Constant.from_numpy(a) for n, a in given.items()}
    )
    theirs = other.load_file(tmp_path / "ours.safetensors")
    other.save_file(given, tmp_path / "theirs.safetensors", {"format": "np"})
    ours = read_safetensors(tmp_path / "theirs.safetensors").tensors
    for name, array in given.items():
        np.testing.assert_array_equal(theirs[name], array)
        np.testing.assert_array_equal(ours[name].numpy(), array)


def test_strings_and_small_types_do_not_fit(tmp_path: Path) -> None:
    for array in (np.array(["a"], object), np.zeros(4, ml_dtypes.int4)):
        with pytest.raises(errors.InvalidArgument, match="cannot hold tensor 'w'"):
            write_safetensors(tmp_path / "w.safetensors", {"w": Constant.from_numpy(array)})
    assert not list(tmp_path.iterdir())


def entry(begin: Any, end: Any, shape: Any = (1,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def file_of(header: Any, data: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    return size.to_bytes(8, "little") + text + data


BAD = {
    "empty": b"",
    "short": b"\1\2\3",
    "no header": (1 << 20).to_bytes(8, "little"),
    "huge header": file_of({}, length=1 << 62),
    "header beyond the limit": file_of({}, length=(1 << 64) - 1),
    "no JSON": file_of(b"{nothing"),
    "no object": file_of(b"[1, 2]"),
    "spaces first": file_of(b"  {}"),
    "no text": file_of(b'{"\xff": 1}'),
    "nested deep": file_of(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a name twice": file_of(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
    ),
    "no entry": file_of({"a": 3}),
    "too little": file_of({"a": {"dtype": "F32", "shape": [2]}}),
    "too much": file_of({"a": {**entry(0, 8, (2,)), "more": 1}}),
    "unknown type": file_of({"a": entry(0, 8, (2,), "F31")}),
    "type that is no text": file_of({"a": entry(0, 8, (2,), ["F32"])}),
    "negative size": file_of({"a": entry(0, 8, (-2,))}),
    "size that is no number": file_of({"a": entry(0, 8, ("2",))}),
    "size that is a flag": file_of({"a": entry(0, 4, (True,))}, b"\0" * 4),
    "size that is a fraction": file_of({"a": entry(0, 8, (2.0,))}),
    "sizes beyond all bounds": file_of({"a": entry(0, 8, (1 << 62, 1 << 62))}),
    "sizes beyond numbers": file_of({"a": entry(0, 8, (10**40,))}),
    "digits without end": file_of(
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 6000 + b'],"data_offsets":[0,8]}}'
    ),
    "rank": file_of({"a": entry(0, 8, [2] + [1] * 100)}),
    "one offset": file_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}),
    "negative offset": file_of({"a": entry(-8, 0, (2,))}),
    "reversed offsets": file_of({"a": entry(8, 0, (2,))}),
    "beyond the end": file_of({"a": entry(0, 16, (4,))}),
    "other length": file_of({"a": entry(0, 8, (1,))}),
    "overlap": file_of({"a": entry(0, 8, (2,)), "b": entry(4, 8)}),
    "the same place": file_of({"a": entry(0, 8, (2,)), "b": entry(0, 8, (2,))}),
    "gap": file_of({"a": entry(4, 8)}),
    "rest": file_of({"a": entry(0, 4)}),
    "metadata": file_of({"__metadata__": {"a": 1}, "a": entry(0, 8, (2,))}),
    "metadata of another kind": file_of({"__metadata__": [], "a": entry(0, 8, (2,))}),
    "no booleans": file_of({"a": entry(0, 8, (8,), "BOOL")}, b"\0\1\2\3\0\0\0\0"),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_and_hostile_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(BAD[name])
    with pytest.raises(errors.Fail, match="is not a sound safetensors file"):
        read_safetensors(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(errors.NoSuchFile):
        read_safetensors(tmp_path / "nothing")
    with pytest.raises(errors.Fail, match="cannot be read"):
        read_safetensors(tmp_path)


def test_a_file_of_no_tensors(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(file_of({}, b""))
    assert not read_safetensors(tmp_path / "w.safetensors").tensors


def test_tensors_lie_on_their_alignment() -> None:
    given = {name: Constant.from_numpy(array) for name, array in arrays().items()}
    layout = safetensors.lay_out(given)
    assert len(layout.header) % 64 == 0
    for name, offset in layout.offsets.items():
        assert offset % max(given[name].dtype.bits // 8, 1) == 0
