# SPDX-License-Identifier: Apache-2.0
"""At least one case for every operator of the standard."""

from tests.support.operators import control, elementwise, image, move, numeric, reduction, text

CASES = [
    *elementwise.CASES,
    *reduction.CASES,
    *move.CASES,
    *image.CASES,
    *numeric.CASES,
    *control.CASES,
    *text.CASES,
]
