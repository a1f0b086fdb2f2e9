"""A window of a sentence: its targets, and rows that they and the rows learn from each other.

What the kernels of Word2Vec and of FastText share. The targets of a word are the word itself and
words drawn by chance (negative sampling), or the inner nodes of a Huffman tree on the way to it
(hierarchical softmax). They are drawn once for a word and meet its whole context: then up to
MOST_ROWS rows meet all of them at once (kernels/simd/rows.py; Ji et al. 2016, "Parallelizing
Word2Vec in Shared and Distributed Memory").

lists  int64[LISTS, room]  addresses of the rows that learn, of where what they learn goes, and of
                           the targets; where those rows begin in their array; the words drawn for
                           the next centre
work   float32[·]          labels[room], products[MOST_ROWS, room], then rows of W: a mean of rows,
                           and what each of MOST_ROWS rows learns
room is the most targets of a word, in whole vectors.
"""

from __future__ import annotations

import math

import numpy as np

from fastseq.kernels.core.jit import helper, inline
from fastseq.kernels.core.rng import draw_word
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.bytes import prefetch
from fastseq.kernels.simd.floats import load, store
from fastseq.kernels.simd.rows import LINE, MOST_ROWS, add, block, clear, dots, exchange
from fastseq.kernels.simd.tiles import address
from fastseq.kernels.simd.vmath import sigmoid

LISTS = 5
_ROWS, _TO, _TARGETS, _STARTS, _NEXT = range(LISTS)


def room_for(targets: int) -> int:
    """`room` for words of so many targets at most."""
    return -(-targets // LANES) * LANES


def work_size(room: int, width: int) -> int:
    """Floats of working memory, for rows of `width`."""
    return room * (1 + MOST_ROWS) + width * (1 + MOST_ROWS)


@inline
def mean_at(room):
    """Where the mean begins in `work`."""
    return room * (1 + MOST_ROWS)


# ---- targets -----------------------------------------------------------------------------------


@helper
def draw_targets(lists, word, negatives, alias, state, outputs):
    """Draw a word's negatives, and ask for their rows and the word's own."""
    W = outputs.shape[1]
    for t in range(negatives + 1):
        drawn = word if t == 0 else draw_word(state, alias)
        lists[_NEXT, t] = drawn
        for at in range(0, W, LINE):
            prefetch(outputs, np.uint64(drawn * W + at))


@helper
def take_targets(work, lists, outputs, word, negatives):
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
def take_path(work, lists, outputs, word, paths, nodes, codes):
    """The inner nodes on the way to a word."""
    W = outputs.shape[1]
    for k in range(paths[word], paths[word + 1]):
        t = k - paths[word]
        lists[_TARGETS, t] = address(outputs, nodes[k] * W)
        work[t] = codes[k]
    return paths[word + 1] - paths[word]


# ---- rows and targets --------------------------------------------------------------------------


@helper
def take_row(lists, rows, array, start):
    """The row that begins at array[start] joins the `rows` there are; how many there are now."""
    lists[_STARTS, rows] = start
    lists[_ROWS, rows] = address(array, start)
    return rows + 1


@helper
def has_row(lists, rows, start):
    """Is the row that begins at `start` among the first `rows`?"""
    found = False
    for r in range(rows):
        found |= lists[_STARTS, r] == start
    return found


@helper
def learn_rows(array, rows, targets, W, rate, measured, work, lists, seen):
    """The rows of a flat array that were taken, none twice, and the targets, from each other."""
    room = lists.shape[1]
    h, o, f = address(lists, _ROWS * room), address(lists, _TARGETS * room), address(work, room)
    dots(rows, targets, f, h, o, W // LANES)
    _weigh(work, room, rows, targets, rate, measured, seen)
    if block(targets) == targets:
        exchange(rows, targets, f, h, h, o, W // LANES)
        return
    delta = mean_at(room) + W
    for r in range(rows):
        clear(work, delta + r * W, W)
        lists[_TO, r] = address(work, delta + r * W)
    exchange(rows, targets, f, h, address(lists, _TO * room), o, W // LANES)
    for r in range(rows):
        add(array, lists[_STARTS, r], work, delta + r * W, W)


@helper
def learn_mean(targets, W, rate, measured, work, lists, seen):
    """The mean at `mean_at` and the targets, from each other; where in `work` stands what the mean
    learns, itself as it was."""
    room = lists.shape[1]
    mean, delta = mean_at(room), mean_at(room) + W
    clear(work, delta, W)
    lists[_ROWS, 0], lists[_TO, 0] = address(work, mean), address(work, delta)
    h, o, f = address(lists, _ROWS * room), address(lists, _TARGETS * room), address(work, room)
    dots(1, targets, f, h, o, W // LANES)
    _weigh(work, room, 1, targets, rate, measured, seen)
    exchange(1, targets, f, h, address(lists, _TO * room), o, W // LANES)
    return delta


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
