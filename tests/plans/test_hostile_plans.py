# SPDX-License-Identifier: Apache-2.0
"""Plan files whose hashes fit, but that nobody wrote: refused, or run to some end."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest

import bascule as ort
from bascule import errors
from bascule.native import _native
from tests.plans.models import MODELS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="plans are cached on POSIX systems only")

# Where the header tells place and size of a section, followed by its hash; and its own hash.
_STRUCTURE, _DESCRIPTION, _OWN = 40, 72, 104
_NUMBERS = (0, 1, -1, 7, 255, 2**31, 2**62, -(2**63))


def _section(data: bytes, at: int) -> tuple[int, int]:
    offset, size = struct.unpack_from("<QQ", data, at)
    return offset, size


def _hashed(data: bytearray) -> bytes:
    """`data` with the hashes that it should have."""
    no_key = bytes(16)
    for at in (_STRUCTURE, _DESCRIPTION):
        offset, size = _section(data, at)
        data[at + 16 : at + 32] = _native.digest(bytes(data[offset : offset + size]), no_key)
    data[_OWN : _OWN + 16] = _native.digest(bytes(data[:_OWN]), no_key)
    return bytes(data)


def _mutated(good: bytes, source: random.Random) -> bytes:
    data = bytearray(good)
    offset, size = _section(good, _STRUCTURE)
    for _ in range(source.choice((1, 1, 2, 4))):
        at = offset + source.randrange(size - 8)
        kind = source.randrange(3)
        if kind == 0:
            data[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            struct.pack_into("<q", data, at, source.choice(_NUMBERS))
        else:
            other = offset + source.randrange(size - 8)
            data[at : at + 8] = data[other : other + 8]
    return _hashed(data)


def _run(path: Path, key: bytes, names: list[list[str]], feeds: list[Any]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        plan = _native.PlanFile(descriptor, key, False)
        plan.runner(*names, 1, []).run_values(feeds, [])
    except (*errors.ALL, ValueError, MemoryError):
        pass
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", ["float products", "integers", "control flow", "few bits"])
def test_hostile_structures(name: str, tmp_path: Path) -> None:
    model, feeds = MODELS[name]()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.cache_dir", str(tmp_path / "cache"))
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (plan,) = (tmp_path / "cache").glob("*.plan")
    good = plan.read_bytes()
    assert _hashed(bytearray(good)) == good
    names = [[each.name for each in session.get_inputs()]]
    names.append([each.name for each in session.get_outputs()])
    values = [feeds[each] for each in names[0]]
    source = random.Random(0)
    for number in range(150):
        path = tmp_path / str(number)  # another file each time: one that is mapped stays as it is
        path.write_bytes(_mutated(good, source))
        _run(path, good[24:40], names, values)
        path.unlink()
