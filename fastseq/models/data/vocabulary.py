"""Vocabularies of units, and of the characters that spell words.

    builder = VocabularyBuilder(SequenceTokenizer("word"))
    numbers = builder.add(texts)                                      # types.Tokens
    vocabulary, ids = builder.finish(min_count=2)                     # ids[numbers.values]
    tokens = vocabulary.encode(Texts.from_strings(["A new text."]))   # types.Tokens
    vocabulary.decode(tokens.values)                                  # 'a new text .'

Ids: 0 is `<unk>`, any unit that is not in the vocabulary; with `end`, 1 is `<eos>`, the end of a
row; then the units by falling frequency, ties by first occurrence. If text split at white space
holds "<unk>" or "<eos>" itself (prepared corpora do), it is one of these two. Bytes are their own
ids, 0 to 255, and have neither of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError
from fastseq.models.data.tokenizer import SequenceTokenizer, checked
from fastseq.types import Int32, Int64, Texts, Tokens, offsets_of, ranges

if TYPE_CHECKING:
    from fastseq.text.tables import Dictionary

UNKNOWN = "<unk>"
END = "<eos>"
BYTES = 256
PADDING = 8  # bytes readable after the last string, as kernels/text/hashing.py asks for
LONGEST = 64  # characters of a word that are read


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A fixed set of units with ids.

    tokenizer  splits text into units
    texts      the unit of each id, `<unk>` and `<eos>` among them; for bytes all 256
    end        the id of `<eos>`, which ends a row of a language model; None without one
    """

    tokenizer: SequenceTokenizer
    texts: Texts
    end: int | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def unknown(self) -> int | None:
        """The id of `<unk>`; None for bytes, which are all known."""
        return None if self.tokenizer.unit == "byte" else 0

    @cached_property
    def _dictionary(self) -> Dictionary:
        from fastseq.text.tables import Dictionary

        return Dictionary(self.texts)

    @cached_property
    def _strings(self) -> list[bytes]:
        raw, at = self.texts.data.tobytes(), self.texts.offsets.tolist()
        return [raw[a:b] for a, b in pairwise(at)]

    def encode(self, texts: Texts) -> Tokens:
        """The ids of each text's units, without `<eos>`. Thread-safe. Raises InvalidTextError for a
        text that is not UTF-8 (except for bytes)."""
        if self.tokenizer.unit == "byte":
            first, last = int(texts.offsets[0]), int(texts.offsets[-1])
            return Tokens(texts.data[first:last].astype(np.int32), texts.offsets - first)
        split = self.tokenizer.split(texts)
        return Tokens(self.lookup(split.distinct)[split.ids], split.offsets)

    def encode_tokens(self, tokens: Texts) -> Int32:
        """int32[n]: the id of each token of text that is already split, lower-cased if the units
        are. Raises InvalidTextError for a token that is not UTF-8."""
        split = self.tokenizer.split(tokens, whole=True)
        return self.lookup(split.distinct)[split.ids]

    def lookup(self, units: Texts) -> Int32:
        """int32[n]: the id of each unit, 0 (`<unk>`) if it has none."""
        return np.maximum(self._dictionary.columns(units), 0)

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of some ids: words joined by spaces, characters and bytes by nothing. Invalid
        UTF-8 becomes U+FFFD. Raises DataError for an id out of range."""
        wanted = np.asarray(ids, np.int64).reshape(-1)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise DataError(f"ids from {wanted.min()} to {wanted.max()}, expected 0 to {len(self)}")
        joiner = self.tokenizer.joiner.encode()
        return joiner.join([self._strings[i] for i in wanted.tolist()]).decode("utf-8", "replace")

    def coverage(self, found: Sequence[int], ids: Int32) -> dict[str, int]:
        """`coverage_of` the units in `ids`, except `<unk>` and `<eos>`; `found` are the ids of
        units with word vectors."""
        special = 0 if self.unknown is None else 1 if self.end is None else 2
        counts, has = np.zeros(len(self), np.int64), np.zeros(len(self), np.bool_)
        for start in range(0, len(ids), 1 << 20):  # ids may lie in a file
            counts += np.bincount(ids[start : start + (1 << 20)], minlength=len(self))
        has[np.asarray(found, np.int64)] = True
        return coverage_of(counts[special:], has[special:])

    def to_dict(self) -> dict[str, Any]:
        """The vocabulary as JSON, except `texts`."""
        return {"units": self.tokenizer.to_dict(), "end": self.end, "size": len(self)}

    @classmethod
    def from_texts(cls, texts: Texts | None, saved: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary of `texts` (None for bytes) and `to_dict`. Raises FormatError if the two
        are not consistent."""
        try:
            end, size = saved["end"], saved["size"]
            tokenizer = SequenceTokenizer.from_dict(saved["units"])
        except (KeyError, TypeError) as error:
            raise FormatError(f"the saved vocabulary lacks {error}") from None
        is_bytes = tokenizer.unit == "byte"
        if is_bytes:
            texts = _byte_texts()
        special = [] if is_bytes else [UNKNOWN] + ([END] if end is not None else [])
        if texts is None or len(texts) != size or end not in (None, 1):
            found = "none" if texts is None else len(texts)
            raise FormatError(f"the saved vocabulary is damaged: {found} units, expected {size}")
        vocabulary = cls(tokenizer, texts, end)
        if vocabulary._strings[: len(special)] != [name.encode() for name in special]:
            raise FormatError(f"the saved vocabulary is damaged: it does not begin with {special}")
        return vocabulary


def coverage_of(counts: Int64, found: npt.NDArray[np.bool_]) -> dict[str, int]:
    """{"units": that occur, "found": of them, those with word vectors, "tokens": occurrences of
    units, "tokens_found": of units with word vectors}.

    counts, found  int64[V], bool[V]: how often each unit occurs, and whether it has a vector
    """
    return {
        "units": int(np.count_nonzero(counts)),
        "found": int(np.count_nonzero(counts[found])),
        "tokens": int(counts.sum()),
        "tokens_found": int(counts[found].sum()),
    }


class VocabularyBuilder:
    """Counts units while texts are read, numbering them by first occurrence; `finish` returns the
    vocabulary and the id of each number, so that a collection is read only once."""

    def __init__(self, tokenizer: SequenceTokenizer) -> None:
        from fastseq.text.tables import ByteTable

        self.tokenizer = tokenizer
        self._table = ByteTable(4096, 65536, 0)
        self._counts: Int64 = np.zeros(4096, np.int64)
        self._raw = False  # whether the table holds tokens as they were written
        self.cut_rows = 0  # by the last `add` or `add_tokens`

    def add(self, texts: Texts, longest: int | None = None) -> Tokens:
        """The numbers of the first `longest` units of each text. Bytes are their ids. Raises
        InvalidTextError for a text that is not UTF-8 (except for bytes)."""
        if self.tokenizer.unit == "byte":
            tokens = Vocabulary(self.tokenizer, _byte_texts()).encode(texts)
            return Tokens(*self._cut(tokens.values, tokens.offsets, longest))
        split = self.tokenizer.split(texts)
        ids, offsets = self._cut(split.ids, split.offsets, longest)
        table = split.table
        named = self._table.register(table.arena, table.offsets[: len(table) + 1], 0)
        self._count(named, np.bincount(ids, minlength=len(table)))
        return Tokens(named[ids], offsets)

    def add_tokens(self, tokens: Texts, offsets: Int64, longest: int | None = None) -> Tokens:
        """The same for rows that are already split: row d has tokens offsets[d] to
        offsets[d + 1]. Tokens that differ only in case have different numbers, and become one unit
        in `finish` if units are lower-cased.

        Raises InvalidTextError for a token that is not UTF-8.
        """
        self._raw = True
        tokens = checked(tokens)
        first, nbytes = int(tokens.offsets[0]), tokens.nbytes
        data = np.zeros(nbytes + PADDING, np.uint8)
        data[:nbytes] = tokens.data[first : first + nbytes]
        numbers = self._table.register(data, tokens.offsets - first, 0)
        ids, offsets = self._cut(numbers, offsets, longest)
        self._count(np.arange(len(self._table)), np.bincount(ids, minlength=len(self._table)))
        return Tokens(ids, offsets)

    def spellings(self) -> Texts:
        """The unit of each number, or the token as it was written."""
        return Texts(*self._table.texts())

    def finish(
        self, min_count: int = 1, max_size: int | None = None, end: bool = False
    ) -> tuple[Vocabulary, Int32]:
        """The vocabulary, and int32[n]: the id of each number.

        min_count  minimum occurrences; rarer units are unknown
        max_size   maximum number of units, without `<unk>` and `<eos>`; None for all
        end        whether there is an `<eos>`; not for bytes

        Raises DataError if no unit is left.
        """
        if self.tokenizer.unit == "byte":
            return Vocabulary(self.tokenizer, _byte_texts()), np.arange(BYTES, dtype=np.int32)
        from fastseq.text.tables import Dictionary

        known, counts = self.spellings(), self._counts[: len(self._table)].copy()
        unit_of: Int32 | None = None
        if self._raw and self.tokenizer.lowercase:
            split = self.tokenizer.split(known, whole=True)
            known, unit_of = split.distinct, split.ids
            summed = np.zeros(len(known), np.int64)
            np.add.at(summed, unit_of, counts)
            counts = summed
        total = int(counts.sum())
        special = Texts.from_strings([UNKNOWN, END] if end else [UNKNOWN])
        reserved = Dictionary(special).columns(known)
        counts[reserved >= 0] = 0
        order = np.argsort(-counts, kind="stable")
        kept = order[: int(np.count_nonzero(counts >= min_count))][:max_size].astype(np.int32)
        if not len(kept):
            raise DataError(
                f"no units are left of {total}: expected "
                + (f"min_count below {min_count}" if total else "texts that are not empty")
            )
        mapping = np.maximum(reserved, 0)
        mapping[kept] = np.arange(len(special), len(special) + len(kept), dtype=np.int32)
        lengths = np.diff(known.offsets)[kept]
        data = known.data[ranges(known.offsets[:-1][kept], lengths)]
        offsets = offsets_of(np.concatenate([np.diff(special.offsets), lengths]))
        texts = Texts(np.concatenate([special.data, data]), offsets)
        if unit_of is not None:
            mapping = mapping[unit_of]
        return Vocabulary(self.tokenizer, texts, 1 if end else None), mapping

    def ids_in(self, vocabulary: Vocabulary) -> Int32:
        """int32[n]: the id of each number in an existing vocabulary, 0 if it has none."""
        if self.tokenizer.unit == "byte":
            return np.arange(BYTES, dtype=np.int32)
        if self._raw:
            return vocabulary.encode_tokens(self.spellings())
        return vocabulary.lookup(self.spellings())

    def _cut(self, ids: Int32, offsets: Int64, longest: int | None) -> tuple[Int32, Int64]:
        lengths = np.diff(offsets)
        self.cut_rows = 0 if longest is None else int(np.count_nonzero(lengths > longest))
        if longest is None or not self.cut_rows:
            return ids, offsets
        kept = np.minimum(lengths, longest)
        return ids[ranges(offsets[:-1], kept)], offsets_of(kept)

    def _count(self, numbers: npt.NDArray[Any], counts: Int64) -> None:
        if len(self._table) > len(self._counts):
            grown = np.zeros(2 * len(self._table), np.int64)
            grown[: len(self._counts)] = self._counts
            self._counts = grown
        self._counts[numbers] += counts


def _byte_texts() -> Texts:
    return Texts(np.arange(BYTES, dtype=np.uint8), np.arange(BYTES + 1, dtype=np.int64))


# ---- characters of words


class WordCharacters(NamedTuple):
    """The characters of the distinct words of a batch, each word once.

    values   int32[M]      character ids, word after word
    offsets  int64[U + 1]  distinct word u is values[offsets[u]:offsets[u + 1]], at least one
    inverse  int64[N]      the distinct word of each of the batch's N words
    """

    values: Int32
    offsets: Int64
    inverse: Int64


@dataclass(frozen=True, slots=True, eq=False)
class CharacterTable:
    """Characters that spell words, from the words' own bytes with their case, so that words outside
    the vocabulary have a spelling too.

    vocabulary  of unit "char", 0 being an unknown character
    longest     characters of a word that are read
    """

    vocabulary: Vocabulary
    longest: int = LONGEST

    def __len__(self) -> int:
        return len(self.vocabulary)

    @classmethod
    def learn(cls, words: Texts, longest: int = LONGEST) -> tuple[CharacterTable, Tokens]:
        """The table of the characters of some words, and the characters of these words. Raises
        InvalidTextError for a word that is not UTF-8, DataError without any character."""
        builder = VocabularyBuilder(SequenceTokenizer("char"))
        raw = builder.add(words)
        vocabulary, mapping = builder.finish()
        table = cls(vocabulary, longest)
        return table, table._cut(Tokens(mapping[raw.values], raw.offsets))

    def characters(self, words: Texts) -> Tokens:
        """The character ids of each word; an empty word has the unknown character. Raises
        InvalidTextError for a word that is not UTF-8."""
        return self._cut(self.vocabulary.encode(words))

    def _cut(self, raw: Tokens) -> Tokens:
        kept = np.minimum(np.diff(raw.offsets), self.longest)
        return filled(raw.values[ranges(raw.offsets[:-1], kept)], offsets_of(kept), 0)

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON, except `vocabulary.texts`."""
        return {"vocabulary": self.vocabulary.to_dict(), "longest": self.longest}


def distinct_words(spellings: Int32, characters: Tokens) -> WordCharacters:
    """The characters of a batch's words, each distinct one once, in ascending order of its number.

    spellings   int32[N], the number of each word of the batch
    characters  of the word of each number

    Raises DataError for a number out of range.
    """
    found, inverse = np.unique(spellings, return_inverse=True)
    if len(found) and not 0 <= found[0] <= found[-1] < len(characters):
        raise DataError(f"words {found[0]} to {found[-1]}, expected 0 to {len(characters) - 1}")
    starts = characters.offsets[found]
    lengths = characters.offsets[found + 1] - starts
    values = characters.values[ranges(starts, lengths)]
    return WordCharacters(values, offsets_of(lengths), inverse.reshape(-1).astype(np.int64))


def filled(values: Int32, offsets: Int64, filler: int) -> Tokens:
    """Sequences with `filler` as the only value of each empty one."""
    lengths = np.diff(offsets)
    empty = np.flatnonzero(lengths == 0)
    if len(empty):
        values = np.insert(values, np.cumsum(lengths)[empty], filler)
    return Tokens(values, offsets_of(np.maximum(lengths, 1)))
