"""Masks of the device are those of the CPU, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.cuda.nn import dropout
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.nn.dropout import drop, drop_rows
from fastseq.nn.layers import limit_and_scale

keys = st.integers(0, (1 << 64) - 1)


@settings(max_examples=8, deadline=None)
@given(key=keys, size=st.integers(0, 40), rate=st.sampled_from([0.1, 0.5, 0.9]))
def test_mask_matches_the_cpu(key: int, size: int, rate: float) -> None:
    x = np.arange(1, size + 1, dtype=np.float32)
    limit, scale = limit_and_scale(rate)
    expected = np.empty_like(x)
    drop(expected, x, np.uint64(key), limit, scale, 0, size)
    out = memory.put(x)
    dropout.drop(out, out, key, limit, scale)
    assert memory.get(out).tolist() == expected.tolist()


@settings(max_examples=6, deadline=None)
@given(key=keys, data=st.data())
def test_indexed_rows_have_the_masks_of_their_rows(key: int, data: st.DataObject) -> None:
    count, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    rows = np.array(data.draw(st.permutations(range(count))), np.int64)
    x = np.ones((count, columns), np.float32)
    limit, scale = limit_and_scale(0.5)
    expected = x.copy()
    drop_rows(expected, rows, np.uint64(key), limit, scale, 0, count)
    out = memory.put(x)
    dropout.drop_rows(out, memory.put(rows.astype(np.int32)), key, limit, scale)
    assert memory.get(out).tolist() == expected.tolist()


def test_elements_past_two_to_the_32_have_another_key() -> None:
    assert dropout.key_halves(7, 0) != dropout.key_halves(7, 1)
    assert dropout.key_halves(7, 0) == dropout.key_halves(7 + (1 << 64), 0)


def test_arrays_that_do_not_match_are_rejected() -> None:
    with pytest.raises(ValueError, match="3 elements into 2"):
        dropout.drop(memory.zeros(2), memory.zeros(3), 1, 0, 2.0)
    with pytest.raises(ValueError, match="2 numbers of rows for 3 rows"):
        dropout.drop_rows(memory.zeros((3, 1)), memory.zeros(2, np.int32), 1, 0, 2.0)
