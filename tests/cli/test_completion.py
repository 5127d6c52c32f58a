# SPDX-License-Identifier: Apache-2.0
"""bascule completion: scripts that name every verb and option."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess

import pytest

from bascule.cli import VERBS, main, make_parser


def options() -> list[tuple[str, str]]:
    """(verb, option) of each."""
    (verbs,) = (a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return [
        (verb, flag)
        for verb, parser in verbs.choices.items()
        for action in parser._actions
        for flag in action.option_strings
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_verb_and_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    sections = {
        verb: "\n".join(
            line
            for line in printed.splitlines()
            if re.search(rf"^ *{verb}\)|seen_subcommand_from {verb}'", line)
        )
        for verb in VERBS
    }
    assert len(options()) > 3 * len(VERBS)
    for verb, flag in options():
        named = flag
        if shell == "fish":
            named = f"-l {flag[2:]} " if flag.startswith("--") else f"-s {flag[1:]} "
        assert named in sections[verb], (verb, flag)
    for verb in VERBS:
        assert re.search(rf"\b{verb}\b", printed)
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=printed, text=True, check=True)


def completed(script: str, *words: str) -> list[str]:
    listed = " ".join(f"'{word}'" for word in words)
    code = f"{script}\nCOMP_WORDS=({listed})\nCOMP_CWORD={len(words) - 1}\n_bascule\n"
    code += 'printf "%s\\n" "${COMPREPLY[@]}"\n'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_what_bash_completes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    assert completed(script, "bascule", "di") == ["diff", "digest"]
    assert completed(script, "bascule", "diff", "--s") == ["--seed"]
    assert completed(script, "bascule", "completion", "z") == ["zsh"]


def test_another_shell(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["completion", "tcsh"])
    assert "invalid choice" in capsys.readouterr().err
