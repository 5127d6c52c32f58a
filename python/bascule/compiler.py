# SPDX-License-Identifier: Apache-2.0
"""From a model file to Programs: load, canonicalize, optimize, partition, compile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bascule.canonical import canonicalize
from bascule.compiled import Argument, CompiledModel, NodeRow
from bascule.error_sources import explain_load_error
from bascule.gradient import bind_gradients, expand_gradients
from bascule.ir.constant import Constant
from bascule.ir.graph import FUSED_DOMAIN, Graph, Model, Node, Value
from bascule.ir.infer import infer_types
from bascule.ir.inline import inline_call, inline_functions, schema_function
from bascule.ir.merge import merge_types
from bascule.ir.replaced import replaced_by
from bascule.ir.source_trace import scope_of, source_text, sources_of
from bascule.load_clock import LoadClock
from bascule.native import block_size
from bascule.optimizer import Context, Level, Report, Selection, optimize
from bascule.optimizer.context import Note
from bascule.optimizer.fused import definition
from bascule.optimizer.selection import USUAL
from bascule.options import GraphOptimizationLevel, SessionOptions
from bascule.providers.base import Program, Provider
from bascule.providers.cpu.choice import Choice
from bascule.providers.cpu.provider import CpuProvider, fold_node
from bascule.providers.partition import Assignment, assign, partition
from bascule.providers.split import PartitionedProgram
from bascule.providers.widen import NOTE, widen
from bascule.refusal import contradiction, refusal, set_unknown_aside, without_kernel
from bascule.session_profile import name_apart

if TYPE_CHECKING:
    from bascule.tools.verify import Verification

_LEGALIZE_ROUNDS = 16
"""How deep functions may call functions before the model is refused."""


def level_of(option: GraphOptimizationLevel) -> Level:
    """The optimizer's level for a session option."""
    if option >= GraphOptimizationLevel.ORT_ENABLE_LAYOUT:
        return Level.ALL
    return {
        GraphOptimizationLevel.ORT_DISABLE_ALL: Level.DISABLED,
        GraphOptimizationLevel.ORT_ENABLE_BASIC: Level.BASIC,
        GraphOptimizationLevel.ORT_ENABLE_EXTENDED: Level.EXTENDED,
    }[option]


def selection_of(options: SessionOptions, disabled: Iterable[str]) -> Selection:
    """The passes that session options ask for, without those named in `disabled`."""

    def is_on(key: str) -> bool:
        return options._config.get(key, "0") == "1"

    names = [*disabled]
    if is_on("session.disable_double_qdq_remover"):
        names.append("eliminate_quantize")
    approximations = {
        "optimization.enable_gelu_approximation": "approximate_gelu",
        "session.enable_quant_qdq_cleanup": "eliminate_quantize_dequantize",
    }
    return Selection(
        tuple(names),
        tuple(name for key, name in approximations.items() if is_on(key)),
        fuses_quantization=not is_on("session.disable_quant_qdq"),
        repeats=options._config.get("session.graph_optimizations_loop_level", "1") != "0",
    )


def prepare(
    model: Model,
    providers: Sequence[Provider],
    level: Level,
    selection: Selection = USUAL,
    clock: LoadClock | None = None,
    check: Callable[[], None] = lambda: None,
    verify: Mapping[str, Constant] | None = None,
) -> tuple[Report, Verification | None]:
    """Bring `model` into the form that is compiled: canonical, legal and optimized, in place."""
    clock = LoadClock() if clock is None else clock
    clock.skip()

    def phase(name: str) -> None:
        check()
        clock.phase(name)

    canonical_form(model)
    phase("canonicalize")
    legalize(model, providers)
    phase("legalize")
    note = clock.note if clock.keeps_spans else None
    return improve(model, providers, level, selection, phase, verify, note)


def canonical_form(model: Model) -> None:
    """Inline the functions of `model` and bring it into the newest form, in place."""
    bind_gradients(model)
    inline_functions(model)
    settle(model)
    expand_gradients(model, settle)


def improve(
    model: Model,
    providers: Sequence[Provider],
    level: Level,
    selection: Selection = USUAL,
    phase: Callable[[str], None] = lambda name: None,
    verify: Mapping[str, Constant] | None = None,
    note: Note | None = None,
) -> tuple[Report, Verification | None]:
    """Optimize a legal model in place, and make it legal again.

    With `verify`, the defaults of inputs, each rewrite is verified, and dropped if it is wrong.
    `note` is told of each pass.
    """
    context = Context(fold_node, definition, note=note)
    verification = None
    if verify is None:
        few = providers[0].hosts_others
        report = optimize(model, level, selection=selection, context=context, few_launches=few)
    else:
        # Imported here: few sessions are verified.
        from bascule.tools.verify import optimize_verified

        report, verification = optimize_verified(
            model, providers, level, context, defaults=verify, selection=selection
        )
    phase("optimize")
    legalize(model, providers, prefer_lead=True)
    phase("legalize")
    return report, verification


def settle(model: Model) -> None:
    """Bring what was put into the model into the newest form, and infer types."""
    canonicalize(model, definition, block_size=block_size())
    infer_types(model, definition)


def legalize(model: Model, providers: Sequence[Provider], prefer_lead: bool = False) -> None:
    """Widen or inline every node that no provider takes.

    A node is widened where a provider takes it in a wider element type, and inlined where it has a
    definition in simpler operators. With `prefer_lead`, and where the first provider hosts the
    others, so are nodes that it leaves to them: a device that runs the whole graph is worth more
    than a kernel elsewhere.
    """
    lead = [p for p in providers[:1] if p.hosts_others and prefer_lead]
    for _ in range(_LEGALIZE_ROUNDS):
        changed = False
        for graph in list(model.graph.walk_graphs()):
            assignments = assign(graph, providers)
            for node, assignment in assignments.items():
                taken = assignment.provider is not None
                if (taken and assignment.provider in (lead or providers)) or node.graph is None:
                    continue
                version = model.opset_imports.get(node.domain, 1)
                if widen(node, version, lead or providers):
                    changed = True
                    continue
                function = (
                    definition(node)
                    if node.domain == FUSED_DOMAIN
                    else schema_function(node, version)
                )
                if function is not None:
                    inline_call(node, function)
                    changed = True
                elif not taken and node.subgraphs:
                    changed |= _inline_inside(node, providers[-1])
        if not changed:
            return
        settle(model)


def _inline_inside(node: Node, provider: Provider) -> bool:
    """Inline the fused nodes of nested graphs that `provider` refuses; True if there are any.

    Whoever runs If, Loop or Scan leaves it to the last provider to tell whether the node is sound.
    """
    inlined = False
    for graph in [each for nested in node.subgraphs for each in nested.walk_graphs()]:
        for inner, answer in provider.capabilities(graph).items():
            function = definition(inner) if inner.domain == FUSED_DOMAIN else None
            if function is not None and not answer.accepted:
                inline_call(inner, function)
                inlined = True
    return inlined


def compile_model(
    model: Model,
    providers: Sequence[Provider],
    level: Level,
    selection: Selection = USUAL,
    clock: LoadClock | None = None,
    check: Callable[[], None] = lambda: None,
    verify: Mapping[str, Constant] | None = None,
) -> CompiledModel:
    """Optimize `model` (in place) and compile it; with `verify` as `improve` does it.

    `check` is called between the steps.
    """
    clock = LoadClock() if clock is None else clock
    imports = dict(model.opset_imports)
    unknown = set_unknown_aside(model)
    declared = [value.type for value in model.graph.outputs]
    try:
        report, verified = prepare(model, providers, level, selection, clock, check, verify)
    except Exception as error:
        if unknown:  # which may be why
            raise refusal(unknown) from None
        explain_load_error(error, model.graph)
        raise
    clock.skip()
    check()
    graph = model.graph
    assignments = assign(graph, providers)
    if unknown or any(each.provider is None for each in assignments.values()):
        refused = [*unknown, *without_kernel(model, providers, imports)]
        raise contradiction(model, refused) or refusal(refused)
    for provider in providers:
        if isinstance(provider, CpuProvider):
            provider.tune(graph)
    if clock.keeps_spans:
        name_apart(graph)
    rows = list(_rows(graph, assignments, providers))
    try:
        program = _program(graph, assignments, providers)
    except Exception as error:
        explain_load_error(error, graph)
        raise
    clock.phase("compile")
    inputs = [Argument(value.name, value.type) for value in graph.inputs]
    # Sizes are called as the model calls them, whatever the optimizer found out about them.
    outputs = [
        Argument(value.name, merge_types(value.type, type, keep_names=True))
        for value, type in zip(graph.outputs, declared)
    ]
    compiled = CompiledModel(program, inputs, outputs, rows, dict(report.changes), clock.seconds)
    compiled.spans = clock.spans
    compiled.verification = "" if verified is None else str(verified)
    return compiled


def _program(
    graph: Graph, assignments: dict[Node, Assignment], providers: Sequence[Provider]
) -> Program:
    if providers[0].hosts_others:
        return providers[0].compile(graph)
    partitions = partition(graph, assignments)
    if len(partitions) > 1:
        return PartitionedProgram(graph, partitions)
    provider = partitions[0].provider if partitions else providers[-1]
    return provider.compile(graph)


def _rows(
    graph: Graph,
    assignments: dict[Node, Assignment],
    providers: Sequence[Provider],
    inside: str = "",
) -> Iterator[NodeRow]:
    """A row for each node, those of nested graphs after the node that holds them."""
    for node in graph:
        assignment = assignments[node]
        assert assignment.provider is not None
        yield _row(node, assignment, assignment.provider, inside)
        for key, nested in node.attributes.items():
            if isinstance(nested, Graph) and node.domain != FUSED_DOMAIN:  # which is one kernel
                hosts = assignment.provider.hosts_others
                inner = providers if hosts else [assignment.provider]
                found = assign(nested, inner)
                yield from _rows(nested, found, inner, f"{inside}{node.name}.{key}/")


def _row(node: Node, assignment: Assignment, provider: Provider, inside: str) -> NodeRow:
    lines = [str(line) for line in sources_of(node)]
    return NodeRow(
        node.name,
        node.op_type,
        node.domain,
        [_described(value) for value in node.outputs],
        provider.name,
        _with_choice(assignment.kernel, node),
        assignment.reasons,
        source_text(lines),
        node.metadata.get(NOTE, ""),
        inside,
        lines,
        list(scope_of(node)),
        [each.name for each in replaced_by(node)],
        [_described(value) for value in node.inputs],
    )


def _described(value: Value | None) -> tuple[str, str, list[int | str | None] | None]:
    """(name, type, shape) of an input or output."""
    if value is None:
        return "", "", None
    shape = None if value.shape is None else list(value.shape)
    return value.name, str(value.type or ""), shape


def _with_choice(kernel: str, node: Node) -> str:
    """The kernel's name, and how it computes the node if that was chosen by timing."""
    choice = str(Choice.of(node))
    return f"{kernel} ({choice})" if choice else kernel


def take_defaults(model: Model) -> dict[str, Constant]:
    """Make inputs that have an initializer of the same name plain inputs; returns the initializers.

    Before IR version 4 every initializer had to be listed as an input: there they are constants.
    """
    graph = model.graph
    overridable = [value for value in graph.inputs if value.name in graph.initializers]
    if model.ir_version < 4:
        graph.inputs = [value for value in graph.inputs if value not in overridable]
        return {}
    defaults = {}
    for value in overridable:
        assert value.constant is not None
        defaults[value.name] = value.constant
        del graph.initializers[value.name]
        value.constant = None
    return defaults
