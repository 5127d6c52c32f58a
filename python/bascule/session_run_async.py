# SPDX-License-Identifier: Apache-2.0
"""Runs on other threads: with a callback, or to be awaited."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bascule.errors import ALL, Fail, InvalidArgument, without_code
from bascule.options import RunOptions

if TYPE_CHECKING:
    from bascule.feeds import Signature
    from bascule.options import SessionOptions

Callback = Callable[[list[Any], Any, str], object]


class AsyncRuns:
    """The part of InferenceSession that runs on other threads."""

    _options: SessionOptions
    _signature: Signature

    if TYPE_CHECKING:

        def run(
            self,
            output_names: Sequence[str] | None,
            input_feed: Mapping[str, Any],
            run_options: RunOptions | None = None,
        ) -> list[Any]: ...

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callback | None = None,
        user_data: Any = None,
        run_options: RunOptions | None = None,
        *,
        timeout: float | None = None,
    ) -> Coroutine[Any, Any, list[Any]] | None:
        """Run on another thread.

        With a callback: that thread calls ``callback(results, user_data, error)``; `error` is '' on
        success, otherwise it is the message, and the results are [].

        Without one: returns a coroutine of what `run` returns, for ``await`` on any event loop of
        asyncio. Many may be awaited at once: they run on the loop's executor.

        Args:
            output_names: the outputs wanted, as for `run`.
            input_feed: arrays by input name, as for `run`.
            callback: what is called with the results, or None to await them.
            user_data: is handed to the callback.
            run_options: of this run.
            timeout: seconds after which what is awaited is ``asyncio.TimeoutError``. That, and
                cancelling, stop the run before its next node. None: no limit.

        Raises:
            ValueError: a required input is missing; nothing runs.
            RuntimeError: a feed is no tensor at all; nothing runs.
            InvalidArgument: with a callback, the session has ``intra_op_num_threads = 1``.
            TypeError: the callback cannot be called, `output_names` is no list of str, or there are
                a callback and a timeout.
        """
        self._signature.check_missing(input_feed)
        feeds = dict(input_feed)
        if callback is None:
            return self._awaited(output_names, feeds, run_options, timeout)
        if self._options.intra_op_num_threads == 1:
            raise InvalidArgument("intra op thread pool must have at least one thread for RunAsync")
        if not callable(callback):
            raise TypeError(
                "incompatible function arguments: the callback cannot be called: "
                f"{type(callback).__name__}"
            )
        if timeout is not None:
            raise TypeError(
                "run_async takes a timeout only without a callback, where it is awaited"
            )
        self._check_objects(output_names, feeds)

        def work() -> None:
            results: list[Any] = []
            message = ""
            try:
                results = self.run(output_names, feeds, run_options)
            except (*ALL, ValueError, TypeError, RuntimeError, MemoryError) as error:
                message = without_code(error)
            callback(results, user_data, message)

        threading.Thread(target=work, name="bascule run_async", daemon=True).start()
        return None

    def _check_objects(self, output_names: Any, feeds: Mapping[str, Any]) -> None:
        """Raise what objects of wrong kinds raise; names, types and sizes are left to the run."""
        with contextlib.suppress(InvalidArgument):
            self._signature.output_numbers(output_names)
        with contextlib.suppress(InvalidArgument, Fail):
            self._signature.values(feeds)

    async def _awaited(
        self,
        output_names: Sequence[str] | None,
        feeds: dict[str, Any],
        run_options: RunOptions | None,
        timeout: float | None,
    ) -> list[Any]:
        import asyncio  # only here: it takes long to import

        options = RunOptions() if run_options is None else run_options.follower()
        loop = asyncio.get_running_loop()
        run = loop.run_in_executor(None, self.run, output_names, feeds, options)
        try:
            return await asyncio.wait_for(run, timeout)
        except BaseException:  # cancelled, or out of time: the thread has to stop too
            options.terminate = True
            raise
