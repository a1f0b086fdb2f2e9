"""FastText: Word2Vec whose words are the mean of a vector of their own and those of their character
n-grams (Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information").

Subsampling, windows and the training of rows against targets are those of word2vec.py. Only a
word's vector differs: it is the mean of about twenty rows. They are summed when the word enters the
window's range, and its updates are added to them when it leaves, so each position of a sentence
reads and writes its rows once instead of once per window. In between, the position's vector is
updated; only another occurrence of its n-grams sees the updates late.

Skip-gram trains every context word against the word's targets. The authors' program predicts the
context from the word, which gives the same pairs over all windows, but needs negatives for every
context word: five times as many target rows to read and write.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.core.rng import draw_below, subsample
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.bytes import prefetch
from fastseq.kernels.simd.floats import fma, load, splat, store
from fastseq.kernels.simd.rows import (
    LINE,
    MOST_ROWS,
    add,
    add_to_rows,
    clear,
    fetch_rows,
    scale,
    sum_rows,
)
from fastseq.kernels.vectors.word2vec import (
    draw_targets,
    learn_mean,
    learn_rows,
    mean_at,
    take_path,
    take_row,
    take_targets,
)
from fastseq.kernels.vectors.word2vec import work_size as window_size


def work_size(slots: int, width: int, window: int) -> int:
    """Size of `work` in floats, for rows of `width`: that of word2vec.py, and two rows for each
    position in range, its vector now and when it entered."""
    return window_size(slots, width) + 2 * _ring(window) * width


@inline
def _ring(window):
    """Maximum number of positions in range."""
    return 2 * window + 1


@inline
def _places(slots, W):
    """Start of the vectors of positions in `work`."""
    return mean_at(slots) + W * (1 + MOST_ROWS)


@jit
def train_fasttext(
    own, table, outputs, grams, gram_ends, tokens, ends, keep, alias, paths, nodes, codes, window,
    negatives, cbow, first_rate, last_rate, state, kept, work, lists, seen, loss_every,
):  # fmt: skip
    """Train on some sentences. Arguments as in word2vec.train_words, but for

    own        float32[V, W]  the row of each word itself
    table      float32[R, W]  rows of n-grams
    grams      int32[·]       the rows of word w's n-grams are grams[gram_ends[w]:gram_ends[w + 1]]
    gram_ends  int64[V + 1]
    """
    n = ends[len(ends) - 1] if len(ends) > 0 else 0
    start = 0
    for s in range(len(ends)):
        end = ends[s]
        rate = np.float32(first_rate + (last_rate - first_rate) * (start / n))
        count = subsample(kept, tokens, start, end, keep, state)
        seen[0] += end - start
        if count > 1:
            _train_sentence(
                own, table, outputs, grams, gram_ends, kept, count, alias, paths, nodes, codes,
                window, negatives, cbow, rate, state, work, lists, seen, loss_every,
            )  # fmt: skip
        seen[1] += count
        start = end


@helper
def _train_sentence(
    own, table, outputs, grams, gram_ends, kept, count, alias, paths, nodes, codes, window,
    negatives, cbow, rate, state, work, lists, seen, loss_every,
):  # fmt: skip
    W = own.shape[1]
    ring = _ring(window)
    places = _places(lists.shape[1], W)
    sampled = len(paths) == 0
    if sampled:
        draw_targets(lists, kept[0], negatives, alias, state, outputs)
    _fetch(own, table, kept[0], grams, gram_ends)
    entered, left = 0, 0
    for i in range(count):
        while entered < min(count, i + window + 1):
            if entered + 1 < count:
                _fetch(own, table, kept[entered + 1], grams, gram_ends)
            at = places + entered % ring * W
            _enter(work, at, at + ring * W, own, table, kept[entered], grams, gram_ends, cbow)
            entered += 1
        reach = 1 + draw_below(state, window)
        first, last = max(0, i - reach), min(count, i + reach + 1)
        measured = (int(seen[1]) + i) % loss_every == 0
        if sampled:
            targets = take_targets(work, lists, outputs, kept[i], negatives)
            if i + 1 < count:
                draw_targets(lists, kept[i + 1], negatives, alias, state, outputs)
        else:
            targets = take_path(work, lists, outputs, kept[i], paths, nodes, codes)
        if targets > 0:  # the tree of a single word has no nodes
            if cbow:
                _learn_mean(
                    W, kept, gram_ends, first, i, last, ring, targets, rate, measured, work, lists,
                    seen,
                )  # fmt: skip
            else:
                _learn_each(W, first, i, last, ring, targets, rate, measured, work, lists, seen)
        while left < count and (left + window <= i or i + 1 == count):
            at = places + left % ring * W
            _leave(work, at, at + ring * W, own, table, kept[left], grams, gram_ends, cbow)
            left += 1


@helper
def _learn_each(W, first, centre, last, ring, targets, rate, measured, work, lists, seen):
    """Skip-gram: the vector of each context position against the targets, MOST_ROWS at a time."""
    places = _places(lists.shape[1], W)
    rows = 0
    for j in range(first, last):
        if j != centre:
            if rows == MOST_ROWS:
                learn_rows(work, rows, targets, W, rate, measured, work, lists, seen)
                rows = 0
            rows = take_row(lists, rows, work, places + j % ring * W)
    learn_rows(work, rows, targets, W, rate, measured, work, lists, seen)


@helper
def _learn_mean(
    W, kept, gram_ends, first, centre, last, ring, targets, rate, measured, work, lists, seen
):
    """CBOW: the mean of all rows of the context against the targets; each row gets its update."""
    slots = lists.shape[1]
    mean, places = mean_at(slots), _places(slots, W)
    clear(work, mean, W)
    rows = 0
    for j in range(first, last):
        if j != centre:
            add(work, mean, work, places + j % ring * W, W)
            rows += 1 + gram_ends[kept[j] + 1] - gram_ends[kept[j]]
    scale(work, mean, 1.0 / rows, W)
    delta = learn_mean(targets, W, rate, measured, work, lists, seen)
    for j in range(first, last):
        if j != centre:
            at = places + j % ring * W
            many = splat(np.float32(1 + gram_ends[kept[j] + 1] - gram_ends[kept[j]]))
            for k in range(0, W, LANES):
                store(work, at + k, fma(many, load(work, delta + k), load(work, at + k)))


@helper
def _fetch(own, table, word, grams, gram_ends):
    """Prefetch the rows of a word."""
    W = own.shape[1]
    for at in range(0, W, LINE):
        prefetch(own, np.uint64(word * W + at))
    fetch_rows(table.reshape(table.size), W, grams, gram_ends[word], gram_ends[word + 1])


@helper
def _enter(work, at, before, own, table, word, grams, gram_ends, summed):
    """Set work[at:at + W] and work[before:before + W] to the mean, or sum, of a word's rows."""
    W = own.shape[1]
    clear(work, at, W)
    add(work, at, own.reshape(own.size), word * W, W)
    sum_rows(work, at, table.reshape(table.size), W, grams, gram_ends[word], gram_ends[word + 1])
    if not summed:
        scale(work, at, 1.0 / (1 + gram_ends[word + 1] - gram_ends[word]), W)
    for k in range(0, W, LANES):
        store(work, before + k, load(work, at + k))


@helper
def _leave(work, at, before, own, table, word, grams, gram_ends, summed):
    """Add the whole update of the mean, or of each row of the sum, to each row of a word, as the
    authors' program does."""
    W = own.shape[1]
    many = 1 + gram_ends[word + 1] - gram_ends[word] if summed else 1
    share = splat(np.float32(1.0 / many))
    for k in range(0, W, LANES):
        store(work, at + k, (load(work, at + k) - load(work, before + k)) * share)
    add(own.reshape(own.size), word * W, work, at, W)
    flat = table.reshape(table.size)
    add_to_rows(flat, W, grams, gram_ends[word], gram_ends[word + 1], work, at)
