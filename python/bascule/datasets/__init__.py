# SPDX-License-Identifier: Apache-2.0
"""Three small models, under the names that examples for onnxruntime use.

- ``mul_1.onnx``: X, float [3, 2], to Y = X times 1, 2, 3, 4, 5, 6.
- ``sigmoid.onnx``: x, float [3, 4, 5], to y of the same shape.
- ``logreg_iris.onnx``: float_input, float [3, 2], lengths and widths of sepals in cm, to label,
  int64 [3], the kind of iris, and probabilities, a dict for each row.

``python -m bascule.datasets FOLDER`` writes them.
"""

from __future__ import annotations

from pathlib import Path


def get_example(name: str) -> str:
    """The absolute path of one of the models.

    Raises:
        FileNotFoundError: there is no such model.
    """
    folder = Path(__file__).resolve().parent
    path = folder / name
    if path.parent != folder or path.suffix != ".onnx" or not path.is_file():
        names = ", ".join(sorted(each.name for each in folder.glob("*.onnx")))
        raise FileNotFoundError(f"Unable to find example '{name}'; there are {names}")
    return str(path)
