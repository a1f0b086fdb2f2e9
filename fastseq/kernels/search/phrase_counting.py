"""The number of documents with a phrase, without scoring them."""

from __future__ import annotations

import numpy as np
from numba import types

from fastseq.kernels.core.intrinsics import array_at
from fastseq.kernels.core.jit import jit
from fastseq.kernels.search.joining import begin_phrase, has_all, keep_candidate, next_candidates
from fastseq.kernels.search.phrases import count_phrase, keep_matches, scratch_of

_float32_at = array_at(types.float32)


@jit
def count_phrases(
    counts, postings, data, blocks, terms, dense, offsets, starts, live, allowed, places,
    numbers, first_row, documents, memory,
):  # fmt: skip
    """Add the documents of a segment with each of Q phrases to their counts.

    counts    int64[Q]
    postings, data, blocks  of the segment (search/positions.py)
    terms     int64[n]    of the segment, those of phrase q, two or more, from starts[q] on; -1 for
                          a word that it lacks
    dense     int64[2, n] the addresses of the bits of each (dense.py), and of its short positions
                          (term_bits.py); 0 for none
    offsets   int64[n]    of the words in their phrase, from 0
    live      uint8[documents] or uint8[0]; allowed uint8[rows] or uint8[0]
    places    int64[3, S]    scratch for lists of up to S words
    numbers   int64[S + 1]   0, 1, …
    first_row, documents  of the segment
    memory    of `phrases.make_scratch`
    """
    no_parts = _float32_at(np.int64(0), np.int64(0))
    scratch = scratch_of(memory)
    join = scratch.join
    for q in range(len(counts)):
        first, last = starts[q], starts[q + 1]
        slots = last - first
        own = terms[first:last]
        own_offsets = offsets[first:last]
        if not has_all(own):
            continue
        lists = begin_phrase(join, postings, own, dense, first, places, numbers, no_parts, no_parts)
        total = 0
        while True:
            found = next_candidates(join, lists, live, documents, np.float32(-1.0))
            if found == 0:
                break
            if len(allowed) > 0:
                kept = 0
                for c in range(found):
                    if allowed[np.uint64(first_row + join.rows[c])] != 0:
                        keep_candidate(join, c, kept)
                        kept += 1
                found = kept
            found = keep_matches(scratch, postings, data, blocks, lists, own_offsets, found)
            for c in range(found):
                total += (
                    count_phrase(
                        scratch, postings, data, blocks, lists, own_offsets, numbers[: slots + 1], c
                    )
                    > 0
                )
        counts[q] += total
