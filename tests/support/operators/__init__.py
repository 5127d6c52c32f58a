# SPDX-License-Identifier: Apache-2.0
"""At least one case for every operator of the standard."""

from tests.support.operators import (
    control,
    elementwise,
    image,
    ml,
    move,
    numeric,
    preview,
    reduction,
    text,
)

CASES = [
    *elementwise.CASES,
    *reduction.CASES,
    *move.CASES,
    *image.CASES,
    *numeric.CASES,
    *control.CASES,
    *text.CASES,
    *ml.CASES,
    *preview.CASES,
]
