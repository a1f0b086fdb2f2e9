"""FastText: Word2Vec whose words are the mean of a vector of their own and those of their character
n-grams (Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information").

Words are thinned out and windows drawn as in kernels/word2vec.py. Skip-gram predicts the context
from the word, as the authors' program does, not the word from each of its context: then the mean of
a word's rows is made once for a window, and what all its targets teach is added to them once. One
pair at a time, every pair would read and write some twenty rows.

The negatives of a window are drawn once, SHARED for each that a pair is to have; each stands for as
many as it takes to make up `negatives` for every context word that it is not itself. Pairs one
after the other, the mean moving in between and ten sets of negatives, were slower and no better
(bench/RESULTS.md).

CBOW predicts the word from the mean of all rows of its context. The sum of a word's rows is made
when it comes into reach and what it has learned is added to them when it has left, so that each
place of a sentence is read and written once and not with every window that it falls in. In between
its sum moves with what it learns: only another occurrence of its n-grams sees them late.
"""

from __future__ import annotations

import math

import numpy as np

from fastseq.kernels.draws import draw_below, draw_word, thin_out
from fastseq.kernels.jit import helper, inline, jit
from fastseq.kernels.simd.bytes import prefetch
from fastseq.kernels.simd.floats import fma, load, splat, store
from fastseq.kernels.simd.rows import (
    LINE,
    add,
    add_to_rows,
    clear,
    dots,
    exchange,
    fetch_rows,
    scale,
    sum_rows,
)
from fastseq.kernels.simd.tiles import address
from fastseq.kernels.simd.vmath import sigmoid
from fastseq.kernels.simd.width import LANES

# Negatives of a window for each that a pair is to have. With 2 fastText's analogies of 25 million
# words fell by a point, with 5 they did not (of some six pairs in a window each has 30 in all).
SHARED = 5

# lists  int64[4, room]  address of the mean, of where what it learns goes, of the targets; the
#                        words drawn for the next centre
# work   float32[·]      labels, shares and products of `room` targets; the mean and what it learns,
#                        rows of W; the sums of the places in reach and what they have learned
LISTS = 4
_MEAN, _TO, _TARGETS, _NEXT = range(LISTS)


def room_for(window: int, negatives: int, path: int) -> int:
    """The most targets at a time, in whole vectors."""
    most = max(2 * window + SHARED * negatives, negatives + 1, path)
    return -(-most // LANES) * LANES


def work_size(room: int, width: int, window: int) -> int:
    """Floats of working memory, for rows of `width`."""
    return 3 * room + (2 + 2 * _ring(window)) * width


@inline
def _ring(window):
    """Places that are in reach at a time, at most."""
    return 2 * window + 1


@jit
def train_fasttext(
    own, table, outputs, grams, gram_ends, tokens, ends, keep, alias, paths, nodes, codes, window,
    negatives, cbow, first_rate, last_rate, state, kept, work, lists, seen, loss_every,
):  # fmt: skip
    """One pass over some sentences.

    own        float32[V, W]  a row for each word, W in whole vectors
    table      float32[R, W]  rows of n-grams
    outputs    float32[V, W]  vectors of words as targets; with paths of the tree's inner nodes
    grams      int32[·]       the rows of word w's n-grams are grams[gram_ends[w]:gram_ends[w + 1]]
    gram_ends  int64[V + 1]
    work       float32[·]     `work_size` floats, aligned to 64 bytes
    lists      int64[4, room]
    loss_every words between two whose loss is looked at

    The others are those of kernels/word2vec.train_words.
    """
    n = ends[len(ends) - 1] if len(ends) > 0 else 0
    start = 0
    for s in range(len(ends)):
        end = ends[s]
        rate = np.float32(first_rate + (last_rate - first_rate) * (start / n))
        count = thin_out(kept, tokens, start, end, keep, state)
        seen[0] += end - start
        if count > 1:
            if cbow:
                _train_means(
                    own, table, outputs, grams, gram_ends, kept, count, alias, paths, nodes, codes,
                    window, negatives, rate, state, work, lists, seen, loss_every,
                )  # fmt: skip
            else:
                _train_words(
                    own, table, outputs, grams, gram_ends, kept, count, alias, paths, nodes, codes,
                    window, negatives, rate, state, work, lists, seen, loss_every,
                )  # fmt: skip
        seen[1] += count
        start = end


# ---- skip-gram ---------------------------------------------------------------------------------


@helper
def _train_words(
    own, table, outputs, grams, gram_ends, kept, count, alias, paths, nodes, codes, window,
    negatives, rate, state, work, lists, seen, loss_every,
):  # fmt: skip
    W = own.shape[1]
    room = lists.shape[1]
    mean, delta = 3 * room, 3 * room + W
    sampled = len(paths) == 0
    if sampled:
        _draw_targets(lists, outputs, SHARED * negatives, alias, state)
    _fetch(own, table, kept[0], grams, gram_ends)
    for i in range(count):
        word = kept[i]
        reach = 1 + draw_below(state, window)
        first, last = max(0, i - reach), min(count, i + reach + 1)
        measured = (int(seen[1]) + i) % loss_every == 0
        if i + 1 < count:
            _fetch(own, table, kept[i + 1], grams, gram_ends)
        _sum(work, mean, own, table, word, grams, gram_ends)
        scale(work, mean, 1.0 / (1 + gram_ends[word + 1] - gram_ends[word]), W)
        clear(work, delta, W)
        targets = 0
        if sampled:
            targets = _take_context(work, lists, outputs, kept, first, i, last, negatives)
            if i + 1 < count:
                _draw_targets(lists, outputs, SHARED * negatives, alias, state)
            _learn(work, lists, mean, delta, targets, rate, measured, W, seen)
        else:
            for j in range(first, last):
                if j != i:
                    targets = _take_path(work, lists, outputs, kept[j], paths, nodes, codes)
                    _learn(work, lists, mean, delta, targets, rate, measured, W, seen)
        if measured and targets > 0:  # the tree of a single word has no nodes
            seen[3] += last - first - 1
        _teach(own, table, word, grams, gram_ends, work, delta)


@helper
def _take_context(work, lists, outputs, kept, first, centre, last, negatives):
    """The context with label 1, and the negatives that were drawn."""
    W = outputs.shape[1]
    room = lists.shape[1]
    targets = 0
    for j in range(first, last):
        if j != centre:
            lists[_TARGETS, targets] = address(outputs, kept[j] * W)
            work[targets] = 1.0
            work[room + targets] = 1.0
            targets += 1
    for t in range(SHARED * negatives):
        drawn = lists[_NEXT, t]
        pairs = last - first - 1
        for j in range(first, last):
            if j != centre and kept[j] == drawn:
                pairs -= 1
        if pairs > 0:
            lists[_TARGETS, targets] = address(outputs, drawn * W)
            work[targets] = 0.0
            work[room + targets] = np.float32(pairs / SHARED)
            targets += 1
    return targets


# ---- CBOW --------------------------------------------------------------------------------------


@helper
def _train_means(
    own, table, outputs, grams, gram_ends, kept, count, alias, paths, nodes, codes, window,
    negatives, rate, state, work, lists, seen, loss_every,
):  # fmt: skip
    W = own.shape[1]
    room = lists.shape[1]
    mean, delta = 3 * room, 3 * room + W
    ring = _ring(window)
    sums = 3 * room + 2 * W
    learned = sums + ring * W
    sampled = len(paths) == 0
    if sampled:
        _draw_targets(lists, outputs, negatives, alias, state)
    entered, left = 0, 0
    for i in range(count):
        while entered < min(count, i + window + 1):
            if entered + 1 < count:
                _fetch(own, table, kept[entered + 1], grams, gram_ends)
            at = entered % ring * W
            _sum(work, sums + at, own, table, kept[entered], grams, gram_ends)
            clear(work, learned + at, W)
            entered += 1
        reach = 1 + draw_below(state, window)
        first, last = max(0, i - reach), min(count, i + reach + 1)
        measured = (int(seen[1]) + i) % loss_every == 0
        clear(work, mean, W)
        rows = 0
        for j in range(first, last):
            if j != i:
                add(work, mean, work, sums + j % ring * W, W)
                rows += 1 + gram_ends[kept[j] + 1] - gram_ends[kept[j]]
        scale(work, mean, 1.0 / rows, W)
        clear(work, delta, W)
        if sampled:
            targets = _take_word(work, lists, outputs, kept[i], negatives)
            if i + 1 < count:
                _draw_targets(lists, outputs, negatives, alias, state)
        else:
            targets = _take_path(work, lists, outputs, kept[i], paths, nodes, codes)
        _learn(work, lists, mean, delta, targets, rate, measured, W, seen)
        if measured and targets > 0:
            seen[3] += 1
        for j in range(first, last):
            if j != i:
                at = j % ring * W
                many = splat(np.float32(1 + gram_ends[kept[j] + 1] - gram_ends[kept[j]]))
                add(work, learned + at, work, delta, W)
                for k in range(0, W, LANES):
                    to = sums + at + k
                    store(work, to, fma(many, load(work, delta + k), load(work, to)))
        while left < count and (left + window <= i or i + 1 == count):
            at = learned + left % ring * W
            _teach(own, table, kept[left], grams, gram_ends, work, at)
            left += 1


@helper
def _take_word(work, lists, outputs, word, negatives):
    """The word with label 1 and the negatives that were drawn, without those that are the word."""
    W = outputs.shape[1]
    room = lists.shape[1]
    targets = 0
    for t in range(negatives + 1):
        drawn = word if t == 0 else lists[_NEXT, t - 1]
        if t == 0 or drawn != word:
            lists[_TARGETS, targets] = address(outputs, drawn * W)
            work[targets] = 1.0 if t == 0 else 0.0
            work[room + targets] = 1.0
            targets += 1
    return targets


# ---- both --------------------------------------------------------------------------------------


@helper
def _take_path(work, lists, outputs, word, paths, nodes, codes):
    """The inner nodes on the way to a word."""
    W = outputs.shape[1]
    room = lists.shape[1]
    for k in range(paths[word], paths[word + 1]):
        t = k - paths[word]
        lists[_TARGETS, t] = address(outputs, nodes[k] * W)
        work[t] = codes[k]
        work[room + t] = 1.0
    return paths[word + 1] - paths[word]


@helper
def _draw_targets(lists, outputs, many, alias, state):
    """Draw negatives, and ask for their rows."""
    W = outputs.shape[1]
    for t in range(many):
        drawn = draw_word(state, alias)
        lists[_NEXT, t] = drawn
        for at in range(0, W, LINE):
            prefetch(outputs, np.uint64(drawn * W + at))


@helper
def _fetch(own, table, word, grams, gram_ends):
    """Ask for the rows of a word."""
    W = own.shape[1]
    for at in range(0, W, LINE):
        prefetch(own, np.uint64(word * W + at))
    fetch_rows(table.reshape(table.size), W, grams, gram_ends[word], gram_ends[word + 1])


@helper
def _sum(work, to, own, table, word, grams, gram_ends):
    """work[to:to + W] = the sum of a word's rows."""
    W = own.shape[1]
    clear(work, to, W)
    add(work, to, own.reshape(own.size), word * W, W)
    pieces = table.reshape(table.size)
    sum_rows(work, to, pieces, W, grams, gram_ends[word], gram_ends[word + 1])


@helper
def _teach(own, table, word, grams, gram_ends, work, at):
    """Add work[at:at + W] to each of a word's rows: the whole of it, as the authors' program."""
    W = own.shape[1]
    add(own.reshape(own.size), word * W, work, at, W)
    pieces = table.reshape(table.size)
    add_to_rows(pieces, W, grams, gram_ends[word], gram_ends[word + 1], work, at)


@helper
def _learn(work, lists, mean, delta, targets, rate, measured, W, seen):
    """The mean and the targets, from each other; what the mean learns is added to delta."""
    room = lists.shape[1]
    lists[_MEAN, 0], lists[_TO, 0] = address(work, mean), address(work, delta)
    h, to = address(lists, _MEAN * room), address(lists, _TO * room)
    o, f = address(lists, _TARGETS * room), address(work, 2 * room)
    dots(1, targets, f, h, o, W // LANES)
    if measured:
        for t in range(targets):
            product = work[2 * room + t]
            sign = 2.0 * work[t] - 1.0
            loss = math.log1p(math.exp(-abs(product))) + max(-sign * product, 0.0)
            seen[2] += work[room + t] * loss
    for t in range(0, targets, LANES):
        error = load(work, t) - sigmoid(load(work, 2 * room + t))
        store(work, 2 * room + t, splat(rate) * load(work, room + t) * error)
    exchange(1, targets, f, h, to, o, W // LANES)
