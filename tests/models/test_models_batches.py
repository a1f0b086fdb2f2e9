"""Batches: every row once, the same order for the same seed; windows of streams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, SettingsError
from fastseq.models.data.batches import BucketedBatches, SortedBatches, StreamBatches, take
from fastseq.models.data.examples import Examples
from fastseq.models.data.ragged import offsets_of

lengths = st.lists(st.integers(1, 30), max_size=120)


def offsets(sizes: list[int]) -> np.ndarray:
    return offsets_of(np.array(sizes, np.int64))


@given(
    lengths,
    st.integers(1, 20),
    st.integers(0, 99),
    st.one_of(st.none(), st.integers(1, 60)),
    st.integers(1, 5),
)
@settings(max_examples=150, deadline=None)
def test_every_row_comes_once_in_an_epoch(
    sizes: list[int], batch_size: int, seed: int, max_tokens: int | None, pool: int
) -> None:
    bucketed = BucketedBatches(offsets(sizes), batch_size, seed, max_tokens, pool)
    for epoch in (0, 3):
        batches = list(bucketed.epoch(epoch))
        assert sorted(np.concatenate([[], *batches]).tolist()) == list(range(len(sizes)))
        assert len(batches) == bucketed.count(epoch)
        for rows in batches:
            assert 1 <= len(rows) <= batch_size
            if max_tokens is not None and len(rows) > 1:
                assert sum(sizes[i] for i in rows) <= max_tokens


def test_the_seed_and_the_epoch_decide_the_order() -> None:
    sizes = offsets([1 + i * 7 % 40 for i in range(500)])

    def order(seed: int, epoch: int) -> list[list[int]]:
        return [rows.tolist() for rows in BucketedBatches(sizes, 8, seed).epoch(epoch)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    whole = list(BucketedBatches(sizes, 8, 1).epoch(4))
    rest = list(BucketedBatches(sizes, 8, 1).epoch(4, start=50))
    assert [r.tolist() for r in whole[50:]] == [r.tolist() for r in rest]


def test_rows_of_a_batch_are_of_similar_length_and_batches_are_shuffled() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 200, 4000)
    batches = list(BucketedBatches(offsets(sizes.tolist()), 16, 5, pool=50).epoch(0))
    spread = np.mean([np.ptp(sizes[rows]) for rows in batches])
    assert spread < 10  # of 200; rows taken at random have 175
    means = np.array([sizes[rows].mean() for rows in batches])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3
    plain = list(BucketedBatches(offsets(sizes.tolist()), 16, 5, pool=1).epoch(0))
    assert np.mean([np.ptp(sizes[rows]) for rows in plain]) > 100


@given(lengths, st.integers(1, 20), st.one_of(st.none(), st.integers(1, 60)))
@settings(max_examples=100, deadline=None)
def test_sorted_batches_can_be_put_back_in_order(
    sizes: list[int], batch_size: int, max_tokens: int | None
) -> None:
    batches = list(SortedBatches(offsets(sizes), batch_size, max_tokens))
    order = [row for rows in batches for row in rows.tolist()]
    assert [sizes[row] for row in order] == sorted(sizes, reverse=True)
    assert sorted(order) == list(range(len(sizes)))
    for rows in batches:
        assert 1 <= len(rows) <= batch_size
        assert max_tokens is None or len(rows) == 1 or sum(sizes[i] for i in rows) <= max_tokens


def test_some_of_the_rows_alone() -> None:
    some = np.array([5, 1, 7])
    sizes = offsets([3, 1, 4, 1, 5, 9, 2, 6])
    for batches in (
        list(BucketedBatches(sizes, 2, rows=some).epoch(0)),
        list(SortedBatches(sizes, 2, rows=some)),
    ):
        assert sorted(np.concatenate(batches).tolist()) == [1, 5, 7]
        assert len(batches) == 2
    assert BucketedBatches(sizes, 2, rows=some).count() == 2


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


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"max_tokens": 0}, {"pool": 0}, {"seed": -1}])
def test_settings_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(wrong))} must be"):
        BucketedBatches(offsets([1, 2]), **({"batch_size": 1} | wrong))
    if "batch_size" in wrong:
        with pytest.raises(SettingsError, match="batch_size must be"):
            SortedBatches(offsets([1]), 0)
        with pytest.raises(SettingsError, match="batch_size must be"):
            StreamBatches(np.zeros(9, np.int32), 0, 1)


# ---- streams


@given(st.integers(2, 300), st.integers(1, 9), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_windows_are_those_of_a_plain_loop(n: int, batch_size: int, bptt: int) -> None:
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
    assert batches.targets == targets.size
    assert [w.step for w in windows] == list(range(0, length - 1, bptt))
    assert all(w.inputs.shape[0] == bptt for w in windows[:-1])
    assert all(w.inputs.flags.c_contiguous and w.inputs.dtype == np.int32 for w in windows)
    rest = list(batches.windows(1))
    assert [w.inputs.tolist() for w in rest] == [w.inputs.tolist() for w in windows[1:]]
