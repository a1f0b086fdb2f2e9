"""Varints against their definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.core.varints import MOST_BYTES, read_varints, write_varints
from tests.naive.inverted import integer

integers = st.one_of(
    st.integers(0, 300), st.integers(0, 2**63 - 1),
    st.integers(0, 8).map(lambda n: 128**n), st.integers(1, 9).map(lambda n: 128**n - 1),
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.lists(integers, max_size=20))
def test_integers_are_written_by_definition_and_read_back(values: list[int]) -> None:
    expected = b"".join(map(integer, values))
    data = np.zeros(MOST_BYTES * len(values), np.uint8)
    size = write_varints(data, np.array(values, np.int64))
    assert data[:size].tobytes() == expected
    found = np.full(len(values), -1, np.int64)
    assert read_varints(found, data[:size].copy()) == size
    assert found.tolist() == values


def test_data_that_ends_too_early_ends_the_reading() -> None:
    found = np.full(3, -1, np.int64)
    assert read_varints(found, np.array([0x85, 1, 0x80], np.uint8)) == 3
    assert found.tolist() == [133, 0, 0]
    endless = np.full(40, 0xFF, np.uint8)
    assert read_varints(found, endless) == 40
