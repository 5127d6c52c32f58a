# SPDX-License-Identifier: Apache-2.0
"""Where the windows of convolutions and pools fall.

Always three spatial axes: those that a tensor does not have come first and have size 1.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from bascule import errors
from bascule.ir.graph import Node
from bascule.providers.cuda.device import Struct

Spatial = tuple[int, int, int]
AXES = 3


@dataclass(frozen=True, slots=True)
class Convolution:
    """The sizes of a Conv or ConvTranspose. Channels are counted over all groups."""

    transposed: bool
    channels_last: bool
    rank: int
    """Of X."""
    batch: int
    groups: int
    in_channels: int
    out_channels: int
    in_: Spatial
    out: Spatial
    kernel: Spatial
    stride: Spatial
    dilation: Spatial
    pad: Spatial
    """Before; what lies after follows from the sizes."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        spatial = self.out[AXES + 2 - self.rank :]
        if self.channels_last:
            return (self.batch, *spatial, self.out_channels)
        return (self.batch, self.out_channels, *spatial)

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def group_in(self) -> int:
        return self.in_channels // self.groups

    @property
    def group_out(self) -> int:
        return self.out_channels // self.groups

    @property
    def in_pixels(self) -> int:
        return math.prod(self.in_)

    @property
    def out_pixels(self) -> int:
        return math.prod(self.out)

    @property
    def is_depthwise(self) -> bool:
        """Each channel has one filter of its own."""
        return self.groups == self.in_channels == self.out_channels and self.groups > 1

    def argument(self, weights: tuple[int, int, int, int]) -> Struct:
        """The argument of the kernels, with the strides of W: out, in, tap, and of a group."""
        x = (1, self.in_channels) if self.channels_last else (self.in_pixels, 1)
        channels = (self.batch, self.groups, self.group_in, self.group_out)
        axes = (self.in_, self.out, self.kernel, self.stride, self.dilation, self.pad)
        flat = [size for sizes in axes for size in sizes]
        numbers = (*channels, *flat, *x, *weights, int(self.channels_last))
        return Struct(struct.pack(f"<{len(numbers)}q", *numbers))


def _three(values: Sequence[int], fill: int) -> Spatial:
    x, y, z = (*(fill,) * (AXES - len(values)), *(int(v) for v in values))
    return x, y, z


def _listed(node: Node, name: str, count: int, fill: int, least: int) -> list[int]:
    """An attribute with `count` values, all `fill` when it is left out."""
    values = [int(v) for v in node.attributes.get(name) or ()]
    if not values:
        return [fill] * count
    if len(values) != count:
        raise _error(node, f"attribute '{name}' has {len(values)} values, expected {count}")
    if min(values) < least or max(values) >= 1 << 31:
        raise _error(node, f"attribute '{name}' is {values}")
    return values


def _error(node: Node, message: str) -> errors.Fail:
    return errors.Fail(f"{node.op_type} node '{node.name}': {message}")


def _auto_pad(node: Node) -> str:
    auto_pad = str(node.attributes.get("auto_pad", "NOTSET"))
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise _error(node, f"auto_pad '{auto_pad}' is not known")
    return auto_pad


def _split(total: int, auto_pad: str) -> tuple[int, int]:
    """Padding before and after."""
    before = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
    return before, total - before


def convolution_of(
    node: Node, x: Sequence[int], w: Sequence[int], *, transposed: bool = False
) -> Convolution:
    """The sizes of a convolution of X and W of these shapes; an error when they do not fit."""
    rank, axes = len(x), len(x) - 2
    channels_last = bool(node.attributes.get("channels_last", 0))
    if not 1 <= axes <= AXES:
        raise _error(node, f"input has shape {tuple(x)}, expected one to three spatial axes")
    if len(w) != rank:
        raise _error(node, f"weights have shape {tuple(w)}, expected {rank} axes")
    groups = int(node.attributes.get("group", 1))
    in_channels = x[-1] if channels_last else x[1]
    size = list(x[1:-1] if channels_last else x[2:])
    kernel = list(w[2:])
    if min(kernel) < 1 or _listed(node, "kernel_shape", axes, 0, 1) not in ([0] * axes, kernel):
        raise _error(node, f"weights have shape {tuple(w)}, which is not that of kernel_shape")
    out_channels = w[1] * groups if transposed else w[0]
    expected = w[0] if transposed else w[1] * groups
    if groups < 1 or in_channels != expected or (w[0] % groups):
        message = f"input has {in_channels} channels and the weights are {tuple(w)}"
        raise _error(node, f"{message} in {groups} groups")
    stride = _listed(node, "strides", axes, 1, 1)
    dilation = _listed(node, "dilations", axes, 1, 1)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
    place = _transposed_axes if transposed else _axes
    out, pad = place(node, size, reach, stride)
    return Convolution(
        transposed,
        channels_last,
        rank,
        x[0],
        groups,
        in_channels,
        out_channels,
        _three(size, 1),
        _three(out, 1),
        _three(kernel, 1),
        _three(stride, 1),
        _three(dilation, 1),
        _three(pad, 0),
    )


def _axes(
    node: Node, size: list[int], reach: list[int], stride: list[int]
) -> tuple[list[int], list[int]]:
    """Output sizes and padding before."""
    axes, auto_pad = len(size), _auto_pad(node)
    pads = _listed(node, "pads", 2 * axes, 0, 0)
    out, pad = [], []
    for i in range(axes):
        before, after = 0, 0
        if auto_pad == "NOTSET":
            before, after = pads[i], pads[axes + i]
        elif auto_pad != "VALID":
            wanted = -(-size[i] // stride[i])
            total = max(0, (wanted - 1) * stride[i] + reach[i] - size[i])
            before, after = _split(total, auto_pad)
        room = size[i] + before + after - reach[i]
        if room < 0:
            raise _error(
                node, f"a kernel that reaches over {reach[i]} does not fit an axis of {size[i]}"
            )
        out.append(room // stride[i] + 1)
        pad.append(before)
    return out, pad


def _transposed_axes(
    node: Node, size: list[int], reach: list[int], stride: list[int]
) -> tuple[list[int], list[int]]:
    """Output sizes and the padding cut off before."""
    axes, auto_pad = len(size), _auto_pad(node)
    pads = _listed(node, "pads", 2 * axes, 0, 0)
    extra = _listed(node, "output_padding", axes, 0, 0)
    wanted = _listed(node, "output_shape", axes, -1, 0)
    out, pad = [], []
    for i in range(axes):
        full = (size[i] - 1) * stride[i] + extra[i] + reach[i]
        if wanted[i] >= 0 or auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            out.append(wanted[i] if wanted[i] >= 0 else size[i] * stride[i])
            pad.append(_split(max(0, full - out[i]), auto_pad)[0])
        else:
            given = auto_pad == "NOTSET"
            pad.append(pads[i] if given else 0)
            out.append(full - pad[i] - (pads[axes + i] if given else 0))
        if out[i] < 0:
            raise _error(node, f"the output would have a size of {out[i]}")
    return out, pad


@dataclass(frozen=True, slots=True)
class Pool:
    """The windows of a pool over the spatial axes, and the size of its output."""

    in_: Spatial
    out: Spatial
    kernel: Spatial
    stride: Spatial
    dilation: Spatial
    pad: Spatial
    after: Spatial

    @property
    def numbers(self) -> list[int]:
        """For the argument of a kernel."""
        axes = (self.in_, self.out, self.kernel, self.stride, self.dilation, self.pad, self.after)
        return [size for sizes in axes for size in sizes]


def pool_of(node: Node, size: Sequence[int]) -> Pool:
    """The windows over axes of these sizes; an error when the attributes do not fit them."""
    axes, auto_pad = len(size), _auto_pad(node)
    kernel = _listed(node, "kernel_shape", axes, 0, 1)
    if not 1 <= axes <= AXES or min(kernel) < 1:
        raise _error(node, f"kernel_shape {kernel} does not fit {axes} spatial axes")
    stride = _listed(node, "strides", axes, 1, 1)
    dilation = _listed(node, "dilations", axes, 1, 1)
    pads = _listed(node, "pads", 2 * axes, 0, 0)
    ceil_mode = bool(node.attributes.get("ceil_mode", 0))
    out, before, after = [], [], []
    for i in range(axes):
        reach = (kernel[i] - 1) * dilation[i] + 1
        if reach >= 1 << 31:
            raise _error(node, f"a window reaches over {reach}, too many")
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            out.append(-(-size[i] // stride[i]))
            pad = _split(max(0, (out[i] - 1) * stride[i] + reach - size[i]), auto_pad)
        else:
            pad = (pads[i], pads[axes + i]) if auto_pad == "NOTSET" else (0, 0)
            out.append(_pooled(size[i], reach, stride[i], pad, ceil_mode))
            if not out[i] and size[i]:
                fits = f"a window that reaches over {reach} does not fit an axis of {size[i]}"
                raise _error(node, fits)
        before.append(pad[0])
        after.append(pad[1])
    return Pool(
        _three(size, 1),
        _three(out, 1),
        _three(kernel, 1),
        _three(stride, 1),
        _three(dilation, 1),
        _three(before, 0),
        _three(after, 0),
    )


def _pooled(size: int, reach: int, stride: int, pad: tuple[int, int], ceil_mode: bool) -> int:
    """How many windows there are along an axis."""
    room = size + pad[0] + pad[1] - reach
    if room < 0:
        # Rounded up, one window that is larger than the input still counts, if it has any of it.
        return 1 if ceil_mode and room > -stride and size + pad[0] > 0 else 0
    out = room // stride + 1
    # A window may begin in the input or the padding before it, not in the padding behind.
    if ceil_mode and room % stride and out * stride < size + pad[0]:
        out += 1
    return out
