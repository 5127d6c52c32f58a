# SPDX-License-Identifier: Apache-2.0
"""docs/operators.md: every operator, its versions, and the element types in which it runs.

    python -m tests.support.operator_page

writes it. The types are those that the schema of the newest version allows; a session of a node in
each of them tells whether the kernel registry has a kernel for the type or the node is widened.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx.defs

import bascule
from bascule.ir.dtype import DataType
from tests.support.operators import CASES, contrib
from tests.support.operators.contrib_case import CONTRIB_DOMAIN
from tests.support.typed import Binding, Case, TypeText, bindings, node_model

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"

_HEAD = """# Operators

Every operator, its versions, and the element types that the newest version allows, by type
parameter. A type is **native** where a kernel computes in it or with it, and **widened** where the
node is computed in the next wider type that has a kernel and its result is rounded once;
`session.explain()` names the type then. Models with older versions of an operator are rewritten to
the newest form when they are loaded.

| short | element types |
| --- | --- |
| all | every type but float6 |
| f16, bf16, f32, f64 | float16, bfloat16, float, double |
{legend}

Written by `python -m tests.support.operator_page`, from the schemas of onnx {onnx} and the registry
of kernels.
"""

_TABLE = """
## {domain}

| operator | versions | native | widened |
| --- | --- | --- | --- |
"""


def _dtypes(names: str) -> tuple[DataType, ...]:
    return tuple(DataType[name.upper()] for name in names.split())


_GROUPS = {
    "floats": _dtypes("float16 bfloat16 float double"),
    "float8": _dtypes("float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz"),
    "float8e8m0": _dtypes("float8e8m0"),
    "float6": _dtypes("float6e2m3 float6e3m2"),
    "float4": _dtypes("float4e2m1"),
    "int": _dtypes("int8 int16 int32 int64"),
    "uint": _dtypes("uint8 uint16 uint32 uint64"),
    "packed": _dtypes("int4 uint4 int2 uint2"),
    "bool": _dtypes("bool"),
    "complex": _dtypes("complex64 complex128"),
    "string": _dtypes("string"),
}
"""What a group's name stands for, in the order in which they are shown."""

_ALL = frozenset(DataType) - {DataType.UNDEFINED, *_GROUPS["float6"]}

_SHORT = {
    DataType.FLOAT: "f32",
    DataType.DOUBLE: "f64",
    DataType.FLOAT16: "f16",
    DataType.BFLOAT16: "bf16",
}


@dataclass
class Support:
    """How the types of each type parameter of an operator are computed."""

    native: dict[str, set[TypeText]] = field(default_factory=lambda: defaultdict(set))
    widened: dict[str, set[TypeText]] = field(default_factory=lambda: defaultdict(set))


def widened_calls(case: Case, chosen: Sequence[Binding]) -> set[int]:
    """The numbers of those bindings in which a session computes in a wider type."""
    model, _ = node_model(case, chosen)
    options = bascule.SessionOptions()
    options.graph_optimization_level = bascule.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = bascule.InferenceSession(model.SerializeToString(), options)
    numbers = set()
    for row in session.explain().rows:
        if row.note:
            found = re.match(r"node(\d+)\b", row.inside + row.name)
            assert found, f"{row.name} is not named after a node of the model"
            numbers.add(int(found[1]))
    return numbers


def support(cases: Iterable[Case]) -> Support:
    """Over all cases of one operator; what one of them widens is not native.

    With several type parameters a type is native if it is together with any types of the others.
    """
    result = Support()
    for case in cases:
        chosen = list(bindings(case))
        widened = widened_calls(case, chosen)
        native: dict[str, set[TypeText]] = defaultdict(set)
        for number, binding in enumerate(chosen):
            for parameter, type in binding.items():
                result.native[parameter].add(type)
                if number not in widened:
                    native[parameter].add(type)
        for binding in chosen:
            for parameter, type in binding.items():
                if type not in native[parameter]:
                    result.widened[parameter].add(type)
        if case.schema.type_constraints:
            continue
        for formal in case.schema.inputs:
            result.native[formal.name].add(TypeText(formal.type_str))
    for parameter, types in result.widened.items():
        result.native[parameter] -= types
    return result


def names(dtypes: Iterable[DataType]) -> str:
    """Element types in the page's short form."""
    left = set(dtypes)
    found = []
    if left >= _ALL:
        found.append("all")
        left -= _ALL
    for name, group in _GROUPS.items():
        if left >= set(group):
            found.append(name)
        else:
            found += [_SHORT.get(dtype, dtype.onnx_name) for dtype in group if dtype in left]
    return ", ".join(found)


def types_text(types: Iterable[TypeText]) -> str:
    """Types of a parameter; of containers, the element types are summed up for each kind."""
    kinds: dict[str, set[DataType]] = defaultdict(set)
    for type in types:
        kind = "{}"
        for container in reversed(type.containers):
            key = re.findall(r"map\((\w+)", type.text)[0] if container == "map" else ""
            kind = f"map({key} → {kind})" if key else f"{container}({kind})"
        kinds[kind].add(type.dtype)
    ordered = sorted(kinds.items(), key=lambda item: (item[0].count("("), item[0]))
    return ", ".join(kind.format(names(dtypes)) for kind, dtypes in ordered)


def cell(parameters: dict[str, set[TypeText]], alone: bool) -> str:
    texts = [
        types_text(types) if alone else f"{name}: {types_text(types)}"
        for name, types in sorted(parameters.items())
        if types
    ]
    return "<br>".join(texts)


def versions(domain: str, op_type: str) -> str:
    schemas = [
        schema
        for schema in onnx.defs.get_all_schemas_with_history()
        if (schema.domain, schema.name) == (domain, op_type)
    ]
    if domain.startswith(CONTRIB_DOMAIN):
        return "1"
    return ", ".join(
        f"{schema.since_version} (deprecated)" if schema.deprecated else str(schema.since_version)
        for schema in sorted(schemas, key=lambda schema: schema.since_version)
    )


def table(domain: str, cases: Iterable[Case]) -> Iterator[str]:
    by_operator: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_operator[case.op_type].append(case)
    yield _TABLE.format(domain=domain or "ai.onnx")
    for op_type in sorted(by_operator):
        found = support(by_operator[op_type])
        alone = len(found.native) == 1
        columns = (
            op_type,
            versions(domain, op_type),
            cell(found.native, alone),
            cell(found.widened, alone),
        )
        yield f"| {' | '.join(columns)} |\n".replace("|  |", "| |")


def page() -> str:
    """The whole page."""
    legend = [
        f"| {name} | {', '.join(d.onnx_name for d in group)} |"
        for name, group in _GROUPS.items()
        if len(group) > 1
    ]
    text = [_HEAD.format(legend="\n".join(legend), onnx=onnx.__version__)]
    cases = [*CASES, *contrib.CASES]
    for domain in sorted({case.domain for case in cases}):
        text.extend(table(domain, [case for case in cases if case.domain == domain]))
    return "".join(text)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
