"""Rows moved, added up and looked through on the device, beside NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from fastseq.kernels.cuda.nn import rows as row_kernels
from fastseq.kernels.cuda.runtime import memory


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


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        row_kernels.gather(memory.zeros((2, 3)), memory.zeros((4, 2)), memory.zeros(2, np.int32))
    with pytest.raises(ValueError, match="do not fit"):
        row_kernels.scatter(memory.zeros((4, 3)), memory.zeros((2, 3)), memory.zeros(3, np.int32))
    with pytest.raises(ValueError, match="largest columns"):
        row_kernels.row_maxima(memory.zeros(2, np.int32), memory.zeros((3, 2)))
