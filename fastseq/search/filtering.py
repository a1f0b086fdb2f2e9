"""The rows of a collection that a filter on stored columns lets pass."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastseq.errors import SettingsError
from fastseq.index.collection import EVERY_ROW, Collection, Leaf
from fastseq.kernels.search.postings import WINDOW, WORDS
from fastseq.settings import thread_count
from fastseq.types import Int32, Int64, UInt8, UInt64

NO_RANGES: Int32 = np.empty((0, 2), np.int32)
_EVERY_BIT: UInt64 = np.empty(0, np.uint64)


def allowed_rows(collection: Collection, given: Any, threads: int | None = None) -> UInt8:
    """uint8[rows]: 1 where a filter is true, deleted rows included.

    given : the text of a filter, a pyarrow expression (see store/filters.py), or bool[rows]
    threads : that read the columns; default: all cores

    Raises SettingsError for text that is no filter, another type, or an array of another length;
    DataError where a stored column is unknown or of another type; FormatError for a damaged file.
    """
    if isinstance(given, np.ndarray | list | tuple):
        mask = np.asarray(given)
        if mask.dtype != np.bool_ or mask.shape != (collection.rows,):
            raise SettingsError(
                f"filter must be an array of one bool for each of the {collection.rows:,} rows, "
                f"not {mask.dtype}{list(mask.shape)}"
            )
        return np.ascontiguousarray(mask).view(np.uint8)
    from fastseq.store.filters import as_filter, passing  # imports pyarrow.compute

    filter = as_filter(given, collection.schema)
    stored = [leaf.segment.stored for leaf in collection.leaves]
    return passing(filter, stored, thread_count(threads)).view(np.uint8)


class PassingBits(NamedTuple):
    """The documents of a segment that pass.

    bits   uint64[windows · WORDS], or uint64[0] where all do
    words  int64[2]  the words, from the first to the last, exclusive, that have bits
    """

    bits: UInt64
    words: Int64


class Passing:
    """The rows of a collection that a filter lets pass, in the forms that kernels take.

    rows  uint8[rows] of `allowed_rows`, or uint8[0] for all
    """

    def __init__(self, collection: Collection, rows: UInt8 = EVERY_ROW) -> None:
        self._collection, self.rows = collection, rows

    @cached_property
    def ranges(self) -> Int32:
        """int32[W, 2]: the first and the last document that passes of each window of the segments,
        one after the other; (0, -1) where none does. int32[0, 2] where all rows pass."""
        return self._ranges(in_search_order=False)

    @cached_property
    def search_ranges(self) -> Int32:
        """`ranges` where segments with an order of search are in that order."""
        if all(leaf.segment.search_order is None for leaf in self._collection.leaves):
            return self.ranges
        return self._ranges(in_search_order=True)

    def _ranges(self, in_search_order: bool) -> Int32:
        found: list[tuple[int, int]] = []
        if len(self.rows):
            for leaf in self._collection.leaves:
                documents, order = leaf.segment.documents, leaf.segment.search_order
                rows = self.rows[leaf.first_row : leaf.first_row + documents].view(np.bool_)
                if in_search_order and order is not None:
                    rows = rows[order]
                for start in range(0, documents, WINDOW):
                    own = rows[start : start + WINDOW]
                    first = int(own.argmax())  # stops at the first one
                    found.append(
                        (first, len(own) - 1 - int(own[::-1].argmax())) if own[first] else (0, -1)
                    )
        return np.array(found, np.int32).reshape(-1, 2)

    @cached_property
    def bits(self) -> list[PassingBits]:
        """The live documents of each segment that pass."""
        return [self._bits(leaf) for leaf in self._collection.leaves]

    def _bits(self, leaf: Leaf) -> PassingBits:
        documents, size = leaf.segment.documents, leaf.segment.windows * WORDS
        if leaf.live is None and not len(self.rows):
            return PassingBits(_EVERY_BIT, np.array([0, size]))
        mask = np.ones(documents, np.uint8) if leaf.live is None else leaf.live
        if len(self.rows):
            mask = mask & self.rows[leaf.first_row : leaf.first_row + documents]
        found = np.zeros(size, np.uint64)
        raw = np.packbits(mask, bitorder="little")
        found.view(np.uint8)[: len(raw)] = raw
        words = np.flatnonzero(found)
        ends = [words[0], words[-1] + 1] if len(words) else [0, 0]
        return PassingBits(found, np.array(ends, np.int64))
