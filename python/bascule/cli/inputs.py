# SPDX-License-Identifier: Apache-2.0
"""Feeds for a model: from files, or random."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from bascule.compiled import Argument
from bascule.ir.dtype import DataType
from bascule.ir.types import SequenceType, TensorType, Type
from bascule.metadata import NodeArg

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def read_feeds(arguments: Sequence[str], inputs: Sequence[NodeArg]) -> dict[str, Any]:
    """Feeds from NAME=FILE or FILE arguments.

    A .npz or .json file without a name gives arrays by input name; any other file without one is
    for the first input that has no feed yet. Images become float32 in 0..1, channels first when
    the input has 1 or 3 of them in its second dimension.
    """
    feeds: dict[str, Any] = {}
    known = {arg.name: arg for arg in inputs}
    for argument in arguments:
        name, separator, file = argument.partition("=")
        if not separator or Path(argument).exists():
            name, file = "", argument
        path = Path(file)
        if not file or not path.exists():
            raise FileNotFoundError(f"input file {file or repr(argument)} does not exist")
        if not name and path.suffix in (".npz", ".json"):
            data = _loaded(path)
            if path.suffix == ".json" and not isinstance(data, dict):
                raise ValueError(
                    f"{file}: expected an object with a list for each input; "
                    f"of one input alone it is -i NAME={file}"
                )
            unknown = [key for key in data if key not in known]
            if unknown:
                raise ValueError(f"{file}: the model has no inputs {unknown}; it has {list(known)}")
            feeds.update({key: _from(path, data[key], known[key]) for key in data})
            continue
        if not name:
            free = [arg.name for arg in inputs if arg.name not in feeds]
            if not free:
                raise ValueError(f"{file}: every input has a feed already")
            name = free[0]
        if name not in known:
            raise ValueError(f"the model has no input '{name}'; it has {list(known)}")
        feeds[name] = _read(path, known[name])
    return feeds


def _loaded(path: Path) -> Any:
    """What a .npy, .npz or .json file holds; its arrays are no objects, which could run code."""
    try:
        if path.suffix == ".json":
            return json.loads(path.read_text("utf-8"))
        return np.load(path) if path.suffix == ".npy" else dict(np.load(path))
    except (TypeError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as {path.suffix}: {error}") from None


def _from(path: Path, value: Any, arg: NodeArg) -> np.ndarray[Any, Any]:
    """`value`, which the file holds, as the input takes it."""
    try:
        return _typed(value, arg)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} does not fit input '{arg.name}', {arg.type}: {error}") from None


def _typed(value: Any, arg: NodeArg) -> np.ndarray[Any, Any]:
    """Lists take the input's element type, and so do floats where it is narrower than float32."""
    if not isinstance(value, np.ndarray):
        return np.array(value, dtype=element_type(arg))
    if value.dtype.kind not in "fV" or not arg.type.startswith("tensor("):
        return value
    dtype = element_type(arg)
    if dtype == np.float16 and value.dtype.kind == "f":
        # Imported here: few models have such inputs.
        from bascule.tools.rounding import narrowed

        return narrowed(value, dtype)
    return value if dtype.isbuiltin == 1 else value.astype(dtype)


def _read(path: Path, arg: NodeArg) -> np.ndarray[Any, Any]:
    if path.suffix in (".npy", ".json"):
        return _from(path, _loaded(path), arg)
    if path.suffix.lower() in _IMAGES:
        return _image(path, arg)
    raise ValueError(f"{path}: expected .npy, .npz, .json or an image ({', '.join(_IMAGES)})")


def _image(path: Path, arg: NodeArg) -> np.ndarray[Any, Any]:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("reading images needs Pillow: pip install pillow") from None
    if len(arg.shape) != 4:
        raise ValueError(f"input '{arg.name}' of shape {arg.shape} takes no image")
    first = arg.shape[1] in (1, 3)
    channels = arg.shape[1] if first else arg.shape[3]
    height, width = arg.shape[2:] if first else arg.shape[1:3]
    image = Image.open(path).convert("L" if channels == 1 else "RGB")
    if isinstance(height, int) and isinstance(width, int):
        image = image.resize((width, height))
    pixels = np.asarray(image, dtype=element_type(arg)).reshape(image.height, image.width, -1)
    if element_type(arg).kind == "f":
        pixels = pixels / pixels.dtype.type(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if first else pixels)[np.newaxis]


def element_type(arg: NodeArg) -> np.dtype[Any]:
    """The NumPy element type of a tensor input."""
    name = arg.type.removeprefix("tensor(").removesuffix(")")
    if name == arg.type or not arg.type.startswith("tensor("):
        raise ValueError(f"input '{arg.name}' is a {arg.type}; feed it from Python instead")
    return DataType[name.upper()].numpy


def random_feeds(
    inputs: Sequence[NodeArg], sizes: dict[str, int], seed: int = 0
) -> dict[str, np.ndarray[Any, Any]]:
    """Seeded random arrays for every input. Sizes that nothing fixes are 1.

    Floats are normal, integers small and non-negative (valid as token numbers), attention masks 1.
    """
    generator = np.random.default_rng(seed)
    feeds = {}
    for arg in inputs:
        if arg.type.startswith("optional("):
            continue
        shape = [
            dim if isinstance(dim, int) else sizes.get(dim, 1) if isinstance(dim, str) else 1
            for dim in arg.shape
        ]
        dtype = element_type(arg)
        if dtype == np.dtype(object):
            array: np.ndarray[Any, Any] = np.full(shape, "text", dtype=object)
        elif "mask" in arg.name.lower() and dtype.kind in "iub":
            array = np.ones(shape, dtype)
        elif dtype.kind in "iu":
            array = generator.integers(0, 2 if "type" in arg.name.lower() else 100, shape)
        elif dtype.kind == "b":
            array = generator.integers(0, 2, shape)
        else:
            array = generator.standard_normal(shape, np.float32)
        feeds[arg.name] = np.asarray(array).astype(dtype)
    return feeds


def random_values(
    arguments: Sequence[tuple[str, Type]], sizes: dict[str, int], seed: int = 0
) -> dict[str, Any]:
    """As random_feeds, also for sequences of tensors, which are of two."""
    plain = [NodeArg.of(Argument(name, type)) for name, type in arguments if not _is_list(type)]
    feeds: dict[str, Any] = dict(random_feeds(plain, sizes, seed))
    for name, type in arguments:
        if isinstance(type, SequenceType) and _is_list(type):
            item = NodeArg.of(Argument(name, type.element))
            feeds[name] = [random_feeds([item], sizes, seed + n)[name] for n in range(2)]
    return feeds


def _is_list(type: Type) -> bool:
    return isinstance(type, SequenceType) and isinstance(type.element, TensorType)
