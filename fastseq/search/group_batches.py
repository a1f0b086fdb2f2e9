"""Prefixes, wildcards, regular expressions and fuzzy words in the text of an index, searched in a
batch by one kernel, each as one term.

Where they are parts of other queries they are evaluated clause by clause (evaluation.py); the
scores are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from fastseq.index.collection import EVERY_ROW, Collection
from fastseq.kernels.search.cursors import key_capacity
from fastseq.kernels.search.group_search import (
    begin_groups,
    collect_groups,
    raise_least,
    sum_groups,
    sum_similar,
)
from fastseq.kernels.search.phrase_search import write_phrases
from fastseq.kernels.search.postings import WINDOW
from fastseq.search.ranking import ADDITIVE, BM25, QueryTerms, QuotientModel
from fastseq.search.scorer import ModelScorer
from fastseq.search.tasks import CACHED_SCRATCH, no_hits, run_tasks
from fastseq.types import Float32, Float64, Int32, Int64, UInt8, UInt32, UInt64, offsets_of

_TASK = 16  # queries that a thread takes at a time
_MOST_KEYS = 1 << 22  # candidates of the queries of a task together
_MOST_KEPT = 1 << 21  # postings of the groups that memory is kept for: 24 MB
_NO_TERMS: Int32 = np.empty(0, np.int32)
_NO_ORDER: UInt32 = np.empty(0, np.uint32)

# the terms of a group in each segment: (ids int32[m], factors of their frequencies float64[m], None
# where all are 1)
Group = Sequence[tuple[Int32, Float64 | None]]


class _Scratch(NamedTuple):
    """As the kernels take it, for groups of P postings and N terms."""

    sums: UInt8  # [WINDOW] zero
    similar: Float64  # [WINDOW] zero
    several: UInt64  # [documents / 64] zero
    found: Int32  # [P + 1]
    lists: Int64  # [7, N + 1]
    rows: Int32  # [P]
    parts: Float32  # [P]


class GroupSearch:
    """Searches a collection for groups of terms. Any number of threads may call it at once."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._scratch: list[_Scratch] = []

    def find(
        self, scorer: ModelScorer, groups: Sequence[Group], k: int, model: QuotientModel,
        threads: int, allowed: UInt8,
    ) -> tuple[Int32, Float32, list[int]]:  # fmt: skip
        """(rows, scores, the numbers of groups that must be evaluated clause by clause) of groups:
        of those with a weight of 0 or a score for absent words, and where terms of one occur
        MOST_SUM times in a document."""
        n, depth = len(groups), min(k, self._collection.documents)
        rows, scores = no_hits(n, k)
        left: list[int] = []
        numbers: dict[bool, list[int]] = {True: [], False: []}
        for number, group in enumerate(groups):
            numbers[_is_whole(group)].append(number)
        step = max(min(_TASK, _MOST_KEYS // key_capacity(depth)), 1)
        tasks = [
            part[at : at + step] for part in numbers.values() for at in range(0, len(part), step)
        ]

        def work(waiting: Iterator[list[int]]) -> None:
            for some in waiting:
                chosen = [groups[q] for q in some]
                hits = self.search(scorer, chosen, depth, model, allowed)
                rows[some, :depth], scores[some, :depth], refused = hits
                left.extend(some[q] for q in refused)

        with ThreadPoolExecutor(threads, "fastseq-search") as pool:
            run_tasks(work, tasks, threads, pool)
        return rows, scores, sorted(left)

    def search(
        self, scorer: ModelScorer, groups: Sequence[Group], k: int, model: QuotientModel,
        allowed: UInt8,
    ) -> tuple[Int32, Float32, list[int]]:  # fmt: skip
        """As `find`, of a few groups, with factors for all or for none; k, at most the documents of
        the collection."""
        collection, n, is_whole = self._collection, len(groups), _is_whole(groups[0])
        lists, sizes = [], []
        least = np.zeros(n, np.float32)  # a part that k hits reach
        for s, leaf in enumerate(collection.leaves):
            ids = [group[s][0] for group in groups]
            if n == 1:
                terms, starts = ids[0], np.array([0, len(ids[0])])
            else:
                terms, starts = np.concatenate(ids), offsets_of([len(own) for own in ids])
            if is_whole:
                searched = scorer.searched(s, terms)
                size = raise_least(least, *searched, terms, starts, k)
            else:
                leaf.segment.verify_postings(terms)
                searched = scorer.searched(s, _NO_TERMS)
                size = leaf.segment.df[terms].sum()
            lists.append((terms, starts, searched))
            sizes.append(int(size))
        if len(allowed):
            least[:] = 0  # a filter may leave out the best documents of a term
        df = np.zeros(n, np.int64)
        overflow = False
        several = []
        for s, (leaf, (terms, starts, _)) in enumerate(zip(collection.leaves, lists, strict=True)):
            segment = leaf.segment
            live = EVERY_ROW if leaf.live is None else leaf.live
            weighting = scorer.weighting(s)
            assert weighting is not None
            ends = np.empty(n, np.int64)
            scratch = self._take_scratch(sizes[s], len(terms))
            if is_whole:
                overflow |= sum_groups(
                    scratch.rows, scratch.parts, ends, df, scratch.sums, scratch.found,
                    scratch.lists, segment.postings, terms, starts, least, weighting.slope,
                    weighting.factor, scorer.least_factor(s), scorer.sum_values, live,
                    segment.windows, segment.documents,
                )  # fmt: skip
                rows, parts = scratch.rows[: ends[-1]].copy(), scratch.parts[: ends[-1]].copy()
            else:
                factors = np.concatenate([
                    np.ones(len(own)) if given is None else given
                    for own, given in (group[s] for group in groups)
                ])  # fmt: skip
                totals = np.empty(sizes[s], np.float64)
                sum_similar(
                    scratch.rows, totals, ends, df, scratch.similar, scratch.found, scratch.lists,
                    segment.postings, terms, factors, starts, live, segment.windows,
                    segment.documents,
                )  # fmt: skip
                rows = scratch.rows[: ends[-1]].copy()
                value = model.values(totals[: ends[-1]]).astype(np.float32)
                parts = value / (np.float32(weighting.slope) * value + weighting.factor[rows])
            self._give_back(scratch)
            several.append((rows, parts, ends))
        weights, base = _weights(collection, model, df)
        capacity = key_capacity(k)
        keys, spare = np.empty((n, capacity), np.uint64), np.empty(capacity, np.uint64)
        counts, best, refused = np.zeros(n, np.int64), np.empty(n, np.uint64), np.empty(n, np.uint8)
        begin_groups(best, refused, weights, base, least, overflow)
        scratch = self._take_scratch(0, 0)
        every = zip(collection.leaves, lists, several, strict=True)
        for leaf, (terms, starts, searched), (rows, parts, ends) in every:
            order = leaf.segment.search_order
            collect_groups(
                keys, counts, best, scratch.several, *searched,
                _NO_ORDER if order is None else order, terms,
                starts if is_whole else np.zeros(n + 1, np.int64), rows, parts, ends, weights,
                allowed, leaf.first_row, k,
            )  # fmt: skip
        self._give_back(scratch)
        hit_rows, scores = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
        write_phrases(hit_rows, scores, keys, counts, spare, k)
        return hit_rows, scores, [q for q, one in enumerate(refused.tolist()) if one]

    def _take_scratch(self, postings: int, terms: int) -> _Scratch:
        """Scratch memory that is large enough, reused (list.pop and append are atomic)."""
        try:
            scratch = self._scratch.pop()
        except IndexError:
            windows = max(leaf.segment.windows for leaf in self._collection.leaves)
            scratch = _Scratch(
                np.zeros(WINDOW, np.uint8), np.zeros(WINDOW, np.float64),
                np.zeros(windows * WINDOW // 64, np.uint64), np.empty(1, np.int32),
                np.empty((7, 1), np.int64), np.empty(0, np.int32), np.empty(0, np.float32),
            )  # fmt: skip
        if len(scratch.rows) < postings:
            size = 2 * postings
            scratch = scratch._replace(
                found=np.empty(size + 1, np.int32), rows=np.empty(size, np.int32),
                parts=np.empty(size, np.float32),
            )  # fmt: skip
        if scratch.lists.shape[1] <= terms:
            scratch = scratch._replace(lists=np.empty((7, 2 * terms + 1), np.int64))
        return scratch

    def _give_back(self, scratch: _Scratch) -> None:
        if len(self._scratch) < CACHED_SCRATCH and len(scratch.rows) <= _MOST_KEPT:
            self._scratch.append(scratch)


def _is_whole(group: Group) -> bool:
    return all(factors is None for _, factors in group)


def _weights(
    collection: Collection, model: QuotientModel, df: Int64
) -> tuple[Float32, Float32]:
    """float32[n] and float32[n]: the weights of groups in df documents, and what is added to the
    score of every hit."""
    n = len(df)
    df = np.maximum(df, 1)
    ones, base = np.ones(n, np.float32), np.zeros(n, np.float32)
    queries = QueryTerms(np.arange(n + 1), np.arange(n, dtype=np.int32), df, ones, base)
    if n == 1 and isinstance(model, BM25) and model.variant in ADDITIVE:
        return np.array([model.weight_of_one(collection, queries)], np.float32), base
    weighed = model.weigh(collection, queries)
    return weighed.weights, weighed.base
