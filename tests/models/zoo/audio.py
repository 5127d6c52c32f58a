# SPDX-License-Identifier: Apache-2.0
"""Speech models: convolutions over time before a transformer."""

from collections.abc import Callable
from functools import partial

import transformers
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from tests.models.zoo.case import Case, adapt, normal, tokens

VOCABULARY = 64
WIDTH = 32
FRAMES = 24


def _whisper_model() -> nn.Module:
    return transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(
            vocab_size=VOCABULARY,
            num_mel_bins=16,
            d_model=WIDTH,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_source_positions=FRAMES // 2,
            max_target_positions=20,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
    )


def whisper_encoder(**how: object) -> Case:
    def forward(m: nn.Module, features: Tensor) -> Tensor:
        return m.get_encoder()(input_features=features).last_hidden_state

    runs = [{"features": normal(batch, 16, FRAMES)} for batch in (2, 1)]
    axes = {"features": {0: "batch"}}
    return Case(adapt(_whisper_model(), forward), runs, ["last_hidden_state"], axes=axes, **how)


def whisper_decoder(**how: object) -> Case:
    """Causal attention to the text, full attention to the sound."""

    def forward(m: nn.Module, ids: Tensor, states: Tensor) -> Tensor:
        encoded = BaseModelOutput(last_hidden_state=states)
        return m(decoder_input_ids=ids, encoder_outputs=encoded, use_cache=False).logits

    run = {
        "decoder_input_ids": tokens(2, 6, vocabulary=VOCABULARY),
        "encoder_hidden_states": normal(2, FRAMES // 2, WIDTH),
    }
    return Case(adapt(_whisper_model(), forward), [run], ["logits"], **how)


def wav2vec2(**how: object) -> Case:
    """Seven convolutions over the wave form, and a grouped one that gives the positions."""
    config = transformers.Wav2Vec2Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=[16, 16, 16],
        conv_kernel=[10, 3, 2],
        conv_stride=[5, 2, 2],
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
    )
    model = transformers.Wav2Vec2ForCTC(config)
    nn.utils.parametrize.remove_parametrizations(
        model.wav2vec2.encoder.pos_conv_embed.conv, "weight"
    )
    module = adapt(model, lambda m, wave: m(input_values=wave).logits)
    return Case(module, [{"wave": normal(2, 400)}], ["logits"], **how)


CASES: dict[str, Callable[[], Case]] = {
    "whisper_encoder": whisper_encoder,
    "whisper_encoder_torchscript": partial(whisper_encoder, dynamo=False, opset=17),
    "whisper_decoder": whisper_decoder,
    "wav2vec2": wav2vec2,
    "wav2vec2_torchscript": partial(wav2vec2, dynamo=False, opset=17),
}
