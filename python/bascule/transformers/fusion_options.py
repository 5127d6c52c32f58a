# SPDX-License-Identifier: Apache-2.0
"""FusionOptions by name, for packages that import it; what it would be given to is left out."""

from __future__ import annotations

from typing import Any, NoReturn

from bascule.transformers import LEFT_OUT


class FusionOptions:
    """Cannot be made: NotImplementedError says what there is instead."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(f"FusionOptions: {LEFT_OUT}")

    @staticmethod
    def parse(args: Any) -> NoReturn:
        """NotImplementedError, too."""
        raise NotImplementedError(f"FusionOptions: {LEFT_OUT}")
