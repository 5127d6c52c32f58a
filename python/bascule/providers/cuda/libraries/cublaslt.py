# SPDX-License-Identifier: Apache-2.0
"""Matrix products by cuBLASLt, through its C interface.

The library stores matrices by columns, so a row-major ``Y = A @ B`` is computed as
``Y' = B' @ A'``: what it calls A is our B. A plan is made once; running it is one call, which may
be captured in a CUDA graph. The GELU of the library is the approximation with tanh.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Union

from bascule import errors
from bascule.ir.dtype import DataType
from bascule.providers.cuda.recent import Recent

INSTALL = 'pip install "bascule[cuda13]" (or "bascule[cuda12]" for a driver of CUDA 12)'

# Values of the enumerations in cublasLt.h, cublas_api.h and library_types.h.
_R_32F, _R_64F, _R_16F, _R_8I, _R_32I, _R_16BF = 0, 1, 2, 3, 10, 14
_COMPUTE_32F, _COMPUTE_32F_FAST_TF32, _COMPUTE_64F, _COMPUTE_32I = 68, 77, 70, 72
_DESC_TRANSA, _DESC_TRANSB, _DESC_EPILOGUE, _DESC_BIAS_POINTER = 3, 4, 7, 8
_DESC_BIAS_STRIDE = 10
_LAYOUT_BATCH_COUNT, _LAYOUT_BATCH_OFFSET = 5, 6
_PREFERENCE_WORKSPACE, _PREFERENCE_REDUCTION, _PREFERENCE_ALIGNMENT_A = 1, 3, 5
_REDUCTION_IN_COMPUTE_TYPE = 2
_EPILOGUE_BIAS = 4
_EPILOGUES = {"": 1, "Relu": 2, "GeluTanh": 32}
_OPERATION_T = 1

_NAMES = ("libcublasLt.so.13", "libcublasLt.so.12", "cublasLt64_13.dll", "cublasLt64_12.dll")
_MOST_PROBLEMS = 1024
"""Of which the library's proposals are remembered."""
_CANDIDATES = 24
_PLACEHOLDER = 4096
"""Any aligned address: the choice of an algorithm asks whether there is a bias, and reads none."""


@dataclass(frozen=True, slots=True)
class _Types:
    """What the library calls the types of a product."""

    operand: int
    result: int
    scale: int
    scalar: type[ctypes.c_float] | type[ctypes.c_double] | type[ctypes.c_int32]
    compute: int


_TYPES = {
    DataType.FLOAT: _Types(_R_32F, _R_32F, _R_32F, ctypes.c_float, _COMPUTE_32F),
    DataType.FLOAT16: _Types(_R_16F, _R_16F, _R_32F, ctypes.c_float, _COMPUTE_32F),
    DataType.BFLOAT16: _Types(_R_16BF, _R_16BF, _R_32F, ctypes.c_float, _COMPUTE_32F),
    DataType.DOUBLE: _Types(_R_64F, _R_64F, _R_64F, ctypes.c_double, _COMPUTE_64F),
    DataType.INT8: _Types(_R_8I, _R_32I, _R_32I, ctypes.c_int32, _COMPUTE_32I),
}

ACTIVATIONS = frozenset(_EPILOGUES)
"""What the library can apply to a result."""


@dataclass(frozen=True, slots=True)
class Problem:
    """``D = activation(alpha * A' @ B' + beta * C + bias)`` for each matrix of a batch, row-major.

    Strides are elements from one matrix of the batch, or bias, to the next; 0 uses one for all. C
    has the layout of D. int8 operands give an int32 result.
    """

    dtype: DataType
    m: int
    n: int
    k: int
    transpose_a: bool = False
    transpose_b: bool = False
    batch: int = 1
    a_stride: int = 0
    b_stride: int = 0
    d_stride: int = 0
    bias_stride: int = 0
    a_row: int = 0
    """Elements from one row of A, as it lies, to the next; 0 if they lie side by side."""
    b_row: int = 0
    """The same of B."""
    d_row: int = 0
    """The same of C and D."""
    alpha: float = 1.0
    beta: float = 0.0
    bias: bool = False
    activation: str = ""
    alignment: int = 16
    """Bytes that all addresses are multiples of."""
    wide: bool = False
    """C, D and the bias are of the type of the sums: float32 for float16 operands."""


class _Algorithm(ctypes.Structure):
    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


_Pointer = ctypes.c_void_p
_Size = ctypes.c_size_t
_Scalar = Union[ctypes.c_float, ctypes.c_double, ctypes.c_int32]

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cublasLtCreate": (_Pointer,),
    "cublasLtDestroy": (_Pointer,),
    "cublasLtMatmulDescCreate": (_Pointer, ctypes.c_int, ctypes.c_int),
    "cublasLtMatmulDescDestroy": (_Pointer,),
    "cublasLtMatmulDescSetAttribute": (_Pointer, ctypes.c_int, _Pointer, _Size),
    "cublasLtMatrixLayoutCreate": (
        _Pointer,
        ctypes.c_int,
        ctypes.c_uint64,
        ctypes.c_uint64,
        ctypes.c_int64,
    ),
    "cublasLtMatrixLayoutDestroy": (_Pointer,),
    "cublasLtMatrixLayoutSetAttribute": (_Pointer, ctypes.c_int, _Pointer, _Size),
    "cublasLtMatmulPreferenceCreate": (_Pointer,),
    "cublasLtMatmulPreferenceDestroy": (_Pointer,),
    "cublasLtMatmulPreferenceSetAttribute": (_Pointer, ctypes.c_int, _Pointer, _Size),
    # handle, description, four layouts, preference, room, results, number of results
    "cublasLtMatmulAlgoGetHeuristic": (*(_Pointer,) * 7, ctypes.c_int, _Pointer, _Pointer),
    # handle, description, alpha, A, its layout, B, its layout, beta, C, its layout, D, its layout,
    # algorithm, workspace, bytes of it, stream
    "cublasLtMatmul": (*(_Pointer,) * 14, _Size, _Pointer),
}


class CublasLt:
    """The library with a handle on the current device.

    Args:
        capability: 10 * major + minor of the device's compute capability.
        tf32: whether float32 operands may be rounded to TF32.
        library: the shared library; None looks for the one of a wheel or of the system.
    """

    def __init__(self, capability: int, tf32: bool = True, library: str | None = None) -> None:
        self._library = _load(library)
        self.tf32 = tf32
        self._most_workspace = (32 << 20) if capability >= 90 else (4 << 20)
        self._proposed: Recent[list[_Algorithm]] = Recent(_MOST_PROBLEMS)
        self._chosen: Recent[int] = Recent(_MOST_PROBLEMS)
        self._handle = _Pointer()
        self.check(self._library.cublasLtCreate(ctypes.byref(self._handle)), "cublasLtCreate")
        self.version = int(self._library.cublasLtGetVersion())

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle and not sys.is_finalizing():  # at the end the driver may be gone already
            self._library.cublasLtDestroy(handle)

    def plan(self, problem: Problem) -> MatMulPlan | None:
        """How to run `problem`; None when the library cannot."""
        if problem.dtype not in _TYPES or problem.activation not in _EPILOGUES:
            return None
        if min(problem.m, problem.n, problem.k, problem.batch) < 1:
            return None
        plan = MatMulPlan(self, self._library, self._handle, problem, self._compute(problem.dtype))
        plan.algorithms = self._proposed.get(problem, lambda: plan.proposals(self._most_workspace))
        if not plan.algorithms:
            return None
        plan.take(self._chosen[problem] if self.is_settled(problem) else 0)
        return plan

    def is_settled(self, problem: Problem) -> bool:
        """Whether it is known which of the proposed algorithms is fastest."""
        return problem in self._chosen

    def settle(self, plan: MatMulPlan, number: int) -> None:
        """Let this plan, and later ones of its problem, run with algorithm `number`."""
        self._chosen[plan.problem] = number
        plan.take(number)

    def check(self, status: int, function: str) -> None:
        """Raise an error if a call went wrong."""
        if status:
            name = self._library.cublasLtGetStatusString(status)
            raise errors.EngineError(f"{function} failed: {(name or b'?').decode()} ({status})")

    def _compute(self, dtype: DataType) -> int:
        if dtype is DataType.FLOAT and self.tf32:
            return _COMPUTE_32F_FAST_TF32
        return _TYPES[dtype].compute


class MatMulPlan:
    """The descriptions of one product, and the algorithm that is to run it."""

    workspace: int = 0
    """Bytes of device memory that `run` wants to work in, 256-byte aligned."""

    def __init__(
        self,
        owner: CublasLt,
        library: ctypes.CDLL,
        handle: ctypes.c_void_p,
        problem: Problem,
        compute: int,
    ) -> None:
        self.problem = problem
        self._owner = owner
        self._library = library
        self._handle = handle
        self._lock = threading.Lock()
        self._bias = _PLACEHOLDER
        self.algorithms: list[_Algorithm] = []
        """What the library proposes, the most promising first."""
        self._algorithm = _Algorithm()
        self._made: list[tuple[Callable[[Any], int], ctypes.c_void_p]] = []
        p, types = problem, _TYPES[problem.dtype]
        self._alpha: _Scalar = _scalar(types, p.alpha)
        self._beta: _Scalar = _scalar(types, p.beta)
        self._description = self._create("MatmulDesc", compute, types.scale)
        epilogue = _EPILOGUES[p.activation]
        if p.bias:
            epilogue = _EPILOGUE_BIAS | (epilogue if p.activation else 0)
        self._describe(_DESC_EPILOGUE, ctypes.c_int32(epilogue))
        if p.transpose_b:
            self._describe(_DESC_TRANSA, ctypes.c_int32(_OPERATION_T))
        if p.transpose_a:
            self._describe(_DESC_TRANSB, ctypes.c_int32(_OPERATION_T))
        if p.bias:
            self._describe(_DESC_BIAS_POINTER, ctypes.c_uint64(_PLACEHOLDER))
        if p.bias_stride:
            self._describe(_DESC_BIAS_STRIDE, ctypes.c_int64(p.bias_stride))
        a = (p.m, p.k) if p.transpose_a else (p.k, p.m)
        b = (p.k, p.n) if p.transpose_b else (p.n, p.k)
        self._a = self._layout(types.operand, *a, p.a_stride, p.a_row)
        self._b = self._layout(types.operand, *b, p.b_stride, p.b_row)
        result = types.scale if p.wide else types.result
        self._d = self._layout(result, p.n, p.m, p.d_stride, p.d_row)

    def __del__(self) -> None:
        for destroy, made in reversed(getattr(self, "_made", [])):
            destroy(made)

    def run(self, a: int, b: int, c: int, d: int, bias: int, workspace: int, stream: int) -> None:
        """Start the product on a stream; addresses are those of device memory.

        Without a beta C is not read; D is a fine address for it.
        """
        with self._lock:
            if self.problem.bias and bias != self._bias:
                self._describe(_DESC_BIAS_POINTER, ctypes.c_uint64(bias))
                self._bias = bias
            status = self._library.cublasLtMatmul(
                self._handle,
                self._description,
                ctypes.byref(self._alpha),
                b,
                self._b,
                a,
                self._a,
                ctypes.byref(self._beta),
                c,
                self._d,
                d,
                self._d,
                ctypes.byref(self._algorithm),
                workspace,
                self.workspace,
                stream,
            )
        self._owner.check(status, "cublasLtMatmul")

    def proposals(self, most_workspace: int) -> list[_Algorithm]:
        """The algorithms that the library proposes, the most promising first."""
        preference = self._create("MatmulPreference")

        def prefer(attribute: int, value: Any) -> None:
            self._set("MatmulPreference", preference, attribute, value)

        prefer(_PREFERENCE_WORKSPACE, ctypes.c_uint64(most_workspace))
        # Parts of a sum that are added in the type of the result would round it more than once.
        prefer(_PREFERENCE_REDUCTION, ctypes.c_uint32(_REDUCTION_IN_COMPUTE_TYPE))
        for operand in range(4):
            alignment = ctypes.c_uint32(self.problem.alignment)
            prefer(_PREFERENCE_ALIGNMENT_A + operand, alignment)
        found = (_Algorithm * _CANDIDATES)()
        count = ctypes.c_int(0)
        status = self._library.cublasLtMatmulAlgoGetHeuristic(
            self._handle,
            self._description,
            self._b,
            self._a,
            self._d,
            self._d,
            preference,
            _CANDIDATES,
            found,
            ctypes.byref(count),
        )
        if status:  # the combination of types, layouts and epilogue does not exist
            return []
        return [one for one in found[: count.value] if one.state == 0]

    def take(self, number: int) -> None:
        """Run with this one of `algorithms` from now on."""
        self._algorithm = self.algorithms[number]
        self.workspace = int(self._algorithm.workspace)

    def _create(self, kind: str, *arguments: Any) -> ctypes.c_void_p:
        made = _Pointer()
        create = getattr(self._library, f"cublasLt{kind}Create")
        self._owner.check(create(ctypes.byref(made), *arguments), f"cublasLt{kind}Create")
        self._made.append((getattr(self._library, f"cublasLt{kind}Destroy"), made))
        return made

    def _layout(
        self, dtype: int, rows: int, columns: int, stride: int, column: int = 0
    ) -> ctypes.c_void_p:
        """A matrix by columns, each `column` elements behind the one before."""
        layout = self._create("MatrixLayout", dtype, rows, columns, column or rows)
        if self.problem.batch > 1:
            batch = ctypes.c_int32(self.problem.batch)
            self._set("MatrixLayout", layout, _LAYOUT_BATCH_COUNT, batch)
            self._set("MatrixLayout", layout, _LAYOUT_BATCH_OFFSET, ctypes.c_int64(stride))
        return layout

    def _describe(self, attribute: int, value: Any) -> None:
        self._set("MatmulDesc", self._description, attribute, value)

    def _set(self, kind: str, target: ctypes.c_void_p, attribute: int, value: Any) -> None:
        name = f"cublasLt{kind}SetAttribute"
        status = getattr(self._library, name)(
            target, attribute, ctypes.byref(value), ctypes.sizeof(value)
        )
        self._owner.check(status, name)


def _scalar(types: _Types, value: float) -> _Scalar:
    return types.scalar(int(value) if types.scalar is ctypes.c_int32 else value)  # type: ignore[arg-type]


def _load(path: str | None) -> ctypes.CDLL:
    library = ctypes.CDLL(path) if path is not None else _find()
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = ctypes.c_int
        function.argtypes = arguments
    library.cublasLtGetVersion.restype = _Size
    library.cublasLtGetVersion.argtypes = ()
    library.cublasLtGetStatusString.restype = ctypes.c_char_p
    library.cublasLtGetStatusString.argtypes = (ctypes.c_int,)
    return library


def _find() -> ctypes.CDLL:
    """The library of a wheel, of conda or of the system."""
    reasons = []
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return ctypes.CDLL(load_nvidia_dynamic_lib("cublasLt").abs_path)
    except (ImportError, RuntimeError, OSError) as error:
        reasons.append(str(error).strip().partition("\n")[0])
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            reasons.append(str(error))
    raise errors.EngineError(
        f"cuBLASLt, which the CUDA provider multiplies matrices with, was not found: {INSTALL} "
        f"brings it along ({'; '.join(reasons)})"
    )
