# SPDX-License-Identifier: Apache-2.0
"""load and Model: a model that is called like a function."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

from bascule.array_libraries import library_of
from bascule.bound_run import run_to_device
from bascule.device_memory import array_of, is_on_gpu
from bascule.model_call import CallSignature, ValueInfo
from bascule.options import SessionOptions
from bascule.providers.cuda.targets import Fresh
from bascule.providers.cuda.tensor import Tensor
from bascule.session import InferenceSession

if TYPE_CHECKING:
    import onnx
    from rich.table import Table

    from bascule.tools.trace import TracedValue
    from bascule.tools.view import View


def load(
    source: Union[str, os.PathLike[str], bytes, onnx.ModelProto],
    *,
    providers: Sequence[Any] | None = None,
    session_options: SessionOptions | None = None,
    dims: Mapping[str, int] | None = None,
    config: Mapping[str, str] | None = None,
    verify: bool = False,
    **options: Any,
) -> Model:
    """Load, optimize and compile a model.

    Args:
        source: the path of an .onnx file, the bytes of one, or an onnx.ModelProto.
        providers: execution providers by falling preference, each a name or (name, options).
        session_options: options to start from; copied.
        dims: sizes for symbolic sizes of the inputs, by their names.
        config: session config entries, such as ``{"session.cache_dir": folder}``.
        verify: whether each rewrite of the optimizer is run beside what it replaces, on seeded
            inputs; one that is further off than rounding explains is dropped, a warning names it.
        **options: attributes of SessionOptions, such as ``intra_op_num_threads=2``.

    Raises:
        TypeError: an option does not exist or is of another type.
        NoSuchFile, InvalidProtobuf, InvalidGraph, InvalidArgument, NotImplemented, Fail: see
            bascule.errors; the message names the node, operator, input and shape.

    Examples:
        >>> model = bascule.load("model.onnx")
        >>> y = model(x)
    """
    if not isinstance(session_options, (SessionOptions, type(None))):
        raise TypeError(
            f"session_options must be SessionOptions, not {type(session_options).__name__}"
        )
    for what, given in (("config", config), ("dims", dims)):
        if not isinstance(given, (Mapping, type(None))):
            raise TypeError(f"{what} must be a dict, not {type(given).__name__}")
    settings = SessionOptions() if session_options is None else session_options.copy()
    for name, value in options.items():
        _set_option(settings, name, value)
    for key, text in (config or {}).items():
        settings.add_session_config_entry(key, text)
    if verify:
        settings.add_session_config_entry("session.verify_optimizer", "1")
    for name, size in (dims or {}).items():
        settings.add_free_dimension_override_by_name(name, size)
    if not isinstance(source, (str, os.PathLike, bytes)) and hasattr(source, "SerializeToString"):
        source = source.SerializeToString()
    return Model(InferenceSession(source, settings, providers))


def _set_option(settings: SessionOptions, name: str, value: Any) -> None:
    known = [*SessionOptions._fields]
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
        raise TypeError(f"load has no option '{name}': {hint}")
    setattr(settings, name, value)


class Model:
    """A compiled model that is called like a function. `load` makes one.

    Attributes:
        session: the InferenceSession that runs it.
        inputs: a ValueInfo of each input, in the order of positional arguments: in graph order,
            those that have a default last.
        outputs: a ValueInfo of each output, in graph order.

    Raises:
        TypeError: it is made of something else than an InferenceSession.
    """

    session: InferenceSession
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]

    def __init__(self, session: InferenceSession) -> None:
        if not isinstance(session, InferenceSession):
            raise TypeError(f"session must be an InferenceSession, not {type(session).__name__}")
        self.session = session
        types = session._signature.types
        required = [arg.name for arg in session.get_inputs()]
        defaults = [arg.name for arg in session.get_overridable_initializers()]
        self.inputs = tuple(
            ValueInfo.of(name, types[name], optional=name in defaults)
            for name in [*required, *defaults]
        )
        self.outputs = tuple(ValueInfo.of(v.name, v.type) for v in session._compiled.outputs)
        self._signature = CallSignature(self.inputs, types)
        self._output_names = tuple(info.name for info in self.outputs)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the model once.

        Args:
            *args: inputs by position, each an array of NumPy, torch, CuPy or any library that has
                DLPack, or a Python number or list, which takes the element type of the input.
            **kwargs: inputs by name; ``model(**{"input.1": x})`` for a name that is none in Python.

        Returns:
            The output, or Outputs if the model has several: arrays of the library that the first
            input which is not of NumPy came from, over the same memory, else NumPy arrays. An
            element type that the library does not have stays a NumPy array.

        Raises:
            TypeError: an input is missing, unknown, or given twice.
            InvalidArgument: an element type or a shape is not what the model takes.
            Fail: an operator could not go on.

        Safe to call from several threads at once.
        """
        feeds = self._signature.bind(args, kwargs)
        library = library_of(feeds.values())
        try:
            results = self._run(feeds)
        except Exception as error:
            fault = self._signature.fault(feeds)
            if fault is None:
                raise
            raise fault from error
        if library is not None:
            results = [library(result) for result in results]
        return results[0] if len(results) == 1 else Outputs(self._output_names, results)

    def _run(self, feeds: dict[str, Any]) -> list[Any]:
        """The outputs; on the GPU, as CuPy arrays, where an input is there."""
        gpu = self.session._cuda
        if gpu is None or not any(is_on_gpu(value) for value in feeds.values()):
            return self.session.run(None, feeds)
        wanted = {name: Fresh() for name in self._output_names}
        results, _ = run_to_device(self.session, feeds, wanted, None)
        number = gpu.device.number
        return [array_of(r, number) if isinstance(r, Tensor) else r for r in results]

    def __reduce__(self) -> Any:
        return type(self), (self.session,)

    def trace(
        self,
        feeds: Mapping[str, Any],
        nodes: str | Iterable[str] | None = None,
        fused: bool = False,
        stop_on: str = "",
    ) -> Iterator[TracedValue]:
        """Yield every intermediate value of a run: see InferenceSession.trace.

        Args:
            feeds: by input name, as for InferenceSession.run.
            nodes: names or patterns of nodes or values, by default all.
            fused: whether the optimized graph is traced.
            stop_on: watchpoints: ``nan``, ``inf``, ``overflow``, joined by ``|``.

        Examples:
            >>> for value in model.trace({"x": x}, stop_on="nan|overflow"):
            ...     print(value.name, value.node, value.statistics)
        """
        return self.session.trace(feeds, nodes, fused, stop_on)

    # --- what it shows

    def view(self, colour: Any = None, *, group: bool | None = None) -> View:
        """The graph as the file has it, as a drawing that notebooks show; see View.

        Raises:
            InvalidArgument: `colour` is nothing that colours nodes.
        """
        from bascule.tools.view import View

        return View(self.session._source, colour, group=group)

    def __repr__(self) -> str:
        from bascule.tools.model_view import as_text

        return as_text(self)

    def __rich__(self) -> Table:
        """The table that rich's consoles print."""
        from bascule.tools.model_view import as_table

        return as_table(self)

    def _repr_html_(self) -> str:
        """The table that notebooks show."""
        from bascule.tools.model_view import as_html

        return as_html(self)


class Outputs(tuple[Any, ...]):
    """The outputs of one run: a tuple, indexed by name too; names are attributes where they can be.

    Attributes:
        names: of the outputs, in graph order.

    Raises:
        KeyError: there is no output of the name in ``outputs["name"]``.
        AttributeError: the same of ``outputs.name``.

    Examples:
        >>> outputs = model(x)
        >>> logits, hidden = outputs
        >>> outputs["logits"] is outputs[0] is outputs.logits
        True
    """

    names: tuple[str, ...]

    def __new__(cls, names: Sequence[str], values: Sequence[Any]) -> Outputs:
        made = super().__new__(cls, values)
        made.names = tuple(names)
        return made

    def __getitem__(self, key: Any) -> Any:
        """The output of this name or number; a tuple for a slice."""
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self.names:
            raise KeyError(f"the model has no output '{key}'{_suggestion(key, self.names)}")
        return super().__getitem__(self.names.index(key))

    def __getattr__(self, name: str) -> Any:
        names = self.__dict__.get("names", ())
        if name not in names:
            raise AttributeError(f"the model has no output '{name}'{_suggestion(name, names)}")
        return self[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name in self.names if name.isidentifier())]

    def keys(self) -> tuple[str, ...]:
        """The names, so that ``dict(outputs)`` is a dict by name."""
        return self.names

    def items(self) -> Iterator[tuple[str, Any]]:
        """(name, value) of each output."""
        return zip(self.names, self)

    def __repr__(self) -> str:
        inner = ",\n".join(f"  {name!r}: {value!r}" for name, value in self.items())
        return f"Outputs({{\n{inner}\n}})"

    def __reduce__(self) -> Any:
        return Outputs, (self.names, tuple(self))


def _suggestion(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean '{close[0]}'?" if close else f"; it has {', '.join(names)}"
