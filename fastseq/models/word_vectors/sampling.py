"""From word counts: subsampling, negative sampling, Huffman trees, runs that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastseq.kernels.vectors.sampling import build_tree, fill_alias
from fastseq.types import Float32, Int32, Int64, UInt32, UInt64

ALWAYS = np.uint32(0xFFFFFFFF)
_BLOCK = 1 << 22  # ids counted at a time: NumPy makes them 64 bits wide


def occurrences(ids: Int32, words: int) -> Int64:
    """int64[words]: the number of occurrences of each id."""
    counts = np.zeros(words, np.int64)
    for start in range(0, len(ids), _BLOCK):
        counts += np.bincount(ids[start : start + _BLOCK], minlength=words)
    return counts


def runs_of(sizes: Int64, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of neighbouring items whose sizes sum to at most `most`, or of one item."""
    ends, first = np.cumsum(sizes), 0
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, "right")))
        yield first, last
        first = last


def keep_probabilities(counts: Int64, sample: float) -> UInt32:
    """uint32[V]: the probability, of 2**32 - 1, that an occurrence of each word is kept.

    (√(f/t) + 1) · t/f for a word with the share f of all occurrences, and at most 1; `sample` is
    t, 0 to keep all. Source: the program of Mikolov et al. 2013; the paper has another formula.
    """
    if sample <= 0 or not len(counts):
        return np.full(len(counts), ALWAYS, np.uint32)
    share = np.maximum(counts, 1) / max(1, int(counts.sum()))
    chance = (np.sqrt(share / sample) + 1) * (sample / share)
    return np.minimum(chance * 2.0**32, float(ALWAYS)).astype(np.uint32)


def alias_table(counts: Int64, exponent: float) -> UInt64:
    """uint64[V]: the distribution proportional to counts ** exponent, as `draw_word` takes it."""
    V = len(counts)
    weights = np.maximum(counts, 0).astype(np.float64) ** exponent
    weights *= V / max(weights.sum(), 1e-300)
    alias = np.empty(V, np.uint64)
    fill_alias(alias, weights, np.empty(V, np.int64), np.empty(V, np.int64))
    return alias


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Paths to V words or labels, for hierarchical softmax (Morin & Bengio 2005)."""

    paths: Int64  # [V + 1]: word w's path is nodes[paths[w]:paths[w + 1]]
    nodes: Int64  # inner nodes, 0 … V - 2, the root being the last
    codes: Float32  # which child of its node the path takes

    @property
    def longest(self) -> int:
        """Nodes of the longest path."""
        return int(np.diff(self.paths).max(initial=0))


NO_TREE = Tree(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def huffman_tree(counts: Int64, labels: bool = False) -> Tree:
    """The Huffman (1952) tree of counts; paths begin at the root, codes are 1 for the first child.

    labels : as fastText's program builds that of its classifier: of equal counts inner nodes come
        first, then words with larger numbers; paths end at the root, codes are 1 for the second
        child. V is at least 2
    """
    V = len(counts)
    if V < 2:
        return Tree(np.zeros(V + 1, np.int64), NO_TREE.nodes, NO_TREE.codes)
    parents, codes = np.empty(2 * V - 1, np.int64), np.zeros(2 * V - 1, np.float32)
    weights = np.concatenate([counts, np.zeros(V - 1)]).astype(np.float64)
    order = (
        np.argsort(-counts, kind="stable")[::-1] if labels else np.argsort(counts, kind="stable")
    )
    build_tree(parents, codes, weights, np.ascontiguousarray(order), labels)
    word = node = np.arange(V)
    steps = []  # all paths at once, from the words up to the root
    while len(word):
        steps.append((word, parents[node] - V, codes[node]))
        below = parents[node] != 2 * V - 2
        word, node = word[below], parents[node][below]
    words, nodes, labels_of = map(np.concatenate, zip(*steps[:: 1 if labels else -1], strict=True))
    at = np.argsort(words, kind="stable")
    paths = np.concatenate([[0], np.cumsum(np.bincount(words, minlength=V))])
    return Tree(paths, nodes[at], 1 - labels_of[at] if labels else labels_of[at])
