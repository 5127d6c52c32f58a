# SPDX-License-Identifier: Apache-2.0
"""Gradient nodes of domain ai.onnx.preview.training.

Such a node names the values that it is about. Before functions are inlined and operators rewritten
`bind_gradients` makes these values inputs of the node, so that they are followed; when all else is
canonical `expand_gradients` puts the gradient in the node's place.
"""

from __future__ import annotations

from collections.abc import Sequence

from bascule.errors import InvalidGraph
from bascule.gradient.paths import ancestors
from bascule.gradient.reverse import Settle, differentiate
from bascule.ir.copy import GraphCopier
from bascule.ir.graph import FUSED_DOMAIN, Graph, Model, Node, Value
from bascule.ir.types import TensorType

TRAINING_DOMAIN = "ai.onnx.preview.training"

_BOUND = "BoundGradient"
"""``(values for xs, values for zs, xs, zs, ys) -> gradients``, attributes xs and zs say how many.

With ``total=1`` the gradient with respect to a value goes through the others too."""


def bind_gradients(model: Model) -> None:
    """Make what Gradient nodes name their inputs."""
    for graph in (model.graph, *(function.body for function in model.functions.values())):
        _bind_in(graph, {})


def _bind_in(graph: Graph, outer: dict[str, Value]) -> None:
    nodes = [node for node in graph if node.subgraphs or _is_gradient(node)]
    if not nodes:
        return
    scope = dict(outer)
    scope.update((value.name, value) for value in graph.inputs)
    scope.update(graph.initializers)
    scope.update((value.name, value) for node in graph for value in node.outputs)
    for node in nodes:
        for nested in node.subgraphs:
            _bind_in(nested, scope)
        if _is_gradient(node):
            _bind(node, scope)
    try:
        graph.sort()
    except ValueError as error:
        raise InvalidGraph(f"A Gradient differentiates what is computed from it: {error}") from None


def _is_gradient(node: Node) -> bool:
    return node.is_op("Gradient", domain=TRAINING_DOMAIN)


def _bind(node: Node, scope: dict[str, Value]) -> None:
    def found(name: str, attribute: str) -> Value:
        if name not in scope:
            raise _invalid(node, f"attribute '{attribute}' names '{name}', which is no value here")
        return scope[name]

    for required in ("xs", "y"):
        if required not in node.attributes:
            raise _invalid(node, f"required attribute '{required}' is missing")
    names = {key: list(node.attributes.get(key, [])) for key in ("xs", "zs")}
    listed = names["xs"] + names["zs"]
    if len(set(listed)) < len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        raise _invalid(node, f"'{twice}' stands twice in 'xs' and 'zs'")
    if len(node.inputs) != len(listed):
        raise _invalid(node, f"{len(node.inputs)} inputs are not one for each of {listed}")
    if len(node.outputs) > len(names["xs"]):
        raise _invalid(node, f"{len(node.outputs)} outputs are more than {len(names['xs'])} xs")
    if None in node.inputs:
        raise _invalid(node, f"the value of '{listed[node.inputs.index(None)]}' is left out")
    xs, zs = ([found(name, key) for name in names[key]] for key in ("xs", "zs"))
    _become_bound(node, [v for v in node.inputs if v], xs, zs, [found(node.attributes["y"], "y")])


def request_gradient(model: Model, ys: Sequence[Value], xs: Sequence[Value]) -> list[Value]:
    """Add a node to the end of the graph that `expand_gradients` will replace; its outputs.

    Unlike those of a Gradient node, one of `xs` may be computed from another.
    """
    node = Node(_BOUND, [], len(xs), domain=FUSED_DOMAIN)
    _become_bound(node, xs, xs, [], ys)
    node.attributes["total"] = 1
    model.graph.append(node)
    return node.outputs


def _become_bound(
    node: Node,
    values: Sequence[Value],
    xs: Sequence[Value],
    zs: Sequence[Value],
    ys: Sequence[Value],
) -> None:
    node.op_type, node.domain = _BOUND, FUSED_DOMAIN
    node.attributes = {"xs": len(xs), "zs": len(zs)}
    node.set_inputs([*values, *xs, *zs, *ys])


def expand_gradients(model: Model, settle: Settle, *, allow_unused: bool = True) -> bool:
    """Replace every bound node by the nodes that compute its outputs; whether there was one.

    The rest of the model is canonical, with types inferred; afterwards it is so again. With
    `allow_unused` the gradient with respect to what is not used is zero, otherwise an error.
    """
    count = 0
    for graph in list(model.graph.walk_graphs()):
        for node in graph.nodes:
            if node.is_op(_BOUND, domain=FUSED_DOMAIN):
                _expand(model, node, settle, allow_unused)
                count += 1
        if count:
            graph.sort()
    if count:
        settle(model)
    return count > 0


def _expand(model: Model, node: Node, settle: Settle, allow_unused: bool) -> None:
    graph = node.graph
    assert graph is not None
    inputs = [value for value in node.inputs if value is not None]
    if len(inputs) < len(node.inputs):
        raise _invalid(node, "a function is called without the input that it is about")
    x_count, count = node.attributes["xs"], node.attributes["xs"] + node.attributes["zs"]
    values, named, ys = inputs[:count], inputs[count : 2 * count], inputs[2 * count :]
    node.detach()
    variables, ys = _evaluate(graph, values, named, ys)
    wanted = [(x, out) for x, out in zip(variables[:x_count], node.outputs) if not out.is_unused]
    gradients = differentiate(
        model,
        ys,
        [x for x, _ in wanted],
        graph=graph,
        independent=() if node.attribute("total") else variables,
        settle=settle,
        allow_unused=allow_unused,
    )
    for (_, output), gradient in zip(wanted, gradients):
        output.replace_uses(gradient)
    graph.remove(node)
    graph.sort()


def _evaluate(
    graph: Graph, values: Sequence[Value], named: Sequence[Value], ys: Sequence[Value]
) -> tuple[list[Value], list[Value]]:
    """What stands for the named values and for `ys` where the named ones have these values.

    What depends on a named value that has another one than in the graph is computed anew.
    """
    copier = GraphCopier()
    variables, changed = [], set()
    for value, name in zip(values, named):
        if value is not name:
            identity = graph.append(Node("Identity", [value]))  # a variable of its own
            identity.output.type = value.type
            copier.replace_value(name, identity.output)
            changed.add(name)
            variables.append(identity.output)
        else:
            variables.append(name)
    if not changed:
        return variables, list(ys)
    for node, reads in ancestors(ys, set(named)).items():
        if changed.isdisjoint(reads):
            continue
        changed.update(node.outputs)
        copy = copier.copy_node(node, graph.fresh_name(f"{node.name}/anew"), graph.fresh_name)
        for output in copy.outputs:
            if isinstance(output.type, TensorType):  # sizes may be others
                output.type = TensorType(output.type.dtype)
        graph.append(copy)
    replaced = [copier.value(y) for y in ys]
    return variables, [value for value in replaced if value is not None]


def _invalid(node: Node, problem: str) -> InvalidGraph:
    return InvalidGraph(f"Gradient: {problem}", node=node.name, op="Gradient")
