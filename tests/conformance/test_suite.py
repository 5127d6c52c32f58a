# SPDX-License-Identifier: Apache-2.0
"""The public ONNX backend suite through InferenceSession.

`not_yet.txt` lists the cases that do not pass yet. One that starts to pass fails here until its
line is taken out. `python -m tests.conformance.test_suite` writes the list anew.
"""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

import pytest

import bascule
from tests.support.suite import KINDS, Case, cases, compare

_LIST = Path(__file__).with_name("not_yet.txt")

# Their outputs are random draws: shape, type and range are what can be checked.
_RANDOM = ("test_bernoulli",)


@functools.cache
def not_yet() -> frozenset[str]:
    lines = _LIST.read_text().splitlines()
    return frozenset(line.split("#")[0].strip() for line in lines)


def run(case: Case) -> None:
    """Run a case; raises when an output differs."""
    data, sets = case.read()
    session = bascule.InferenceSession(data)
    names = [arg.name for arg in session.get_inputs()]
    for inputs, outputs in sets:
        feeds = {name: value for name, value in zip(names, inputs) if value is not None}
        # The memory plan made in the first run serves the second.
        for _ in range(2):
            results = session.run(None, feeds)
            assert len(results) == len(outputs)
            for actual, expected in zip(results, outputs):
                if case.name.startswith(_RANDOM):
                    assert actual.shape == expected.shape
                    assert actual.dtype == expected.dtype
                else:
                    compare(actual, expected, case.rtol, case.atol)


@pytest.mark.parametrize("case", [c for kind in KINDS for c in cases(kind)], ids=lambda c: c.name)
def test_case(case: Case) -> None:
    if case.name not in not_yet():
        run(case)
        return
    try:
        run(case)
    except Exception:
        return
    pytest.fail(f"{case.name} passes now: take it out of {_LIST.name}")


def _reason(error: Exception) -> str:
    """The beginning of a message, without the codes that all of them have."""
    text = " ".join(str(error).split())
    return re.sub(r"^\[.*?\] : \d+ : \w+ : | with name .*", "", text)[:100]


def main() -> int:
    failing = []
    passed = 0
    for kind in KINDS:
        for case in cases(kind):
            try:
                run(case)
                passed += 1
            except Exception as error:
                failing.append(f"{case.name}  # {_reason(error)}")
    _LIST.write_text("".join(f"{line}\n" for line in sorted(failing)))
    print(f"{passed} passed, {len(failing)} failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
