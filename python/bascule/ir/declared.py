# SPDX-License-Identifier: Apache-2.0
"""Which of the sizes that a file declares are believed.

What a file declares fills the gaps of inference. Not all of it holds for every feed: where the
inputs of a file were given open sizes later, it still declares those from before of other values
(they are left over), and exporters declare the sizes of the example that they traced where they
cannot tell. What inference finds always wins over what is declared. Beyond that, element types,
numbers of axes and names of sizes are believed, and fixed sizes by these rules:

* Of an input of the model: always. Without an open size among these nothing is left over.
* Of an output of the model, or what Identity, Cast or Dropout hand on to one: none where inference
  knows the operator, as it would find the size if it were fixed.
* Of an inner value, outputs of nested graphs included: not where inference knows it as an open size
  of an input, and not where another one comes out when sizes are put in place of the open ones,
  which is not tried where the file declares names of open sizes for inner values, too, and so was
  written for these inputs. What Identity, Cast and Dropout make has no fixed size where their input
  has none.
* Of an input of the body of a Loop, Scan or SequenceMap: where what the node hands to it has it,
  too; for what a Loop carries, that is the initial value and what the body hands back.
* Of a value behind an operator that inference does not know: always.

Once one size is left over, no other of inner values is believed by the last three rules, unless it
comes out whatever sizes are put in place of the open ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import zip_longest

from bascule.errors import Fail
from bascule.ir.graph import ONNX_DOMAIN, Graph, Model, Node, Value
from bascule.ir.merge import merge_types
from bascule.ir.types import Dim, OptionalType, SequenceType, Shape, TensorType, Type

Types = Callable[[Value], Type | None]

_HANDED_ON = ("Identity", "Cast", "Dropout")
"""Operators whose result has the shape of their first input, and which may be left out."""

_SAMPLES = (840, 2)
"""Sizes to try for those that a feed decides: one that many divide, and a small one."""

_PATIENCE = 3
"""Rounds after which inputs of bodies lose all fixed sizes: each may tell of one more body."""

_LOOP_STATE = 2
"""The number of the iteration and the condition, before what a Loop carries."""


class DeclaredTypes:
    """The types that a file declares of `values`, less the sizes that are not believed.

    `infer` infers with the types that the inputs have at the time, from nothing else.
    """

    def __init__(self, model: Model, values: Sequence[Value], infer: Callable[[], Types]) -> None:
        self._values = values
        self._infer = infer
        self._inputs = open_inputs(model)
        self._handed = list(_handed_to_bodies(model)) if self._inputs else []
        self._shown = _shown(model)
        self._left_over: set[tuple[int, int]] = set()
        """Sizes that are not believed, as (id of the value, axis)."""
        self._is_doubtful = False
        """Whether a size is left over, so that no other is believed that nothing confirms."""
        self._rounds = 0

    def judge(self, inferred: Types) -> bool:
        """Find what is left over, given what follows from the inputs of the model and of bodies.

        False where inputs of bodies have lost sizes: then infer and judge again.
        """
        if not self._inputs:
            return True
        self._rounds += 1

        def certain(value: Value) -> Type | None:
            return inferred(value) if value.constant is None else value.type

        def declared(value: Value) -> Type | None:
            return merge_types(inferred(value), value.type, keep_names=False)

        def believed(value: Value) -> Type | None:
            found = inferred(value)
            return merge_types(found, self.believed(value, found), keep_names=False)

        if self._open_bodies(certain if self._is_doubtful else declared, inferred):
            return False
        self._left_over = self._find_left_over(inferred)
        self._is_doubtful = self._is_doubtful or bool(self._left_over)
        return not self._open_bodies(certain if self._is_doubtful else believed, inferred)

    def believed(self, value: Value, found: Type | None) -> Type | None:
        """The declared type of one of the values without sizes that are not believed."""
        declared, node = value.type, value.producer
        tensor = tensor_in(declared)
        if node is None or declared is None or tensor is None or tensor.shape is None:
            return declared
        if id(value) in self._shown:
            return _with_shape(declared, _confirmed(tensor.shape, tensor_in(found)))
        source = node.inputs[0] if _hands_on(node) and not value.is_graph_output else None
        handed = None if source is None else tensor_in(source.type)
        if handed is not None and handed.shape is None:
            return _with_shape(declared, None)
        sizes = sizes_of(handed)

        def is_open(axis: int) -> bool:
            if (id(value), axis) in self._left_over:
                return True
            return axis < len(sizes) and not is_fixed(sizes[axis])

        dims = enumerate(tensor.shape)
        shape = [None if is_fixed(dim) and is_open(axis) else dim for axis, dim in dims]
        return _with_shape(declared, tuple(shape))

    def _open_bodies(self, type_of: Types, inferred: Types) -> bool:
        """Take sizes that inputs of bodies do not have from their sources; whether there are any.

        What an operator makes that inference does not know agrees with all, until a size is left
        over.
        """
        is_changed = False
        for value, sources in self._handed:
            tensor = tensor_in(value.type)
            if value.type is None or tensor is None or not any(map(is_fixed, tensor.shape or ())):
                continue
            unknown = (None,) * len(tensor.shape or ())
            shape = tensor.shape if self._rounds <= _PATIENCE else unknown
            for source, axis in sources:
                sizes = _shape_in(type_of(source), axis)
                if sizes is not None:
                    shape = _common(shape, sizes)
                elif self._is_doubtful or inferred(source) is not None:
                    shape = _common(shape, unknown)
            if shape != tensor.shape:
                value.type = _with_shape(value.type, shape)
                is_changed = True
        self._is_doubtful = self._is_doubtful or is_changed
        return is_changed

    def _find_left_over(self, inferred: Types) -> set[tuple[int, int]]:
        """Sizes of what nodes make that are not believed."""
        given = {dim for v in self._inputs for dim in sizes_of(v.type) if isinstance(dim, str)}
        doubted: dict[tuple[int, int], tuple[Value, int, int]] = {}
        wrong: set[tuple[int, int]] = set()
        for value in self._values:
            found = inferred(value)
            if value.producer is None or _differ(found, value.type):
                continue
            for axis, (dim, known) in enumerate(zip_longest(sizes_of(value.type), sizes_of(found))):
                if isinstance(dim, int) and not isinstance(known, int):
                    doubted[id(value), axis] = value, axis, dim
                    if known in given:
                        wrong.add((id(value), axis))
        is_doubtful = self._is_doubtful or bool(wrong)
        if len(doubted) == len(wrong) or (not is_doubtful and self._speaks_of(given)):
            return wrong
        confirmed = set(doubted)
        for size in _SAMPLES:
            sampled = self._infer_with(size)
            for key, (value, axis, dim) in doubted.items():
                shape = sizes_of(sampled(value))
                known = shape[axis] if axis < len(shape) else None
                if known != dim:
                    confirmed.discard(key)
                    if isinstance(known, int):
                        wrong.add(key)
        return set(doubted) - confirmed if wrong or is_doubtful else wrong

    def _speaks_of(self, given: Collection[str]) -> bool:
        """Whether any of these sizes is declared for what nodes make, but for outputs."""
        return any(
            size in given
            for value in self._values
            if value.producer is not None and not value.is_graph_output
            for size in sizes_of(value.type)
        )

    def _infer_with(self, size: int) -> Types:
        before = [value.type for value in self._inputs]
        try:
            for value in self._inputs:
                if value.type is not None and (shape := sizes_of(value.type)):
                    sizes = tuple(dim if isinstance(dim, int) else size for dim in shape)
                    value.type = _with_shape(value.type, sizes)
            return self._infer()
        except Fail:  # nothing follows from this size
            return lambda value: None
        finally:
            for value, type in zip(self._inputs, before):
                value.type = type


def set_aside_sizes(model: Model) -> dict[Value, Type]:
    """Take all that may be left over where inference cannot tell yet; the types as declared.

    What the graphs of operators beyond the standard say of their outputs stays: it is their
    interface, by which rewrites read them.
    """
    found: dict[Value, Type] = {}

    def take(value: Value, keep_rank: bool = False) -> None:
        sizes = sizes_of(value.type)
        if value.type is not None and any(map(is_fixed, sizes)):
            found[value] = value.type
            value.type = _with_shape(value.type, (None,) * len(sizes) if keep_rank else None)

    for node in model.graph.walk_nodes():
        holder = None if node.graph is None else node.graph.parent
        is_read = holder is not None and holder.domain != ONNX_DOMAIN
        for value in node.outputs:
            if not (is_read and value.is_graph_output):
                take(value)
    for value, _ in _handed_to_bodies(model):
        take(value, keep_rank=True)  # inference does not find the rank of what a Loop carries
    return found


def open_inputs(model: Model) -> list[Value]:
    """The inputs of the model with sizes that a feed decides."""
    return [
        value
        for value in model.graph.inputs
        if (tensor := tensor_in(value.type)) is not None
        and (tensor.shape is None or not all(map(is_fixed, tensor.shape)))
    ]


def tensor_in(type: Type | None) -> TensorType | None:
    """The type of a tensor, or of the tensors in a sequence or an optional value."""
    while isinstance(type, (SequenceType, OptionalType)):
        type = type.element
    return type if isinstance(type, TensorType) else None


def sizes_of(type: Type | None) -> Shape:
    """The sizes of a tensor; none where the number of axes is not known."""
    tensor = tensor_in(type)
    return tensor.shape if tensor is not None and tensor.shape is not None else ()


def with_open_sizes(type: Type | None) -> Type | None:
    """The type with the number of axes, and no sizes."""
    shape = _shape_in(type)
    return type if type is None or shape is None else _with_shape(type, (None,) * len(shape))


def is_fixed(size: Dim) -> bool:
    """Whether a feed does not decide it."""
    return isinstance(size, int)


def _with_shape(type: Type, shape: Shape | None) -> Type:
    """The type of tensors of this shape."""
    if isinstance(type, SequenceType):
        return SequenceType(_with_shape(type.element, shape))
    if isinstance(type, OptionalType):
        return OptionalType(_with_shape(type.element, shape))
    assert isinstance(type, TensorType)
    return TensorType(type.dtype, shape)


def _differ(found: Type | None, declared: Type | None) -> bool:
    """Whether they have another number of axes, so that nothing of what is declared is taken."""
    ours, theirs = _shape_in(found), _shape_in(declared)
    return ours is not None and theirs is not None and len(ours) != len(theirs)


def _confirmed(declared: Shape, found: TensorType | None) -> Shape:
    """The shape without fixed sizes that inference, where it knows the operator, does not find."""
    if found is None:
        return declared
    sizes = (None,) * len(declared) if found.shape is None else found.shape
    if len(sizes) != len(declared):
        return declared
    return tuple(
        None if isinstance(dim, int) and not isinstance(size, int) else dim
        for dim, size in zip(declared, sizes)
    )


def _common(declared: Shape | None, source: Shape | None) -> Shape | None:
    """The shape without fixed sizes that the source does not have."""
    if declared is None or source is None or len(declared) != len(source):
        return None
    pairs = zip(declared, source)
    return tuple(None if isinstance(dim, int) and dim != size else dim for dim, size in pairs)


def _shape_in(type: Type | None, without: int | None = None) -> Shape | None:
    """The shape of a tensor where it is known, without an axis."""
    tensor = tensor_in(type)
    shape = None if tensor is None else tensor.shape
    if shape is None or without is None or not -len(shape) <= without < len(shape):
        return shape
    without %= len(shape)
    return shape[:without] + shape[without + 1 :]


def _hands_on(node: Node) -> bool:
    return node.is_op(*_HANDED_ON) and node.input(0) is not None


def _shown(model: Model) -> set[int]:
    """The ids of outputs of the model, and of what is handed on to one.

    A converter to float16 makes an inner value of an output, before a Cast, and leaves its sizes.
    """
    found: set[int] = set()
    for output in model.graph.outputs:
        value: Value | None = output
        while value is not None and id(value) not in found and value.graph is model.graph:
            found.add(id(value))
            node = value.producer
            value = node.inputs[0] if node is not None and _hands_on(node) else None
    return found


def _handed_to_bodies(model: Model) -> Iterator[tuple[Value, list[tuple[Value, int | None]]]]:
    """The inputs of bodies with what they are made from, and the axis that is taken from that."""
    for node in model.graph.walk_nodes():
        body = node.attributes.get("body")
        if not isinstance(body, Graph) or len(node.inputs) != len(body.inputs):
            continue  # as of a Scan before opset 9, which is rewritten
        axes: list[int | None] = [None] * len(node.inputs)
        if node.is_op("Scan"):
            count = min(node.attribute("num_scan_inputs", 0), len(axes))
            given = node.attribute("scan_input_axes", None) or [0] * count
            axes[len(axes) - count :] = given[:count]
        elif not node.is_op("Loop", "SequenceMap"):
            continue
        for index, (value, source) in enumerate(zip(body.inputs, node.inputs)):
            if node.is_op("Loop") and index < _LOOP_STATE:
                continue
            sources = [] if source is None else [(source, axes[index])]
            if node.is_op("Loop") and index <= len(body.outputs):
                sources.append((body.outputs[index - 1], None))
            yield value, sources
