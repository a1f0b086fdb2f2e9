"""Rows moved, summed and searched on the device, compared with NumPy and the embedding layer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.cuda.nn import gemm
from fastseq.kernels.cuda.nn import rows as row_kernels
from fastseq.kernels.cuda.runtime import memory
from fastseq.nn.layers import Embedding

F = np.float32


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("columns", [1, 3, 40])
def test_rows_are_gathered_and_scattered(columns: int) -> None:
    values, rows = drawn(5, columns), np.array([3, 0, 4], np.int32)
    out = memory.zeros((3, columns))
    row_kernels.gather(out, memory.put(values), memory.put(rows))
    assert (memory.get(out) == values[rows]).all()
    back = memory.zeros((5, columns))
    row_kernels.scatter(back, out, memory.put(rows))
    expected = np.zeros_like(values)
    expected[rows] = values[rows]
    assert (memory.get(back) == expected).all()


def test_columns_are_copied() -> None:
    x, out = drawn(4, 5), drawn(4, 7)
    expected = out.copy()
    expected[:, 3:6] = x[:, 1:4]
    target = memory.put(out)
    row_kernels.copy_columns(target, 3, memory.put(x), 1, 3)
    assert (memory.get(target) == expected).all()
    with pytest.raises(ValueError, match="columns"):
        row_kernels.copy_columns(target, 5, memory.put(x), 1, 3)


def test_numbers_are_added_and_filled() -> None:
    a, b = drawn(3, 3), drawn(9)
    out = memory.put(a)
    row_kernels.add(out, memory.put(b))
    assert (memory.get(out) == a + b.reshape(3, 3)).all()
    row_kernels.fill(out, 2.5)
    assert (memory.get(out) == 2.5).all()
    with pytest.raises(ValueError, match="8 numbers added to 9"):
        row_kernels.add(out, memory.zeros(8))


@pytest.mark.parametrize("columns", [1, 2, 5, 17])
def test_the_largest_column_is_the_first_among_equals(columns: int) -> None:
    x = np.round(drawn(6, columns) * 2)
    x[1] = 1
    x[2, columns // 2] = np.nan
    x[3] = -np.inf
    best = memory.empty(6, np.int32)
    row_kernels.row_maxima(best, memory.put(x))
    assert memory.get(best).tolist() == np.argmax(x, 1).tolist()


def test_arrays_that_do_not_match_are_rejected() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        row_kernels.gather(memory.zeros((2, 3)), memory.zeros((4, 2)), memory.zeros(2, np.int32))
    with pytest.raises(ValueError, match="do not fit"):
        row_kernels.scatter(memory.zeros((4, 3)), memory.zeros((2, 3)), memory.zeros(3, np.int32))
    with pytest.raises(ValueError, match="largest columns"):
        row_kernels.row_maxima(memory.zeros(2, np.int32), memory.zeros((3, 2)))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 3), (11, 34), (0, 2)])
def test_columns_are_summed(rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_kernels, "ROWS", 4)
    a = np.random.default_rng(rows).normal(size=(rows, columns)).astype(F)
    out = memory.put(np.ones(columns, F))
    row_kernels.column_sums(out, memory.put(a))
    np.testing.assert_allclose(memory.get(out), a.sum(0) + 1, atol=1e-5)
    row_kernels.column_sums(out, memory.put(a), add=False)
    np.testing.assert_allclose(memory.get(out), a.sum(0), atol=1e-5)


def test_columns_of_a_window_are_summed() -> None:
    a = np.arange(12, dtype=F).reshape(3, 4)
    out = memory.zeros(2)
    row_kernels.column_sums(out, gemm.window(memory.put(a), 1, 3))
    assert memory.get(out).tolist() == [15, 18]
    with pytest.raises(ValueError, match="4 columns into 2"):
        row_kernels.column_sums(out, memory.put(a))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=20))
def test_ids_are_grouped(ids: list[int]) -> None:
    numbers = np.array(ids, np.int32)
    targets, order, starts = row_kernels.groups(numbers)
    assert targets.tolist() == sorted(set(ids))
    assert starts[0] == 0
    assert starts[-1] == len(ids)
    for u, target in enumerate(targets):
        places = order[starts[u] : starts[u + 1]].tolist()
        assert places == [i for i, number in enumerate(ids) if number == target]


def test_embeddings_gradient_is_the_layers_bit_for_bit() -> None:
    ids = np.array([3, 0, 3, 4, 3, 0], np.int32)
    layer = Embedding(6, 5)
    dy = np.random.default_rng(2).normal(size=(6, 5)).astype(F)
    y = layer.forward(ids)
    layer.backward(dy)
    out = memory.zeros((6, 5))
    row_kernels.gather(out, memory.put(layer.values["weight"]), memory.put(ids))
    assert (memory.get(out) == y).all()
    slopes = memory.zeros((6, 5))
    row_kernels.add_rows(slopes, memory.put(dy), *map(memory.put, row_kernels.groups(ids)))
    assert (memory.get(slopes) == layer.grads["weight"]).all()


def test_segments_are_written() -> None:
    a = np.arange(8, dtype=F).reshape(4, 2)
    out = memory.put(np.full((2, 2), 9, F))
    order, starts = np.array([2, 0, 3], np.int32), np.array([0, 2, 3], np.int32)
    numbers = np.arange(2, dtype=np.int32)
    row_kernels.segment_rows(out, *map(memory.put, (a, numbers, order, starts)))
    assert memory.get(out).tolist() == [[4, 6], [6, 7]]
    with pytest.raises(ValueError, match="sums of rows"):
        row_kernels.segment_rows(out, *map(memory.put, (a, numbers[:1], order, starts)))
