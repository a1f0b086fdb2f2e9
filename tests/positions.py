"""The positions of a term, read by a kernel of its own."""

from __future__ import annotations

import numpy as np

from fastseq.index.segment import Field
from fastseq.kernels.core.jit import jit
from fastseq.kernels.core.varints import get
from fastseq.kernels.search.positions import positions_start
from fastseq.kernels.search.postings import frequencies, frequency
from fastseq.types import Int32, Int64


@jit
def read_positions(positions, ends, postings, data, blocks, term):
    """The positions of the postings of a term.

    positions  int32[m]  those of posting i are positions[ends[i]:ends[i + 1]]; m is the sum of the
                         term frequencies
    ends       int64[postings of the term + 1]
    """
    first = np.uint64(postings.term_posting[term])
    at = positions_start(postings, data, blocks, first)
    out = np.int64(0)
    ends[0] = 0
    for i in range(len(ends) - 1):
        position = np.int64(0)
        for _ in range(frequency(postings, first + np.uint64(i))):
            value, at = get(data, at)
            position += value
            positions[np.uint64(out)] = np.int32(position)
            out += 1
        ends[np.uint64(i + 1)] = out


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
