"""Inverting, placing, merging and reading positions, against lists."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.index.slices import Merge, invert_with_positions
from fastseq.kernels.search import positions as kernels
from fastseq.kernels.search.postings import LARGE_TF, WINDOW, Postings
from fastseq.types import Tokens, offsets_of
from tests.index.slices import stored
from tests.kernels.test_kernels_merging import DOCUMENTS, ROWS
from tests.naive import inverted
from tests.naive import positions as naive
from tests.naive import postings as naive_postings
from tests.positions import read_positions

# where an integer takes one more byte
BORDERS = [n + d for bits in (7, 14, 21, 28) for n in [1 << bits] for d in (-1, 0, 1)]

few_positions = st.lists(
    st.integers(0, 300) | st.sampled_from([*BORDERS, 2**31 - 1]), min_size=1, max_size=5,
    unique=True,
).map(sorted)  # fmt: skip
many_positions = st.sampled_from([14, 15, 16, 254, 255, 700]).map(
    lambda n: [*range(3, 3 + 2 * n, 2)]
)
one_term = st.dictionaries(st.sampled_from(ROWS), few_positions | many_positions, min_size=1).map(
    lambda found: sorted(found.items())
)
some_terms = st.lists(one_term, max_size=5)


def arrays_of(postings: naive.Postings, packed: int = 0) -> Postings:
    """The kernels' postings."""
    counts = [[(row, len(positions)) for row, positions in term] for term in postings]
    dtypes = (np.uint16, np.uint8, np.uint16, np.uint16, np.int64, np.int32)
    encoded = naive_postings.encode(counts, bool(packed))
    fields = {
        name: np.array(values, dtype)
        for (name, values), dtype in zip(encoded.items(), dtypes, strict=True)
    }
    return Postings(
        **fields,
        term_posting=offsets_of([len(term) for term in counts]),
        term_run=offsets_of([len(naive_postings.runs(term)) for term in counts]),
        packed=packed,
    )


def positions_of(postings: naive.Postings) -> tuple[np.ndarray, np.ndarray]:
    """(positions, where those of each block start) for the kernels."""
    data = np.frombuffer(bytearray(naive.data_of(postings)), np.uint8)
    return data, np.array(naive.block_starts(postings), np.int64)


def test_constants_are_those_of_the_description() -> None:
    assert (kernels.BLOCK, kernels.COLUMN_GAP) == (inverted.BLOCK, inverted.COLUMN_GAP)
    assert len(inverted.integer(2**31 - 1)) == kernels.MOST_BYTES == 5


# ---- inverting a slice


def tokens_of(documents: Sequence[Sequence[Sequence[int]]]) -> Tokens:
    columns = [column for document in documents for column in document]
    offsets = offsets_of([len(column) for column in columns])
    return Tokens(np.array([term for column in columns for term in column], np.int32), offsets)


def assert_inverted(
    documents: Sequence[Sequence[Sequence[int]]], columns: int, first: int, size: int
) -> None:
    expected = naive.invert(documents, first)
    one = invert_with_positions(tokens_of(documents), size, columns, 3, first)
    assert one.window == 3
    (part,) = one.parts
    every = [posting for found in expected.values() for posting in found]
    lengths = [sum(term >= 0 for column in d for term in column) for d in documents]
    assert one.lengths.tolist() == lengths
    assert one.lengths.dtype == np.int32
    assert part.terms[:].tolist() == list(expected)
    assert part.dfs[:].tolist() == [len(found) for found in expected.values()]
    assert part.docs[:].tolist() == [row for row, _ in every]
    assert part.tfs[:].tolist() == [min(len(positions), LARGE_TF) for _, positions in every]
    large = [(at, len(found)) for at, (_, found) in enumerate(every) if len(found) >= LARGE_TF]
    assert list(zip(part.large_at.tolist(), part.large_tf.tolist(), strict=True)) == large
    assert part.positions[:].tobytes() == naive.data_of([*expected.values()])
    assert part.sizes[:].tolist() == [len(naive.data_of([found])) for found in expected.values()]


column = st.lists(
    st.integers(-1, 5) | st.sampled_from([2047, 2048, 4_194_303, 4_194_304]), max_size=12
)


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 3), st.sampled_from([0, 1, WINDOW - 12]), st.data())
def test_positions_of_a_slice(columns: int, first: int, data: st.DataObject) -> None:
    document = st.lists(column, min_size=columns, max_size=columns)
    documents = data.draw(st.lists(document, max_size=8))
    size = max((term for d in documents for c in d for term in c), default=-1) + 1
    assert_inverted(documents, columns, first, size)
    assert_inverted(documents, columns, first, 2**31 - 1)  # any bound above every id will do


@pytest.mark.parametrize("bits", [0, 1, 11, 12, 21, 22, 23, 30])
def test_radix_sort_with_every_number_of_passes(bits: int) -> None:
    chance = np.random.default_rng(bits)
    documents = [[chance.integers(0, 1 << bits, 40).tolist()] for _ in range(30)]
    documents[7] = [[(1 << bits) - 1, 0, 0]]
    assert_inverted(documents, 1, 0, 1 << bits)
    assert_inverted(documents, 1, 0, 2**31 - 1)


@pytest.mark.parametrize("count", [254, 255, 256, 17_000, 70_000])
def test_long_documents(count: int) -> None:
    """Large frequencies, and distances of one, two and three bytes."""
    documents = [
        [[1, *[0] * count, 1], [1, 0, 2]],
        [[-1] * count, [2, -1, 2]],
        [[2, *[-1] * 126, 2], [*[3, -1] * (count // 2)]],
    ]
    assert_inverted(documents, 2, 7, 4)


def test_slice_without_tokens() -> None:
    assert_inverted([[[], []], [[-1], []]], 2, 0, 0)
    assert_inverted([], 1, 0, 5)


def test_slices_are_placed_in_chunks_of_any_size() -> None:
    """Those of several windows, spread over the terms."""
    slices = [
        (0, [[[0, 1, 0]], [[1, 1, 4]]], 0), (0, [[[4, -1]], [[]], [[0, 4]]], 2),
        (3, [[[1, 0]], [[4] * 300]], 0),
    ]  # fmt: skip
    inverted_slices, expected = [], [b""] * 5
    for window, documents, first in slices:
        inverted_slices.append(invert_with_positions(tokens_of(documents), 5, 1, window, first))
        for term, found in naive.invert(documents, first).items():
            expected[term] += naive.data_of([found])
    merge = Merge(stored(inverted_slices), [5])
    assert np.diff(merge._position).tolist() == [len(data) for data in expected]
    assert merge.nbytes == sum(map(len, expected))
    for first, last in ((0, 5), (0, 1), (1, 4), (2, 3), (4, 5)):
        ranges = []
        for one in inverted_slices:
            (part,) = one.parts
            low, high = np.searchsorted(part.terms[:], [first, last]).tolist()
            ends = [offsets_of(counts[:])[[low, high]] for counts in (part.dfs, part.sizes)]
            ranges.append([[low, high], *(pair.tolist() for pair in ends)])
        chunk = merge._merge(first, last, ranges)
        assert chunk["positions"].tobytes() == b"".join(expected[first:last])


# ---- blocks, and reading


@settings(deadline=None, max_examples=100)
@given(some_terms, st.integers(0, 4))
def test_size_blocks_and_read_positions(postings: naive.Postings, repeated: int) -> None:
    every = postings * (1 + 20 * repeated)  # several blocks
    arrays, (data, blocks) = arrays_of(every), positions_of(every)
    sizes = np.zeros(len(arrays.docs) // kernels.BLOCK + 1, np.uint32)
    edges = [0, len(every) // 3, len(every)]
    for first, last in pairwise(edges):
        low, high = arrays.term_posting[[first, last]].tolist()
        begin, end = np.searchsorted(arrays.large_at, [low, high]).tolist()
        own = np.frombuffer(bytearray(naive.data_of(every[first:last])), np.uint8)
        kernels.size_blocks(
            sizes, own, arrays.tfs[low:high].copy(), arrays.large_tf[begin:end].copy(), low
        )
    assert sizes.tolist() == naive.blocks_of(every)
    for form in (arrays, arrays_of(every, packed=1)):
        for term, found in enumerate(every):
            ends = np.empty(len(found) + 1, np.int64)
            read = np.empty(sum(len(positions) for _, positions in found), np.int32)
            read_positions(read, ends, form, data, blocks, term)
            own = [read[a:b].tolist() for a, b in pairwise(ends.tolist())]
            assert own == [positions for _, positions in found]


@pytest.mark.parametrize("cut", ["nothing", "half", "all"])
def test_damaged_positions_never_crash(cut: str) -> None:
    """Data that ends too soon gives some positions."""
    postings: naive.Postings = [[(0, [1, 300]), (1, [*range(300)])], [(0, [5])]] * 100
    arrays, (data, blocks) = arrays_of(postings), positions_of(postings)
    chance = np.random.default_rng(3)
    if cut == "nothing":
        data = chance.integers(128, 256, len(data), dtype=np.uint8)
    else:
        data = data[: len(data) // 2 if cut == "half" else 0].copy()
    for term in range(200):
        found = postings[term]
        ends = np.empty(len(found) + 1, np.int64)
        read = np.empty(sum(len(positions) for _, positions in found), np.int32)
        read_positions(read, ends, arrays, data, blocks, term)
        assert ends[-1] == len(read)


# ---- merging segments


def merged_by_kernels(
    segments: Sequence[naive.Postings], rows: Sequence[np.ndarray], terms: Sequence[Sequence[int]],
    size: int, chunks: Sequence[tuple[int, int]], parts: int, packed: Sequence[int],
) -> list[bytes]:  # fmt: skip
    """The positions of each new term: their sizes are counted in parts of the segments' terms, and
    they are placed in chunks of new terms."""
    given: list[Any] = [
        (arrays_of(postings, one), *positions_of(postings))
        for postings, one in zip(segments, packed, strict=True)
    ]
    numbers = [np.array(new_terms, np.int32) for new_terms in terms]
    sizes = np.zeros(size, np.int64)
    for (arrays, data, blocks), new_rows, new_terms in zip(given, rows, numbers, strict=True):
        for part in pairwise(len(new_terms) * part // parts for part in range(parts + 1)):
            kernels.count_merged_positions(sizes, arrays, data, blocks, new_rows, new_terms, *part)
    starts = offsets_of(sizes)
    found = []
    for first, last in chunks:
        low = int(starts[first])
        out = np.empty(int(starts[last]) - low, np.uint8)
        at = starts[first:last].copy()
        for (arrays, data, blocks), new_rows, new_terms in zip(given, rows, numbers, strict=True):
            own = np.full(size, -1, np.int32)
            known = np.flatnonzero(new_terms >= 0)
            own[new_terms[known]] = known
            kernels.place_merged_positions(
                out, at, arrays, data, blocks, new_rows, own[first:last].copy(), low
            )
        assert at.tolist() == starts[first + 1 : last + 1].tolist()
        ends = (starts[first : last + 1] - low).tolist()
        found += [out[a:b].tobytes() for a, b in pairwise(ends)]
    return found


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(some_terms, st.sets(st.sampled_from(ROWS))), min_size=1, max_size=3),
    st.data(),
)
def test_merging_segments(
    drawn: list[tuple[naive.Postings, set[int]]], data: st.DataObject
) -> None:
    segments = [postings for postings, _ in drawn]
    size = data.draw(st.integers(max(map(len, segments)), 8))
    rows, terms, base = [], [], 0
    for postings, deleted in drawn:
        live = np.ones(DOCUMENTS, np.int32)
        live[sorted(deleted)] = 0
        rows.append(np.where(live == 1, base + np.cumsum(live) - live, -1).astype(np.int32))
        base += int(live.sum())
        numbers = data.draw(st.permutations(range(size)))[: len(postings)]
        terms.append([
            number if {row for row, _ in found} - deleted else -1
            for number, found in zip(numbers, postings, strict=True)
        ])  # fmt: skip
    expected = naive.merge(segments, rows, terms, size)
    cut = data.draw(st.integers(0, size))
    packed = data.draw(st.tuples(*[st.sampled_from([0, 1])] * len(segments)))
    for chunks, parts in (([(0, size)], 1), ([(0, cut), (cut, size)], 3)):
        assert merged_by_kernels(segments, rows, terms, size, chunks, parts, packed) == expected


def test_merging_segments_of_several_blocks() -> None:
    """A term begins inside of a block, after postings of any frequencies."""
    chance = np.random.default_rng(4)
    segments: list[naive.Postings] = []
    for _ in range(2):
        postings: naive.Postings = []
        for _ in range(40):
            documents = np.flatnonzero(chance.random(60) < 0.4).tolist() or [0]
            counts = chance.choice(
                [1, 2, 15, 255, 300], len(documents), p=[0.5, 0.2, 0.2, 0.05, 0.05]
            )
            postings.append([
                (row, np.cumsum(chance.integers(1, 200, count)).tolist())
                for row, count in zip(documents, counts.tolist(), strict=True)
            ])  # fmt: skip
        segments.append(postings)
    live = [np.arange(60) % 7 != 3, np.arange(60) % 2 == 0]
    rows = [
        np.where(mask, base + np.cumsum(mask) - 1, -1).astype(np.int32)
        for mask, base in zip(live, (0, int(live[0].sum())), strict=True)
    ]
    terms = [
        [
            40 * number + n if any(mask[row] for row, _ in found) else -1
            for n, found in enumerate(postings)
        ]
        for number, (postings, mask) in enumerate(zip(segments, live, strict=True))
    ]
    expected = naive.merge(segments, rows, terms, 80)
    chunks = [(n, n + 5) for n in range(0, 80, 5)]
    for packed in ((0, 0), (1, 0), (1, 1)):
        assert merged_by_kernels(segments, rows, terms, 80, chunks, 4, packed) == expected
