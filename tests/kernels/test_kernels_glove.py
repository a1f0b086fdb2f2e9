"""GloVe's kernels against their twins in float64, and the twin against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.width import LANES
from fastseq.kernels.vectors.glove import FROZEN, train_tiles
from fastseq.models.word_vectors import glove as module
from fastseq.models.word_vectors.glove import count_cooccurrences, tiles_of
from tests.kernels.vector_cases import corpus
from tests.naive import glove as naive


def as_arrays(text):
    return np.array([w for s in text for w in s], np.int32), np.cumsum([len(s) for s in text])


def dense(matrix):
    """What was counted as an array [V, V], the half below the diagonal filled in."""
    V = len(matrix.offsets) - 1
    found = np.zeros((V, V))
    found[matrix.rows(), matrix.columns] = matrix.values
    if matrix.symmetric:
        found = np.maximum(found, found.T)
    return found


# ---- counting


@settings(max_examples=80, deadline=None)
@given(
    words=st.integers(1, 200), window=st.integers(1, 30), symmetric=st.booleans(),
    weighted=st.booleans(), threads=st.integers(1, 3), memory=st.sampled_from([64, 4096, 1 << 30]),
    least=st.sampled_from([1, 20, 1 << 18]), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_counts_match_brute_force(
    words, window, symmetric, weighted, threads, memory, least, seed
):  # fmt: skip
    text = corpus(np.random.default_rng(seed), words, 12, 25)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEAST", least)
        patch.setattr(module, "_ENTRIES", least)
        found = count_cooccurrences(
            *as_arrays(text), words, window, symmetric=symmetric, weighted=weighted,
            threads=threads, memory=memory,
        )  # fmt: skip
    wanted = naive.count(text, words, window, symmetric, weighted)
    np.testing.assert_allclose(dense(found), wanted, rtol=1e-6)
    assert len(found) == np.count_nonzero(wanted)
    for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True):
        assert (np.diff(found.columns[a:b]) > 0).all()
    assert (found.values > 0).all()


def test_counts_do_not_depend_on_threads_or_memory(monkeypatch):
    text = corpus(np.random.default_rng(0), 300, 200, 40)
    whole = count_cooccurrences(*as_arrays(text), 300, 10)
    monkeypatch.setattr(module, "LEAST", 7)
    monkeypatch.setattr(module, "_ENTRIES", 300)
    for threads, memory in ((1, 100), (2, 100), (3, 1 << 20)):
        other = count_cooccurrences(*as_arrays(text), 300, 10, threads=threads, memory=memory)
        np.testing.assert_array_equal(other.offsets, whole.offsets)
        np.testing.assert_array_equal(other.columns, whole.columns)
        np.testing.assert_array_equal(other.values, whole.values)


def test_windows_end_at_the_sentence_end():
    found = count_cooccurrences(*as_arrays([[0, 1], [], [2, 3, 2], [1]]), 4, 4000)
    wanted = np.zeros((4, 4))
    wanted[0, 1] = wanted[1, 0] = 1.0
    wanted[2, 3] = wanted[3, 2] = 2.0
    wanted[2, 2] = 2 * 0.5  # from either side
    np.testing.assert_array_equal(dense(found), wanted)
    left = count_cooccurrences(*as_arrays([[0, 1, 2]]), 3, 2, symmetric=False, weighted=False)
    np.testing.assert_array_equal(dense(left), [[0, 0, 0], [1, 0, 0], [1, 1, 0]])


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("memory", [100, 1 << 30])
def test_tiles_contain_every_entry_once(symmetric, memory):
    text = corpus(np.random.default_rng(1), 50, 40, 20)
    matrix = count_cooccurrences(*as_arrays(text), 50, 5, symmetric=symmetric)
    tiles = tiles_of(matrix, 16, memory)
    found = []
    for t, (row, column) in enumerate(tiles.corners):
        mine = slice(tiles.starts[t], tiles.starts[t + 1])
        assert tiles.starts[t + 1] > tiles.starts[t]
        i, j = np.divmod(tiles.cells[mine], 16)
        found += zip(row + i, column + j, tiles.logs[mine], strict=True)
    i, j, logs = map(np.array, zip(*sorted(found), strict=True))
    np.testing.assert_array_equal(i, matrix.rows())
    np.testing.assert_array_equal(j, matrix.columns)
    np.testing.assert_allclose(logs, np.log(matrix.values), rtol=1e-6)


# ---- learning


def table_of(w, c, b, bc):
    """The kernel's table, as it begins."""
    V, d = w.shape
    W = -(-(d + 2) // LANES) * LANES
    table = aligned_zeros(4 * V * W).reshape(V, 4 * W)
    parts = table.reshape(V, 2, 2, W)
    parts[:, :, 1] = 1.0
    parts[:, 0, 0, : d + 2] = np.column_stack([w, b, np.ones(V)])
    parts[:, 1, 0, : d + 2] = np.column_stack([c, np.ones(V), bc])
    parts[:, 0, 1, d + 1] = parts[:, 1, 1, d] = FROZEN
    return table


def run(
    words=40, d=20, block=8, symmetric=True, x_max=4.0, alpha=0.75, rate=0.1, seed=3, epochs=2,
):  # fmt: skip
    """The kernel's table and the twin's model after the same training, and the losses seen."""
    rng = np.random.default_rng(seed)
    text = corpus(rng, words, 30, 25)
    text.append([0, words - 1])
    matrix = count_cooccurrences(*as_arrays(text), words, 4, symmetric=symmetric)
    tiles = tiles_of(matrix, block)
    before = [rng.normal(0, 0.3, (words, d) if n < 2 else words) for n in range(4)]
    before = [a.astype(np.float32) for a in before]
    table, model = table_of(*before), naive.Model(*before)
    cut = naive.tiles(dense(matrix), block, symmetric)
    assert [t[:2] for t in cut] == [tuple(c) for c in tiles.corners.tolist()]
    largest = int(np.diff(tiles.starts).max())
    space = np.empty(largest, np.int32), aligned_zeros(largest + LANES)
    losses = []
    for epoch in range(epochs):
        order, key = rng.permutation(len(cut)), int(rng.integers(1 << 62))
        seen = np.zeros(2)
        train_tiles(
            table, order, tiles.starts, tiles.corners, tiles.cells, tiles.logs, block,
            math.log(x_max), alpha, symmetric, rate, np.array([key, 0], np.uint64), *space, seen,
        )  # fmt: skip
        wanted = naive.train(model, cut, order.tolist(), symmetric, x_max, alpha, rate, key)
        np.testing.assert_allclose(seen, wanted, rtol=1e-5)
        assert epoch or seen[1] == np.count_nonzero(dense(matrix))
        losses.append(seen[0])
    return table.reshape(words, 2, 2, -1), model, losses, before


def close(parts, model, d):
    w, c, b, bc = model.numbers
    for half, vectors, biases, place in ((0, w, b, d), (1, c, bc, d + 1)):
        still = 2 * d + 1 - place
        for found, wanted in (
            (parts[:, half, 0, :d], vectors), (parts[:, half, 1, :d], model.squares[half]),
            (parts[:, half, 0, place], biases),
            (parts[:, half, 1, place], model.squares[2 + half]),
        ):  # fmt: skip
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * abs(wanted).max())
        assert (parts[:, half, 0, still] == 1.0).all()
        assert not parts[:, half, 0, d + 2 :].any()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("block", [8, 64])
def test_training_matches_the_naive_twin(symmetric, block):
    parts, model, losses, before = run(symmetric=symmetric, block=block, epochs=4)
    close(parts, model, 20)
    assert abs(model.numbers[0] - before[0]).max() > 1e-2
    assert losses == sorted(losses, reverse=True)


@settings(max_examples=40, deadline=None)
@given(
    words=st.integers(2, 30), d=st.integers(1, 70), block=st.sampled_from([2, 16, 128]),
    symmetric=st.booleans(), x_max=st.sampled_from([0.5, 3.0, 100.0]),
    alpha=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_training_matches_the_naive_twin_for_random_sizes(**case):
    parts, model, _, _ = run(rate=0.05, epochs=1, **case)
    close(parts, model, case["d"])


def test_zero_learning_rate_changes_nothing():
    parts, _, losses, before = run(rate=0.0)
    np.testing.assert_array_equal(parts[:, 0, 0, :20], before[0])
    np.testing.assert_array_equal(parts[:, 1, 0, :20], before[1])
    assert losses[0] > 0


@pytest.mark.parametrize("x", [0.3, 2.0, 50.0])
def test_naive_updates_match_finite_differences(x):
    rng = np.random.default_rng(0)
    here = [rng.normal(size=5), rng.normal(size=5), rng.normal(size=()), rng.normal(size=())]
    found = naive.gradients(*here, x, 10.0, 0.75)
    for array, gradient in zip(here, found, strict=True):
        for place in np.ndindex(array.shape):
            was = float(array[place])
            sides = []
            for step in (1e-6, -1e-6):
                array[place] = was + step
                sides.append(naive.loss(*here, x, 10.0, 0.75) / 2)
            array[place] = was
            difference = (sides[0] - sides[1]) / 2e-6
            wanted = np.asarray(gradient)[place]
            assert abs(difference - wanted) < 1e-6 * max(1, abs(wanted))
