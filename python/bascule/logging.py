# SPDX-License-Identifier: Apache-2.0
"""Log records of sessions, through Python's logging under the name ``bascule``."""

from __future__ import annotations

import logging

_logger = logging.getLogger("bascule")

_SEVERITIES = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def set_default_logger_severity(severity: int) -> None:
    """Drop records below `severity`: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal.

    Raises:
        TypeError: `severity` is no int.
        RuntimeError: it is not in 0..4.
    """
    if not isinstance(severity, int) or isinstance(severity, bool):
        raise TypeError(f"incompatible function arguments: severity {severity!r} is no int")
    if not 0 <= severity < len(_SEVERITIES):
        raise RuntimeError(f"Invalid logging severity {severity}: expected 0 to 4")
    _logger.setLevel(_SEVERITIES[severity])
