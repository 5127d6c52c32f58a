# SPDX-License-Identifier: Apache-2.0
"""The kernels compile for every GPU that the provider takes, and the cache of what was compiled."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bascule import errors
from bascule.providers.cuda import cache, compile, nvrtc, sources

SOURCE = """
#include "common.cuh"
extern "C" __global__ void twice(float* x) { x[thread_number()] *= 2; }
"""


def _missing() -> str:
    try:
        nvrtc.headers()
    except errors.EngineError as error:
        return str(error)
    return ""


needs_nvrtc = pytest.mark.skipif(bool(_missing()), reason=_missing())


def _targets() -> list[tuple[str, int]]:
    """The oldest GPU for each module; all generations for one that tells them apart."""
    common = (sources.folder() / "common.cuh").read_text(encoding="utf-8").count("__CUDA_ARCH__")
    return [
        (module, capability)
        for module in sources.modules()
        for capability in (75, 80, 90, 100, 120)
        if capability == 75 or sources.source(module).count("__CUDA_ARCH__") > common
    ]


@needs_nvrtc
@pytest.mark.parametrize("module,capability", _targets())
def test_every_kernel_compiles_without_a_warning(module: str, capability: int) -> None:
    options = compile.options(capability)
    code, log = nvrtc.compile_program(sources.source(module), f"{module}.cu", options)
    assert code[:4] == b"\x7fELF"
    assert log == ""


@needs_nvrtc
def test_an_error_shows_the_log_with_file_and_line() -> None:
    source = '#include "common.cuh"\n\n__device__ int f() { return nowhere; }\n'
    with pytest.raises(errors.EngineError, match=r'wrong\.cu\(3\): error.*"nowhere"'):
        compile.compile_source(source, 90, "wrong.cu")


@needs_nvrtc
def test_code_for_a_gpu_newer_than_the_compiler_is_left_to_the_driver() -> None:
    assert b".target sm_" in compile.compile_source(SOURCE, 990)


@needs_nvrtc
def test_compiled_code_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASCULE_CACHE_DIR", str(tmp_path))
    code = compile.compile_source(SOURCE, 90)
    with monkeypatch.context() as patch:
        patch.setattr(nvrtc, "compile_program", None)  # from here on it would fail
        assert compile.compile_source(SOURCE, 90) == code
    assert compile.compile_source(SOURCE, 80) != code
    assert compile.compile_source(SOURCE.replace("2", "3"), 90) != code
    assert len(list(tmp_path.iterdir())) == 3


def test_included_files_are_part_of_the_text() -> None:
    text = sources.inlined('#include "common.cuh"\n#include "common.cuh"\nint x;\n', "test.cu")
    assert text.count("block_reduce(") == 1
    assert "#pragma once" not in text and '#include "' not in text
    assert '#line 2 "test.cu"\n\nint x;' in text  # so it is in line 3


def test_a_module_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(errors.EngineError, match=r"no file nowhere\.cu"):
        sources.source("nowhere")


# --- the prebuilt ones


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as in a wheel, with one fat binary."""
    (tmp_path / "architectures.txt").write_text("75\n90\n120\n")
    (tmp_path / "one.fatbin").write_bytes(b"fat")
    (tmp_path / "one.cu").write_text('extern "C" __global__ void one() {}\n')
    monkeypatch.setenv("BASCULE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "folder", lambda: tmp_path)
    sources.source.cache_clear()
    sources.architectures.cache_clear()
    return tmp_path


@pytest.fixture(autouse=True)
def _other_folders_are_forgotten() -> object:
    yield
    sources.source.cache_clear()
    sources.architectures.cache_clear()


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("capability", [75, 90, 120, 121, 200])
def test_a_fat_binary_is_taken_where_it_runs(capability: int) -> None:
    assert compile.binary("one", capability) == b"fat"


@needs_nvrtc
@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("capability", [80, 100])
def test_a_gpu_without_prebuilt_code_gets_its_own(capability: int) -> None:
    assert compile.binary("one", capability)[:4] == b"\x7fELF"


@needs_nvrtc
@pytest.mark.usefixtures("package")
def test_prebuilt_code_can_be_passed_by() -> None:
    assert compile.binary("one", 90, prebuilt=False)[:4] == b"\x7fELF"


# --- the cache


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "not" / "there"
    monkeypatch.setenv("BASCULE_CACHE_DIR", str(folder))
    return folder


def _fails() -> bytes:
    raise AssertionError("it should have been in the cache")


def test_the_cache_keeps_results_by_key(place: Path) -> None:
    assert cache.cached("x", "a", lambda: b"1") == b"1"
    assert cache.cached("x", "b", lambda: b"2") == b"2"
    assert cache.cached("x", "a", _fails) == b"1"
    assert {path.suffix for path in place.iterdir()} == {".x"}


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_file_is_made_again(place: Path, damage: bytes | None) -> None:
    cache.cached("x", "a", lambda: b"1" * 100)
    (file,) = place.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-1] if damage is None else damage)
    assert cache.cached("x", "a", lambda: b"new") == b"new"
    assert cache.cached("x", "a", _fails) == b"new"


def test_many_writers_leave_one_whole_file(place: Path) -> None:
    data = b"0123456789" * 10000
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cache.cached("x", "a", lambda: data), range(32)))
    assert found == [data] * 32
    assert len(list(place.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BASCULE_CACHE_DIR", str(tmp_path / "file"))
    assert cache.cached("x", "a", lambda: b"1") == b"1"
    assert cache.cached("x", "a", lambda: b"2") == b"2"


def test_a_failure_is_not_kept(place: Path) -> None:
    with pytest.raises(AssertionError):
        cache.cached("x", "a", _fails)
    assert cache.cached("x", "a", lambda: b"1") == b"1"


@pytest.mark.skipif(os.name != "posix", reason="the folder is another one there")
def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BASCULE_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.folder() == Path("/somewhere/bascule")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache.folder() == Path("/home/somebody/.cache/bascule")
