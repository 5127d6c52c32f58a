# SPDX-License-Identifier: Apache-2.0
"""A beam search in plain Python, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .comparison import Array
from .searches import Wishes, int32

Score = Callable[[Array], Array]
"""The logits behind tokens of ``[beams, length]``."""


@dataclass
class BeamSearch:
    """Of one sample."""

    beams: int
    length: int
    wishes: Wishes
    pad: int
    returned: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    kept: list[tuple[float, list[int]]] = field(default_factory=list)
    scores: list[Array] = field(default_factory=list)

    def run(self, prompt: Array, score: Score) -> tuple[Array, Array]:
        ids = np.repeat(prompt[None], self.beams, 0)
        totals = np.where(np.arange(self.beams) > 0, -1e9, 0.0)
        while ids.shape[1] < self.length:
            ids, totals, is_done = self.step(ids, totals, score(ids))
            if is_done:
                break
        else:
            for row, total in zip(ids, totals):
                self.keep(row, total)
        best = self.kept[: self.returned]
        rows = [row + [self.pad] * (self.length - len(row)) for _, row in best]
        return int32(rows), np.array([each for each, _ in best])

    def step(self, ids: Array, totals: Array, logits: Array) -> tuple[Array, Array, bool]:
        logits = logits - logits.max(1, keepdims=True)
        scores = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        scores = self.wishes.apply(scores, ids, not self.scores) + totals[:, None]
        self.scores.append(scores)
        order = np.argsort(-scores.reshape(-1), kind="stable")[: 2 * self.beams]
        chosen: list[tuple[float, int, int]] = []
        for place, index in enumerate(order.tolist()):
            beam, token = divmod(index, scores.shape[1])
            if token != self.wishes.eos:
                chosen.append((scores[beam, token], beam, token))
            elif place < self.beams:
                self.keep(ids[beam], scores[beam, token])
        best = scores.reshape(-1)[order[0]] / ids.shape[1] ** self.length_penalty
        is_done = len(self.kept) == self.beams and (self.early_stopping or self.kept[-1][0] >= best)
        chosen = chosen[: self.beams]
        rows = [[*ids[beam].tolist(), token] for _, beam, token in chosen]
        return np.array(rows), np.array([each[0] for each in chosen]), is_done

    def keep(self, row: Array, total: float) -> None:
        self.kept.append((total / len(row) ** self.length_penalty, row.tolist()))
        self.kept = sorted(self.kept, key=lambda each: -each[0])[: self.beams]
