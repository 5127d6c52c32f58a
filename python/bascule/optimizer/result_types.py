# SPDX-License-Identifier: Apache-2.0
"""The types of new nodes where they follow at once from the inputs.

Rules that run before the next type inference see these; whatever is not obvious stays unknown.
"""

from __future__ import annotations

from bascule.ir.dtype import DataType
from bascule.ir.graph import FUSED_DOMAIN, Node
from bascule.ir.types import Dim, Shape, TensorType, Type

_LIKE_FIRST = frozenset(
    [
        "Abs",
        "Acos",
        "Asin",
        "Atan",
        "Ceil",
        "Clip",
        "Cos",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "Mish",
        "Neg",
        "Not",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softmax",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tanh",
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "RMSNormalization",
    ]
)
_BROADCASTING = frozenset(["Add", "Div", "Max", "Min", "Mul", "Pow", "PRelu", "Sub", "Sum"])


def result_types(node: Node) -> list[Type | None]:
    """One type, or None where it is not obvious, for each output."""
    types: list[Type | None] = [None] * len(node.outputs)
    inputs = [None if value is None else value.type for value in node.inputs]
    if node.domain in ("", FUSED_DOMAIN) and inputs:
        types[0] = _first(node, inputs)
    return types


def _first(node: Node, inputs: list[Type | None]) -> Type | None:
    tensors = [each for each in inputs if isinstance(each, TensorType)]
    if not isinstance(inputs[0], TensorType):
        return None
    x = inputs[0]
    if node.op_type in _LIKE_FIRST:
        return x
    if node.is_op(*_BROADCASTING) and len(tensors) == len(inputs):
        return TensorType(x.dtype, broadcast(*(each.shape for each in tensors)))
    if node.is_op("Cast"):
        return TensorType(DataType(node.attributes["to"]), x.shape)
    if node.is_op("Transpose") and x.shape is not None:
        permutation = node.attribute("perm") or range(len(x.shape))[::-1]
        return TensorType(x.dtype, tuple(x.shape[axis] for axis in permutation))
    if node.is_op("MatMul") and len(tensors) == 2:
        return TensorType(x.dtype, matmul_shape(x.shape, tensors[1].shape))
    if node.is_op("Gemm") and len(tensors) > 1:
        a, b = x.shape, tensors[1].shape
        if a is None or b is None:
            return TensorType(x.dtype, (None, None))
        rows = a[1] if node.attribute("transA", 0) else a[0]
        return TensorType(x.dtype, (rows, b[0] if node.attribute("transB", 0) else b[1]))
    return None


def broadcast(*shapes: Shape | None) -> Shape | None:
    """The shape of an elementwise result; None when a rank is unknown."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return None
    rank = max(map(len, known))
    padded = [(1,) * (rank - len(shape)) + shape for shape in known]
    return tuple(_broadcast_dim(dims) for dims in zip(*padded))


def _broadcast_dim(dims: tuple[Dim, ...]) -> Dim:
    numbers = [dim for dim in dims if isinstance(dim, int) and dim != 1]
    if numbers:
        return numbers[0]
    names = {dim for dim in dims if not isinstance(dim, int)}
    if not names:
        return 1
    return names.pop() if len(names) == 1 else None


def matmul_shape(a: Shape | None, b: Shape | None) -> Shape | None:
    """The shape of MatMul's result; None when a rank is unknown."""
    if a is None or b is None or not a or not b:
        return None
    batch = broadcast(a[:-2], b[:-2])
    assert batch is not None
    return batch + (a[-2:-1] if len(a) > 1 else ()) + (b[-1:] if len(b) > 1 else ())


def contradicts(old: Type | None, new: Type | None) -> bool:
    """True when a value of one type certainly is not of the other."""
    if not isinstance(old, TensorType) or not isinstance(new, TensorType):
        return False
    if old.dtype != new.dtype:
        return True
    if old.shape is None or new.shape is None:
        return False
    if len(old.shape) != len(new.shape):
        return True
    return any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(old.shape, new.shape)
    )
