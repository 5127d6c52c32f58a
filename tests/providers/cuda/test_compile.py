# SPDX-License-Identifier: Apache-2.0
"""The kernels compile for every GPU that the provider takes, and the cache of what was compiled."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bascule import errors
from bascule.providers import cache
from bascule.providers.cuda import compile, nvrtc, sources

pytestmark = pytest.mark.host

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


UNUSED = "--diag-warn=177"
"""Also of what a part declares and does not use: nvcc warns of it, NVRTC by itself does not."""
GENERATIONS = (75, 80, 90, 100, 120)
_FILES = sorted({module.partition(".")[0] for module in sources.modules()})
_SINCE = re.compile(r"__CUDA_ARCH__ >= (\d+)0\b")


@needs_nvrtc
@pytest.mark.parametrize("module", [*_FILES, *(m for m in sources.modules() if "." in m)])
def test_every_kernel_compiles_without_a_warning(module: str) -> None:
    """The front end instantiates all templates; what follows it is long and finds nothing more.

    The parts of a file are its text with something left out.
    """
    for capability in GENERATIONS if "." not in module else GENERATIONS[:1]:
        options = [*compile.options(capability), "--fdevice-syntax-only", UNUSED]
        _, log = nvrtc.compile_program(sources.source(module), f"{module}.cu", options)
        assert log == ""


def _assembled() -> list[tuple[str, int]]:
    """Modules with instructions of their own, and the GPUs that some of these begin with."""
    common = sources.inlined('#include "common.cuh"', "common.cuh")
    shared = common[common.index("__device__ inline void wait_for_previous_kernels") :]
    shared = shared[: shared.index("#endif")]
    return [
        (module, capability)
        for module in _FILES
        if "asm" in (text := sources.source(module).replace(shared, ""))
        for capability in sorted({int(since) for since in _SINCE.findall(text)})
    ]


@needs_nvrtc
@pytest.mark.parametrize("module,capability", _assembled())
def test_instructions_are_those_of_the_gpu(module: str, capability: int) -> None:
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
    sources.module_of.cache_clear()
    sources.architectures.cache_clear()
    return tmp_path


@pytest.fixture(autouse=True)
def _other_folders_are_forgotten() -> object:
    yield
    sources.source.cache_clear()
    sources.module_of.cache_clear()
    sources.architectures.cache_clear()


def test_a_gpu_that_the_compiler_has_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made for newer ones would be refused by the driver, which does not say why."""
    monkeypatch.setattr(nvrtc, "architectures", lambda: (75, 80, 90))
    monkeypatch.setattr(nvrtc, "version", lambda: (13, 5))
    monkeypatch.setattr(nvrtc, "headers", lambda: "/include")
    told = r"capability 7\.0, and NVRTC 13\.5 compiles for 7\.5 or newer; .*\[cuda12\]"
    with pytest.raises(errors.EngineError, match=told):
        compile.options(70)
    assert "--gpu-architecture=sm_75" in compile.options(75)
    assert "--gpu-architecture=compute_90" in compile.options(121)


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


# --- files in parts

PARTS = """// parts: float32 float16
// parts: rest
#include "common.cuh"
#define NAMED(name, T) extern "C" __global__ void of_##name(T* x) { x[0] = T(); }
FOR_NUMBERS(NAMED)
IN_PART(rest, extern "C" __global__ void of_the_rest(int* a, int* b) { *a = *b; })
"""


@pytest.fixture
def parted(package: Path) -> Path:
    (package / "two.cu").write_text(PARTS)
    common = Path(__file__).parents[3] / "kernels" / "common.cuh"
    (package / "common.cuh").write_text(common.read_text())
    return package


@pytest.mark.usefixtures("parted")
def test_a_file_in_parts_is_a_module_for_each() -> None:
    assert sources.modules() == ["one", "two.float32", "two.float16", "two.rest"]
    for module in ("two.float64", "one.float32"):
        with pytest.raises(errors.EngineError, match="has no part"):
            sources.source(module)
    assert "BASCULE_PARTS" not in sources.source("two").splitlines()[0]  # all of them


@pytest.mark.usefixtures("parted")
def test_the_name_of_a_kernel_tells_its_part() -> None:
    assert sources.module_of("one", "of_float32") == "one"
    assert sources.module_of("two", "of_float16") == "two.float16"
    assert sources.module_of("two", "of_the_rest") == "two.rest"
    assert sources.module_of("two.rest", "of_float16") == "two.rest"
    with pytest.raises(errors.EngineError, match=r"of_int8 is in no part of two\.cu"):
        sources.module_of("two", "of_int8")


def test_every_kernel_is_found_by_its_name() -> None:
    """Longer parts before shorter ones, such as the type alone."""
    name = "matmul_nbits_2"
    assert sources.module_of(name, "matmul_nbits_2_1_4_float16") == f"{name}.1_4_float16"
    assert sources.module_of(name, "matmul_nbits_2_1_4_bfloat16") == f"{name}.1_4_bfloat16"
    assert sources.module_of(name, "expand_nbits_2_float16") == f"{name}.float16"


@needs_nvrtc
@pytest.mark.usefixtures("parted")
@pytest.mark.parametrize("part", ["float32", "float16", "rest"])
def test_a_part_has_its_kernels_and_no_others(part: str) -> None:
    code = compile.binary(f"two.{part}", 90)
    names = {"float32": b"of_float32", "float16": b"of_float16", "rest": b"of_the_rest"}
    assert [name for name in (*names.values(), b"of_int8") if name in code] == [names[part]]


def test_a_fat_binary_of_a_part_has_its_name(parted: Path) -> None:
    (parted / "two.rest.fatbin").write_bytes(b"fat part")
    assert compile.binary("two.rest", 90) == b"fat part"
