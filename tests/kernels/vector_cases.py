"""Inputs and comparisons that the tests of the kernels of word vectors share."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.width import LANES


def padded(array: Any) -> Any:
    """The rows of an array, with zeros up to a whole number of vectors."""
    rows, d = array.shape
    width = -(-d // LANES) * LANES
    out = aligned_zeros(rows * width).reshape(rows, width)
    out[:, :d] = array
    return out


def corpus(rng: np.random.Generator, words: int, sentences: int, longest: int) -> list[list[int]]:
    """Sentences of word ids, the frequencies by Zipf's law."""
    share = 1 / np.arange(1, words + 1)
    return [
        rng.choice(words, rng.integers(0, longest + 1), p=share / share.sum()).tolist()
        for _ in range(sentences)
    ]


def paths_of(tree: Any) -> dict[int, tuple[list[int], Any]]:
    """{word: (nodes, codes)} of a Huffman tree, as the twins take them."""
    spans = zip(tree.paths[:-1], tree.paths[1:], strict=True)
    return {w: (tree.nodes[a:b].tolist(), tree.codes[a:b]) for w, (a, b) in enumerate(spans)}


def close(ours: Any, theirs: Any) -> None:
    """Compare padded float32 rows with float64 ones; the padding stays zero."""
    for mine, wanted in zip(ours, theirs, strict=True):
        d = wanted.shape[1]
        np.testing.assert_allclose(mine[:, :d], wanted, rtol=1e-5, atol=1e-5 * abs(wanted).max())
        assert not mine[:, d:].any()
