# SPDX-License-Identifier: Apache-2.0
"""The base of the public enumerations."""

from __future__ import annotations

import enum


class NamedEnum(enum.IntEnum):
    """Prints as its qualified name, also on Python versions that would print the number."""

    __str__ = enum.Enum.__str__
