"""Numbers of matching documents, without scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastseq.index.collection import Leaf
from fastseq.kernels.search.counting import WORDS, count_documents, fill_dense
from fastseq.kernels.search.required import EXCLUDED, OPTIONAL, REQUIRED
from fastseq.search.flat import FlatQuery
from fastseq.types import Int32, Int64, UInt64, offsets_of

if TYPE_CHECKING:
    from fastseq.search.term_table import TermTable

# A term that at least one in so many documents has is dense: its bits are twice as large as its
# postings at most.
_DENSE = 32
_MOST_DENSE = 64 << 20  # bytes of bits of a segment


class DenseTerms:
    """The bits of the documents of frequent terms of a segment, as they are needed.

    bits    uint64[m, windows · WORDS]
    places  int32[V]  the row of each term, -1 for one without
    """

    def __init__(self, leaf: Leaf) -> None:
        segment = leaf.segment
        self._segment = segment
        self.bits: UInt64 = np.zeros((0, segment.windows * WORDS), np.uint64)
        self.places: Int32 = np.full(segment.terms, -1, np.int32)

    def add(self, terms: Int32) -> tuple[UInt64, Int32]:
        """(bits, places) with those of some terms, -1 for none, that are dense; as far as the
        memory allows. The arrays are not changed later."""
        known = np.unique(terms[terms >= 0])
        segment = self._segment
        dense = segment.df[known] * _DENSE >= segment.documents
        new = known[dense & (self.places[known] < 0)]
        room = _MOST_DENSE // (8 * segment.windows * WORDS) - len(self.bits)
        new = new[: max(room, 0)]
        if len(new):
            bits = np.zeros((len(self.bits) + len(new), segment.windows * WORDS), np.uint64)
            bits[: len(self.bits)] = self.bits
            places = self.places.copy()
            fill_dense(bits[len(self.bits) :], segment.postings, new)
            places[new] = np.arange(len(self.bits), len(bits), dtype=np.int32)
            self.bits, self.places = bits, places
        return self.bits, self.places


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
