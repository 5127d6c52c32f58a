# SPDX-License-Identifier: Apache-2.0
"""Vision models: convolutions, windows, detectors, and text beside images."""

from collections.abc import Callable
from functools import partial

import torch
import transformers
from bench.models import measure_batch_statistics
from torch import Tensor, nn
from torch.nn import functional

from tests.models.zoo.case import Case, adapt, normal, padding_mask, tokens

CLASSES = 10


def _classifier(
    model: nn.Module,
    size: int,
    *,
    batches: tuple[int, ...] = (2, 1, 3),
    dtype: torch.dtype = torch.float32,
    **how: object,
) -> Case:
    """Logits of an image classifier; the batch is dynamic where several sizes are given."""
    module = adapt(model, lambda m, image: m(pixel_values=image).logits)
    measure_batch_statistics(module, [normal(8, 3, size, size, seed=i) for i in range(2, 5)])
    module.to(dtype)
    runs = [{"image": normal(batch, 3, size, size).to(dtype)} for batch in batches]
    axes = {"image": {0: "batch"}} if len(batches) > 1 else {}
    return Case(module, runs, ["logits"], axes=axes, **how)


def resnet(**how: object) -> Case:
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[16, 24],
        depths=[2, 2],
        layer_type="bottleneck",
        num_labels=CLASSES,
    )
    return _classifier(transformers.ResNetForImageClassification(config), 32, **how)


def mobilenetv2(**how: object) -> Case:
    """TensorFlow's way of padding: more at the bottom and the right."""
    config = transformers.MobileNetV2Config(
        image_size=64,
        depth_multiplier=0.1,
        finegrained_output=False,
        tf_padding=True,
        num_labels=CLASSES,
    )
    return _classifier(transformers.MobileNetV2ForImageClassification(config), 64, **how)


def efficientnet(**how: object) -> Case:
    """Depthwise convolutions, squeeze and excite, SiLU."""
    config = transformers.EfficientNetConfig(
        image_size=32,
        width_coefficient=0.25,
        depth_coefficient=0.5,
        kernel_sizes=[3, 3, 5],
        in_channels=[32, 16, 24],
        out_channels=[16, 24, 40],
        strides=[1, 2, 2],
        num_block_repeats=[1, 2, 2],
        expand_ratios=[1, 4, 4],
        depthwise_padding=[],
        hidden_dim=320,
        num_labels=CLASSES,
    )
    return _classifier(transformers.EfficientNetForImageClassification(config), 32, **how)


def convnext(**how: object) -> Case:
    config = transformers.ConvNextConfig(
        hidden_sizes=[16, 24], depths=[2, 2], num_stages=2, image_size=32, num_labels=CLASSES
    )
    return _classifier(transformers.ConvNextForImageClassification(config), 32, **how)


def vit(**how: object) -> Case:
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=CLASSES,
    )
    return _classifier(transformers.ViTForImageClassification(config), 32, **how)


def swin(**how: object) -> Case:
    """Attention in windows, every second layer in shifted ones, with a bias by position."""
    config = transformers.SwinConfig(
        image_size=32,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
        mlp_ratio=2.0,
        attn_implementation="eager",
        num_labels=CLASSES,
    )
    return _classifier(transformers.SwinForImageClassification(config), 32, **how)


def segformer(**how: object) -> Case:
    """A mask per class, from four scales that are resized to the largest."""
    config = transformers.SegformerConfig(
        num_encoder_blocks=4,
        depths=[1, 1, 1, 1],
        sr_ratios=[4, 2, 1, 1],
        hidden_sizes=[8, 16, 16, 24],
        num_attention_heads=[1, 2, 2, 3],
        mlp_ratios=[2, 2, 2, 2],
        decoder_hidden_size=16,
        num_labels=CLASSES,
    )
    return _classifier(transformers.SegformerForSemanticSegmentation(config), 64, **how)


def detr(**how: object) -> Case:
    """Boxes from learned queries that attend to a convolutional backbone."""
    backbone = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        out_features=["stage2"],
    )
    config = transformers.DetrConfig(
        backbone_config=backbone,
        num_queries=6,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        num_labels=5,
    )

    def forward(m: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
        outputs = m(pixel_values=image)
        return outputs.logits, outputs.pred_boxes

    module = adapt(transformers.DetrForObjectDetection(config), forward)
    runs = [{"image": normal(1, 3, 48, 64)}]
    return Case(module, runs, ["logits", "boxes"], **how)


def clip(**how: object) -> Case:
    """How well each text fits each image."""
    config = transformers.CLIPConfig(
        text_config={
            "vocab_size": 96,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 16,
            "eos_token_id": 95,
            "bos_token_id": 0,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=24,
    )

    def forward(m: nn.Module, ids: Tensor, mask: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        outputs = m(input_ids=ids, attention_mask=mask, pixel_values=image)
        return outputs.logits_per_image, outputs.text_embeds, outputs.image_embeds

    mask = padding_mask(9, 6, 8)
    ids = tokens(*mask.shape, vocabulary=95)
    ids[torch.arange(3), mask.sum(1) - 1] = 95
    run = {"input_ids": ids, "attention_mask": mask, "image": normal(2, 3, 32, 32)}
    outputs = ["logits_per_image", "text_embeds", "image_embeds"]
    module = adapt(transformers.CLIPModel(config), forward)
    with torch.no_grad():
        module.module.logit_scale.fill_(2.0)  # a temperature, not a weight
    return Case(module, [run], outputs, **how)


class Residual(nn.Module):
    """GroupNorm, SiLU and a convolution, twice, with the time added between."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(4, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.second = nn.Sequential(
            nn.GroupNorm(4, outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.time = nn.Linear(16, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, image: Tensor, time: Tensor) -> Tensor:
        hidden = self.first(image) + self.time(time)[:, :, None, None]
        return self.second(hidden) + self.skip(image)


class UNet(nn.Module):
    """A denoiser as diffusion models have them, with attention at the lowest resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.ModuleList([Residual(8, 16), Residual(16, 24)])
        self.shrink = nn.ModuleList([nn.Conv2d(16, 16, 3, 2, 1), nn.Conv2d(24, 24, 3, 2, 1)])
        self.norm = nn.GroupNorm(4, 24)
        self.query_key_value = nn.Conv2d(24, 72, 1)
        self.middle = Residual(24, 24)
        self.grow = nn.ConvTranspose2d(24, 24, 4, stride=2, padding=1)
        self.up = nn.ModuleList([Residual(48, 16), Residual(32, 8)])
        self.head = nn.Sequential(nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))

    def attend(self, image: Tensor) -> Tensor:
        batch, channels, height, width = image.shape
        parts = self.query_key_value(self.norm(image)).view(batch, 3, 2, channels // 2, -1)
        query, key, value = parts.transpose(3, 4).unbind(1)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return image + mixed.transpose(2, 3).reshape(batch, channels, height, width)

    def forward(self, image: Tensor, step: Tensor) -> Tensor:
        frequencies = torch.exp(torch.arange(8, dtype=torch.float32) * -0.9)
        angles = step[:, None] * frequencies[None]
        time = torch.cat([angles.sin(), angles.cos()], dim=-1)
        first = self.down[0](self.stem(image), time)
        second = self.down[1](self.shrink[0](first), time)
        lowest = self.attend(self.middle(self.shrink[1](second), time))
        grown = self.up[0](torch.cat([self.grow(lowest), second], dim=1), time)
        grown = functional.interpolate(grown, scale_factor=2.0, mode="nearest")
        return self.head(self.up[1](torch.cat([grown, first], dim=1), time))


def unet(**how: object) -> Case:
    module = adapt(UNet(), lambda m, image, step: m(image, step))
    runs = [{"image": normal(2, 3, 16, 16), "step": torch.tensor([0.5, 7.0])}]
    return Case(module, runs, ["noise"], **how)


class HardBlock(nn.Module):
    """MobileNetV3's block: expand, depthwise, squeeze and excite, project; all with hard gates."""

    def __init__(self, channels: int, expanded: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv2d(channels, expanded, 1, bias=False), nn.BatchNorm2d(expanded), nn.Hardswish()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(expanded, expanded, 5, padding=2, groups=expanded, bias=False),
            nn.BatchNorm2d(expanded),
            nn.Hardswish(),
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(expanded, 8, 1),
            nn.ReLU(),
            nn.Conv2d(8, expanded, 1),
            nn.Hardsigmoid(),
        )
        self.project = nn.Sequential(
            nn.Conv2d(expanded, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.depthwise(self.expand(image))
        return image + self.project(hidden * self.gate(hidden))


def mobilenetv3(**how: object) -> Case:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        HardBlock(8, 24),
        nn.PReLU(8),
        nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        HardBlock(8, 32),
        nn.Mish(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, CLASSES),
        nn.ELU(),
    )
    module = adapt(network, lambda m, image: m(image))
    measure_batch_statistics(module, [normal(8, 3, 32, 32, seed=i) for i in range(2, 5)])
    runs = [{"image": normal(batch, 3, 32, 32)} for batch in (2, 1)]
    return Case(module, runs, ["scores"], axes={"image": {0: "batch"}}, **how)


CASES: dict[str, Callable[[], Case]] = {
    "resnet": resnet,
    "resnet_torchscript": partial(resnet, dynamo=False),
    "mobilenetv2": mobilenetv2,
    "mobilenetv2_torchscript": partial(mobilenetv2, dynamo=False, opset=13),
    "mobilenetv3": mobilenetv3,
    "mobilenetv3_torchscript": partial(mobilenetv3, dynamo=False, opset=14),
    "efficientnet": efficientnet,
    "efficientnet_torchscript": partial(efficientnet, dynamo=False, opset=17),
    "convnext": convnext,
    "convnext_torchscript": partial(convnext, dynamo=False, opset=16),
    "vit": vit,
    "vit_float16": partial(vit, dtype=torch.float16),
    "vit_opset24": partial(vit, opset=24),
    "vit_torchscript": partial(vit, dynamo=False, opset=17),
    "swin": partial(swin, batches=(2,)),
    "swin_torchscript": partial(swin, dynamo=False),
    "segformer": segformer,
    "segformer_torchscript": partial(segformer, dynamo=False, opset=17),
    "detr": detr,
    "detr_torchscript": partial(detr, dynamo=False),
    "clip": clip,
    "clip_torchscript": partial(clip, dynamo=False, opset=17),
    "unet": unet,
    "unet_torchscript": partial(unet, dynamo=False, opset=17),
}
