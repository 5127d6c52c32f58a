# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from bascule.canonical import ML_DOMAIN
from bascule.errors import InvalidGraph

from .comparison import assert_same, canonical, checked, model_of, run

CLASSES = ["ant", "bee", "cat"]


def test_label_encoder_of_strings() -> None:
    x = np.array(["bee", "dog", "ant"], dtype=object)
    proto = model_of("LabelEncoder", [x], 1, domain=ML_DOMAIN, classes_strings=CLASSES)
    model = canonical(proto)
    assert model.opset_imports[ML_DOMAIN] == 4
    assert_same(run(checked(model), [x]), [np.array([1, -1, 0])])


def test_label_encoder_of_positions() -> None:
    x = np.array([2, 5, 0])
    proto = model_of(
        "LabelEncoder", [x], 1, domain=ML_DOMAIN, classes_strings=CLASSES, default_string="?"
    )
    found = run(checked(canonical(proto)), [x])
    assert np.asarray(found[0]).tolist() == ["cat", "?", "ant"]


def test_label_encoder_without_classes() -> None:
    with pytest.raises(InvalidGraph, match="'classes_strings' is missing"):
        canonical(model_of("LabelEncoder", [np.array([1])], 1, domain=ML_DOMAIN))
