# SPDX-License-Identifier: Apache-2.0
"""Write a QDQ model as it runs best: ``optimize_qdq_model IN OUT``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import onnx


def optimize_qdq_model(arguments: Sequence[str] | None = None) -> None:
    """The command line. Nothing has to be changed: a session does all when it is made."""
    parser = argparse.ArgumentParser(description=optimize_qdq_model.__doc__)
    parser.add_argument("input_model")
    parser.add_argument("output_model")
    given = parser.parse_args(arguments)
    onnx.save(onnx.load(given.input_model), given.output_model)


if __name__ == "__main__":
    optimize_qdq_model()
