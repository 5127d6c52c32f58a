# SPDX-License-Identifier: Apache-2.0
"""In models as torch exports them, everything that can be fused is found."""

from __future__ import annotations

import pytest

from bascule.optimizer import Level, optimize
from tests.optimizer.fusing import CONTEXT, ops
from tests.optimizer.test_models import canonical

_BERT = {"Attention": 2, "LayerNormalization": 5, "bascule.MatMul": 13}
_GPT2 = {"Attention": 2, "LayerNormalization": 5, "bascule.MatMul": 12}
_LLAMA = {"Attention": 2, "RMSNormalization": 5, "RotaryEmbedding": 4}
_VIT = {"Attention": 2, "LayerNormalization": 5, "bascule.Conv": 1, "bascule.MatMul": 13}
_CONVNEXT = {"bascule.Conv": 6, "LayerNormalization": 7, "bascule.MatMul": 9, "Transpose": 0}
_UNET = {"bascule.Conv": 20, "bascule.GroupNormalization": 12, "Attention": 1}

EXPECTED = {
    "bert": _BERT,
    "bert_opset14": _BERT,
    "bert_torchscript": _BERT,
    "clip": {"Attention": 4, "LayerNormalization": 11},
    "clip_torchscript": {"Attention": 4, "LayerNormalization": 11},
    "convnext": _CONVNEXT,
    "convnext_torchscript": _CONVNEXT,
    "detr": {"Attention": 4, "LayerNormalization": 8, "bascule.Conv": 7},
    "detr_torchscript": {"Attention": 4, "LayerNormalization": 8, "bascule.Conv": 7},
    "distilbert": {"Attention": 2, "LayerNormalization": 5},
    "gpt2": _GPT2,
    "gpt2_torchscript": _GPT2,
    "llama": _LLAMA,
    "llama_opset24": _LLAMA,
    "llama_torchscript": _LLAMA,
    "mobilenetv2": {"bascule.Conv": 20, "bascule.PointwiseDepthwiseConv": 16, "Transpose": 0},
    "resnet": {"bascule.Conv": 15, "bascule.MaxPool": 1, "Transpose": 0},
    "segformer": {"Attention": 4, "LayerNormalization": 18, "bascule.Conv": 12},
    "segformer_torchscript": {"Attention": 4, "LayerNormalization": 18, "bascule.Conv": 12},
    "swin": {"Attention": 4, "LayerNormalization": 11},
    "swin_torchscript": {"Attention": 4, "LayerNormalization": 11},
    "t5_decoder": {"Attention": 4, "RMSNormalization": 7},
    "t5_encoder": {"Attention": 2, "RMSNormalization": 5},
    "unet": _UNET,
    "unet_torchscript": _UNET,
    "vit": _VIT,
    "vit_opset24": _VIT,
    "vit_torchscript": _VIT,
}

LEFT_OVER = ("Erf", "ReduceMean", "Softmax", "Conv", "MaxPool", "InstanceNormalization", "IsNaN")


@pytest.mark.parametrize("name", EXPECTED)
def test_everything_is_found(name: str) -> None:
    model = canonical(name)
    optimize(model, Level.ALL, context=CONTEXT)
    found = ops(model.graph)
    for kind in ("LayerNormalization", "RMSNormalization"):
        found[kind] += found.pop(f"bascule.Skip{kind}", 0)
    assert {op: found[op] for op in EXPECTED[name]} == EXPECTED[name]
    pools = ("ReduceMean",) if found["bascule.Conv"] else ()  # global average pools
    assert not [op for op in LEFT_OVER if found[op] and op not in pools], found
