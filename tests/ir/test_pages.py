# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from bascule.errors import Fail
from bascule.ir.pages import MappedFile, copy, give_back, read, read_ahead

CONTENT = np.random.default_rng(0).bytes(3 * 4096 + 100)


@pytest.fixture
def mapped(tmp_path: Path) -> memoryview:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        return memoryview(MappedFile(file.fileno()))


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (4097, 9000), (100, len(CONTENT)), (7, 7)])
def test_pieces_are_read_as_they_are_mapped(mapped: memoryview, start: int, stop: int) -> None:
    piece = mapped[start:stop]
    read_ahead(piece)
    found = read(piece, memoryview(bytearray(len(CONTENT))))
    assert found == CONTENT[start:stop]
    give_back(piece)
    assert piece == CONTENT[start:stop]


def test_views_of_views_are_read(mapped: memoryview) -> None:
    piece = memoryview(np.frombuffer(mapped[8:], np.uint8)[8:16].data).cast("B")
    assert read(piece, memoryview(bytearray(8))) == CONTENT[16:24]


def test_what_is_not_mapped_stays_where_it_is() -> None:
    piece = memoryview(b"abc")
    read_ahead(piece)
    give_back(piece)
    assert read(piece, memoryview(bytearray(3))) is piece


def test_pieces_are_copied_behind_what_was_written(mapped: memoryview, tmp_path: Path) -> None:
    with open(tmp_path / "copy", "wb") as file:
        file.write(b"head")
        for start, stop in ((5, 5000), (1, 3)):
            if not copy(mapped[start:stop], file):
                pytest.skip("the system cannot copy from file to file")
        file.write(b"tail")
        assert not copy(memoryview(b"abc"), file)
    expected = b"head" + CONTENT[5:5000] + CONTENT[1:3] + b"tail"
    assert (tmp_path / "copy").read_bytes() == expected


def test_a_copy_that_the_file_system_refuses_is_written(
    mapped: memoryview, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    with open(tmp_path / "copy", "wb") as file:
        file.write(b"head")
        copy(mapped[5:5000], file)
    if (tmp_path / "copy").stat().st_size > len(b"head"):
        assert (tmp_path / "copy").read_bytes() == b"head" + CONTENT[5:5000]


def test_a_file_that_became_shorter_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("r+b") as file:
        mapped = memoryview(MappedFile(file.fileno()))
        file.truncate(4096)
    if not hasattr(os, "preadv"):
        pytest.skip("pieces are read from the mapping")
    with pytest.raises(Fail, match="ended at byte 4096"):
        read(mapped[:5000], memoryview(bytearray(5000)))


def _descriptors(path: Path) -> int:
    """How many of this process lead to a file; others come and go."""
    links = Path("/proc/self/fd").iterdir()
    return sum(os.path.realpath(link) == os.path.realpath(path) for link in links)


def test_descriptors_are_closed(tmp_path: Path) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("the system does not list descriptors")
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        views = [memoryview(MappedFile(file.fileno()))[1:] for _ in range(5)]
    assert _descriptors(path) > 0
    del views
    gc.collect()
    assert _descriptors(path) == 0
