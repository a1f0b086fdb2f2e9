"""Lists of documents with a phrase or with words near each other, against lists of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.core.jit import jit
from fastseq.kernels.search import phrases as kernels
from fastseq.kernels.search import positions as position_kernels
from fastseq.kernels.search.dense import dense_words, fill_dense
from fastseq.kernels.search.joining import Lists
from fastseq.kernels.search.phrase_counting import count_phrases
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS, Postings
from fastseq.kernels.search.short_positions import fill_short
from fastseq.types import Int64, offsets_of
from tests.naive import phrase_lists as naive
from tests.naive import positions as naive_positions
from tests.naive import postings as naive_postings

ROWS = [0, 1, 2, 3, 31, 32, 33, 70, WINDOW - 1, WINDOW, WINDOW + 40, 3 * WINDOW - 1, 3 * WINDOW]
DOCUMENTS = 3 * WINDOW + 2
NONE, NO_PARTS = np.empty(0, np.int64), np.empty(0, np.float32)

Documents = dict[int, Sequence[int | None]]  # of each row the terms


class Segment:
    """The kernels' arrays of documents."""

    def __init__(self, documents: Documents, terms: int, packed: int) -> None:
        self.terms = terms
        found: list[list[tuple[int, list[int]]]] = [[] for _ in range(terms)]
        for row in sorted(documents):
            for term in range(terms):
                places = naive.positions(documents[row], {term})
                if places:
                    found[term].append((row, places))
        counts = [[(row, len(places)) for row, places in term] for term in found]
        dtypes = (np.uint16, np.uint8, np.uint16, np.uint16, np.int64, np.int32)
        arrays = {
            name: np.array(values, dtype)
            for (name, values), dtype in zip(
                naive_postings.encode(counts, bool(packed)).items(), dtypes, strict=True
            )
        }
        self.postings = Postings(
            **arrays,
            term_posting=offsets_of([len(term) for term in counts]),
            term_run=offsets_of([len(naive_postings.runs(term)) for term in counts]),
            packed=packed,
        )
        self.data = np.frombuffer(bytearray(naive_positions.data_of(found)), np.uint8)
        self.blocks = np.array(naive_positions.block_starts(found), np.int64)

    def lists(self, slots: Sequence[Sequence[int]]) -> tuple[Lists, Any, Any]:
        """(lists, terms, starts) of slots."""
        postings = self.postings
        terms = np.array([term for slot in slots for term in slot], np.int32)
        starts = offsets_of([len(slot) for slot in slots])
        first, run, last_run = np.empty((3, len(slots)), np.int64)
        if len(terms) == len(slots):
            arrays = postings.docs, postings.run_window, postings.run_count
            none = NONE, NONE, NO_PARTS, NO_PARTS
            return Lists(*arrays, first, run, last_run, *none), terms, starts
        most, most_runs = len(postings.docs) * 5, len(postings.run_window) * 5
        docs, entries = np.empty(most, np.uint16), np.empty(most, np.int64)
        ends, run_window = np.empty(most + 1, np.int64), np.empty(most_runs, np.uint16)
        run_count, counts = np.empty(most_runs, np.uint16), np.zeros(WINDOW, np.int64)
        runs, at = np.empty((2, len(terms)), np.int64)
        kernels.unite_terms(
            docs, run_window, run_count, first, run, last_run, ends, entries, counts, runs, at,
            postings, terms, starts, (DOCUMENTS >> WINDOW_BITS) + 1,
        )  # fmt: skip
        assert not counts.any()
        return (
            Lists(
                docs, run_window, run_count, first, run, last_run, ends, entries, NO_PARTS, NO_PARTS
            ),
            terms,
            starts,
        )

    def phrases(
        self, slots: Sequence[Sequence[int]], offsets: Sequence[int], slop: int, live: Any,
        scratch: Int64 | None = None, documents: int = DOCUMENTS,
    ) -> dict[int, float]:  # fmt: skip
        lists, terms, starts = self.lists(slots)
        repeats = len(set(terms.tolist())) < len(terms)
        rows, tfs = np.empty(DOCUMENTS, np.int32), np.empty(DOCUMENTS)
        if scratch is None:
            scratch = kernels.make_scratch(len(slots), len(terms))
        found = kernels.phrase_documents(
            rows, tfs, lists, self.postings, self.data, self.blocks, terms, starts,
            np.array(offsets, np.int64), slop, repeats, live, documents, scratch,
        )  # fmt: skip
        assert (np.diff(rows[:found]) > 0).all()
        return dict(zip(rows[:found].tolist(), tfs[:found].tolist(), strict=True))

    def near(
        self, words: Sequence[int], distance: int, in_order: bool, live: Any
    ) -> dict[int, float]:
        distinct, numbers = np.unique(np.array(words, np.int32), return_inverse=True)
        slots = numbers.astype(np.int64) if in_order else np.sort(numbers).astype(np.int64)
        lists, terms, starts = self.lists([[int(word)] for word in distinct])
        rows, tfs = np.empty(DOCUMENTS, np.int32), np.empty(DOCUMENTS)
        found = kernels.near_documents(
            rows, tfs, lists, self.postings, self.data, self.blocks, terms, starts, slots,
            np.zeros(len(terms), np.int64), distance, in_order, live, DOCUMENTS,
            kernels.make_scratch(len(words), len(words)),
        )  # fmt: skip
        return dict(zip(rows[:found].tolist(), tfs[:found].tolist(), strict=True))

    def short(self, term: int) -> np.ndarray:
        ends = self.postings.term_posting
        words = np.empty(ends[term + 1] - ends[term], np.uint32)
        fill_short(words, self.postings, self.data, self.blocks, term)
        return words

    def count(
        self, slots: Sequence[int], offsets: Sequence[int], cached: set[int], live: Any,
        allowed: Any,
    ) -> int:  # fmt: skip
        """The documents with a phrase, the bits and short positions of `cached` terms known."""
        kept = []
        dense = np.zeros((2, len(slots)), np.int64)
        for i, term in enumerate(slots):
            if term in cached:
                bits = np.zeros(dense_words(4), np.uint64)
                fill_dense(bits.ctypes.data, 4, np.empty(0, np.int32), self.postings, term)
                arrays = bits, self.short(term)
                dense[:, i] = [array.__array_interface__["data"][0] for array in arrays]
                kept.append(arrays)
        counts, n = np.zeros(1, np.int64), len(slots)
        count_phrases(
            counts, self.postings, self.data, self.blocks, np.array(slots, np.int64), dense,
            np.array(offsets, np.int64), np.array([0, n]), live, allowed,
            np.empty((3, n), np.int64), np.arange(n + 1), 0, DOCUMENTS, kernels.make_scratch(n, n),
        )  # fmt: skip
        return int(counts[0])

    def conjunction(self, slots: Sequence[Sequence[int]], live: Any) -> list[int]:
        lists, terms, _ = self.lists(slots)
        rows = np.empty(DOCUMENTS, np.int32)
        found = kernels.documents_with_all(
            rows, lists, self.postings, terms, live, DOCUMENTS,
            kernels.make_scratch(len(slots), len(terms)),
        )  # fmt: skip
        return rows[:found].tolist()


def live_rows(deleted: set[int]) -> Any:
    if not deleted:
        return np.empty(0, np.uint8)
    live = np.ones(DOCUMENTS, np.uint8)
    live[sorted(deleted)] = 0
    return live


def expected(documents: Documents, deleted: set[int], frequency: Any) -> Any:
    found = {row: frequency(documents[row]) for row in sorted(documents) if row not in deleted}
    return pytest.approx({row: tf for row, tf in found.items() if tf > 0}, rel=1e-6)


TERMS = 5
token = st.integers(0, TERMS - 1) | st.none()
short = st.lists(token, max_size=12)
long = st.tuples(st.lists(token, min_size=1, max_size=4), st.sampled_from([14, 60, 300])).map(
    lambda drawn: drawn[0] * drawn[1]
)
some_documents = st.dictionaries(st.sampled_from(ROWS), short | long, max_size=len(ROWS))
deletions = st.sets(st.sampled_from(ROWS), max_size=3)
slot = st.lists(st.integers(0, TERMS - 1), min_size=1, max_size=3, unique=True)
single = st.lists(st.integers(0, TERMS - 1), min_size=1, max_size=1)


@st.composite
def phrases(draw: st.DrawFn) -> tuple[list[list[int]], list[int]]:
    slots = draw(st.lists(draw(st.sampled_from([single, slot])), min_size=1, max_size=5))
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 5]), min_size=5, max_size=5))
    return slots, np.cumsum([draw(st.sampled_from([0, 3])), *gaps])[: len(slots)].tolist()


@settings(deadline=None, max_examples=250)
@given(
    some_documents, deletions, phrases(), st.sampled_from([0, 0, 1, 2, 3, 10, 1 << 30]),
    st.sampled_from([0, 1]),
)  # fmt: skip
def test_phrases(
    documents: Documents, deleted: set[int], phrase: tuple[list[list[int]], list[int]], slop: int,
    packed: int,
) -> None:  # fmt: skip
    slots, offsets = phrase
    segment = Segment(documents, TERMS, packed)
    live = live_rows(deleted)

    def frequency(document: naive.Document) -> float:
        if slop == 0:
            return naive.exact(document, slots, offsets)
        return naive.sloppy(document, slots, offsets, slop)

    assert segment.phrases(slots, offsets, slop, live) == expected(documents, deleted, frequency)
    every = [row for row in sorted({*documents} - deleted)
             if all(naive.positions(documents[row], one) for one in slots)]  # fmt: skip
    assert segment.conjunction(slots, live) == every


@settings(deadline=None, max_examples=200)
@given(
    some_documents, deletions,
    st.lists(st.integers(0, TERMS - 1), min_size=2, max_size=4), st.sampled_from([1, 2, 251, 260]),
    st.sets(st.integers(0, TERMS - 1)), st.none() | st.sets(st.sampled_from(ROWS)),
    st.sampled_from([0, 1]),
)  # fmt: skip
def test_counts(
    documents: Documents, deleted: set[int], slots: list[int], gap: int, cached: set[int],
    chosen: set[int] | None, packed: int,
) -> None:  # fmt: skip
    """With the bits and short positions of some terms; a word may be far after the first."""
    offsets = [*range(len(slots) - 1), len(slots) - 2 + gap]
    allowed = np.zeros(0 if chosen is None else DOCUMENTS, np.uint8)
    allowed[sorted(chosen or ())] = 1
    expected = sum(
        naive.exact(tokens, [[slot] for slot in slots], offsets) > 0
        for row, tokens in documents.items()
        if row not in deleted and (chosen is None or row in chosen)
    )
    segment = Segment(documents, TERMS, packed)
    assert segment.count(slots, offsets, cached, live_rows(deleted), allowed) == expected


@pytest.mark.parametrize("packed", [0, 1])
def test_short_positions(packed: int) -> None:
    """As bytes, 255 after the last; all ones for more than four, or one above 252."""
    places = [[0], [252], [253], [1, 2, 3, 4], [0, 127, 128, 252], [0, 1, 2, 253], [5, 300],
              [*range(5)], [7, 9], [*range(16)], [*range(300)], [3]]  # fmt: skip
    documents = {}
    for row, own in enumerate(places):
        documents[row] = [0 if at in own else None for at in range(max(own) + 1)]
    expected = [
        own + [255] * (4 - len(own)) if len(own) <= 4 and own[-1] <= 252 else [255] * 4
        for own in places
    ]
    found = Segment(documents, 1, packed).short(0)
    assert found.view(np.uint8).reshape(-1, 4).tolist() == expected


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(st.sampled_from(ROWS), short, max_size=len(ROWS)), deletions,
    st.lists(st.integers(0, TERMS - 1), min_size=1, max_size=4),
    st.sampled_from([0, 1, 2, 5, 1 << 40]), st.booleans(), st.sampled_from([0, 1]),
)  # fmt: skip
def test_near(
    documents: Documents, deleted: set[int], words: list[int], distance: int, in_order: bool,
    packed: int,
) -> None:  # fmt: skip
    segment = Segment(documents, TERMS, packed)

    def frequency(document: naive.Document) -> float:
        return naive.near(document, words, distance, in_order)

    found = segment.near(words, distance, in_order, live_rows(deleted))
    assert found == expected(documents, deleted, frequency)


@pytest.mark.parametrize("packed", [0, 1])
@pytest.mark.parametrize("seed", range(2))
def test_many_documents(seed: int, packed: int) -> None:
    """Lists of very different lengths, of several tiles and windows, with many blocks."""
    chance = np.random.default_rng(seed)
    rows = np.sort(chance.choice(DOCUMENTS, 9000, replace=False))
    rows[:4000] = np.arange(4000)  # dense
    share = np.array([0.6, 0.25, 0.1, 0.04, 0.01])
    documents = {
        int(row): chance.choice(5, chance.integers(1, 9), p=share).tolist() for row in rows
    }
    for row in chance.choice(rows, 5):
        documents[int(row)] = chance.choice(5, 4000, p=share).tolist()
    segment = Segment(documents, TERMS, packed)
    gone = set(chance.choice(rows, 200).tolist())
    scratch = kernels.make_scratch(8, 10)
    for slots, slop in (
        ([[0], [1]], 0), ([[4], [0]], 0), ([[3], [4], [0]], 0), ([[0], [0], [1]], 0),
        ([[0], [1]], 2), ([[1], [0], [1]], 3), ([[3, 4], [0]], 0), ([[2], [0, 1, 3]], 1),
        ([[2]], 0),
    ):  # fmt: skip
        offsets = list(range(len(slots)))
        counted = {}
        for row in sorted(documents):
            tokens = documents[row]
            if slop:
                counted[row] = naive.sloppy(tokens, slots, offsets, slop)
            else:
                counted[row] = naive.exact(tokens, slots, offsets)
        for deleted in (set(), gone):
            found = segment.phrases(slots, offsets, slop, live_rows(deleted), scratch)
            kept = {row: tf for row, tf in counted.items() if tf > 0 and row not in deleted}
            assert [*found] == [*kept]
            assert [*found.values()] == pytest.approx([*kept.values()], rel=1e-6)


def test_long_phrases_and_documents() -> None:
    """50 words; a word a million times, at distances of up to four bytes."""
    text = [n % 3 for n in range(100)]
    often: list[int | None] = [0] * 1_000_000 + [1, 0]
    apart: list[int | None] = [*[3], *[None] * 2_100_000, *[4, 3, 4]]
    segment = Segment({1: text, 2: text[1:], WINDOW: often, WINDOW + 7: apart}, TERMS, 1)
    live = live_rows(set())
    slots = [[n % 3] for n in range(50)]
    assert segment.phrases(slots, range(50), 0, live) == {1: 17.0, 2: 16.0}
    assert segment.phrases(slots, range(50), 5, live)[1] == pytest.approx(
        naive.sloppy(text, slots, range(50), 5)
    )
    assert segment.phrases([[0], [0]], [0, 1], 0, live) == {WINDOW: 999_999.0}
    assert segment.phrases([[0], [1], [0]], [0, 1, 2], 0, live)[WINDOW] == 1.0
    assert segment.phrases([[0], [0]], [0, 1], 1 << 30, live)[WINDOW] > 499_999
    assert segment.phrases([[3], [4]], [0, 2_100_001], 0, live) == {WINDOW + 7: 1.0}
    assert segment.near([3, 4, 3], 1 << 40, True, live) == {
        WINDOW + 7: pytest.approx(1 / 2_100_001)
    }


def test_documents_beyond_the_last_and_terms_without_postings() -> None:
    segment = Segment({5: [0, 1], 40: [0, 1]}, 3, 1)
    live = live_rows(set())
    assert segment.phrases([[0], [1]], [0, 1], 0, live, documents=40) == {5: 1.0}
    assert segment.phrases([[0], [2]], [0, 1], 0, live) == {}
    assert segment.conjunction([[2], [0]], live) == []


@pytest.mark.parametrize("cut", ["nothing", "ones", "half", "all"])
def test_damaged_positions_never_crash(cut: str) -> None:
    """Data that ends too soon, or whose integers do not end, gives some frequencies."""
    documents: Documents = {row: [0, 1, 6, 0, 2] * 9 for row in range(700)}
    segment = Segment(documents, 7, 1)
    chance = np.random.default_rng(3)
    if cut == "ones":
        segment.data = np.full(len(segment.data), 255, np.uint8)
        segment.data[::9] = 127
    elif cut == "nothing":
        segment.data = chance.integers(128, 256, len(segment.data), dtype=np.uint8)
    else:
        segment.data = segment.data[: len(segment.data) // 2 if cut == "half" else 0].copy()
    live = live_rows(set())
    for slots in ([[0], [1]], [[1], [0], [2]], [[0, 1], [2]]):
        for slop in (0, 4):
            found = segment.phrases(slots, range(len(slots)), slop, live)
            assert all(0 <= row < 700 for row in found)
    assert len(segment.near([0, 1, 0], 5, False, live)) <= 700


# ---- where the positions of a posting start


@jit
def _starts(out, postings, data, blocks):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(len(out))):
        out[i] = position_kernels.positions_start(postings, data, blocks, i)


@pytest.mark.parametrize("packed", [0, 1])
@pytest.mark.parametrize("large", [0.0, 0.02, 0.6])
def test_positions_start(large: float, packed: int) -> None:
    """Of every posting, with frequencies on both sides of each limit, and integers of one to four
    bytes."""
    chance = np.random.default_rng(int(100 * large) + packed)
    found = []
    for _ in range(700):
        sizes = [14, 15, 16, 254, 255, 256] if chance.random() < large else [1, 1, 1, 2, 5]
        distances = chance.choice([1, 127, 128, 20_000, 3_000_000], int(chance.choice(sizes)))
        found.append(np.cumsum(distances).tolist())
    counts = [[(row, len(places)) for row, places in enumerate(found)]]
    encoded = naive_postings.encode(counts, bool(packed))
    dtypes = (np.uint16, np.uint8, np.uint16, np.uint16, np.int64, np.int32)
    arrays = [np.array(v, t) for v, t in zip(encoded.values(), dtypes, strict=True)]
    every = [[*enumerate(found)]]
    docs, tfs, run_window, run_count, large_at, large_tf = arrays
    postings = Postings(
        docs, tfs, offsets_of([700]), offsets_of([1]), run_window, run_count, large_at, large_tf,
        packed,
    )  # fmt: skip
    data = np.frombuffer(bytearray(naive_positions.data_of(every)), np.uint8)
    blocks = np.array(naive_positions.block_starts(every), np.int64)
    out = np.empty(700, np.int64)
    _starts(out, postings, data, blocks)
    sizes = [len(naive_positions.encode(places)) for places in found]
    assert out.tolist() == np.cumsum([0, *sizes])[:-1].tolist()


@jit
def _bits(out, masks, numbers):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(len(out))):
        out[i] = position_kernels._bit_at(masks[i], numbers[i])


def test_bit_at() -> None:
    chance = np.random.default_rng(0)
    masks = [(1 << 64) - 1, 1, 1 << 63, 0x8000000000000001]
    for density in (0.05, 0.5, 0.95):
        masks += [
            sum(1 << n for n in range(64) if chance.random() < density) | 1 << 7 for _ in range(99)
        ]
    pairs = [
        (mask, number, place)
        for mask in masks
        for number, place in enumerate(n for n in range(64) if mask >> n & 1)
    ]
    out = np.empty(len(pairs), np.uint64)
    _bits(out, *(np.array([pair[n] for pair in pairs], np.uint64) for n in (0, 1)))
    assert out.tolist() == [place for _, _, place in pairs]
