"""Search of a collection: from queries to the rows and scores of their best documents.

Query expansion is a function of the caller, from queries to words with weights, such as
`vectors.expansion.Expander`, which takes the nearest word vectors.
"""

from __future__ import annotations

import itertools
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.devices import check_device
from fastseq.errors import DataError, FastseqWarning, InvalidTextError, RowError, SettingsError
from fastseq.index.collection import Collection
from fastseq.kernels.search import impacts as impact_kernels
from fastseq.kernels.search import search as kernels
from fastseq.kernels.search.postings import Postings, read_terms
from fastseq.kernels.search.segments import LIST_COLUMNS, fill_lists, segment_table
from fastseq.kernels.text.hashing import PADDING
from fastseq.search.filtering import allowed_rows
from fastseq.search.groups import (
    TermGroup,
    character_group,
    gathered,
    has_character_groups,
    lone_characters,
)
from fastseq.search.ranking import (
    LARGEST_WEIGHT,
    FormulaModel,
    QueryTerms,
    QuotientModel,
    RankingModel,
    Statistics,
)
from fastseq.settings import thread_count, whole
from fastseq.text.lexicon import Lexicon
from fastseq.text.normalising import DOTLESS, FIRST, normalised
from fastseq.text.splitting import WordSplitter, splitter_of, stop_words
from fastseq.text.tables import ByteTable, Column
from fastseq.types import Float32, Float64, Int32, Int64, Texts, Tokens, UInt8, offsets_of

if TYPE_CHECKING:
    from fastseq.search.cuda import GpuSearch
    from fastseq.text.analyzer import Analyzer

Query = str | Mapping[str, float]
# queries -> for each of them further words with weights; a word of the query itself has weight 1
Expand = Callable[[Sequence[str]], Sequence[Mapping[str, float]]]

MOST_HITS = 1 << 30  # rows × queries of one call
_BLOCK = 1024  # queries analysed at a time: on one thread, since it is mostly Python
_TASK = 16  # queries that a thread takes at a time
_GROUPED = 64  # queries with groups whose terms are gathered at a time
_CACHED_MODELS = 8
_CACHED_FILTERS = 16  # a byte for each row
_CACHED_IMPACTS = 1 << 28  # postings of one model with cached impacts: 1 GB
_CACHED_SCRATCH = 16
_CACHED_WORDS = 1 << 13  # their lists: 64 bytes at most for each segment and cached model
_DECODED = 1 << 20  # postings whose frequencies are decoded at a time

_EVERY_ROW: UInt8 = np.empty(0, np.uint8)

# the tokens of ASCII text, by tokenizer
_ASCII_WORDS = {
    "word": re.compile(r"[A-Za-z0-9_]{2,}").findall,
    "unicode": re.compile(
        r"(?:[A-Za-z0-9_]|(?<=[A-Za-z])'(?=[A-Za-z])|(?<=[0-9])[.,;'](?=[0-9]))+"
    ).findall,
}


class _Sources(NamedTuple):
    """What is searched.

    table  of the segments, for the kernel
    lists  int64[N, S, LIST_COLUMNS]: of terms in the segments
    rows   int32[n]: the rows of the queries' terms
    kept   the arrays that the table has the addresses of
    """

    table: Int64
    lists: Int64
    rows: Int32
    kept: Any


class ModelScorer:
    """A ranking model for a collection, with a cache of the impacts computed so far."""

    def __init__(self, collection: Collection, model: RankingModel) -> None:
        self._collection, self._model = collection, model
        self._lock = threading.Lock()
        self._weightings: dict[int, impact_kernels.Weighting] = {}
        self._clear()

    @property
    def has_positive_parts(self) -> bool:
        """Whether all parts of the model are positive, as a GPU needs them."""
        return isinstance(self._model, QuotientModel)

    def _clear(self) -> None:
        leaves = self._collection.leaves
        self._filled = 0
        self._impacts = impact_kernels.make_impacts([leaf.segment.postings for leaf in leaves])
        self._segments = segment_table([
            (leaf.segment.postings, impacts, leaf.first_row, leaf.segment.documents)
            for leaf, impacts in zip(leaves, self._impacts, strict=True)
        ])  # fmt: skip
        # terms of the latest table whose impacts are computed, and their lists
        self._table: TermTable | None = None
        self._done = np.zeros(0, bool)
        self._lists = _empty_lists(0, len(leaves))

    def sources(self, table: TermTable, terms: Int32) -> _Sources:
        """All segments, with the impacts of some terms of a table. Raises FormatError where their
        postings are damaged."""
        with self._lock:
            if self._filled > _CACHED_IMPACTS:
                self._clear()  # searches in progress keep the old arrays
            if self._table is not table or len(self._done) < len(table):
                done = np.zeros(2 * len(table), bool)
                lists = _empty_lists(len(done), len(self._segments))
                if self._table is table:
                    done[: len(self._done)] = self._done
                    lists[: len(self._done)] = self._lists
                self._table, self._done, self._lists = table, done, lists
            if not self._done[terms].all():
                new = np.unique(terms[~self._done[terms]])
                statistics = self._statistics(table, new)
                for number, own in enumerate(table.ids(new)):
                    impacts = self._fill(number, own, statistics)
                    if (own >= 0).any():
                        postings = self._collection.leaves[number].segment.postings
                        fill_lists(self._lists, number, new, postings, impacts.best, own)
                self._done[new] = True
            return _Sources(self._segments, self._lists, terms, self._impacts)

    def impacts(self, number: int, terms: Int32) -> impact_kernels.Impacts:
        """Impacts of a segment in which those of its `terms` are computed; of a QuotientModel.
        Raises FormatError where their postings are damaged."""
        with self._lock:
            return self._fill(number, terms, None)

    def list_parts(
        self, number: int, rows: Int32, tfs: Float64, statistics: Statistics
    ) -> Float32:  # fmt: skip
        """`RankingModel.list_parts` of documents of a segment."""
        weighting = self._weighting(number) if isinstance(self._model, QuotientModel) else None
        leaf = self._collection.leaves[number]
        return self._model.list_parts(self._collection, leaf, rows, tfs, statistics, weighting)

    def _statistics(self, table: TermTable, terms: Int32) -> Statistics | None:
        """The statistics of some terms of a table, where the parts depend on them."""
        if not isinstance(self._model, FormulaModel):
            return None
        return Statistics.of(self._collection, table.df[terms], table.cf(terms))

    def _fill(
        self, number: int, terms: Int32, statistics: Statistics | None
    ) -> impact_kernels.Impacts:  # fmt: skip
        impacts, segment = self._impacts[number], self._collection.leaves[number].segment
        places = np.flatnonzero(terms >= 0)
        places = places[np.isnan(impacts.best[terms[places]])]
        if len(places):
            new = terms[places]
            segment.verify_postings(new)
            some = None if statistics is None else statistics.take(places)
            self._filled += self._compute(number, impacts, segment.postings, new, some)
        return impacts

    def _compute(
        self, number: int, impacts: impact_kernels.Impacts, postings: Postings, terms: Int32,
        statistics: Statistics | None,
    ) -> int:  # fmt: skip
        """Compute the impacts of terms of postings of the documents of a segment; returns how many
        postings."""
        if isinstance(self._model, QuotientModel):
            weighting = self._weighting(number)
            if postings is not self._collection.leaves[number].segment.postings:
                weighting = self._model.weighting_of(weighting, postings.large_tf)
            return int(impact_kernels.fill_impacts(impacts, postings, weighting, terms))
        assert statistics is not None
        documents = self._collection.leaves[number].segment.documents
        counts = np.diff(postings.term_posting)[terms]
        ends = offsets_of(counts)
        first = 0
        while first < len(terms):
            last = int(np.searchsorted(ends, ends[first] + _DECODED, "right")) - 1
            last = max(last, first + 1)
            some, places = terms[first:last], np.repeat(np.arange(first, last), counts[first:last])
            rows, tfs = np.empty((2, len(places)), np.int32)
            read_terms(rows, tfs, postings, some, documents)
            own = statistics.take(places)
            parts = self.list_parts(number, rows, tfs.astype(np.float64), own)
            impact_kernels.place_parts(impacts, postings, some, parts)
            first = last
        return int(ends[-1])

    def gathered(self, table: TermTable, terms: Int32) -> _Sources:
        """Indexes of some terms of a table alone, which may stand for groups. Raises FormatError
        where their postings are damaged."""
        distinct, places = np.unique(terms, return_inverse=True)
        groups = [table.groups.get(term) for term in distinct.tolist()]
        numbers = np.arange(len(distinct), dtype=np.int32)
        kept = []
        lists = _empty_lists(len(distinct), len(self._collection.leaves))
        statistics = self._statistics(table, distinct)
        for number, own in enumerate(table.ids(distinct)):
            leaf = self._collection.leaves[number]
            segment = leaf.segment
            segment.verify_postings(own[own >= 0])
            merged = [None if group is None else group.postings[number] for group in groups]
            postings = gathered(segment.postings, own, merged)
            (impacts,) = impact_kernels.make_impacts([postings])
            self._compute(number, impacts, postings, numbers, statistics)
            fill_lists(lists, number, numbers, postings, impacts.best, numbers)
            kept.append((postings, impacts, leaf.first_row, segment.documents))
        return _Sources(segment_table(kept), lists, numbers[places], kept)

    def _weighting(self, number: int) -> impact_kernels.Weighting:
        if number not in self._weightings:  # several threads may compute the same
            assert isinstance(self._model, QuotientModel)
            leaf = self._collection.leaves[number]
            self._weightings[number] = self._model.document_weighting(self._collection, leaf)
        return self._weightings[number]


def _empty_lists(terms: int, segments: int) -> Int64:
    return np.zeros((terms, segments, LIST_COLUMNS), np.int64)


class TermTable:
    """The terms of recent queries, numbered: their ids in each segment and their document
    frequencies. Stemming and looking words up is most of the cost of analysing a query.

    Terms are only added, so numbers and arrays stay valid; a table that has grown too large is
    replaced by a new one.

    groups  by number, the term groups of single characters
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._lock = threading.Lock()
        analyzer = collection.analyzer
        # n-grams are numbered anew by each call, so they cannot be cached
        self._cached = analyzer.ngrams == (1, 1)
        self._words = None
        if self._cached and analyzer.min_length is None and analyzer.normalization not in DOTLESS:
            self._words = _ASCII_WORDS.get(str(analyzer.tokenizer))
        self._lowercase = analyzer.lowercase
        self._lexicon = Lexicon(analyzer)
        self._by_word: dict[str, list[int]] = {}
        self._numbers = Column(np.int32)  # by the lexicon's ids
        self._terms = ByteTable(64, 1 << 10, 0)
        self._df = Column(np.int64)
        self._cf = np.empty(0, np.int64)  # -1 for terms that are not counted yet
        self._splitter = splitter_of(analyzer) if has_character_groups(analyzer) else None
        self.groups: dict[int, TermGroup] = {}
        self._ids = np.empty((len(collection.leaves), 64), np.int32)

    def __len__(self) -> int:
        return len(self._terms)

    @property
    def is_incomplete(self) -> bool:
        """Whether a damaged file kept terms from being looked up, which is tried again with the
        next ones."""
        return len(self._terms) > self._df.size

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
            new = np.unique(terms[self._cf[terms] < 0])
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

    def of_ascii(self, query: str) -> list[int] | None:
        """The numbers of the tokens of one short ASCII query; None where `of` must be called.

        For a single query the kernel calls cost 40 µs, mostly for making arrays; in ASCII the word
        tokenizer is this regular expression, and a dict has the numbers of its words.
        """
        if self._words is None or len(query) >= 1000 or not query.isascii():
            return None
        by_word = self._by_word
        found: list[int] = []
        for word in self._words(query.lower() if self._lowercase else query):
            numbers = by_word.get(word)
            if numbers is None:
                numbers = self.of(Texts.from_strings([word]))[0].tolist()
                by_word[word] = numbers
            found += numbers
        return found

    def of(self, texts: Texts) -> tuple[Int32, Int64]:
        """(numbers, offsets) of the tokens of texts."""
        if not self._cached:
            terms, tokens = _encoded(self._collection.analyzer, texts)
            return self.add(terms)[tokens.values], tokens.offsets
        with self._lock:
            tokens = self._lexicon.encode(texts)
            first = self._numbers.size
            if len(self._lexicon) > first:
                terms = self._lexicon.terms()
                self._numbers.append(self._add(Texts(terms.data, terms.offsets[first:])))
            return self._numbers.values[tokens.values], tokens.offsets

    def add(self, terms: Texts) -> Int32:
        """int32[n]: the numbers of terms as in the index."""
        with self._lock:
            return self._add(terms)

    def _add(self, terms: Texts) -> Int32:
        start, stop = int(terms.offsets[0]), int(terms.offsets[-1])
        data = np.zeros(stop - start + PADDING, np.uint8)
        data[: stop - start] = terms.data[start:stop]
        numbers = self._terms.register(data, terms.offsets - start, 0)
        if self.is_incomplete:
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
        return numbers

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


class Searcher:
    """Searches a collection. Any number of threads may call it at once."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self._table = TermTable(collection)
        self._scratch: list[kernels.Scratch] = []
        self._gpu_lock = threading.Lock()
        # of the most recent models, as many as fit in the device's memory
        self._gpu: dict[ModelScorer, GpuSearch] = {}
        self._scorer = lru_cache(_CACHED_MODELS)(lambda model: ModelScorer(collection, model))
        self._filtered = lru_cache(_CACHED_FILTERS)(partial(allowed_rows, collection))

    def search(
        self, queries: Sequence[Query], k: int, model: RankingModel, threads: int | None,
        device: str = "cpu", filter: Any = None,
    ) -> tuple[Int32, Float32]:  # fmt: skip
        """rows int32[Q, k] and scores float32[Q, k] of each query's k best documents.

        Ordered by descending score, then ascending row; row -1 and score 0 past the last hit. The
        result does not depend on the number of threads or on the device.

        device : "cpu", or "cuda" for an NVIDIA GPU; `threads` are then for queries that run on the
            CPU: those with a weight of zero or less, and all where k is more than 4,096, there is
            a filter, the index has several segments or deleted documents, or the model is not
            BM25, TF-IDF or BoW
        filter : as of `allowed_rows`; None for all documents

        Raises SettingsError when k is below 1 or too large to hold, for a query or model of
        another type, for a weight that is not a number from -1e20 to 1e20, and for another device;
        what allowed_rows raises; DeviceError where there is no such GPU, or its memory is full;
        FormatError where the index is damaged.
        """
        k = whole("k", k, 1, below=1 << 128)
        if k * max(len(queries), 1) > MOST_HITS:
            raise SettingsError(f"k of {k} for {len(queries)} queries does not fit in memory")
        if not isinstance(model, RankingModel):
            raise SettingsError(f"model must be a ranking model such as BM25(), not {model!r}")
        check_device(device)
        threads = thread_count(threads)
        collection = self.collection
        n, depth = len(queries), min(k, collection.documents)
        rows, scores = np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32)
        scorer = self._scorer(model)
        allowed = self._allowed(filter)
        gpu = self._on_gpu(scorer, depth) if device == "cuda" and filter is None else None
        with ThreadPoolExecutor(threads, "fastseq-search") as pool:
            for first in range(0, n, _BLOCK):
                block = slice(first, first + _BLOCK)
                hits = rows[block], scores[block]
                table = self._current_table()
                terms = self._query_terms(table, queries[block])
                if not depth:
                    continue
                if model.uses_cf:
                    terms = replace(terms, cf=table.cf(terms.terms))
                terms = model.weigh(collection, terms)
                if gpu is None or table.has_group(terms.terms).any():
                    self._score(*hits, terms, table, scorer, allowed, pool, threads)
                    continue
                local = replace(terms, terms=table.ids(terms.terms)[0])
                if len(left := gpu.search(*hits, depth, local)):
                    some = hits[0][left], hits[1][left]
                    self._score(*some, terms.take(left), table, scorer, allowed, pool, threads)
                    hits[0][left], hits[1][left] = some
        return rows, scores

    def _allowed(self, filter: Any) -> UInt8:
        if filter is None:
            return _EVERY_ROW
        if isinstance(filter, str):
            return self._filtered(filter)
        return allowed_rows(self.collection, filter)

    def contains(self, terms: Texts) -> npt.NDArray[np.bool_]:
        """bool[n]: whether a document has each term."""
        table = self._current_table()
        numbers = table.add(terms)
        return table.df[numbers] > 0

    def _current_table(self) -> TermTable:
        if len(self._table) > _CACHED_WORDS or self._table.is_incomplete:
            self._table = TermTable(self.collection)
        return self._table

    def _on_gpu(self, scorer: ModelScorer, depth: int) -> GpuSearch | None:
        """The search on the device for a model; None where it must run on the CPU."""
        if not scorer.has_positive_parts:
            warnings.warn(
                "only BM25, TF-IDF and BoW are searched on a GPU: searched on the CPU",
                FastseqWarning,
                stacklevel=4,
            )
            return None
        from fastseq.search.cuda import MOST_HITS, GpuSearch, capacity

        leaves = self.collection.leaves
        if len(leaves) != 1 or leaves[0].live is not None:
            warnings.warn(
                "the index has several segments or deleted documents: searched on the CPU "
                "(compact makes it one segment)",
                FastseqWarning,
                stacklevel=4,
            )
            return None
        if depth > MOST_HITS:
            return None
        segment = leaves[0].segment
        with self._gpu_lock:
            if scorer not in self._gpu:
                all_fit = capacity(segment) == len(segment.postings.docs)
                if len(self._gpu) == _CACHED_MODELS or not all_fit:
                    self._gpu.clear()  # frees their memory before more is allocated
                self._gpu[scorer] = GpuSearch(segment, partial(scorer.impacts, 0))
            return self._gpu[scorer]

    def _score(
        self, rows: Int32, scores: Float32, queries: QueryTerms, table: TermTable,
        scorer: ModelScorer, allowed: UInt8, pool: ThreadPoolExecutor, threads: int,
    ) -> None:  # fmt: skip
        """Fill in the hits of queries, on all threads."""
        grouped = table.has_group(queries.terms)
        if grouped.any():
            has_group = np.zeros(len(queries), bool)
            has_group[queries.owners[grouped]] = True
            parts = [np.flatnonzero(~has_group)]
            those = np.flatnonzero(has_group)
            parts += [those[at : at + _GROUPED] for at in range(0, len(those), _GROUPED)]
            for part in parts:
                if len(part):
                    some, hits = queries.take(part), (rows[part], scores[part])
                    found = scorer.gathered if has_group[part[0]] else scorer.sources
                    self._run(*hits, some, found(table, some.terms), allowed, pool, threads)
                    rows[part], scores[part] = hits
            return
        sources = scorer.sources(table, queries.terms)
        self._run(rows, scores, queries, sources, allowed, pool, threads)

    def _run(
        self, rows: Int32, scores: Float32, queries: QueryTerms, sources: _Sources,
        allowed: UInt8, pool: ThreadPoolExecutor, threads: int,
    ) -> None:  # fmt: skip
        """Fill in the hits of queries, on all threads."""
        # the kernel leaves the columns from k on: a part of each row would be another type to Numba
        k = min(rows.shape[1], self.collection.documents)
        longest = int(np.diff(queries.starts).max())
        n = len(rows)
        step = n if threads == 1 else _TASK
        tasks = itertools.count(0, step)  # next() on it is atomic

        def work() -> None:
            scratch = self._take_scratch(k, longest)
            while (first := next(tasks)) < n:
                stop = min(first + step, n)
                kernels.search(
                    rows[first:stop], scores[first:stop], sources.table, sources.lists, scratch,
                    queries.starts[first : stop + 1], sources.rows, queries.weights,
                    queries.base[first:stop], allowed, k,
                )  # fmt: skip
            if len(self._scratch) < _CACHED_SCRATCH:
                self._scratch.append(scratch)

        others = [pool.submit(work) for _ in range(min(threads, -(-n // step)) - 1)]
        try:
            work()
            for other in others:
                other.result()
        except BaseException:
            tasks = itertools.count(n)  # an interrupt does not wait for the rest of the batch
            raise

    def _query_terms(self, table: TermTable, queries: Sequence[Query]) -> QueryTerms:
        """The distinct terms of the queries that are in the index, with their occurrences."""
        for query in queries:
            if not isinstance(query, str | Mapping):
                raise SettingsError(
                    f"a query must be a string or a mapping of terms to weights, not {query!r}"
                )
        if any(isinstance(query, Mapping) for query in queries):
            parts = [
                self._given(table, query)
                if isinstance(query, Mapping)
                else self._query_terms(table, [query])
                for query in queries
            ]
            return QueryTerms(
                offsets_of([len(part.terms) for part in parts]),
                np.concatenate([part.terms for part in parts]),
                np.concatenate([part.df for part in parts]),
                np.concatenate([part.weights for part in parts]),
                np.zeros(len(queries), np.float32),
            )
        with _of_queries():
            found = table.of_ascii(queries[0]) if len(queries) == 1 else None  # type: ignore[arg-type]
            if found is not None:
                numbers, offsets = np.array(found, np.int32), np.array([0, len(found)], np.int64)
            else:
                numbers, offsets = table.of(Texts.from_strings(queries))  # type: ignore[arg-type]
        return table.counted(numbers, offsets)

    def _given(self, table: TermTable, query: Mapping[str, float]) -> QueryTerms:
        """The terms of a query given as a mapping from terms, as in the index, to weights.

        Raises SettingsError unless the weights are finite numbers and the terms strings.
        """
        try:
            weights = np.array([float(weight) for weight in query.values()], np.float64)
        except (TypeError, ValueError, OverflowError):
            weights = np.array([np.nan])
        if not np.all(np.abs(weights) <= LARGEST_WEIGHT):
            raise SettingsError(
                "a query term's weight must be a finite number from "
                f"-{LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}"
            )
        if not all(isinstance(term, str) for term in query):
            raise SettingsError("a query's terms must be strings")
        numbers = table.add(Texts.from_strings(query))
        # counted gives the order of addition; each term occurs once
        found = table.counted(numbers, np.array([0, len(numbers)], np.int64))
        given = dict(zip(numbers.tolist(), weights.tolist(), strict=True))
        ordered = np.array([given[term] for term in found.terms.tolist()], np.float32)
        return replace(found, weights=ordered)

    def _take_scratch(self, k: int, terms: int) -> kernels.Scratch:
        """Scratch memory that is large enough, reused (list.pop and append are atomic)."""
        with suppress(IndexError):
            if kernels.fits(scratch := self._scratch.pop(), k, terms):
                return scratch
        return kernels.make_scratch(k, max(terms, 32))


@contextmanager
def _of_queries() -> Iterator[None]:
    """Errors of texts in the block name a query."""
    try:
        yield
    except InvalidTextError:
        raise DataError("a query is not valid UTF-8") from None
    except RowError as error:
        raise DataError(f"a query: {error.problem}") from None


def _encoded(analyzer: Analyzer, texts: Texts) -> tuple[Texts, Tokens]:
    """(terms, tokens) of texts in the analysis of the index."""
    lexicon = Lexicon(analyzer)
    tokens = lexicon.encode(texts)
    return lexicon.terms(), tokens


def analysed(collection: Collection, queries: Sequence[str]) -> tuple[list[str], Tokens]:
    """(terms, tokens) of queries in the analysis of the index. Raises DataError for one that is not
    valid Unicode."""
    with _of_queries():
        terms, tokens = _encoded(collection.analyzer, Texts.from_strings(queries))
    return terms.to_strings(), tokens


# ---- query expansion, and the words of a query that an index lacks


def expanded(queries: Sequence[Query], expand: Expand, searcher: Searcher) -> list[Query]:
    """The queries, with the words that `expand` returns for those that are strings.

    The words are analysed; terms of the query itself and terms that the index lacks are dropped. A
    word of several terms divides its weight among them; of several words with the same term the
    largest weight counts. The result is a mapping from terms to weights; a query without added
    terms is unchanged.

    Raises SettingsError where `expand` returns something else, DataError for a query that is not
    valid Unicode.
    """
    asked = [query for query in queries if isinstance(query, str)]
    answers = _checked(expand(asked), len(asked)) if asked else []
    texts = [t for query, words in zip(asked, answers, strict=True) for t in (query, *words)]
    with _of_queries():
        terms, tokens = _encoded(searcher.collection.analyzer, Texts.from_strings(texts))
    known = searcher.contains(terms).tolist()
    names, ids = terms.to_strings(), tokens.values.tolist()
    # the terms of each query, then those of each of its added words
    rows = iter([ids[a:b] for a, b in pairwise(tokens.offsets.tolist())])
    answer = iter(answers)
    found: list[Query] = []
    for query in queries:
        if not isinstance(query, str):
            found.append(query)
            continue
        own, added = Counter(next(rows)), dict[int, float]()
        for weight in next(answer).values():
            row = next(rows)
            for term in row:
                if term not in own and known[term]:
                    added[term] = max(added.get(term, -inf), weight / len(row))
        weights = {names[term]: float(weight) for term, weight in {**own, **added}.items()}
        found.append(weights if added else query)
    return found


def _checked(given: Iterable[Mapping[str, float]], queries: int) -> list[dict[str, float]]:
    if not isinstance(given, Iterable):
        raise SettingsError(
            f"expand returned {given!r:.80}; expected a list of mappings from words to weights"
        )
    answers = list(given)
    if len(answers) != queries:
        raise SettingsError(f"expand returned {len(answers)} mappings for {queries} queries")
    for words in answers:
        if not isinstance(words, Mapping) or not all(
            isinstance(word, str) and isinstance(weight, int | float) and isfinite(weight)
            for word, weight in words.items()
        ):
            raise SettingsError(
                f"expand returned {words!r:.80}; expected a mapping from words to finite weights"
            )
    return [dict(words) for words in answers]


def are_known(searcher: Searcher, words: Sequence[str]) -> list[bool | None]:
    """For each word whether a document contains it; None for one that the analyzer removes."""
    terms, tokens = _encoded(searcher.collection.analyzer, Texts.from_strings(words))
    found = searcher.contains(terms)[tokens.values]
    parts = np.split(found, tokens.offsets[1:-1]) if len(words) else []
    return [bool(part.any()) if len(part) else None for part in parts]


def raw_words(collection: Collection, query: str) -> list[str]:
    """The distinct words of a query before any is removed and stems are taken, short ones too; a
    run of a script without spaces is one word, though the index may have bigrams."""
    return _raw_words(collection, [query])[0]


def _raw_words(collection: Collection, queries: Sequence[str]) -> tuple[list[str], Tokens]:
    """The distinct words of queries, as `raw_words`, and their numbers in each query."""
    analyzer, texts = collection.analyzer, Texts.from_strings(queries)
    if analyzer.tokenizer == "unicode" and not analyzer.segments:
        runs = WordSplitter(analyzer).whole_runs(texts)
        return Texts(*runs.table.texts()).to_strings(), Tokens(runs.ids, runs.ends)
    plain = replace(
        analyzer, stopwords="none", stemmer="none", normalization="none", ngrams=(1, 1),
        char_ngrams=None, min_length=1, max_length=None,
        cjk="none" if analyzer.cjk == "bigrams" else analyzer.cjk,
    )  # fmt: skip
    lexicon = Lexicon(plain)
    tokens = lexicon.encode(texts)
    return lexicon.terms().to_strings(), tokens


def removed_words(collection: Collection, query: str) -> list[tuple[str, str]]:
    """(word, reason) of each word of a query that the analyzer of the index removes."""
    words = raw_words(collection, query)
    reasons = _reasons(collection.analyzer, words)
    return [(word, why) for word, why in zip(words, reasons, strict=True) if why is not None]


class Removed(NamedTuple):
    """What the analyzer removes from queries.

    words  of each reason, "stop word", "too short" or "too long", the number of words removed
    empty  the numbers of the queries without any other word
    """

    words: Counter[str]
    empty: list[int]


def count_removed(collection: Collection, queries: Sequence[str]) -> Removed:
    """The words of queries that the analyzer of the index removes; a repeated word counts each
    time."""
    removed = Removed(Counter(), [])
    for first in range(0, len(queries), _BLOCK):
        words, tokens = _raw_words(collection, queries[first : first + _BLOCK])
        reasons = _reasons(collection.analyzer, words)
        counts = np.bincount(tokens.values, minlength=len(words)).tolist()
        for why, count in zip(reasons, counts, strict=True):
            if why is not None:
                removed.words[why] += count
        kept = np.array([why is None for why in reasons], bool)[tokens.values]
        left = np.diff(offsets_of(kept)[tokens.offsets])
        removed.empty.extend((first + np.flatnonzero(left == 0)).tolist())
    return removed


def _reasons(analyzer: Analyzer, words: list[str]) -> list[str | None]:
    """Of each word the reason for which it is removed; None for one that is not."""
    splitter, stopped = splitter_of(analyzer), stop_words(analyzer)
    forms = normalised(FIRST, analyzer.normalization, words)
    shortest, longest = analyzer.min_length or splitter.shortest, analyzer.max_length or inf
    reasons: list[str | None] = []
    for form, script in zip(forms, splitter.scripts(words).tolist(), strict=True):
        if form in stopped:
            reasons.append("stop word")
        elif not script and not shortest <= len(form) <= longest:
            reasons.append("too short" if len(form) < shortest else "too long")
        else:
            reasons.append(None)
    return reasons
