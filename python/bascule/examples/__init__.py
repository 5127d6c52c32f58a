# SPDX-License-Identifier: Apache-2.0
"""A small model to try things on: it reads handwritten digits."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt


def digits() -> tuple[Path, npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The digit classifier's path, 20 images it was not trained on, and what they show.

    The model takes ``image``, float32 [N, 1, 8, 8] from 0 (paper) to 1 (ink), for any N, and gives
    ``probabilities``, float32 [N, 10].

    >>> path, images, labels = digits()
    >>> images.shape, labels.shape
    ((20, 1, 8, 8), (20,))
    """
    folder = Path(str(files(__name__)))  # a wheel is unpacked, so its resources are files
    with np.load(folder / "digits_samples.npz") as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return folder / "digits.onnx", images, labels
