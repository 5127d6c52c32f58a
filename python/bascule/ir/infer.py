# SPDX-License-Identifier: Apache-2.0
"""Type and shape inference, by onnx, on a skeleton of the model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import onnx
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError, infer_shapes

from bascule.errors import Fail
from bascule.ir.check_types import Problem, type_errors
from bascule.ir.declared import DeclaredTypes, Types
from bascule.ir.deserialize import read_type
from bascule.ir.dtype import DataType
from bascule.ir.graph import Graph, Model, Node, Value
from bascule.ir.infer_uncovered import uncovered_types
from bascule.ir.merge import merge_types
from bascule.ir.serialize import Definitions
from bascule.ir.skeleton import SkeletonWriter, restore_sizes, type_got_wrong
from bascule.ir.symbols import is_invented, settle_names
from bascule.ir.types import (
    OptionalType,
    SparseTensorType,
    TensorType,
    Type,
)

_GRAPH, _GRAPHS = 5, 10

_MAX_ROUNDS = 6
"""Runs of inference beyond the first."""

# Besides its own errors: what C++ throws becomes one of these. UnicodeDecodeError, a ValueError,
# comes of a message that quotes an attribute that is no text.
INFERENCE_ERRORS = (
    InferenceError,
    ValidationError,
    ValueError,
    IndexError,
    OverflowError,
    RuntimeError,
    MemoryError,
)

_NO_TYPE = ("expected to have type but instead is null", "Mismatched type: inferred=0")

_ABOUT_RANKS = re.compile(
    r"Attribute perm for Transpose|Invalid attribute perm|Invalid value of attribute 'axis'\. Rank"
    r"|does not match the equation indices|does not specify a valid type"
)
"""Errors of attributes alone, or of them and ranks: no size that a feed decides makes them good."""

_ERROR_STEP = re.compile(r"\(op_type:\w+(?:, node name: (\d+))?\): ")


def infer_types(
    model: Model,
    definitions: Definitions | None = None,
    *,
    check: bool = True,
    settled: bool = False,
    from_file: bool = True,
) -> None:
    """Give every value the type and shape that follow from the inputs, nested graphs included.

    What the file declares fills the gaps; where it contradicts, what is inferred holds, except for
    graph inputs. `definitions` gives the functions behind fused nodes. With `check`, types that a
    schema forbids, declared element types that are wrong, and static shapes that contradict each
    other are refused. `settled` says that computed shapes were followed before the last changes of
    the model: they are again only where something new is known. `from_file` says that declared
    types are those of a file, whose sizes may be left over from before an input was made dynamic.
    """
    values = _inferred_values(model)
    known = [value.type for value in values]
    skeleton = SkeletonWriter(model, definitions)
    improved, problems = _infer_first(model, skeleton, values, definitions, from_file)
    if check:
        for problem in problems:
            raise problem.error
    # Then with what is known by now, declared types included, and with computed shapes. Each round
    # may show what the one before had to leave out.
    gaps = _count_gaps(values)
    compute_shapes = not (skeleton.hidden or improved)
    for _ in range(_MAX_ROUNDS if gaps else 0):
        inferred, _ = _infer(skeleton, types_known=True, compute_shapes=compute_shapes)
        inferred = settle_names(inferred, _known(model, skeleton))
        for value in values:
            found = inferred.get(skeleton.name(value))
            value.type = merge_types(found, value.type, keep_names=value.is_graph_output)
        more, _ = _infer_uncovered(model)
        if check and more:
            raise more[0].error
        if settled and known == [value.type for value in values]:
            break  # the changes gave computed shapes nothing new to begin with
        before, gaps = gaps, _count_gaps(values)
        if compute_shapes and (gaps == before or not skeleton.hidden):
            break
        compute_shapes = not compute_shapes or gaps == before


def type_problems(model: Model, definitions: Definitions | None = None) -> list[Problem]:
    """All that infer_types refuses at first, one problem a node, in the order of its rules."""
    skeleton = SkeletonWriter(model, definitions)
    _, problems = _infer_first(model, skeleton, _inferred_values(model), definitions)
    found: dict[Node, Problem] = {}
    for problem in problems:
        found.setdefault(problem.node, problem)
    return list(found.values())


def strict_errors(model: Model, definitions: Definitions | None = None) -> str:
    """What onnx's strict inference finds wrong, nodes by name; "" if nothing."""
    skeleton = SkeletonWriter(model, definitions)
    _, errors = _infer(skeleton, types_known=False)

    def named(match: re.Match[str]) -> str:
        node = skeleton.nodes[int(match[1])] if match[1] else None
        return "" if node is None else f"Node ({node.name}) Op ({node.op_type}) "

    return "\n".join(_ERROR_STEP.sub(named, line) for line in errors.splitlines())


def refuse_contradictions(model: Model) -> None:
    """Raise where a shape that the file declares for a node's output is not the one inferred.

    Without this the inferred one holds.

    Raises:
        Fail: number of axes, or the size of one, differ; the message names node, output and both.
    """
    skeleton = SkeletonWriter(model, None)
    inferred, _ = _infer(skeleton, types_known=False)
    for value in _inferred_values(model):
        found, declared, node = inferred.get(skeleton.name(value)), value.type, value.producer
        if node is None or not isinstance(found, TensorType) or found.shape is None:
            continue
        if not isinstance(declared, TensorType) or declared.shape is None:
            continue
        where = f"Node:{node.name} Output:{value.name} [ShapeInferenceError]"
        if len(found.shape) != len(declared.shape):
            raise Fail(
                f"{where} Mismatch between number of inferred and declared dimensions. "
                f"inferred={len(found.shape)} declared={len(declared.shape)}",
                op=node.op_type,
            )
        for axis, (ours, theirs) in enumerate(zip(found.shape, declared.shape)):
            if isinstance(ours, int) and isinstance(theirs, int) and ours != theirs:
                raise Fail(
                    f"{where} Can't merge shape info. Both inferred and declared dimension have "
                    f"values but they differ. Inferred={ours} Declared={theirs} Dimension={axis}",
                    op=node.op_type,
                )


def _inferred_values(model: Model) -> list[Value]:
    """All values but the inputs of the model, whose types are given."""
    fixed = {id(value) for value in model.graph.inputs}
    return [v for g in model.graph.walk_graphs() for v in _values(g) if id(v) not in fixed]


def _infer_first(
    model: Model,
    skeleton: SkeletonWriter,
    values: Sequence[Value],
    definitions: Definitions | None,
    from_file: bool = True,
) -> tuple[bool, Iterator[Problem]]:
    """A first round; whether declared types added to it, and what is wrong.

    `from_file` says that declared types are those of the file, which may be left over.
    """

    def types_of(inferred: dict[str, Type], skeleton: SkeletonWriter) -> Types:
        return lambda value: inferred.get(skeleton.name(value))

    def infer_again() -> Types:
        other = SkeletonWriter(model, definitions)
        found = types_of(_infer(other, types_known=False)[0], other)
        declared = [value.type for value in values]
        try:
            for value in values:
                value.type = found(value)
            return types_of(_infer(other, types_known=True, compute_shapes=True)[0], other)
        finally:
            for value, type in zip(values, declared):
                value.type = type

    declared = DeclaredTypes(model, values, infer_again) if from_file else None
    while True:
        inferred, errors = _infer(skeleton, types_known=False)
        inferred = settle_names(inferred, _known(model, skeleton))
        type_of = types_of(inferred, skeleton)
        if declared is None or declared.judge(type_of):
            break
    improved = False
    wrong: list[Problem] = []
    for value in values:
        found = type_of(value)
        wrong += declared_wrongly(value, found)
        type = value.type if declared is None else declared.believed(value, found)
        value.type = merge_types(found, type, keep_names=value.is_graph_output)
        improved = improved or (found is None and value.type is not None)
    more, is_improved = _infer_uncovered(model)

    def problems() -> Iterator[Problem]:
        yield from type_errors(model)  # first, as a wrong input makes wrong outputs
        yield from wrong
        yield from more
        yield from _contradictions(skeleton, errors)

    return improved or is_improved, problems()


def _infer_uncovered(model: Model) -> tuple[list[Problem], bool]:
    """Add what onnx has no inference for; errors in what is declared, and whether there was any."""
    wrong: list[Problem] = []
    improved = False
    for value, found in uncovered_types(model):
        wrong += declared_wrongly(value, found)
        before = value.type
        value.type = merge_types(found, before, keep_names=value.is_graph_output)
        improved = improved or value.type != before
    return wrong, improved


def _known(model: Model, skeleton: SkeletonWriter) -> Iterator[tuple[str, Type | None, bool]]:
    """Each value's name, type so far, and whether inference did not see that type."""
    for graph in model.graph.walk_graphs():
        for value in _values(graph):
            is_input = value.producer is None and graph.parent is None
            yield skeleton.name(value), value.type, not is_input and not value.is_graph_output


def _infer(skeleton: SkeletonWriter, **how: bool) -> tuple[dict[str, Type], str]:
    """The types that onnx infers, by name, and the errors that it found.

    Nodes that it gets wrong are found by their inputs' types, and left out the next time.
    """
    results: dict[Node, Type] = {}
    while True:
        proto = skeleton.write_round(results, **how)
        inferred, errors = _run(proto, data_prop=skeleton.compute_shapes)
        wrong = _wrong(skeleton, inferred, results)
        if not wrong:
            return inferred, errors
        results.update(wrong)


def _wrong(
    skeleton: SkeletonWriter, inferred: dict[str, Type], known: Mapping[Node, Type]
) -> dict[Node, Type]:
    """The nodes that were got wrong, beside the known ones, with the types of their results."""
    found: dict[Node, Type] = {}
    for node in skeleton.nodes:
        if node not in known:
            types = [
                None if value is None else inferred.get(skeleton.name(value), value.type)
                for value in node.inputs
            ]
            type = type_got_wrong(node, types)
            if type is not None:
                found[node] = type
    return found


def _run(skeleton: onnx.ModelProto, *, data_prop: bool) -> tuple[dict[str, Type], str]:
    """The types that onnx infers, by name, and the errors that it found."""
    serialized = skeleton.SerializeToString()
    errors = ""
    try:
        result = infer_shapes(serialized, strict_mode=True, data_prop=data_prop)
    except INFERENCE_ERRORS as error:
        errors = str(error)
        try:
            result = infer_shapes(serialized, strict_mode=False, data_prop=data_prop)
        except INFERENCE_ERRORS as fatal:
            raise Fail(f"Types cannot be inferred: {fatal}") from None
    found: dict[str, Type] = {}
    _collect(result.graph, found, {})
    return found, errors


def _collect(
    graph: onnx.GraphProto, found: dict[str, Type], types: dict[bytes, Type | None]
) -> None:
    """Add the type of each value of `graph`. `types` are those read so far: few differ."""
    for infos in (graph.input, graph.value_info, graph.output):
        for info in infos:
            written = info.type.SerializeToString()
            if written not in types:
                types[written] = _read_type(info.type)
            type = types[written]
            if type is not None:
                found[info.name] = type
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == _GRAPH:
                _collect(attribute.g, found, types)
            elif attribute.type == _GRAPHS:
                for nested in attribute.graphs:
                    _collect(nested, found, types)


def _read_type(proto: onnx.TypeProto) -> Type | None:
    """The type with its fixed sizes; None where onnx found no element type."""
    restore_sizes(proto)
    type = read_type(proto)
    return None if type is None or _is_undefined(type) else type


def _is_undefined(type: Type) -> bool:
    """Whether onnx found a shape and no element type."""
    return isinstance(type, TensorType) and type.dtype is DataType.UNDEFINED


def _values(graph: Graph) -> Iterator[Value]:
    """Inputs and what nodes make; the type of an initializer is its own."""
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _count_gaps(values: list[Value]) -> int:
    """How much is unknown: whole types, ranks, and sizes without even a name."""
    count = 0
    for value in values:
        if value.type is None:
            count += 1 << 16
        elif isinstance(value.type, (TensorType, SparseTensorType)):
            shape = value.type.shape
            if shape is None:
                count += 1 << 8
            else:
                count += sum(dim is None or is_invented(dim) for dim in shape)
    return count


def declared_wrongly(value: Value, found: Type | None) -> Iterator[Problem]:
    """The problem when the type that the file gives the value is not what its node makes."""
    node, declared = value.producer, value.type
    if node is None or found is None or declared is None or isinstance(declared, OptionalType):
        return
    if isinstance(found, TensorType) and isinstance(declared, TensorType):
        is_wrong = declared.dtype is not found.dtype
    else:
        is_wrong = type(found) is not type(declared)
    if is_wrong:
        error = Fail(
            f"Type Error: Type ({declared}) of output arg ({value.name}) of node ({node.name}) "
            f"does not match expected type ({found}).",
            op=node.op_type,
        )
        yield Problem(node, error)


def failed_inferences(model: Model, definitions: Definitions | None = None) -> list[Problem]:
    """The nodes that give their outputs no type because their inputs do not go together."""
    skeleton = SkeletonWriter(model, definitions)
    _, errors = _infer(skeleton, types_known=False)
    return [
        Problem(node, Fail(f"Node ({node.name}) Op ({node.op_type}) {reason}"))
        for node, reason in _failures(skeleton, errors)
    ]


def _failures(skeleton: SkeletonWriter, errors: str) -> Iterator[tuple[Node, str]]:
    """The nodes at fault for the errors, with the reasons."""
    for line in errors.splitlines():
        # "(op_type:If, node name: 1): ... (op_type:Add, node name: 2): reason": the last is at
        # fault. It has no number in the function of an operator, where onnx itself may be wrong.
        steps = list(_ERROR_STEP.finditer(line))
        if not steps or steps[-1][1] is None:
            continue
        node, reason = skeleton.nodes[int(steps[-1][1])], line[steps[-1].end() :]
        if "Inferred shape and existing shape differ" in reason:
            continue
        if any(text in reason for text in _NO_TYPE):  # what made it has no inference
            continue
        yield node, reason


def _contradictions(skeleton: SkeletonWriter, errors: str) -> Iterator[Problem]:
    """The errors that no feed could make good: all that they speak of is known of the inputs."""
    for node, reason in _failures(skeleton, errors):
        inputs = [value for value in node.inputs if value is not None]
        # What a loop carries may change its rank.
        is_outer = node.graph is not None and node.graph.parent is None
        about_sizes = not is_outer or _ABOUT_RANKS.search(reason) is None
        if any(v.static_shape is None if about_sizes else v.rank is None for v in inputs):
            continue
        listed = ", ".join(f"{v.name} {list(v.shape or ())}" for v in inputs)
        error = Fail(f"Node ({node.name}) Op ({node.op_type}) {reason}", inputs=listed)
        yield Problem(node, error)
