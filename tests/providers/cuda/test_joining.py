# SPDX-License-Identifier: Apache-2.0
"""Products that read one value become one step."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

from bascule.providers.cpu.provider import CpuProvider
from bascule.providers.cuda.libraries.cublaslt import CublasLt
from bascule.providers.cuda.provider import CudaProvider
from tests.support import cuda_emulation
from tests.support.cuda_emulation import EmulatedDevice
from tests.support.cuda_session import EmulatedSession

pytestmark = pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing())

SOURCE = Path(__file__).parents[2] / "support" / "cuda_libraries" / "cublaslt.cpp"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> CublasLt:
    made = tmp_path_factory.mktemp("cublaslt") / "library.so"
    compiler = shutil.which("g++")
    assert compiler is not None and sys.platform == "linux"
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared"]
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(made)], check=True)
    return CublasLt(90, library=str(made))


class _Counting:
    """Notes the products that the library is asked for; they can be captured."""

    def __init__(self, library: CublasLt, device: EmulatedDevice) -> None:
        self._library = library
        self._device = device
        self.batches: list[int] = []

    def plan(self, problem: Any) -> Any:
        self.batches.append(problem.batch)
        plan = self._library.plan(problem)
        if plan is None:
            return None

        def run(*arguments: int) -> None:
            self._device._do(lambda: plan.run(*arguments))

        return SimpleNamespace(run=run, workspace=plan.workspace)


class Session(EmulatedSession):
    """A session on a device of its own."""

    def __init__(self, model: onnx.ModelProto, library: CublasLt | None = None) -> None:
        self.device = EmulatedDevice()
        if library is not None:
            self.device.cublas = _Counting(library, self.device)
            self.device.stream = SimpleNamespace(ptr=0)
        super().__init__(model.SerializeToString())

    def _executors(self) -> list[Any]:
        cpu = CpuProvider(self._options.intra_op_num_threads)
        return [CudaProvider(self.device, cpu), cpu]


def random(seed: int, dtype: Any, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(dtype)


TYPES = {np.float32: "float", np.float16: "float16", np.float64: "double"}
TYPES[ml_dtypes.bfloat16] = "bfloat16"


def model(dtype: Any, nodes: str, outputs: list[str], **constants: Any) -> onnx.ModelProto:
    text = f"""<ir_version: 10, opset_import: ["": 21]>
    g ({TYPES[dtype]}[b,s,16] x) => ({", ".join(f"{TYPES[dtype]}[b,s,n] {y}" for y in outputs)})
    {{ {nodes} }}"""
    parsed = onnx.parser.parse_model(text)
    for name, value in constants.items():
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    return parsed


QUERIES_KEYS_VALUES = """
    qp = MatMul(x, wq) q = Add(qp, bq)
    kp = MatMul(x, wk) k = Add(kp, bk)
    vp = MatMul(x, wv) v = Add(vp, bv)
"""


def weights(dtype: Any, n: int, names: str = "qkv") -> dict[str, Any]:
    found = {}
    for seed, name in enumerate(names):
        found[f"w{name}"] = random(seed, dtype, 16, n)
        found[f"b{name}"] = random(seed + 9, dtype, n)
    return found


def check(session: Session, x: Any, expected: list[Any], tolerance: float) -> None:
    for _ in range(3):  # by hand, captured, replayed
        found = session.run(None, {"x": x})
        for y, wanted in zip(found, expected, strict=True):
            assert y.dtype == x.dtype and y.shape == wanted.shape
            np.testing.assert_allclose(y.astype(np.float64), wanted, rtol=tolerance, atol=tolerance)


TOLERANCES = {np.float32: 1e-5, np.float64: 1e-12, np.float16: 5e-3, ml_dtypes.bfloat16: 5e-2}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 9), (0, 3)])
@pytest.mark.parametrize("has_library", [False, True])
def test_queries_keys_and_values(
    library: CublasLt, dtype: Any, shape: tuple[int, int], has_library: bool
) -> None:
    constants = weights(dtype, 24)
    session = Session(
        model(dtype, QUERIES_KEYS_VALUES, ["q", "k", "v"], **constants),
        library if has_library else None,
    )
    x = random(5, dtype, *shape, 16)
    wide = {name: value.astype(np.float64) for name, value in constants.items()}
    expected = [x.astype(np.float64) @ wide[f"w{c}"] + wide[f"b{c}"] for c in "qkv"]
    check(session, x, expected, TOLERANCES[dtype])
    if has_library and dtype in (np.float32, np.float16) and shape == (2, 9):
        assert session.device.cublas.batches == [3]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 9)])
@pytest.mark.parametrize("sizes", ["num_outputs=3", "split"])
def test_a_product_that_is_split(
    library: CublasLt, dtype: Any, shape: tuple[int, int], sizes: str
) -> None:
    w, b = random(1, dtype, 16, 72), random(2, dtype, 72)
    constants = {"w": w, "b": b}
    if sizes == "split":
        constants["sizes"] = np.array([24, 24, 24])
        split = "Split<axis=-1>(y, sizes)"
    else:
        split = f"Split<axis=2, {sizes}>(y)"
    nodes = f"p = MatMul(x, w) y = Add(p, b) q, k, v = {split}"
    session = Session(model(dtype, nodes, ["q", "k", "v"], **constants), library)
    x = random(5, dtype, *shape, 16)
    whole = x.astype(np.float64) @ w.astype(np.float64) + b.astype(np.float64)
    check(session, x, np.split(whole, 3, -1), TOLERANCES[dtype])
    assert not any("split" in name or "part" in name for name in session.device.launches)
    if shape == (2, 9):
        assert session.device.cublas.batches == [3]


def test_weights_by_columns(library: CublasLt) -> None:
    nodes = """
        tq = Transpose<perm=[1, 0]>(wq) q = MatMul(x, tq)
        tk = Transpose<perm=[1, 0]>(wk) k = MatMul(x, tk)
    """
    constants = {f"w{c}": random(i, np.float32, 24, 16) for i, c in enumerate("qk")}
    x = random(5, np.float32, 2, 9, 16)
    session = Session(model(np.float32, nodes, ["q", "k"], **constants), library)
    check(session, x, [x @ constants["wq"].T, x @ constants["wk"].T], 1e-5)
    assert session.device.cublas.batches == [2]


@pytest.mark.parametrize(
    "nodes",
    [
        "q = MatMul(x, wq) k = MatMul(x, narrow)",
        "q = MatMul(x, wq) k = MatMul(q, square)",
        "q = MatMul(x, wq) kp = MatMul(x, wk) k = Relu(kp)",
        "q = MatMul(x, wq) kp = MatMul(x, wk) k = Add(kp, bk)",
    ],
)
def test_what_is_not_alike_stays_apart(library: CublasLt, nodes: str) -> None:
    constants = weights(np.float32, 24)
    constants["narrow"] = random(3, np.float32, 16, 12)
    constants["square"] = random(4, np.float32, 24, 24)
    session = Session(model(np.float32, nodes, ["q", "k"], **constants), library)
    session.run(None, {"x": random(5, np.float32, 2, 9, 16)})
    assert session.device.cublas.batches == [1, 1]
