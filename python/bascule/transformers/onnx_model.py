# SPDX-License-Identifier: Apache-2.0
"""OnnxModel by name, for packages that import it; what it would be given to is left out."""

from __future__ import annotations

from typing import Any

from bascule.transformers import LEFT_OUT


class OnnxModel:
    """Cannot be made: NotImplementedError says what there is instead."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(f"OnnxModel: {LEFT_OUT}")
