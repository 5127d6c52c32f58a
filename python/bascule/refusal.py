# SPDX-License-Identifier: Apache-2.0
"""One report of all nodes that cannot run: which, from where, and what can be done."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bascule import errors
from bascule.error_sources import explain_load_error
from bascule.ir import check
from bascule.ir.graph import ONNX_DOMAIN, Graph, Model, Node
from bascule.ir.infer import failed_inferences
from bascule.ir.source_trace import module_of, source_of
from bascule.optimizer.fused import definition
from bascule.providers.base import Provider
from bascule.providers.cpu.host import has_host_function
from bascule.providers.names import CPU
from bascule.providers.partition import assign

_LISTED = 40
"""Nodes that are described for one operator and reason; of more only the names are told."""

_SET_ASIDE = "bascule.unknown"
"""The domain of a node whose operator nobody knows, so that all that follows leaves it alone."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A node that cannot run."""

    node: Node
    operator: str
    """As the model names it."""
    domain: str
    opset: int | None
    reason: str
    function: str = ""
    """The function that holds the node."""
    without_cpu: bool = False
    """Whether the CPU, which has a kernel for most, was not asked."""

    @property
    def is_unknown(self) -> bool:
        return self.node.domain == _SET_ASIDE


def set_unknown_aside(model: Model) -> list[Refused]:
    """Find the nodes whose operators nobody knows, functions included, and make them opaque."""
    found = _unknown_nodes(model)
    if found:
        model.opset_imports[_SET_ASIDE] = 1
    for each in found:
        each.node.domain = _SET_ASIDE
    return found


def refuse_unknown(model: Model) -> None:
    """Refuse operators that the standard does not have in the opsets that the model imports.

    Those of other domains may be known to whoever runs the model.

    Raises:
        InvalidGraph: there is one; the message lists all of them.
    """
    standard = check.newest_opsets()
    found = [n for n in _unknown_nodes(model) if n.opset is None or n.domain in standard]
    for each in found:
        each.node.domain = _SET_ASIDE
    if found:
        raise refusal(found)


def _unknown_nodes(model: Model) -> list[Refused]:
    found = [
        _unknown(node, model.opset_imports)
        for node in model.graph.walk_nodes()
        if not _is_known(node, model.opset_imports, model)
    ]
    for function in model.functions.values():
        name = f"{function.domain}.{function.name}"
        found += [
            _unknown(node, function.opset_imports, name)
            for node in function.body.walk_nodes()
            if not _is_known(node, function.opset_imports, model)
        ]
    return found


def _unknown(node: Node, imports: Mapping[str, int], function: str = "") -> Refused:
    opset = imports.get(node.domain)
    reason = "no such operator is known"
    if opset is None:
        reason = "the model imports no opset of this domain"
    elif (node.domain, node.op_type) in _first_opsets():
        reason = "this opset has no such operator"
    return Refused(node, node.op_type, node.domain, opset, reason, function)


def _is_known(node: Node, imports: Mapping[str, int], model: Model) -> bool:
    if node.domain in check.UNCHECKED_DOMAINS:  # the providers tell
        return True
    if node.domain not in imports:
        return False
    if (node.domain, node.op_type, node.overload) in model.functions:
        return True
    if node.domain == ONNX_DOMAIN and node.op_type in check.OUTSIDE_STANDARD:
        return True
    if has_host_function(node):
        return True
    return check.schema(node.op_type, imports[node.domain], node.domain) is not None


def without_kernel(
    model: Model, providers: Sequence[Provider], imports: Mapping[str, int]
) -> list[Refused]:
    """The nodes that no provider takes, but for those that were set aside.

    `imports` are the opsets of the model as it was before it was canonicalized. Standard nodes are
    left out whose inputs have no types because of others that cannot run.
    """
    found = list(_without_kernel(model.graph, providers))
    causes = [
        (node, reason) for node, reason in found if node.domain != ONNX_DOMAIN or _has_types(node)
    ]
    without_cpu = all(provider.name != CPU for provider in providers)
    return [
        Refused(node, node.op_type, node.domain, imports.get(node.domain), reason, "", without_cpu)
        for node, reason in causes or found
        if node.domain != _SET_ASIDE
    ]


def contradiction(model: Model, refused: Sequence[Refused]) -> Exception | None:
    """The error of inference that leaves the nodes without types, if that is all that they lack."""
    if any(each.is_unknown or _has_types(each.node) for each in refused):
        return None
    for problem in failed_inferences(model, definition):
        explain_load_error(problem.error, model.graph)
        return problem.error
    return None


def _has_types(node: Node) -> bool:
    return all(value is None or value.type is not None for value in node.inputs)


def _without_kernel(graph: Graph, providers: Sequence[Provider]) -> Iterator[tuple[Node, str]]:
    """Of a node with nested graphs those inside that stand in its way, or itself."""
    for node, assignment in assign(graph, providers).items():
        if assignment.provider is not None:
            continue
        inner = [each for nested in node.subgraphs for each in _without_kernel(nested, providers)]
        if inner:
            yield from inner
        else:
            yield node, "; ".join(f"{name}: {reason}" for name, reason in assignment.reasons)


def refusal(refused: Sequence[Refused]) -> Exception:
    """The error that reports `refused`, of which there is one at least."""
    first = refused[0]
    error, message = _head(first)
    groups: dict[tuple[str, str, int | None, str], list[Refused]] = {}
    for each in refused:
        groups.setdefault((each.domain, each.operator, each.opset, each.reason), []).append(each)
    count = "1 node" if len(refused) == 1 else f"{len(refused)} nodes"
    lines = [message, f"{count} cannot run:"]
    for nodes in groups.values():
        lines += _group(nodes)
    return error("\n".join(lines))


def _head(first: Refused) -> tuple[type[Exception], str]:
    """As onnxruntime begins."""
    node, operator, domain = first.node, first.operator, first.domain
    if not first.is_unknown:
        known = None if first.opset is None else check.schema(operator, first.opset, domain)
        since = "" if known is None else f"({known.since_version})"
        text = (
            f"Could not find an implementation for {operator}{since} node with name '{node.name}':"
        )
        return errors.NotImplemented, text
    if first.opset is not None and domain not in check.newest_opsets():
        return errors.Fail, f"Fatal error: {domain}:{operator}(-1) is not a registered function/op"
    inputs = ", ".join("" if value is None else value.name for value in node.inputs)
    outputs = ", ".join(value.name for value in node.outputs)
    rule = f"No Op registered for {operator} with domain_version of {first.opset}"
    if first.opset is None:
        rule = f"No opset import for domain '{domain}'"
    return errors.InvalidGraph, (
        f"This is an invalid model. In Node, ('{node.name}', {operator}, '{domain}', -1) : "
        f"({inputs}) -> ({outputs}) , Error {rule}"
    )


def _group(nodes: Sequence[Refused]) -> list[str]:
    """What is told of the nodes of one operator."""
    first = nodes[0]
    name = f"{first.domain}.{first.operator}" if first.domain else first.operator
    version = "" if first.opset is None else f" of opset {first.opset}"
    lines = [f"  {name}{version}: {first.reason}"]
    for each in nodes[:_LISTED]:
        types = ", ".join("-" if v is None else str(v.type or "?") for v in each.node.inputs)
        inside = f" in function {each.function}" if each.function else ""
        lines.append(f"    '{each.node.name}' ({types}){inside}")
        module = module_of(each.node)
        origin = ", ".join(filter(None, (source_of(each.node), module and f"module {module}")))
        if origin:
            lines.append(f"      from {origin}")
    if len(nodes) > _LISTED:
        names = ", ".join(f"'{each.node.name}'" for each in nodes[_LISTED:])
        lines.append(f"    and {len(nodes) - _LISTED} more: {names}")
    lines.append(f"    {advice_on(first)}")
    return lines


def advice_on(refused: Refused) -> str:
    """What can be done about a node that cannot run."""
    if refused.without_cpu:
        return (
            f"Name {CPU} among the session's providers, too, so that it runs there, or say in the "
            "model what it does by other operators."
        )
    if not refused.is_unknown and refused.domain not in check.UNCHECKED_DOMAINS:
        return (
            "Cast its inputs to a type that there is a kernel for, or say in the model what it "
            "does by other operators."
        )
    known = _first_opsets()
    operator, domain, opset = refused.operator, refused.domain, refused.opset
    since = known.get((domain, operator))
    if since is not None and opset is None:
        return f"Import the opset of '{domain or 'ai.onnx'}' that the model was made for."
    if since is not None and opset is not None and since > opset:
        return f"It came with opset {since}: export the model for that opset or a later one."
    for other in ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training"):
        if other != domain and (other, operator) in known:
            return f"There is one in domain '{other or 'ai.onnx'}': set the node's domain to that."
    similar = difflib.get_close_matches(
        operator, [name for d, name in known if d == domain], 1, 0.8
    )
    meant = f"Is {similar[0]} meant? Else a" if similar else "A"
    return (
        f"{meant}dd a function of this name, made of standard operators, to the model (its "
        "decomposition), or export the model without the operator."
    )


@functools.cache
def _first_opsets() -> Mapping[tuple[str, str], int]:
    """The first opset of each operator of the standard, by (domain, operator)."""
    import onnx.defs

    found: dict[tuple[str, str], int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        key = check.normal_domain(schema.domain), schema.name
        found[key] = min(schema.since_version, found.get(key, schema.since_version))
    return found
