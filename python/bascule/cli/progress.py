# SPDX-License-Identifier: Apache-2.0
"""A progress bar on stderr for reading models."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def reading(path: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A function to be called with the number of bytes of each piece that was read."""
    with moving(f"reading {path}", quiet) as progress:
        yield progress


@contextlib.contextmanager
def moving(what: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A function to be called with the number of bytes of each piece that was read or written."""
    if _is_hidden(quiet):
        yield lambda nbytes: None
        return
    # Imported here: it takes longer than much of what it would show.
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda nbytes: progress.advance(task, nbytes)


@contextlib.contextmanager
def steps(title: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function to be called with a line on each step, of which the latest is shown."""
    if _is_hidden(quiet):
        yield lambda line: None
        return
    # Imported here, as above.
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda line: progress.update(task, description=f"{title}: {line}")


def _is_hidden(quiet: bool) -> bool:
    return quiet or not sys.stderr.isatty()
