# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from bascule.errors import NotImplemented as NotSupported

from .comparison import check, model_of, normal, session


@pytest.mark.parametrize("metric", [None, "euclidean", "sqeuclidean"])
def test_cdist(metric: str | None) -> None:
    power = 0.5 if metric == "euclidean" else 1.0
    check(
        "CDist",
        lambda a, b: ((a[:, None] - b) ** 2).sum(-1) ** power,
        [normal(3, 5), normal(4, 5)],
        {} if metric is None else {"metric": metric},
        dtypes=[np.float32],
    )


def test_equal_rows_are_no_distance_apart() -> None:
    x = normal(30, 7)
    model = model_of("CDist", [x, x], {"metric": "euclidean"})
    (found,) = session(model).run(None, {"in0": x, "in1": x})
    assert (np.diag(found) >= 0).all() and np.diag(found).max() < 5e-3


def test_other_metric_is_refused() -> None:
    with pytest.raises(NotSupported, match="metric 'cosine' is not supported"):
        session(model_of("CDist", [normal(3, 5), normal(4, 5)], {"metric": "cosine"}))
