# SPDX-License-Identifier: Apache-2.0
"""What docstrings say, and what they leave out that the code knows."""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Examples):$")
_ENTRY = re.compile(r"^    ([*\w.]+(?:, [*\w.]+)*): +\S")
_ARRAYS = re.compile(r"\bArray\b|ndarray")
_SHAPE_OR_TYPE = re.compile(
    r"\[[^\]]*\]|\bshapes?\b|\bdtype|element types?|\bint(8|32|64)|\bfloat(16|32|64)|\bbytes\b"
)
# What a name says of its unit, and the word that must then be said of the thing.
_UNITS = {r"seconds|timeout": "second", r"(?<!giga)bytes|size_threshold": "byte"}
_OURS = ("bascule", "tests")


@dataclass(frozen=True)
class Name:
    """A public name: its path from the module, what it is, and the class that it is found in."""

    path: str
    item: Any
    owner: type | None = None

    @property
    def last(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def function(self) -> Any:
        """The function behind it, of a property that which reads; None if there is none."""
        item = self.item
        if isinstance(item, (staticmethod, classmethod)):
            item = item.__func__
        if isinstance(item, property):
            item = item.fget
        if isinstance(item, functools.cached_property):
            item = item.func
        item = inspect.unwrap(item) if callable(item) else item
        return item if inspect.isfunction(item) else None

    @property
    def text(self) -> str:
        """What is said about it."""
        if self.function is not None:
            return inspect.getdoc(self.function) or ""
        if inspect.isclass(self.item) and self.owner is None:
            return inspect.cleandoc(self.item.__doc__ or "")
        if self.owner is not None:
            return attribute_texts(self.owner).get(self.last, "")
        return module_attribute_text(self.last)


def members_of(kind: type) -> Iterator[Name]:
    """What a class has for its users: methods, properties, fields and enum members."""
    seen: set[str] = set()
    for base in kind.__mro__:
        if not base.__module__.startswith(_OURS):
            continue
        fields = [
            *vars(base),
            *getattr(base, "_fields", ()),
            *vars(base).get("__annotations__", ()),
        ]
        for name in fields:
            if not name.startswith("_") and name not in seen:
                seen.add(name)
                item = inspect.getattr_static(kind, name, None)
                yield Name(f"{kind.__name__}.{name}", item, kind)


def sections(text: str) -> dict[str, dict[str, str]]:
    """The entries of each section, by their names: ``{"Args": {"x": "what x is"}}``."""
    found: dict[str, dict[str, str]] = {}
    section, names = "", []
    for line in text.splitlines():
        if match := _SECTION.match(line):
            section, names = match[1], []
            found[section] = {}
        elif line and not line.startswith(" "):
            section = ""
        elif section and (match := _ENTRY.match(line)):
            names = [name.lstrip("*") for name in match[1].split(", ")]
            for name in names:
                found[section][name] = line.partition(":")[2].strip()
        elif section:
            for name in names:
                found[section][name] += f" {line.strip()}"
    return found


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(sys.modules[module]))


def _class_node(kind: type) -> ast.ClassDef | None:
    for node in ast.walk(_tree(kind.__module__)):
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            return node
    return None


@functools.cache
def attribute_texts(kind: type) -> dict[str, str]:
    """What is said of each attribute, in a section of the class or by a string below it."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        node = _class_node(base) if base.__module__.startswith(_OURS) else None
        if node is None:
            continue
        found.update(sections(inspect.cleandoc(base.__doc__ or "")).get("Attributes", {}))
        bodies = [node.body]
        bodies += [
            inner.body
            for inner in node.body
            if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"
        ]
        for body in bodies:
            found.update(_texts_below(body))
    return found


def _texts_below(body: Sequence[ast.stmt]) -> dict[str, str]:
    """The strings that stand below assignments, by what is assigned."""
    found = {}
    for statement, below in pairwise(body):
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found.update(dict.fromkeys(_targets(statement), str(below.value.value)))
    return found


def _targets(statement: ast.stmt) -> Iterator[str]:
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id
        elif isinstance(target, ast.Attribute):
            yield target.attr


def raised(function: Any) -> set[str]:
    """The exceptions that a function raises by name, in its own body or a private helper's."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    found = _raised_in(tree)
    caught = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.Try)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node not in caught:
            helper = function.__globals__.get(node.func.id)
            is_private = node.func.id.startswith("_") and inspect.isfunction(helper)
            if is_private and helper.__module__ == function.__module__:
                found |= _raised_in(ast.parse(textwrap.dedent(inspect.getsource(helper))))
    return found


def _raised_in(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(made, ast.Name) and made.id[0].isupper():
                found.add(made.id)
    return found


@functools.cache
def module_attribute_text(name: str) -> str:
    """What is said below a variable that the package takes from one of its modules."""
    for node in _tree("bascule").body:
        if isinstance(node, ast.ImportFrom) and any(each.name == name for each in node.names):
            return _texts_below(_tree(node.module or "").body).get(name, "")
    return ""


def complaints(name: Name) -> Iterator[str]:
    """What a docstring of substance would say and this one does not."""
    text = name.text
    function = name.function
    fewest = 3 if function is not None or inspect.isclass(name.item) else 1
    if len(re.findall(r"\w+", text)) < fewest:
        yield "says nothing"
        return
    parts = sections(text)
    if function is not None:
        yield from _about_arguments(function, text, parts.get("Args"))
        returned = str(inspect.signature(function).return_annotation)
        if _ARRAYS.search(returned) and not _SHAPE_OR_TYPE.search(text):
            yield "tells neither shape nor element type of the arrays that it returns"
        told = " ".join([*parts.get("Raises", {}), text])
        for error in sorted(raised(function)):
            if not re.search(rf"\b{error}\b", told):
                yield f"does not say that it raises {error}"
    elif inspect.isclass(name.item) and name.owner is None:
        init = vars(name.item).get("__init__")
        if inspect.isfunction(init) and not hasattr(name.item, "__dataclass_fields__"):
            told = f"{text}\n{inspect.getdoc(init) or ''}" if init.__doc__ else text
            for error in sorted(raised(init)):
                if not re.search(rf"\b{error}\b", told):
                    yield f"does not say that making one raises {error}"
            yield from _about_arguments(init, told, parts.get("Args"))
    if name.owner is not None and function is None and not issubclass(name.owner, enum.Enum):
        yield from _about_units(name.last, text)
        default = getattr(name.owner, "_fields", {})
        if isinstance(default, dict) and name.last in default:
            value = default[name.last][1]
            said = value.name if isinstance(value, enum.Enum) else str(value) or "empty"
            if said not in text:
                yield f"does not say its default, {said}"


def _about_arguments(function: Any, text: str, args: dict[str, str] | None) -> Iterator[str]:
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", "cls") and not name.startswith("_")
    }
    if args is not None:
        for missing in parameters.keys() - args.keys():
            yield f"does not say what `{missing}` is"
        for unknown in args.keys() - parameters.keys():
            yield f"tells of `{unknown}`, which is no parameter"
    elif len(parameters) > 2:
        for missing in parameters:
            if f"`{missing}`" not in text:
                yield f"has no Args and does not tell of `{missing}`"
    for name, parameter in parameters.items():
        about = (args or {}).get(name, text)
        if _ARRAYS.search(str(parameter.annotation)) and not _SHAPE_OR_TYPE.search(about):
            yield f"tells neither shape nor element type of the array `{name}`"
        if args is not None:
            yield from _about_units(name, about)


def _about_units(name: str, text: str) -> Iterator[str]:
    for pattern, unit in _UNITS.items():
        if re.search(pattern, name) and unit not in text.lower():
            yield f"does not say that `{name}` counts {unit}s"
