# SPDX-License-Identifier: Apache-2.0
"""Libraries that cannot be loaded, and operators in them that misbehave: errors, never crashes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bascule
from bascule.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph
from bascule.cli import main
from bascule.operators import registry
from tests.api.models import tensor
from tests.operators.build import SOURCES, built, needs_compiler
from tests.operators.models import call, graph, session

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def load(path: Path) -> None:
    bascule.SessionOptions().register_custom_ops_library(str(path))


def test_files_that_are_no_library(tmp_path: Path) -> None:
    with pytest.raises(Fail, match=r"Failed to load library .*none\.so: No such file"):
        load(tmp_path / "none.so")
    with pytest.raises(Fail, match=r"Failed to load library .*: Is a directory"):
        load(tmp_path)
    text = tmp_path / "text.so"
    text.write_text("no library")
    with pytest.raises(Fail, match="Failed to load library"):
        load(text)
    with pytest.raises(Fail, match="Failed to load library"):
        bascule.load_operators(text)
    with pytest.raises(TypeError, match="path must be str"):
        bascule.SessionOptions().register_custom_ops_library(1)  # type: ignore[arg-type]


@needs_compiler
def test_libraries_for_somebody_else() -> None:
    with pytest.raises(Fail, match=r"has no function bascule_operator_library, which .*made with"):
        load(built(SOURCES / "foreign.c"))
    with pytest.raises(Fail, match=r"RegisterCustomOps, the entry of onnxruntime's C interface"):
        load(built(SOURCES / "foreign.c", "-DREGISTER"))


@needs_compiler
def test_a_file_that_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "library.so"
    shutil.copy(built(SOURCES / "factor.cpp", "-DFACTOR=2"), path)
    load(path)
    path.unlink()
    shutil.copy(built(SOURCES / "factor.cpp", "-DFACTOR=3"), path)
    with pytest.raises(Fail, match="has changed since this process loaded it"):
        load(path)


DESCRIPTIONS = {
    "nothing": "it gave no reason; this bascule has version 1.0",
    "a reason": "it does not like this bascule; this bascule has version 1.0",
    "a newer version": r"it was built for version 1\.1 of the interface; this bascule has",
    "another major version": r"it was built for version 2\.0 of the interface",
    "a small library": "its description has a size of 4 bytes",
    "a negative count": "a number of operators of -1",
    "no list": "its list of operators is NULL",
    "no operator": "operator 0: operator 0 is NULL",
    "a small operator": "operator 0 has a size of 8 bytes",
    "no domain": "its domain is missing",
    "an empty name": "its name is missing",
    "since 0": "operator wrong.Op: since 0; versions begin with 1",
    "no compute": "it has no function that computes",
    "many inputs": "a number of inputs of 1000000",
    "no input": "operator wrong.Op: input 0 is NULL",
    "a small input": "input 0 has a size of 1 bytes",
    "no name": "the name of a parameter is missing",
    "a variadic input before others": "'x' is variadic and not the last",
    "no type": "'x' allows no element type",
    "same as itself": "'x' has the element type of input 0, which does not come before it",
    "same as none": "'y' has the element type of input 3, which does not come before it",
    "a graph": "attribute 'k' is of kind 5",
    "another default": "the default of attribute 'k' is of another kind",
    "no default": "the default of attribute 'k' is not complete",
    "two defaults": "the default of attribute 'k' is not complete",
    "one attribute twice": "it has two attributes 'k'",
    "one operator twice": r"it describes wrong\.Op since 1 twice",
}


@needs_compiler
@pytest.mark.parametrize("how", DESCRIPTIONS)
def test_wrong_descriptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setenv("BASCULE_TEST_DESCRIPTION", how)
    path = tmp_path / "library.so"  # each a library of its own, as it describes itself once
    shutil.copy(built(SOURCES / "descriptions.c"), path)
    for _ in range(2):
        with pytest.raises(
            Fail, match=rf"Failed to load library .*library\.so: .*{DESCRIPTIONS[how]}"
        ):
            load(path)


@needs_compiler
def test_structures_that_have_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASCULE_TEST_DESCRIPTION", "grown")
    path = tmp_path / "library.so"
    shutil.copy(built(SOURCES / "descriptions.c"), path)
    load(path)


@needs_compiler
def test_domains_of_the_standard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASCULE_TEST_DESCRIPTION", "the standard's domain")
    path = tmp_path / "library.so"
    shutil.copy(built(SOURCES / "descriptions.c"), path)
    for register in (bascule.load_operators, bascule.SessionOptions().register_custom_ops_library):
        with pytest.raises(InvalidArgument, match="choose a domain of your own"):
            register(str(path))


RUNS = {
    "fails without a reason": "the library gave no reason",
    "no output": "the library did not make output 0 'y'",
    "a negative size": r"gives output 0 'y' the shape \{2,-3\}",
    "a huge size": "size",
    "another shape": r"as tensor\(float\)\{7,7\}; expected tensor\(float\)\{\?,3\}",
    "no sizes": "gives output 0 'y' a rank of 2 and no sizes",
    "a rank of -1": "gives output 0 'y' a rank of -1",
    "a rank of 99": "gives output 0 'y' a rank of 99",
    "type 0": "gives output 0 'y' element type 0",
    "type 8": "gives output 0 'y' element type 8",
    "type 77": "gives output 0 'y' element type 77",
    "another type": r"makes output 0 'y' as tensor\(int64\)\{2,3\}; expected tensor\(float\)",
    "output 3": "makes output 3; the node has 1",
    "output -1": "makes output -1; the node has 1",
    "twice": "makes output 0 'y' twice",
    "strings of numbers": "asks for strings of input 0, which has none",
    "strings of no input": "asks for input 4, which is left out",
    "strings of no output": "sets output 0, which it has not made",
    "strings for numbers": "asks for strings of output 0, which has none",
    "a negative loop": "a loop over -1 items without a body",
    "a loop without a body": "a loop over 10 items without a body",
    "negative memory": "asks for -1 bytes",
    "a long reason": "xxxx",
    "types of a run": "the library gave no reason",
}


@needs_compiler
@pytest.mark.parametrize("how", RUNS)
def test_operators_that_misbehave(how: str) -> None:
    proto = graph(call("Misbehaving", how=how), outputs=[tensor("y")])
    made = session(proto, built(SOURCES / "misbehaving.c"))
    for _ in range(2):
        with pytest.raises(Fail, match=f"running Misbehaving node. Name:'here'.*{RUNS[how]}"):
            made.run(None, {"x": X})


@needs_compiler
def test_an_operator_in_c() -> None:
    made = session(graph(call("Misbehaving", how="well")), built(SOURCES / "misbehaving.c"))
    np.testing.assert_array_equal(made.run(None, {"x": X})[0], X)


@needs_compiler
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("a size", "its rule for types gives output 0 a size of -7"),
        ("a type", "its rule for types gives output 0 element type 99"),
        ("a rank", "its rule for types gives output 0 a rank of 40"),
        ("no sizes", "its rule for types gives output 0 a rank of 2 and no sizes"),
        ("an output", "its rule for types gives output 2 a type; the node has 1 outputs"),
        ("fails", "the library gave no reason"),
    ],
)
def test_rules_that_misbehave(how: str, message: str) -> None:
    with pytest.raises(InvalidGraph, match=rf"test\.Misbehaving node 'here': {message}"):
        session(graph(call("Misbehaving", how=f"rule: {how}")), built(SOURCES / "misbehaving.c"))


# --- building


EXAMPLE = Path(__file__).parents[2] / "examples" / "cpp_operator"


@needs_compiler
def test_the_example(tmp_path: Path) -> None:
    library = tmp_path / "librow_operators.so"
    shutil.copy(built(EXAMPLE / "row_operators.cpp"), library)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE / "run.py"), str(library)],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert library.name in done.stdout and "Normalize" in done.stdout


@needs_compiler
@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake")
def test_the_example_by_cmake(tmp_path: Path) -> None:
    configure = [
        "cmake",
        "-S",
        str(EXAMPLE),
        "-B",
        str(tmp_path),
        f"-DPython_EXECUTABLE={sys.executable}",
    ]
    for command in (configure, ["cmake", "--build", str(tmp_path)]):
        done = subprocess.run(command, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stdout + done.stderr
    (library,) = tmp_path.glob("librow_operators.*")
    load(library)


@needs_compiler
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = built(SOURCES / "operators.cpp")
    model = tmp_path / "model.onnx"
    model.write_bytes(graph(call("Copy")).SerializeToString())
    assert main(["explain", str(model), "--operators", str(library), "--json"]) == 0
    (node,) = json.loads(capsys.readouterr().out)["nodes"]
    assert node["kernel"] == library.name
    compared = ["compare", str(model), "cpu:disabled", "--operators", str(library)]
    try:
        assert main([*compared, "-d", "n=2"]) == 0
    finally:
        for each in list(registry):
            registry.remove(each)
    capsys.readouterr()
    assert main(["explain", str(model)]) == 1
    assert "is not a registered function/op" in capsys.readouterr().err


def environment() -> dict[str, str]:
    """That of this process, with the folders that it imports from."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_folders() -> None:
    for option, folder, file in (
        ("--include-dir", bascule.include_dir(), "bascule/operator.h"),
        ("--cmake-dir", bascule.cmake_dir(), "basculeConfig.cmake"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "bascule", option],
            capture_output=True,
            text=True,
            env=environment(),
        )
        assert done.stdout.strip() == folder, done.stderr
        assert Path(folder, file).is_file()
