# SPDX-License-Identifier: Apache-2.0
"""Hugging Face optimum's ORTModel classes, on tiny random models without a network."""

from __future__ import annotations

import importlib.util

import pytest

from tests.dropin.alias import ALIASES, run


def _is_there() -> bool:
    try:
        return importlib.util.find_spec("optimum.onnxruntime") is not None
    except ModuleNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not _is_there(), reason="optimum-onnx is not installed")

CODE = """
import os, tempfile, warnings
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
warnings.simplefilter("ignore")
import torch
from transformers import (
    BertConfig, BertForSequenceClassification, BertModel, GPT2Config, GPT2LMHeadModel,
    LlamaConfig, LlamaForCausalLM,
)
from optimum.onnxruntime import (
    ORTModelForCausalLM, ORTModelForFeatureExtraction, ORTModelForSequenceClassification,
)

torch.manual_seed(0)
bert = dict(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=64, max_position_embeddings=64)
ends = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
gpt2 = GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=64, **ends)
llama = LlamaConfig(**bert, num_key_value_heads=2, **ends)
ids = torch.randint(3, 100, (2, 9))
mask = torch.ones_like(ids)
mask[1, 6:] = 0

def made(model, kind, **arguments):
    with tempfile.TemporaryDirectory() as folder:
        model.eval().save_pretrained(folder)
        loaded = kind.from_pretrained(folder, export=True, **arguments)
    assert type(loaded.session).__module__.startswith("bascule")
    return loaded

model = BertForSequenceClassification(BertConfig(**bert, num_labels=3))
loaded = made(model, ORTModelForSequenceClassification)
want = model(input_ids=ids, attention_mask=mask).logits
found = loaded(input_ids=ids, attention_mask=mask).logits
torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)
found = loaded(input_ids=ids.numpy(), attention_mask=mask.numpy()).logits
torch.testing.assert_close(torch.from_numpy(found), want, atol=1e-5, rtol=1e-5)
model = BertModel(BertConfig(**bert))
loaded = made(model, ORTModelForFeatureExtraction)
want = model(input_ids=ids, attention_mask=mask).last_hidden_state
found = loaded(input_ids=ids, attention_mask=mask).last_hidden_state
torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)
for model in (GPT2LMHeadModel(gpt2), LlamaForCausalLM(llama)):
    for bound in (True, False):
        loaded = made(model, ORTModelForCausalLM, use_cache=True, use_io_binding=bound)
        asked = dict(max_new_tokens=12, do_sample=False, pad_token_id=0)
        assert torch.equal(loaded.generate(ids, **asked), model.generate(ids, **asked))
print("the same")
"""

# The version of onnxruntime is asked for here.
QUANTIZER = """
import os, tempfile, warnings
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
warnings.simplefilter("ignore")
import torch
from transformers import BertConfig, BertForSequenceClassification
from onnxruntime.quantization import CalibrationMethod
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig, CalibrationConfig

torch.manual_seed(0)
sizes = dict(vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
             intermediate_size=64, max_position_embeddings=64)
model = BertForSequenceClassification(BertConfig(**sizes, num_labels=3)).eval()
ids = torch.randint(3, 100, (2, 9))
mask = torch.ones_like(ids)
want = model(input_ids=ids, attention_mask=mask).logits

class Samples(list):
    pass

rows = [{"input_ids": ids[i % 2].tolist(), "attention_mask": [1] * 9, "token_type_ids": [0] * 9}
        for i in range(4)]
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder + "/torch")
    exported = ORTModelForSequenceClassification.from_pretrained(folder + "/torch", export=True)
    exported.save_pretrained(folder + "/onnx")
    for static in (False, True):
        config = AutoQuantizationConfig.avx512_vnni(is_static=static, per_channel=False)
        config.operators_to_quantize = ["MatMul", "Gemm"] if static else ["MatMul", "Gather"]
        quantizer = ORTQuantizer.from_pretrained(folder + "/onnx")
        ranges = None
        if static:
            ranges = quantizer.fit(
                dataset=Samples(rows),
                calibration_config=CalibrationConfig("", "", "", 4, CalibrationMethod.MinMax),
                operators_to_quantize=config.operators_to_quantize,
                batch_size=2,
            )
        quantizer.quantize(
            save_dir=folder + f"/q{static}",
            quantization_config=config,
            calibration_tensors_range=ranges,
        )
        loaded = ORTModelForSequenceClassification.from_pretrained(
            folder + f"/q{static}", file_name="model_quantized.onnx"
        )
        found = loaded(input_ids=ids, attention_mask=mask).logits
        assert (found - want).abs().max() < 0.1 * want.abs().max()
print("near")
"""

PIPELINES = """
import os, tempfile, warnings
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
warnings.simplefilter("ignore")
import torch, transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig, BertForSequenceClassification, BertModel, LlamaConfig, LlamaForCausalLM,
    PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration,
)
from optimum.onnxruntime import (
    ORTModelForCausalLM, ORTModelForFeatureExtraction, ORTModelForSeq2SeqLM,
    ORTModelForSequenceClassification, pipeline,
)

words = "[PAD] [UNK] [CLS] [SEP] the cat sat on a mat dog ran far away from home .".split()
whole = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
whole.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=whole, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
    sep_token="[SEP]", eos_token="[SEP]", padding_side="left", model_max_length=32,
)
torch.manual_seed(0)
sizes = dict(vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
             intermediate_size=64, max_position_embeddings=64)
t5 = T5Config(vocab_size=len(words), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
              decoder_start_token_id=0, pad_token_id=0, eos_token_id=3)
llama = LlamaConfig(**sizes, num_key_value_heads=2, bos_token_id=2, eos_token_id=3, pad_token_id=0)
texts = ["the cat sat on a mat .", "a dog ran far away ."]

def near(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other):
            near(a, b)
    else:
        assert abs(one - other) < 1e-4 if isinstance(one, float) else one == other, (one, other)

for task, model, kind, asked in (
    ("text-classification", BertForSequenceClassification(BertConfig(**sizes, num_labels=3)),
     ORTModelForSequenceClassification, {"top_k": None}),
    ("feature-extraction", BertModel(BertConfig(**sizes)), ORTModelForFeatureExtraction, {}),
    ("text-generation", LlamaForCausalLM(llama), ORTModelForCausalLM,
     {"max_new_tokens": 8, "do_sample": False, "num_beams": 3}),
    ("text2text-generation", T5ForConditionalGeneration(t5), ORTModelForSeq2SeqLM,
     {"max_new_tokens": 8, "do_sample": False}),
):
    want = transformers.pipeline(task, model=model.eval(), tokenizer=tokenizer)(texts, **asked)
    for bound in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            loaded = kind.from_pretrained(folder, export=True, use_io_binding=bound)
        near(pipeline(task, model=loaded, tokenizer=tokenizer)(texts, **asked), want)
print("the same")
"""


def test_pipelines() -> None:
    assert "the same" in run(PIPELINES)


def test_quantizer() -> None:
    assert "near" in run(QUANTIZER, "imported")


@pytest.mark.parametrize("alias", ALIASES)
def test_models(alias: str) -> None:
    assert "the same" in run(CODE, alias)
