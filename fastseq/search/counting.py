"""Numbers of matching documents, without scores."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastseq.index.collection import EVERY_ROW, Collection, Leaf
from fastseq.kernels.search.counting import count_documents
from fastseq.kernels.search.dense import dense_words, fill_dense
from fastseq.kernels.search.phrase_counting import count_phrases
from fastseq.kernels.search.phrases import make_scratch
from fastseq.kernels.search.postings import WINDOW, WORDS
from fastseq.kernels.search.required import EXCLUDED, OPTIONAL, REQUIRED
from fastseq.kernels.search.short_positions import fill_short
from fastseq.search.filtering import PassingBits
from fastseq.search.flat import FlatQuery
from fastseq.search.phrase_batches import PhraseTerms
from fastseq.search.tasks import CACHED_SCRATCH
from fastseq.types import Int32, Int64, UInt8, UInt16, UInt32, UInt64, offsets_of

if TYPE_CHECKING:
    from fastseq.search.term_table import TermTable

# A term that at least one in so many documents has is dense: a window of its bits and places is
# 10 KB, and of its postings with impacts at least 3 KB.
_DENSE = 128
_MOST_DENSE = 64 << 20  # bytes of bits and places of a segment
_MOST_SHORT = 64 << 20  # bytes of short positions of a segment
_NO_PLACES: Int32 = np.empty(0, np.int32)
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


class DenseTerms:
    """The bits and places of the documents of frequent terms of a segment (kernels/search/dense.py)
    and their short positions, each as they are needed. Any number of threads may call it at once.

    places : int32[documents], where the bits are in the order of search, the place of each row
    """

    def __init__(self, leaf: Leaf, places: Int32 | None) -> None:
        segment = leaf.segment
        self._segment, self._places = segment, _NO_PLACES if places is None else places
        self._lock = threading.Lock()
        self._arrays: list[UInt64] = []  # uint64[dense_words] of each dense term
        # where the bits of each term start, 0 for one without and, last, for term -1; -1 for one
        # that was not looked at
        self._starts: Int64 = np.full(segment.terms + 1, -1, np.int64)
        self._starts[-1] = 0
        # of each dense term whose positions were needed, uint32[postings]; and where they start
        self._short: list[UInt32] = []
        self._short_starts = self._starts.copy()

    def addresses(self, terms: Int32) -> Int64:
        """int64[n]: where the bits of some terms, -1 for none, start in memory; 0 for a term that
        is not dense, or that there is no memory for (kernels/search/dense.py). They stay there as
        long as this object lives. The postings must be verified."""
        found: Int64 = self._starts[terms]
        if len(found) and found.min() < 0:
            with self._lock:
                for term in np.unique(terms[self._starts[terms] < 0]).tolist():
                    self._starts[term] = self._fill(term)
            found = self._starts[terms]
        return found

    def short_addresses(self, terms: Int32) -> Int64:
        """`addresses` of the short positions, which must be verified."""
        found: Int64 = self._short_starts[terms]
        if len(found) and found.min() < 0:
            with self._lock:
                for term in np.unique(terms[self._short_starts[terms] < 0]).tolist():
                    self._short_starts[term] = self._fill_short(term)
            found = self._short_starts[terms]
        return found

    def _is_dense(self, term: int) -> bool:
        return int(self._segment.df[term]) * _DENSE >= self._segment.windows * WINDOW

    def _fill(self, term: int) -> int:
        segment = self._segment
        size = dense_words(segment.windows)
        if not self._is_dense(term) or (len(self._arrays) + 1) * size * 8 > _MOST_DENSE:
            return 0
        bits = np.zeros(size, np.uint64)
        address = int(bits.__array_interface__["data"][0])
        fill_dense(address, segment.windows, self._places, segment.postings, term)
        self._arrays.append(bits)
        return address

    def _fill_short(self, term: int) -> int:
        segment = self._segment
        positions, postings = segment.unverified_positions, segment.postings
        size = int(postings.term_posting[term + 1] - postings.term_posting[term])
        used = sum(map(len, self._short)) + size
        if positions is None or not self._is_dense(term) or used * 4 > _MOST_SHORT:
            return 0
        short = np.empty(size, np.uint32)
        fill_short(short, postings, *positions, term)
        self._short.append(short)
        return int(short.__array_interface__["data"][0])


class TermBits:
    """The bits of the documents of frequent terms of a collection. Any number of threads may call
    it at once.

    in_search_order : where a segment has an order of search, whether its bits are in that order
    """

    def __init__(self, collection: Collection, in_search_order: bool) -> None:
        self._leaves = collection.leaves
        self._dense = [
            DenseTerms(leaf, leaf.segment.search_places if in_search_order else None)
            for leaf in collection.leaves
        ]
        self._lock = threading.Lock()
        # a table of terms, int64[S, N]: their addresses, -1 for those that were not asked for, and
        # the numbers of those that were
        self._found: tuple[TermTable | None, Int64, set[int]] = None, self._unknown(0), set()
        # the same of the bits and then those of the short positions
        self._phrase_found: tuple[TermTable | None, dict[int, list[int]]] = None, {}

    def _unknown(self, terms: int) -> Int64:
        return np.full((len(self._leaves), terms), -1, np.int64)

    def addresses(self, table: TermTable, numbers: Int32) -> Int64:
        """int64[S, n]: where the bits of terms of a table start in memory in each segment, as
        `DenseTerms.addresses` has them."""
        known, found, asked = self._found
        if known is not table or not asked.issuperset(numbers.tolist()):
            with self._lock:
                found = self._ask(table, numbers)
        own: Int64 = found.take(numbers, axis=1)
        return own

    def _ask(self, table: TermTable, numbers: Int32) -> Int64:
        """The addresses by number, with those of some terms."""
        known, found, asked = self._found
        if known is not table:
            found, asked = self._unknown(0), set()
        if found.shape[1] < table.size:
            larger = self._unknown(2 * table.size)
            larger[:, : found.shape[1]] = found
            found, asked = larger, {*asked}  # other threads read the old ones
        new = np.array([*{*numbers.tolist()}.difference(asked)], np.int32)
        found[:, new] = self.addresses_of(table.ids(new))
        asked.update(new.tolist())
        self._found = table, found, asked
        return found

    def known(self, table: TermTable) -> Int64:
        """int64[S, N]: by the number of a term, its addresses, where they were asked for; -1 for
        others, and for those from N on."""
        known, found, _ = self._found
        return found if known is table else self._unknown(0)

    def phrase_addresses(self, table: TermTable, numbers: Sequence[int]) -> Int64:
        """int64[S, 2, n]: `addresses`, and where the short positions start. All segments must have
        positions."""
        known, found = self._phrase_found
        if known is not table:
            found = {}
            self._phrase_found = table, found
        new = [number for number in numbers if number not in found]
        if new:
            ids = table.ids(np.array(new, np.int32))
            own = np.empty((len(ids), 2, len(new)), np.int64)
            own[:, 0] = self.addresses_of(ids)
            for s, (leaf, dense) in enumerate(zip(self._leaves, self._dense, strict=True)):
                leaf.segment.verify_positions(np.unique(ids[s][ids[s] >= 0]))
                own[s, 1] = dense.short_addresses(ids[s])
            found.update(zip(new, own.reshape(-1, len(new)).T.tolist(), strict=True))
        places = np.array([*zip(*(found[number] for number in numbers), strict=True)], np.int64)
        return places.reshape(len(self._leaves), 2, len(numbers))

    def addresses_of(self, ids: Int32) -> Int64:
        """int64[S, n] of terms given by their ids in each segment int32[S, n], -1 for none."""
        found = np.empty(ids.shape, np.int64)
        for s, (leaf, dense) in enumerate(zip(self._leaves, self._dense, strict=True)):
            leaf.segment.verify_postings(ids[s][ids[s] >= 0])
            found[s] = dense.addresses(ids[s])
        return found


class Counter:
    """Counts the documents of a collection that match a query. Any number of threads may call it
    at once.

    bits : of frequent terms, in the order of rows
    searched_bits : the same in the order of search
    """

    def __init__(self, collection: Collection) -> None:
        self._leaves = collection.leaves
        self.bits = TermBits(collection, in_search_order=False)
        self.searched_bits = self.bits
        if any(leaf.segment.search_order is not None for leaf in collection.leaves):
            self.searched_bits = TermBits(collection, in_search_order=True)
        self._scratch: list[_Scratch] = []
        self._phrase_scratch: list[_PhraseScratch] = []

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

    def count_one(
        self, table: TermTable, query: FlatQuery, passing: Sequence[PassingBits]
    ) -> int:
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
        dense = self.bits.phrase_addresses(table, numbers)
        ids = table.ids(np.array(numbers, np.int32))
        for leaf, own, places in zip(self._leaves, ids, dense, strict=True):
            segment = leaf.segment
            segment.verify_positions(np.array([id for id in {*own.tolist()} if id >= 0], np.int32))
            positions = segment.unverified_positions
            assert positions is not None
            count_phrases(
                counts, segment.postings, *positions, own, places, offsets, starts,
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
