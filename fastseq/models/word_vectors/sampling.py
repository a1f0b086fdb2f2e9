"""The counts of a vocabulary, and what they make of training: which occurrences are kept, which
words are drawn as negatives, by which inner nodes each is found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastseq.kernels.vectors.chances import build_tree, fill_alias, walk_tree
from fastseq.types import Float32, Int32, Int64

UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]

ALWAYS = np.uint32(0xFFFFFFFF)
_PIECE = 1 << 22  # ids counted at a time: NumPy takes them as 64 bits each


def occurrences(ids: Int32, words: int) -> Int64:
    """int64[words]: how often each id occurs."""
    counts = np.zeros(words, np.int64)
    for start in range(0, len(ids), _PIECE):
        counts += np.bincount(ids[start : start + _PIECE], minlength=words)
    return counts


def keep_chances(counts: Int64, sample: float) -> UInt32:
    """uint32[V]: the chance that an occurrence of each word is kept, of 2**32 - 1.

    (√(f/t) + 1) · t/f for a word with the share f of all occurrences, and at most 1; `sample` is
    t, 0 to keep all. Source: the program of Mikolov et al. 2013; the paper has another formula.
    """
    if sample <= 0 or not len(counts):
        return np.full(len(counts), ALWAYS, np.uint32)
    share = np.maximum(counts, 1) / max(1, int(counts.sum()))
    chance = (np.sqrt(share / sample) + 1) * (sample / share)
    return np.minimum(chance * 2.0**32, float(ALWAYS)).astype(np.uint32)


def alias_table(counts: Int64, power: float) -> UInt64:
    """uint64[V]: how to draw a word with a chance proportional to counts ** power, as
    kernels/draws.draw_word takes it."""
    V = len(counts)
    weights = np.maximum(counts, 0).astype(np.float64) ** power
    weights *= V / max(weights.sum(), 1e-300)
    alias = np.empty(V, np.uint64)
    fill_alias(alias, weights, np.empty(V, np.int64), np.empty(V, np.int64))
    return alias


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """The ways to the words, for hierarchical softmax (Morin & Bengio 2005).

    paths   int64[V + 1]  word w's way from the root is nodes[paths[w]:paths[w + 1]]
    nodes   int64[·]      inner nodes, 0 … V - 2
    codes   float32[·]    1 where the way goes to a node's first child, else 0
    """

    paths: Int64
    nodes: Int64
    codes: Float32

    @property
    def longest(self) -> int:
        """Nodes of the longest way."""
        return int(np.diff(self.paths).max(initial=0))


def huffman_tree(counts: Int64) -> Tree:
    """The tree in which the ways of all occurrences together are shortest (Huffman 1952)."""
    V = len(counts)
    if V < 2:
        return Tree(np.zeros(V + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    parents, codes = np.empty(2 * V - 1, np.int64), np.zeros(2 * V - 1, np.float32)
    weights = np.concatenate([counts, np.zeros(V - 1)]).astype(np.float64)
    build_tree(parents, codes, weights, np.argsort(counts, kind="stable"))
    paths = np.empty(V + 1, np.int64)
    walk_tree(np.empty(0, np.int64), np.empty(0, np.float32), paths, parents, codes)
    nodes, labels = np.empty(paths[-1], np.int64), np.empty(paths[-1], np.float32)
    walk_tree(nodes, labels, paths, parents, codes)
    return Tree(paths, nodes, labels)


def no_tree() -> Tree:
    """What negative sampling has instead."""
    return Tree(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
