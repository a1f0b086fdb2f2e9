"""Sentences as the pieces that Hogwild threads learn from."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from fastseq.models.word_vectors.sentences import Sentences
from fastseq.seeds import mixed_key
from fastseq.training.hogwild import cut
from fastseq.types import Float64, Int32, Int64

LONGEST = 1 << 16  # tokens of a sentence that are learned from in one go


class SentenceLessons(ABC):
    """Lessons of sentences, each thread with a slice of the corpus that it reads in order.

    A sentence of more than LONGEST words is learned from in parts of that: threads can share it,
    the learning rate falls within it. The words on the two sides of such a cut do not meet.
    """

    def __init__(self, sentences: Sentences, threads: int, seed: int) -> None:
        self._seed = seed
        self._tokens = sentences.tokens
        self._ends = parted(sentences.ends, LONGEST)
        self._pieces = cut(self._ends, threads)
        self.rounds = len(self._pieces[0]) - 1

    def learn(
        self, part: int, epoch: int, round: int, rates: tuple[float, float], seen: Float64
    ) -> None:
        """As Lessons has it."""
        first, last = self._pieces[part][round], self._pieces[part][round + 1]
        if first == last:
            return
        start = self._ends[first - 1] if first else 0
        ends = self._ends[first:last] - start
        tokens = self._tokens[start : start + ends[-1]]
        key = mixed_key(self._seed, epoch * self.rounds + round, part)
        self._read(part, tokens, ends, rates, key, seen)

    @abstractmethod
    def _read(
        self, part: int, tokens: Int32, ends: Int64, rates: tuple[float, float], key: int,
        seen: Float64,
    ) -> None:  # fmt: skip
        """Learn from some sentences, in working memory of the thread `part`; `key` is of the
        random numbers."""


def parted(ends: Int64, longest: int) -> Int64:
    """Where sentences end when those that are longer than `longest` are cut into equal parts."""
    lengths = np.diff(ends, prepend=0)
    parts = np.maximum(-(-lengths // longest), 1)
    if len(parts) == int(parts.sum()):
        return ends
    part = np.arange(int(parts.sum())) - np.repeat(np.cumsum(parts) - parts, parts)
    lengths, parts = np.repeat(lengths, parts), np.repeat(parts, parts)
    found: Int64 = np.cumsum(lengths * (part + 1) // parts - lengths * part // parts)
    return found
