"""Word2Vec: words learn from the words around them (Mikolov et al. 2013, "Distributed
Representations of Words and Phrases and their Compositionality").

A row of tokens is a sentence. Words are dropped by chance according to their frequency first, so
that windows reach further; the window of each word is then drawn from 1 … `window`. Skip-gram
trains every word of the context against the word's targets, CBOW the mean of all
(kernels/vectors/windows.py).
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import helper, jit
from fastseq.kernels.core.rng import draw_below, subsample
from fastseq.kernels.simd.rows import MOST_ROWS, add, clear, scale
from fastseq.kernels.vectors.windows import (
    draw_targets,
    has_row,
    learn_mean,
    learn_rows,
    mean_at,
    take_path,
    take_row,
    take_targets,
)


@jit
def train_words(
    inputs, outputs, tokens, ends, keep, alias, paths, nodes, codes, window, negatives, cbow,
    first_rate, last_rate, state, kept, work, lists, seen, loss_every,
):  # fmt: skip
    """One pass over some sentences.

    inputs     float32[V, W]   vectors of words, W in whole vectors
    outputs    float32[V, W]   vectors of words as targets; with paths of the tree's inner nodes
    tokens     int32[n]        words
    ends       int64[S]        where each sentence ends
    keep       uint32[V]       the chance, of 2**32 - 1, that an occurrence of a word is kept
    alias      uint64[V]       the distribution of negatives, as `draw_word` takes it
    paths      int64[V + 1]    word w's inner nodes are nodes[paths[w]:paths[w + 1]]; of length 0
                               for negative sampling
    codes      float32[·]      1 where the way goes on to the node's first child
    negatives  how many are drawn for a word
    rates      learning rate at the first and behind the last token, linear between
    state      uint64[1]       of the random numbers
    kept       int32[longest]  working memory, as long as the longest sentence
    work       float32[·]      `windows.work_size` floats, aligned to 64 bytes
    lists      int64[LISTS, room]  addresses, see kernels/vectors/windows.py
    seen       float64[4]      added to: tokens read, words kept, loss, pairs whose loss that is
    loss_every words between two whose loss is looked at
    """
    n = ends[len(ends) - 1] if len(ends) > 0 else 0
    start = 0
    for s in range(len(ends)):
        end = ends[s]
        rate = first_rate + (last_rate - first_rate) * (start / n)
        count = subsample(kept, tokens, start, end, keep, state)
        seen[0] += end - start
        _train_sentence(
            inputs, outputs, kept, count, alias, paths, nodes, codes, window, negatives, cbow,
            np.float32(rate), state, work, lists, seen, loss_every,
        )  # fmt: skip
        seen[1] += count
        start = end


@helper
def _train_sentence(
    inputs, outputs, kept, count, alias, paths, nodes, codes, window, negatives, cbow, rate, state,
    work, lists, seen, loss_every,
):  # fmt: skip
    sampled = len(paths) == 0
    flat = inputs.reshape(inputs.size)
    W = inputs.shape[1]
    if sampled and count > 1:
        draw_targets(lists, kept[0], negatives, alias, state, outputs)
    for i in range(count):
        reach = 1 + draw_below(state, window)
        first, last = max(0, i - reach), min(count, i + reach + 1)
        if sampled:
            targets = take_targets(work, lists, outputs, kept[i], negatives)
            if i + 1 < count:
                draw_targets(lists, kept[i + 1], negatives, alias, state, outputs)
        else:
            targets = take_path(work, lists, outputs, kept[i], paths, nodes, codes)
        if last - first < 2 or targets == 0:
            continue
        measured = (int(seen[1]) + i) % loss_every == 0
        if cbow:
            _learn_mean(flat, W, kept, first, i, last, targets, rate, measured, work, lists, seen)
        else:
            _learn_each(flat, W, kept, first, i, last, targets, rate, measured, work, lists, seen)


@helper
def _learn_each(inputs, W, kept, first, centre, last, targets, rate, measured, work, lists, seen):
    """Skip-gram: every context word against the targets, MOST_ROWS of them at a time. A block
    ends early at a word that it has already, whose row must not be written twice."""
    rows = 0
    for j in range(first, last):
        if j != centre:
            if rows == MOST_ROWS or has_row(lists, rows, kept[j] * W):
                learn_rows(inputs, rows, targets, W, rate, measured, work, lists, seen)
                rows = 0
            rows = take_row(lists, rows, inputs, kept[j] * W)
    learn_rows(inputs, rows, targets, W, rate, measured, work, lists, seen)


@helper
def _learn_mean(inputs, W, kept, first, centre, last, targets, rate, measured, work, lists, seen):
    """CBOW: the mean of the context against the targets; what it learns, each of its words does
    (as Mikolov's program has it: the gradient would be that divided by their number)."""
    mean = mean_at(lists.shape[1])
    clear(work, mean, W)
    for j in range(first, last):
        if j != centre:
            add(work, mean, inputs, kept[j] * W, W)
    scale(work, mean, 1.0 / (last - first - 1), W)
    delta = learn_mean(targets, W, rate, measured, work, lists, seen)
    for j in range(first, last):
        if j != centre:
            add(inputs, kept[j] * W, work, delta, W)
