# SPDX-License-Identifier: Apache-2.0
"""Which operators there are, as onnxruntime's extension module lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bascule.providers.names import CPU

if TYPE_CHECKING:
    from onnx.defs import OpSchema

_NEWEST = (1 << 31) - 1
"""The end of a range of versions that is still open."""


@dataclass(frozen=True, slots=True)
class KernelDef:
    """An operator that a provider runs, in a range of versions.

    Attributes:
        domain: of the operator; empty for the standard's.
        op_name: the operator.
        provider: ``CPUExecutionProvider``.
        type_constraints: the types of each type parameter, such as ``{"T": ["tensor(float)"]}``.
        version_range: the first and the last version of the domain, both inclusive.
    """

    domain: str
    op_name: str
    provider: str
    type_constraints: dict[str, list[str]]
    version_range: tuple[int, int]


def get_all_operator_schema() -> list[OpSchema]:
    """The schemas of the standard's operators, all versions, as onnx.defs has them."""
    from onnx import defs  # imported here: few callers ask for schemas

    schemas: list[OpSchema] = defs.get_all_schemas_with_history()
    return schemas


def get_all_opkernel_def() -> list[KernelDef]:
    """What the CPU provider runs.

    The versions of each of the standard's operators with all types that their schemas allow, and
    the operators of other domains, without types.
    """
    from bascule.canonical.registry import CONTRIB_DOMAIN, NCHWC_DOMAIN, operators

    history: dict[tuple[str, str], list[OpSchema]] = {}
    for schema in get_all_operator_schema():
        if not schema.deprecated:
            history.setdefault((schema.domain, schema.name), []).append(schema)
    found = []
    for (domain, name), schemas in sorted(history.items()):
        schemas.sort(key=lambda schema: int(schema.since_version))
        ends = [schema.since_version - 1 for schema in schemas[1:]] + [_NEWEST]
        for schema, end in zip(schemas, ends):
            types = {
                each.type_param_str: sorted(each.allowed_type_strs)
                for each in schema.type_constraints
            }
            versions = (int(schema.since_version), int(end))
            found.append(KernelDef(domain, name, CPU, types, versions))
    return found + [
        KernelDef(domain, name, CPU, {}, (1, _NEWEST))
        for domain in (CONTRIB_DOMAIN, NCHWC_DOMAIN)
        for name in sorted(operators(domain))
    ]
