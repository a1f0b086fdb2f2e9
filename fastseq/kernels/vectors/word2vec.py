"""Word2Vec: word vectors learned from neighbouring words (Mikolov et al. 2013, "Distributed
Representations of Words and Phrases and their Compositionality"). FastText uses the same steps.

A row of tokens is a sentence. Frequent words are subsampled first, so windows reach further; the
window of each word is then drawn from 1 to `window`. Skip-gram trains every context word against
the word's targets, CBOW their mean. The targets are the word itself and random words (negative
sampling), or the inner nodes on its path in a Huffman tree (hierarchical softmax). They are drawn
once per word and shared by its whole context: up to MOST_ROWS rows are trained against all of them
at once (kernels/simd/rows.py; Ji et al. 2016, "Parallelizing Word2Vec in Shared and Distributed
Memory").

lists  int64[LISTS, slots]  addresses of the rows trained, of the rows their gradients are added
                            to, and of the targets; starts of the rows in their array; the words
                            drawn for the next centre word
work   float32[·]           labels[slots], products[MOST_ROWS, slots], then rows of W: a mean of
                            rows, and the gradient of each of MOST_ROWS rows
slots is the maximum number of targets of a word, rounded up to whole vectors.
"""

from __future__ import annotations

import math

import numpy as np

from fastseq.kernels.core.jit import helper, inline, jit
from fastseq.kernels.core.rng import draw_below, draw_word, subsample
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.bytes import prefetch
from fastseq.kernels.simd.floats import load, store
from fastseq.kernels.simd.rows import LINE, MOST_ROWS, add, block, clear, dots, exchange, scale
from fastseq.kernels.simd.tiles import address
from fastseq.kernels.simd.vmath import sigmoid

LISTS = 5
_ROWS, _TO, _TARGETS, _STARTS, _NEXT = range(LISTS)


def slots_for(targets: int) -> int:
    """Return `slots` for at most this many targets."""
    return -(-targets // LANES) * LANES


def work_size(slots: int, width: int) -> int:
    """Size of `work` in floats, for rows of `width`."""
    return (slots + width) * (1 + MOST_ROWS)


@inline
def mean_at(slots):
    """Start of the mean in `work`."""
    return slots * (1 + MOST_ROWS)


@helper
def draw_targets(lists, word, negatives, alias, state, outputs):
    """Draw a word's negatives, and prefetch their rows and the word's own."""
    W = outputs.shape[1]
    for t in range(negatives + 1):
        drawn = word if t == 0 else draw_word(state, alias)
        lists[_NEXT, t] = drawn
        for at in range(0, W, LINE):
            prefetch(outputs, np.uint64(drawn * W + at))


@helper
def take_targets(work, lists, outputs, word, negatives):
    """The word with label 1 and its negatives with label 0, without those equal to the word."""
    W = outputs.shape[1]
    targets = 0
    for t in range(negatives + 1):
        drawn = lists[_NEXT, t]
        if t == 0 or drawn != word:
            lists[_TARGETS, targets] = address(outputs, drawn * W)
            work[targets] = 1.0 if t == 0 else 0.0
            targets += 1
    return targets


@helper
def take_path(work, lists, outputs, word, paths, nodes, codes):
    """The inner nodes on a word's path. Also for the labels of fasttext_labels.py, whose `lists`
    have the targets in the same row."""
    W = outputs.shape[1]
    for k in range(paths[word], paths[word + 1]):
        t = k - paths[word]
        lists[_TARGETS, t] = address(outputs, nodes[k] * W)
        work[t] = codes[k]
    return paths[word + 1] - paths[word]


@helper
def take_row(lists, rows, array, start):
    """Append the row at array[start] to the first `rows`; return the new number of rows."""
    lists[_STARTS, rows] = start
    lists[_ROWS, rows] = address(array, start)
    return rows + 1


@helper
def has_row(lists, rows, start):
    """Whether the row at `start` is among the first `rows`."""
    found = False
    for r in range(rows):
        found |= lists[_STARTS, r] == start
    return found


@helper
def learn_rows(array, rows, targets, W, rate, measured, work, lists, seen):
    """Train the rows taken from a flat array (no row twice) and the targets on each other."""
    slots = lists.shape[1]
    h, o, f = address(lists, _ROWS * slots), address(lists, _TARGETS * slots), address(work, slots)
    dots(rows, targets, f, h, o, W // LANES)
    _weigh(work, slots, rows, targets, rate, measured, seen)
    if block(targets) == targets:
        exchange(rows, targets, f, h, h, o, W // LANES)
        return
    delta = mean_at(slots) + W
    for r in range(rows):
        clear(work, delta + r * W, W)
        lists[_TO, r] = address(work, delta + r * W)
    exchange(rows, targets, f, h, address(lists, _TO * slots), o, W // LANES)
    for r in range(rows):
        add(array, lists[_STARTS, r], work, delta + r * W, W)


@helper
def learn_mean(targets, W, rate, measured, work, lists, seen):
    """Train the targets on the mean at `mean_at`; return where in `work` the mean's update is. The
    mean itself is unchanged."""
    slots = lists.shape[1]
    mean, delta = mean_at(slots), mean_at(slots) + W
    clear(work, delta, W)
    lists[_ROWS, 0], lists[_TO, 0] = address(work, mean), address(work, delta)
    h, o, f = address(lists, _ROWS * slots), address(lists, _TARGETS * slots), address(work, slots)
    dots(1, targets, f, h, o, W // LANES)
    _weigh(work, slots, 1, targets, rate, measured, seen)
    exchange(1, targets, f, h, address(lists, _TO * slots), o, W // LANES)
    return delta


@helper
def _weigh(work, slots, rows, targets, rate, measured, seen):
    """Replace the products of rows and targets by rate · (label - predicted probability)."""
    count = rows * targets
    if measured:
        for k in range(count):
            product, sign = work[slots + k], 2.0 * work[k % targets] - 1.0
            seen[2] += math.log1p(math.exp(-abs(product))) + max(-sign * product, 0.0)
        seen[3] += rows
    for k in range(0, count, LANES):
        store(work, slots + k, sigmoid(load(work, slots + k)))
    for k in range(count):
        work[slots + k] = rate * (work[k % targets] - work[slots + k])


@jit
def train_words(
    inputs, outputs, tokens, ends, keep, alias, paths, nodes, codes, window, negatives, cbow,
    first_rate, last_rate, state, kept, work, lists, seen, loss_every,
):  # fmt: skip
    """Train on some sentences.

    inputs      float32[V, W]   word vectors; W is a whole number of SIMD vectors
    outputs     float32[V, W]   vectors of words as targets; with `paths` those of inner nodes
    tokens, ends                int32[n] words, int64[S] end of each sentence
    keep        uint32[V]       probability, of 2**32 - 1, that an occurrence of a word is kept
    alias       uint64[V]       distribution of negatives, as `draw_word` takes it
    paths       int64[V + 1]    word w's inner nodes are nodes[paths[w]:paths[w + 1]]; of length 0
                                for negative sampling
    codes       float32[·]      1 where the path continues to the node's first child
    negatives                   drawn per word
    first_rate, last_rate       learning rate at the first token and after the last, linear between
    state       uint64[1]       random state
    kept        int32[longest]  working memory, as long as the longest sentence
    work, lists                 `work_size` floats, aligned to 64 bytes, and int64[LISTS, slots]
    seen        float64[4]      added to: tokens read, words kept, loss, pairs in that loss
    loss_every                  words per measured loss
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
    flat = inputs.reshape(inputs.size)
    W = inputs.shape[1]
    sampled = len(paths) == 0
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
    """Skip-gram: every context word against the targets, MOST_ROWS of them at a time. A block ends
    early at a word it already contains, because a row must not be written twice."""
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
    """CBOW: the mean of the context against the targets; each word gets the mean's whole update, as
    in Mikolov's program (the gradient would be that divided by the number of words)."""
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
