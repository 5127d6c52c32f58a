# SPDX-License-Identifier: Apache-2.0
"""What a comparison of two models found."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """Something about the model as a whole, its inputs or its outputs.

    Attributes:
        where: ``opset``, ``input``, ``output``, ``metadata``, ``function``, ``producer``,
            ``ir_version``, ``domain``, ``model_version`` or ``doc``.
        name: the domain, input, output, key or function; empty where there is only one.
        old, new: what it was and is, as text; None where it was or is not there.
    """

    where: str
    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node that only one model has, or that differs in them.

    Attributes:
        kind: ``added``, ``removed`` or ``changed``.
        old, new: the names of the node (that of its first output where it has none).
        old_operator, new_operator: with the domain, as ``com.microsoft.Gelu``.
        inside: the function, or the nodes and attributes, whose graph holds the node.
        attributes: (name, old, new) of each attribute that differs, as text.
        inputs: (position, old, new) of each input that comes from elsewhere, as text; of a node
            that was added or removed all inputs.
        source: the line of Python that made the node, if the exporter wrote it down.
    """

    kind: str
    old: str | None
    new: str | None
    old_operator: str | None
    new_operator: str | None
    inside: str = ""
    attributes: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    inputs: list[tuple[int, str | None, str | None]] = field(default_factory=list)
    source: str = ""


@dataclass(frozen=True, slots=True)
class Statistics:
    """How the numbers of two tensors of one shape differ; NaN and infinities apart.

    Attributes:
        elements: how many a tensor has.
        changed: how many are not the same, bit by bit.
        max, mean: of the absolute differences.
        relative: the root of the sum of squared differences, divided by that of the old elements;
            infinite where these are all 0.
        old_mean, new_mean, old_std, new_std: of the elements.
        shift: the share of elements, 0 to 1, that would have to move for the histograms to become
            equal; bins are quarters of powers of two, and of large tensors a sample is taken.
        nonfinite: elements that are NaN or infinite in only one of the two.
    """

    elements: int
    changed: int
    max: float = 0.0
    mean: float = 0.0
    relative: float = 0.0
    old_mean: float = 0.0
    new_mean: float = 0.0
    old_std: float = 0.0
    new_std: float = 0.0
    shift: float = 0.0
    nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class WeightChange:
    """A tensor that differs: an initializer, a Constant, or an attribute.

    Attributes:
        old, new: its names.
        node: the name of the (new) node that reads it, and where: ``fc/MatMul[1]``.
        old_type, new_type: element type and shape, such as ``float[768,768]``.
        statistics: None where the shapes differ, or the elements are strings.
    """

    old: str
    new: str
    node: str
    old_type: str
    new_type: str
    statistics: Statistics | None = None


@dataclass(frozen=True, slots=True)
class OutputChange:
    """How one output differs when both models are run on the same inputs.

    Attributes:
        old, new: its names.
        same: whether all elements are the same.
        old_type, new_type: element type and shape.
        statistics: None where the shapes differ, or it is no tensor of numbers.
    """

    old: str
    new: str
    same: bool
    old_type: str
    new_type: str
    statistics: Statistics | None = None


@dataclass(slots=True)
class ModelDiff:
    """All that differs between two models; `str` of it is a report.

    Attributes:
        model: changes of the model as a whole, its inputs and outputs.
        nodes: nodes that were added, removed or changed, in the order of the graph.
        weights: tensors that differ.
        outputs: a record for each output both have, if the models were run, else None.
        matched: how many nodes both models have.
        renamed: how many of these have another name.
        equal_weights: how many tensors that nodes of both read are the same.
    """

    model: list[Change] = field(default_factory=list)
    nodes: list[NodeChange] = field(default_factory=list)
    weights: list[WeightChange] = field(default_factory=list)
    outputs: list[OutputChange] | None = None
    matched: int = 0
    renamed: int = 0
    equal_weights: int = 0

    @property
    def same(self) -> bool:
        """Whether nothing differs; names of nodes and values in between do not count."""
        ran_same = all(each.same for each in self.outputs or ())
        return ran_same and not (self.model or self.nodes or self.weights)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        return {"same": self.same, **dataclasses.asdict(self)}

    def node_states(self) -> dict[str, str]:
        """``added``, ``changed`` or ``weights`` by the name of the new model's node: for `view`."""
        states = {each.node.rpartition("[")[0]: "weights" for each in self.weights}
        states.update({each.new: each.kind for each in self.nodes if each.new is not None})
        return states

    def __str__(self) -> str:
        # Imported here: only what prints needs it.
        from bascule.tools.diff.text import as_text

        return as_text(self)

    __repr__ = __str__
