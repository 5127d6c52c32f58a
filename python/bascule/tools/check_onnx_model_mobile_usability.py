# SPDX-License-Identifier: Apache-2.0
"""Tell how far the accelerators of phones could run a model."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from bascule.tools.mobile_helpers.usability_checker import analyze_model


def check_usability(arguments: Sequence[str] | None = None) -> bool:
    """The command line; whether an accelerator would take most of the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log_level", choices=["debug", "info"], default="info")
    parser.add_argument("model_path", help="the model")
    given = parser.parse_args(arguments)
    logger = logging.getLogger("bascule.usability")
    logger.setLevel(given.log_level.upper())
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    try:
        return analyze_model(given.model_path, logger=logger)
    finally:
        logger.removeHandler(handler)


if __name__ == "__main__":
    check_usability()
