"""Reading texts: the ids and frequencies of their terms, in slices on several threads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.kernels.text import counts
from fastseq.text.analyzer import Analyzer
from fastseq.text.encoding import encode_slices
from fastseq.text.lexicon import Lexicon, joined_levels
from fastseq.types import Int32, Int64, Texts, Tokens


@dataclass(slots=True)
class Slice:
    """Consecutive texts. levels: their ids for each n of the n-grams; tokens int64[D]."""

    levels: list[Tokens]
    tokens: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What was read.

    terms      the distinct terms, by id; with n-grams section after section
    documents  how many texts, tokens how many terms they have in all
    df         int64[V]  texts that have each term
    totals     int64[V]  occurrences of each term; of length 0 unless asked for
    slices     the texts' ids, where they were kept
    sizes      terms in each section
    """

    terms: Texts
    documents: int
    tokens: int
    df: Int64
    totals: Int64
    slices: list[Slice]
    sizes: list[int]


def read(
    analyzer: Analyzer,
    slices: Iterable[Texts],
    threads: int,
    *,
    keep: bool = True,
    frequencies: bool = True,
    totals: bool = False,
) -> Reading:
    """Read texts to their end.

    slices       of the texts; they are taken in this thread
    keep         False: no matrix will be asked for
    frequencies  count df
    totals       count occurrences

    Raises RowError for a text that is not UTF-8, unless the analyzer replaces; and what taking
    the slices raises. A term that two ways of joining tokens give (only a tokenizer of your own
    can make such) is one term.
    """
    return _Reader(analyzer, threads, keep, frequencies, totals).read(slices)


class _Reader:
    def __init__(
        self, analyzer: Analyzer, threads: int, keep: bool, frequencies: bool, totals: bool
    ) -> None:
        self._lexicon = Lexicon(analyzer)
        self._threads = threads
        self._keep = keep
        self._frequencies = frequencies
        self._with_totals = totals
        # tokens with spaces in them: the n-grams of different words may be the same
        self._ambiguous = callable(analyzer.tokenizer) and analyzer.ngrams[1] > 1
        levels = len(self._lexicon.section_sizes)
        self._seen: list[Int32] = [np.zeros(0, np.int32) for _ in range(levels)]
        self._totals: list[Int64] = [np.zeros(0, np.int64) for _ in range(levels)]

    def read(self, slices: Iterable[Texts]) -> Reading:
        kept: list[Slice] = []
        documents = tokens = 0
        for texts, one in encode_slices(
            self._lexicon, slices, lambda texts: texts, self._slice, self._threads
        ):
            if self._frequencies and not self._ambiguous:
                for level, ids in enumerate(one.levels):
                    self._count(level, ids, documents, self._lexicon.section_sizes[level])
            documents += len(texts)
            tokens += int(one.tokens.sum())
            if self._keep or self._ambiguous:
                kept.append(one)
        sizes = self._lexicon.section_sizes
        terms = self._lexicon.terms()
        if self._ambiguous:
            terms = self._merged(terms, kept, sizes)
            sizes = [len(terms)]
        df = [seen[1 : 2 * n : 2] for seen, n in zip(self._seen, sizes, strict=False)]
        totals = [total[:n] for total, n in zip(self._totals, sizes, strict=False)]
        return Reading(
            terms,
            documents,
            tokens,
            _joined(df),
            _joined(totals),
            kept if self._keep else [],
            sizes,
        )

    def _slice(self, first_row: int, levels: list[Tokens]) -> Slice:
        tokens: Int64 = np.sum([np.diff(level.offsets) for level in levels], axis=0, dtype=np.int64)
        if self._keep or self._ambiguous:
            # the kernels' buffers are longer than what they hold
            levels = [Tokens(level.values.copy(), level.offsets) for level in levels]
        return Slice(levels, tokens)

    def _count(self, level: int, ids: Tokens, first: int, size: int) -> None:
        if 2 * size > len(self._seen[level]):
            self._seen[level] = _extended(self._seen[level], 3 * size)
        if self._with_totals and size > len(self._totals[level]):
            self._totals[level] = _extended(self._totals[level], size + size // 2)
        counts.count_documents(
            self._seen[level], self._totals[level], ids.values, ids.offsets, first
        )

    def _merged(self, terms: Texts, slices: list[Slice], sizes: list[int]) -> Texts:
        """Make equal terms one, in the slices too, and count them; returns the terms left."""
        strings = terms.to_strings()
        known: dict[str, int] = {}
        new = np.array([known.setdefault(s, len(known)) for s in strings], np.int32)
        self._seen, self._totals = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        first = 0
        for one in slices:
            ids = joined_levels(one.levels, sizes)
            one.levels = [Tokens(new[ids.values], ids.offsets)]
            if self._frequencies:
                self._count(0, one.levels[0], first, len(known))
            first += len(one.tokens)
        return Texts.from_strings(known)


def _extended(old: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    new = np.zeros(length, old.dtype)
    new[: len(old)] = old
    return new


def _joined(parts: Sequence[npt.NDArray[Any]]) -> Int64:
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64, copy=False)
