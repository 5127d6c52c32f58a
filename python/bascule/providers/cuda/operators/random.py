# SPDX-License-Identifier: Apache-2.0
"""The random operators.

A node with a seed draws the numbers of the standard's reference implementation, which come one
after another: NumPy makes them once, and they are kept. Without a seed every run, a replayed one
too, draws new numbers on the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bascule.ir.dtype import DataType
from bascule.ir.graph import Node
from bascule.native import next_random_key
from bascule.providers.cuda.call import Call, type_name
from bascule.providers.cuda.elementwise_functions import c_type, float_literal
from bascule.providers.cuda.expressions import Program, written_program
from bascule.providers.cuda.operators.elementwise import launch
from bascule.providers.cuda.operators.fill import blocks_for
from bascule.providers.cuda.registry import FLOATS, NUMBERS, kernel
from bascule.providers.cuda.tensor import Tensor

_THREADS = 256
_DROPPED = FLOATS | {
    *(DataType.FLOAT8E4M3FN, DataType.FLOAT8E4M3FNUZ),
    *(DataType.FLOAT8E5M2, DataType.FLOAT8E5M2FNUZ),
}


def _seed(node: Node) -> int | None:
    """32 bits of attribute `seed`: an integer, or a float of which NaN is none."""
    given = node.attribute("seed")
    if given is None or given != given:
        return None
    if isinstance(given, int):
        bits = given % 2**64
    elif abs(given) < 2.0**63:
        bits = int(given) % 2**64
    else:
        bits = int(np.float32(given).view(np.uint32))
    if bits >> 32:  # the finalizer of SplitMix64
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
        bits ^= bits >> 31
    return bits % 2**32


def _drawn(
    call: Call, kind: str, shape: tuple[int, ...], dtype: DataType, scale: float, shift: float
) -> Tensor:
    """``shift + scale * number``, the numbers ``uniform`` or ``normal``, without a seed."""
    y = call.empty(shape, dtype)
    key, run = call.prepared("generator", _generator)
    call.launch(
        *("random", f"{kind}_{type_name(dtype)}", blocks_for(y.size), _THREADS),
        *(y, np.int64(y.size), np.float64(scale), np.float64(shift), key, run),
    )
    call.launch("random", "advance", 1, 1, run)
    return y


def _generator(call: Call) -> tuple[np.uint64, Tensor]:
    """A key, and the number of the next run."""
    return np.uint64(next_random_key()), call.zeros((1,), DataType.UINT64)


def _numbers(call: Call, shape: tuple[int, ...], dtype: DataType) -> Tensor:
    """Uniform in [0, 1): float64 with a seed, else of the type that `dtype` is computed in."""
    seed = _seed(call.node)
    if seed is None:
        wide = DataType.DOUBLE if dtype is DataType.DOUBLE else DataType.FLOAT
        return _drawn(call, "uniform", shape, wide, 1, 0)

    def make(keeping: Call) -> Tensor:
        return keeping.upload(np.random.RandomState(seed).random_sample(shape))

    result: Tensor = call.planned(f"numbers {shape}", make)
    return result


def _output_is_float(node: Node) -> str:
    return "" if node.output.dtype in FLOATS else "the output type is not a float"


def _sized(call: Call, kind: str, shape: tuple[int, ...]) -> Tensor:
    if kind == "normal":
        scale, shift = (_attribute(call, "scale", 1.0), _attribute(call, "mean", 0.0))
    else:
        shift = _attribute(call, "low", 0.0)
        scale = _attribute(call, "high", 1.0) - shift
    dtype, seed = call.dtype(), _seed(call.node)
    if seed is None:
        return _drawn(call, kind, shape, dtype, scale, shift)

    def make(keeping: Call) -> Tensor:
        stream = np.random.RandomState(seed)
        numbers = stream.standard_normal(shape) if kind == "normal" else stream.random_sample(shape)
        typed = np.asarray(numbers).astype(dtype.numpy)
        of_type = dtype.numpy.type  # each step is rounded, as the reference does
        return keeping.upload(typed * of_type(scale) + of_type(shift))

    result: Tensor = call.planned(kind, make)
    return result


def _attribute(call: Call, name: str, default: float) -> float:
    return float(np.float32(call.attribute(name, default)))


@kernel("RandomNormal", accepts=_output_is_float)
def random_normal(call: Call) -> Tensor:
    return _sized(call, "normal", _shape(call))


@kernel("RandomUniform", accepts=_output_is_float)
def random_uniform(call: Call) -> Tensor:
    return _sized(call, "uniform", _shape(call))


@kernel("RandomNormalLike", accepts=_output_is_float)
def random_normal_like(call: Call, x: Tensor) -> Tensor:
    return _sized(call, "normal", x.shape)


@kernel("RandomUniformLike", accepts=_output_is_float)
def random_uniform_like(call: Call, x: Tensor) -> Tensor:
    return _sized(call, "uniform", x.shape)


def _shape(call: Call) -> tuple[int, ...]:
    shape = tuple(int(size) for size in call.attribute("shape"))
    if min(shape, default=0) < 0:
        raise call.error(f"the shape {list(shape)} has a negative size")
    return shape


def _bernoulli_refusal(node: Node) -> str:
    allowed = NUMBERS | {DataType.BOOL}
    return "" if node.output.dtype in allowed else "the output type is not supported"


@kernel("Bernoulli", dtypes=FLOATS, accepts=_bernoulli_refusal)
def bernoulli(call: Call, x: Tensor) -> Tensor:
    numbers = _numbers(call, x.shape, x.dtype)
    probability, number = "widen(a0.at[i])", "a1.at[i]"
    test = f"{number} < {probability}"
    if _seed(call.node) is not None:  # as RandomState.binomial decides
        wide = f"static_cast<double>({probability})"
        test = f"{wide} > 0.5 ? {number} <= {wide} : {number} > 1 - {wide}"
    statement = f"b0.at[i] = convert<{c_type(call.dtype())}>(bool({test}));"
    program = written_program([x.dtype, numbers.dtype], [call.dtype()], [statement])
    return launch(call, program, x.shape, [x, numbers])[0]


def _multinomial_refusal(node: Node) -> str:
    if node.output.dtype not in (DataType.INT32, DataType.INT64):
        return "the output type is not int32 or int64"
    return "" if node.attribute("sample_size", 1) >= 1 else "sample_size is not positive"


@kernel("Multinomial", dtypes=FLOATS, accepts=_multinomial_refusal)
def multinomial(call: Call, x: Tensor) -> Tensor:
    if x.rank != 2 or x.shape[1] < 1:
        raise call.error(f"the input has shape {list(x.shape)}, expected [batch, classes]")
    rows, classes = x.shape
    samples = int(call.attribute("sample_size", 1))
    numbers = _numbers(call, (rows, samples), DataType.DOUBLE)
    sums = call.empty(x.shape, DataType.DOUBLE)
    y = call.empty((rows, samples), call.dtype())
    sizes = np.int64(rows), np.int64(classes)
    call.launch(
        *("random", f"running_sums_{type_name(x.dtype)}", blocks_for(rows), _THREADS),
        *(x, *sizes, sums),
    )
    call.launch(
        *("random", f"draw_classes_{type_name(y.dtype)}", blocks_for(y.size), _THREADS),
        *(sums, numbers, *sizes, np.int64(samples), y),
    )
    return y


@kernel("Dropout", dtypes=_DROPPED, host=(1, 2))
def dropout(
    call: Call, x: Tensor, ratio: Any = None, training: Any = None
) -> tuple[Tensor, Tensor | None]:
    dropped = 0.5 if ratio is None else float(np.asarray(ratio).astype(np.float64).item())
    if not 0 <= dropped < 1:
        raise call.error(f"ratio is {dropped}, expected a number in [0, 1)")
    if training is None or not np.asarray(training).item() or dropped == 0:
        mask = None
        if call.wants(1):
            mask = call.empty(x.shape, DataType.BOOL)
            if mask.nbytes:
                call.device.fill(mask.address, 1, mask.nbytes)
        return x, mask
    numbers = _numbers(call, x.shape, x.dtype)
    program = _dropout_program(x.dtype, numbers.dtype, dropped)
    y, mask = launch(call, program, x.shape, [x, numbers])
    return y, mask


def _dropout_program(dtype: DataType, number: DataType, ratio: float) -> Program:
    wide = DataType.DOUBLE if dtype is DataType.DOUBLE else DataType.FLOAT
    scale = float_literal(1 / (1 - ratio), wide)
    return written_program(
        [dtype, number],
        [dtype, DataType.BOOL],
        [
            f"const bool keep = a1.at[i] >= {float_literal(ratio, number)};",
            f"const auto y = keep ? widen(a0.at[i]) * {scale} : 0;",
            f"b0.at[i] = convert<{c_type(dtype)}>(y);",
            "b1.at[i] = keep;",
        ],
    )
