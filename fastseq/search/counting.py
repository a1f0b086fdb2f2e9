"""Numbers of matching documents, without scores."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastseq.index.collection import Leaf
from fastseq.kernels.search.counting import count_documents, fill_dense
from fastseq.kernels.search.postings import WINDOW
from fastseq.kernels.search.required import EXCLUDED, OPTIONAL, REQUIRED, WORDS
from fastseq.search.flat import FlatQuery
from fastseq.types import Int32, Int64, UInt64, offsets_of

if TYPE_CHECKING:
    from fastseq.search.term_table import TermTable

# A term that at least one in so many documents has is dense: a window of its bits is 8 KB, and of
# its postings with impacts at least 3 KB.
_DENSE = 128
_FEWEST = 16  # terms that there is room for at first
_MOST_DENSE = 64 << 20  # bytes of bits of a segment


class DenseTerms:
    """The bits of the documents of frequent terms of a segment, as they are needed.

    bits    uint64[m, windows · WORDS], of which the last rows may not be filled yet
    places  int32[V]  the row of each term, -1 for one without
    """

    def __init__(self, leaf: Leaf) -> None:
        segment = leaf.segment
        self._segment = segment
        self._lock = threading.Lock()
        self._rows = 0
        self._most = _MOST_DENSE // (8 * max(segment.windows, 1) * WORDS)
        self._seen = np.zeros(segment.terms + 1, np.bool_)  # the last: that of term -1
        self._seen[-1] = True
        self.bits: UInt64 = np.zeros((0, segment.windows * WORDS), np.uint64)
        self.places: Int32 = np.full(segment.terms, -1, np.int32)

    def add(self, terms: Int32) -> tuple[UInt64, Int32]:
        """(bits, places) with those of some terms, -1 for none, that are dense; as far as the
        memory allows. What they have is not changed later. The postings must be verified."""
        if not self._seen[terms].all():
            with self._lock:
                self._add(np.unique(terms[~self._seen[terms]]))
        places = self.places  # before the bits, which another thread may replace by more
        return self.bits, places

    def _add(self, terms: Int32) -> None:
        segment = self._segment
        new = terms[segment.df[terms] * _DENSE >= segment.windows * WINDOW]
        new = new[: self._most - self._rows]
        rows = self._rows + len(new)
        if rows > len(self.bits):
            size = min(max(2 * rows, _FEWEST), self._most)
            bits = np.zeros((size, segment.windows * WORDS), np.uint64)
            bits[: self._rows] = self.bits[: self._rows]
            self.bits = bits
        if len(new):
            fill_dense(self.bits[self._rows : rows], segment.postings, new)
            places = self.places.copy()
            places[new] = np.arange(self._rows, rows, dtype=np.int32)
            self.places, self._rows = places, rows
        self._seen[terms] = True

    def addresses(self, terms: Int32) -> tuple[Int64, UInt64]:
        """(int64[n]: where the bits of terms start, 0 for one without; the array that has them)."""
        bits, places = self.add(terms)
        found = np.where(terms >= 0, places[terms], -1).astype(np.int64)
        start = bits.__array_interface__["data"][0]
        return np.where(found >= 0, start + found * bits.strides[0], 0), bits


def count_flat(
    leaves: Sequence[Leaf], table: TermTable, queries: Sequence[FlatQuery],
    dense: Sequence[DenseTerms], passing: Sequence[UInt64],
) -> Int64:  # fmt: skip
    """int64[Q]: the live documents that match each flat query.

    dense    of each segment
    passing  of each segment, as `Passing.bits` has them
    """
    terms: list[int] = []
    roles: list[int] = []
    sizes: list[int] = []
    for query in queries:
        required = dict.fromkeys(query.required)
        optional = [number for number in dict.fromkeys(query.scored) if number not in required]
        excluded = dict.fromkeys(query.excluded)
        terms += [*required, *optional, *excluded]
        roles += [REQUIRED] * len(required) + [OPTIONAL] * len(optional)
        roles += [EXCLUDED] * len(excluded)
        sizes.append(len(required) + len(optional) + len(excluded))
    counts = np.zeros(len(queries), np.int64)
    if not terms:
        return counts
    starts, of_terms = offsets_of(sizes), np.array(roles, np.uint8)
    ids = table.ids(np.array(terms, np.int32))
    longest = max(sizes)
    work, scratch = np.empty((2, WORDS), np.uint64), np.empty((2, longest), np.int64)
    for leaf, own, bits_of, own_bits in zip(leaves, ids, dense, passing, strict=True):
        segment = leaf.segment
        segment.verify_postings(np.unique(own[own >= 0]))
        bits, places = bits_of.add(own)
        count_documents(
            counts, segment.postings, own, of_terms, starts, bits, places, own_bits, work,
            scratch[0], scratch[1], segment.windows,
        )  # fmt: skip
    return counts
