"""FastText's text classifier (Joulin et al. 2016, "Bag of Tricks for Efficient Text
Classification", section 2): a linear layer on the mean of the rows of a text's words and n-grams.

N-grams are hashed into buckets exactly as in the authors' program, so models are interchangeable.
Only buckets in use have rows.
"""

from __future__ import annotations

import math

import numpy as np

from fastseq.kernels.core.jit import helper, jit
from fastseq.kernels.core.rng import draw_below, draw_word
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.floats import load, store
from fastseq.kernels.simd.rows import (
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
from fastseq.kernels.simd.vmath import exp, sigmoid
from fastseq.kernels.text.ngrams import hashed
from fastseq.kernels.vectors.word2vec import take_path

SOFTMAX, HIERARCHICAL, NEGATIVE, OVA = range(4)

_BASIS = np.uint32(2166136261)
_FACTOR = np.uint64(116049371)
_U1 = np.uint64(1)
_LEAST = np.float32(-1e30)  # in the place of no target: e to it is 0

# lists  int64[LISTS, slots]  addresses of the mean, of its gradient, and of the targets
# work   float32[·]           labels[slots], products[slots], mean[W] and its gradient[W]
LISTS = 3
_MEAN, _TO, _TARGETS = range(LISTS)


def work_size(slots: int, width: int) -> int:
    """Size of `work` in floats, for rows of `width` and `slots` targets (word2vec.slots_for)."""
    return 2 * slots + 2 * width


@jit
def hash_words(out, data, offsets):
    """Hash each word data[offsets[w]:offsets[w + 1]] to out[w], uint32, like n-grams (`hashed`)."""
    for w in range(np.uint64(len(out))):
        h = _BASIS
        for i in range(np.uint64(offsets[w]), np.uint64(offsets[np.uint64(w) + _U1])):
            h = hashed(h, data[np.uint64(i)])
        out[w] = h


@jit
def count_rows(counts, tokens, offsets, own, gram_ends, end, longest):
    """Set counts, int64[D], to the number of rows of each text. Arguments as in `fill_rows`."""
    for text in range(len(counts)):
        start, stop = offsets[text], offsets[text + 1]
        total = np.int64(own[end] >= 0)
        for i in range(start, stop):
            word = tokens[i]
            total += (own[word] >= 0) + gram_ends[word + 1] - gram_ends[word]
        for n in range(2, longest + 1):
            total += max(stop - start + 2 - n, 0)
        counts[text] = total


@jit
def fill_rows(rows, ends, tokens, offsets, own, hashes, grams, gram_ends, end, longest, buckets):
    """The rows of each of D texts: those of its words and their character n-grams in order, of the
    end-of-line token, then of the word n-grams by their start.

    rows       int32[n]      text t gets rows[ends[t]:ends[t + 1]]; bucket b as -1 - b
    ends       int64[D + 1]
    tokens     int32[·]      text t has the words tokens[offsets[t]:offsets[t + 1]]
    own        int32[V]      the row of each word; -1 for none
    hashes     uint32[V]     as `hash_words` makes them
    grams      int32[·]      word w's character n-grams: grams[gram_ends[w]:gram_ends[w + 1]]
    end                      id of the end-of-line token
    longest                  maximum length of word n-grams; 1 for none
    buckets                  at least 1 where there are word n-grams
    """
    for text in range(len(ends) - 1):
        to = ends[text]
        start, stop = offsets[text], offsets[text + 1]
        for i in range(start, stop):
            word = tokens[i]
            if own[word] >= 0:
                rows[to] = own[word]
                to += 1
            for k in range(gram_ends[word], gram_ends[word + 1]):
                rows[to] = -1 - grams[k]
                to += 1
        if own[end] >= 0:
            rows[to] = own[end]
            to += 1
        if longest < 2:
            continue
        for i in range(start, stop):
            h = np.uint64(np.int64(np.int32(hashes[tokens[i]])))
            for j in range(i + 1, min(i + longest, stop + 1)):
                word = np.int64(tokens[j]) if j < stop else np.int64(end)
                h = h * _FACTOR + np.uint64(np.int64(np.int32(hashes[word])))
                rows[to] = np.int32(-1 - np.int64(h % np.uint64(buckets)))
                to += 1


@jit
def mean_rows(out, rows, ends, table):
    """Set out, float32[D, W], to the mean of table[rows[ends[t]:ends[t + 1]]] of each text; rows
    below 0 count as zeros. table float32[R, W], W a whole number of SIMD vectors."""
    W = table.shape[1]
    flat, to = table.reshape(table.size), out.reshape(out.size)
    for text in range(len(ends) - 1):
        first, last = ends[text], ends[text + 1]
        clear(to, text * W, W)
        for r in range(first, last):
            if rows[r] >= 0:
                add(to, text * W, flat, np.int64(rows[r]) * W, W)
        scale(to, text * W, 1.0 / max(last - first, 1), W)


@jit
def train_labels(
    inputs, outputs, rows, ends, labels, label_ends, sizes, order, kind, alias, paths, nodes, codes,
    negatives, first_rate, last_rate, state, work, lists, seen, loss_every,
):  # fmt: skip
    """Train on some texts.

    inputs      float32[R, W]   rows of words and buckets; W is a whole number of SIMD vectors
    outputs     float32[K, W]   rows of labels; of the inner nodes where `kind` is HIERARCHICAL
    rows        int32[n]        text t has the rows rows[ends[t]:ends[t + 1]]
    labels      int32[·]        and the labels labels[label_ends[t]:label_ends[t + 1]]; several are
                                all used by OVA, else a random one
    sizes       int32[D]        words of each text, by which the learning rate decays
    order       int64[m]        the texts to train on
    kind                        SOFTMAX, HIERARCHICAL, NEGATIVE or OVA
    alias       uint64[K]       distribution of negatives, as `draw_word` takes it
    paths       int64[K + 1]    label k's inner nodes are nodes[paths[k]:paths[k + 1]]
    codes       float32[·]      the label of each of these nodes, 0 or 1
    negatives                   labels drawn in addition to the right one
    first_rate, last_rate       learning rate at the first word and after the last, linear between
    state       uint64[1]       random state
    work, lists                 `work_size` floats, aligned to 64 bytes, and int64[LISTS, slots]
    seen        float64[4]      added to: words read, texts, loss, texts in that loss
    loss_every                  texts per measured loss; softmax measures every text
    """
    W = inputs.shape[1]
    slots = lists.shape[1]
    mean, delta = 2 * slots, 2 * slots + W
    flat = inputs.reshape(inputs.size)
    total = np.int64(0)
    for i in range(len(order)):
        total += sizes[order[i]]
    lists[_MEAN, 0], lists[_TO, 0] = address(work, mean), address(work, delta)
    if kind in (SOFTMAX, OVA):
        for k in range(len(outputs)):
            lists[_TARGETS, k] = address(outputs, k * W)
    h, to, o = address(lists, 0), address(lists, slots), address(lists, _TARGETS * slots)
    f = address(work, slots)
    done = np.int64(0)
    for i in range(len(order)):
        text = order[i]
        if i + 1 < len(order):
            fetch_rows(flat, W, rows, ends[order[i + 1]], ends[order[i + 1] + 1])
        rate = np.float32(first_rate + (last_rate - first_rate) * (done / max(total, 1)))
        done += sizes[text]
        first, last = ends[text], ends[text + 1]
        label, label_end = label_ends[text], label_ends[text + 1]
        seen[0] += sizes[text]
        if first == last or label == label_end:
            continue
        measured = int(seen[1]) % loss_every == 0
        seen[1] += 1
        if kind != OVA and label_end - label > 1:
            label += draw_below(state, label_end - label)
        share = np.float32(1.0 / (last - first))
        clear(work, mean, W)
        sum_rows(work, mean, flat, W, rows, first, last)
        scale(work, mean, share, W)
        clear(work, delta, W)
        targets = len(outputs)
        if kind == HIERARCHICAL:
            targets = take_path(work, lists, outputs, labels[label], paths, nodes, codes)
        elif kind == NEGATIVE:
            targets = _take_labels(work, lists, outputs, labels[label], negatives, alias, state)
        elif kind == OVA:
            for k in range(targets):
                work[k] = 0.0
            for k in range(label, label_end):
                work[labels[k]] = 1.0
        dots(1, targets, f, h, o, W // LANES)
        if kind == SOFTMAX:
            _weigh_softmax(work, slots, targets, labels[label], rate, seen)
        else:
            _weigh_binary(work, slots, targets, rate, measured, seen)
        exchange(1, targets, f, h, to, o, W // LANES)
        scale(work, delta, share, W)
        add_to_rows(flat, W, rows, first, last, work, delta)


@helper
def _take_labels(work, lists, outputs, label, negatives, alias, state):
    """Set a label as the target 1 and random other labels as targets 0; return their number."""
    W = outputs.shape[1]
    lists[_TARGETS, 0] = address(outputs, np.int64(label) * W)
    work[0] = 1.0
    for t in range(1, negatives + 1):
        drawn = draw_word(state, alias)
        while drawn == label:
            drawn = draw_word(state, alias)
        lists[_TARGETS, t] = address(outputs, drawn * W)
        work[t] = 0.0
    return negatives + 1


@helper
def _weigh_softmax(work, slots, targets, label, rate, seen):
    """Replace the products by rate · (label - softmax probability)."""
    largest = work[slots]
    for k in range(1, targets):
        largest = max(largest, work[slots + k])
    right = work[slots + label] - largest
    padded = -(-targets // LANES) * LANES
    for k in range(targets, padded):
        work[slots + k] = _LEAST
    for k in range(slots, slots + padded, LANES):
        store(work, k, exp(load(work, k) - largest))
    total = np.float32(0.0)
    for k in range(slots, slots + targets):
        total += work[k]
    seen[2] += math.log(total) - right
    seen[3] += 1
    share = rate / total
    for k in range(slots, slots + targets):
        work[k] = -share * work[k]
    work[slots + label] += rate


@helper
def _weigh_binary(work, slots, targets, rate, measured, seen):
    """Replace the products by rate · (label - sigmoid probability)."""
    if measured:
        for k in range(targets):
            x = np.float64(work[slots + k])
            x = x if work[k] < 0.5 else -x
            seen[2] += math.log1p(math.exp(-abs(x))) + max(x, 0.0)
        seen[3] += 1
    for k in range(0, targets, LANES):
        store(work, slots + k, sigmoid(load(work, slots + k)))
    for k in range(targets):
        work[slots + k] = rate * (work[k] - work[slots + k])
