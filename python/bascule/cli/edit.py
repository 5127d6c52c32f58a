# SPDX-License-Identifier: Apache-2.0
"""bascule edit: cut, change and join models."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bascule.cli.console import make_console
from bascule.cli.progress import moving
from bascule.cli.session_arguments import (
    add_json_argument,
    add_weight_arguments,
    excludes,
    external_data,
)

if TYPE_CHECKING:
    from bascule.tools.edit import Editor

Action = Callable[[argparse.Namespace], "Editor"]


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "edit",
        help="cut, change and join models",
        description="Change a model in one respect and write it to another file. All else stays as "
        "it is, and weights of any size stay in their files until they are copied.",
    )
    edits = parser.add_subparsers(dest="edit", required=True, metavar="EDIT")
    for add in (_cut, _insert, _replace, _delete, _rename, _set, _to_input, _to_constant, _dims):
        one = add(edits)
        one.add_argument("model", help=".onnx file")
        _add_operands(one)
        _add_output(one)
    for add in (_merge, _chain):
        one = add(edits)
        one.add_argument("model", nargs="+", help=".onnx files")
        _add_output(one)


_OPERANDS = {
    "insert": (("value", None, "the value to put it on"), ("op", None, "the operator")),
    "replace": (("node", None, "the node, or what it makes"),),
    "delete": (("node", "+", "nodes, or what they make"),),
    "rename": (("names", "+", "old and new name, as x=image"),),
    "set": (("arrays", "+", "initializer and .npy file, as w=weights.npy"),),
    "to-input": (("names", "+", "initializers"),),
    "to-constant": (("arrays", "+", "input, or input and .npy file, as x=value.npy"),),
    "dims": (("sizes", "+", "a size, as batch=1, or an input's shape, as image=batch,3,?,?"),),
}


def _add_operands(parser: argparse.ArgumentParser) -> None:
    for name, nargs, text in _OPERANDS.get(parser.prog.rpartition(" ")[2], ()):
        if nargs is None:
            parser.add_argument(name, help=text)
        else:
            parser.add_argument(name, nargs=nargs, help=text)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the file to write; may be the model"
    )
    add_weight_arguments(parser)
    parser.add_argument(
        "--share-data", action="store_true",
        help="refer to the data files of the model, which must be in the same folder",
    )  # fmt: skip
    parser.add_argument("--no-check", action="store_true", help="write it even if it is not valid")
    add_json_argument(parser)


def _sub(edits: Any, name: str, text: str, action: Action) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = edits.add_parser(name, help=text, description=f"{text}.")
    parser.set_defaults(handler=main, action=action)
    return parser


# --- edits


def _cut(edits: Any) -> argparse.ArgumentParser:
    def action(options: argparse.Namespace) -> Editor:
        types = dict(_pair(each) for each in options.type)
        return _editor(options).cut(options.inputs, options.outputs, types=types)

    parser = _sub(edits, "cut", "keep what is between named values", action)
    parser.add_argument("--inputs", nargs="+", metavar="VALUE", help="default: those needed")
    parser.add_argument("--outputs", nargs="+", metavar="VALUE", help="default: those there are")
    parser.add_argument(
        "--type", action="append", default=[], metavar="VALUE=TYPE",
        help="the type of a value that cannot be inferred, as h=float32[batch,768]",
    )  # fmt: skip
    return parser


def _insert(edits: Any) -> argparse.ArgumentParser:
    def action(options: argparse.Namespace) -> Editor:
        return _editor(options).insert(
            options.value,
            options.op,
            inputs=options.inputs,
            attributes=_attributes(options),
            domain=options.domain or "",
            name=options.name,
            constants={name: _load(file) for name, file in map(_pair, options.constant)},
            readers=options.readers,
        )

    parser = _sub(edits, "insert", "put a node between a value and what reads it", action)
    _add_node_options(parser)
    parser.add_argument("--name", help="the name of the node")
    parser.add_argument(
        "--constant", action="append", default=[], metavar="NAME=FILE",
        help="an initializer for it to read, from a .npy file or a number",
    )  # fmt: skip
    parser.add_argument("--readers", nargs="+", metavar="NODE", help="only these read the result")
    return parser


def _replace(edits: Any) -> argparse.ArgumentParser:
    def action(options: argparse.Namespace) -> Editor:
        return _editor(options).replace(
            options.node,
            options.op,
            domain=options.domain,
            attributes=_attributes(options),
            inputs=options.inputs,
        )

    parser = _sub(edits, "replace", "change operator, attributes or inputs of a node", action)
    parser.add_argument("--op", help="the operator")
    _add_node_options(parser)
    return parser


def _add_node_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--domain", help="the domain of the operator")
    parser.add_argument(
        "-a", "--attribute", action="append", default=[], metavar="NAME=VALUE",
        help="an attribute, as axis=1, perm=[0,2,1] or mode=linear; nothing removes it",
    )  # fmt: skip
    parser.add_argument(
        "--inputs", nargs="+", metavar="VALUE", help='all that it reads, "" for none'
    )


def _delete(edits: Any) -> argparse.ArgumentParser:
    def action(options: argparse.Namespace) -> Editor:
        editor = _editor(options)
        join = options.join
        with editor.step("delete"):
            for node in options.node:
                editor.delete(node, join=int(join) if join and join.isdecimal() else join)
        return editor

    parser = _sub(
        edits, "delete", "take out nodes and join what they read to their readers", action
    )
    parser.add_argument("--join", metavar="INPUT", help="which input, by number or name")
    return parser


def _rename(edits: Any) -> argparse.ArgumentParser:
    def action(options: argparse.Namespace) -> Editor:
        return _editor(options).rename(dict(map(_pair, options.names)), kind=options.kind)

    parser = _sub(edits, "rename", "rename values, nodes and sizes", action)
    kinds = ("value", "input", "output", "initializer", "node", "dim")
    parser.add_argument("--kind", choices=kinds, help="what, where a name is that of several")
    return parser


def _set(edits: Any) -> argparse.ArgumentParser:
    def action(options: argparse.Namespace) -> Editor:
        editor = _editor(options)
        with editor.step("set initializers"):
            for name, file in map(_pair, options.arrays):
                editor.set_initializer(name, _load(file, options.dtype))
        return editor

    parser = _sub(edits, "set", "set or add initializers", action)
    _add_dtype(parser)
    return parser


def _to_input(edits: Any) -> argparse.ArgumentParser:
    def action(options: argparse.Namespace) -> Editor:
        editor = _editor(options)
        with editor.step("initializers to inputs"):
            for name in options.names:
                editor.initializer_to_input(name, keep_default=options.keep_default)
        return editor

    parser = _sub(edits, "to-input", "turn initializers into inputs", action)
    parser.add_argument("--keep-default", action="store_true", help="they need not be fed")
    return parser


def _to_constant(edits: Any) -> argparse.ArgumentParser:
    def action(options: argparse.Namespace) -> Editor:
        editor = _editor(options)
        with editor.step("inputs to initializers"):
            for each in options.arrays:
                name, file = _pair(each) if "=" in each else (each, "")
                array = _load(file, options.dtype) if file else None
                editor.input_to_initializer(name, array)
        return editor

    parser = _sub(edits, "to-constant", "turn inputs into initializers", action)
    _add_dtype(parser)
    return parser


def _dims(edits: Any) -> argparse.ArgumentParser:
    def action(options: argparse.Namespace) -> Editor:
        from bascule.tools.edit.types import parse_dim

        editor = _editor(options)
        sizes: dict[str, Any] = {}
        for name, text in map(_pair, options.sizes):
            dims = [parse_dim(part.strip()) for part in text.strip("[]").split(",")]
            sizes[name] = dims if name in editor.inputs else dims[0]
        return editor.set_dims(sizes, mend=not options.no_mend)

    parser = _sub(edits, "dims", "give sizes a name or a number", action)
    parser.add_argument(
        "--no-mend", action="store_true", help="tell of Reshapes that need mending, change none"
    )
    return parser


def _merge(edits: Any) -> argparse.ArgumentParser:
    def action(options: argparse.Namespace) -> Editor:
        return _editor(options).merge(*options.model[1:], prefixes=options.prefixes)

    parser = _sub(edits, "merge", "put models side by side", action)
    _add_prefixes(parser)
    return parser


def _chain(edits: Any) -> argparse.ArgumentParser:
    def action(options: argparse.Namespace) -> Editor:
        pairs = list(map(_pair, options.connect)) or None
        return _editor(options).chain(
            *options.model[1:], connect=pairs, keep=options.keep, prefixes=options.prefixes
        )

    parser = _sub(edits, "chain", "put models one behind the other", action)
    parser.add_argument(
        "--connect", action="append", default=[], metavar="OUTPUT=INPUT",
        help="an output of the first model and the input of the second that it goes to",
    )  # fmt: skip
    parser.add_argument("--keep", nargs="+", default=[], metavar="OUTPUT", help="stays an output")
    _add_prefixes(parser)
    return parser


def _add_prefixes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prefixes", nargs="+", metavar="PREFIX",
        help="for each model but the first, what comes before its names",
    )  # fmt: skip


# --- arguments


def _editor(options: argparse.Namespace) -> Editor:
    from bascule.tools.edit import Editor

    first = options.model if isinstance(options.model, str) else options.model[0]
    return Editor(first, check=not options.no_check)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"'{text}' is not of the form NAME=VALUE")
    return name, value


def _attributes(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in map(_pair, options.attribute):
        try:
            found[name] = json.loads(text) if text else None
        except ValueError:  # a word
            found[name] = text
    return found


def _load(file: str, dtype: str | None = None) -> Any:
    """The array of a .npy file, mapped, or of a number."""
    import numpy as np

    from bascule.tools.edit.types import parse_type

    try:
        array: Any = np.float32(file)
    except ValueError:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    if dtype is None:
        return array
    wanted = parse_type(dtype).dtype.numpy
    is_opaque = array.dtype.kind == "V" and array.dtype.itemsize == wanted.itemsize
    return array.view(wanted) if is_opaque else array.astype(wanted)


def _add_dtype(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtype", help="the element type, as bfloat16; default: the array's own")


# --- the command


def main(options: argparse.Namespace) -> int:
    from bascule.tools.edit import Editor

    if excludes(options, "--external-data", "--inline", "--share-data"):
        return 2
    action: Action = options.action
    first = options.model if isinstance(options.model, str) else options.model[0]
    before = Editor(first, check=False).describe()
    editor = action(options)
    with moving(f"writing {options.output}", options.json) as progress:
        editor.save(
            options.output,
            external_data=external_data(options),
            share_data=options.share_data,
            progress=progress,
        )
    record = {
        "model": options.output,
        "before": before,
        "after": editor.describe(),
        "notes": list(editor.notes),
    }
    if options.json:
        print(json.dumps(record))
    else:
        _show(record)
    return 0


_SIDES = ("before", "after")


def _show(record: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(record["model"]), title_justify="left")
    table.add_column("")
    for side in _SIDES:
        table.add_column(side, overflow="fold")
    for fact in ("nodes", "initializers", "inputs", "outputs"):
        cells = []
        for side in _SIDES:
            found = record[side][fact]
            cells.append(escape("\n".join(found) if isinstance(found, list) else str(found)))
        table.add_row(fact, *cells)
    console = make_console()
    console.print(table)
    for note in record["notes"]:
        console.print(f"note: {note}", markup=False, highlight=False)
