"""Terms become columns, counts the rows of a sparse matrix.

Which terms are columns, and which ones, is known only when every text has been read. The ids that
reading left then become rows, in slices on several threads, each writing to its own place.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.kernels.text import counts as kernels
from fastseq.kernels.text import hashing
from fastseq.text.counting import Reading
from fastseq.text.lexicon import joined_levels
from fastseq.types import Float64, Int32, Int64, Texts, Tokens, UInt32, UInt64

# values of a slice's terms: (values out, counts, columns, starts int64[D + 1], tokens int64[D])
Weigh = Callable[[Float64, Int32, Int32, Int64, Int64], None]

_INT32_MAX = 2**31 - 1
_PIECES = 4  # parts for each thread of a work whose parts are of unequal size


def ascending(terms: Texts, chosen: Int32, threads: int) -> Int32:
    """`chosen` (term ids) in the order of the terms' bytes, which is that of their code points."""
    order = chosen
    keys: UInt64 = np.empty(len(order), np.uint64)
    kernels.sort_keys(keys, order, terms.data, terms.offsets)
    # a first cut by two bytes, so that the threads have ranges of their own
    prefixes = (keys >> np.uint64(48)).astype(np.uint16)
    places = np.argsort(prefixes, kind="stable")
    order, keys = order[places], keys[places]
    borders = np.append(np.flatnonzero(np.diff(prefixes[places])) + 1, len(order))
    del places, prefixes
    ideal = np.linspace(0, len(order), threads * _PIECES + 1)[1:]
    cuts = [0, *np.unique(borders[np.searchsorted(borders, ideal)]).tolist()]

    def sort(part: tuple[int, int]) -> None:
        low, high = part
        n = high - low
        kernels.sort_terms(
            order[low:high],
            keys[low:high],
            np.empty(n, np.int32),
            np.empty(n, np.uint64),
            np.empty(2 * n + 8, np.int64),
            np.empty(257, np.int64),
            terms.data,
            terms.offsets,
        )

    with ThreadPoolExecutor(threads, "fastseq-sort") as pool:
        list(pool.map(sort, pairwise(cuts)))
    return order


def taken(terms: Texts, order: Int32) -> Texts:
    """The texts `order`, in that order."""
    offsets = np.zeros(len(order) + 1, np.int64)
    np.cumsum(np.diff(terms.offsets)[order], out=offsets[1:])
    data = np.empty(int(offsets[-1]), np.uint8)
    kernels.gather_texts(data, offsets, order, terms.data, terms.offsets)
    return Texts(data, offsets)


def columns_of(order: Int32, terms: int) -> Int32:
    """int32[terms]: the place of each id in `order`, -1 for those that are not there."""
    columns = np.full(terms, -1, np.int32)
    columns[order] = np.arange(len(order), dtype=np.int32)
    return columns


class Dictionary:
    """Finds terms among those of a fixed vocabulary."""

    def __init__(self, terms: Texts) -> None:
        capacity = 1 << max(2 * len(terms), 1).bit_length()
        self._terms = terms
        self._slots: UInt32 = np.zeros(capacity, np.uint32)
        hashing.build_slots(self._slots, terms.data, terms.offsets)

    def columns(self, terms: Texts) -> Int32:
        """int32[len(terms)]: the place of each in the vocabulary, or -1."""
        out = np.empty(len(terms), np.int32)
        hashing.lookup(
            out, self._slots, self._terms.data, self._terms.offsets, terms.data, terms.offsets
        )
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A sparse matrix by rows, as scipy.sparse's CSR has it.

    data     [nnz]  of the dtype asked for
    indices  [nnz]  columns, ascending in each row
    indptr   [D + 1]  row d is indices[indptr[d]:indptr[d + 1]]; int32, or int64 both where int32
             would not do
    """

    data: npt.NDArray[Any]
    indices: npt.NDArray[Any]
    indptr: npt.NDArray[Any]


def matrix(
    reading: Reading,
    columns: Int32,
    width: int,
    dtype: npt.DTypeLike,
    threads: int,
    *,
    binary: bool = False,
    weigh: Weigh | None = None,
) -> Rows:
    """The document-term matrix of what was read. It can be asked for once: the ids are used up.

    columns  int32[V]  the column of each of the reading's terms, or -1
    width    the number of columns
    binary   count every term as one
    weigh    what becomes of the counts, called in the threads; None: they stay
    """
    slices = reading.slices
    bits = max(width - 1, 1).bit_length()

    def sort(at: int) -> tuple[Tokens, Int64, Int64]:
        ids = joined_levels(slices[at].levels, reading.sizes)
        slices[at].levels = []
        rows = len(ids)
        kept, distinct = np.empty(rows, np.int64), np.empty(rows, np.int64)
        longest = int(np.diff(ids.offsets).max(initial=0))
        kernels.sort_rows(
            ids.values,
            kept,
            distinct,
            np.empty(longest, np.int32),
            np.empty(256, np.int32),
            ids.offsets,
            columns,
            bits,
        )
        return ids, kept, distinct

    with ThreadPoolExecutor(threads, "fastseq-rows") as pool:
        done = list(pool.map(sort, range(len(slices))))
        starts = [np.zeros(len(kept) + 1, np.int64) for _, kept, _ in done]
        for part, (_, _, distinct) in zip(starts, done, strict=True):
            np.cumsum(distinct, out=part[1:])
        bases = np.cumsum([0, *(int(part[-1]) for part in starts)])
        indptr = np.concatenate(
            [np.zeros(1, np.int64), *(s[1:] + b for s, b in zip(starts, bases[:-1], strict=True))]
        )
        data = np.empty(int(bases[-1]), dtype)
        indices = np.empty(len(data), np.int32)

        def write(at: int) -> None:
            ids, kept, _ = done[at]
            here = slice(int(bases[at]), int(bases[at + 1]))
            counts = np.empty(here.stop - here.start, np.int32)
            kernels.write_rows(indices[here], counts, ids.offsets, kept, ids.values)
            if binary:
                counts.fill(1)
            if weigh is None:
                data[here] = counts
                return
            values = data[here] if data.dtype == np.float64 else np.empty(len(counts))
            weigh(values, counts, indices[here], starts[at], slices[at].tokens)
            if data.dtype != np.float64:
                data[here] = values

        list(pool.map(write, range(len(slices))))
    if len(data) <= _INT32_MAX:
        return Rows(data, indices, indptr.astype(np.int32))
    return Rows(data, indices.astype(np.int64), indptr)
