"""How often words are drawn, and by which way they are found: what the training of word vectors
needs to know of a vocabulary's counts.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit

_SCALE = 4294967296.0  # 2**32


@jit
def fill_alias(alias, weights, small, large):
    """Walker's table for drawing i with a chance proportional to weights[i], in one look.

    Source: Vose 1991, "A Linear Algorithm for Generating Random Numbers with a Given Distribution".

    alias         uint64[V]  out: the other number of column i in the high half; in the low half
                             the share of the column, of 2**32, that is i's own
    weights       float64[V] in: at least 0, their mean 1; used up
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
    for k in range(smalls):  # what rounding has left over is 1
        alias[small[k]] = (np.uint64(small[k]) << np.uint64(32)) | np.uint64(_SCALE - 1.0)
    for k in range(larges):
        alias[large[k]] = (np.uint64(large[k]) << np.uint64(32)) | np.uint64(_SCALE - 1.0)


@jit
def build_tree(parents, codes, counts, order):
    """A Huffman tree: the words whose counts are largest have the shortest ways.

    Nodes 0 … V - 1 are the words, V … 2V - 2 the inner nodes, the last one being the root. Two
    queues, of words by count and of inner nodes as they were made, give the two least at every
    step (van Leeuwen 1976); of equals words come first.

    parents  int64[2V - 1]    out: of each node; of the root itself
    codes    float32[2V - 1]  out: 1 for the first of two children, 0 for the second
    counts   float64[2V - 1]  in: of the words; out: of the inner nodes too
    order    int64[V]         words by ascending count
    """
    V = len(order)
    word, inner = 0, V
    for node in range(V, 2 * V - 1):
        total = 0.0
        for child in range(2):
            if word < V and (inner >= node or counts[order[word]] <= counts[inner]):
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


@jit
def walk_tree(nodes, labels, paths, parents, codes):
    """The inner nodes on each word's way from the root, numbered from the root as V - 2 down to 0.

    nodes   int64[·]      out; of length 0 to fill `paths` alone
    labels  float32[·]    out: the code of the child that the way goes to
    paths   int64[V + 1]  out: word w's way is nodes[paths[w]:paths[w + 1]]
    """
    V = len(paths) - 1
    paths[0] = 0
    for w in range(V):
        length = 0
        node = w
        while parents[node] != node:
            node = parents[node]
            length += 1
        paths[w + 1] = paths[w] + length
        if len(nodes) > 0:
            node = w
            for k in range(paths[w + 1] - 1, paths[w] - 1, -1):
                labels[k] = codes[node]
                node = parents[node]
                nodes[k] = node - V
