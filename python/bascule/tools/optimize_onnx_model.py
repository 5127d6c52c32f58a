# SPDX-License-Identifier: Apache-2.0
"""Write a model as a session runs it: ``python -m bascule.tools.optimize_onnx_model IN OUT``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bascule.tools.onnx_model_utils import get_optimization_level, optimize_model

_SEVERITIES = {"debug": 0, "info": 1, "warning": 2, "error": 3}


def optimize_model_helper(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=optimize_model.__doc__)
    levels = ["disable", "basic", "extended", "layout", "all"]
    parser.add_argument("--opt_level", default="basic", choices=levels)
    parser.add_argument("--log_level", default="error", choices=list(_SEVERITIES))
    parser.add_argument("input_model")
    parser.add_argument("output_model")
    given = parser.parse_args(arguments)
    level = get_optimization_level(given.opt_level)
    optimize_model(given.input_model, given.output_model, level, _SEVERITIES[given.log_level])


if __name__ == "__main__":
    optimize_model_helper()
