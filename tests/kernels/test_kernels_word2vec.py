"""Word2Vec's kernel against its twin in float64, and the twin against differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.jit import jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd.rows import MOST_ROWS, dots, exchange
from fastseq.kernels.simd.tiles import address
from fastseq.kernels.vectors.word2vec import LISTS, slots_for, train_words, work_size
from fastseq.models.word_vectors.sampling import (
    NO_TREE,
    alias_table,
    huffman_tree,
    keep_probabilities,
)
from tests.kernels.vector_cases import close, corpus, padded, paths_of
from tests.naive import word2vec as naive


def run(
    words=40, d=20, window=4, negatives=5, hierarchical=False, cbow=False, sample=0.0, seed=3,
    sentences=30, longest=25, rates=(0.05, 0.01), loss_every=1,
):  # fmt: skip
    """The kernel's and the twin's vectors after the same training, and what the kernel saw."""
    rng = np.random.default_rng(seed)
    text = corpus(rng, words, sentences, longest)
    counts = np.bincount(np.concatenate([*map(np.array, text), np.arange(words)]).astype(int))
    counts = counts.astype(np.int64)
    inputs = rng.normal(0, 0.3, (words, d)).astype(np.float32)
    outputs = rng.normal(0, 0.3, (words, d)).astype(np.float32)
    keep, alias = keep_probabilities(counts, sample), alias_table(counts, 0.75)
    tree = huffman_tree(counts) if hierarchical else NO_TREE
    ways = paths_of(tree) if hierarchical else None
    ours = padded(inputs), padded(outputs)
    slots = slots_for(max(negatives + 1, tree.longest))
    seen = np.zeros(4)
    train_words(
        *ours, np.array([w for s in text for w in s], np.int32),
        np.cumsum([len(s) for s in text]), keep, alias, tree.paths, tree.nodes, tree.codes, window,
        negatives, cbow, *rates, np.array([seed], np.uint64), np.empty(longest, np.int32),
        aligned_zeros(work_size(slots, ours[0].shape[1])), np.zeros((LISTS, slots), np.int64), seen,
        loss_every,
    )  # fmt: skip
    theirs = inputs.astype(np.float64), outputs.astype(np.float64)
    told = naive.train(
        *theirs, text, keep, alias, ways, window, negatives, cbow, rates, seed, MOST_ROWS
    )
    if loss_every == 1:
        np.testing.assert_allclose(seen[2:], told, rtol=1e-5)
    return ours, theirs, seen, (inputs, outputs)


@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("hierarchical", [False, True])
def test_training_matches_the_naive_twin(cbow, hierarchical):
    ours, theirs, _, before = run(cbow=cbow, hierarchical=hierarchical)
    close(ours, theirs)
    assert abs(theirs[0] - before[0]).max() > 1e-3  # it has learned


@settings(max_examples=60, deadline=None)
@given(
    words=st.integers(2, 30), d=st.integers(1, 70), window=st.integers(1, 9),
    negatives=st.integers(1, 20), hierarchical=st.booleans(), cbow=st.booleans(),
    sample=st.sampled_from([0.0, 1e-3, 0.05]), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_training_matches_the_naive_twin_for_random_sizes(**case):
    ours, theirs, _, _ = run(sentences=8, longest=12, **case)
    close(ours, theirs)


def test_loss_is_sampled_at_every_third_word():
    every, some = (run(loss_every=n)[2] for n in (1, 3))
    assert 0.2 * every[3] < some[3] < 0.5 * every[3]
    assert run(sentences=1, longest=3, seed=5, loss_every=64)[2][3] > 0  # the first word's


def test_seen_words_are_counted():
    _, _, seen, _ = run(sample=0.05)
    rng = np.random.default_rng(3)
    assert seen[0] == sum(map(len, corpus(rng, 40, 30, 25)))
    assert 0 < seen[1] < seen[0]
    assert seen[3] > 0


@pytest.mark.parametrize("cbow", [False, True])
def test_zero_learning_rate_changes_nothing(cbow):
    ours, _, seen, before = run(rates=(0.0, 0.0), cbow=cbow)
    for mine, was in zip(ours, before, strict=True):
        np.testing.assert_array_equal(mine[:, : was.shape[1]], was)
    assert seen[3] > 0


def test_same_seed_gives_the_same_bits_and_another_does_not():
    one, _, _, _ = run(seed=5)
    two, _, _, _ = run(seed=5)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


@pytest.mark.parametrize("targets", [1, 4])
def test_naive_updates_match_finite_differences(targets):
    rng = np.random.default_rng(0)
    h, o = rng.normal(size=(3, 5)), rng.normal(size=(targets, 5))
    labels = (np.arange(targets) == 0).astype(float)
    before, learned = o.copy(), o.copy()
    to_h = naive.exchange(h, learned, list(range(targets)), labels, 1.0)

    def loss():
        return 3 * naive.loss_of(h @ o.T, labels)  # the sum over three rows

    for array, found in ((h, to_h), (o, learned - before)):
        for place in np.ndindex(array.shape):
            was = array[place]
            array[place] = was + 1e-6
            high = loss()
            array[place] = was - 1e-6
            low = loss()
            array[place] = was
            assert abs(-(high - low) / 2e-6 - found[place]) < 1e-6 * max(1, abs(found[place]))


@jit
def all_at_once(f, h, o, rows, targets, weights, to, lists):
    """dots and exchange for the first rows of some arrays."""
    W = h.shape[1]
    for r in range(rows):
        lists[0, r], lists[1, r] = address(h, r * W), address(to, r * W)
    for t in range(targets):
        lists[2, t] = address(o, t * W)
    dots(rows, targets, address(f, 0), address(lists, 0), address(lists, 128), W // LANES)
    exchange(
        rows, targets, address(weights, 0), address(lists, 0), address(lists, 64),
        address(lists, 128), W // LANES,
    )  # fmt: skip


@pytest.mark.parametrize("rows", range(1, MOST_ROWS + 1))
@pytest.mark.parametrize("targets", [*range(1, 14), 41])
@pytest.mark.parametrize("vectors", [1, 7])
def test_row_products_and_updates_of_all_sizes(rows, targets, vectors):
    rng = np.random.default_rng(rows * 100 + targets)
    h, o, to = (
        rng.normal(size=(n, vectors * LANES)).astype(np.float32) for n in (rows, targets, rows)
    )
    weights = rng.normal(size=(rows, targets)).astype(np.float32)
    f = np.zeros((rows, targets), np.float32)
    wanted_to, wanted_o = to + weights @ o, o + weights.T @ h
    wanted_f = h @ o.T
    all_at_once(f, h, o, rows, targets, weights, to, np.empty((3, 64), np.int64))
    np.testing.assert_allclose(f, wanted_f, atol=1e-4)
    np.testing.assert_allclose(to, wanted_to, atol=1e-4)
    np.testing.assert_allclose(o, wanted_o, atol=1e-4)
