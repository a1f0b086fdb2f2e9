"""Alias tables and Huffman trees of a vocabulary's counts."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit

_SCALE = 4294967296.0  # 2**32


@jit
def fill_alias(alias, weights, small, large):
    """Build Walker's alias table, for drawing i with a probability proportional to weights[i].

    Source: Vose 1991, "A Linear Algorithm for Generating Random Numbers with a Given Distribution".

    alias         uint64[V]  out: in the high half the alias of column i, in the low half the
                             probability of i itself, of 2**32
    weights       float64[V] in: at least 0, mean 1; overwritten
    small, large  int64[V]   working memory
    """
    V = len(weights)
    smalls = larges = 0
    for i in range(V):
        if weights[i] < 1.0:
            small[smalls] = i
            smalls += 1
        else:
            large[larges] = i
            larges += 1
    while smalls > 0 and larges > 0:
        smalls -= 1
        i, j = small[smalls], large[larges - 1]
        own = np.uint64(min(weights[i] * _SCALE, _SCALE - 1.0))
        alias[i] = (np.uint64(j) << np.uint64(32)) | own
        weights[j] -= 1.0 - weights[i]
        if weights[j] < 1.0:
            larges -= 1
            small[smalls] = j
            smalls += 1
    for k in range(smalls):  # left over by rounding: 1
        alias[small[k]] = (np.uint64(small[k]) << np.uint64(32)) | np.uint64(_SCALE - 1.0)
    for k in range(larges):
        alias[large[k]] = (np.uint64(large[k]) << np.uint64(32)) | np.uint64(_SCALE - 1.0)


@jit
def build_tree(parents, codes, counts, order, inner_first):
    """Build a Huffman tree.

    Nodes 0 … V - 1 are the words, V … 2V - 2 the inner nodes, the last of which is the root. Two
    queues, of words by count and of inner nodes as they are made, give the two smallest at every
    step (van Leeuwen 1976).

    parents      int64[2V - 1]    out: of each node; the root is its own
    codes        float32[2V - 1]  out: 1 for the first of two children, 0 for the second
    counts       float64[2V - 1]  in: of the words; out: of the inner nodes too
    order        int64[V]         words by ascending count
    inner_first                   of equal counts inner nodes are taken before words
    """
    V = len(order)
    word, inner = 0, V
    for node in range(V, 2 * V - 1):
        total = 0.0
        for child in range(2):
            wins = word < V
            if wins and inner < node:
                a, b = counts[order[word]], counts[inner]
                wins = a < b or (a == b and not inner_first)
            if wins:
                least = order[word]
                word += 1
            else:
                least = inner
                inner += 1
            parents[least] = node
            codes[least] = 1.0 - child
            total += counts[least]
        counts[node] = total
    parents[2 * V - 2] = 2 * V - 2
