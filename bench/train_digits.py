# SPDX-License-Identifier: Apache-2.0
"""Train the bundled example: a small convolutional network that reads handwritten digits.

    python bench/train_digits.py [--out DIR]

Writes digits.onnx (image [N, 1, 8, 8] in 0..1, to probabilities [N, 10]) and digits_samples.npz
(held-out images and their labels). The data is scikit-learn's copy of the UCI set of handwritten
digits, which it ships, so nothing is downloaded. Needs torch and scikit-learn.
"""

import argparse
import contextlib
import io
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

EXAMPLES = Path(__file__).parents[1] / "python" / "bascule" / "examples"
SAMPLES = 20
EPOCHS = 40


class DigitNet(nn.Module):
    """Three convolutions and a linear layer, some 17 thousand weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 2 * 2, 10),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def train(images: Tensor, labels: Tensor) -> nn.Module:
    torch.manual_seed(0)
    network = DigitNet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    steps = EPOCHS * (len(images) // 64 + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(64):
            shift = tuple(torch.randint(-1, 2, (2,)).tolist())
            moved = torch.roll(images[batch], shift, dims=(2, 3))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(moved), labels[batch], label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled digit classifier.")
    parser.add_argument("--out", type=Path, default=EXAMPLES)
    arguments = parser.parse_args()

    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.2, random_state=0, stratify=labels
    )
    network = train(torch.from_numpy(train_images), torch.from_numpy(train_labels))
    classifier = nn.Sequential(network, nn.Softmax(dim=1)).eval()
    with torch.no_grad():
        predicted = classifier(torch.from_numpy(test_images)).numpy().argmax(axis=1)
    accuracy = float((predicted == test_labels).mean())
    if accuracy < 0.97:
        raise ValueError(f"accuracy on held-out digits is only {accuracy:.3f}")

    path = arguments.out / "digits.onnx"
    with contextlib.redirect_stdout(io.StringIO()):  # the exporter reports its progress
        program = torch.onnx.export(
            classifier,
            (torch.from_numpy(test_images[:2]),),
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            dynamo=True,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")  # stack traces of the machine it was exported on
    path.write_bytes(model.SerializeToString(deterministic=True))
    np.savez_compressed(
        arguments.out / "digits_samples.npz",
        images=test_images[:SAMPLES],
        labels=test_labels[:SAMPLES],
    )
    print(f"{path}: accuracy {accuracy:.4f} on {len(test_labels)} held-out digits")


if __name__ == "__main__":
    main()
