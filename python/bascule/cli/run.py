# SPDX-License-Identifier: Apache-2.0
"""bascule run: run a model once and show or save its outputs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from bascule.cli.console import make_console
from bascule.cli.inputs import random_feeds, read_feeds
from bascule.cli.session_arguments import (
    add_input_arguments,
    add_session_arguments,
    dimensions,
    make_session,
    session_options,
)


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "run",
        help="run a model once",
        description="Run a model once. Without a model, the bundled digit classifier reads its "
        "bundled samples.",
    )
    parser.add_argument("model", nargs="?", help="an .onnx file")
    add_input_arguments(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE.npz", help="write the outputs there instead of a table"
    )
    add_session_arguments(parser)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    if options.model is None:
        return _digits(options)
    session = make_session(options)
    inputs = session.get_inputs()
    feeds = read_feeds(options.input, inputs)
    missing = [arg for arg in inputs if arg.name not in feeds]
    feeds.update(random_feeds(missing, dimensions(options), options.seed))
    results = dict(zip((arg.name for arg in session.get_outputs()), session.run(None, feeds)))
    if options.output:
        _save(Path(options.output), results)
    elif options.json:
        print(json.dumps({name: _plain(value) for name, value in results.items()}))
    else:
        _show(results)
    return 0


def _save(path: Path, results: dict[str, Any]) -> None:
    """Write arrays by name; the items of a sequence become ``name.0``, ``name.1`` ..."""
    arrays: dict[str, Any] = {}
    for name, value in results.items():
        if isinstance(value, np.ndarray):
            arrays[name] = value
        elif isinstance(value, list) and all(isinstance(item, np.ndarray) for item in value):
            arrays.update({f"{name}.{index}": item for index, item in enumerate(value)})
        else:
            raise ValueError(f"output '{name}' is no tensor: use --json")
    for name, array in arrays.items():
        if array.dtype.kind == "V":  # a type that only ml_dtypes knows
            arrays[name] = array.astype(np.float32)
        elif array.dtype == object:
            arrays[name] = array.astype(np.str_)
    with path.open("wb") as file:  # of a name, savez would add a suffix to it
        np.savez(file, **arrays)


def _plain(value: Any) -> Any:
    """`value` as JSON can say it: numbers that are not finite are text, which -i reads."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "c":
        value = np.stack([value.real, value.imag], axis=-1)
    value = value.astype(np.float32) if value.dtype.kind == "V" else value
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        value = np.where(np.isfinite(value), value.astype(object), value.astype(str))
    return value.tolist()


def _show(results: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("output", "type", "shape", "smallest", "mean", "largest", "first values")
    for name, value in results.items():
        table.add_row(*(escape(cell) for cell in (name, *_cells(value))))
    make_console().print(table)


def _cells(value: Any) -> tuple[str, ...]:
    """What is told of an output behind its name."""
    if not isinstance(value, np.ndarray):
        return type(value).__name__, f"[{len(value or ())}]", "", "", "", _clip(str(value))
    kind, shape = str(value.dtype), str(list(value.shape))
    if value.dtype.kind in "Oc" or value.size == 0:
        text = _clip(", ".join(str(item) for item in value.reshape(-1)[:4]))
        return kind, shape, "", "", "", text
    numbers = value.astype(np.float64)
    first = ", ".join(f"{x:.4g}" for x in numbers.reshape(-1)[:4])
    statistics = (f"{x:.4g}" for x in (numbers.min(), numbers.mean(), numbers.max()))
    return kind, shape, *statistics, first


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def _digits(options: argparse.Namespace) -> int:
    """The bundled example: predictions beside the truth."""
    from rich.table import Table

    from bascule.examples import digits
    from bascule.session import InferenceSession

    if options.input or options.output:
        raise ValueError("--input and --output need a model")
    path, images, labels = digits()
    session = InferenceSession(path, session_options(options))
    (probabilities,) = session.run(None, {"image": images})
    predictions = probabilities.argmax(axis=1)
    right = int((predictions == labels).sum())
    if options.json:
        print(json.dumps({"prediction": predictions.tolist(), "truth": labels.tolist()}))
        return 0
    console = make_console()
    console.print("Handwritten digits, read by the bundled classifier:")
    table = Table("sample", "prediction", "truth", "probability", "")
    for index, (prediction, truth) in enumerate(zip(predictions, labels)):
        mark = "[green]right[/]" if prediction == truth else "[red]wrong[/]"
        probability = f"{probabilities[index, prediction]:.3f}"
        table.add_row(str(index), str(prediction), str(truth), probability, mark)
    console.print(table)
    console.print(f"{right} of {len(labels)} right.")
    return 0
