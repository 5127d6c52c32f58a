# SPDX-License-Identifier: Apache-2.0
"""How large the error of a value may be that was computed rightly: a reference and a bound.

The rule, for a value that nodes compute from inputs in an element type of unit roundoff u::

    bound = g * (8 * s + 4 * u * |r|)

`r` is the value computed in float64 from the same inputs. `s` is its sensitivity: by how much an
element of r changes (root mean square of three seeded trials) when every float input and weight is
changed by normally distributed numbers of relative size u, and every result on the way by u up or
down; what stands for an element is at least a quarter of the median of the tensor. Results of
functions with values between -1 and 1, as Sigmoid and Tanh, count as 1 in |r|: libraries compute
them to so many digits behind the point. `g` is the growth: the sum over the nodes of the square
root of how many terms one of their results adds up (1 where none is added), as roundings are as
often up as down. To that come the smallest number of the element type, and 2e-5 of the largest
element where the nodes hold a 3x3 convolution, which may be computed by Winograd's transformation.

Of integers and booleans `s` alone counts, and one step where something is quantized. A value that
is not finite must be exactly that in the reference: one that overflows breaks every bound. The
lowest number of a wider type, as masks hold it, may be any below -10000 in a narrower one.
"""

from bascule.tools.rounding.bound import Judged, judge, narrowed
from bascule.tools.rounding.random import draws
from bascule.tools.rounding.reference import Reference

__all__ = ["Judged", "Reference", "draws", "judge", "narrowed"]
