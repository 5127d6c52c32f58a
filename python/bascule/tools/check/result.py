# SPDX-License-Identifier: Apache-2.0
"""What was found out about a model before it runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, lossy or worth knowing."""

    severity: str
    """``error``: the model cannot run; ``warning``: results or speed suffer; ``note``."""
    kind: str
    """``model``, ``external data``, ``operator``, ``promoted``, ``fallback``, ``opset``,
    ``sizes``, ``unused``, ``nan``, ``inf``, ``denormal``, ``clamped``, ``saturated``, ``scale``,
    ``memory``."""
    text: str
    """What was found."""
    subjects: tuple[str, ...] = ()
    """The nodes, tensors or inputs that it is about."""
    source: str = ""
    """The exporter's source lines of the first node, in short."""
    advice: str = ""
    """What can be done about it."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a run at given sizes will take."""

    shapes: dict[str, list[int]]
    """Of the inputs."""
    flops: int
    """A multiply-add counts 2."""
    weights: int
    """Bytes of the constants that the session holds."""
    values: int | None
    """The most bytes of values alive at once; None where sizes depend on data."""
    feeds: int
    """Bytes of inputs and outputs."""
    process: int
    """Bytes of Python and the libraries, before a model is loaded."""
    copies: int
    """Bytes of weights beyond one copy of each, while they are packed."""
    first_run: int | None
    """Bytes of values in the first run of a shape, before their memory is planned."""
    memory: int | None
    """Bytes that the process will have at most: `process`, `weights`, `copies`, `first_run` and
    `feeds`; None where sizes depend on data."""
    least_seconds: float
    """Seconds that the machine needs at least, by its measured peaks of arithmetic and memory."""
    seconds: float
    """Seconds that it will take, about."""
    threads: int
    """Of the session."""
    unknown: int
    """Nodes whose sizes depend on data: they are not counted."""
    optimized: bool
    """Whether this is about the graph as it runs; of a very large model it is that of the file."""


@dataclass
class ModelCheck:
    """All findings on a model. Print it for a table; `can_run` says whether a session can be made.

    Attributes:
        model: the name of the file, or ``model``.
        findings: all of them, errors first, then warnings and notes.
        producer: the program that wrote the model, with its version.
        opsets: the version of each domain that is imported.
        nodes: how many nodes there are, nested graphs included.
        weight_bytes: bytes of all constants.
        inputs: the type and shape of each input, as ``float[batch,3]``.
        prediction: what a run will take; None where the model cannot run, or is for a GPU.
    """

    model: str
    findings: list[Finding] = field(default_factory=list)
    producer: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    nodes: int = 0
    weight_bytes: int = 0
    inputs: dict[str, str] = field(default_factory=dict)
    """By name, as ``float[batch,3]``."""
    prediction: Prediction | None = None

    @property
    def can_run(self) -> bool:
        """Whether a session can be made of the model: there is no error."""
        return not self.of(ERROR)

    def of(self, severity: str) -> list[Finding]:
        """The findings of one severity."""
        return [each for each in self.findings if each.severity == severity]

    def records(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {**dataclasses.asdict(self), "can_run": self.can_run}

    def __str__(self) -> str:
        from bascule.tools.check.show import text

        return text(self)

    __repr__ = __str__
