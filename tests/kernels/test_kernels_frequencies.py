"""Frequencies of a byte and of half a byte: packing, reading and weighting them, against lists."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.index.segment_writer import _pack_chunk, are_packed
from fastseq.kernels.search import impacts as impact_kernels
from fastseq.kernels.search import postings as kernels
from fastseq.kernels.search.postings import WINDOW, Postings
from tests.kernels.test_kernels_merging import arrays_of, some_terms
from tests.naive import inverted
from tests.naive import postings as naive

frequency = st.integers(1, 4) | st.sampled_from([13, 14, 15, 16, 17, 254, 255, 256, 70_000])
some_frequencies = st.lists(frequency | st.just(2**31 - 1), max_size=40)


def encoded(tfs: Sequence[int], packed: bool) -> dict[str, list[int]]:
    """The arrays of frequencies, as those of a term of so many documents."""
    arrays = naive.encode([[*enumerate(tfs)]], packed)
    return {name: arrays[name] for name in ("tfs", "large_at", "large_tf")}


# ---- packing


@settings(deadline=None, max_examples=300)
@given(some_frequencies, st.data())
def test_chunks_are_packed(tfs: list[int], data: st.DataObject) -> None:
    """Chunks of any size, that begin at any posting."""
    cuts = data.draw(st.lists(st.integers(0, len(tfs)), max_size=6).map(sorted))
    found: dict[str, list[int]] = {"tfs": [], "large_at": [], "large_tf": []}
    rest: Any = np.empty(0, np.uint8)
    for first, last in pairwise([0, *cuts, len(tfs)]):
        own = encoded(tfs[first:last], packed=False)
        chunk = {
            "docs": np.zeros(last - first, np.uint16), "tfs": np.array(own["tfs"], np.uint8),
            "large_at": np.array(own["large_at"], np.int64) + first,
            "large_tf": np.array(own["large_tf"], np.int32),
        }  # fmt: skip
        packed, rest = _pack_chunk(chunk, first, rest)
        assert packed["docs"] is chunk["docs"]
        for name, values in found.items():
            assert packed[name].dtype == chunk[name].dtype
            values += packed[name].tolist()
        assert len(rest) == last % 2
    found["tfs"] += rest.tolist()
    assert found == encoded(tfs, packed=True)


@settings(max_examples=300)
@given(some_frequencies, st.integers(0, 200))
def test_they_are_packed_where_that_saves_a_quarter_of_a_byte_each(
    tfs: list[int], ones: int
) -> None:
    tfs = [*tfs, *[1] * ones]
    large = [sum(tf >= mark for tf in tfs) for mark in (15, 255)]
    packed, unpacked = (len(tfs) * each + 12 * n for each, n in zip((0.5, 1), large, strict=True))
    assert are_packed(len(tfs), *large) == (packed <= unpacked - len(tfs) / 4)
    assert are_packed(len(tfs), *large) == inverted.is_packed(tfs)


# ---- reading


@pytest.mark.parametrize("packed", [0, 1])
@settings(deadline=None, max_examples=150)
@given(some_frequencies, st.data())
def test_frequencies_are_read(packed: int, tfs: list[int], data: st.DataObject) -> None:
    postings = arrays_of([[*enumerate(tfs)]], packed)
    assert postings.tfs.tolist() == encoded(tfs, bool(packed))["tfs"]
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(tfs))] * 2)))
    found = np.full(last - first, -1, np.int32)
    kernels.frequencies(found, postings, first)
    assert found.tolist() == tfs[first:last]


# ---- weighting


def weighting_of(postings: Postings, documents: int, slope: float) -> impact_kernels.Weighting:
    """Frequencies count as their square roots."""
    factor = np.full(-(-documents // WINDOW) * WINDOW, np.inf, np.float32)
    factor[:documents] = 1 + np.arange(documents) % 7
    values = [np.sqrt(tfs).astype(np.float32) for tfs in (np.arange(256), postings.large_tf)]
    return impact_kernels.Weighting(slope, factor, *values)


def parts_of(found: Sequence[tuple[int, int]], weighting: impact_kernels.Weighting) -> list[float]:
    """The parts of a term's postings, in float32."""
    slope = np.float32(weighting.slope)
    parts = []
    for row, tf in found:
        value = np.float32(np.sqrt(tf))
        parts.append(float(value / (slope * value + weighting.factor[row])))
    return parts


def largest_of_blocks(parts: Sequence[float], starts: Sequence[int]) -> dict[int, float]:
    """The largest part of each block that lies in one term."""
    size = impact_kernels.BLOCK
    return {
        block: max(parts[block * size : (block + 1) * size])
        for block in range(len(parts) // size)
        if not any(block * size < start < (block + 1) * size for start in starts)
    }


@settings(deadline=None, max_examples=60)
@given(some_terms, st.sampled_from([0, 70]), st.sampled_from([0.0, 1.0]), st.data())
def test_impacts(terms: naive.Postings, repeated: int, slope: float, data: st.DataObject) -> None:
    """Those of both forms are the same, whatever terms are filled in together."""
    documents = 2 * WINDOW + 3
    if repeated:  # a term of several blocks
        terms = [[(row, 1 + row * row % 300) for row in range(5 * repeated)], *terms]
    order = data.draw(st.permutations(range(len(terms))))
    for packed in (0, 1):
        postings = arrays_of(terms, packed)
        weighting = weighting_of(postings, documents, slope)
        (impacts,) = impact_kernels.make_impacts([postings])
        cut = len(order) // 2
        for some in (order[:cut], [-1, *order], order):
            impact_kernels.fill_impacts(impacts, postings, weighting, np.array(some, np.int32))
        expected = [parts_of(found, weighting) for found in terms]
        assert impacts.parts.tolist() == [part for parts in expected for part in parts]
        assert impacts.best.tolist() == [max(parts) for parts in expected]
        starts = postings.term_posting.tolist()
        for block, largest in largest_of_blocks(impacts.parts.tolist(), starts).items():
            assert impacts.block[block] == largest


@pytest.mark.parametrize("packed", [0, 1])
@pytest.mark.parametrize("seed", range(20))
def test_damaged_overflow_tables_never_write_elsewhere(packed: int, seed: int) -> None:
    """Marks without entries, entries without marks, in any order and anywhere."""
    chance = np.random.default_rng(seed)
    runs = [
        [(row, int(tf)) for row, tf in enumerate(chance.choice([1, 3, 15, 40, 255, 300], count))]
        for count in (1, 50, 7, 400)
    ]
    postings = arrays_of(runs, packed)
    n = len(postings.docs)
    size = int(chance.integers(0, 60))
    places = chance.choice([-1, -(2**62), 2**62, 0, n - 1, n, 5, 60, 61], size)
    large_tf = chance.choice([-(2**31), -1, 0, 3, 15, 255, 2**31 - 1], size).astype(np.int32)
    postings = postings._replace(
        tfs=chance.integers(0, 256, len(postings.tfs), np.uint8) if seed % 2 else postings.tfs,
        large_at=np.sort(places) if seed % 3 else places,
        large_tf=large_tf,
    )
    weighting = weighting_of(postings._replace(large_tf=np.maximum(large_tf, 0)), 400, 1.0)
    around = np.full(n + 200, -7, np.float32)
    impacts = impact_kernels.make_impacts([postings])[0]._replace(parts=around[100 : 100 + n])
    impact_kernels.fill_impacts(impacts, postings, weighting, np.arange(4, dtype=np.int32))
    assert (around[:100] == -7).all()
    assert (around[100 + n :] == -7).all()
    assert (impacts.parts >= 0).all()
    found = np.empty(n, np.int32)
    kernels.frequencies(found, postings, 0)
    assert (found >= 0).all()
    high, low = np.zeros((2, 400), np.uint64)
    impact_kernels.document_sums(
        high, low, np.zeros(400, np.int32), postings, weighting.table, weighting.large, np.ones(4)
    )
