# SPDX-License-Identifier: Apache-2.0
"""Language models: encoders, decoders with a cache, and both."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
import transformers
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.modeling_outputs import BaseModelOutput

from tests.models.zoo.case import Case, adapt, normal, padding_mask, tokens

VOCABULARY = 96
WIDTH = 32
HEADS = 4
LAYERS = 2


def bert(**how: object) -> Case:
    """Two lengths in one batch, so that the attention mask matters."""
    model = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=64,
            max_position_embeddings=32,
        )
    )

    def forward(m: nn.Module, ids: Tensor, mask: Tensor, kinds: Tensor) -> tuple[Tensor, ...]:
        outputs = m(input_ids=ids, attention_mask=mask, token_type_ids=kinds)
        return outputs.last_hidden_state, outputs.pooler_output

    def run(*lengths: int) -> dict[str, Tensor]:
        mask = padding_mask(*lengths)
        return {
            "input_ids": tokens(*mask.shape, vocabulary=VOCABULARY),
            "attention_mask": mask,
            "token_type_ids": tokens(*mask.shape, vocabulary=2, seed=2),
        }

    runs = [run(9, 6), run(5), run(3, 12, 7)]
    axes = {name: {0: "batch", 1: "sequence"} for name in runs[0]}
    outputs = ("last_hidden_state", "pooler_output")
    return Case(adapt(model, forward), runs, outputs, axes=axes, **how)


def distilbert(**how: object) -> Case:
    """A classifier of fixed shape without token types."""
    model = transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(
            vocab_size=VOCABULARY,
            dim=WIDTH,
            n_layers=LAYERS,
            n_heads=HEADS,
            hidden_dim=64,
            max_position_embeddings=32,
            num_labels=5,
        )
    )

    def forward(m: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
        return m(input_ids=ids, attention_mask=mask).logits

    mask = padding_mask(10, 8)
    run = {"input_ids": tokens(2, 10, vocabulary=VOCABULARY), "attention_mask": mask}
    return Case(adapt(model, forward), [run], ["logits"], **how)


def _cache_of(past: tuple[Tensor, ...]) -> DynamicCache:
    cache = DynamicCache()
    for key, value in zip(past[::2], past[1::2], strict=True):
        layer = DynamicLayer()
        layer.lazy_initialization(key, value)
        layer.keys, layer.values = key, value
        cache.layers.append(layer)
    return cache


def _decoder(model: nn.Module, past_heads: int, head_width: int, how: Mapping[str, object]) -> Case:
    """Logits and the longer cache, from tokens, a mask over past and present, and the cache."""
    past_names = [f"past.{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
    present_names = [name.replace("past", "present") for name in past_names]

    def forward(m: nn.Module, ids: Tensor, mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        length = past[0].shape[2]
        positions = torch.arange(length, length + ids.shape[1])[None]
        outputs = m(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=_cache_of(past),
            use_cache=True,
        )
        present = [(layer.keys, layer.values) for layer in outputs.past_key_values.layers]
        return outputs.logits, *(tensor for pair in present for tensor in pair)

    def run(batch: int, length: int, past: int) -> dict[str, Tensor]:
        mask = torch.ones(batch, past + length, dtype=torch.int64)
        mask[-1, 0] = 0  # padding on the left
        arrays = {"input_ids": tokens(batch, length, vocabulary=VOCABULARY), "attention_mask": mask}
        for number, name in enumerate(past_names):
            arrays[name] = normal(batch, past_heads, past, head_width, seed=10 + number)
        return arrays

    axes = {name: {0: "batch", 2: "past"} for name in past_names}
    axes["input_ids"] = {0: "batch", 1: "sequence"}
    axes["attention_mask"] = {0: "batch", 1: "total"}
    runs = [run(2, 3, 5), run(1, 1, 8), run(3, 6, 2)]
    return Case(adapt(model, forward), runs, ["logits", *present_names], axes=axes, **how)


def gpt2(**how: object) -> Case:
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=32,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _decoder(transformers.GPT2LMHeadModel(config), HEADS, WIDTH // HEADS, how)


def llama(**how: object) -> Case:
    """Grouped queries, rotary embedding, RMSNorm, gated SiLU."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _decoder(transformers.LlamaForCausalLM(config), 2, WIDTH // HEADS, how)


def _t5_model() -> nn.Module:
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=VOCABULARY,
            d_model=WIDTH,
            d_kv=8,
            d_ff=64,
            num_layers=LAYERS,
            num_heads=HEADS,
            relative_attention_num_buckets=8,
            relative_attention_max_distance=16,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            decoder_start_token_id=0,
            attn_implementation="eager",
        )
    )


def t5_encoder(**how: object) -> Case:
    """Relative position buckets, computed from the length."""

    def forward(m: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
        return m.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state

    def run(*lengths: int) -> dict[str, Tensor]:
        mask = padding_mask(*lengths)
        return {"input_ids": tokens(*mask.shape, vocabulary=VOCABULARY), "attention_mask": mask}

    runs = [run(7, 5), run(12), run(3, 4, 2)]
    axes = {name: {0: "batch", 1: "sequence"} for name in runs[0]}
    return Case(adapt(_t5_model(), forward), runs, ["last_hidden_state"], axes=axes, **how)


def t5_decoder(**how: object) -> Case:
    """One pass of the decoder over what the encoder gave."""

    def forward(m: nn.Module, ids: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        encoded = BaseModelOutput(last_hidden_state=states)
        return m(
            decoder_input_ids=ids, encoder_outputs=encoded, attention_mask=mask, use_cache=False
        ).logits

    def run(length: int, *lengths: int) -> dict[str, Tensor]:
        mask = padding_mask(*lengths)
        return {
            "decoder_input_ids": tokens(len(lengths), length, vocabulary=VOCABULARY),
            "encoder_hidden_states": normal(*mask.shape, WIDTH),
            "encoder_attention_mask": mask,
        }

    axes = {
        "decoder_input_ids": {0: "batch", 1: "decoder_sequence"},
        "encoder_hidden_states": {0: "batch", 1: "encoder_sequence"},
        "encoder_attention_mask": {0: "batch", 1: "encoder_sequence"},
    }
    runs = [run(4, 7, 5), run(2, 9), run(6, 3, 4, 2)]
    return Case(adapt(_t5_model(), forward), runs, ["logits"], axes=axes, **how)


class Tagger(nn.Module):
    """A tag per token, from a recurrent network that reads both ways."""

    def __init__(self, recurrent: type[nn.LSTM] | type[nn.GRU], layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.recurrent = recurrent(16, 24, num_layers=layers, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(48, 7)

    def forward(self, input_ids: Tensor) -> Tensor:
        states, _ = self.recurrent(self.embedding(input_ids))
        return self.classifier(states).log_softmax(dim=-1)


def tagger(
    recurrent: type[nn.LSTM] | type[nn.GRU], layers: int, *, dynamic: bool = True, **how: object
) -> Case:
    shapes = [(2, 9), (1, 4), (3, 13)] if dynamic else [(2, 9)]
    runs = [{"input_ids": tokens(*shape, vocabulary=VOCABULARY)} for shape in shapes]
    axes = {"input_ids": {0: "batch", 1: "sequence"}} if dynamic else {}
    module = adapt(Tagger(recurrent, layers), lambda m, ids: m(ids))
    return Case(module, runs, ["tags"], axes=axes, **how)


CASES: dict[str, Callable[[], Case]] = {
    "bert": bert,
    "bert_opset14": partial(bert, dynamo=False, opset=14),
    "bert_torchscript": partial(bert, dynamo=False, opset=17),
    "distilbert": distilbert,
    "gpt2": gpt2,
    "gpt2_torchscript": partial(gpt2, dynamo=False),
    "llama": llama,
    "llama_opset24": partial(llama, opset=24),
    "llama_torchscript": partial(llama, dynamo=False),
    "t5_encoder": t5_encoder,
    "t5_encoder_torchscript": partial(t5_encoder, dynamo=False, opset=17),
    "t5_decoder": t5_decoder,
    "t5_decoder_torchscript": partial(t5_decoder, dynamo=False, opset=17),
    "lstm_tagger": partial(tagger, nn.LSTM, 1, dynamic=False),
    "lstm_tagger_torchscript": partial(tagger, nn.LSTM, 2, dynamo=False),
    "gru_tagger_torchscript": partial(tagger, nn.GRU, 1, dynamo=False),
}
