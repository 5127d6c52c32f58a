# SPDX-License-Identifier: Apache-2.0
"""Check that an object compiled for one instruction set shares no code with the others.

usage: check_symbols.py NM ISA OBJECT...

Every global or weak symbol has to lie in namespace bascule::ISA: the linker keeps one copy of an
inline function that several objects define, and one compiled for AVX-512 must never be the copy
that an older CPU runs.
"""

from __future__ import annotations

import subprocess
import sys


def leaks(nm: str, isa: str, path: str) -> list[str]:
    """The symbols of `path` that other objects could be linked to by mistake."""
    output = subprocess.run(
        [nm, "--demangle", "--defined-only", path], check=True, capture_output=True, text=True
    ).stdout
    found = []
    for line in output.splitlines():
        kind, _, name = line[17:].partition(" ")
        if kind.isupper() or kind in ("u", "v", "w"):
            plain = name.split("(", 1)[0]
            if f"bascule::{isa}::" not in plain:
                found.append(name)
    return found


def main(arguments: list[str]) -> int:
    nm, isa, *paths = arguments
    failed = False
    for path in paths:
        for name in leaks(nm, isa, path):
            print(f"{path}: '{name}' is visible outside namespace bascule::{isa}")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
