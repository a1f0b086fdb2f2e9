"""Batches: every row once, the same order for the same seed; windows of streams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError
from fastseq.models.data.batches import BucketedBatches, SortedBatches, StreamBatches, take
from fastseq.models.data.examples import Examples
from fastseq.types import offsets_of

lengths = st.lists(st.integers(1, 30), max_size=120)


def offsets(sizes: list[int]) -> np.ndarray:
    return offsets_of(np.array(sizes, np.int64))


@given(lengths, st.integers(1, 20), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_epoch_contains_every_row_once(sizes: list[int], batch_size: int, seed: int) -> None:
    bucketed = BucketedBatches(offsets(sizes), batch_size, seed)
    for epoch in (0, 3):
        batches = list(bucketed.epoch(epoch))
        assert sorted(np.concatenate([[], *batches]).tolist()) == list(range(len(sizes)))
        assert len(batches) == bucketed.count()
        assert all(1 <= len(rows) <= batch_size for rows in batches)


def test_order_depends_on_seed_and_epoch() -> None:
    sizes = offsets([1 + i * 7 % 40 for i in range(500)])

    def order(seed: int, epoch: int) -> list[list[int]]:
        return [rows.tolist() for rows in BucketedBatches(sizes, 8, seed).epoch(epoch)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_rows_of_a_batch_are_of_similar_length_and_batches_are_shuffled() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 200, 4000)
    batches = list(BucketedBatches(offsets(sizes.tolist()), 16, 5).epoch(0))
    spread = np.mean([np.ptp(sizes[rows]) for rows in batches])
    assert spread < 10  # of 200; rows taken at random have 175
    means = np.array([sizes[rows].mean() for rows in batches])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3


@given(lengths, st.integers(1, 20), st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_sorted_batches_can_be_put_back_in_order(
    sizes: list[int], batch_size: int, max_tokens: int
) -> None:
    batches = list(SortedBatches(offsets(sizes), batch_size, max_tokens))
    order = [row for rows in batches for row in rows.tolist()]
    assert [sizes[row] for row in order] == sorted(sizes, reverse=True)
    assert sorted(order) == list(range(len(sizes)))
    for rows in batches:
        assert 1 <= len(rows) <= batch_size
        assert len(rows) == 1 or sum(sizes[i] for i in rows) <= max_tokens


@given(lengths.filter(bool), st.data())
@settings(max_examples=60, deadline=None)
def test_taking_rows(sizes: list[int], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=10))
    ends = offsets(sizes)
    values = np.arange(ends[-1], dtype=np.int32) * 3
    tagged = Examples(values, ends, np.arange(len(sizes)), targets=values + 1)
    batch = take(tagged, np.array(rows))
    expected = [values[ends[row] : ends[row + 1]].tolist() for row in rows]
    assert batch.values.tolist() == [value for part in expected for value in part]
    assert np.diff(batch.offsets).tolist() == [sizes[row] for row in rows]
    assert np.array_equal(values[batch.places], batch.values)
    assert batch.targets is not None
    assert np.array_equal(batch.targets, batch.values + 1)
    assert batch.values.dtype == np.int32
    assert batch.offsets[0] == 0
    labels = np.arange(len(sizes), dtype=np.int32) % 5
    if len(values) != len(sizes):
        labelled = take(Examples(values, ends, np.arange(len(sizes)), labels), np.array(rows))
        assert labelled.targets is not None
        assert labelled.targets.tolist() == labels[rows].tolist()


# ---- streams


@given(st.integers(2, 300), st.integers(1, 9), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_windows_match_a_plain_loop(n: int, batch_size: int, bptt: int) -> None:
    values = np.arange(n, dtype=np.int32) + 5
    if n < 2 * batch_size:
        with pytest.raises(DataError, match="lower the batch size"):
            StreamBatches(values, batch_size, bptt)
        return
    batches = StreamBatches(values, batch_size, bptt)
    windows = list(batches)
    assert len(windows) == len(batches)
    inputs = np.concatenate([w.inputs for w in windows])
    targets = np.concatenate([w.targets for w in windows])
    length = n // batch_size
    for b in range(batch_size):
        assert inputs[:, b].tolist() == values[b * length : (b + 1) * length - 1].tolist()
        assert targets[:, b].tolist() == values[b * length + 1 : (b + 1) * length].tolist()
    assert batches.steps * batch_size == targets.size
    assert [w.step for w in windows] == list(range(0, length - 1, bptt))
    assert all(w.inputs.shape[0] == bptt for w in windows[:-1])
    assert all(w.inputs.flags.c_contiguous and w.inputs.dtype == np.int32 for w in windows)
