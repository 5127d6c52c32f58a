# SPDX-License-Identifier: Apache-2.0
"""What a Model takes and gives: the signature, binding of arguments to it, and what is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from bascule.errors import InvalidArgument
from bascule.ir.dtype import DataType
from bascule.ir.symbols import is_invented
from bascule.ir.types import OptionalType, SequenceType, SparseTensorType, TensorType, Type


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """An input or output of a Model.

    Attributes:
        name: as the model has it.
        dtype: of the elements, a NumPy or ml_dtypes type (``object`` for strings); None for what is
            no tensor.
        shape: an int for a fixed size, a str for a named one, None for one that is unknown; None
            in place of the tuple if not even the rank is known.
        type: the type as the standard writes it, such as ``tensor(float)``.
        optional: whether a call may leave it out.
    """

    name: str
    dtype: np.dtype[Any] | None
    shape: tuple[Union[int, str, None], ...] | None
    type: str
    optional: bool = False

    @classmethod
    def of(cls, name: str, type_: Type | None, optional: bool = False) -> ValueInfo:
        """Of the name and type of a graph's input or output.

        Args:
            name: as the model has it.
            type_: its type; None where even the kind is unknown.
            optional: whether a call may leave it out.
        """
        dtype, shape = None, None
        if isinstance(type_, (TensorType, SparseTensorType)):
            dtype = type_.dtype.numpy
            if type_.shape is not None:
                shape = tuple(None if d == "" or is_invented(d) else d for d in type_.shape)
        optional = optional or isinstance(type_, OptionalType)
        return cls(name, dtype, shape, str(type_), optional)

    def __str__(self) -> str:
        return f"{self.name}: {self.annotation}"

    @property
    def annotation(self) -> str:
        """Element type and shape, such as ``float32[n, 3]``."""
        if self.dtype is None or self.type.startswith("sparse"):
            return self.type
        return _annotation("string" if self.dtype == object else self.dtype.name, self.shape)


class CallSignature:
    """The inputs of a Model, as a call binds arguments to them.

    `infos` and `types` tell of each input in order, those that must be fed before the others.
    """

    def __init__(self, infos: Sequence[ValueInfo], types: Mapping[str, Type | None]) -> None:
        self._infos = tuple(infos)
        self._types = dict(types)
        self._names = [info.name for info in infos]

    def __str__(self) -> str:
        texts = [f"{info} = ..." if info.optional else str(info) for info in self._infos]
        return f"model({', '.join(texts)})"

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The feeds by name; Python numbers and lists are arrays of the input's element type.

        Raises:
            TypeError: too many, unknown, repeated or missing arguments.
            InvalidArgument: a Python number or list that the element type cannot hold.
        """
        if len(args) > len(self._names):
            raise self._refusal(f"{len(args)} inputs are given by position, {len(self._names)} fit")
        feeds = dict(zip(self._names, args))
        for name, value in kwargs.items():
            if name in feeds:
                raise self._refusal(f"input '{name}' is given by position and by name")
            if name not in self._types:
                raise self._unknown(name)
            feeds[name] = value
        missing = [i for i in self._infos if not i.optional and i.name not in feeds]
        if missing:
            raise self._refusal(
                f"{_listed(missing)} not given; given: {', '.join(map(repr, feeds)) or 'nothing'}"
            )
        return {name: self._plain(name, value) for name, value in feeds.items()}

    def fault(self, feeds: Mapping[str, Any]) -> InvalidArgument | None:
        """What is wrong with the element types and shapes of `feeds`; None if nothing is."""
        faults: list[str] = []
        for name, value in feeds.items():
            type_ = _tensor_type(self._types[name])
            if type_ is not None and hasattr(value, "dtype") and hasattr(value, "shape"):
                faults.extend(_faults(ValueInfo.of(name, type_), value))
        return InvalidArgument(f"{'; '.join(faults)}. Signature: {self}") if faults else None

    def _refusal(self, message: str) -> TypeError:
        return TypeError(f"{message}. Signature: {self}")

    def _unknown(self, name: str) -> TypeError:
        close = _closest(name, self._names)
        hint = ""
        if close is not None:
            spelled = f"{close}=..." if close.isidentifier() else f"**{{{close!r}: ...}}"
            hint = f"; the closest is '{close}', as in model({spelled})"
        return self._refusal(f"the model has no input '{name}'{hint}")

    def _plain(self, name: str, value: Any) -> Any:
        """`value`, or the array that a Python number or list stands for."""
        type_ = self._types[name]
        if isinstance(type_, SequenceType) and isinstance(value, tuple):
            return list(value)
        tensor = _tensor_type(type_)
        if tensor is None or not isinstance(value, (bool, int, float, complex, str, list, tuple)):
            return value
        if isinstance(value, np.generic):  # np.float64 is a float, too
            return np.asarray(value)
        try:
            return _array(value, tensor.dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidArgument(
                f"input {ValueInfo.of(name, tensor)} cannot hold what is given: {error}. "
                f"Signature: {self}"
            ) from None


def _tensor_type(type_: Type | None) -> TensorType | None:
    if isinstance(type_, OptionalType):
        type_ = type_.element
    return type_ if isinstance(type_, TensorType) else None


def _array(value: Any, dtype: DataType) -> np.ndarray[Any, Any]:
    """Python numbers as elements of `dtype`, where that loses no kind: no fraction, no part."""
    found = np.asarray(value)
    if dtype is DataType.STRING:
        if found.size and found.dtype.kind not in "OUS":
            raise TypeError(f"{found.dtype} is no text")
        return np.asarray(value, dtype=object)
    kinds = "biufc"
    wanted = "b" if dtype is DataType.BOOL else "u" if dtype.is_integer else "f"
    wanted = "c" if dtype in (DataType.COMPLEX64, DataType.COMPLEX128) else wanted
    # Lists of other libraries' numbers are of kind O; NumPy asks each element.
    if (
        found.size
        and found.dtype.kind in kinds
        and kinds.index(found.dtype.kind) > kinds.index(wanted)
    ):
        raise TypeError(f"{found.dtype} does not become {dtype.numpy.name} without loss")
    return np.asarray(value, dtype=dtype.numpy)


def _faults(info: ValueInfo, value: Any) -> Iterator[str]:
    """What differs between an array and what is expected, with the change that mends it."""
    found = str(value.dtype).removeprefix("torch.")
    shape = tuple(int(size) for size in value.shape)
    assert info.dtype is not None
    is_text = getattr(value.dtype, "kind", "") in ("O", "U", "S", "T")
    wrong_type = not is_text if info.dtype == object else found != info.dtype.name
    wrong_shape = info.shape is not None and (
        len(shape) != len(info.shape)
        or any(isinstance(want, int) and want != got for got, want in zip(shape, info.shape))
    )
    if not wrong_type and not wrong_shape:
        if getattr(value, "requires_grad", False):
            yield f"input '{info.name}' requires a gradient, and none is recorded (.detach() it)"
        return
    given = _annotation("string" if is_text else found, shape)
    fix = ""
    if wrong_type and not is_text and info.dtype != object:
        is_torch = type(value).__module__.partition(".")[0] == "torch"
        call = f"to(torch.{info.dtype.name})" if is_torch else f"astype('{info.dtype.name}')"
        fix = f" (give it as .{call})"
    yield f"input '{info.name}' expects {info.annotation}, {given} is given{fix}"


def _annotation(dtype: str, shape: Sequence[Union[int, str, None]] | None) -> str:
    if shape is None:
        return f"{dtype}[...]"
    return f"{dtype}[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"


def _listed(infos: Sequence[ValueInfo]) -> str:
    texts = ", ".join(str(info) for info in infos)
    return f"input {texts} is" if len(infos) == 1 else f"inputs {texts} are"


def _closest(name: str, names: Sequence[str]) -> str | None:
    """The most similar of `names`; case and punctuation do not count."""
    plain = {_bare(other): other for other in reversed(names)}
    found = difflib.get_close_matches(_bare(name), plain, 1, 0.5)
    return plain[found[0]] if found else None


def _bare(name: str) -> str:
    return re.sub(r"\W", "_", name).lower()
