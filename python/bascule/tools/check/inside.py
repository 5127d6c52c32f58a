# SPDX-License-Identifier: Apache-2.0
"""What comes out when a model is prepared as a session would do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bascule.errors import ALL, InvalidArgument
from bascule.ir.graph import FUSED_DOMAIN, Graph, Model, Node
from bascule.ir.replaced import replaced_by
from bascule.ir.types import TensorType
from bascule.options import SessionOptions
from bascule.providers.names import CPU, CUDA, all_providers, resolve_providers
from bascule.refusal import Refused, advice_on, set_unknown_aside, without_kernel
from bascule.tools.check.machine import machine_memory
from bascule.tools.check.result import ERROR, NOTE, WARNING, Finding, ModelCheck, Prediction
from bascule.tools.check.words import described, listed, operators, plain, source

if TYPE_CHECKING:
    from bascule.providers.base import Provider

_MOST_OPTIMIZED = 1 << 29
"""Bytes of weights up to which the optimizer runs, as it may make copies of them."""


def examine_inside(
    model: Model,
    sizes: Mapping[str, Sequence[int]],
    options: SessionOptions,
    names: Sequence[Any] | None,
    chosen: Mapping[str, Mapping[str, str]],
    result: ModelCheck,
    may_predict: bool,
) -> list[Finding]:
    """What comes out when the model is prepared as a session would do it.

    `names` are the providers as the caller gave them, `chosen` what they stand for.
    """
    # Imported here: they import onnx.
    from bascule.compiler import level_of, prepare, take_defaults
    from bascule.optimizer import Level
    from bascule.overrides import override

    providers, found = _providers(chosen, names, options)
    override(model, options)
    for value in model.graph.inputs:
        if isinstance(value.type, TensorType) and value.name in sizes:
            value.type = TensorType(value.type.dtype, tuple(sizes[value.name]))
    take_defaults(model)
    imports = dict(model.opset_imports)
    optimized = result.weight_bytes <= _MOST_OPTIMIZED
    level = level_of(options.graph_optimization_level) if optimized else Level.DISABLED
    unknown = set_unknown_aside(model)
    try:
        prepare(model, providers, level)
    except ALL as error:
        if unknown:
            return found + _refused(unknown)
        return found + _wrong(error, model)
    found += _refused(unknown)
    found += _refused(without_kernel(model, providers, imports))
    found += _run_by_libraries(model.graph)
    found += _promoted(model.graph)
    if len(providers) > 1:
        found += _left_to_cpu(model.graph, providers)
    if not unknown:
        found += _unknown_sizes(model.graph)
    on_cpu = CUDA not in chosen  # the only one of which it is known how fast it is
    if may_predict and on_cpu and not any(each.severity == ERROR for each in found):
        # Imported here: it measures the machine.
        from bascule.session_settings import thread_count
        from bascule.tools import cost
        from bascule.tools.check.predict import predict
        from bascule.tools.profile.peaks import measure

        result.prediction = predict(
            model.graph,
            sizes,
            measure(thread_count(options)),
            weights=cost.weight_bytes(model.graph),
            optimized=optimized,
        )
        found += _too_much(result.prediction)
    return found


def _wrong(first: Exception, model: Model) -> list[Finding]:
    """What `first`, the error that preparing a model ended with, is about, and all like it."""
    # Imported here: they import onnx.
    from bascule.error_sources import explain_load_error
    from bascule.ir.infer import type_problems
    from bascule.optimizer.fused import definition

    try:
        problems = [(each.error, [each.node]) for each in type_problems(model, definition)]
    except ALL:  # the graph is so wrong that no types can be told
        problems = []
    if plain(first) not in [plain(error) for error, _ in problems]:
        problems.insert(0, (first, []))
    found = []
    for error, nodes in problems:
        explain_load_error(error, model.graph)
        names = tuple(node.name for node in nodes)
        found.append(Finding(ERROR, "model", plain(error), names, source(nodes)))
    return found


def _too_much(prediction: Prediction) -> list[Finding]:
    """A warning where this machine has less memory than a run takes."""
    # Imported here: the table is a part of the profile.
    from bascule.tools.profile.table import size

    needed = prediction.weights if prediction.memory is None else prediction.memory
    machine = machine_memory()
    if machine is None or needed <= machine.free:
        return []
    about = f"a run takes about {size(needed)} of memory"
    if needed <= machine.total:
        text = f"{about}; {size(machine.free)} are free at the moment"
        return [Finding(NOTE, "memory", text)]
    owner = "this process may have" if machine.limited else "this machine has"
    text = f"{about}; {owner} {size(machine.total)}"
    advice = "smaller sizes, quantized weights, or a machine with more memory"
    return [Finding(WARNING, "memory", text, advice=advice)]


def chosen_providers(names: Sequence[Any] | None) -> dict[str, dict[str, str]]:
    """The options of the providers to use, by their names.

    Raises:
        InvalidArgument: there is no such provider.
    """
    try:
        return dict(resolve_providers(names, None, fallback=False))
    except (RuntimeError, ValueError) as error:
        known = ", ".join(all_providers())
        raise InvalidArgument(f"providers: {error}; there are {known}") from None


def _providers(
    chosen: Mapping[str, Mapping[str, str]], names: Sequence[Any] | None, options: SessionOptions
) -> tuple[list[Provider], list[Finding]]:
    """The providers that nodes are offered to; what stands in the way of one is an error."""
    # Imported here: they import onnx.
    from bascule.providers.cpu.provider import CpuProvider
    from bascule.session_settings import names_cpu, thread_count

    cpu = CpuProvider(thread_count(options))
    found: list[Finding] = []
    if CUDA not in chosen:
        return [cpu], found
    # Imported here: only models for a GPU need it.
    from bascule.providers.cuda.provider import make

    try:
        may_use_cpu = names_cpu(names)
        cuda = make(chosen[CUDA], cpu, may_use_cpu)
    except ALL as error:
        return [cpu], [Finding(ERROR, "fallback", plain(error))]
    return [cuda, cpu] if may_use_cpu else [cuda], found


def _refused(refused: Sequence[Refused]) -> list[Finding]:
    groups: dict[tuple[str, str], list[Refused]] = {}
    for each in refused:
        operator = f"{each.domain}.{each.operator}" if each.domain else each.operator
        version = "" if each.opset is None else f" of opset {each.opset}"
        groups.setdefault((operator + version, each.reason), []).append(each)
    return [
        Finding(
            ERROR,
            "operator",
            f"{operator}: {reason}: {described([each.node for each in nodes])}",
            tuple(each.node.name for each in nodes),
            source([each.node for each in nodes]),
            advice_on(nodes[0]),
        )
        for (operator, reason), nodes in groups.items()
    ]


def _run_by_libraries(graph: Graph) -> list[Finding]:
    # Imported here: few models call such operators.
    from bascule.operator_libraries import library_of

    groups: dict[str, list[Node]] = {}
    for node in graph.walk_nodes():
        library = library_of(node)
        if library:
            groups.setdefault(f"{node.domain}.{node.op_type} is run by {library}", []).append(node)
    return [
        Finding(
            NOTE,
            "library",
            f"{text}: {listed([node.name for node in nodes])}",
            tuple(node.name for node in nodes),
            source(nodes),
        )
        for text, nodes in groups.items()
    ]


def _promoted(graph: Graph) -> list[Finding]:
    # Imported here: it imports onnx.
    from bascule.providers.widen import NOTE as COMPUTED_IN

    groups: dict[str, list[Node]] = {}
    for each in graph.walk_graphs():
        if each.parent is not None and each.parent.domain == FUSED_DOMAIN:
            continue  # the node that holds it tells of it
        for node in each:
            # Casts around a node have its metadata too.
            if COMPUTED_IN in node.metadata and not node.is_op("Cast"):
                groups.setdefault(node.metadata[COMPUTED_IN], []).append(node)
    found = []
    for note, nodes in groups.items():
        origins = dict.fromkeys(each for node in nodes for each in replaced_by(node))
        names = tuple(each.name for each in origins)
        text = f"{operators(origins)} {note}: {listed(names)}"
        found.append(Finding(WARNING, "promoted", text, names, source(nodes)))
    return found


def _left_to_cpu(graph: Graph, providers: Sequence[Provider]) -> list[Finding]:
    # Imported here: it imports onnx.
    from bascule.providers.partition import assign

    groups: dict[str, list[Node]] = {}
    for node, assignment in assign(graph, providers).items():
        if assignment.provider is not None and assignment.provider.name == CPU:
            reasons = "; ".join(f"{name}: {why}" for name, why in assignment.reasons)
            groups.setdefault(reasons, []).append(node)
    return [
        Finding(
            WARNING,
            "fallback",
            f"{operators(nodes)} run on the CPU ({why}): {listed([n.name for n in nodes])}",
            tuple(node.name for node in nodes),
            source(nodes),
        )
        for why, nodes in groups.items()
    ]


def _unknown_sizes(graph: Graph) -> list[Finding]:
    nodes = [
        node
        for node in graph
        if any(
            isinstance(value.type, TensorType) and value.static_shape is None
            for value in node.outputs
            if not value.is_unused
        )
    ]
    if not nodes:
        return []
    text = f"sizes that depend on data are made by {operators(nodes)}: "
    return [
        Finding(
            NOTE,
            "sizes",
            text + listed([node.name for node in nodes]),
            tuple(node.name for node in nodes),
            source(nodes),
            "memory for them is found while it runs",
        )
    ]
