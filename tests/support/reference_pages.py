# SPDX-License-Identifier: Apache-2.0
"""The reference pages that are written from the code: all names, and the command line.

``python -m tests.support.reference_pages`` writes them.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator

from bascule.cli import make_parser
from tests.support.docstrings import Name
from tests.support.reference import DOCS, directives, resolve

INDEX = DOCS / "reference" / "index.md"
COMMANDS = DOCS / "reference" / "command_line.md"

_INDEX_HEAD = """\
# All names

Every public name, by subject. Errors are on [their own page](errors.md), the command line on
[another](command_line.md).
"""
_COMMANDS_HEAD = """\
# Command line

One verb a task. `--json` prints the same facts for scripts. The exit code is 0 when it is done, 1
when it failed or found what was looked for (a difference, a bad number), 2 for wrong usage. A
symbolic size that `-d NAME=SIZE` does not give is 1, and inputs that `-i` does not give are random,
by `--seed`.
"""


def title_of(page: str) -> str:
    """The heading of a reference page."""
    first = (DOCS / "reference" / page).read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ")


def summary(path: str) -> str:
    """The first sentence of what is said about a name."""
    text = " ".join(Name(path, resolve(path)).text.partition("\n\n")[0].split())
    return text.replace("|", "\\|").replace("``", "`")


def index_page() -> str:
    """docs/reference/index.md."""
    pages: dict[str, list[str]] = {}
    for path, page, _ in directives():
        if not inspect.ismodule(resolve(path)):
            pages.setdefault(page, []).append(path)
    text = [_INDEX_HEAD]
    for page, paths in sorted(pages.items(), key=lambda item: title_of(item[0])):
        text.append(f"\n## [{title_of(page)}]({page})\n\n| name | |\n| --- | --- |\n")
        text += [f"| [{path}][{path}] | {summary(path)} |\n" for path in paths]
    return "".join(text)


def _spelled(action: argparse.Action) -> str:
    """An option or argument as it is typed."""
    metavar = action.metavar
    if isinstance(metavar, tuple):
        metavar = " ".join(metavar)
    value = metavar or ("" if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"`{value or action.dest.upper()}`"
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    return names if action.nargs == 0 or not value else f"{names} `{value}`"


def _about(action: argparse.Action) -> str:
    text = (action.help or "").replace("%%", "%") % {"default": action.default}
    if action.choices:
        text += f"{': ' if text else ''}{', '.join(f'`{each}`' for each in action.choices)}"
    number = isinstance(action.default, (int, float)) and not isinstance(action.default, bool)
    if number and "default" not in text:
        text += f" (default {action.default:g})"
    return text.replace("|", "\\|")


def _table(parser: argparse.ArgumentParser) -> Iterator[str]:
    actions = [
        action
        for action in parser._actions
        if not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction))
    ]
    if actions:
        yield "\n| argument | |\n| --- | --- |\n"
    for action in actions:
        yield f"| {_spelled(action)} | {_about(action)} |\n"


def _verbs(parser: argparse.ArgumentParser, path: str, level: int) -> Iterator[str]:
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        helps = {each.dest: each.help or "" for each in action._choices_actions}
        for verb, inner in action.choices.items():
            yield f"\n{'#' * level} {path} {verb}\n\n"
            text = (inner.description or f"{helps.get(verb, '')}.").replace("%%", "%")
            yield f"{text[:1].upper()}{text[1:]}\n"
            yield from _table(inner)
            yield from _verbs(inner, f"{path} {verb}", level + 1)


def command_page() -> str:
    """docs/reference/command_line.md."""
    parser = make_parser()
    return "".join([_COMMANDS_HEAD, *_table(parser), *_verbs(parser, "bascule", 2)])


if __name__ == "__main__":
    INDEX.write_text(index_page(), encoding="utf-8")
    COMMANDS.write_text(command_page(), encoding="utf-8")
