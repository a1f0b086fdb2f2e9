"""Numbers of matching documents, without scores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastseq.index.collection import EVERY_ROW, Collection
from fastseq.kernels.search.counting import count_documents
from fastseq.kernels.search.phrase_counting import count_phrases
from fastseq.kernels.search.phrase_search import OFFSET
from fastseq.kernels.search.phrases import make_scratch
from fastseq.kernels.search.postings import WINDOW, WORDS
from fastseq.kernels.search.required import EXCLUDED, OPTIONAL, REQUIRED
from fastseq.search.filtering import PassingBits
from fastseq.search.flat import FlatQuery
from fastseq.search.phrase_batches import PhraseTerms
from fastseq.search.tasks import CACHED_SCRATCH
from fastseq.search.term_bits import TermBits
from fastseq.types import Int32, Int64, UInt8, UInt16, UInt64, offsets_of

if TYPE_CHECKING:
    from fastseq.search.term_table import TermTable

_MOST_WORDS = 64  # of a phrase whose scratch buffer is kept, and of a query that is counted alone
_STARTS = [np.array([0, n], np.int64) for n in range(_MOST_WORDS + 1)]
_ROLES = {role: np.full(_MOST_WORDS, role, np.uint8) for role in (OPTIONAL, REQUIRED)}


class _Scratch(NamedTuple):
    """As `count_documents` takes it."""

    work: UInt64
    candidates: UInt16
    lists: Int64


class _PhraseScratch(NamedTuple):
    """What `count_phrases` needs for phrases of up to so many words."""

    memory: Int64
    places: Int64  # [3, words]
    numbers: Int64  # [words + 1]


class Counter:
    """Counts the documents of a collection that match a query. Any number of threads may call it
    at once.

    bits : of frequent terms, in the order of rows
    """

    def __init__(self, collection: Collection) -> None:
        self._leaves = collection.leaves
        self._collection = collection
        self.bits = TermBits(collection, in_search_order=False)
        self._scratch: list[_Scratch] = []
        self._phrase_scratch: list[_PhraseScratch] = []

    @cached_property
    def searched_bits(self) -> TermBits:
        """The same in the order of search. Raises FormatError for a damaged one."""
        if all(leaf.segment.search_order is None for leaf in self._leaves):
            return self.bits
        return TermBits(self._collection, in_search_order=True)

    def count_flat(
        self, table: TermTable, queries: Sequence[FlatQuery], passing: Sequence[PassingBits]
    ) -> Int64:
        """int64[Q]: the documents that match each flat query of terms of a table."""
        terms: list[int] = []
        roles: list[int] = []
        sizes: list[int] = []
        for query in queries:
            own = dict.fromkeys(query.required or query.scored)
            excluded = dict.fromkeys(query.excluded)
            terms += [*own, *excluded]
            roles += [REQUIRED if query.required else OPTIONAL] * len(own)
            roles += [EXCLUDED] * len(excluded)
            sizes.append(len(own) + len(excluded))
        counts = np.zeros(len(queries), np.int64)
        if not terms:
            return counts
        numbers = np.array(terms, np.int32)
        ids, dense = table.ids(numbers), self.bits.addresses(table, numbers)
        starts = np.array([0, len(terms)]) if len(sizes) == 1 else offsets_of(sizes)
        self._count(counts, ids, dense, np.array(roles, np.uint8), starts, max(sizes), passing)
        return counts

    def count_one(self, table: TermTable, query: FlatQuery, passing: Sequence[PassingBits]) -> int:
        """`count_flat` of one query, in less than half of the time."""
        own = [*dict.fromkeys(query.required or query.scored)]
        excluded = [*dict.fromkeys(query.excluded)]
        n = len(own) + len(excluded)
        if not own or n > _MOST_WORDS:
            return int(self.count_flat(table, [query], passing)[0])
        roles = _ROLES[REQUIRED if query.required else OPTIONAL]
        if excluded:
            roles = np.array([*roles[: len(own)], *[EXCLUDED] * len(excluded)], np.uint8)
        numbers, counts = np.array([*own, *excluded], np.int32), np.zeros(1, np.int64)
        ids, dense = table.ids(numbers), self.bits.addresses(table, numbers)
        self._count(counts, ids, dense, roles, _STARTS[n], n, passing)
        return int(counts[0])

    def count_any(self, ids: Sequence[Int32], passing: Sequence[PassingBits]) -> int:
        """The documents with at least one of some terms, given by their ids in each segment."""
        counts = np.zeros(1, np.int64)
        size = max((len(own) for own in ids), default=0)
        every = np.full((len(ids), size), -1, np.int32)
        for row, own in zip(every, ids, strict=True):
            row[: len(own)] = own
        roles = np.full(size, OPTIONAL, np.uint8)
        dense = self.bits.addresses_of(every)
        self._count(counts, every, dense, roles, np.array([0, size]), size, passing)
        return int(counts[0])

    def _count(
        self, counts: Int64, ids: Int32, dense: Int64, roles: UInt8, starts: Int64, longest: int,
        passing: Sequence[PassingBits],
    ) -> None:  # fmt: skip
        """Add the documents of all segments; ids int32[S, n], dense int64[S, n], others as in
        `count_documents`."""
        try:
            scratch = self._scratch.pop()  # atomic, as append
        except IndexError:
            scratch = _make_scratch(longest)
        if scratch.lists.shape[1] < longest:
            scratch = _make_scratch(longest)
        for leaf, own, places, (bits, words) in zip(self._leaves, ids, dense, passing, strict=True):
            count_documents(
                counts, leaf.segment.postings, own, roles, places, starts, bits, words, *scratch
            )
        if len(self._scratch) < CACHED_SCRATCH:
            self._scratch.append(scratch)

    def count_phrases(
        self, table: TermTable, phrases: Sequence[PhraseTerms], allowed: UInt8
    ) -> Int64:
        """int64[Q]: the live documents with each phrase. All segments must have positions.

        allowed  uint8[rows], or uint8[0] for all
        """
        counts = np.zeros(len(phrases), np.int64)
        sizes = [len(phrase.numbers) for phrase in phrases]
        numbers = [number for phrase in phrases for number in phrase.numbers]
        offsets = np.array([at for phrase in phrases for at in phrase.offsets], np.int64)
        starts = np.array([0, sizes[0]]) if len(sizes) == 1 else offsets_of(sizes)
        longest = max(sizes)
        try:
            scratch = self._phrase_scratch.pop()  # atomic, as append
        except IndexError:
            scratch = _make_phrase_scratch(_MOST_WORDS)
        if longest > _MOST_WORDS:
            scratch = _make_phrase_scratch(longest)
        lists = np.array(self.bits.phrase_lists(table, numbers), np.int64)
        every = np.ascontiguousarray(lists.T).reshape(-1, OFFSET, len(numbers))
        for leaf, own in zip(self._leaves, every, strict=True):
            segment = leaf.segment
            positions = segment.unverified_positions
            assert positions is not None
            count_phrases(
                counts, segment.postings, *positions, own[0], own[1:], offsets, starts,
                EVERY_ROW if leaf.live is None else leaf.live, allowed, scratch.places,
                scratch.numbers, leaf.first_row, segment.documents, scratch.memory,
            )  # fmt: skip
        if len(self._phrase_scratch) < CACHED_SCRATCH and longest <= _MOST_WORDS:
            self._phrase_scratch.append(scratch)
        return counts


def _make_scratch(longest: int) -> _Scratch:
    return _Scratch(
        np.empty(WORDS, np.uint64), np.empty(WINDOW, np.uint16),
        np.empty((4, max(longest, 32)), np.int64),
    )  # fmt: skip


def _make_phrase_scratch(words: int) -> _PhraseScratch:
    return _PhraseScratch(
        make_scratch(words, words), np.empty((3, words), np.int64), np.arange(words + 1)
    )
