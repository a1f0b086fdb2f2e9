"""Pairs of words: each in one part, for any size of the buffer; joined in place."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from fastseq.kernels.text.ngrams import collect_pairs, count_runs, intern_lefts, join_pairs
from fastseq.text.tables import KeyTable

TOKENS = np.random.default_rng(0).integers(0, 7, 500).astype(np.int32)
ENDS = np.array([0, 3, 4, 4, 200, 350, 500, 500], np.int64)
NONE = np.zeros(0, np.uint8)


def collected(
    connector: np.ndarray, slots: np.ndarray, part: int, parts: int, room: int
) -> list[int]:
    found, place = np.empty(room, np.uint64), np.array([0, 0, -1], np.int64)
    out: list[int] = []
    n = room
    while n == room:
        n = collect_pairs(found, place, TOKENS, ENDS, connector, slots, part, parts)
        out += found[:n].tolist()
    return out


def pairs() -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    for a, b in zip([0, *ENDS], ENDS, strict=False):
        sentence = TOKENS[a:b].tolist()
        found.update(pairwise(sentence))
    return found


@pytest.mark.parametrize("room", [1, 7, 499, 1000])
@pytest.mark.parametrize("parts", [1, 3])
def test_every_pair_is_counted_once(room: int, parts: int) -> None:
    shares = [collected(NONE, KeyTable(1).slots, part, parts, room) for part in range(parts)]
    assert Counter(key for share in shares for key in share) == {
        a << 32 | b: count for (a, b), count in pairs().items()
    }
    assert not any(set(a) & set(b) for at, a in enumerate(shares) for b in shares[:at])


def test_runs_of_equal_keys() -> None:
    keys = np.array([3, 3, 3, 5, 9, 9], np.uint64)
    counts = np.zeros(6, np.int64)
    assert count_runs(counts, keys) == 3
    assert (keys[:3].tolist(), counts[:3].tolist()) == ([3, 5, 9], [3, 1, 2])
    assert count_runs(np.zeros(0, np.int64), np.zeros(0, np.uint64)) == 0


def test_connectors_extend_the_left_side() -> None:
    connector = np.array([0, 0, 1, 0, 0, 1, 0], np.uint8)
    table, progress = KeyTable(1), np.zeros(1, np.int64)
    grown = 0
    while not intern_lefts(*table.arrays, progress, TOKENS, ENDS, connector):
        table.grow()
        grown += 1
    assert grown > 1, "the table was to be too small"
    found = Counter(collected(connector, table.slots, 0, 1, 100))
    names = {n: (n,) for n in range(7)}
    for number, key in enumerate(table.keys.tolist()):
        names[7 + number] = (*names[key >> 32], key & 0xFFFFFFFF)
    expected: Counter[tuple[int, ...]] = Counter()
    for a, b in zip([0, *ENDS], ENDS, strict=False):
        left: tuple[int, ...] = ()
        for word in TOKENS[a:b].tolist():
            if connector[word]:
                left = (*left, word) if left else ()
                continue
            if left:
                expected[(*left, word)] += 1
            left = (word,)
    assert {(*names[key >> 32], key & 0xFFFFFFFF): n for key, n in found.items()} == expected


def test_phrases_are_joined_from_left_to_right() -> None:
    tokens = np.array([0, 0, 0, 1, 0, 1, 0, 0], np.int32)
    ends = np.array([3, 3, 7, 8], np.int64)
    phrases = KeyTable(2)
    phrases.register(np.array([0 << 32 | 0, 1 << 32 | 0], np.uint64))
    left = join_pairs(
        tokens, ends, NONE, KeyTable(1).slots, phrases.slots, np.array([8, 9], np.int32)
    )
    assert tokens[:left].tolist() == [8, 0, 9, 9, 0]
    assert ends.tolist() == [2, 2, 4, 5]
