"""The input of a BERT encoder: the sum of three rows for each token."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.rows import load_row, store_row


@jit
def sum_embeddings(out, ids, kinds, offsets, words, positions, types, first, last):
    """out[n] = words[ids[n]] + positions[n - the first row of its sequence] + types[kinds[n]], of
    the sequences from first to last - 1 (Devlin et al. 2019, figure 2).

    out        float32[N · H]
    ids        int32[N]
    kinds      int32[N], or int32[0]: all 0
    offsets    int64[B + 1]
    words, positions, types  float32[rows · H]
    """
    width = len(out) // max(1, len(ids))
    for sequence in range(first, last):
        begin = offsets[sequence]
        for row in range(begin, offsets[sequence + 1]):
            word = np.int64(ids[row]) * width
            position = (row - begin) * width
            kind = np.int64(kinds[row]) * width if len(kinds) > 0 else np.int64(0)
            to = row * width
            for column in range(0, width, LANES):
                rest = width - column
                total = load_row(words, word + column, rest)
                total = total + load_row(types, kind + column, rest)
                total = total + load_row(positions, position + column, rest)
                store_row(out, to + column, total, rest)
