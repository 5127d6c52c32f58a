# SPDX-License-Identifier: Apache-2.0
"""The bundled digit classifier reads the digits that come with it."""

import numpy as np

import bascule as ort
from bascule.examples import digits


def test_digits_are_read() -> None:
    path, images, labels = digits()
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"image": images})
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), labels)


def test_a_batch_of_any_size_gives_the_same_answers() -> None:
    path, images, _ = digits()
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (together,) = session.run(None, {"image": images})
    for index, image in enumerate(images):
        (alone,) = session.run(None, {"image": image[None]})
        np.testing.assert_array_equal(alone[0], together[index])
