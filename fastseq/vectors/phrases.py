"""Phrases that were found in a text; they join neighbouring words of other texts."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fastseq.errors import DataError, FormatError
from fastseq.kernels.text import ngrams as kernels
from fastseq.text.tables import KeyTable
from fastseq.types import Int32, Int64, UInt8

PHRASES = "phrases"  # name in a folder of vectors of what to_array returns
DELIMITER = "_"


class Phrase(NamedTuple):
    """parts: its words, of which the first and the last are no common words."""

    parts: tuple[str, ...]
    score: float
    occurrences: int


class PhraseTable:
    """Phrases found in a text; joins them in other texts.

    settings : of the search that found them; "common_words" may be inside a phrase
    passes_ : the phrases of each pass, the best first
    """

    def __init__(self, settings: Mapping[str, Any], passes: Sequence[list[Phrase]]) -> None:
        self.settings: dict[str, Any] = dict(settings)
        self.passes_: list[list[Phrase]] = list(passes)

    @property
    def phrases_(self) -> list[tuple[str, float, int]]:
        """(phrase, score, count), the best first."""
        best: dict[str, tuple[str, float, int]] = {}
        for one in sorted((p for found in self.passes_ for p in found), key=lambda p: -p.score):
            name = DELIMITER.join(one.parts)
            best.setdefault(name, (name, one.score, one.occurrences))
        return list(best.values())

    def join(self, words: list[str], tokens: Int32, ends: Int64) -> tuple[list[str], Int32]:
        """Join the phrases in another text. Arguments and results as in Phrases.learn."""
        for found in self.passes_:
            words, tokens = self.join_pass(found, words, tokens, ends)
        return words, tokens

    def join_pass(
        self, found: list[Phrase], words: list[str], tokens: Int32, ends: Int64
    ) -> tuple[list[str], Int32]:
        """Join the phrases of one pass."""
        index = {word: row for row, word in enumerate(words)}
        numbers: dict[tuple[int, int], int] = {}  # left parts with connectors
        keys, joined, more = [], [], list(words)
        for parts, _, _ in found:
            rows = [index.get(part, -1) for part in parts]
            if min(rows) < 0:
                continue
            left = rows[0]
            for row in rows[1:-1]:
                left = len(words) + numbers.setdefault((left, row), len(numbers))
            keys.append(left << 32 | rows[-1])
            name = DELIMITER.join(parts)
            at = index.get(name)
            if at is None:  # a word of the text may be spelt like the phrase
                at = index[name] = len(more)
                more.append(name)
            joined.append(at)
        if not keys:
            return words, tokens
        lefts, phrases = KeyTable(len(numbers)), KeyTable(len(keys))
        lefts.register(np.array([a << 32 | b for a, b in numbers], np.uint64))
        phrases.register(np.array(keys, np.uint64))
        left = kernels.join_pairs(
            tokens, ends, connectors(words, self.settings["common_words"]), lefts.slots,
            phrases.slots, np.array(joined, np.int32),
        )  # fmt: skip
        return more, tokens[:left]

    def transform(self, sentences: Iterable[Sequence[str]]) -> list[list[str]]:
        """Lists of words with the phrases joined: ["new", "york"] becomes ["new_york"].

        Raises DataError for a sentence that is a string.
        """
        numbers: dict[str, int] = {}
        ids: list[int] = []
        ends = []
        for row, sentence in enumerate(sentences):
            if isinstance(sentence, str):
                raise DataError(f"sentence {row} (from 0) is a string; expected a list of words")
            ids += (numbers.setdefault(word, len(numbers)) for word in sentence)
            ends.append(len(ids))
        marks = np.array(ends, np.int64)
        words, tokens = self.join(list(numbers), np.array(ids, np.int32), marks)
        flat = [words[i] for i in tokens.tolist()]
        return [flat[a:b] for a, b in pairwise([0, *marks.tolist()])]

    def to_array(self) -> UInt8:
        """Settings and phrases as folders of vectors store them: JSON in UTF-8, uint8[n]."""
        content = {"settings": self.settings, "passes": self.passes_}
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return np.frombuffer(bytearray(text.encode()), np.uint8)

    @staticmethod
    def from_array(array: Any) -> PhraseTable:
        """Restore what `to_array` returned. Raises FormatError for anything else."""
        try:
            content = json.loads(np.asarray(array, np.uint8).tobytes())
            settings, common = content["settings"], content["settings"]["common_words"]
            if not isinstance(common, list) or not all(isinstance(word, str) for word in common):
                raise ValueError("common_words that are no list of words")
            passes = [
                [Phrase(tuple(map(str, parts)), float(score), int(n)) for parts, score, n in found]
                for found in content["passes"]
            ]
            if any(len(one.parts) < 2 for found in passes for one in found):
                raise ValueError("one that is no list of several words")
        except (ValueError, TypeError, KeyError) as error:
            raise FormatError(f"damaged vectors: phrases that cannot be read ({error})") from None
        return PhraseTable(settings, passes)


def connectors(words: list[str], common_words: Collection[str]) -> UInt8:
    """uint8[V], 1 for common words; of length 0 if there are none."""
    if not common_words:
        return np.zeros(0, np.uint8)
    common = frozenset(common_words)
    return np.fromiter((word in common for word in words), np.uint8, len(words))
