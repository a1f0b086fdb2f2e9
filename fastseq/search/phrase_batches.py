"""Exact phrases in the text of an index, searched in a batch by one kernel.

Other phrases are evaluated clause by clause (evaluation.py); the scores are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastseq.kernels.search.cursors import key_capacity
from fastseq.kernels.search.phrase_search import (
    OFFSET,
    collect_phrases,
    make_memory,
    write_phrases,
)
from fastseq.query import Phrase, Query
from fastseq.search.ranking import QueryTerms, QuotientModel, Words
from fastseq.search.tasks import no_hits, run_tasks
from fastseq.types import Float32, Int32, UInt8, offsets_of

if TYPE_CHECKING:
    from fastseq.index.collection import Collection
    from fastseq.search.scorer import ModelScorer
    from fastseq.search.term_bits import TermBits
    from fastseq.search.term_table import TermTable

_TASK = 32  # queries that a thread takes at a time
_MOST_KEYS = 1 << 22  # candidates of the queries of a task together


class PhraseTerms(NamedTuple):
    """The words of a phrase, by their numbers in a table of terms, and their offsets from 0."""

    numbers: list[int]
    offsets: list[int]


def phrase_terms(
    query: Query, tokens: Callable[[str], list[int] | None], has_group: Callable[[int], bool]
) -> PhraseTerms | None:
    """The words of an exact phrase of several; None for another query.

    tokens     numbers of the words of a text, -1 for a removed one; None where terms are n-grams
    has_group  whether a term stands for several
    """
    if not isinstance(query, Phrase) or query.slop or query.field is not None:
        return None
    found = tokens(query.text)
    if found is None:
        return None
    words = [(i, number) for i, number in enumerate(found) if number >= 0]
    if len(words) < 2 or any(has_group(number) for _, number in words):
        return None
    first = words[0][0]
    return PhraseTerms([number for _, number in words], [i - first for i, _ in words])


def find_phrases(
    collection: Collection, table: TermTable, scorer: ModelScorer,
    phrases: Sequence[PhraseTerms], k: int, model: QuotientModel, threads: int, allowed: UInt8,
    bits: TermBits,
) -> tuple[Int32, Float32, list[int]]:  # fmt: skip
    """(rows, scores, the numbers of phrases that must be evaluated clause by clause, since they
    occur MOST_TF times in a document) of phrases. All segments must have positions.

    bits  of frequent terms, in the order of the rows
    """
    n, depth = len(phrases), min(k, collection.documents)
    rows, scores = no_hits(n, k)
    sizes = [len(phrase.numbers) for phrase in phrases]
    starts = offsets_of(sizes)
    numbers = np.array([number for phrase in phrases for number in phrase.numbers], np.int32)
    offsets = np.array([at for phrase in phrases for at in phrase.offsets], np.int64)
    df = table.df[numbers]
    terms = model.weigh(
        collection,
        QueryTerms(
            np.arange(n + 1), np.arange(n, dtype=np.int32), np.maximum(df[starts[:-1]], 1),
            np.ones(n, np.float32), np.zeros(n, np.float32), None,
            Words(starts, np.maximum(df, 1)),
        ),
    )  # fmt: skip
    sources = scorer.phrase_sources(table, numbers.tolist())
    lists = np.array(bits.phrase_lists(table, numbers.tolist()), np.int64)
    asked = [np.array([*own, offsets]) for own in lists.T.reshape(-1, OFFSET, len(lists))]
    overflow = np.zeros(n, np.uint8)
    longest, capacity = max(sizes), key_capacity(depth)
    step = max(min(_TASK, _MOST_KEYS // capacity), 1)

    def work(waiting: Iterator[int]) -> None:
        memory = make_memory(step, longest, depth)
        for first in waiting:
            stop = min(first + step, n)
            m = stop - first
            memory.begin()
            for source, own in zip(sources.arrays, asked, strict=True):
                collect_phrases(
                    memory.addresses, source, own, starts[first : stop + 1],
                    terms.weights[first:stop], terms.base[first:stop], allowed, depth,
                )  # fmt: skip
            overflow[first:stop] = memory.overflow[:m]
            write_phrases(
                rows[first:stop], scores[first:stop], memory.keys[:m], memory.counts[:m],
                memory.spare, depth,
            )  # fmt: skip

    with ThreadPoolExecutor(threads, "fastseq-search") as pool:
        run_tasks(work, range(0, n, step), threads, pool)
    return rows, scores, np.flatnonzero(overflow).tolist()
