# SPDX-License-Identifier: Apache-2.0
"""bascule doctor: what it finds, what it says is missing, and its exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bascule.cli import main
from bascule.native import usable_cpus
from bascule.tools import doctor
from bascule.tools.doctor import cpu, cuda, installation, trial
from bascule.tools.doctor.finding import Finding

_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A machine with a GPU of CUDA 13 where nothing is missing; tests take things away."""
    parts: dict[str, Any] = {
        "driver": cuda.Driver((13, 0), gpus=["0: GPU, compute capability 9.0, 80 GiB"]),
        "packages": {"cupy-cuda13x": "14.2.0", "nvidia-cudnn-frontend": "1.24.1"},
        "libraries": {"cudart": (13, 5), "nvrtc": (13, 5), "cublasLt": (13, 1, 0), "cudnn": (9,)},
        "headers": "/include",
    }
    present = installation.version_of
    monkeypatch.setattr(cuda, "find_driver", lambda: parts["driver"])
    monkeypatch.setattr(cuda, "find_headers", lambda: parts["headers"])
    monkeypatch.setattr(cuda, "version_of", lambda name: parts["packages"].get(name))
    monkeypatch.setattr(cuda, "load", lambda name: parts["libraries"][name])
    for name, (soname, _) in cuda._LIBRARIES.items():
        monkeypatch.setitem(cuda._LIBRARIES, name, (soname, lambda version: version))
    monkeypatch.setattr(installation, "version_of", lambda name: parts.get(name) or present(name))
    monkeypatch.setattr(
        trial, "on_cuda", lambda: Finding("cuda", "runs a model", "all", "ok", True)
    )
    return parts


def ill(asked: tuple[str, ...] = ("cpu", "cuda")) -> dict[str, Finding]:
    """What keeps that which is asked for from working."""
    return {each.name: each for each in doctor.examine(asked) if not each.is_well}


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main(["doctor", "--json", *arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, json.loads(captured.out)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, record = report(capsys)
    assert code == 0 and record["works"] is True and record["asked"] == ["cpu"]
    found = {(each["area"], each["name"]): each["found"] for each in record["findings"]}
    assert found["cpu", "threads in an operator"] == usable_cpus()
    assert found["cpu", "levels built"][0] == "base"
    assert found["cpu", "level in use"] in found["cpu", "levels built"]
    assert found["cpu", "runs a model"] == "20 of 20 digits right"
    assert found["bascule", "kernels"] > 200
    assert re.fullmatch(r"[\d.]+.*", found["packages", "numpy"])
    assert not any(area == "peaks" for area, _ in found)


def test_table(capsys: pytest.CaptureFixture[str], machine: dict[str, Any]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "level in use" in shown and "compute capability 9.0" in shown
    assert "What was asked for (cpu) works." in shown
    machine["packages"] = {}
    assert main(["doctor"]) == 0
    capsys.readouterr()
    assert main(["doctor", "-p", "cuda"]) == 1
    shown = capsys.readouterr().out
    assert 'pip install "bascule[cuda13]"' in shown
    assert "What was asked for (cpu, cuda) does not work" in shown


def test_peaks_are_measured_if_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Native:
        peak_gflops = staticmethod(lambda threads, seconds: 100.0 * threads)
        read_bandwidth = staticmethod(lambda threads, seconds: 10.0 * threads)

    monkeypatch.setattr(cpu, "_native", Native)
    monkeypatch.setattr(cpu, "usable_cpus", lambda: 2)
    found = {each.name: each.found for each in cpu.measure()}
    assert found == {
        "float32 GFLOP/s, 1 thread": 100,
        "GB/s read from memory, 1 thread": 10,
        "float32 GFLOP/s, 2 threads": 200,
        "GB/s read from memory, 2 threads": 20,
    }


# --- the CPU


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_quota(
    files: dict[str, str], expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    assert cpu.cpu_quota() == expected


def test_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
    assert cpu._flags() == []
    (tmp_path / "cpuinfo").write_text("model\t: x\nflags\t\t: fpu avx2 avx512f\n\nflags\t: other\n")
    assert cpu._flags() == ["avx2", "avx512f"]


@pytest.mark.parametrize("level", ["base", "abacus"])
def test_a_level_from_the_environment(level: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bascule", "doctor", "--json"],
        check=True,
        capture_output=True,
        env={**os.environ, "BASCULE_ISA": level, "OMP_NUM_THREADS": "1"},
    )
    found = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert found["threads in an operator"]["found"] == 1
    assert found["OMP_NUM_THREADS"]["found"] == "1"
    if level == "abacus":
        assert found["level in use"]["state"] == "wrong"
        assert "BASCULE_ISA=abacus is no level" in found["level in use"]["fix"]
    else:
        assert found["level in use"]["found"] == "base"


# --- packages and folders


def test_versions_are_those_of_the_project() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads(_PYPROJECT.read_text())["project"]
    assert [f"{name}>={least}" for name, least in installation.REQUIRED.items()] == project[
        "dependencies"
    ]
    extras = project["optional-dependencies"]
    for name, (least, extra) in installation.OPTIONAL.items():
        assert extras[extra] == [f"{name}>={least}"]
    for major, cupy in cuda._CUPY.items():
        assert f"{cupy}>={cuda.CUPY_LEAST}" in extras[f"cuda{major}"]
        first, last = cuda.FRONTEND
        assert f"nvidia-cudnn-frontend>={first},<{last}" in extras[f"cuda{major}"]


def test_old_and_absent_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"numpy": "1.9.2rc1", "pillow": "9"}
    monkeypatch.setattr(installation, "version_of", versions.get)
    found = {each.name: each for each in installation.packages()}
    assert (found["numpy"].state, found["numpy"].fix) == ("wrong", 'pip install "numpy>=1.26"')
    assert (found["onnx"].state, found["onnx"].found) == ("missing", None)
    assert not found["onnx"].is_well
    assert found["pillow"].state == "wrong" and found["pillow"].is_well
    assert found["numba"].fix == 'pip install "bascule[numba]"'


def test_cache_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "inner" / "cache"
    monkeypatch.setenv("BASCULE_CACHE_DIR", str(folder))
    (found,) = installation.caches()
    assert found.state == "ok" and "made when needed" in found.found
    folder.mkdir(parents=True)
    (folder / "a.cubin").write_bytes(bytes(2_000_000))
    (found,) = installation.caches()
    assert found.found == f"{folder} (1 files, 2.0 MB)"
    monkeypatch.setenv("BASCULE_CACHE_DIR", str(folder / "a.cubin" / "below"))
    (found,) = installation.caches()
    assert found.state == "wrong" and "set BASCULE_CACHE_DIR" in found.fix
    monkeypatch.setattr(installation.cache, "folder", lambda: None)
    (found,) = installation.caches()
    assert found.state == "missing"


def test_a_missing_compiled_part_says_what_builds_it() -> None:
    code = "import sys; sys.modules['bascule._native'] = None; import bascule"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "bascule's compiled part cannot be loaded" in done.stderr
    assert "pip install --force-reinstall" in done.stderr


def test_a_provider_that_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(trial, "InferenceSession", fail)
    assert (trial.on_cpu().found, trial.on_cpu().is_well) == ("RuntimeError: no room", False)
    assert ill(("cpu",)).keys() == {"runs a model"}


# --- CUDA


def test_nothing_is_missing(machine: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert ill() == {}
    code, record = report(capsys, "-p", "cuda")
    assert code == 0 and record["asked"] == ["cpu", "cuda"]
    assert {"area": "cuda", "name": "runs a model"}.items() <= record["findings"][-2].items()


def test_no_driver(machine: dict[str, Any]) -> None:
    machine["driver"] = None
    found = ill()
    assert found.keys() == {"driver", "GPUs"} and "driver, 580 or newer" in found["driver"].fix
    assert ill(("cpu",)) == {}


def test_a_driver_without_a_gpu(machine: dict[str, Any]) -> None:
    machine["driver"] = cuda.Driver((13, 0), "CUDA_ERROR_NO_DEVICE")
    assert ill()["GPUs"].found == "CUDA_ERROR_NO_DEVICE"


@pytest.mark.parametrize(("version", "extra"), [((12, 4), "cuda12"), ((14, 0), "cuda13")])
def test_the_extra_is_the_drivers(
    machine: dict[str, Any], version: tuple[int, int], extra: str
) -> None:
    machine["driver"].cuda = version
    machine["packages"], machine["libraries"], machine["headers"] = {}, {}, None
    found = {each.name: each for each in cuda.examine(needed=True) if each.state != "ok"}
    assert found.keys() == {"CuPy", *cuda._LIBRARIES, "cuDNN frontend", "CUDA headers"}
    assert ill().keys() == {"CuPy", "CUDA runtime", "NVRTC", "CUDA headers"}
    assert {each.fix for each in found.values()} == {f'pip install "bascule[{extra}]"'}


def test_an_old_driver(machine: dict[str, Any]) -> None:
    machine["driver"].cuda = (11, 8)
    assert ill()["driver"].fix == "install driver 525 or newer"


def test_packages_for_another_driver(machine: dict[str, Any]) -> None:
    machine["driver"].cuda = (12, 4)
    found = ill()
    assert found.keys() == {"CuPy", "CUDA runtime", "NVRTC"}
    assert found["CuPy"].fix.startswith("pip uninstall cupy-cuda13x, then pip install")


def test_two_cupys(machine: dict[str, Any]) -> None:
    machine["packages"]["cupy-cuda12x"] = "14.1.0"
    assert "pip uninstall cupy-cuda13x cupy-cuda12x" in ill()["CuPy"].fix


def test_an_old_cupy(machine: dict[str, Any]) -> None:
    machine["packages"]["cupy-cuda13x"] = "14.1.1"
    assert ill()["CuPy"].fix == 'pip install "cupy-cuda13x>=14.2"'


@pytest.mark.parametrize("version", ["1.21.0", "1.27.0", "2.0"])
def test_frontends_that_do_not_fit(machine: dict[str, Any], version: str) -> None:
    machine["packages"]["nvidia-cudnn-frontend"] = version
    found = {each.name: each for each in cuda.examine(needed=True)}
    assert found["cuDNN frontend"].fix == 'pip install "nvidia-cudnn-frontend>=1.22,<1.27"'


def test_versions_in_hundreds() -> None:
    class Library:
        @staticmethod
        def version() -> int:
            return 91402

    assert cuda._in_hundreds("version")(Library) == (9, 14, 2)


def test_the_libraries_of_this_machine() -> None:
    """Whatever it has, looking at it does not fail."""
    assert {each.area for each in cuda.examine(needed=True)} == {"cuda"}
