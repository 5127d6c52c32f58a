# SPDX-License-Identifier: Apache-2.0
"""Libraries of operators in C++ (docs/custom_operators.md)."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bascule.errors import Fail, InvalidArgument, InvalidGraph
from bascule.ir.graph import Binding, Graph, Model, Node
from bascule.ir.types import Type
from bascule.native import _native
from bascule.operators import check_domain, registry
from bascule.providers.cpu.host.library import library_types
from bascule.providers.cpu.host.registry import Unavailable

_HERE = os.path.dirname(os.path.abspath(__file__))


def include_dir() -> str:
    """The folder that holds ``bascule/operator.h``, for a compiler's ``-I``."""
    return os.path.join(_HERE, "include")


def cmake_dir() -> str:
    """The folder of the CMake package: ``find_package(bascule)`` takes it as ``bascule_DIR``."""
    return os.path.join(_HERE, "share", "cmake", "bascule")


@dataclass(frozen=True, slots=True, eq=False)
class LibraryOperator:
    """An operator of a library.

    Attributes:
        domain, name, since: what models call it, and the opset version of the domain that brought
            it in this form.
        doc: what the library says of it.
        inputs, outputs: a dict for each, with its ``name``, ``dtypes`` (numbers of
            onnx.TensorProto.DataType), whether it is ``optional`` or ``variadic``, and the number
            of the input whose element type it has (``same_as``, or -1).
        attributes: a dict for each, with its ``name``, ``kind`` (a number of
            onnx.AttributeProto.AttributeType), ``default`` (or None), and whether it is
            ``required``.
        library: the name of the library's file.
    """

    domain: str
    name: str
    since: int
    doc: str
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]
    attributes: Sequence[Mapping[str, Any]]
    library: str
    _native: Any = field(repr=False)

    _gradient = None

    def _function_for(self, node: Node) -> Any:
        """What runs `node`: the native side takes its attributes from it."""
        for key, value in node.attributes.items():
            if isinstance(value, Graph):
                raise InvalidGraph(
                    f"{self.domain}.{self.name} node '{node.name}': attribute '{key}' is a graph, "
                    f"which no operator of a library takes ({self.library})"
                )
        return self._native

    def _types_of(self, node: Node) -> tuple[Type | None, ...]:
        return library_types(node, self._function_for(node))


@dataclass(frozen=True, slots=True, eq=False)
class OperatorLibrary:
    """A library of operators that is loaded; it stays so until the process ends.

    Attributes:
        path: of the file.
        version: what the library says of itself, perhaps ''.
        digest: of the file: SHA-256, in hexadecimal.
        operators: what models can call.
    """

    path: str
    version: str
    digest: str
    operators: tuple[LibraryOperator, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the file."""
        return os.path.basename(self.path)

    def __reduce__(self) -> Any:
        return _open_again, (self.path, self.digest)


_loaded: dict[str, OperatorLibrary] = {}
"""By path. The system's loader has such a table, too: it does not look at a file that it knows."""
_lock = threading.Lock()


def open_library(path: str | os.PathLike[str]) -> OperatorLibrary:
    """Load a library of operators; nothing can call them yet.

    Raises:
        Fail: there is no such file, it is no library of operators for this version, an operator of
            it is described wrongly, or it was loaded before and has changed since.
    """
    path = os.path.realpath(os.fspath(path))
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise Fail(f"Failed to load library {path}: {error.strerror}") from None
    with _lock:
        known = _loaded.get(path)
        if known is None:
            known = _loaded[path] = _load(path, digest)
    if known.digest != digest:
        raise Fail(
            f"Failed to load library {path}: the file has changed since this process loaded it, "
            "and a library stays loaded",
            fix="give what is built anew another name, or start another process",
        )
    return known


def load_operators(path: str | os.PathLike[str], *, replace: bool = False) -> OperatorLibrary:
    """Let every model that is loaded from now on call the operators of a library.

    For those of one session, see SessionOptions.register_custom_ops_library.

    Args:
        path: a library that was built with ``bascule/operator.h``.
        replace: whether operators of the same names and versions may be there already.

    Returns:
        What was loaded; the same again if the library's operators are registered already.

    Raises:
        Fail: as `open_library`.
        InvalidArgument: an operator is there already, or its domain is one of the standard.
    """
    library = open_library(path)
    present = {id(each) for each in registry}
    if all(id(each) in present for each in library.operators):
        return library
    added: list[LibraryOperator] = []
    try:
        for each in library.operators:
            registry.add(each, replace)
            added.append(each)
    except InvalidArgument:
        for each in added:
            registry.remove(each)
        raise
    return library


def with_library(
    libraries: Sequence[OperatorLibrary], path: str | os.PathLike[str]
) -> list[OperatorLibrary]:
    """The libraries of a session, and one more.

    Raises:
        Fail: as `open_library`, or two of them have the same operator.
        InvalidArgument: the domain of an operator is one of the standard.
    """
    library = open_library(path)
    if library in libraries:
        return list(libraries)
    taken = {(o.domain, o.name, o.since): each for each in libraries for o in each.operators}
    for one in library.operators:
        check_domain(one)
        other = taken.get((one.domain, one.name, one.since))
        if other is not None:
            raise Fail(
                f"Failed to load library {library.path}: {one.domain}.{one.name} since "
                f"{one.since} is in {other.path} already"
            )
    return [*libraries, library]


def bind_operators(model: Model, libraries: Sequence[OperatorLibrary]) -> None:
    """Let nodes know the operators of a session's libraries, before those of the process."""
    registry.bind(model)
    versions: dict[tuple[str, str], list[LibraryOperator]] = {}
    for each in (operator for library in libraries for operator in library.operators):
        versions.setdefault((each.domain, each.name), []).append(each)
    bodies = [(model.graph, model.opset_imports)]
    bodies += [(each.body, each.opset_imports) for each in model.functions.values()]
    for graph, imports in bodies if versions else ():
        for node in graph.walk_nodes():
            found = versions.get((node.domain, node.op_type))
            if found and (node.domain, node.op_type, node.overload) not in model.functions:
                version = node.opset if node.opset is not None else imports.get(node.domain)
                node.binding = _binding(found, version)


def library_of(node: Node) -> str:
    """The name of the library that runs a node, or ''."""
    if node.binding is not None:
        return node.binding.origin
    found = registry.find(node)
    return found.library if isinstance(found, LibraryOperator) else ""


def _binding(versions: Sequence[LibraryOperator], version: int | None) -> Binding:
    """The last of an operator's versions that a version of the domain knows."""
    allowed = [each for each in versions if version is None or each.since <= version]
    if allowed:
        found = max(allowed, key=lambda each: each.since)
        return Binding(found._types_of, found._function_for, found.library)
    first = min(each.since for each in versions)

    def refuse(node: Node) -> Any:
        raise Unavailable(
            f"the operator is there since version {first} of its domain; the model is for version "
            f"{version}"
        )

    return Binding(lambda node: (), refuse, versions[0].library)


def _load(path: str, digest: str) -> OperatorLibrary:
    native = _native.OperatorLibrary(path)
    name = os.path.basename(path)
    operators = [
        LibraryOperator(**description, library=name, _native=native.operator(index))
        for index, description in enumerate(native.describe())
    ]
    return OperatorLibrary(path, native.version, digest, tuple(operators))


def _open_again(path: str, digest: str) -> OperatorLibrary:
    """A library in another process, where it has to be the same."""
    library = open_library(path)
    if library.digest != digest:
        raise Fail(
            f"Failed to load library {path}: it is not the file that the session was made with"
        )
    return library
