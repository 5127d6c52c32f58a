# SPDX-License-Identifier: Apache-2.0
"""The number of threads that sessions without a number of their own share."""

from __future__ import annotations

from bascule.errors import Fail

_sizes: tuple[int, int] | None = None


def set_global_thread_pool_sizes(
    intra_op_num_threads: int = 0, inter_op_num_threads: int = 0
) -> None:
    """Set the numbers of threads, 0 for one per usable CPU, once in a process.

    Afterwards every session must set ``use_per_session_threads = False``, and takes these numbers.

    Raises:
        TypeError: a number is no int.
        Fail: they have been set before.
    """
    global _sizes
    for number in (intra_op_num_threads, inter_op_num_threads):
        if not isinstance(number, int):
            raise TypeError(f"incompatible function arguments: {number!r} is no int")
    if _sizes is not None:
        raise Fail("Global thread pools have already been set; they can be set only once")
    _sizes = (intra_op_num_threads, inter_op_num_threads)


def check_use(per_session: bool) -> None:
    """Raise RuntimeError for a session that does not fit: see set_global_thread_pool_sizes."""
    if per_session and _sizes is not None:
        raise RuntimeError("use_per_session_threads must be false when using a global thread pool")
    if not per_session and _sizes is None:
        raise RuntimeError(
            "use_per_session_threads is False but there is no global thread pool: call "
            "set_global_thread_pool_sizes first"
        )


def intra_op_threads(own: int) -> int:
    """The number for a session that has this number of its own."""
    return own if _sizes is None else _sizes[0]
