# SPDX-License-Identifier: Apache-2.0
"""bascule completion: a script by which a shell completes verbs and options."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

_SHELLS = ("bash", "zsh", "fish")

_BASH = """\
_bascule() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" verb="" each
    for each in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$each" in -*) ;; *) verb="$each"; break ;; esac
    done
    local words=""
    case "$verb" in
        "") words="{verbs}" ;;
{cases}
    esac
    if [[ -z "$verb" || "$word" == -* ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$word"))
    else
        COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word"))
    fi
}}
complete -o filenames -F _bascule bascule
"""

_ZSH = """\
#compdef bascule
_bascule() {{
    if (( CURRENT == 2 )); then
        local -a verbs=(
{verbs}
        )
        _describe 'verb' verbs
        return
    fi
    local -a words
    case "$words_verb" in
{cases}
    esac
    if [[ "$PREFIX" == -* ]]; then _describe 'option' words; else compadd -a choices; _files; fi
}}
_bascule_start() {{
    local words_verb="${{words[2]}}"
    local -a choices
    _bascule "$@"
}}
compdef _bascule_start bascule
"""


def add_parser(verbs: Any) -> None:
    parser = verbs.add_parser(
        "completion",
        help="print a script by which a shell completes verbs and options",
        description="Print a script for a shell. bash: bascule completion bash > "
        "~/.local/share/bash-completion/completions/bascule; zsh: add 'source <(bascule completion "
        "zsh)' to ~/.zshrc, after compinit; fish: bascule completion fish > "
        "~/.config/fish/completions/bascule.fish",
    )
    parser.add_argument("shell", choices=_SHELLS)
    parser.set_defaults(handler=main)


def main(options: argparse.Namespace) -> int:
    print(script(options.shell), end="")
    return 0


def script(shell: str) -> str:
    """The script for ``bash``, ``zsh`` or ``fish``."""
    from bascule.cli import make_parser

    verbs = list(_verbs(make_parser()))
    if shell == "bash":
        cases = [
            f'        {verb}) words="{" ".join([*_flags(parser), *_choices(parser)])}" ;;'
            for verb, _, parser in verbs
        ]
        names = " ".join(verb for verb, _, _ in verbs)
        return _BASH.format(verbs=f"{names} --help --version", cases="\n".join(cases))
    if shell == "zsh":
        return _zsh(verbs)
    return "\n".join(_fish(verbs)) + "\n"


_Verb = tuple[str, str, argparse.ArgumentParser]


def _verbs(parser: argparse.ArgumentParser) -> Iterator[_Verb]:
    """(verb, what it does, its parser) of each."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            for verb, inner in action.choices.items():
                yield verb, helps.get(verb, ""), inner


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in parser._actions for flag in action.option_strings]


def _choices(parser: argparse.ArgumentParser) -> list[str]:
    """What a positional argument may be."""
    positional = [a for a in parser._actions if not a.option_strings and a.choices]
    return [str(choice) for action in positional for choice in action.choices or ()]


def _zsh(verbs: list[_Verb]) -> str:
    lines, cases = [], []
    for verb, text, parser in verbs:
        lines.append(f"            {_quoted(verb + ':' + text)}")
        flags = [
            _quoted(f"{flag}:{_text(action)}")
            for action in parser._actions
            for flag in action.option_strings
        ]
        choices = " ".join(_choices(parser))
        cases.append(f"        {verb}) words=({' '.join(flags)}); choices=({choices}) ;;")
    return _ZSH.format(verbs="\n".join(lines), cases="\n".join(cases))


def _fish(verbs: list[_Verb]) -> Iterator[str]:
    first = "complete -c bascule -n __fish_use_subcommand"
    yield f"{first} -s h -l help -d 'show help'"
    yield f"{first} -l version -d 'show the version'"
    for verb, text, parser in verbs:
        yield f"{first} -f -a {verb} -d {_quoted(text)}"
        here = f"complete -c bascule -n '__fish_seen_subcommand_from {verb}'"
        for action in parser._actions:
            names = [
                f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                for flag in action.option_strings
            ]
            if names:
                takes = " -r" if action.nargs != 0 else ""
                values = " ".join(map(str, action.choices or ()))
                given = f" -f -a {_quoted(values)}" if values else ""
                yield f"{here} {' '.join(names)}{takes}{given} -d {_quoted(_text(action))}"
        for choice in _choices(parser):
            yield f"{here} -f -a {choice}"


def _text(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%")


def _quoted(text: str) -> str:
    """In single quotes, without what ends them."""
    return "'" + text.replace("'", "") + "'"
