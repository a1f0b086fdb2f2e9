"""The segments of a collection as one array, so that one call of the search kernel visits them all.

Compiled code takes arrays as arguments, and each of a few hundred would cost a call about 0.1 µs.
The addresses and lengths of the segments' arrays are therefore written to a table; the kernel makes
arrays of them again. The caller keeps the arrays alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from fastseq.kernels.core.arrays import Int64, UInt16
from fastseq.kernels.core.intrinsics import array_at
from fastseq.kernels.core.jit import inline
from fastseq.kernels.search.impacts import Impacts
from fastseq.kernels.search.postings import Postings

DOCS, TERM_POSTING, TERM_RUN, RUN_WINDOW, RUN_COUNT, BEST, PARTS, BLOCKS = range(8)  # addresses
POSTINGS, TERMS, RUNS, BLOCK_COUNT, FIRST_ROW, DOCUMENTS = range(8, 14)  # numbers
_COLUMNS = 14

_uint16_at = array_at(types.uint16)
_int64_at = array_at(types.int64)
_float32_at = array_at(types.float32)


class Lists(NamedTuple):
    """The posting lists of a segment, as far as searching needs them: see Postings."""

    docs: UInt16
    term_posting: Int64
    term_run: Int64
    run_window: UInt16
    run_count: UInt16


def segment_table(
    segments: Sequence[tuple[Postings, Impacts, int, int]],
) -> npt.NDArray[np.int64]:
    """int64[S, columns] of the postings, impacts, first row and number of documents of each. The
    arrays must be contiguous and outlive its use."""
    table = np.empty((len(segments), _COLUMNS), np.int64)
    for row, (postings, impacts, first_row, documents) in zip(table, segments, strict=True):
        arrays: list[Any] = [
            postings.docs, postings.term_posting, postings.term_run, postings.run_window,
            postings.run_count, impacts.best, impacts.parts, impacts.block,
        ]  # fmt: skip
        row[:POSTINGS] = [array.__array_interface__["data"][0] for array in arrays]
        row[POSTINGS:] = (
            len(postings.docs), len(postings.term_run) - 1, len(postings.run_window),
            len(impacts.block), first_row, documents,
        )  # fmt: skip
    return table


@inline
def lists_of(table, s):
    """The posting lists of segment s."""
    terms = table[s, TERMS] + 1
    return Lists(
        _uint16_at(table[s, DOCS], table[s, POSTINGS]),
        _int64_at(table[s, TERM_POSTING], terms),
        _int64_at(table[s, TERM_RUN], terms),
        _uint16_at(table[s, RUN_WINDOW], table[s, RUNS]),
        _uint16_at(table[s, RUN_COUNT], table[s, RUNS]),
    )


@inline
def impacts_of(table, s):
    """The impacts of segment s."""
    return Impacts(
        _float32_at(table[s, BEST], table[s, TERMS]),
        _float32_at(table[s, PARTS], table[s, POSTINGS]),
        _float32_at(table[s, BLOCKS], table[s, BLOCK_COUNT]),
    )
