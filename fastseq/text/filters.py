"""What happens to a word once in a collection: length, stop words, stem, character n-grams.

Raw words come in the order of their ids; their terms get ids in the order of first occurrence.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress

import numpy as np
import numpy.typing as npt

from fastseq.kernels.text import ngrams, tokenize, unicode
from fastseq.kernels.text.hashing import PADDING
from fastseq.text.analyzer import Analyzer
from fastseq.text.segmentation import segmenter
from fastseq.text.stemming import stem
from fastseq.text.stopwords import stopword_set
from fastseq.text.tables import ByteTable, Column
from fastseq.text.unicode_tables import unicode_tables
from fastseq.types import Int32, Int64, Texts, Tokens, UInt8

Rename = Callable[[Int32, Int64], Tokens]
Bools = npt.NDArray[np.bool_]
_HAN = 1


def renaming(mapping: Int32 | None) -> Rename:
    """What turns (ids, ends) of D texts into Tokens: id i becomes mapping[i], or is dropped at -1.

    The arrays are written over. None: the ids stay.
    """

    def rename(ids: Int32, ends: Int64) -> Tokens:
        if mapping is not None:
            tokenize.gather(ids, ends, ids, ends, mapping)
            ids = ids[: ends[-1]]
        return Tokens(ids, ends)

    return rename


def packed(strings: list[str], separator: int) -> tuple[UInt8, Int64, int]:
    """(data, starts int64[n + 1], gap): string i is data[starts[i]:starts[i + 1] - gap].

    With a separator, which no string may hold, this is faster; 0 for none.
    """
    if separator:
        between = chr(separator)
        lines = f"{between}{between.join(strings)}{between if strings else ''}"
        data = np.frombuffer(bytearray(lines.encode() + bytes(PADDING)), np.uint8)
        return data, (data == separator).nonzero()[0] + 1, 1
    encoded = [string.encode() for string in strings]
    starts = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(b) for b in encoded], out=starts[1:])
    return np.frombuffer(bytearray(b"".join(encoded) + bytes(PADDING)), np.uint8), starts, 0


class WordFilter:
    """From raw words to terms. Only the holder of a lexicon's turn may call `take`."""

    def __init__(self, analyzer: Analyzer) -> None:
        """Raises MissingExtraError when a package that the analyzer needs is not installed."""
        words = analyzer.tokenizer == "word"
        own = 2 if words else 1
        shortest = analyzer.min_length or own
        self._shortest = shortest if shortest > own else 0  # else the tokenizer sees to it
        self._longest = analyzer.max_length
        self._cjk = words and analyzer.cjk != "none"
        self._stop = stopword_set(analyzer.stopwords, analyzer.lowercase, analyzer.fold_accents)
        self._stemmer = analyzer.stemmer
        self._cut = segmenter() if words and analyzer.cjk == "words" else None
        self._span = analyzer.char_ngrams
        self._changes = bool(
            self._shortest or self._longest or self._stop or self._cut or self._stemmer != "none"
        )
        self.active = self._changes or self._span is not None
        self.terms: ByteTable | None = None
        # the terms of raw word i: _ids[i], or the several _pieces[_ends[i]:_ends[i + 1]]
        self._several = self._cut is not None or self._span is not None
        self._taken = 0
        self._ids = Column(np.int32)
        self._pieces = Column(np.int32)
        self._ends = Column(np.int64)
        self._ends.append(np.zeros(1, np.int64))

    def take(self, raw: ByteTable) -> None:
        """Give terms to the raw words that have come since the last call."""
        count = len(raw)
        if count == self._taken:
            return
        starts = raw.offsets[self._taken : count + 1]
        data, gap = raw.arena, raw.gap
        keep: Bools | None = None
        owners: Int64 | None = None  # where each raw word's pieces begin, when it is segmented
        if self._changes:
            words = _strings(data, starts, gap)
            if self._cut is not None:
                words, owners = self._segmented(self._cut, words, data, starts, gap)
                data, starts, gap = packed(words, raw.separator)
            keep = self._kept(words, data, starts, gap)
            if keep is not None:
                words = list(compress(words, keep.tolist()))
            if self._stemmer != "none":
                words = stem(self._stemmer, words)
            data, starts, gap = packed(words, raw.separator)
        if self.terms is None:
            self.terms = ByteTable(len(starts), len(data), 0)
        if self._span is not None:
            ids, ends = self._char_ngrams(self.terms, data, starts, gap, self._span)
        else:
            ids = self.terms.register(data, starts, gap)
            ends = np.arange(len(ids) + 1)
        if not self._several:
            if keep is not None:
                ids = _spread(ids, keep)
            self._ids.append(ids)
        else:
            if keep is not None:
                counts = np.zeros(len(keep), np.int64)
                counts[keep] = np.diff(ends)
                ends = np.zeros(len(keep) + 1, np.int64)
                np.cumsum(counts, out=ends[1:])
            if owners is not None:
                ends = ends[owners]
            self._ends.append(ends[1:] + self._pieces.size)
            self._pieces.append(ids)
        self._taken = count

    def renaming(self, known: Int32 | None) -> Rename:
        """What turns ids of raw words (after `known`, where given) into Tokens of terms."""
        if not self._several:
            ids = self._ids.values
            return renaming(ids if known is None else ids[known])
        pieces, piece_ends = self._pieces.values, self._ends.values
        to_raw = renaming(known)

        def rename(ids: Int32, ends: Int64) -> Tokens:
            words = to_raw(ids, ends)
            counts = np.diff(piece_ends)
            out = np.empty(int(counts[words.values].sum()), np.int32)
            out_ends = np.zeros(len(ends), np.int64)
            tokenize.expand(out, out_ends, words.values, words.offsets, pieces, piece_ends)
            return Tokens(out, out_ends)

        return rename

    def _segmented(
        self,
        cut: Callable[[str], list[str]],
        words: list[str],
        data: UInt8,
        starts: Int64,
        gap: int,
    ) -> tuple[list[str], Int64]:
        """(pieces, owners int64[n + 1]): word i has pieces[owners[i]:owners[i + 1]]."""
        _, scripts = _described(data, starts, gap)
        pieces: list[str] = []
        owners = np.zeros(len(words) + 1, np.int64)
        for i, (word, script) in enumerate(zip(words, scripts.tolist(), strict=True)):
            if script == _HAN:
                pieces += cut(word)
            else:
                pieces.append(word)
            owners[i + 1] = len(pieces)
        return pieces, owners

    def _kept(self, words: list[str], data: UInt8, starts: Int64, gap: int) -> Bools | None:
        """Which words the filters leave; None for all."""
        keep: Bools | None = None
        if self._shortest or self._longest:
            lengths, scripts = _described(data, starts, gap)
            keep = lengths >= self._shortest
            if self._longest:
                keep &= lengths <= self._longest
            if self._cjk:
                keep |= scripts != 0
        if self._stop:
            stopped = list(map(self._stop.__contains__, words))
            if True in stopped:
                left = np.logical_not(stopped)
                keep = left if keep is None else keep & left
        return keep

    def _char_ngrams(
        self, table: ByteTable, data: UInt8, starts: Int64, gap: int, span: tuple[int, int]
    ) -> tuple[Int32, Int64]:
        """(ids, ends int64[n + 1]) of the words' character n-grams, which become the terms."""
        longest = int(np.diff(starts).max(initial=0))
        ids = np.empty(4 * len(data) + 64, np.int32)
        ends = np.zeros(len(starts), np.int64)
        progress = np.zeros(1, np.int64)
        padded = np.empty(longest + 32, np.uint8)
        marks = np.empty(longest + 8, np.int64)
        while True:
            status = ngrams.char_ngrams(
                ids,
                ends,
                progress,
                table.slots,
                table.arena,
                table.offsets,
                table.size,
                padded,
                marks,
                data,
                starts,
                span[0],
                span[1],
                gap,
            )
            if status == tokenize.DONE:
                return ids[: ends[-1]], ends
            if status == tokenize.GROW_TABLE:
                table.grow()
            else:
                ids = np.concatenate([ids, np.empty(len(ids), np.int32)])


def _strings(data: UInt8, starts: Int64, gap: int) -> list[str]:
    """The strings data[starts[i]:starts[i + 1] - gap] (at least one)."""
    if gap:
        return data[starts[0] : starts[-1] - 1].tobytes().decode().split(chr(tokenize.NEWLINE))
    return Texts(data, starts).to_strings()


def _described(data: UInt8, starts: Int64, gap: int) -> tuple[Int64, UInt8]:
    """(code points int64[n], script of the first character uint8[n]) of each string."""
    tables = unicode_tables()
    lengths = np.empty(len(starts) - 1, np.int64)
    scripts = np.empty(len(starts) - 1, np.uint8)
    unicode.describe(lengths, scripts, data, starts, gap, tables.flags_index, tables.flags)
    return lengths, scripts


def _spread(ids: Int32, keep: Bools) -> Int32:
    """ids at the places that `keep` marks, -1 elsewhere."""
    out = np.full(len(keep), -1, np.int32)
    out[keep] = ids
    return out
