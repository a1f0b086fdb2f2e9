"""Numbers of matching documents, without scores."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastseq.index.collection import Collection, Leaf
from fastseq.kernels.search.counting import WORDS, count_documents, fill_dense
from fastseq.kernels.search.phrase_counting import count_phrases
from fastseq.kernels.search.phrases import make_scratch
from fastseq.kernels.search.postings import WINDOW
from fastseq.kernels.search.required import EXCLUDED, OPTIONAL, REQUIRED
from fastseq.search.flat import FlatQuery
from fastseq.search.phrase_batches import PhraseTerms
from fastseq.types import Int32, Int64, UInt8, UInt16, UInt64, offsets_of

if TYPE_CHECKING:
    from fastseq.search.term_table import TermTable

# A term that at least one in so many documents has is dense: its bits are eight times as large as
# its postings at most.
_DENSE = 128
_MOST_DENSE = 64 << 20  # bytes of bits of a segment
_CACHED_SCRATCH = 16
_ALL: UInt64 = np.empty(0, np.uint64)
_EVERY_ROW: UInt8 = np.empty(0, np.uint8)


class Passing(NamedTuple):
    """The documents of a segment that count.

    bits   uint64[windows · WORDS], or uint64[0] where all do
    words  int64[2]  the words, from the first to the last, exclusive, that have bits
    """

    bits: UInt64
    words: Int64


class _Scratch(NamedTuple):
    """As `count_documents` takes it."""

    work: UInt64
    candidates: UInt16
    lists: Int64


class DenseTerms:
    """The bits of the documents of frequent terms of a segment, as they are needed. Any number of
    threads may call it at once."""

    def __init__(self, leaf: Leaf) -> None:
        segment = leaf.segment
        self._segment = segment
        self._lock = threading.Lock()
        # (bits uint64[m, windows · WORDS], places int32[V]: the row of each term, -1 for one
        # without); neither is changed later, the bits are the first rows of `_rows`
        self._rows: UInt64 = np.zeros((0, segment.windows * WORDS), np.uint64)
        self.arrays: tuple[UInt64, Int32] = (
            np.zeros((0, segment.windows * WORDS), np.uint64),
            np.full(segment.terms, -1, np.int32),
        )

    def add(self, terms: Int32) -> None:
        """Add the bits of some terms, -1 for none, that are dense; as far as the memory allows."""
        known = np.unique(terms[terms >= 0])
        segment = self._segment
        known = known[segment.df[known] * _DENSE >= segment.documents]
        with self._lock:
            bits, places = self.arrays
            new = known[places[known] < 0]
            room = _MOST_DENSE // (8 * segment.windows * WORDS) - len(bits)
            new = new[: max(room, 0)]
            if len(new):
                size = len(bits) + len(new)
                if size > len(self._rows):
                    self._rows = np.zeros((2 * size, segment.windows * WORDS), np.uint64)
                    self._rows[: len(bits)] = bits
                places = places.copy()
                fill_dense(self._rows[len(bits) : size], segment.postings, new)
                places[new] = np.arange(len(bits), size, dtype=np.int32)
                self.arrays = self._rows[:size], places


class Counter:
    """Counts the documents of a collection that match a query. Any number of threads may call it
    at once."""

    def __init__(self, collection: Collection) -> None:
        self._leaves = collection.leaves
        self._dense = [DenseTerms(leaf) for leaf in collection.leaves]
        self.every = self.passing(_EVERY_ROW)
        self._scratch: list[_Scratch] = []
        # a table of terms, and those of it that are verified and have bits where they are dense
        self._ready: tuple[TermTable | None, set[int]] = None, set()

    def passing(self, allowed: UInt8) -> list[Passing]:
        """Of each segment the live documents that are allowed. allowed uint8[rows], or uint8[0] for
        all."""
        return [_passing(leaf, allowed) for leaf in self._leaves]

    def count_flat(
        self, table: TermTable, queries: Sequence[FlatQuery], passing: Sequence[Passing]
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
        known, ready = self._ready
        numbers = np.array(terms, np.int32)
        ids = table.ids(numbers)
        if known is not table or not ready.issuperset(terms):
            for leaf, own_ids, dense in zip(self._leaves, ids, self._dense, strict=True):
                leaf.segment.verify_postings(np.unique(own_ids[own_ids >= 0]))
                dense.add(own_ids)
            if known is not table:
                self._ready = table, set(terms)
            else:
                ready.update(terms)
        starts = np.array([0, len(terms)]) if len(sizes) == 1 else offsets_of(sizes)
        self._count(counts, ids, np.array(roles, np.uint8), starts, max(sizes), passing)
        return counts

    def count_any(self, ids: Sequence[Int32], passing: Sequence[Passing]) -> int:
        """The documents with at least one of some terms, given by their ids in each segment."""
        counts = np.zeros(1, np.int64)
        for number, own in enumerate(ids):
            self._leaves[number].segment.verify_postings(own)
            self._dense[number].add(own)
        sizes = max(len(own) for own in ids)
        every = np.full((len(ids), sizes), -1, np.int32)
        for row, own in zip(every, ids, strict=True):
            row[: len(own)] = own
        roles = np.full(sizes, OPTIONAL, np.uint8)
        self._count(counts, every, roles, np.array([0, sizes]), sizes, passing)
        return int(counts[0])

    def _count(
        self, counts: Int64, ids: Int32, roles: UInt8, starts: Int64, longest: int,
        passing: Sequence[Passing],
    ) -> None:  # fmt: skip
        """Add the documents of all segments; ids int32[S, n], others as in `count_documents`."""
        try:
            scratch = self._scratch.pop()  # atomic, as append
        except IndexError:
            scratch = _make_scratch(longest)
        if scratch.lists.shape[1] < longest:
            scratch = _make_scratch(longest)
        for leaf, own, dense, (bits, words) in zip(
            self._leaves, ids, self._dense, passing, strict=True
        ):
            count_documents(
                counts, leaf.segment.postings, own, roles, starts, *dense.arrays, bits, words,
                *scratch,
            )  # fmt: skip
        if len(self._scratch) < _CACHED_SCRATCH:
            self._scratch.append(scratch)

    def count_phrases(
        self, table: TermTable, phrases: Sequence[PhraseTerms], allowed: UInt8
    ) -> Int64:
        """int64[Q]: the live documents with each phrase. All segments must have positions.

        allowed  uint8[rows], or uint8[0] for all
        """
        counts = np.zeros(len(phrases), np.int64)
        sizes = [len(phrase.numbers) for phrase in phrases]
        numbers = np.array([number for phrase in phrases for number in phrase.numbers], np.int32)
        offsets = np.array([at for phrase in phrases for at in phrase.offsets], np.int64)
        longest = max(sizes)
        places, order = np.empty((3, longest), np.int64), np.arange(longest + 1)
        scratch, starts = make_scratch(longest, longest), offsets_of(sizes)
        for leaf, own in zip(self._leaves, table.ids(numbers), strict=True):
            segment = leaf.segment
            segment.verify_positions(np.array([id for id in {*own.tolist()} if id >= 0], np.int32))
            positions = segment.unverified_positions
            assert positions is not None
            count_phrases(
                counts, segment.postings, *positions, own, offsets, starts,
                _EVERY_ROW if leaf.live is None else leaf.live, allowed, places, order,
                leaf.first_row, segment.documents, scratch,
            )  # fmt: skip
        return counts


def _make_scratch(longest: int) -> _Scratch:
    return _Scratch(
        np.empty(WORDS, np.uint64), np.empty(WINDOW, np.uint16),
        np.empty((4, max(longest, 32)), np.int64),
    )  # fmt: skip


def _passing(leaf: Leaf, allowed: UInt8) -> Passing:
    """The live documents of a segment that are allowed."""
    documents, size = leaf.segment.documents, leaf.segment.windows * WORDS
    if leaf.live is None and not len(allowed):
        return Passing(_ALL, np.array([0, size]))
    mask = allowed[leaf.first_row : leaf.first_row + documents] if len(allowed) else leaf.live
    assert mask is not None
    if leaf.live is not None and len(allowed):
        mask = mask & leaf.live
    found = np.zeros(size, np.uint64)
    raw = np.packbits(mask, bitorder="little")
    found.view(np.uint8)[: len(raw)] = raw
    set_words = np.flatnonzero(found)
    ends = [set_words[0], set_words[-1] + 1] if len(set_words) else [0, 0]
    return Passing(found, np.array(ends, np.int64))
