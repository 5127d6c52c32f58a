# SPDX-License-Identifier: Apache-2.0
"""The small models, by name."""

from collections.abc import Callable

from tests.models.zoo import audio, language, pieces, vision
from tests.models.zoo.case import Case

ZOO: dict[str, Callable[[], Case]] = {
    **language.CASES,
    **vision.CASES,
    **audio.CASES,
    **pieces.CASES,
}
