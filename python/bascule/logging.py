# SPDX-License-Identifier: Apache-2.0
"""Log records of sessions, through Python's logging under the name ``bascule``."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bascule.options import RunOptions, SessionOptions

LOGGER = logging.getLogger("bascule")

_SEVERITIES = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)

Callback = Callable[[int, str, str, str, str], object]


class _CallbackHandler(logging.Handler):
    """Hands records to a callback; what that raises goes where logging reports its own errors."""

    def __init__(self, callback: Callback) -> None:
        super().__init__()
        self._callback = callback

    def emit(self, record: logging.LogRecord) -> None:
        severity = max(0, min(4, record.levelno // 10 - 1))
        location = f"{record.filename}:{record.lineno} {record.funcName}"
        try:
            logid = getattr(record, "logid", "")
            self._callback(severity, record.name, logid, location, record.getMessage())
        except Exception:
            self.handleError(record)


def set_default_logger_severity(severity: int) -> None:
    """Drop records below `severity`: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal.

    Raises:
        TypeError: `severity` is no int.
        RuntimeError: it is not in 0..4.
    """
    LOGGER.setLevel(_level(severity))


def set_default_logger_verbosity(verbosity: int) -> None:
    """Accepted for compatibility: verbose records have one level of detail here.

    Raises:
        TypeError: `verbosity` is no int.
    """
    _integer("verbosity", verbosity)


def set_default_logger_callback(callback: Callback | None, severity: int = 2) -> None:
    """Send records from `severity` on to `callback`, and to nothing else; None undoes that.

    The callback gets (severity 0..4, category, session's logid, location, message).

    Raises:
        RuntimeError: `severity` is not in 0..4, or `callback` cannot be called.
        TypeError: `severity` is no int.
    """
    level = _level(severity)
    if callback is not None and not callable(callback):
        raise RuntimeError(f"the logger callback must be callable, not {type(callback).__name__}")
    for handler in list(LOGGER.handlers):
        if isinstance(handler, _CallbackHandler):
            LOGGER.removeHandler(handler)
    LOGGER.propagate = callback is None
    LOGGER.setLevel(level)
    if callback is not None:
        LOGGER.addHandler(_CallbackHandler(callback))


def log_of(options: SessionOptions | RunOptions, level: int, message: str, *values: object) -> None:
    """Log a record of a session or a run, whose own severity counts where it is set."""
    severity = options.log_severity_level
    wanted = LOGGER.isEnabledFor(level) if severity < 0 else level >= _SEVERITIES[severity]
    if wanted:
        extra = {"logid": options.logid}
        record = LOGGER.makeRecord(
            LOGGER.name, level, __file__, 0, message, values, None, None, extra
        )
        LOGGER.handle(record)


def _level(severity: int) -> int:
    severity = _integer("severity", severity)
    if not 0 <= severity < len(_SEVERITIES):
        raise RuntimeError(f"Invalid logging severity {severity}: expected 0 to 4")
    return _SEVERITIES[severity]


def _integer(name: str, value: object) -> int:
    """`value` as int, also one of NumPy's; TypeError for a truth value and what is none."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"incompatible function arguments: {name} {value!r} is no int")
    return operator.index(value)
