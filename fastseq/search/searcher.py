"""From queries to the rows and scores of their best documents."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fastseq.devices import check_device
from fastseq.errors import DataError, SettingsError
from fastseq.index.segment import Segment
from fastseq.kernels.search import impacts as impact_kernels
from fastseq.kernels.search import queries as query_kernels
from fastseq.kernels.search import search as kernels
from fastseq.search.models import Model
from fastseq.settings import thread_count, whole
from fastseq.text.lexicon import Lexicon
from fastseq.types import Float32, Int32, Int64, Texts

if TYPE_CHECKING:
    from fastseq.search.cuda import GpuSearch

Query = str | Mapping[str, float]

MOST_HITS = 1 << 30  # rows × queries of one call
LARGEST_WEIGHT = 1e20  # of a query's term: far more would not fit a float32 score
_BLOCK = 1024  # queries analysed at a time: on one thread, since it is mostly Python
_TURN = 16  # queries that a thread takes at a time
_KEPT_RANKINGS = 8  # of models used lately
_KEPT_IMPACTS = 1 << 28  # postings of one model whose impacts are remembered: 1 GB
_KEPT_SCRATCH = 16
_KEPT_WORDS = 1 << 13

_ASCII_WORDS = re.compile(r"[A-Za-z0-9_]{2,}").findall


class Ranking:
    """A model made ready for one segment, with the impacts worked out so far."""

    def __init__(self, segment: Segment, model: Model) -> None:
        self._postings = segment.postings
        self._weighting = model.weighting(segment)
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._impacts = impact_kernels.make_impacts(self._postings)
        self._filled = 0

    def impacts(self, terms: Int32) -> impact_kernels.Impacts:
        """Impacts in which those of `terms` are worked out."""
        with self._lock:
            if self._filled > _KEPT_IMPACTS:
                self._forget()  # whoever searches with the old ones keeps them
            self._filled += impact_kernels.fill_impacts(
                self._impacts, self._postings, self._weighting, terms
            )
            return self._impacts


class _Words:
    """The terms of queries seen lately and their ids in the index: a word that comes again is
    neither stemmed nor looked up again, which is most of what analysing a query costs."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._lock = threading.Lock()
        # n-grams are numbered anew by each call, so there is nothing to remember
        analyzer = segment.analyzer
        self._keep = analyzer.ngrams == (1, 1)
        self._plain = self._keep and analyzer.tokenizer == "word" and analyzer.min_length is None
        self._lowercase = analyzer.lowercase
        self._forget()

    def _forget(self) -> None:
        self._lexicon = Lexicon(self._segment.analyzer)
        self._known: Int32 = np.empty(0, np.int32)
        self._by_word: dict[str, list[int]] = {}

    def ids_of(self, query: str) -> list[int] | None:
        """The ids of one short ASCII query's tokens, or None where `ids` must be asked.

        For a query alone the kernels' calls cost 40 µs, most of it in making arrays; in ASCII the
        word rule is this regular expression, and a dict knows what its words became.
        """
        if not (self._plain and len(query) < 1000 and query.isascii()):
            return None
        by_word = self._by_word
        found: list[int] = []
        for word in _ASCII_WORDS(query.lower() if self._lowercase else query):
            known = by_word.get(word)
            if known is None:
                known = self.ids(Texts.from_strings([word]))[0].tolist()
                if len(by_word) < _KEPT_WORDS:
                    by_word[word] = known
            found += known
        return found

    def ids(self, texts: Texts) -> tuple[Int32, Int64]:
        """(ids, offsets) of the texts' tokens; -1 for one that the index has not."""
        if not self._keep:
            lexicon = Lexicon(self._segment.analyzer)
            tokens = lexicon.encode(texts)
            return self._segment.lookup(lexicon.terms())[tokens.values], tokens.offsets
        with self._lock:
            if len(self._lexicon) > _KEPT_WORDS:
                self._forget()
            tokens = self._lexicon.encode(texts)
            if len(self._lexicon) > len(self._known):
                self._known = self._segment.lookup(self._lexicon.terms())
            return self._known[tokens.values], tokens.offsets


class Searcher:
    """Searches one segment. Any number of threads may call it at once."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._words = _Words(segment)
        self._scratch: list[kernels.Scratch] = []
        self._gpu_lock = threading.Lock()
        # of the models used last, as many as the device's memory holds whole
        self._gpu: dict[Ranking, GpuSearch] = {}
        self._ranking = lru_cache(_KEPT_RANKINGS)(lambda model: Ranking(segment, model))

    def search(
        self,
        queries: Sequence[Query],
        k: int,
        model: Model,
        threads: int | None,
        device: str = "cpu",
    ) -> tuple[Int32, Float32]:
        """rows int32[Q, k] and scores float32[Q, k] of each query's k best documents.

        Score descending, then row ascending; row -1 and score 0 past the last hit. The result
        does not depend on the number of threads, nor on the device.

        device : "cpu", or "cuda" for an NVIDIA GPU; `threads` then search for what is left to the
            CPU: queries with a weight of zero or less, and all where k is more than 4,096

        Raises SettingsError when k is below 1 or too large to hold, for a query that is none, for
        a term's weight that is not a number from -1e20 to 1e20, and for another device;
        DeviceError where there is no such GPU, or its memory is full.
        """
        k = whole("k", k, 1, below=1 << 128)
        if k * max(len(queries), 1) > MOST_HITS:
            raise SettingsError(f"k of {k} for {len(queries)} queries is more than memory holds")
        if not isinstance(model, Model):
            raise SettingsError(f"model must be a ranking model such as BM25(), not {model!r}")
        check_device(device)
        threads = thread_count(threads)
        n, depth = len(queries), min(k, self._segment.documents)
        rows = np.full((n, k), -1, np.int32) if depth < k else np.empty((n, k), np.int32)
        scores = np.zeros((n, k), np.float32) if depth < k else np.empty((n, k), np.float32)
        ranking = self._ranking(model)
        gpu = self._on_gpu(ranking, depth) if device == "cuda" else None
        with ThreadPoolExecutor(threads, "fastseq-search") as pool:
            for first in range(0, n, _BLOCK):
                some = slice(first, first + _BLOCK)
                self._search(
                    rows[some], scores[some], queries[some], model, ranking, gpu, pool, threads
                )
        return rows, scores

    def _search(
        self,
        rows: Int32,
        scores: Float32,
        queries: Sequence[Query],
        model: Model,
        ranking: Ranking,
        gpu: GpuSearch | None,
        pool: ThreadPoolExecutor,
        threads: int,
    ) -> None:
        """Fill in the hits of a block of queries: analysed here, searched on the GPU if one is
        given, and what it leaves on all threads."""
        starts, terms, counts = self._terms(queries)
        weights, base = model.weigh(self._segment, starts, terms, counts)
        if gpu is None:
            self._score(rows, scores, starts, terms, weights, base, ranking, pool, threads)
            return
        depth = min(rows.shape[1], self._segment.documents)
        left = gpu.search(rows, scores, depth, starts, terms, weights, base)
        if not len(left):
            return
        sizes = np.diff(starts)
        own = np.isin(np.repeat(np.arange(len(sizes)), sizes), left)
        ends = np.concatenate([[0], np.cumsum(sizes[left])])
        some_rows, some_scores = rows[left], scores[left]
        self._score(
            some_rows, some_scores, ends, terms[own], weights[own], base[left], ranking, pool,
            threads,
        )  # fmt: skip
        rows[left], scores[left] = some_rows, some_scores

    def _on_gpu(self, ranking: Ranking, depth: int) -> GpuSearch | None:
        """The search on the device for a model; None where the CPU must do it."""
        from fastseq.search.cuda import MOST_HITS, GpuSearch, has_room

        if depth > MOST_HITS:
            return None
        with self._gpu_lock:
            if ranking not in self._gpu:
                if len(self._gpu) == _KEPT_RANKINGS or not has_room(self._segment):
                    self._gpu.clear()  # their memory is given back before more is asked for
                self._gpu[ranking] = GpuSearch(self._segment, ranking.impacts)
            return self._gpu[ranking]

    def _score(
        self,
        rows: Int32,
        scores: Float32,
        starts: Int64,
        terms: Int32,
        weights: Float32,
        base: Float32,
        ranking: Ranking,
        pool: ThreadPoolExecutor,
        threads: int,
    ) -> None:
        """Fill in the hits of queries on all threads."""
        impacts = ranking.impacts(terms)
        # the columns past it stay as they are: a part of each row would be another type to Numba
        k = min(rows.shape[1], self._segment.documents)
        longest = int(np.diff(starts).max())
        n = len(rows)
        step = n if threads == 1 else _TURN
        turns = itertools.count(0, step)  # next() on it is atomic

        def work() -> None:
            scratch = self._take_scratch(k, longest)
            while (first := next(turns)) < n:
                last = min(first + step, n)
                kernels.search(
                    rows[first:last], scores[first:last], self._segment.postings, impacts, scratch,
                    starts[first : last + 1], terms, weights, base[first:last],
                    k, self._segment.documents,
                )  # fmt: skip
            if len(self._scratch) < _KEPT_SCRATCH:
                self._scratch.append(scratch)

        others = [pool.submit(work) for _ in range(min(threads, -(-n // step)) - 1)]
        try:
            work()
            for other in others:
                other.result()
        except BaseException:
            turns = itertools.count(n)  # an interrupt need not wait for the rest of the batch
            raise

    # ---- analysis

    def _terms(self, queries: Sequence[Query]) -> tuple[Int64, Int32, Float32]:
        """The distinct known terms of each query: starts int64[Q + 1], terms, counts."""
        for query in queries:
            if not isinstance(query, str | Mapping):
                raise SettingsError(
                    f"a query must be a string or a mapping of terms to weights, not {query!r}"
                )
        if any(isinstance(query, Mapping) for query in queries):
            return self._weighted_terms(queries)
        try:
            found = self._words.ids_of(queries[0]) if len(queries) == 1 else None  # type: ignore[arg-type]
            if found is not None:
                ids, offsets = np.array(found, np.int32), np.array([0, len(found)], np.int64)
            else:
                ids, offsets = self._words.ids(Texts.from_strings(queries))  # type: ignore[arg-type]
        except DataError:
            raise DataError("a query is not valid UTF-8") from None
        n = len(ids)
        starts = np.empty(len(queries) + 1, np.int64)
        terms, counts = np.empty(n, np.int32), np.empty(n, np.float32)
        keys, spare = np.empty(n, np.uint64), np.empty(n, np.uint64)
        query_kernels.count_terms(starts, terms, counts, keys, spare, ids, offsets)
        return starts, terms[: starts[-1]], counts[: starts[-1]]

    def _weighted_terms(self, queries: Sequence[Query]) -> tuple[Int64, Int32, Float32]:
        """The same where some queries are mappings of terms, spelt as in the index, to weights."""
        parts = []
        for query in queries:
            if isinstance(query, Mapping):
                weights = _checked_weights(query)
                ids = self._segment.lookup(Texts.from_strings(query))
                known = ids >= 0
                parts.append((ids[known], weights[known]))
            else:
                _, terms, counts = self._terms([query])
                parts.append((terms, counts))
        starts = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(ids) for ids, _ in parts], out=starts[1:])
        return (
            starts,
            np.concatenate([ids for ids, _ in parts]),
            np.concatenate([weights for _, weights in parts]),
        )

    def _take_scratch(self, k: int, terms: int) -> kernels.Scratch:
        """Scratch that fits, from those given back (list.pop and append are atomic)."""
        try:
            scratch = self._scratch.pop()
        except IndexError:
            return kernels.make_scratch(k, max(terms, 32))
        if kernels.fits(scratch, k, terms):
            return scratch
        return kernels.make_scratch(k, max(terms, 32))


def _checked_weights(query: Mapping[str, float]) -> Float32:
    """The weights of a query given as a mapping. Raises SettingsError unless these are finite
    numbers, and the terms strings."""
    try:
        weights = np.array([float(weight) for weight in query.values()], np.float64)
    except (TypeError, ValueError, OverflowError):
        weights = np.array([np.nan])
    if not np.all(np.abs(weights) <= LARGEST_WEIGHT):
        raise SettingsError(
            "a query term's weight must be a finite number, no further from 0 than "
            f"{LARGEST_WEIGHT:g}"
        )
    if not all(isinstance(term, str) for term in query):
        raise SettingsError("a query's terms must be strings")
    return weights.astype(np.float32)
