# SPDX-License-Identifier: Apache-2.0
"""A case of an operator of com.microsoft, of which onnx has no schema."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from onnx.defs import OpSchema

from tests.support.typed import Case, Material

CONTRIB_DOMAIN = "com.microsoft"

SINGLE = "float float16"
HALVES = "float float16 bfloat16"
WIDE = "float float16 double"
FLOATS = "float float16 double bfloat16"
BYTES = "int8 uint8"
NUMBERS = f"{WIDE} int8 int16 int32 int64 uint8 uint16 uint32 uint64"
OLD = f"{NUMBERS} bool string complex64 complex128"
"""What there was before bfloat16."""


@dataclass(frozen=True)
class ContribCase(Case):
    """A case of an operator that has no schema in onnx: a type for each input and output."""

    types: dict[str, str] = field(default_factory=dict)
    input_types: tuple[str, ...] = ()
    output_types: tuple[str, ...] = ()

    @functools.cached_property
    def schema(self) -> OpSchema:
        def formal(number: int, text: str) -> OpSchema.FormalParameter:
            return OpSchema.FormalParameter(
                f"parameter{number}", text if text in self.types else f"tensor({text})"
            )

        return OpSchema(
            self.op_type,
            self.domain,
            1,
            inputs=[formal(*each) for each in enumerate(self.input_types)],
            outputs=[formal(*each) for each in enumerate(self.output_types)],
            type_constraints=[
                (name, [f"tensor({each})" for each in allowed.split()], "")
                for name, allowed in self.types.items()
            ],
        )


def contrib(op_type: str, signature: str, *inputs: Material | None, **options: Any) -> ContribCase:
    """`signature` is like "T T M -> T": type parameters, or the types themselves.

    Options in capitals are the types that a parameter may stand for; `domain` may be another one
    of onnxruntime's own, `constants` are the numbers of inputs that are initializers.
    """
    before, _, after = signature.partition("->")
    types = {name: options.pop(name) for name in list(options) if name in before.split()}
    outputs = tuple(after.split() or before.split()[:1])
    label, constants = options.pop("label", ""), options.pop("constants", ())
    domain = options.pop("domain", CONTRIB_DOMAIN)
    return ContribCase(
        op_type,
        inputs,
        options,
        len(outputs),
        domain,
        label=label,
        constants=constants,
        types=types,
        input_types=tuple(before.split()),
        output_types=outputs,
    )
