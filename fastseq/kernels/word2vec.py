"""Word2Vec: words learn from the words around them (Mikolov et al. 2013, "Distributed
Representations of Words and Phrases and their Compositionality").

A row of tokens is a sentence. Words are dropped by chance according to their frequency first, so
that windows reach further; the window of each word is then drawn from 1 … `window`. A word and
its context are trained against targets: the word itself and words drawn by chance (negative
sampling), or the inner nodes of a Huffman tree on the way to it (hierarchical softmax). Skip-gram
trains every context word against them, CBOW the mean of all.

Negatives are drawn once for a word and shared by its whole context: then up to MOST_ROWS context
rows meet all targets at once (kernels/simd/rows.py; Ji et al. 2016, "Parallelizing Word2Vec in
Shared and Distributed Memory").
"""

from __future__ import annotations

import math

import numpy as np

from fastseq.kernels.draws import draw_below, draw_word, thin_out
from fastseq.kernels.jit import helper, jit
from fastseq.kernels.simd.bytes import prefetch
from fastseq.kernels.simd.floats import load, store
from fastseq.kernels.simd.rows import LINE, MOST_ROWS, add, block, clear, dots, exchange
from fastseq.kernels.simd.tiles import address
from fastseq.kernels.simd.vmath import sigmoid
from fastseq.kernels.simd.width import LANES

LISTS = 5


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
    work       float32[·]      `work_size` floats, aligned to 64 bytes
    lists      int64[5, room]  addresses, see below
    seen       float64[4]      added to: tokens read, words kept, loss, pairs whose loss that is
    loss_every words between two whose loss is looked at
    """
    n = ends[len(ends) - 1] if len(ends) > 0 else 0
    start = 0
    for s in range(len(ends)):
        end = ends[s]
        rate = first_rate + (last_rate - first_rate) * (start / n)
        count = thin_out(kept, tokens, start, end, keep, state)
        seen[0] += end - start
        _train_sentence(
            inputs, outputs, kept, count, alias, paths, nodes, codes, window, negatives, cbow,
            np.float32(rate), state, work, lists, seen, loss_every,
        )  # fmt: skip
        seen[1] += count
        start = end


# ---- working memory ----------------------------------------------------------------------------
#
# lists  int64[5, room]  addresses of the rows that learn, of where what they learn goes, and of the
#                        targets; the words of those rows; the words drawn for the next centre
# work   float32[·]      labels[room], products[MOST_ROWS, room], then rows of W: a mean of rows,
#                        and what each of MOST_ROWS rows learns
# room is the most targets of a word, in whole vectors

_ROWS, _TO, _TARGETS, _WORDS, _NEXT = range(LISTS)


def room_for(targets: int) -> int:
    """`room` for words of so many targets at most."""
    return -(-targets // LANES) * LANES


def work_size(room: int, width: int) -> int:
    """Floats of working memory, for rows of `width`."""
    return room * (1 + MOST_ROWS) + width * (1 + MOST_ROWS)


@helper
def _train_sentence(
    inputs, outputs, kept, count, alias, paths, nodes, codes, window, negatives, cbow, rate, state,
    work, lists, seen, loss_every,
):  # fmt: skip
    sampled = len(paths) == 0
    flat = inputs.reshape(inputs.size)
    W = inputs.shape[1]
    if sampled and count > 1:
        _draw_targets(lists, kept[0], negatives, alias, state, outputs)
    for i in range(count):
        reach = 1 + draw_below(state, window)
        first, last = max(0, i - reach), min(count, i + reach + 1)
        if sampled:
            targets = _take_targets(work, lists, outputs, kept[i], negatives)
            if i + 1 < count:
                _draw_targets(lists, kept[i + 1], negatives, alias, state, outputs)
        else:
            targets = _take_path(work, lists, outputs, kept[i], paths, nodes, codes)
        if last - first < 2 or targets == 0:
            continue
        measured = (int(seen[1]) + i) % loss_every == 0
        if cbow:
            _learn_mean(flat, W, kept, first, i, last, targets, rate, measured, work, lists, seen)
        else:
            _learn_each(flat, W, kept, first, i, last, targets, rate, measured, work, lists, seen)


@helper
def _draw_targets(lists, word, negatives, alias, state, outputs):
    """Draw a word's negatives, and ask for their rows and the word's own."""
    W = outputs.shape[1]
    for t in range(negatives + 1):
        drawn = word if t == 0 else draw_word(state, alias)
        lists[_NEXT, t] = drawn
        for at in range(0, W, LINE):
            prefetch(outputs, np.uint64(drawn * W + at))


@helper
def _take_targets(work, lists, outputs, word, negatives):
    """The word with label 1 and the negatives drawn for it, without those that are the word."""
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
def _take_path(work, lists, outputs, word, paths, nodes, codes):
    """The inner nodes on the way to a word."""
    W = outputs.shape[1]
    for k in range(paths[word], paths[word + 1]):
        t = k - paths[word]
        lists[_TARGETS, t] = address(outputs, nodes[k] * W)
        work[t] = codes[k]
    return paths[word + 1] - paths[word]


@helper
def _learn_each(inputs, W, kept, first, centre, last, targets, rate, measured, work, lists, seen):
    """Skip-gram: every context word against the targets, MOST_ROWS of them at a time. A block
    ends early at a word that it has already, whose row must not be written twice."""
    rows = 0
    for j in range(first, last):
        if j != centre:
            again = False
            for r in range(rows):
                again |= lists[_WORDS, r] == kept[j]
            if rows == MOST_ROWS or again:
                _learn(inputs, rows, targets, W, rate, measured, work, lists, seen)
                rows = 0
            lists[_WORDS, rows] = kept[j]
            lists[_ROWS, rows] = address(inputs, kept[j] * W)
            rows += 1
    _learn(inputs, rows, targets, W, rate, measured, work, lists, seen)


@helper
def _learn(inputs, rows, targets, W, rate, measured, work, lists, seen):
    """Rows of words and the targets, from each other."""
    room = lists.shape[1]
    h, o, f = address(lists, _ROWS * room), address(lists, _TARGETS * room), address(work, room)
    dots(rows, targets, f, h, o, W // LANES)
    _weigh(work, room, rows, targets, rate, measured, seen)
    if block(targets) == targets:
        exchange(rows, targets, f, h, h, o, W // LANES)
        return
    delta = room * (1 + MOST_ROWS) + W
    for r in range(rows):
        clear(work, delta + r * W, W)
        lists[_TO, r] = address(work, delta + r * W)
    exchange(rows, targets, f, h, address(lists, _TO * room), o, W // LANES)
    for r in range(rows):
        add(inputs, lists[_WORDS, r] * W, work, delta + r * W, W)


@helper
def _learn_mean(inputs, W, kept, first, centre, last, targets, rate, measured, work, lists, seen):
    """CBOW: the mean of the context against the targets; what it learns, each of its words does
    (as Mikolov's program has it: the gradient would be that divided by their number)."""
    room = lists.shape[1]
    mean, delta = room * (1 + MOST_ROWS), room * (1 + MOST_ROWS) + W
    clear(work, mean, W)
    for j in range(first, last):
        if j != centre:
            add(work, mean, inputs, kept[j] * W, W)
    share = np.float32(1.0 / (last - first - 1))
    for k in range(mean, mean + W, LANES):
        store(work, k, load(work, k) * share)
    clear(work, delta, W)
    lists[_ROWS, 0], lists[_TO, 0] = address(work, mean), address(work, delta)
    h, o, f = address(lists, _ROWS * room), address(lists, _TARGETS * room), address(work, room)
    dots(1, targets, f, h, o, W // LANES)
    _weigh(work, room, 1, targets, rate, measured, seen)
    exchange(1, targets, f, h, address(lists, _TO * room), o, W // LANES)
    for j in range(first, last):
        if j != centre:
            add(inputs, kept[j] * W, work, delta, W)


@helper
def _weigh(work, room, rows, targets, rate, measured, seen):
    """From the products of rows and targets to what they add to each other: rate times the
    label less the chance that the model gives it."""
    count = rows * targets
    if measured:
        for k in range(count):
            sign = 2.0 * work[k % targets] - 1.0
            seen[2] += math.log1p(math.exp(-abs(work[room + k]))) + max(-sign * work[room + k], 0.0)
        seen[3] += rows
    for k in range(0, count, LANES):
        store(work, room + k, sigmoid(load(work, room + k)))
    for k in range(count):
        work[room + k] = rate * (work[k % targets] - work[room + k])
