"""The documents of frequent terms as bits, and their short positions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastseq.index.collection import Collection, Leaf
from fastseq.kernels.core.arrays import address_of
from fastseq.kernels.search.dense import dense_words, fill_dense
from fastseq.kernels.search.postings import WINDOW
from fastseq.kernels.search.short_positions import fill_short
from fastseq.types import Int32, Int64, UInt32, UInt64, distinct

if TYPE_CHECKING:
    from fastseq.search.term_table import TermTable

# A term that at least one in so many documents has is dense: a window of its bits and places is
# 10 KB, and of its postings with impacts at least 3 KB.
_DENSE = 128
_MOST_DENSE = 64 << 20  # bytes of bits and places of a segment
# Words that are allocated at once, for huge pages (`make_impacts`): with an array for each term, a
# batch search at k = 10 takes 1.05 times as long.
_ALLOCATED = 1 << 20
_MOST_SHORT = 64 << 20  # bytes of short positions of a segment
_NO_PLACES: Int32 = np.empty(0, np.int32)
_MAKING = threading.Lock()


class DenseTerms:
    """The bits and places of the documents of frequent terms of a segment (kernels/search/dense.py)
    and their short positions, each as they are needed. Any number of threads may call it at once.

    places : int32[documents], where the bits are in the order of search, the place of each row
    """

    def __init__(self, leaf: Leaf, places: Int32 | None) -> None:
        segment = leaf.segment
        self._segment, self._places = segment, _NO_PLACES if places is None else places
        self._lock = threading.Lock()
        self._arrays: list[UInt64] = []  # with the bits and places of the dense terms
        self._free: UInt64 = np.empty(0, np.uint64)  # what is left of the last one
        self._used = 0  # by the dense terms, in words
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
        if not self._is_dense(term) or (self._used + size) * 8 > _MOST_DENSE:
            return 0
        if size > len(self._free):
            self._free = np.empty(max(size, min(_DENSE * size, _ALLOCATED)), np.uint64)
            self._arrays.append(self._free)
        bits, self._free = self._free[:size], self._free[size:]
        bits[:] = 0
        self._used += size
        address = address_of(bits)
        fill_dense(address, segment.windows, self._places, segment.postings, term)
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
        return address_of(short)


class TermBits:
    """The bits of the documents of frequent terms of a collection. Any number of threads may call
    it at once.

    in_search_order : where a segment has an order of search, whether its bits are in that order
    """

    def __init__(self, collection: Collection, in_search_order: bool) -> None:
        self._leaves, self._in_search_order = collection.leaves, in_search_order
        self._lock = threading.Lock()
        self._every: list[DenseTerms] | None = None
        # a table of terms, int64[S, N]: their addresses, -1 for those that were not asked for, and
        # the numbers of those that were
        self._found: tuple[TermTable | None, Int64, set[int]] = None, self._unknown(0), set()
        # of terms of a table, by their numbers, what `phrase_lists` returns
        self._phrase_lists: tuple[TermTable | None, dict[int, list[int]]] = None, {}

    @property
    def _dense(self) -> list[DenseTerms]:
        """Of each segment, made once: callers hold addresses of the arrays of these objects."""
        with _MAKING:
            if self._every is None:
                self._every = [
                    DenseTerms(leaf, leaf.segment.search_places if self._in_search_order else None)
                    for leaf in self._leaves
                ]
        return self._every

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

    def phrase_lists(self, table: TermTable, numbers: Sequence[int]) -> list[list[int]]:
        """Of each of some terms of a table the numbers that a search for a phrase takes in one
        segment after the other, all of which must have positions: the term there, -1 where it lacks
        it, and the addresses of its bits and of its short positions. The positions are verified.
        """
        known, found = self._phrase_lists
        if known is not table:
            found = {}
            self._phrase_lists = table, found
        try:
            return [found[number] for number in numbers]
        except KeyError:
            pass
        new = [*{*numbers}.difference(found)]
        ids = table.ids(np.array(new, np.int32))
        own = np.empty((len(new), len(ids), 3), np.int64)
        own[:, :, 0], own[:, :, 1] = ids.T, self.addresses_of(ids).T
        for s, (leaf, dense) in enumerate(zip(self._leaves, self._dense, strict=True)):
            leaf.segment.verify_positions(distinct(ids[s][ids[s] >= 0]))
            own[:, s, 2] = dense.short_addresses(ids[s])
        found.update(zip(new, own.reshape(len(new), -1).tolist(), strict=True))
        return [found[number] for number in numbers]

    def addresses_of(self, ids: Int32) -> Int64:
        """int64[S, n] of terms given by their ids in each segment int32[S, n], -1 for none."""
        found = np.empty(ids.shape, np.int64)
        for s, (leaf, dense) in enumerate(zip(self._leaves, self._dense, strict=True)):
            leaf.segment.verify_postings(ids[s][ids[s] >= 0])
            found[s] = dense.addresses(ids[s])
        return found
