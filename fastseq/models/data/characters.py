"""The characters of words, for a character BiLSTM beside the word embedding.

    chars, ragged = CharTable.learn(words)       # words: types.Texts
    ragged = chars.characters(words)             # the ids of each word's characters
    batch = distinct_words(spellings, ragged)    # every word of a batch once

Characters come from the words' own bytes, case kept, never from the word's id: what the word
vocabulary lacks still has its spelling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastseq.errors import DataError
from fastseq.models.data.ragged import fitted, gathered, offsets_of
from fastseq.models.data.units import Units
from fastseq.models.data.vocabulary import Vocabulary, VocabularyBuilder
from fastseq.types import Int32, Int64, Texts, Tokens

LONGEST = 64  # characters of a word that are looked at, unless said


@dataclass(frozen=True, slots=True, eq=False)
class WordCharacters:
    """The characters of the distinct words of a batch, each word once.

    values   int32[M]      character ids, word after word
    offsets  int64[U + 1]  distinct word u is values[offsets[u]:offsets[u + 1]], at least one
    inverse  int64[N]      which distinct word each of the batch's N words is
    """

    values: Int32
    offsets: Int64
    inverse: Int64

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True, eq=False)
class CharTable:
    """The characters that were learned.

    vocabulary  of unit "char", 0 being an unknown character
    longest     characters of a word that are looked at; the rest of a longer one is left out
    """

    vocabulary: Vocabulary
    longest: int = LONGEST

    def __len__(self) -> int:
        return len(self.vocabulary)

    @classmethod
    def learn(
        cls, words: Texts, min_count: int = 1, longest: int = LONGEST
    ) -> tuple[CharTable, Tokens]:
        """The table of the characters of some words, and these words' characters.

        Raises InvalidTextError for a word that is not UTF-8, DataError when there is none with a
        character, SettingsError as VocabularyBuilder.finish.
        """
        builder = VocabularyBuilder(Units("char"))
        raw = builder.add(words)
        vocabulary, mapping = builder.finish(min_count)
        table = cls(vocabulary, longest)
        return table, table._cut(Tokens(mapping[raw.values], raw.offsets))

    def characters(self, words: Texts) -> Tokens:
        """The character ids of each word. A word without any has the unknown character.

        Raises InvalidTextError for a word that is not UTF-8.
        """
        return self._cut(self.vocabulary.encode(words))

    def _cut(self, raw: Tokens) -> Tokens:
        return Tokens(*fitted(raw.values, raw.offsets, self.longest, 0))

    def to_texts(self) -> Texts:
        """The characters by id: what a file has to hold beside `to_dict`."""
        return self.vocabulary.to_texts()

    def to_dict(self) -> dict[str, Any]:
        """The rest of the table as JSON has it."""
        return {"vocabulary": self.vocabulary.to_dict(), "longest": self.longest}

    @classmethod
    def from_texts(cls, texts: Texts, saved: Mapping[str, Any]) -> CharTable:
        """The table of `to_texts` and `to_dict`. Raises FormatError as Vocabulary.from_texts."""
        return cls(Vocabulary.from_texts(texts, saved["vocabulary"]), int(saved["longest"]))


def distinct_words(spellings: Int32, characters: Tokens) -> WordCharacters:
    """The characters of a batch's words, every distinct one once, in ascending order of its number.

    Parameters
    ----------
    spellings : int32[N], the number of each word of the batch
    characters : of the word of each number

    Raises DataError when a number is not there.
    """
    found, inverse = np.unique(spellings, return_inverse=True)
    if len(found) and not 0 <= found[0] <= found[-1] < len(characters):
        raise DataError(f"words {found[0]} to {found[-1]}, expected 0 to {len(characters) - 1}")
    starts = characters.offsets[found]
    lengths = characters.offsets[found + 1] - starts
    values = gathered(characters.values, starts, lengths)
    return WordCharacters(values, offsets_of(lengths), inverse.reshape(-1).astype(np.int64))
