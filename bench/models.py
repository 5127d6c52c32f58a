# SPDX-License-Identifier: Apache-2.0
"""Make the full-size float32 benchmark models, with random weights, and their inputs.

    python bench/models.py [NAME ...] [--out DIR]

Each name gives NAME.onnx and NAME.npz (the inputs by name) in DIR. Needs torch and transformers;
where onnxruntime is installed the exported model is checked against torch's own outputs.

The weights are random, but the networks are alive: weights are scaled by their fan-in, statistics
of batch normalization are measured on random batches, and activations stay of order one, so that
no runtime is measured on denormals, infinities or zeros.

All six go through torch's newer exporter (dynamo=True, opset 20): it keeps LayerNormalization and
Gelu whole and folds batch normalization into the convolutions, and it can trace what the older
TorchScript exporter cannot (the causal mask of GPT-2 uses aten::diff).
"""

import argparse
import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

Forward = Callable[..., Tensor | tuple[Tensor, ...]]

IMAGE = (1, 3, 224, 224)
TOKENS = (1, 128)


@dataclass(frozen=True)
class Example:
    """A module in evaluation mode, example inputs by name, and the names of its outputs."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    output_names: tuple[str, ...]


class Adapter(nn.Module):
    """A module whose forward is a plain function of tensors, in the order of the graph's inputs."""

    def __init__(self, module: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.module = module
        self._forward = forward

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self._forward(self.module, *tensors)


@torch.no_grad()
def set_random_weights(module: nn.Module, seed: int) -> None:
    """Give every parameter a random value under which a signal of order one stays of order one."""
    generator = torch.Generator().manual_seed(seed)
    done: set[int] = set()
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if id(parameter) in done:  # tied weights
                continue
            done.add(id(parameter))
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1 and "weight" in name:  # normalization
                parameter.copy_(1 + 0.1 * noise)
            elif parameter.ndim == 1 and ("scale" in name or "lambda" in name):  # layer scale
                parameter.copy_(0.5 + 0.1 * noise)
            elif isinstance(part, nn.Conv1d | nn.Conv2d) and name == "weight":
                gain = 2 if isinstance(part, nn.Conv2d) else 1  # most are followed by a ReLU
                parameter.copy_(noise * (gain / parameter[0].numel()) ** 0.5)
            elif isinstance(part, nn.ConvTranspose2d | Conv1D) and name == "weight":
                parameter.copy_(noise * parameter.shape[0] ** -0.5)  # [in, out, ...]
            elif parameter.ndim >= 2:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            else:  # biases
                parameter.copy_(0.1 * noise)


@torch.no_grad()
def measure_batch_statistics(module: nn.Module, batches: list[Tensor]) -> None:
    """Let each batch normalization keep the mean and variance it really sees."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    for batch in batches:
        module(batch)
    module.eval()


def images(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tokens(shape: tuple[int, ...], vocabulary: int, seed: int) -> Tensor:
    return torch.randint(0, vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def _image_classifier(model: nn.Module, seed: int, *, batch_norm: bool) -> Example:
    model.eval()
    set_random_weights(model, seed)
    adapter = Adapter(model, lambda m, image: m(pixel_values=image).logits).eval()
    if batch_norm:
        batches = [images((8, *IMAGE[1:]), seed + i) for i in range(1, 4)]
        measure_batch_statistics(adapter, batches)
    return Example(adapter, {"image": images(IMAGE, seed)}, ("logits",))


def resnet50() -> Example:
    """ResNet-50, version 1.5 (the stride is in the 3x3 convolution)."""
    config = transformers.ResNetConfig(num_labels=1000)
    model = transformers.ResNetForImageClassification(config)
    return _image_classifier(model, 10, batch_norm=True)


def mobilenetv2() -> Example:
    """MobileNetV2, width 1.0, with symmetric padding."""
    config = transformers.MobileNetV2Config(num_labels=1000, tf_padding=False)
    model = transformers.MobileNetV2ForImageClassification(config)
    return _image_classifier(model, 20, batch_norm=True)


def vit_b16() -> Example:
    """ViT-B/16: 12 layers of width 768 over 197 tokens."""
    model = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000))
    return _image_classifier(model, 30, batch_norm=False)


def convnext_t() -> Example:
    """ConvNeXt-T: 7x7 depthwise convolutions and channels-last linear layers."""
    model = transformers.ConvNextForImageClassification(
        transformers.ConvNextConfig(num_labels=1000)
    )
    return _image_classifier(model, 40, batch_norm=False)


def bert_base() -> Example:
    """BERT base over one sequence of 128 tokens, the last 16 of which are padding."""
    config = transformers.BertConfig()
    model = transformers.BertModel(config).eval()
    set_random_weights(model, 50)
    names = ("input_ids", "attention_mask", "token_type_ids")

    def forward(m: nn.Module, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs = m(**dict(zip(names, tensors, strict=True)))
        return outputs.last_hidden_state, outputs.pooler_output

    mask = torch.ones(TOKENS, dtype=torch.int64)
    mask[:, -16:] = 0
    kinds = torch.zeros(TOKENS, dtype=torch.int64)
    kinds[:, 64:] = 1
    tensors = (tokens(TOKENS, config.vocab_size, 50), mask, kinds)
    inputs = dict(zip(names, tensors, strict=True))
    return Example(Adapter(model, forward).eval(), inputs, ("last_hidden_state", "pooler_output"))


def gpt2() -> Example:
    """GPT-2 (124 M) over one sequence of 128 tokens: logits at every position, no cache."""
    config = transformers.GPT2Config()
    model = transformers.GPT2LMHeadModel(config).eval()
    set_random_weights(model, 60)
    adapter = Adapter(model, lambda m, ids: m(input_ids=ids, use_cache=False).logits).eval()
    return Example(adapter, {"input_ids": tokens(TOKENS, config.vocab_size, 60)}, ("logits",))


MODELS: dict[str, Callable[[], Example]] = {
    make.__name__: make for make in (resnet50, mobilenetv2, vit_b16, convnext_t, bert_base, gpt2)
}


def export(example: Example, path: Path) -> None:
    """Write the example's module as one .onnx file, weights included."""
    with contextlib.redirect_stdout(io.StringIO()):  # the exporter reports its progress
        program = torch.onnx.export(
            example.module,
            tuple(example.inputs.values()),
            input_names=list(example.inputs),
            output_names=list(example.output_names),
            dynamo=True,
        )
    assert program is not None
    program.save(path, external_data=False)


def check(example: Example, path: Path) -> list[str]:
    """A line per output: its size and spread, and how far onnxruntime is from torch."""
    with torch.no_grad():
        result = example.module(*example.inputs.values())
    expected = [t.numpy() for t in (result if isinstance(result, tuple) else (result,))]
    try:
        import onnxruntime
    except ImportError:
        actual = expected
    else:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        actual = session.run(None, {name: t.numpy() for name, t in example.inputs.items()})
    lines = []
    for name, want, got in zip(example.output_names, expected, actual, strict=True):
        scale = float(np.abs(want).max())
        error = float(np.abs(want - got).max()) / scale
        if not (np.isfinite(want).all() and 0.1 < want.std() < 100 and error < 1e-4):
            raise ValueError(f"{path}: {name}: deviation {want.std()}, relative error {error}")
        lines.append(f"  {name} {want.shape}: deviation {want.std():.3g}, error {error:.1e}")
    return lines


def write(make: Callable[[], Example], path: Path) -> None:
    """Export a model with its inputs beside it, and check it."""
    example = make()
    export(example, path)
    arrays = {key: tensor.numpy() for key, tensor in example.inputs.items()}
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB", *check(example, path), sep="\n")


def main(models: Mapping[str, Callable[[], Example]] = MODELS) -> None:
    parser = argparse.ArgumentParser(description="Make full-size benchmark models.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(models))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in models]
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(models)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or models:
        write(models[name], arguments.out / f"{name}.onnx")


if __name__ == "__main__":
    main()
