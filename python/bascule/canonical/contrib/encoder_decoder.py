# SPDX-License-Identifier: Apache-2.0
"""The encoder and the decoder that a search carries, in the forms of T5 and Whisper.

The encoder makes `present_key_cross_0`, `present_value_cross_0`, ...; in its older form it decodes
the first tokens too, and makes `logits`, `encoder_hidden_states` and all `present_*_self_*` before
them. The decoder reads `input_ids`, in the form of T5 `encoder_attention_mask`, `past_*_self_*` and
`past_*_cross_*` of all layers, before which there may be `encoder_hidden_states`; it makes `logits`
and `present_*_self_*`.
"""

from __future__ import annotations

from bascule.canonical.contrib.beams import Beams, BeamState
from bascule.canonical.contrib.decoders import Carried, DecodingLoop
from bascule.canonical.contrib.gpt_decoder import int32, last_scores, repeat
from bascule.canonical.contrib.operator import ContribBuilder
from bascule.ir.dtype import DataType
from bascule.ir.graph import Value
from bascule.ir.types import TensorType

_MASK, _HIDDEN = "encoder_attention_mask", "encoder_hidden_states"


class EncoderDecoder:
    """Both graphs, checked."""

    def __init__(self, build: ContribBuilder, vocab_size: int, has_mask: bool) -> None:
        self.build = build
        self.has_mask = has_mask
        self.encoder = Carried(build, "encoder")
        self.decoder = Carried(build, "decoder")
        expected = ["encoder_input_ids", *[_MASK] * has_mask]
        self.decodes_first = not has_mask or len(self.encoder.inputs) > len(expected)
        if self.decodes_first:
            expected.append("decoder_input_ids")
        first = ["logits", _HIDDEN] if self.decodes_first else ["present_key_cross_0"]
        self.encoder.expect(expected, first)
        if len(self.encoder.inputs) > len(expected):
            raise self.encoder.not_supported(f"input '{self.encoder.inputs[len(expected)]}'")
        self.decoder.expect(["input_ids", *[_MASK] * has_mask], ["logits"])
        names = self.decoder.inputs
        self.first_past = 1 + has_mask
        self.has_hidden = len(names) > self.first_past and names[self.first_past] == _HIDDEN
        self.first_past += self.has_hidden
        self.layers = self._layers()
        made = 4 if self.decodes_first else 2
        if len(self.encoder.outputs) != len(first) * self.decodes_first + made * self.layers:
            raise self.encoder.invalid(
                f"has {len(self.encoder.outputs)} outputs, which do not fit the {self.layers} "
                "layers of the decoder"
            )
        if self.has_hidden and not self.decodes_first:
            raise self.encoder.invalid(f"has no output '{_HIDDEN}', which the decoder asks for")
        integers = {"input_ids", "decoder_input_ids", _MASK, *expected[: int(has_mask)]}
        for carried in (self.encoder, self.decoder):
            carried.expect_int32(integers)
        self.found, self.vocabulary = self.decoder.logits(vocab_size)

    def _layers(self) -> int:
        names = self.decoder.inputs[self.first_past :]
        for name in names:
            if not name.startswith("past_") or name == "past_sequence_length":
                raise self.decoder.not_supported(f"input '{name}'")
        layers = len(names) // 4
        if not layers or len(names) % 4:
            raise self.decoder.invalid(f"has {len(names)} inputs past_*, expected 4 a layer")
        outputs = self.decoder.outputs
        if len(outputs) < 1 + 2 * layers:
            raise self.decoder.invalid(f"has {len(outputs)} outputs, expected {1 + 2 * layers}")
        if len(outputs) > 1 + 2 * layers:
            raise self.decoder.not_supported(f"output '{outputs[1 + 2 * layers]}'")
        return layers

    def encode(self, inputs: Value, mask: Value | None, start: Value) -> list[Value]:
        given = [inputs] if mask is None else [inputs, mask]
        return self.encoder.unfold([*given, start] if self.decodes_first else given)


class EncoderDecoderSearch:
    """A beam search by both."""

    def __init__(self, graphs: EncoderDecoder, beams: Beams) -> None:
        self.build = graphs.build
        self.graphs = graphs
        self.beams = beams

    def run(self, inputs: Value, mask: Value | None, start: Value) -> tuple[BeamState, list[Value]]:
        """With the tokens `start`, ``[batch, length]``; returns the last state, and all scores."""
        build, graphs = self.build, self.graphs
        made = graphs.encode(inputs, mask, start)
        rows = repeat(build, start, self.beams.beams)
        state = self.beams.start(build.op("Shape", start, start=0, end=1), rows, graphs.vocabulary)
        before: list[Value] = []
        tokens, hidden, goes_on = rows, None, None
        if graphs.decodes_first:
            logits, hidden, *made = made
            logits = last_scores(build, logits, graphs.vocabulary, graphs.found)
            logits = repeat(build, logits, self.beams.beams)
            step = self.beams.step(build, state, logits, True)
            state, tokens = step.state, step.tokens
            before = [build.op("Unsqueeze", step.scores, build.ints(0))]
            goes_on = build.op("Not", self.beams.all_done(build, state))
        loop = DecodingLoop(graphs.decoder)
        ids, as_sequence = self._feed_ids(loop, state, tokens)
        pasts = self._feed(loop, mask, hidden, made, state)
        inside = loop.inside
        going = state.carried(loop)
        first = (
            False
            if graphs.decodes_first
            else inside.op("Equal", loop.iteration, inside.int_scalar(0))
        )
        logits = last_scores(inside, loop.results[0], graphs.vocabulary, graphs.found)
        step = self.beams.step(inside, going, logits, first)
        going.go_on(loop, step.state)
        loop.follow(ids, step.state.sequences if as_sequence else step.tokens)
        for past, present in zip(pasts, loop.results[1:]):
            loop.follow(past, inside.op("Gather", present, step.rows, axis=0))
        steps = build.op("Sub", self.beams.longest, build.op("Shape", state.sequences, start=1))
        collected = [step.scores] if build.wants(2) else []
        last = loop.finish(
            build.op("Reshape", steps, build.ints()),
            goes_on,
            inside.op("Not", self.beams.all_done(inside, step.state)),
            collected,
        )
        return going.last(last), [*before, *loop.collected] if collected else []

    def _feed_ids(self, loop: DecodingLoop, state: BeamState, tokens: Value) -> tuple[Value, bool]:
        """The last token, or the whole sequence where the decoder takes more than one."""
        shape = loop.formal[0].shape
        as_sequence = shape is None or len(shape) != 2 or shape[1] != 1
        if as_sequence:
            return loop.feed(0, state.sequences, "rows", "length"), True
        return loop.feed(0, tokens, "rows", 1), False

    def _feed(
        self,
        loop: DecodingLoop,
        mask: Value | None,
        hidden: Value | None,
        made: list[Value],
        state: BeamState,
    ) -> list[Value]:
        """Feed what the encoder made; returns, in the body, what goes round of it."""
        graphs, layers = self.graphs, self.graphs.layers
        if mask is not None:
            self._fix(loop, 1, mask, "rows", "encoded")
        if graphs.has_hidden:
            assert hidden is not None
            self._fix(loop, graphs.first_past - 1, hidden, "rows", "encoded", "width")
        pasts = []
        for index in range(4 * layers):
            place = graphs.first_past + index
            formal = loop.formal[place]
            name = graphs.decoder.inputs[place]
            if index >= 2 * layers:
                value = made[index if graphs.decodes_first else index - 2 * layers]
                self._fix(loop, place, value, *self._sizes(formal, "encoded"))
                continue
            if graphs.decodes_first:
                first = repeat(self.build, made[index], self.beams.beams)
            else:
                first = self._empty(formal, name, state)
            pasts.append(loop.feed(place, first, *self._sizes(formal, f"before_{index}")))
        return pasts

    def _sizes(self, formal: Value, length: str) -> tuple[int | str, ...]:
        shape = formal.shape if formal.rank == 4 and formal.shape else (None,) * 4
        heads, size = (
            dim if isinstance(dim, int) else name
            for dim, name in ((shape[1], "heads"), (shape[3], "size"))
        )
        return ("rows", heads, length, size)

    def _fix(self, loop: DecodingLoop, index: int, value: Value, *shape: int | str) -> None:
        value = repeat(self.build, value, self.beams.beams)
        dtype = loop.formal[index].dtype
        if dtype is not None:
            sizes = tuple(
                f"{loop.decoder.label}/{dim}" if isinstance(dim, str) else dim for dim in shape
            )
            value.type = TensorType(dtype, sizes)
        loop.fix(index, value)

    def _empty(self, formal: Value, name: str, state: BeamState) -> Value:
        build, decoder = self.build, self.graphs.decoder
        heads, size = (decoder.size(formal, name, 4, axis) for axis in (1, 3))
        rows = build.op("Shape", state.sequences, start=0, end=1)
        shape = build.op("Concat", rows, build.ints(heads, 0, size), axis=0)
        return decoder.zeros(formal, name, shape)


def encoder_mask(build: ContribBuilder, ids: Value, mask: Value | None, pad_token_id: int) -> Value:
    """What is given, or 0 for the padding before the first token."""
    if mask is not None:
        return build.op("Reshape", mask, build.op("Shape", ids))  # which checks its size
    tokens = build.op("Not", build.op("Equal", ids, int32(build, pad_token_id)))
    counts = build.op(
        "CumSum", build.op("Cast", tokens, to=int(DataType.INT32)), build.int_scalar(1)
    )
    return build.op("Min", counts, int32(build, 1))


def start_tokens(build: ContribBuilder, inputs: Value, token: int) -> Value:
    """One token for each sample."""
    if token < 0:
        raise build.invalid(
            f"attribute 'decoder_start_token_id' is {token}, expected no negative number"
        )
    rows = build.op("Shape", inputs, start=0, end=1)
    return build.op("Expand", int32(build, token), build.op("Concat", rows, build.ints(1), axis=0))
