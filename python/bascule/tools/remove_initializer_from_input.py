# SPDX-License-Identifier: Apache-2.0
"""Let inputs with a default be constants; a command line, as ``python -m`` runs it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import onnx

from bascule.tools.onnx_model_utils import remove_initializer_from_input


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=remove_initializer_from_input.__doc__)
    parser.add_argument("--input", required=True, help="the model")
    parser.add_argument("--output", required=True, help="where to write it")
    given = parser.parse_args(arguments)
    model = onnx.load(given.input)
    remove_initializer_from_input(model)
    onnx.save(model, given.output)


if __name__ == "__main__":
    main()
