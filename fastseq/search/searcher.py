"""Search of one segment: from queries to the rows and scores of their best documents.

Query expansion is a function of the caller, from queries to words with weights, such as
`vectors.expansion.Expander`, which takes the nearest word vectors.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from math import inf, isfinite
from typing import TYPE_CHECKING

import numpy as np

from fastseq.devices import check_device
from fastseq.errors import DataError, SettingsError
from fastseq.index.segment import Segment
from fastseq.kernels.search import impacts as impact_kernels
from fastseq.kernels.search import search as kernels
from fastseq.search.ranking import QueryTerms, RankingModel
from fastseq.settings import thread_count, whole
from fastseq.text.lexicon import Lexicon
from fastseq.text.normalising import DOTLESS, FIRST, normalised
from fastseq.text.splitting import WordSplitter, splitter_of, stop_words
from fastseq.types import Float32, Int32, Int64, Texts, Tokens, offsets_of

if TYPE_CHECKING:
    from fastseq.search.cuda import GpuSearch

Query = str | Mapping[str, float]
# queries -> for each of them further words with weights; a word of the query itself has weight 1
Expand = Callable[[Sequence[str]], Sequence[Mapping[str, float]]]

MOST_HITS = 1 << 30  # rows × queries of one call
LARGEST_WEIGHT = 1e20  # of a query term: far more would not fit a float32 score
_BLOCK = 1024  # queries analysed at a time: on one thread, since it is mostly Python
_TASK = 16  # queries that a thread takes at a time
_CACHED_MODELS = 8
_CACHED_IMPACTS = 1 << 28  # postings of one model with cached impacts: 1 GB
_CACHED_SCRATCH = 16
_CACHED_WORDS = 1 << 13

# the tokens of ASCII text, by tokenizer
_ASCII_WORDS = {
    "word": re.compile(r"[A-Za-z0-9_]{2,}").findall,
    "unicode": re.compile(
        r"(?:[A-Za-z0-9_]|(?<=[A-Za-z])'(?=[A-Za-z])|(?<=[0-9])[.,;'](?=[0-9]))+"
    ).findall,
}


class SegmentScorer:
    """A ranking model for one segment, with a cache of the impacts computed so far."""

    def __init__(self, segment: Segment, model: RankingModel) -> None:
        self._postings = segment.postings
        self._weighting = model.document_weighting(segment)
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._impacts = impact_kernels.make_impacts(self._postings)
        self._filled = 0

    def impacts(self, terms: Int32) -> impact_kernels.Impacts:
        """Impacts in which those of `terms` are computed."""
        with self._lock:
            if self._filled > _CACHED_IMPACTS:
                self._clear()  # searches in progress keep the old arrays
            self._filled += impact_kernels.fill_impacts(
                self._impacts, self._postings, self._weighting, terms
            )
            return self._impacts


class _TermIds:
    """Term ids of queries, with a cache by word: stemming and looking words up is most of the cost
    of analysing a query."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._lock = threading.Lock()
        # n-grams are numbered anew by each call, so they cannot be cached
        analyzer = segment.analyzer
        self._cached = analyzer.ngrams == (1, 1)
        self._words = None
        if self._cached and analyzer.min_length is None and analyzer.normalization not in DOTLESS:
            self._words = _ASCII_WORDS.get(str(analyzer.tokenizer))
        self._lowercase = analyzer.lowercase
        self._clear()

    def _clear(self) -> None:
        self._lexicon = Lexicon(self._segment.analyzer)
        self._ids: Int32 = np.empty(0, np.int32)
        self._by_word: dict[str, list[int]] = {}

    def of_ascii(self, query: str) -> list[int] | None:
        """The ids of the tokens of one short ASCII query; None where `of` must be called.

        For a single query the kernel calls cost 40 µs, mostly for making arrays; in ASCII the word
        tokenizer is this regular expression, and a dict has the ids of its words.
        """
        if self._words is None or len(query) >= 1000 or not query.isascii():
            return None
        by_word = self._by_word
        found: list[int] = []
        for word in self._words(query.lower() if self._lowercase else query):
            ids = by_word.get(word)
            if ids is None:
                ids = self.of(Texts.from_strings([word]))[0].tolist()
                if len(by_word) < _CACHED_WORDS:
                    by_word[word] = ids
            found += ids
        return found

    def of(self, texts: Texts) -> tuple[Int32, Int64]:
        """(ids, offsets) of the tokens of texts; -1 for a term that the index lacks."""
        if not self._cached:
            terms, tokens = _encoded(self._segment, texts)
            return self._segment.lookup(terms)[tokens.values], tokens.offsets
        with self._lock:
            if len(self._lexicon) > _CACHED_WORDS:
                self._clear()
            tokens = self._lexicon.encode(texts)
            if len(self._lexicon) > len(self._ids):
                self._ids = self._segment.lookup(self._lexicon.terms())
            return self._ids[tokens.values], tokens.offsets


class Searcher:
    """Searches one segment. Any number of threads may call it at once."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._ids = _TermIds(segment)
        self._scratch: list[kernels.Scratch] = []
        self._gpu_lock = threading.Lock()
        # of the most recent models, as many as fit in the device's memory
        self._gpu: dict[SegmentScorer, GpuSearch] = {}
        self._scorer = lru_cache(_CACHED_MODELS)(lambda model: SegmentScorer(segment, model))

    def search(
        self, queries: Sequence[Query], k: int, model: RankingModel, threads: int | None,
        device: str = "cpu",
    ) -> tuple[Int32, Float32]:  # fmt: skip
        """rows int32[Q, k] and scores float32[Q, k] of each query's k best documents.

        Ordered by descending score, then ascending row; row -1 and score 0 past the last hit. The
        result does not depend on the number of threads or on the device.

        device : "cpu", or "cuda" for an NVIDIA GPU; `threads` are then for queries that run on the
            CPU: those with a weight of zero or less, and all where k is more than 4,096

        Raises SettingsError when k is below 1 or too large to hold, for a query or model of
        another type, for a weight that is not a number from -1e20 to 1e20, and for another device;
        DeviceError where there is no such GPU, or its memory is full.
        """
        k = whole("k", k, 1, below=1 << 128)
        if k * max(len(queries), 1) > MOST_HITS:
            raise SettingsError(f"k of {k} for {len(queries)} queries does not fit in memory")
        if not isinstance(model, RankingModel):
            raise SettingsError(f"model must be a ranking model such as BM25(), not {model!r}")
        check_device(device)
        threads = thread_count(threads)
        n, depth = len(queries), min(k, self._segment.documents)
        rows, scores = np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32)
        scorer = self._scorer(model)
        gpu = self._on_gpu(scorer, depth) if device == "cuda" else None
        with ThreadPoolExecutor(threads, "fastseq-search") as pool:
            for first in range(0, n, _BLOCK):
                block = slice(first, first + _BLOCK)
                hits = rows[block], scores[block]
                terms = model.weigh(self._segment, self._query_terms(queries[block]))
                if gpu is None:
                    self._score(*hits, terms, scorer, pool, threads)
                elif len(left := gpu.search(*hits, depth, terms)):
                    some = hits[0][left], hits[1][left]
                    self._score(*some, terms.take(left), scorer, pool, threads)
                    hits[0][left], hits[1][left] = some
        return rows, scores

    def _on_gpu(self, scorer: SegmentScorer, depth: int) -> GpuSearch | None:
        """The search on the device for a model; None where it must run on the CPU."""
        from fastseq.search.cuda import MOST_HITS, GpuSearch, capacity

        if depth > MOST_HITS:
            return None
        with self._gpu_lock:
            if scorer not in self._gpu:
                all_fit = capacity(self._segment) == len(self._segment.postings.docs)
                if len(self._gpu) == _CACHED_MODELS or not all_fit:
                    self._gpu.clear()  # frees their memory before more is allocated
                self._gpu[scorer] = GpuSearch(self._segment, scorer.impacts)
            return self._gpu[scorer]

    def _score(
        self, rows: Int32, scores: Float32, queries: QueryTerms, scorer: SegmentScorer,
        pool: ThreadPoolExecutor, threads: int,
    ) -> None:  # fmt: skip
        """Fill in the hits of queries, on all threads."""
        impacts = scorer.impacts(queries.terms)
        # the kernel leaves the columns from k on: a part of each row would be another type to Numba
        k = min(rows.shape[1], self._segment.documents)
        longest = int(np.diff(queries.starts).max())
        n = len(rows)
        step = n if threads == 1 else _TASK
        tasks = itertools.count(0, step)  # next() on it is atomic

        def work() -> None:
            scratch = self._take_scratch(k, longest)
            while (first := next(tasks)) < n:
                last = min(first + step, n)
                kernels.search(
                    rows[first:last], scores[first:last], self._segment.postings, impacts, scratch,
                    queries.starts[first : last + 1], queries.terms, queries.weights,
                    queries.base[first:last], k, self._segment.documents,
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

    def _query_terms(self, queries: Sequence[Query]) -> QueryTerms:
        """The distinct terms of the queries that are in the index, with their occurrences."""
        for query in queries:
            if not isinstance(query, str | Mapping):
                raise SettingsError(
                    f"a query must be a string or a mapping of terms to weights, not {query!r}"
                )
        base = np.zeros(len(queries), np.float32)
        if any(isinstance(query, Mapping) for query in queries):
            parts = [
                self._given(query) if isinstance(query, Mapping) else self._query_terms([query])
                for query in queries
            ]
            return QueryTerms(
                offsets_of([len(part.terms) for part in parts]),
                np.concatenate([part.terms for part in parts]),
                np.concatenate([part.weights for part in parts]),
                base,
            )
        try:
            found = self._ids.of_ascii(queries[0]) if len(queries) == 1 else None  # type: ignore[arg-type]
            if found is not None:
                ids, offsets = np.array(found, np.int32), np.array([0, len(found)], np.int64)
            else:
                ids, offsets = self._ids.of(Texts.from_strings(queries))  # type: ignore[arg-type]
        except DataError:
            raise DataError("a query is not valid UTF-8") from None
        n = len(ids)
        starts = np.empty(len(queries) + 1, np.int64)
        terms, counts = np.empty(n, np.int32), np.empty(n, np.float32)
        keys, spare = np.empty(n, np.uint64), np.empty(n, np.uint64)
        impact_kernels.count_terms(starts, terms, counts, keys, spare, ids, offsets)
        return QueryTerms(starts, terms[: starts[-1]], counts[: starts[-1]], base)

    def _given(self, query: Mapping[str, float]) -> QueryTerms:
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
        ids = self._segment.lookup(Texts.from_strings(query))
        terms, given = ids[ids >= 0], weights[ids >= 0].astype(np.float32)
        return QueryTerms(offsets_of([len(terms)]), terms, given, np.zeros(1, np.float32))

    def _take_scratch(self, k: int, terms: int) -> kernels.Scratch:
        """Scratch memory that is large enough, reused (list.pop and append are atomic)."""
        with suppress(IndexError):
            if kernels.fits(scratch := self._scratch.pop(), k, terms):
                return scratch
        return kernels.make_scratch(k, max(terms, 32))


def _encoded(segment: Segment, texts: Texts) -> tuple[Texts, Tokens]:
    """(terms, tokens) of texts in the analysis of the index."""
    lexicon = Lexicon(segment.analyzer)
    tokens = lexicon.encode(texts)
    return lexicon.terms(), tokens


# ---- query expansion, and the words of a query that an index lacks


def expanded(queries: Sequence[Query], expand: Expand, segment: Segment) -> list[Query]:
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
    try:
        terms, tokens = _encoded(segment, Texts.from_strings(texts))
    except DataError:
        raise DataError("a query is not valid UTF-8") from None
    known = (segment.lookup(terms) >= 0).tolist()
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


def are_known(segment: Segment, words: Sequence[str]) -> list[bool | None]:
    """For each word whether a document contains it; None for one that the analyzer removes."""
    terms, tokens = _encoded(segment, Texts.from_strings(words))
    found = (segment.lookup(terms) >= 0)[tokens.values]
    parts = np.split(found, tokens.offsets[1:-1]) if len(words) else []
    return [bool(part.any()) if len(part) else None for part in parts]


def raw_words(segment: Segment, query: str) -> list[str]:
    """The distinct words of a query before any is removed and stems are taken, short ones too; a
    run of a script without spaces is one word, though the index may have bigrams."""
    analyzer, texts = segment.analyzer, Texts.from_strings([query])
    if analyzer.tokenizer == "unicode" and not analyzer.segments:
        return Texts(*WordSplitter(analyzer).whole_runs(texts).table.texts()).to_strings()
    plain = replace(
        analyzer, stopwords="none", stemmer="none", normalization="none", ngrams=(1, 1),
        char_ngrams=None, min_length=1, max_length=None,
        cjk="none" if analyzer.cjk == "bigrams" else analyzer.cjk,
    )  # fmt: skip
    lexicon = Lexicon(plain)
    lexicon.encode(texts)
    return lexicon.terms().to_strings()


def removed_words(segment: Segment, query: str) -> list[tuple[str, str]]:
    """(word, reason) of each word of a query that the analyzer of the index removes."""
    analyzer = segment.analyzer
    splitter, stopped = splitter_of(analyzer), stop_words(analyzer)
    words = raw_words(segment, query)
    forms = normalised(FIRST, analyzer.normalization, words)
    shortest, longest = analyzer.min_length or splitter.shortest, analyzer.max_length or inf
    removed = []
    for word, form, script in zip(words, forms, splitter.scripts(words).tolist(), strict=True):
        if form in stopped:
            removed.append((word, "stop word"))
        elif not script and not shortest <= len(form) <= longest:
            removed.append((word, "too short" if len(form) < shortest else "too long"))
    return removed
