"""From texts to raw words: the tokenizers of search and features.

A splitter numbers the distinct words of a slice of texts by first occurrence and returns the tokens
as such numbers. Splitters share no state between calls, so several threads may use one.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastseq.errors import DataError, RowError
from fastseq.kernels.text import tokenize, unicode
from fastseq.kernels.text import words as unicode_words
from fastseq.kernels.text.hashing import PADDING
from fastseq.kernels.text.normal_forms import ROOM
from fastseq.text.language import stopword_list
from fastseq.text.normalising import DOTLESS, FIRST, TEXTS, normalised
from fastseq.text.settings import AnalysisSettings
from fastseq.text.tables import ByteTable
from fastseq.text.unicode_tables import unicode_tables
from fastseq.text.word_tables import mapping_of, word_tables
from fastseq.types import Int32, Int64, Texts, UInt8, offsets_of

_UNITS = {"word": tokenize.WORDS, "space": tokenize.VISIBLE, "char": tokenize.CHARACTERS}
_CJK = {"none": tokenize.AS_WORDS, "bigrams": tokenize.BIGRAMS, "words": tokenize.RUNS}
HAN = 1  # the script of Han and kana, in the tables of both tokenizers of words
_NO_SPANS = np.empty(0, np.int64)


class Split(NamedTuple):
    """The tokens of D texts.

    ids    int32[n]      numbers of words in the table
    ends   int64[D + 1]  text i has ids[ends[i]:ends[i + 1]]
    table  the distinct words
    """

    ids: Int32
    ends: Int64
    table: ByteTable


class Splitter(ABC):
    """A tokenizer with its parameters.

    shortest  the minimum length of a token in characters, of the tokenizer itself
    """

    shortest = 1

    def __init__(self, analyzer: AnalysisSettings) -> None:
        self.analyzer = analyzer

    @abstractmethod
    def split(self, texts: Texts) -> Split:
        """The tokens of texts in valid UTF-8, in writable arrays."""

    @abstractmethod
    def spans(self, texts: Texts) -> tuple[Split, Int64, Int64]:
        """`split`, and int64[n] twice: where in its text each token begins and ends, in bytes.

        A token is the text between, normalised: its own characters, those that it is a part of,
        and the marks that were removed.
        """

    def changed(self, words: Sequence[str]) -> list[str]:
        """Words lower-cased and folded as the tokens are."""
        change, analyzer = unicode_tables().change, self.analyzer
        return [change(word, analyzer.lowercase, analyzer.fold_accents) for word in words]

    def scripts(self, words: list[str]) -> UInt8:
        """uint8[n]: the number of each word's script if that is one written without spaces, by the
        word's first character; else 0."""
        return np.zeros(len(words), np.uint8)


class FunctionSplitter(Splitter):
    """A Python function from a text to its tokens."""

    def split(self, texts: Texts) -> Split:
        return self._split(texts, None)

    def spans(self, texts: Texts) -> tuple[Split, Int64, Int64]:
        """As of Splitter, by looking for the tokens in the text, one after the other, without
        regard to case where it must be: one that is not found has an empty span."""
        spans: list[tuple[int, int]] = []
        split = self._split(texts, spans)
        both = np.array(spans, np.int64).reshape(-1, 2).T
        return split, both[0].copy(), both[1].copy()

    def _split(self, texts: Texts, spans: list[tuple[int, int]] | None) -> Split:
        split = self.analyzer.tokenizer
        assert callable(split)
        changed: dict[str, str] = {}
        known: dict[str, int] = {}
        ids: list[int] = []
        ends = np.zeros(len(texts.offsets), np.int64)
        for row, text in enumerate(texts.to_strings()):
            tokens = split(text)
            if isinstance(tokens, str | bytes) or not isinstance(tokens, Iterable):
                what = f"{tokens!r:.80}"
                raise RowError(row, f"the tokenizer returned {what}; expected a list of str")
            finder = None if spans is None else _Finder(text)
            for token in tokens:
                if not isinstance(token, str):
                    raise RowError(row, f"the tokenizer returned {token!r:.80}; expected str")
                if token not in changed:
                    (changed[token],) = self.changed([token])
                if changed[token]:
                    ids.append(known.setdefault(changed[token], len(known)))
                    if spans is not None and finder is not None:
                        spans.append(finder.find(token))
            ends[row + 1] = len(ids)
        try:
            data, starts, gap = packed(list(known), 0)
        except UnicodeEncodeError:
            raise DataError("the tokenizer returned a token that is not valid Unicode") from None
        table = ByteTable(len(known), len(data), 0)
        table.register(data, starts, gap)
        return Split(np.array(ids, np.int32), ends, table)


class _Finder:
    """Finds the tokens of a text in it, in order."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._start = self._stop = 0  # of the last token, in code points
        self._places = offsets_of([len(character.encode()) for character in text])

    def find(self, token: str) -> tuple[int, int]:
        """Where the next token is, in bytes: after the last one, else from inside of it on."""
        for start in (self._stop, self._start + 1):
            at, length = self._text.find(token, start), len(token)
            if at < 0 and token:
                found = re.compile(re.escape(token), re.IGNORECASE).search(self._text, start)
                at, length = found.span() if found else (-1, 0)
                length -= at
            if at >= 0:
                self._start, self._stop = at, at + length
                return int(self._places[at]), int(self._places[at + length])
        end = int(self._places[self._stop])
        return end, end


class ScanSplitter(Splitter):
    """The tokenizers `word`, `space` and `char` (kernels/text/tokenize.py)."""

    def __init__(self, analyzer: AnalysisSettings) -> None:
        super().__init__(analyzer)
        self._characters = unicode_tables().characters(analyzer.lowercase, analyzer.fold_accents)
        self._bigrams = analyzer.tokenizer == "word" and analyzer.cjk != "none"
        if analyzer.tokenizer == "word":
            self.shortest = 2

    def split(self, texts: Texts) -> Split:
        share = 1 if self.analyzer.tokenizer == "char" else 3
        return self._split(texts, texts.nbytes // share + 16, _NO_SPANS, _NO_SPANS)

    def spans(self, texts: Texts) -> tuple[Split, Int64, Int64]:
        starts, stops = np.empty((2, most_tokens(texts)), np.int64)
        split = self._split(texts, len(starts), starts, stops)
        return split, starts[: len(split.ids)], stops[: len(split.ids)]

    def _split(self, texts: Texts, capacity: int, starts: Int64, stops: Int64) -> Split:
        analyzer, longest = self.analyzer, _longest(texts)
        table = ByteTable.for_text(texts.nbytes, tokenize.NEWLINE)
        ids, ends = table.intern_tokens(
            tokenize.tokenize, len(texts), capacity, np.empty(min(longest, 4096) + 64, np.uint8),
            texts.data, texts.offsets, *self._characters, starts, stops,
            np.empty(longest + 128, np.uint8), np.empty(tokenize.EDGES, np.int64),
            np.empty(tokenize.EDGES, np.uint64), _UNITS[str(analyzer.tokenizer)],
            _CJK[analyzer.cjk], int(analyzer.lowercase),
            1 if analyzer.min_length == 1 else self.shortest,
        )  # fmt: skip
        return Split(ids, ends, table)

    def scripts(self, words: list[str]) -> UInt8:
        if not self._bigrams:
            return super().scripts(words)
        scripts: UInt8 = unicode_tables().flags_of(_first(words)) >> unicode.SCRIPT_SHIFT & 3
        return scripts


class WordSplitter(Splitter):
    """The tokenizer `unicode` (kernels/text/words.py)."""

    def __init__(self, analyzer: AnalysisSettings) -> None:
        super().__init__(analyzer)
        self._mapping = mapping_of(analyzer.lowercase, analyzer.fold_accents)
        self._dotless = analyzer.lowercase and analyzer.normalization in DOTLESS
        self._runs = _CJK[analyzer.cjk]

    def split(self, texts: Texts) -> Split:
        table = ByteTable.for_text(texts.nbytes, tokenize.NEWLINE)
        capacity = texts.nbytes // 3 + 16
        ids, ends = self._tokens(table, texts, capacity, _NO_SPANS, _NO_SPANS, self._runs)
        return Split(ids, ends, table)

    def spans(self, texts: Texts) -> tuple[Split, Int64, Int64]:
        table = ByteTable.for_text(texts.nbytes, tokenize.NEWLINE)
        starts, stops = np.empty((2, most_tokens(texts)), np.int64)
        ids, ends = self._tokens(table, texts, len(starts), starts, stops, self._runs)
        return Split(ids, ends, table), starts[: len(ids)], stops[: len(ids)]

    def _tokens(
        self, table: ByteTable, texts: Texts, capacity: int, starts: Int64, stops: Int64, runs: int
    ) -> tuple[Int32, Int64]:
        analyzer, longest = self.analyzer, _longest(texts)
        if (rule := TEXTS.get(analyzer.normalization)) is not None:
            texts = Texts.from_strings([rule(text) for text in texts.to_strings()])
        room = min(longest, 1024) + 2 * ROOM
        return table.intern_tokens(
            unicode_words.tokenize_words, len(texts), capacity,
            np.empty(4 * room + 64, np.uint8), *np.empty((2, room), np.uint32),
            *np.empty((2, room), np.int64), texts.data, texts.offsets,
            *word_tables(self._mapping), starts, stops, np.empty(longest + 128, np.uint8),
            np.empty(tokenize.EDGES, np.int64), np.empty(tokenize.EDGES, np.uint64),
            runs, int(analyzer.lowercase), int(self._dotless), scratch=5,
        )  # fmt: skip

    def changed(self, words: Sequence[str]) -> list[str]:
        found = self.whole_runs(Texts.from_strings(words))
        strings = Texts(*found.table.texts()).to_strings()
        rows = pairwise(found.ends.tolist())
        return [" ".join(strings[i] for i in found.ids[a:b].tolist()) for a, b in rows]

    def whole_runs(self, texts: Texts) -> Split:
        """`split`, with every run of a script without spaces as one token."""
        runs = self._runs if self._runs == tokenize.AS_WORDS else unicode_words.WHOLE_RUNS
        table = ByteTable.for_text(texts.nbytes, tokenize.NEWLINE)
        capacity = texts.nbytes // 3 + 16
        ids, ends = self._tokens(table, texts, capacity, _NO_SPANS, _NO_SPANS, runs)
        return Split(ids, ends, table)

    def scripts(self, words: list[str]) -> UInt8:
        if self.analyzer.cjk == "none":
            return super().scripts(words)
        tables, codes = word_tables(self._mapping), _first(words)
        block = tables.properties_index[codes >> 7].astype(np.int64)
        properties = tables.properties[block << 7 | codes & 127]
        scripts: UInt8 = (properties >> unicode_words.SCRIPT_SHIFT & 7).astype(np.uint8)
        return scripts


def splitter_of(analyzer: AnalysisSettings) -> Splitter:
    """The splitter of an analyzer that has a tokenizer."""
    if callable(analyzer.tokenizer):
        return FunctionSplitter(analyzer)
    return (WordSplitter if analyzer.tokenizer == "unicode" else ScanSplitter)(analyzer)


def stop_words(analyzer: AnalysisSettings) -> frozenset[str]:
    """The stop words of an analyzer that has a tokenizer, as the tokens are compared with them."""
    if callable(analyzer.tokenizer):  # which may have no hash
        return _stop_words(replace(analyzer, tokenizer="word"))
    return _stop_words(analyzer)


@lru_cache(32)
def _stop_words(analyzer: AnalysisSettings) -> frozenset[str]:
    words = splitter_of(analyzer).changed(stopword_list(analyzer.stopwords))
    return frozenset(normalised(FIRST, analyzer.normalization, words))


def packed(strings: list[str], separator: int) -> tuple[UInt8, Int64, int]:
    """(data, starts int64[n + 1], gap): string i is data[starts[i]:starts[i + 1] - gap].

    With a separator, which no string may contain, this is faster; 0 for none.
    """
    if separator:
        between = chr(separator)
        lines = f"{between}{between.join(strings)}{between if strings else ''}"
        data = np.frombuffer(bytearray(lines.encode() + bytes(PADDING)), np.uint8)
        return data, (data == separator).nonzero()[0] + 1, 1
    encoded = [string.encode() for string in strings]
    data = np.frombuffer(bytearray(b"".join(encoded) + bytes(PADDING)), np.uint8)
    return data, offsets_of([len(b) for b in encoded]), 0


def most_tokens(texts: Texts) -> int:
    """A bound of the number of tokens: a character of 3 bytes has at most 18 in its compatibility
    decomposition, one of 2 or 4 fewer."""
    data = texts.data[texts.offsets[0] : texts.offsets[-1]]
    return len(data) + 5 * int(np.count_nonzero(data > 127)) + 16


def _longest(texts: Texts) -> int:
    """The length of the longest text in bytes, or more."""
    nbytes = texts.nbytes
    return int(np.diff(texts.offsets).max(initial=0)) if nbytes > 1 << 16 else nbytes


def _first(words: list[str]) -> Int32:
    return np.array([ord(word[0]) for word in words], np.int32)
