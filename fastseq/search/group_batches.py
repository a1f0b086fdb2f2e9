"""Prefixes, wildcards, regular expressions and fuzzy words in the text of an index, searched in a
batch by one kernel, each as one term.

Where they are parts of other queries they are evaluated clause by clause (evaluation.py); the
scores are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.kernels.search.group_search import (
    collect_groups,
    keys_of,
    raise_least,
    sum_groups,
)
from fastseq.kernels.search.phrase_search import write_phrases
from fastseq.kernels.search.postings import WINDOW
from fastseq.kernels.search.search import TINY, key_capacity
from fastseq.search.ranking import QueryTerms, QuotientModel
from fastseq.types import Float32, Float64, Int32, Int64, UInt8, UInt32, offsets_of

if TYPE_CHECKING:
    from fastseq.index.collection import Collection
    from fastseq.search.scorer import ModelScorer

_TASK = 16  # queries that a thread takes at a time
_MOST_KEYS = 1 << 22  # candidates of the queries of a task together
_NONE: UInt8 = np.empty(0, np.uint8)
_NO_ORDER: UInt32 = np.empty(0, np.uint32)

# the terms of a group in each segment: (ids int32[m], factors of their frequencies float64[m])
Group = Sequence[tuple[Int32, Float64]]


def find_groups(
    collection: Collection, scorer: ModelScorer, groups: Sequence[Group], k: int,
    model: QuotientModel, threads: int, allowed: UInt8,
) -> tuple[Int32, Float32, list[int]]:  # fmt: skip
    """(rows, scores, the numbers of groups that must be evaluated clause by clause) of groups: of
    those with a weight of 0 or a score for absent words, and where terms of one occur MOST_SUM
    times in a document."""
    n, depth = len(groups), min(k, collection.documents)
    rows, scores = np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32)
    left: list[int] = []
    whole = np.array([all((factors == 1).all() for _, factors in group) for group in groups])
    step = max(min(_TASK, _MOST_KEYS // key_capacity(depth)), 1)
    tasks = [
        (part[at : at + step], is_whole)
        for part, is_whole in ((np.flatnonzero(whole), True), (np.flatnonzero(~whole), False))
        for at in range(0, len(part), step)
    ]
    of_tasks = iter(tasks)  # next() on it is atomic

    def work() -> None:
        while (task := next(of_tasks, None)) is not None:
            some, is_whole = task
            chosen = [groups[q] for q in some.tolist()]
            found = _search(collection, scorer, chosen, depth, model, allowed, is_whole)
            rows[some, :depth], scores[some, :depth], refused = found
            left.extend(some[refused].tolist())

    with ThreadPoolExecutor(threads, "fastseq-search") as pool:
        others = [pool.submit(work) for _ in range(min(threads, len(tasks)) - 1)]
        work()
        for other in others:
            other.result()
    return rows, scores, sorted(left)


def _search(
    collection: Collection, scorer: ModelScorer, groups: Sequence[Group], k: int,
    model: QuotientModel, allowed: UInt8, is_whole: bool,
) -> tuple[Int32, Float32, Int64]:  # fmt: skip
    """As `find_groups`, of a task; its groups are all whole, or not."""
    n = len(groups)
    df = np.zeros(n, np.int64)
    segments = []
    overflow = False
    for s, leaf in enumerate(collection.leaves):
        ids = [group[s][0] for group in groups]
        starts, terms = offsets_of([len(own) for own in ids]), np.concatenate(ids)
        factors = None if is_whole else np.concatenate([group[s][1] for group in groups])
        segment = leaf.segment
        segment.verify_postings(terms)
        counts = offsets_of(segment.df[terms])
        longest = int(np.diff(counts[starts]).max())
        dtype: Any = np.uint16 if is_whole else np.float64
        rows = np.empty(int(counts[-1]), np.int32)
        totals = np.empty(len(rows), dtype)
        ends = np.empty(n, np.int64)
        overflow |= sum_groups(
            rows, totals, ends, df, np.zeros(WINDOW, dtype), np.empty(longest + 1, np.int32),
            np.empty((3, int(np.diff(starts).max())), np.int64), segment.postings, terms, factors,
            starts, _NONE if leaf.live is None else leaf.live, segment.windows, segment.documents,
        )  # fmt: skip
        m = int(ends[-1])
        segments.append((terms, starts, rows[:m], totals[:m].astype(np.float64), ends))
    weighed = model.weigh(
        collection,
        QueryTerms(
            np.arange(n + 1), np.arange(n, dtype=np.int32), np.maximum(df, 1),
            np.ones(n, np.float32), np.zeros(n, np.float32), None,
        ),
    )  # fmt: skip
    weights = weighed.weights
    refused = (weights <= TINY) | (weighed.base != 0) | overflow
    weights = np.where(refused, np.float32(1), weights)
    capacity = key_capacity(k)
    keys, spare = np.empty((n, capacity), np.uint64), np.empty(capacity, np.uint64)
    found = np.zeros(n, np.int64)
    searched = [
        scorer.searched(s, terms if is_whole else terms[:0])
        for s, (terms, *_) in enumerate(segments)
    ]
    least = np.full(n, TINY, np.float32)  # below the score of every hit
    if is_whole and not len(allowed):
        for (terms, starts, *_), (_, impacts) in zip(segments, searched, strict=True):
            raise_least(least, impacts, terms, starts, weights, k)
    best = np.empty(n, np.uint64)
    keys_of(best, least)
    every = zip(collection.leaves, segments, searched, strict=True)
    for s, (leaf, (terms, starts, rows, totals, ends), (postings, impacts)) in enumerate(every):
        weighting, order = scorer.weighting(s), leaf.segment.search_order
        assert weighting is not None
        value = model.values(totals).astype(np.float32)
        parts = value / (np.float32(weighting.slope) * value + weighting.factor[rows])
        collect_groups(
            keys, found, best, np.zeros(leaf.segment.windows * WINDOW // 64, np.uint64),
            postings, impacts, _NO_ORDER if order is None else order, terms,
            starts if is_whole else np.zeros(n + 1, np.int64), rows, parts, ends, weights,
            allowed, leaf.first_row, k,
        )  # fmt: skip
    hit_rows, scores = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    write_phrases(hit_rows, scores, keys, found, spare, k)
    return hit_rows, scores, np.flatnonzero(refused)
