# SPDX-License-Identifier: Apache-2.0
"""A progress bar on stderr for reading models."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def reading(path: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A function to be called with the number of bytes of each piece that was read."""
    with moving(f"reading {path}", quiet) as progress:
        yield progress


@contextlib.contextmanager
def moving(what: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A function to be called with the number of bytes of each piece that was read or written."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn()
    console = Console(stderr=True)
    is_hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as progress:
        task = progress.add_task(what, total=None)
        yield lambda nbytes: progress.advance(task, nbytes)


@contextlib.contextmanager
def steps(title: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function to be called with a line on each step, of which the latest is shown."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    console = Console(stderr=True)
    is_hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as progress:
        task = progress.add_task(title, total=None)
        yield lambda line: progress.update(task, description=f"{title}: {line}")
