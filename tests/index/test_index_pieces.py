"""The parts of a build: work in order, the ticket lock, spilled slices."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fastseq.index.segment_writer import narrowest, slot_count
from fastseq.index.slices import Merge, SliceStore, SpilledArray, invert
from fastseq.text.lexicon import TicketLock
from fastseq.threads import in_order
from fastseq.types import Tokens
from tests.index.slices import stored

# ---- work in order


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_results_are_in_order_and_few_are_started_ahead(threads: int, ahead: int) -> None:
    chance = random.Random(threads)
    pauses = [chance.random() * 0.004 for _ in range(40)]
    read = 0

    def items() -> object:
        nonlocal read
        for number in range(40):
            read += 1
            yield number

    def work(number: int) -> int:
        time.sleep(pauses[number])
        return number * number

    with ThreadPoolExecutor(threads) as pool:
        for taken, (item, result) in enumerate(in_order(pool, work, items(), ahead)):  # type: ignore[arg-type]
            assert (item, result) == (taken, taken * taken)
            assert read - taken <= ahead
    assert read == 40


@pytest.mark.parametrize(("items", "ahead", "here"), [(1, 2, True), (2, 2, False), (1, 1, False)])
def test_a_single_item_is_worked_on_by_the_caller(items: int, ahead: int, here: bool) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = in_order(pool, lambda _: threading.get_ident(), range(items), ahead)
        threads = [thread for _, thread in found]
    assert [thread == threading.get_ident() for thread in threads] == [here] * items


def test_failure_is_raised_in_order_and_stops_the_rest() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        time.sleep(0.001)
        done.append(number)
        return number

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, work, range(1000), 4)
        assert [next(results) for _ in range(3)] == [(0, 0), (1, 1), (2, 2)]
        with pytest.raises(ValueError, match="three"):
            next(results)
    assert len(done) < 10


# ---- ticket lock


def test_slices_enter_every_level_in_order() -> None:
    lock = TicketLock()
    seen: dict[int, list[int]] = {1: [], 2: []}
    inside = 0

    def work(number: int) -> None:
        nonlocal inside
        turn = lock.ticket(number)
        time.sleep(0.002 * (number % 3))
        for level in (1, 2):
            with turn(level):
                inside += level == 1
                assert inside <= 1 or level == 2
                seen[level].append(number)
                inside -= level == 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(30)))
    assert seen == {1: [*range(30)], 2: [*range(30)]}


def test_abort_wakes_later_slices_and_lets_earlier_ones_finish() -> None:
    lock = TicketLock()
    outcome: dict[int, str] = {}

    def work(number: int) -> None:
        try:
            with lock.ticket(number)(1):
                outcome[number] = "done"
        except Exception as error:
            outcome[number] = type(error).__name__

    waiting = [threading.Thread(target=work, args=(number,)) for number in (2, 3, 5)]
    for thread in waiting:
        thread.start()
    lock.abort(4)
    work(0)
    work(1)
    for thread in waiting:
        thread.join(10)
    assert outcome == {0: "done", 1: "done", 2: "done", 3: "done", 5: "AbortedError"}
    late = threading.Thread(target=work, args=(6,))
    late.start()
    lock.abort()
    late.join(10)
    assert outcome[6] == "AbortedError"


# ---- slices


def tokens_of(documents: list[list[int]]) -> Tokens:
    offsets = np.zeros(len(documents) + 1, np.int64)
    np.cumsum([len(document) for document in documents], out=offsets[1:])
    return Tokens(np.array([t for d in documents for t in d], np.int32), offsets)


def test_spilled_slice_is_read_unchanged(tmp_path: Path) -> None:
    chance = random.Random(1)
    kept = SliceStore(lambda: tmp_path / "a")
    spilled = SliceStore(lambda: tmp_path / "b")
    first = 0
    for number in range(30):
        documents = [
            [chance.randrange(50) for _ in range(chance.choice([0, 3, 600]))]
            for _ in range(chance.randrange(5) if number else 0)
        ]
        for store in (kept, spilled):
            store.append(invert([tokens_of(documents)] * 2, [50, 64], 0, first))
        if number % 4 == 3:
            held = [part.nbytes for one in kept.slices[number - 3 :] for part in one.parts]
            assert spilled.resident == sum(held) > 0
            spilled.spill()
            assert spilled.resident == 0
        first += len(documents)
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "b").stat().st_size > 10_000
    for whole, other in zip(kept.slices[:-2], spilled.slices[:-2], strict=True):
        assert whole.lengths.tolist() == other.lengths.tolist()
        for part, away in zip(whole.parts, other.parts, strict=True):
            assert isinstance(away.docs, SpilledArray)
            for name in ("terms", "dfs", "docs", "tfs"):
                array, stretch = getattr(part, name), getattr(away, name)
                read = stretch[:]
                assert read.dtype == array.dtype
                assert read.flags.writeable
                assert read.tolist() == array.tolist()
                middle = slice(len(array) // 3, 2 * len(array) // 3)
                assert stretch[middle].tolist() == array[middle].tolist()
    # and merges to the same, in chunks of one posting or all at once
    with ThreadPoolExecutor(2) as pool:
        for memory in (1, 1 << 30):
            ours, theirs = (
                list(Merge(store, [50, 64]).chunks(pool, 2, memory, lambda done: None))
                for store in (kept, spilled)
            )
            for name in ("docs", "tfs", "run_window", "run_count", "large_at", "large_tf"):
                a, b = (np.concatenate([c[name] for c in cs]) for cs in (ours, theirs))
                assert a.tolist() == b.tolist()
            assert len(ours) == (1 if memory > 1 else len(ours))


@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_large_frequencies_of_several_slices_and_terms(memory: int) -> None:
    """They are stored by position in the index, which is by term and not by slice."""
    documents = [[1] * 300 + [2] * 255 + [0], [2] * 400, [1] * 256 + [2] * 999, [1, 2]]
    slices = [invert([tokens_of([document])], [3], 0, n) for n, document in enumerate(documents)]
    with ThreadPoolExecutor(2) as pool:
        chunks = list(Merge(stored(slices), [3]).chunks(pool, 2, memory, lambda done: None))
    at, tf, tfs = (
        np.concatenate([chunk[name] for chunk in chunks]).tolist()
        for name in ("large_at", "large_tf", "tfs")
    )
    assert tfs == [1, 255, 255, 1, 255, 255, 255, 1]
    assert list(zip(at, tf, strict=True)) == [(1, 300), (2, 256), (4, 255), (5, 400), (6, 999)]


def test_merging_no_slices_gives_empty_arrays() -> None:
    with ThreadPoolExecutor(1) as pool:
        empty = invert([tokens_of([[], []])], [0], 0, 0)
        assert list(Merge(stored([empty]), [0]).chunks(pool, 1, 1 << 20, lambda done: None)) == []


# ---- small formulas


def test_counts_are_stored_in_the_narrowest_type() -> None:
    for largest, dtype in (
        (0, np.uint8),
        (255, np.uint8),
        (256, np.uint16),
        (65_536, np.uint32),
        (1 << 32, np.uint64),
    ):
        kept = narrowest(np.array([0, largest], np.int64))
        assert kept.dtype == dtype
        assert kept.tolist() == [0, largest]
    assert narrowest(np.zeros(0, np.int64)).dtype == np.uint8


def test_hash_table_is_never_full() -> None:
    for terms in [*range(2000), 10**6, 2**20, 2**24 - 1]:
        slots = slot_count(terms)
        assert slots & (slots - 1) == 0
        assert terms < slots <= 4 * max(terms, 1)
        assert terms <= 0.8 * slots or terms < 2
