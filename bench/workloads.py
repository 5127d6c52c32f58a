# SPDX-License-Identifier: Apache-2.0
"""Make the benchmark models beyond the six of models.py, full size, with random weights.

python bench/workloads.py [NAME ...] [--out DIR]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
from decoders import LLAMA, make_llama
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from models import (
    MODELS,
    Adapter,
    Example,
    images,
    measure_batch_statistics,
    set_random_weights,
    tokens,
    write,
)

PAST = 256
"""Tokens that a decode step finds in its cache."""


def batch_of(size: int, make: Callable[[], Example]) -> Example:
    """The same network on `size` samples."""
    example = make()
    inputs = {
        name: torch.cat([x] * size) if x.dtype == torch.int64 else images((size, *x.shape[1:]), 70)
        for name, x in example.inputs.items()
    }
    return Example(example.module, inputs, example.output_names)


def _network(
    model: nn.Module, seed: int, inputs: dict[str, Tensor], forward: Callable[..., Tensor]
) -> Example:
    model.eval()
    set_random_weights(model, seed)
    return Example(Adapter(model, forward).eval(), inputs, ("output",))


def _classifier(model: nn.Module, seed: int, size: int) -> Example:
    image = {"image": images((1, 3, size, size), seed)}
    example = _network(model, seed, image, lambda m, x: m(pixel_values=x).logits)
    batches = [images((8, 3, size, size), seed + i) for i in range(1, 4)]
    measure_batch_statistics(example.module, batches)
    return example


def gpt2_decode() -> Example:
    """One token of GPT-2 after 256 others, whose keys and values come in and go out."""
    config = transformers.GPT2Config()
    width = config.n_embd // config.n_head
    past = {
        f"past_{kind}_{layer}": images((1, config.n_head, PAST, width), 100 + 2 * layer + half)
        for layer in range(config.n_layer)
        for half, kind in enumerate(("key", "value"))
    }
    names = [name.replace("past", "present") for name in past]

    def forward(m: nn.Module, ids: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        cache = DynamicCache()
        for layer in range(config.n_layer):
            cache.update(cached[2 * layer], cached[2 * layer + 1], layer)
        position = torch.full((1, 1), PAST, dtype=torch.int64)
        result = m(input_ids=ids, past_key_values=cache, position_ids=position)
        layers = result.past_key_values.layers
        return result.logits, *(x for layer in layers for x in (layer.keys, layer.values))

    model = transformers.GPT2LMHeadModel(config).eval()
    set_random_weights(model, 80)
    inputs = {"input_ids": tokens((1, 1), config.vocab_size, 80), **past}
    return Example(Adapter(model, forward).eval(), inputs, ("logits", *names))


def whisper_tiny_encoder() -> Example:
    """Thirty seconds of sound."""
    config = transformers.WhisperConfig(
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
    )
    model = transformers.WhisperModel(config).get_encoder()
    features = {"features": images((1, 80, 3000), 90)}
    return _network(model, 90, features, lambda m, x: m(input_features=x).last_hidden_state)


def segformer_b0() -> Example:
    model = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig())
    return _classifier(model, 110, 512)


def swin_t() -> Example:
    config = transformers.SwinConfig(attn_implementation="eager", num_labels=1000)
    return _classifier(transformers.SwinForImageClassification(config), 120, 224)


def efficientnet_b0() -> Example:
    config = transformers.EfficientNetConfig(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        image_size=224,
        hidden_dim=1280,
        num_labels=1000,
    )
    model = transformers.EfficientNetForImageClassification(config)
    # It averages over windows of hidden_dim pixels, and OpenVINO refuses those larger than images.
    model.efficientnet.pooler = nn.AdaptiveAvgPool2d(1)
    return _classifier(model, 130, 224)


class _Residual(nn.Module):
    """GroupNorm, SiLU and a convolution, twice."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            *(nn.GroupNorm(32, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1)),
            *(nn.GroupNorm(32, after), nn.SiLU(), nn.Conv2d(after, after, 3, padding=1)),
        )
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.path(x) + self.shortcut(x)


class _UNet(nn.Module):
    """Three scales with residual blocks, as in denoisers of images."""

    def __init__(self) -> None:
        super().__init__()
        widths = (64, 128, 256)
        self.first = nn.Conv2d(4, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            _Residual(a, b) for a, b in zip((widths[0], *widths), widths, strict=False)
        )
        self.smaller = nn.ModuleList(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.middle = _Residual(widths[-1], widths[-1])
        self.up = nn.ModuleList(
            _Residual(2 * b, a)
            for a, b in zip((widths[1], widths[0], widths[0]), reversed(widths), strict=True)
        )
        self.last = nn.Sequential(
            nn.GroupNorm(32, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], 4, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        kept = []
        for index, block in enumerate(self.down):
            x = block(x)
            kept.append(x)
            if index < len(self.smaller):
                x = self.smaller[index](x)
        x = self.middle(x)
        for index, block in enumerate(self.up):
            if index:
                x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, kept[-1 - index]], 1))
        return self.last(x)


def unet() -> Example:
    noise = {"noise": images((1, 4, 64, 64), 140)}
    return _network(_UNet(), 140, noise, lambda m, x: m(x))


def bilstm() -> Example:
    """Two layers in both directions over 100 steps."""
    model = nn.LSTM(256, 256, num_layers=2, bidirectional=True)
    return _network(model, 150, {"x": images((100, 1, 256), 150)}, lambda m, x: m(x)[0])


WORKLOADS: dict[str, Callable[[], Example]] = {
    **{f"{name}_batch8": partial(batch_of, 8, make) for name, make in MODELS.items()},
    **{
        make.__name__: make
        for make in (
            gpt2_decode,
            whisper_tiny_encoder,
            segformer_b0,
            swin_t,
            efficientnet_b0,
            unet,
            bilstm,
        )
    },
}
FOR_GPUS: dict[str, Callable[[], Example]] = {
    f"{name}_batch32": partial(batch_of, 32, make) for name, make in MODELS.items()
}
"""Made where they are named: for bench/gpu.py."""


def llama_decode_int4(folder: Path) -> None:
    """A step of Llama 3.2 1B with 4-bit weights, float32 between them, after 256 tokens."""
    path = folder / "llama_decode_int4.onnx"
    made = make_llama(path, LLAMA["1b"], length=PAST + 1, dtype=np.float32)
    np.savez(path.with_suffix(".npz"), **made.inputs(1, PAST), **made.new_cache())
    print(f"{path}: {made.weight_bytes / 1e6:.0f} MB of matrices")


def make(names: Sequence[str], folder: Path) -> None:
    """Export the workloads with these names; the decoder is written as it is, with no torch."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name == "llama_decode_int4":
            llama_decode_int4(folder)
        else:
            write({**WORKLOADS, **FOR_GPUS}[name], folder / f"{name}.onnx")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the workloads, full size.")
    usual = (*WORKLOADS, "llama_decode_int4")
    known = (*usual, *FOR_GPUS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(known)}")
    make(arguments.names or usual, arguments.out)
