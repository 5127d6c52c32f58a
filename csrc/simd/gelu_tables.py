# SPDX-License-Identifier: Apache-2.0
"""Print csrc/simd/gelu_tables.h: polynomials for what GELU lacks from ReLU.

    python csrc/simd/gelu_tables.py > csrc/simd/gelu_tables.h

GELU(x) = max(x, 0) - G(|x|) with G(t) = t (1 - Phi(t)), or with the tanh formula in place of Phi.
G is small where GELU is, so its polynomials keep the relative precision that 1 + erf(x) loses for
negative x. Piece i covers t * steps from i - 1/2 to i + 1/2.
"""

import math

import numpy as np

PIECES = 32
DEGREE = 5
SAMPLES = 64
TABLES = {
    "gelu": (5.5, lambda t: 0.5 * t * math.erfc(t / math.sqrt(2))),
    "gelu_tanh": (
        6.0,
        lambda t: t / (1 + math.exp(2 * math.sqrt(2 / math.pi) * (t + 0.044715 * t**3))),
    ),
}


def piece(function, steps: float, index: int) -> list[float]:
    """Coefficients, highest power first, of the fit with the smallest relative error."""
    offset = np.cos(np.pi * (np.arange(SAMPLES) + 0.5) / SAMPLES) / 2
    if index == 0:  # from zero on; exactly zero there
        offset = (offset + 0.5) / 2
    y = np.array([function((index + f) / steps) for f in offset])
    if index == 0:
        fit = np.polynomial.polynomial.polyfit(offset, y / offset, DEGREE - 1, w=offset / y)
        return [*fit[::-1], 0.0]
    return list(np.polynomial.polynomial.polyfit(offset, y, DEGREE, w=1 / y)[::-1])


def main() -> None:
    print("// SPDX-License-Identifier: Apache-2.0")
    print("// Made by gelu_tables.py, which says what these are.")
    print("#pragma once\n\nnamespace bascule {\n")
    print(f"constexpr int gelu_pieces = {PIECES};\nconstexpr int gelu_degree = {DEGREE};\n")
    print("// Row c, column i: the coefficient of power `gelu_degree - c` of piece i.")
    print("struct GeluTable {\n  float steps;  // pieces per unit")
    print("  alignas(64) float coefficients[gelu_degree + 1][gelu_pieces];\n};\n")
    for name, (steps, function) in TABLES.items():
        rows = np.array([piece(function, steps, i) for i in range(PIECES)]).T
        print(f"inline constexpr GeluTable {name}_table = {{")
        print(f"    {steps}f,\n    {{")
        for row in rows:
            numbers = ", ".join(f"{x:.9e}f" for x in row)
            print(f"        {{{numbers}}},")
        print("    }};\n")
    print("}  // namespace bascule")


if __name__ == "__main__":
    main()
