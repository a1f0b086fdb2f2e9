"""The terms of recent queries."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fastseq.index.collection import Collection
from fastseq.kernels.search import impacts as impact_kernels
from fastseq.kernels.text.hashing import PADDING
from fastseq.search.groups import (
    TermGroup,
    character_group,
    has_character_groups,
    lone_characters,
)
from fastseq.search.query_words import encoded, of_queries
from fastseq.search.ranking import QueryTerms
from fastseq.text.lexicon import Lexicon
from fastseq.text.normalising import DOTLESS
from fastseq.text.splitting import splitter_of
from fastseq.text.tables import ByteTable, Column
from fastseq.types import Int32, Int64, Texts, Tokens, distinct

# the tokens of ASCII text, by tokenizer
_ASCII_WORDS = {
    "word": re.compile(r"[A-Za-z0-9_]{2,}").findall,
    "unicode": re.compile(
        r"(?:[A-Za-z0-9_]|(?<=[A-Za-z])'(?=[A-Za-z])|(?<=[0-9])[.,;'](?=[0-9]))+"
    ).findall,
}
_MOST_WORDS = 1 << 15  # as they are written in queries


class TermTable:
    """The terms of recent queries, numbered: their ids in each segment and their document
    frequencies. Stemming and looking words up is most of the cost of analysing a query.

    Terms are only added, so numbers and arrays stay valid; a table that has grown too large is
    replaced by a new one.

    words     by a word as it is written in ASCII text, or by other text without spaces, the numbers
              of its tokens
    groups    by number, the term groups of single characters
    size      the number of terms
    is_stale  whether another table is due, because there are too many words, or because a damaged
              file kept terms from being looked up
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._lock = threading.Lock()
        analyzer = collection.analyzer
        # n-grams are numbered anew by each call, so they cannot be cached
        self._cached = analyzer.ngrams == (1, 1)
        self._split = None
        if self._cached and analyzer.min_length is None and analyzer.normalization not in DOTLESS:
            self._split = _ASCII_WORDS.get(str(analyzer.tokenizer))
        self._lowercase = analyzer.lowercase
        self._lexicon = Lexicon(analyzer)
        self.words: dict[str, list[int]] = {}
        self._numbers = Column(np.int32)  # by the lexicon's ids
        # with gaps, for phrases that no dict of ASCII words serves
        self._gapped: Lexicon | None = None
        self._gapped_numbers = Column(np.int32)
        self._terms = ByteTable(64, 1 << 10, 0)
        self._df = Column(np.int64)
        self._cf = np.empty(0, np.int64)  # -1 for terms that are not counted yet
        self._splitter = splitter_of(analyzer) if has_character_groups(analyzer) else None
        self.groups: dict[int, TermGroup] = {}
        self._ids = np.empty((len(collection.leaves), 64), np.int32)
        self.size = 0  # an attribute, as the next one: each search reads it
        self.is_stale = False

    def __len__(self) -> int:
        return self.size

    @property
    def df(self) -> Int64:
        """int64[n]: the documents with each term, that are not deleted."""
        return self._df.values

    def cf(self, terms: Int32) -> Int64:
        """int64[n]: the occurrences of terms in documents that are not deleted, counted when first
        needed. Raises FormatError where their postings are damaged."""
        with self._lock:
            if len(self._cf) < self._df.size:
                grown = np.full(2 * self._df.size, -1, np.int64)
                grown[: len(self._cf)] = self._cf
                self._cf = grown
            new = distinct(terms[self._cf[terms] < 0])
            if len(new):
                counts = np.zeros(len(new), np.int64)
                for leaf, ids in zip(self._collection.leaves, self.ids(new), strict=True):
                    counts += leaf.occurrences_of(ids)
                for i in np.flatnonzero(self.has_group(new)).tolist():
                    counts[i] = self.groups[int(new[i])].occurrences(self._collection)
                self._cf[new] = counts
            return self._cf[terms]

    def ids(self, terms: Int32) -> Int32:
        """int32[S, n]: the ids of terms in each segment, -1 where it has none."""
        found: Int32 = self._ids.take(terms, axis=1)
        return found

    def has_group(self, terms: Int32) -> npt.NDArray[np.bool_]:
        """bool[n]: whether each term stands for a group."""
        if not self.groups:
            return np.zeros(len(terms), bool)
        return np.isin(terms, list(self.groups))

    def of_short(self, text: str) -> list[int] | None:
        """The numbers of the tokens of one short text; None where `of` must be called. Raises
        DataError for a text that is not valid Unicode.

        For a single query the kernel calls cost 40 µs, mostly for making arrays; in ASCII the word
        tokenizer is this regular expression, and a dict has the numbers of its words. It has those
        of other text between two spaces too, across which analyzers look only from U+200D.
        """
        if self._split is None or len(text) >= 1000 or "\u200d" in text:
            return None
        words: list[str] = []
        if text.isascii():
            words = self._split(text.lower() if self._lowercase else text)
        else:
            for piece in text.split(" "):
                if piece.isascii():
                    words += self._split(piece.lower() if self._lowercase else piece)
                else:
                    words.append(piece)
        known = self.words
        found: list[int] = []
        for word in words:
            numbers = known.get(word)
            if numbers is None:
                with of_queries():
                    numbers = self.of(Texts.from_strings([word]))[0].tolist()
                self._remember({word: numbers})
            found += numbers
        return found

    def learn(self, texts: Sequence[str]) -> None:
        """Look up the words of ASCII texts together, which costs far less than one by one."""
        if self._split is None or len(texts) <= 1:
            return
        new: dict[str, None] = {}
        for text in texts:
            if text not in self.words and text.isascii():
                for word in self._split(text.lower() if self._lowercase else text):
                    if word not in self.words:
                        new[word] = None
        if not new:
            return
        numbers, offsets = self.of(Texts.from_strings(list(new)))
        own, ends = numbers.tolist(), offsets.tolist()
        both = zip(new, pairwise(ends), strict=True)
        self._remember({word: own[first:last] for word, (first, last) in both})

    def _remember(self, words: Mapping[str, list[int]]) -> None:
        self.words.update(words)
        if len(self.words) > _MOST_WORDS:
            self.is_stale = True

    def numbers_of(self, text: str) -> list[int]:
        """The numbers of the tokens of a text. Raises DataError for one that is not valid
        Unicode."""
        found = self.words.get(text)  # a single word as it is in a text is its only token
        if found is None:
            found = self.of_short(text)
        if found is None:
            with of_queries():
                numbers, _ = self.of(Texts.from_strings([text]))
            found = numbers.tolist()
        return found

    def tokens_of(self, text: str) -> list[int] | None:
        """The numbers of the tokens of a text, -1 for each word that the analyzer removes; None
        where terms are n-grams. Raises DataError for a text that is not valid Unicode."""
        found = self._tokens_of_ascii(text)
        if found is None and not self._collection.analyzer.has_ngrams:
            with of_queries(), self._lock:
                if self._gapped is None:
                    self._gapped = Lexicon(self._collection.analyzer, gaps=True)
                tokens = self._encode(
                    self._gapped, self._gapped_numbers, Texts.from_strings([text])
                )
                numbers = self._gapped_numbers.values
            found = [int(numbers[id]) if id >= 0 else -1 for id in tokens.values.tolist()]
        return found

    def _tokens_of_ascii(self, text: str) -> list[int] | None:
        """`of_short`, in ASCII, with -1 for each word that the analyzer removes."""
        if self._split is None or len(text) >= 1000 or not text.isascii():
            return None
        found: list[int] = []
        for word in self._split(text.lower() if self._lowercase else text):
            numbers = self.words.get(word)
            if numbers is None:
                numbers = self.of_short(word)
                assert numbers is not None
            if len(numbers) > 1:
                return None
            found += numbers or [-1]
        return found

    def of(self, texts: Texts) -> tuple[Int32, Int64]:
        """(numbers, offsets) of the tokens of texts."""
        if not self._cached:
            terms, tokens = encoded(self._collection.analyzer, texts)
            return self.add(terms)[tokens.values], tokens.offsets
        with self._lock:
            tokens = self._encode(self._lexicon, self._numbers, texts)
            return self._numbers.values[tokens.values], tokens.offsets

    def _encode(self, lexicon: Lexicon, numbers: Column, texts: Texts) -> Tokens:
        """The tokens of texts, whose terms are added; `numbers` are those of the lexicon's ids."""
        tokens = lexicon.encode(texts)
        first = numbers.size
        if len(lexicon) > first:
            terms = lexicon.terms()
            numbers.append(self._add(Texts(terms.data, terms.offsets[first:])))
        return tokens

    def add(self, terms: Texts) -> Int32:
        """int32[n]: the numbers of terms as in the index."""
        with self._lock:
            return self._add(terms)

    def _add(self, terms: Texts) -> Int32:
        start, stop = int(terms.offsets[0]), int(terms.offsets[-1])
        data = np.zeros(stop - start + PADDING, np.uint8)
        data[: stop - start] = terms.data[start:stop]
        numbers = self._terms.register(data, terms.offsets - start, 0)
        if len(self._terms) > self._df.size:
            self.is_stale = True  # until nothing more can fail
            every = Texts(*self._terms.texts())
            new = Texts(every.data, every.offsets[self._df.size :])
            leaves = self._collection.leaves
            found = [leaf.segment.lookup(new) for leaf in leaves]
            df = np.zeros(len(new), np.int64)
            for leaf, ids in zip(leaves, found, strict=True):
                df += leaf.counts_of(ids)
            if self._splitter is not None and new.nbytes and int(new.data.max()) > 127:
                words = new.to_strings()
                lone = lone_characters(self._splitter, words)
                for i in np.flatnonzero(lone).tolist():
                    group = character_group(self._collection, words[i])
                    self.groups[self._df.size + i] = group
                    df[i] = group.df
            # nothing is added before the last error that a damaged file may raise
            size = self._df.size + len(df)
            if size > self._ids.shape[1]:
                grown = np.empty((len(leaves), 2 * size), np.int32)
                grown[:, : self._df.size] = self._ids[:, : self._df.size]
                self._ids = grown
            for row, ids in zip(self._ids, found, strict=True):
                row[self._df.size : size] = ids
            self._df.append(df)
            self.size = size
            self.is_stale = len(self.words) > _MOST_WORDS
        return numbers

    def in_order_of_bytes(self, numbers: Sequence[int]) -> list[int]:
        """The places of terms, by the bytes of these."""
        arena, ends, gap = self._terms.arena, self._terms.offsets, self._terms.gap
        texts = [arena[ends[number] : ends[number + 1] - gap].tobytes() for number in numbers]
        return sorted(range(len(texts)), key=texts.__getitem__)

    def counted(self, numbers: Int32, offsets: Int64) -> QueryTerms:
        """The distinct terms of queries given by their tokens, with their occurrences."""
        n, terms = len(numbers), self._terms
        starts = np.empty(len(offsets), np.int64)
        found, counts = np.empty(n, np.int32), np.empty(n, np.float32)
        impact_kernels.count_terms(
            starts, found, counts, np.empty(n, np.uint64), np.zeros(self._df.size, np.int32),
            numbers, offsets, self.df, terms.arena, terms.offsets, terms.gap,
        )  # fmt: skip
        found, counts = found[: starts[-1]], counts[: starts[-1]]
        base = np.zeros(len(offsets) - 1, np.float32)
        return QueryTerms(starts, found, self.df[found], counts, base)
