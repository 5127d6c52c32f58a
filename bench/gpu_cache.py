# SPDX-License-Identifier: Apache-2.0
"""What bench/gpu.py keeps from run to run, in a few files that are not too large to be sent."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

PART = 15 << 20
NAME = "compiled.tar"


def unpack(folder: Path, target: Path) -> None:
    """Bring back what `pack` wrote to `folder`, if it did."""
    target.mkdir(parents=True, exist_ok=True)
    data = b"".join(path.read_bytes() for path in sorted(folder.glob(f"{NAME}.*")))
    if data:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(target, filter="data")


def pack(source: Path, folder: Path) -> int:
    """Write all files under `source` to `folder`; how many bytes that takes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=6) as archive:
        archive.add(source, ".")
    data = stream.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{NAME}.*"):
        old.unlink()
    for number, start in enumerate(range(0, len(data), PART)):
        (folder / f"{NAME}.{number:02}").write_bytes(data[start : start + PART])
    return len(data)
