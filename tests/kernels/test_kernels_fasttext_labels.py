"""The kernels of FastText's classifier against their twin in float64, and the twin against
differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.vectors.fasttext_labels import (
    LISTS,
    hash_words,
    mean_rows,
    train_labels,
    work_size,
)
from fastseq.kernels.vectors.sampling import fill_alias
from fastseq.kernels.vectors.word2vec import slots_for
from fastseq.models.fasttext.network import LOSSES
from fastseq.models.word_vectors.sampling import huffman_tree
from fastseq.types import Texts
from tests.kernels.vector_cases import close, padded, paths_of
from tests.naive import fasttext_labels as naive
from tests.naive.differences import central, relative_error
from tests.naive.subwords import fnv1a


def ragged(lists):
    return np.array([x for part in lists for x in part], np.int32), np.cumsum(
        [0, *map(len, lists)], dtype=np.int64
    )


def run(
    loss="softmax", labels=5, d=20, rows=30, texts=40, longest=12, several=False, negatives=4,
    rates=(0.5, 0.1), seed=3, loss_every=1, spread=0.4,
):  # fmt: skip
    """The kernel's and the twin's tables after the same training, and what the kernel saw."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 9, labels)
    made = [rng.integers(0, rows, rng.integers(0, longest + 1)).tolist() for _ in range(texts)]
    most = 3 if several else 1
    told = [rng.permutation(labels)[: rng.integers(1 - several, most + 1)].tolist() for _ in made]
    sizes = rng.integers(1, 20, texts).astype(np.int32)
    order = rng.permutation(texts)
    tree = huffman_tree(counts, labels=True)
    ways = paths_of(tree)
    alias = np.empty(labels, np.uint64)
    weights = counts**0.5 * labels / (counts**0.5).sum()
    fill_alias(alias, weights, np.empty(labels, np.int64), np.empty(labels, np.int64))
    heads = labels - (loss == "hierarchical")
    inputs = rng.normal(0, spread, (rows, d)).astype(np.float32)
    outputs = rng.normal(0, spread, (heads, d)).astype(np.float32)
    ours = padded(inputs), padded(outputs)
    targets = {"negative": negatives + 1, "hierarchical": tree.longest}.get(loss, labels)
    slots = slots_for(targets)
    seen = np.zeros(4)
    train_labels(
        *ours, *ragged(made), *ragged(told), sizes, order, LOSSES.index(loss), alias, tree.paths,
        tree.nodes, tree.codes, negatives, *rates, np.array([seed], np.uint64),
        aligned_zeros(work_size(slots, ours[0].shape[1])), np.zeros((LISTS, slots), np.int64), seen,
        loss_every,
    )  # fmt: skip
    theirs = inputs.astype(np.float64), outputs.astype(np.float64)
    found = naive.train(
        *theirs, made, told, sizes.tolist(), order.tolist(), loss, alias, ways, negatives, rates,
        seed, loss_every,
    )  # fmt: skip
    np.testing.assert_allclose(seen, found, rtol=1e-5)
    return ours, theirs, seen, (inputs, outputs)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_training_matches_the_naive_twin(loss, several):
    ours, theirs, seen, before = run(loss, several=several)
    close(ours, theirs)
    assert abs(theirs[0] - before[0]).max() > 1e-2  # it has learned
    assert 0 < seen[1] < 40  # texts without a row or a label teach nothing


@settings(max_examples=60, deadline=None)
@given(
    loss=st.sampled_from(LOSSES), labels=st.integers(2, 40), d=st.integers(1, 70),
    rows=st.integers(1, 30), several=st.booleans(), negatives=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_training_matches_the_naive_twin_for_random_sizes(**case):
    ours, theirs, _, _ = run(texts=12, longest=8, **case)
    close(ours, theirs)


def test_sampled_losses_measure_every_fourth_text():
    every, some = (run("ova", loss_every=n)[2] for n in (1, 4))
    assert every[1] == some[1] == every[3]
    assert some[3] == -(-every[3] // 4)
    assert run("softmax", loss_every=4)[2][3] == every[3]


@pytest.mark.parametrize("loss", LOSSES)
def test_zero_learning_rate_changes_nothing(loss):
    ours, _, seen, before = run(loss, rates=(0.0, 0.0))
    for mine, was in zip(ours, before, strict=True):
        np.testing.assert_array_equal(mine[:, : was.shape[1]], was)
    assert seen[3] > 0


def test_large_scores_do_not_overflow():
    ours, theirs, seen, _ = run("softmax", spread=12.0, rates=(1e-3, 1e-3))
    assert np.isfinite(seen).all()
    close(ours, theirs)


@pytest.mark.parametrize("softmax", [True, False])
def test_naive_updates_match_finite_differences(softmax):
    rng = np.random.default_rng(5)
    inputs, outputs = rng.normal(0, 0.5, (6, 4)), rng.normal(0, 0.5, (5, 4))
    rows, targets, marks = [1, 4, 4, 0], [3, 0, 2], [0.0, 1.0, 1.0]
    if softmax:
        targets, marks = list(range(5)), 3

    def loss():
        return naive.loss_of(inputs[rows].mean(axis=0), outputs, targets, marks, softmax)

    for which in (inputs, outputs):
        slopes = central(loss, which)
        before = inputs.copy(), outputs.copy()
        naive.learn(inputs, outputs, rows, targets, marks, softmax, 1.0)
        moved = which - (before[0] if which is inputs else before[1])
        inputs[:], outputs[:] = before
        assert relative_error(-moved, slopes) < 1e-6


@given(counts=st.lists(st.integers(1, 6), min_size=2, max_size=25))
def test_huffman_tree_matches_the_naive_twin(counts):
    tree = huffman_tree(np.array(counts), labels=True)
    ways = naive.tree_of(counts)
    for label, (a, b) in enumerate(zip(tree.paths[:-1], tree.paths[1:], strict=True)):
        assert (tree.nodes[a:b].tolist(), tree.codes[a:b].tolist()) == ways[label]


def test_hashes_match_the_naive_twin():
    words = ["", "a", "the", "naïve", "猫が好き", "</s>"]
    texts = Texts.from_strings(words)
    found = np.empty(len(words), np.uint32)
    hash_words(found, texts.data, texts.offsets)
    assert found.tolist() == [fnv1a(word) for word in words]
    assert fnv1a("") == 2166136261
    assert fnv1a("a") == 0xE40C292C  # of the FNV page


def test_means_count_missing_rows_as_zeros():
    table = padded(np.arange(12, dtype=np.float32).reshape(4, 3))
    out = np.full((3, table.shape[1]), 7, np.float32)
    rows = np.array([0, 2, -1, 3, -1], np.int32)
    mean_rows(out, rows, np.array([0, 3, 5, 5]), table)
    np.testing.assert_allclose(out[:, :3], [[2, 8 / 3, 10 / 3], [4.5, 5, 5.5], [0, 0, 0]])
    assert not out[:, 3:].any()
