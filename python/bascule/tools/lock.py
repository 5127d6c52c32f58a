# SPDX-License-Identifier: Apache-2.0
"""Files of digests: which models these are, and whether they still are the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from bascule.tools.digest import PREFIX, digest

_FORMAT = 1

PathLike = Union[str, "os.PathLike[str]"]
Digester = Callable[[str], str]
"""What makes the digest of the model at a path."""


def write_lock(
    models: Iterable[PathLike], lock: PathLike, digester: Digester | None = None
) -> dict[str, str]:
    """Write the digests of models to a lock file, all of it or nothing.

    Args:
        models: paths of .onnx files.
        lock: the file to write; it names the models by their paths from its folder.
        digester: makes a digest of a path, `bascule.tools.digest.digest` by default.

    Returns:
        The digests by these names, sorted.
    """
    folder = Path(lock).resolve().parent
    digester = digester or _digest
    found = {_name(Path(model), folder): digester(os.fspath(model)) for model in models}
    found = dict(sorted(found.items()))
    text = json.dumps({"format": _FORMAT, "models": found}, indent=2, ensure_ascii=False) + "\n"
    temporary = Path(f"{os.fspath(lock)}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, lock)
    return found


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a model in a lock file.

    Attributes:
        model: the path, from the folder of the lock file.
        state: ``same``, ``changed``, ``missing`` or ``unreadable``.
        expected: the digest in the lock file.
        found: the digest now, or why there is none.
    """

    model: str
    state: str
    expected: str
    found: str


def check_lock(lock: PathLike, digester: Digester | None = None) -> Iterator[Checked]:
    """Compare every model of a lock file with its digest there.

    Raises:
        OSError: the lock file cannot be read.
        ValueError: it is no lock file, or one of another version.
    """
    folder = Path(lock).resolve().parent
    digester = digester or _digest
    for name, expected in read_lock(lock).items():
        path = folder / name
        if not path.exists():
            yield Checked(name, "missing", expected, "there is no such file")
            continue
        try:
            found = digester(str(path))
        except Exception as error:  # a damaged file is a finding, and the others are looked at
            yield Checked(name, "unreadable", expected, str(error))
            continue
        yield Checked(name, "same" if found == expected else "changed", expected, found)


def read_lock(lock: PathLike) -> dict[str, str]:
    """The digests in a lock file, by the paths of the models from its folder.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no lock file, or one of another version.
    """
    try:
        content = json.loads(Path(lock).read_text(encoding="utf-8"))
        version, models = content["format"], content["models"]
        items = list(models.items())
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{os.fspath(lock)} is no lock file of bascule") from None
    if version != _FORMAT:
        raise ValueError(f"{os.fspath(lock)} has format {version!r}; known is {_FORMAT}")
    for name, expected in items:
        if not isinstance(expected, str) or not expected.startswith(PREFIX):
            raise ValueError(f"{os.fspath(lock)}: '{name}' has no digest that begins with {PREFIX}")
    return dict(items)


def _digest(path: str) -> str:
    return str(digest(path))


def _name(model: Path, folder: Path) -> str:
    """The path from `folder`, with slashes; models on another drive keep their whole path."""
    # The last part may be a link: the name in the lock file is that of the link.
    whole = model.parent.resolve() / model.name
    try:
        return Path(os.path.relpath(whole, folder)).as_posix()
    except ValueError:
        return whole.as_posix()
