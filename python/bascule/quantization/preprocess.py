# SPDX-License-Identifier: Apache-2.0
"""quant_pre_process as a command: ``python -m bascule.quantization.preprocess``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bascule.quantization.shape_inference import quant_pre_process

_FLAGS = (
    *("skip_optimization", "skip_onnx_shape", "skip_symbolic_shape"),
    *("auto_merge", "guess_output_rank", "save_as_external_data"),
)


def _flag(text: str) -> bool:
    return text.lower() in ("1", "true", "yes")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: ``--input IN --output OUT`` and the arguments of quant_pre_process."""
    parser = argparse.ArgumentParser(description=quant_pre_process.__doc__)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    for name in _FLAGS:
        parser.add_argument(f"--{name}", type=_flag, nargs="?", const=True, default=False)
    given = parser.parse_args(arguments)
    flags = {name: getattr(given, name) for name in _FLAGS}
    quant_pre_process(given.input, given.output, **flags)


if __name__ == "__main__":
    main()
