# SPDX-License-Identifier: Apache-2.0
"""What is launched for tensors of more than 2^31 elements, without the memory they would take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bascule.errors import Fail
from bascule.ir.dtype import DataType
from bascule.providers.cuda import broadcasting, operators, registry
from bascule.providers.cuda.call import Call
from bascule.providers.cuda.tensor import Tensor
from tests.providers.cuda.against_cpu import agree, normal
from tests.support import cuda_emulation
from tests.support.cuda_emulation import EmulatedDevice
from tests.support.native import node_graph

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(bool(cuda_emulation.missing()), reason=cuda_emulation.missing()),
]

LARGE = 1 << 31


class EmptyDevice(EmulatedDevice):
    """It has room for everything, since nothing is in its memory."""

    def allocate(self, nbytes: int) -> tuple[int, object]:
        return 256, None

    def upload(self, address: int, array: np.ndarray[Any, Any]) -> None:
        pass


def of(*shape: int, dtype: Any = np.float16) -> np.ndarray[Any, Any]:
    """An array of zeros that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def launches(op_type: str, inputs: list[Any]) -> list[str]:
    """The kernels that one node starts. Inputs that its kernel takes on the host are arrays."""
    (node,) = node_graph(op_type, inputs, static=True)
    first = node.inputs[0]
    assert first is not None
    node.output.type = first.type
    operators.load_all()
    kernel, reason = registry.find(node)
    assert kernel is not None, reason
    device = EmptyDevice()
    # Grids are what is looked at, so nothing is started.
    device._recording = []
    given = [
        x
        if x is None or index in kernel.host
        else Tensor(DataType.from_numpy(x.dtype), x.shape, 256, None)
        for index, x in enumerate(inputs)
    ]
    kernel.function(Call(node, device, device.allocate, {}, {}), *given)
    return device.launches


@pytest.mark.parametrize(
    "shape, operand",
    [((LARGE + 3, 2), (2,)), ((2, LARGE + 3), (2, 1)), ((70000, 50000, 3), (3,))],
)
def test_operands_of_long_axes(shape: tuple[int, ...], operand: tuple[int, ...]) -> None:
    """Halves, and not each row by itself."""
    assert launches("Add", [of(*shape), of(*operand)]) == ["elementwise"] * 2


def test_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasting, "_LONG", 6)
    x = normal(7, 5, 3)
    for shape in ((3,), (5, 1), (7, 1, 3), (7, 1, 1), (1, 5, 3), (2, 7, 5, 3), (5, 3), ()):
        agree("Add", [x, normal(*shape, seed=1)])
        agree("Sub", [normal(*shape, seed=1), x])


def test_too_large_for_a_grid() -> None:
    with pytest.raises(Fail, match="TopK node 'node': its tensors are too large"):
        launches("TopK", [of(LARGE + 3, 2), np.array([1])])


def test_axes_that_indices_do_not_reach() -> None:
    sizes = np.array([LARGE // 2])
    with pytest.raises(Fail, match="too long to be resized"):
        launches("Resize", [of(LARGE, dtype=np.uint8), None, None, sizes])


def test_attention_of_more_keys_than_places_have_numbers() -> None:
    keys = of(1, 1, (1 << 29) + 1, 8)
    with pytest.raises(Fail, match="536870913 keys are too many"):
        launches("Attention", [of(1, 1, 4, 8), keys, keys])


def test_rotary_embedding_of_too_many_rows() -> None:
    angles = of(1, 3, 1)
    with pytest.raises(Fail, match="has too many rows"):
        launches("RotaryEmbedding", [of(1, LARGE, 3, 2), angles, angles])
