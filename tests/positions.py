"""The positions of a term in a segment."""

from __future__ import annotations

import numpy as np

from fastseq.index.segment import Field
from fastseq.kernels.search.positions import read_positions
from fastseq.kernels.search.postings import frequencies
from fastseq.types import Int32, Int64


def positions_of(segment: Field, term: int) -> tuple[Int64, Int32]:
    """(ends int64[df + 1], positions) of the postings of a term: those of posting i are
    positions[ends[i]:ends[i + 1]]. The segment must have positions.

    Raises FormatError for damaged ones.
    """
    assert segment.unverified_positions is not None
    segment.verify_positions(np.array([term], np.int32))
    first, last = segment.postings.term_posting[term : term + 2].tolist()
    tfs = np.empty(last - first, np.int32)
    frequencies(tfs, segment.postings, first)
    count = int(tfs.sum(dtype=np.int64))
    ends, found = np.empty(last - first + 1, np.int64), np.empty(count, np.int32)
    read_positions(found, ends, segment.postings, *segment.unverified_positions, term)
    return ends, found
