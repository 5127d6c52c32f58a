# SPDX-License-Identifier: Apache-2.0
"""What is compared: a model on a backend, run node by node."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from bascule.errors import Fail, InvalidArgument
from bascule.ir.graph import Graph, Model, Node, Value
from bascule.ir.types import OptionalType, TensorType
from bascule.optimizer.channels_last import CHANNELS_LAST
from bascule.options import GraphOptimizationLevel, SessionOptions
from bascule.providers.names import CPU, CUDA
from bascule.session import InferenceSession
from bascule.tools.compare.described import DescribedSession
from bascule.tools.stepping.part import extract
from bascule.tools.stepping.prepared import Source, feeds_of, load_of, prepare_session
from bascule.tools.stepping.steps import Environment, Stepper

if TYPE_CHECKING:
    import onnx

    from bascule.model import Model as CallableModel

ModelSource = Union[
    str, "os.PathLike[str]", bytes, "onnx.ModelProto", InferenceSession, "CallableModel"
]

LEVELS = {
    "disabled": GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": GraphOptimizationLevel.ORT_ENABLE_ALL,
}
FOREIGN = ("onnxruntime", "reference")
BACKENDS = ("cpu", "cuda", *FOREIGN)


def is_backend(text: Any) -> bool:
    """Whether `text` names a backend: cpu, cuda, both also with a level, or another runtime."""
    if not isinstance(text, str):
        return False
    name, separator, level = text.partition(":")
    return name in BACKENDS and (not separator or level in LEVELS)


def means_backend(text: Any) -> bool:
    """Whether `text` is a backend or one that is misspelt, as cpu:fast, and no file."""
    if not isinstance(text, str) or is_backend(text):
        return is_backend(text)
    return text.partition(":")[0] in BACKENDS and not os.path.exists(text)


@dataclass(frozen=True)
class Subject:
    """A model and the backend that it is to run on."""

    source: str | bytes
    backend: str
    session: InferenceSession
    """The one that is compared, or else one that only tells of inputs and options."""

    @property
    def label(self) -> str:
        where = os.path.basename(self.source) if isinstance(self.source, str) else "model"
        return f"{where} on {self.backend}"

    @property
    def is_optimized(self) -> bool:
        """Whether passes of our optimizer may change what is computed."""
        if self.backend in FOREIGN:
            return False
        level = self.session._options.graph_optimization_level
        return level != GraphOptimizationLevel.ORT_DISABLE_ALL


def subject(
    source: ModelSource, backend: str | None = None, disabled: Sequence[str] = ()
) -> Subject:
    """The model of `source` on `backend`, by default on the CPU, or as the session given has it.

    Raises:
        InvalidArgument: the backend is unknown.
        ImportError: the runtime is not installed; the message names the pip command.
    """
    source = getattr(source, "session", source)
    if isinstance(source, InferenceSession) and backend is None:
        name = "cuda" if "CUDA" in source.get_providers()[0] else "cpu"
        return Subject(source._source, f"{name} (session)", source)
    if isinstance(source, InferenceSession):
        source = source._source
    if hasattr(source, "SerializeToString"):
        source = source.SerializeToString()
    data: Any = source if isinstance(source, bytes) else os.fspath(source)  # type: ignore[arg-type]
    backend = backend or "cpu"
    if not is_backend(backend):
        raise InvalidArgument(
            f"'{backend}' is no backend; there are {', '.join(BACKENDS)}; cpu and cuda may be "
            f"followed by a level, as in cpu:{', cpu:'.join(LEVELS)}"
        )
    name, _, level = backend.partition(":")
    if name == "onnxruntime":
        _require_onnxruntime()
    options = SessionOptions()
    options.graph_optimization_level = LEVELS["disabled" if name in FOREIGN else level or "all"]
    # A session that is given none takes the GPU where there is one.
    providers = [CUDA, CPU] if name == "cuda" else [CPU]
    session = DescribedSession(data, options, providers, disabled_optimizers=list(disabled))
    return Subject(data, backend, session)


class Side:
    """A subject that is ready to run on given feeds."""

    graph: Graph
    """As it runs, its values marked with their origins."""
    source: Source
    """As the model says it."""
    imports: Mapping[str, int]
    source_imports: Mapping[str, int]
    passes: list[str]
    """The optimizer's passes that changed something, in order."""
    feeds: list[Any]
    """An object for each input of the graph."""

    def __init__(
        self,
        subject: Subject,
        feeds: Mapping[str, Any],
        disabled: Sequence[str] = (),
        plain: bool = False,
    ) -> None:
        """`disabled` passes are left out, and with `plain` the whole optimizer."""
        self.subject = subject
        self.named_feeds = dict(feeds)
        session = subject.session
        self.feeds = feeds_of(session, feeds)
        self.passes = []
        if subject.backend in FOREIGN:
            model, _ = load_of(session, session._signature.names_hold(self.feeds))
            _infer(model)
            self.graph, self.source = model.graph, Source(model.graph)
            self.imports = self.source_imports = model.opset_imports
            self._foreign = (subject, model)
            self._stepper: Stepper = self.stepper(lambda node: False)
        else:
            fused = subject.is_optimized and not plain
            prepared = prepare_session(session, self.feeds, fused, disabled)
            self.graph, self.source = prepared.graph, prepared.source
            self.imports = prepared.model.opset_imports
            self.source_imports = self.imports
            self.passes = [name for name in prepared.passes if name not in disabled]
            self._providers = prepared.providers
            self._stepper = self.stepper(lambda node: False)

    def stepper(self, enters: Callable[[Node], bool]) -> Stepper:
        """What runs graphs of the side node by node, into the bodies of nodes that it `enters`."""
        if self.subject.backend in FOREIGN:
            return _ForeignStepper(*self._foreign, enters)
        return Stepper(self._providers, enters=enters)

    def run(self, node: Node, environment: Environment) -> list[Any]:
        """What a node makes: an array for each output that is used."""
        return self._stepper.run(node, environment)

    def rename(self, names: Mapping[str, str]) -> None:
        """Let values stand for those of other names."""
        for graph in {id(each): each for each in (self.graph, self.source.graph)}.values():
            for value in _values_in(graph):
                value.origins = tuple(_renamed(name, names) for name in value.origins)
        self.source = Source(self.source.graph)

    def whole(self) -> list[Any]:
        """The outputs of the model, run in one piece as its users run it.

        Raises:
            Fail: another runtime cannot run the model.
        """
        if self.subject.backend in FOREIGN:
            subject = self.subject
            feeds = dict(self.named_feeds)
            if subject.backend == "reference":  # which asks for each input
                types = subject.session._signature.types
                names = (arg.name for arg in subject.session.get_inputs())
                feeds = {n: None for n in names if isinstance(types[n], OptionalType)} | feeds
            try:
                return _evaluate(subject.backend, subject.source, None, feeds)
            except Exception as error:
                raise Fail(f"{subject.label} cannot run: {error}") from error
        session = self.subject.session
        if isinstance(session, DescribedSession):
            session = session.compiled()
        return session.run(None, self.named_feeds)


class _ForeignStepper(Stepper):
    """Another runtime, which is given models of one node."""

    def __init__(self, subject: Subject, model: Model, enters: Callable[[Node], bool]) -> None:
        super().__init__((), enters=enters)
        self._backend = subject.backend
        self._model = model

    def run(self, node: Node, environment: Environment, keep: bool = False) -> list[Any]:
        from bascule.ir.save import to_bytes

        part = extract([node], [value for value in node.outputs if not value.is_unused])
        feeds = {}
        for value, own in zip(part.inputs, part.graph.inputs):
            array = environment[value]
            feeds[own.name] = array
            _set_type(own, array)
        imports = dict(self._model.opset_imports)
        if node.opset is not None:
            imports[node.domain] = node.opset
        version = max(self._model.ir_version, 8)
        data = to_bytes(Model(part.graph, imports, ir_version=version))
        try:
            return _evaluate(self._backend, data, [v.name for v in part.graph.outputs], feeds)
        except Exception as error:
            raise Fail(
                f"{node.op_type} node '{node.name}' cannot run on {self._backend}: {error}"
            ) from error


def _evaluate(
    backend: str, source: str | bytes, names: list[str] | None, feeds: dict[str, Any]
) -> list[Any]:
    """What another runtime makes of a model."""
    if backend == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        found: list[Any] = session.run(names, feeds)
        return found
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(model).run(names, feeds)
    return [np.asarray(each) if np.isscalar(each) else each for each in results]


def _values_in(graph: Graph) -> Iterator[Value]:
    for each in graph.walk_graphs():
        yield from each.inputs
        yield from each.initializers.values()
        for node in each:
            yield from node.outputs


def _renamed(name: str, names: Mapping[str, str]) -> str:
    plain = name.removesuffix(CHANNELS_LAST)
    return names.get(plain, plain) + name[len(plain) :]


def _infer(model: Model) -> None:
    """Types, as far as they follow: another runtime may run what we refuse."""
    from bascule.ir.infer import infer_types

    infer_types(model, check=False)


def _set_type(value: Value, array: Any) -> None:
    from bascule.ir.dtype import DataType

    if isinstance(array, np.ndarray):
        value.type = TensorType(DataType.from_numpy(array.dtype), array.shape)


def _require_onnxruntime() -> None:
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise ImportError(
            "comparing with onnxruntime needs the package: pip install onnxruntime"
        ) from None
