# SPDX-License-Identifier: Apache-2.0
"""Sessions with a plan from the cache are the sessions that compiled it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bascule as ort
from bascule.errors import InvalidArgument
from bascule.plans.contents import Contents
from bascule.plans.folder import CacheFolder
from tests.models.test_models import DATA, load_runs
from tests.plans.models import MODELS, normal, parsed, with_external_data

pytestmark = pytest.mark.skipif(os.name != "posix", reason="plans are cached on POSIX systems only")

ARCHITECTURES = ("bert", "convnext", "convolutions", "efficientnet", "gpt2", "mobilenetv2", "unet")
MODEL, FEEDS = MODELS["float products"]()
BYTES = MODEL.SerializeToString()


def options(folder: Path, **config: str) -> ort.SessionOptions:
    made = ort.SessionOptions()
    made.add_session_config_entry("session.cache_dir", str(folder))
    for key, value in config.items():
        made.add_session_config_entry(f"session.{key}", value)
    return made


def session(
    source: bytes | Path, chosen: ort.SessionOptions | None, **arguments: Any
) -> ort.InferenceSession:
    return ort.InferenceSession(source, chosen, providers=["CPUExecutionProvider"], **arguments)


def became(made: ort.InferenceSession) -> str:
    """What became of the plan: wrote, read, not."""
    return made.explain().plan_cache.split(" ")[0]


def plans(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.plan"))


def assert_same(actual: Any, expected: Any) -> None:
    """Equal bit for bit, in type and shape."""
    assert type(actual) is type(expected)
    if isinstance(expected, list):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
        assert (
            actual.tolist() == expected.tolist()
            if expected.dtype == object
            else (actual.tobytes() == expected.tobytes())
        )
    else:
        assert actual == expected


@pytest.mark.parametrize("name", MODELS)
def test_warm_is_cold(name: str, tmp_path: Path) -> None:
    model, feeds = MODELS[name]()
    data = model.SerializeToString()
    plain = session(data, None)
    wrote, read = session(data, options(tmp_path)), session(data, options(tmp_path))
    assert (became(wrote), became(read)) == ("wrote", "read")
    expected = plain.run(None, feeds)
    for other in (wrote, read):
        assert_same(other.run(None, feeds), expected)
        assert other.get_inputs() == plain.get_inputs()
        assert other.get_outputs() == plain.get_outputs()
        assert other.get_overridable_initializers() == plain.get_overridable_initializers()
        assert other.get_modelmeta() == plain.get_modelmeta()
        assert other.explain().rows == plain.explain().rows
        assert other.explain().passes == plain.explain().passes
        assert other._program.steps == plain._program.steps


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_give_the_same_bits(name: str, tmp_path: Path) -> None:
    path = DATA / f"{name}.onnx"
    (feeds, _), *_ = load_runs(name)
    expected = session(path, None).run(None, feeds)
    for what in ("wrote", "read"):
        made = session(path, options(tmp_path))
        assert became(made) == what
        assert_same(made.run(None, feeds), expected)


def test_released_weights_are_kept_in_one_form(tmp_path: Path) -> None:
    data = parsed(
        "g (float[2,512] x, float[512,512] w) => (float[2,512] y) { y = MatMul(x, w) }",
        w=normal(512, 512),
    ).SerializeToString()
    session(data, options(tmp_path))
    (plan,) = plans(tmp_path)
    assert 512 * 512 * 4 <= plan.stat().st_size < 1.1 * 512 * 512 * 4


def test_model_files_and_external_data(tmp_path: Path) -> None:
    path = with_external_data(tmp_path)
    cache = tmp_path / "cache"
    feeds = {"x": normal(2, 64, seed=1)}
    first = session(path, options(cache))
    assert became(first) == "wrote"
    assert became(session(path, options(cache))) == "read"
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(path, copy)
    shutil.copy(tmp_path / "weights.bin", copy)
    assert became(session(copy / "model.onnx", options(cache))) == "read"
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[3] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    changed = session(path, options(cache))
    assert became(changed) == "wrote"
    assert_same(changed.run(None, feeds), session(path, None).run(None, feeds))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.Fail, match="does not exist"):
        session(path, options(cache))


def test_old_files_are_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(BYTES)
    os.utime(path, (1e9, 1e9))
    session(path, options(tmp_path / "cache"))
    from bascule.plans.contents import Contents

    hashed: list[int] = []
    digest = Contents.digest
    monkeypatch.setattr(
        Contents, "digest", lambda self, data: (hashed.append(len(data)), digest(self, data))[1]
    )
    assert became(session(path, options(tmp_path / "cache"))) == "read"
    assert len(BYTES) not in hashed
    os.utime(path, (2e9, 2e9))  # of the future: never believed
    assert became(session(path, options(tmp_path / "cache"))) == "read"
    assert became(session(path, options(tmp_path / "cache"))) == "read"
    assert hashed.count(len(BYTES)) == 2


def _initializer(chosen: ort.SessionOptions) -> None:
    chosen.add_initializer("c", ort.OrtValue.ortvalue_from_numpy(normal(60, seed=9)))


@pytest.mark.parametrize(
    "change",
    [
        lambda chosen: setattr(
            chosen, "graph_optimization_level", ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        ),
        lambda chosen: chosen.add_free_dimension_override_by_name("n", 4),
        lambda chosen: chosen.add_free_dimension_override_by_denotation("D", 4),
        lambda chosen: chosen.add_session_config_entry("session.another", "1"),
        _initializer,
    ],
)
def test_other_options_are_another_plan(change: Any, tmp_path: Path) -> None:
    session(BYTES, options(tmp_path))
    chosen = options(tmp_path)
    change(chosen)
    other = session(BYTES, chosen)
    assert became(other) == "wrote"
    assert became(session(BYTES, chosen)) == "read"
    assert len(plans(tmp_path)) == 2
    plain = chosen.copy()
    plain._config.pop("session.cache_dir")
    assert_same(other.run(None, FEEDS), session(BYTES, plain).run(None, FEEDS))


def test_other_passes_are_another_plan(tmp_path: Path) -> None:
    session(BYTES, options(tmp_path))
    other = session(BYTES, options(tmp_path), disabled_optimizers=["fuse_activation"])
    assert became(other) == "wrote"


def test_threads_share_a_plan(tmp_path: Path) -> None:
    session(BYTES, options(tmp_path))
    chosen = options(tmp_path)
    chosen.intra_op_num_threads = 1
    assert became(session(BYTES, chosen)) == "read"
    for threads in (1, 2):  # kernels that are chosen by timing are chosen for a number of them
        timed = options(tmp_path, autotune="1")
        timed.intra_op_num_threads = threads
        assert became(session(BYTES, timed)) == "wrote"


def damaged(data: bytes) -> dict[str, bytes]:
    half = len(data) // 2
    cut = {f"cut to {size}": data[:size] for size in (0, 7, 119, 120, 400, half, len(data) - 1)}
    flipped = {
        f"flipped {at}": data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
        for at in (0, 8, 16, 25, 50, 100, 119, 130, 500, 700, 2000, half, len(data) - 1)
    }
    return {**cut, **flipped, "longer": data + b"\0", "empty pages": bytes(len(data))}


def test_damaged_plans_are_made_anew(tmp_path: Path) -> None:
    expected = session(BYTES, options(tmp_path)).run(None, FEEDS)
    (plan,) = plans(tmp_path)
    good = plan.read_bytes()
    for name, data in damaged(good).items():
        plan.write_bytes(data)
        made = session(BYTES, options(tmp_path))
        assert became(made) == "wrote", name
        assert_same(made.run(None, FEEDS), expected)
        assert plan.read_bytes() == good, name


@pytest.mark.parametrize("contents", [b"", b"[]", b"{", b'{"key": 3}', b'{"files": 1}', b"\xff"])
def test_damaged_index_is_made_anew(contents: bytes, tmp_path: Path) -> None:
    session(BYTES, options(tmp_path))
    (tmp_path / "index.json").write_bytes(contents)
    assert became(session(BYTES, options(tmp_path))) == "wrote"
    assert became(session(BYTES, options(tmp_path))) == "read"


def _make(folder: Path, barrier: Any, results: Any) -> None:
    barrier.wait()
    made = session(BYTES, options(folder))
    results.put((became(made), made.run(None, FEEDS)[0].tobytes()))


def test_concurrent_writers(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_make, args=(tmp_path, barrier, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    assert len({outputs for _, outputs in found}) == 1
    assert {what for what, _ in found} <= {"wrote", "read"}
    assert len(plans(tmp_path)) == 1
    assert became(session(BYTES, options(tmp_path))) == "read"
    assert not list(tmp_path.glob("*.tmp"))


def test_an_index_that_another_process_makes_meanwhile_is_taken(tmp_path: Path) -> None:
    class Late(CacheFolder):
        """A folder whose index appears right after it was looked for."""

        looked = False

        def read(self, name: str, limit: int) -> bytes:
            found = super().read(name, limit) if self.looked else b""
            self.looked = True
            return found

    first = Contents(CacheFolder(str(tmp_path)))
    assert Contents(Late(str(tmp_path))).key == first.key


def test_a_model_that_changes_meanwhile_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_external_data(tmp_path)
    make = ort.InferenceSession._make

    def changing(self: Any, *arguments: Any, **named: Any) -> Any:
        made = make(self, *arguments, **named)
        target.write_bytes(target.read_bytes())
        return made

    monkeypatch.setattr(ort.InferenceSession, "_make", changing)
    target = tmp_path / "weights.bin"
    assert "changed meanwhile" in session(path, options(tmp_path / "c")).explain().plan_cache
    monkeypatch.undo()
    assert became(session(path, options(tmp_path / "c"))) == "wrote"


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="the system tells no sizes"
)
def test_sessions_share_their_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = parsed(
        "g (float[1,2048] x, float[2048,4096] w) => (float[1,4096] y) { y = MatMul(x, w) }",
        w=normal(2048, 4096),
    )
    onnx.save(model, path)
    for cache in ("", str(tmp_path / "cache")):
        command = [sys.executable, "-c", MEMORY, str(path), cache]
        subprocess.run(command, check=True)


MEMORY = """
import sys
import bascule, numpy
def session():
    options = bascule.SessionOptions()
    if sys.argv[2]:
        options.add_session_config_entry("session.cache_dir", sys.argv[2])
    made = bascule.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    made.run(None, {"x": numpy.ones((1, 2048), numpy.float32)})
    return made
def size():
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
first = session()
warmed = session()
before = size()
others = [session() for _ in range(4)]
assert size() - before < 16 << 10, (before, size())
"""


def test_threads_make_equal_sessions(tmp_path: Path) -> None:
    made: list[Any] = []

    def run() -> Any:
        return session(BYTES, options(tmp_path)).run(None, FEEDS)

    threads = [threading.Thread(target=lambda: made.append(run())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    for each in made:
        assert_same(each, session(BYTES, None).run(None, FEEDS))


def test_files_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    session(BYTES, options(folder))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_folder_that_others_write_to_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o777)
    made = session(BYTES, options(tmp_path))
    assert "other users can write" in made.explain().plan_cache
    assert "other users can write" in caplog.text
    assert not list(tmp_path.iterdir())


def test_links_and_writable_files_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    session(BYTES, options(folder))
    (plan,) = plans(folder)
    moved = plan.rename(tmp_path / "elsewhere")
    plan.symlink_to(moved)
    assert became(session(BYTES, options(folder))) == "wrote"
    assert not plan.is_symlink()
    plan.chmod(0o666)
    assert became(session(BYTES, options(folder))) == "wrote"
    plan.unlink()
    os.mkfifo(plan, 0o600)
    assert became(session(BYTES, options(folder))) == "wrote"


def test_what_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    made = session(BYTES, options(blocked / "cache"))
    assert "cannot be made" in made.explain().plan_cache
    assert_same(made.run(None, FEEDS), session(BYTES, None).run(None, FEEDS))

    def fails(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    made = session(BYTES, options(tmp_path / "full"))
    assert "No space left" in made.explain().plan_cache
    assert "No space left" in caplog.text
    assert not list((tmp_path / "full").iterdir())
    assert_same(made.run(None, FEEDS), session(BYTES, None).run(None, FEEDS))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_told_by_its_number(tmp_path: Path) -> None:
    made = session(BYTES, None)
    from bascule.providers.cpu.provider import CpuProvider  # a record that was not let go
    from tests.support.native import node_graph

    del made
    graph = node_graph("Identity", [np.zeros(3, np.float32)])
    program = CpuProvider(1, record=True).compile(graph)
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        assert program.write_plan(descriptor, bytes(16), "", []) == 28
    finally:
        os.close(descriptor)


def test_the_folder_stays_below_its_limit(tmp_path: Path) -> None:
    def make(seed: int, most: int) -> ort.InferenceSession:
        data = parsed(
            "g (float[2,256] x, float[256,256] w) => (float[2,256] y) { y = MatMul(x, w) }",
            w=normal(256, 256, seed=seed),
        ).SerializeToString()
        return session(data, options(tmp_path, cache_max_bytes=str(most)))

    make(0, 10**9)
    (first,) = plans(tmp_path)
    size = first.stat().st_size
    make(1, 10**9)
    os.utime(first, (time.time() - 9000, first.stat().st_mtime))
    os.utime(plans(tmp_path)[0], (time.time() - 9000, time.time() - 9000))
    os.utime(plans(tmp_path)[1], (time.time() - 9000, time.time() - 9000))
    assert became(make(0, 10**9)) == "read"  # which counts as a use
    make(2, 2 * size + 100)
    assert first.exists()
    assert len(plans(tmp_path)) == 2
    large = make(3, size // 2)
    assert "larger than" in large.explain().plan_cache
    assert not plans(tmp_path)
    assert_same(
        large.run(None, {"x": normal(2, 256)}), make(3, 10**9).run(None, {"x": normal(2, 256)})
    )
    abandoned = tmp_path / "x.tmp"
    abandoned.write_bytes(b"")
    os.utime(abandoned, (1e9, 1e9))
    make(4, 10**9)
    assert not abandoned.exists()


def test_a_limit_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cache_max_bytes"):
        session(BYTES, options(tmp_path, cache_max_bytes="many"))


def test_a_saved_model_is_compiled(tmp_path: Path) -> None:
    chosen = options(tmp_path)
    session(BYTES, chosen)
    chosen.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    made = session(BYTES, chosen)
    assert "is to be saved" in made.explain().plan_cache
    onnx.checker.check_model(onnx.load(tmp_path / "optimized.onnx"))


def test_sizes_of_one_name_may_differ(tmp_path: Path) -> None:
    data = parsed(
        "g (float[n] x, float[n] y) => (float z, int64 s) { z = Mul(x, y) s = Shape(y) }"
    ).SerializeToString()
    session(data, options(tmp_path))
    made = session(data, options(tmp_path))
    assert became(made) == "read"
    z, s = made.run(None, {"x": np.ones(1, np.float32), "y": normal(3)})
    assert_same(z, normal(3))
    assert s.tolist() == [3]


def test_profiles_name_the_same_nodes(tmp_path: Path) -> None:
    def trace() -> list[str]:
        chosen = options(tmp_path / "cache")
        chosen.enable_profiling = True
        chosen.profile_file_prefix = str(tmp_path / "trace")
        made = session(BYTES, chosen)
        made.run(None, FEEDS)
        import json

        events = json.loads(Path(made.end_profiling()).read_text())
        return [event["name"] for event in events if event["cat"] == "Node"]

    assert trace() == trace() != []


WARM = """
import sys
import bascule
options = bascule.SessionOptions()
options.add_session_config_entry("session.cache_dir", sys.argv[1])
session = bascule.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
assert session.explain().plan_cache.startswith("read"), session.explain().plan_cache
modules = {"onnx", "bascule.compiler", "bascule.optimizer", "bascule.ir.graph", "numpy.random"}
modules.add("ml_dtypes")
assert not modules & set(sys.modules), modules & set(sys.modules)
"""

NARROW = """
import numpy
(result,) = session.run(None, {"x": numpy.ones(3, numpy.float32)})
import ml_dtypes
assert result.dtype == ml_dtypes.bfloat16
assert session.run(None, {"x": result.astype(numpy.float32)})[0].tolist() == [1, 1, 1]
"""


def test_a_warm_start_imports_no_compiler(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(BYTES)
    session(path, options(tmp_path / "cache"))
    subprocess.run([sys.executable, "-c", WARM, str(tmp_path / "cache"), str(path)], check=True)


def test_narrow_types_are_known_when_they_are_met(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(parsed("g (float[3] x) => (bfloat16[3] y) { y = Cast<to=16>(x) }"), path)
    session(path, options(tmp_path / "cache"))
    command = [sys.executable, "-c", WARM + NARROW, str(tmp_path / "cache"), str(path)]
    subprocess.run(command, check=True)
