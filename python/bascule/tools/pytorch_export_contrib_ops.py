# SPDX-License-Identifier: Apache-2.0
"""Let torch's TorchScript exporter write operators of com.microsoft.

After `register`, ``torch.onnx.export(dynamo=False)`` writes Gelu, FastGelu, Inverse, and, where
the standard has none yet, Trilu and GridSample. The newer exporter needs none of this.
"""

from __future__ import annotations

from typing import Any

try:
    import torch
    from torch.onnx import symbolic_helper
except ImportError as error:
    raise ModuleNotFoundError("torch's exporter is not there: pip install torch") from error

_VERSION = 1
"""Symbolic functions hold from this opset on, but for operators that torch has in each."""

_OPSETS = {"aten::gelu": range(9, 21)}
_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")
_registered: set[tuple[str, int]] = set()


@symbolic_helper.parse_args("v", "v", "i", "i", "b")  # type: ignore[untyped-decorator]
def _grid_sampler(
    graph: Any, value: Any, grid: Any, mode: int, padding: int, align_corners: bool
) -> Any:
    return graph.op(
        "com.microsoft::GridSample",
        value,
        grid,
        mode_s=_MODES[mode],
        padding_mode_s=_PADDINGS[padding],
        align_corners_i=int(align_corners),
    )


def _inverse(graph: Any, value: Any) -> Any:
    return graph.op("com.microsoft::Inverse", value).setType(value.type())


def _gelu(graph: Any, value: Any, approximate: Any = "none") -> Any:
    approximate = symbolic_helper._maybe_get_const(approximate, "s")
    name = "FastGelu" if approximate == "tanh" else "Gelu"
    return graph.op(f"com.microsoft::{name}", value).setType(value.type())


def _triangle(upper: bool) -> Any:
    def part(graph: Any, value: Any, diagonal: Any) -> Any:
        made = graph.op("com.microsoft::Trilu", value, diagonal, upper_i=int(upper))
        return made.setType(value.type())

    return part


def register() -> None:
    """Register the operators; before ``torch.onnx.export``."""
    for name, function in {
        "grid_sampler": _grid_sampler,
        "inverse": _inverse,
        "linalg_inv": _inverse,
        "gelu": _gelu,
        "triu": _triangle(True),
        "tril": _triangle(False),
    }.items():
        full = f"aten::{name}"
        for opset in (_VERSION, *_OPSETS.get(full, ())):
            torch.onnx.register_custom_op_symbolic(full, function, opset)
            _registered.add((full, opset))


def unregister() -> None:
    """Take back what `register` did."""
    for name, opset in sorted(_registered):
        torch.onnx.unregister_custom_op_symbolic(name, opset)
    _registered.clear()
