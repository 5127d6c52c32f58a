# SPDX-License-Identifier: Apache-2.0
"""Convolutions and attention by cuDNN, through its Python frontend.

A graph that cuDNN does not plan is answered with None: the provider has kernels of its own.
"""

from __future__ import annotations

import importlib
import json
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bascule import errors
from bascule.ir.dtype import DataType
from bascule.providers.cache import cached
from bascule.providers.cuda.libraries.deferred import deferred
from bascule.providers.cuda.recent import Recent
from bascule.providers.cuda.windows import Convolution

_WORKSPACE_LIMIT = 1 << 30
"""Bytes that a plan may work in."""
_UID_LIMIT = 16
_CANDIDATES = 16
_MOST_PLANS = 256


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape and the strides, in elements, of an operand."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Handle:
    """What cuDNN keeps for a stream; it goes with the last plan that runs there."""

    def __init__(self, library: Any, stream: int | None) -> None:
        self._library = library
        self.address = 0
        """0 without a stream: then nothing can run."""
        if stream is not None:
            self.address = int(library.create_handle())
            library.set_stream(handle=self.address, stream=stream)

    def __del__(self) -> None:
        if self.address and not sys.is_finalizing():  # at the end the driver may be gone already
            self._library.destroy_handle(self.address)


class Plan:
    """A graph that is ready to run."""

    def __init__(self, graph: Any, handle: Handle, count: int, number: int | None = None) -> None:
        self._graph = graph
        self._handle = handle
        self._number = number
        if number is None:
            self.workspace = int(graph.get_workspace_size())
        else:
            self.workspace = int(graph.get_workspace_size_plan_at_index(number))
        """Bytes of device memory that `run` needs to work in."""
        self._uids = list(range(1, count + 1))
        self._order: list[int] | None = None
        # The short way takes pointers in an order that the graph tells; not every version has it.
        if number is None and hasattr(graph, "_execute_with_ptrs") and handle.address:
            graph._prepare_variant_pack_template()
            order = [int(uid) for uid in graph._get_variant_pack_uids_sorted()]
            self._order = order if sorted(order) == self._uids else None

    def run(self, pointers: Sequence[int], workspace: int) -> None:
        """Start it; `pointers` in the order in which the plan's operands were named."""
        assert len(pointers) == len(self._uids)
        if self._order is not None:
            in_order = [int(pointers[uid - 1]) for uid in self._order]
            self._graph._execute_with_ptrs(in_order, int(workspace), self._handle.address)
        else:
            pack = {uid: int(pointer) for uid, pointer in zip(self._uids, pointers)}
            workspace, handle = int(workspace), self._handle.address
            if self._number is None:
                self._graph.execute(pack, workspace, handle=handle)
            else:
                self._graph.execute_plan_at_index(pack, workspace, self._number, handle=handle)


Choose = Callable[[str, int, Callable[[int], Plan]], int]
"""Of a description, the number of plans, and what makes one of them: the number of the best."""


class Cudnn:
    """cuDNN on one stream.

    Args:
        stream: the stream's address.
        tf32: float32 convolutions may round their operands to 10 bits of mantissa.
        described: the properties of a GPU, as JSON, to plan for without one.

    Raises:
        EngineError: the library is missing or does not work.
    """

    def __init__(self, stream: int, tf32: bool, *, described: str = "") -> None:
        self._library: Any = _library()
        self._tf32 = tf32
        self._plans: Recent[Plan | None] = Recent(_MOST_PLANS)
        try:
            self._handle = Handle(self._library, None if described else int(stream))
            if described:
                self._properties = json.loads(described)
                self._device = self._library.create_device_properties(described)
            else:
                self._properties = _properties(self._library)
            self.version = int(self._library.backend_version())
        except Exception as error:
            raise errors.EngineError(f"cuDNN does not work: {error}") from error

    # --- convolutions

    def convolution(
        self,
        sizes: Convolution,
        dtype: DataType,
        bias: bool,
        residual: bool,
        relu: bool,
        choose: Choose | None = None,
    ) -> Plan | None:
        """The plan of a convolution of these sizes, or None.

        Its operands are X, W (with channels last: [K, taps, C]), the bias and the residual if
        there are any, and Y. ConvTranspose has no bias, residual and Relu here. `choose` is
        asked once for the number of the best plan.
        """
        if dtype not in _TYPES:
            return None
        key = (sizes, dtype, bias, residual, relu, self._tf32)
        name, operands = repr(("convolution", *key)), 3 + bias + residual
        strict = dtype is DataType.FLOAT and not self._tf32

        def build(graph: Any) -> None:
            self._convolve(graph, sizes, dtype, bias, residual, relu)

        def make() -> Plan | None:
            plan = None
            if choose is not None:
                plan = self._chosen(name, operands, strict, build, choose)
            return plan or self._planned(name, operands, strict, False, build)

        return self._plans.get(key, make)

    def _convolve(
        self,
        graph: Any,
        sizes: Convolution,
        dtype: DataType,
        bias: bool,
        residual: bool,
        relu: bool,
    ) -> None:
        first = 1 if sizes.in_[0] == sizes.kernel[0] == sizes.out[0] == 1 else 0
        last = sizes.channels_last
        element = getattr(self._library.data_type, _TYPES[dtype])

        def layout(count: int, channels: int, spatial: Sequence[int]) -> Layout:
            return _image((count, channels, *spatial[first:]), last)

        x = layout(sizes.batch, sizes.in_channels, sizes.in_)
        y = layout(sizes.batch, sizes.out_channels, sizes.out)
        out, into = sizes.out_channels, sizes.group_in
        if sizes.transposed:
            out, into = sizes.in_channels, sizes.group_out
        w = layout(out, into, sizes.kernel)
        places = {
            "pre_padding": list(sizes.pad[first:]),
            "post_padding": _after(sizes)[first:],
            "stride": list(sizes.stride[first:]),
            "dilation": list(sizes.dilation[first:]),
        }
        names = iter(range(1, _UID_LIMIT))
        image = _tensor(graph, x, element, next(names))
        weight = _tensor(graph, w, element, next(names))
        if sizes.transposed:
            result = graph.conv_dgrad(loss=image, filter=weight, **places)
        else:
            result = graph.conv_fprop(image=image, weight=weight, **places)
        # The residual first: for this order there are engines that need no compiling.
        operands = {}
        if bias:
            ones = (1,) * (len(y.shape) - 2)
            shape = _image((1, sizes.out_channels, *ones), True)
            operands["bias"] = _tensor(graph, shape, element, next(names))
        if residual:
            operands["residual"] = _tensor(graph, y, element, next(names))
            result = graph.add(a=result, b=operands["residual"])
        if bias:
            result = graph.add(a=result, b=operands["bias"])
        if relu:
            result = graph.relu(input=result)
        result.set_output(True).set_data_type(element).set_uid(next(names))
        result.set_dim(list(y.shape)).set_stride(list(y.strides))

    # --- attention

    def attention_plan(
        self,
        dtype: DataType,
        q: Layout,
        k: Layout,
        v: Layout,
        o: Layout,
        *,
        scale: float,
        causal: bool = False,
        causal_at_end: bool = False,
        bias: Layout | None = None,
    ) -> Plan | None:
        """softmax(scale * Q K' + bias) V, or None. Operands: Q, K, V, the bias if any, O.

        Layouts are [batch, heads, length, size] with any strides whose last one is 1; K and V may
        have fewer heads. `causal` masks keys behind a query's own number; `causal_at_end` aligns
        the last query with the last key.
        """
        if dtype not in (DataType.FLOAT16, DataType.BFLOAT16):
            return None
        key = ("attention", dtype, q, k, v, o, scale, causal, causal_at_end, bias)

        def build(graph: Any) -> None:
            self._attend(graph, dtype, (q, k, v, o, bias), scale, causal, causal_at_end)

        operands = 4 + (bias is not None)
        return self._plans.get(key, lambda: self._planned(repr(key), operands, False, True, build))

    def _attend(
        self,
        graph: Any,
        dtype: DataType,
        layouts: tuple[Layout, Layout, Layout, Layout, Layout | None],
        scale: float,
        causal: bool,
        causal_at_end: bool,
    ) -> None:
        q, k, v, o, bias = layouts
        element = getattr(self._library.data_type, _TYPES[dtype])
        operands = [_tensor(graph, x, element, uid) for uid, x in enumerate((q, k, v), 1)]
        options: dict[str, Any] = {}
        if bias is not None:
            options["bias"] = _tensor(graph, bias, element, 4)
        if causal or causal_at_end:
            alignment = self._library.diagonal_alignment
            options["diagonal_alignment"] = (
                alignment.BOTTOM_RIGHT if causal_at_end else alignment.TOP_LEFT
            )
            options["diagonal_band_right_bound"] = 0
        result, _ = graph.sdpa(
            q=operands[0],
            k=operands[1],
            v=operands[2],
            attn_scale=scale,
            generate_stats=False,
            **options,
        )
        result.set_output(True).set_data_type(element).set_uid(4 + (bias is not None))
        result.set_dim(list(o.shape)).set_stride(list(o.strides))

    # --- planning

    def _chosen(
        self,
        name: str,
        operands: int,
        strict: bool,
        build: Callable[[Any], None],
        choose: Choose,
    ) -> Plan | None:
        """The plan that is chosen among those that the heuristics propose; None if none works."""
        try:
            graph = self._graph()
            build(graph)
            self._propose(graph, strict)
            compiled = self._library.behavior_note.RUNTIME_COMPILATION
            graph.deselect_behavior_notes([compiled])  # takes seconds for each
            count = min(int(graph.get_execution_plan_count()), _CANDIDATES)
            plans: dict[int, Plan] = {}

            def plan(number: int) -> Plan:
                if number not in plans:
                    graph.build_plan_at_index(number)
                    plans[number] = Plan(graph, self._handle, operands, number)
                return plans[number]

            return plan(choose(f"{name} {strict} {self.version}", count, plan))
        except Exception:
            return None

    def _planned(
        self, name: str, count: int, strict: bool, slow: bool, build: Callable[[Any], None]
    ) -> Plan | None:
        """A new plan, or, where planning is slow, one from the cache; None when cuDNN has none."""
        fields = ("deviceName", "deviceVer", "multiProcessorCount", "driverVer")
        gpu = [str(self._properties.get(field)) for field in fields]
        key = "\0".join([name, str(strict), str(self.version), _version(self._library), *gpu])

        def make() -> bytes:
            graph = self._graph()
            build(graph)
            self._plan(graph, strict)
            return _packed(graph.serialize())

        # What refuses a graph raises errors of several types.
        try:
            if self._handle.address and self._properties and slow:
                loaded = self._loaded(cached("cudnn", key, make))
                if loaded is not None:
                    return Plan(loaded, self._handle, count)
            graph = self._graph()
            build(graph)
            self._plan(graph, strict)
            return Plan(graph, self._handle, count)
        except Exception:
            return None

    def _loaded(self, data: bytes) -> Any:
        """A plan that was kept; None when this library does not take it."""
        try:
            graph = self._library.pygraph(handle=self._handle.address)
            graph.deserialize(_unpacked(data))
        except Exception:
            return None
        return graph

    def _graph(self) -> Any:
        types = self._library.data_type
        options: dict[str, Any] = {"handle": self._handle.address}
        if not self._handle.address:
            options = {
                "device_property": self._device,
                "sm_version": int(self._properties["deviceVer"]) // 10,
                "sm_count": int(self._properties["multiProcessorCount"]),
            }
        return self._library.pygraph(
            intermediate_data_type=types.FLOAT, compute_data_type=types.FLOAT, **options
        )

    def _plan(self, graph: Any, strict: bool) -> None:
        """Choose by heuristics alone."""
        self._propose(graph, strict)
        graph.build_plans(self._library.build_plan_policy.HEURISTICS_CHOICE)

    def _propose(self, graph: Any, strict: bool) -> None:
        """Find plans, but none whose bits differ from run to run."""
        library = self._library
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([library.heur_mode.A, library.heur_mode.FALLBACK])
        # Notes only count for plans that exist.
        notes = [library.numerical_note.NONDETERMINISTIC]
        if strict:
            notes += [library.numerical_note.TENSOR_CORE]
        graph.deselect_numeric_notes(notes)
        graph.deselect_workspace_greater_than(_WORKSPACE_LIMIT)
        graph.check_support()


_TYPES = {DataType.FLOAT: "FLOAT", DataType.FLOAT16: "HALF", DataType.BFLOAT16: "BFLOAT16"}


def _library() -> Any:
    try:
        with deferred("torch"):  # for tensors of torch, of which the frontend gets none here
            return importlib.import_module("cudnn")
    except Exception as error:  # RuntimeError and others too, where cuDNN itself does not load
        raise errors.EngineError(f"cuDNN's frontend cannot be imported ({error})") from error


def _version(library: Any) -> str:
    return str(getattr(library, "__version__", ""))


def _properties(library: Any) -> dict[str, Any]:
    """What the library says of the GPU; nothing where it cannot: then plans are not kept."""
    try:
        found: dict[str, Any] = json.loads(library.create_device_properties(0).serialize())
    except Exception:
        return {}
    return found


def _packed(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


def _unpacked(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 8}q", data))


def _image(shape: tuple[int, ...], channels_last: bool) -> Layout:
    """Sizes are always [N, C, spatial...]; strides tell where the channels are."""
    order = (0, *range(2, len(shape)), 1) if channels_last else tuple(range(len(shape)))
    strides, stride = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = stride
        stride *= shape[axis]
    return Layout(shape, tuple(strides))


def _tensor(graph: Any, layout: Layout, element: Any, uid: int) -> Any:
    return graph.tensor(
        dim=list(layout.shape), stride=list(layout.strides), data_type=element, uid=uid
    )


def _after(sizes: Convolution) -> list[int]:
    """Padding behind the image that is read, with which its sizes come out."""
    image, windows = (sizes.out, sizes.in_) if sizes.transposed else (sizes.in_, sizes.out)
    after = []
    for axis in range(3):
        reach = (sizes.kernel[axis] - 1) * sizes.dilation[axis] + 1
        last = (windows[axis] - 1) * sizes.stride[axis] + reach
        # Not all of the image need be under a window.
        after.append(max(0, last - image[axis] - sizes.pad[axis]))
    return after
