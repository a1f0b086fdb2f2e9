"""FastText's kernel against its twin in float64, and the twin against differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.simd.rows import MOST_ROWS
from fastseq.kernels.vectors.fasttext import train_fasttext, work_size
from fastseq.kernels.vectors.word2vec import LISTS, slots_for
from fastseq.models.word_vectors.sampling import (
    NO_TREE,
    alias_table,
    huffman_tree,
    keep_probabilities,
)
from tests.kernels.vector_cases import close, corpus, padded, paths_of
from tests.naive.fasttext import FastText


def run(
    words=40, d=20, window=4, negatives=5, hierarchical=False, cbow=False, sample=0.0, seed=3,
    sentences=30, longest=25, rates=(0.05, 0.01), rows=50, most_grams=6,
):  # fmt: skip
    """The kernel's and the twin's rows after the same training, and what the kernel saw."""
    rng = np.random.default_rng(seed)
    text = corpus(rng, words, sentences, longest)
    counts = np.bincount(np.concatenate([*map(np.array, text), np.arange(words)]).astype(int))
    counts = counts.astype(np.int64)
    arrays = [rng.normal(0, 0.3, (n, d)).astype(np.float32) for n in (words, rows, words)]
    many = rng.integers(0, most_grams + 1, words)
    many[0] = 0  # a word without n-grams
    grams = rng.integers(0, rows, many.sum()).astype(np.int32)
    ends = np.concatenate([[0], np.cumsum(many)]).astype(np.int64)
    keep, alias = keep_probabilities(counts, sample), alias_table(counts, 0.75)
    tree = huffman_tree(counts) if hierarchical else NO_TREE
    ways = paths_of(tree) if hierarchical else None
    ours = [padded(array) for array in arrays]
    slots = slots_for(max(negatives + 1, tree.longest))
    seen = np.zeros(4)
    train_fasttext(
        *ours, grams, ends, np.array([w for s in text for w in s], np.int32),
        np.cumsum([len(s) for s in text]), keep, alias, tree.paths, tree.nodes, tree.codes, window,
        negatives, cbow, *rates, np.array([seed], np.uint64), np.empty(longest, np.int32),
        aligned_zeros(work_size(slots, ours[0].shape[1], window)),
        np.zeros((LISTS, slots), np.int64), seen, 1,
    )  # fmt: skip
    theirs = [array.astype(np.float64) for array in arrays]
    of_word = {w: grams[ends[w] : ends[w + 1]].tolist() for w in range(words)}
    twin = FastText(*theirs, of_word, alias, ways, window, negatives, MOST_ROWS)
    told = twin.train(text, keep, cbow, rates, seed)
    np.testing.assert_allclose(seen[2:], told, rtol=1e-5)
    return ours, theirs, seen, arrays


@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("hierarchical", [False, True])
def test_training_matches_the_naive_twin(cbow, hierarchical):
    ours, theirs, seen, before = run(cbow=cbow, hierarchical=hierarchical)
    close(ours, theirs)
    for after, was in zip(theirs, before, strict=True):
        assert abs(after - was).max() > 1e-3  # it has learned
    assert 0 < seen[1] <= seen[0]


@settings(max_examples=60, deadline=None)
@given(
    words=st.integers(2, 30), d=st.integers(1, 70), window=st.integers(1, 9),
    negatives=st.integers(1, 20), hierarchical=st.booleans(), cbow=st.booleans(),
    sample=st.sampled_from([0.0, 1e-3, 0.05]), seed=st.integers(0, 2**32),
    rows=st.integers(1, 40), most_grams=st.integers(0, 8),
)  # fmt: skip
def test_training_matches_the_naive_twin_for_random_sizes(**case):
    # few rows, many n-grams and a high rate make sums large: smaller steps keep them comparable
    ours, theirs, _, _ = run(sentences=8, longest=12, rates=(0.002, 0.0005), **case)
    close(ours, theirs)


@pytest.mark.parametrize("cbow", [False, True])
def test_zero_learning_rate_changes_nothing(cbow):
    ours, _, seen, before = run(rates=(0.0, 0.0), cbow=cbow)
    for mine, was in zip(ours, before, strict=True):
        np.testing.assert_array_equal(mine[:, : was.shape[1]], was)
    assert seen[3] > 0


@pytest.mark.parametrize("cbow", [False, True])
def test_same_seed_gives_the_same_bits(cbow):
    one, two = (run(seed=5, cbow=cbow)[0] for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("hierarchical", [False, True])
def test_naive_updates_match_finite_differences(cbow, hierarchical):
    """Of one window of two words: what each row gains, but for the share of it in the mean, which
    the authors' program leaves out, is minus the gradient of the loss."""
    rng = np.random.default_rng(0)
    own, table, outputs = (rng.normal(size=(n, 5)) for n in (3, 4, 3))
    grams = {0: [0, 1], 1: [1, 2, 3], 2: []}
    tree = {w: ([0, 1], np.array([w & 1, w >> 1], float)) for w in range(3)}
    alias = alias_table(np.array([3, 2, 1]), 1.0)

    def trained(arrays, rate):
        made = FastText(*arrays, grams, alias, tree if hierarchical else None, 1, 4, 4)
        return made.train([[0, 1]], np.full(3, 0xFFFFFFFF, np.uint32), cbow, (rate, rate), 7)[0]

    arrays = [own, table, outputs]
    learned = [array.copy() for array in arrays]
    trained(learned, 1e-7)  # so small that the second word sees what the first has seen
    for which, (array, after) in enumerate(zip(arrays, learned, strict=True)):
        for place in np.ndindex(array.shape):
            was, losses = array[place], []
            for step in (1e-6, -1e-6):
                array[place] = was + step
                losses.append(trained([a.copy() for a in arrays], 0.0))
            array[place] = was
            gradient = (losses[0] - losses[1]) / 2e-6
            found = (after[place] - was) / 1e-7
            if which == 0:
                found /= 1 + len(grams[place[0]])
            if which == 1:  # rows of one word alone; row 1 is of both, with different shares
                owners = [w for w in grams if place[0] in grams[w]]
                if len(owners) > 1:
                    continue
                found /= 1 + len(grams[owners[0]])
            assert abs(-gradient - found) < 1e-6 * max(1, abs(found))
