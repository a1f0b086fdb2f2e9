"""Keys, selection and sorting of hits, and the vectors under them, against Python's sorted."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.kernels.core.jit import helper
from fastseq.kernels.core.topk import (
    bits_float,
    float_bits,
    key_document,
    key_score,
    make_key,
    select_best,
    sort_descending,
)
from fastseq.kernels.simd.bytes import greater64, trailing_zeros


@helper
def keys_of(out, scores, documents):  # type: ignore[no-untyped-def]
    for i in range(len(scores)):
        out[i] = make_key(scores[i], documents[i])


@helper
def parts_of(scores, documents, keys):  # type: ignore[no-untyped-def]
    for i in range(len(keys)):
        scores[i] = key_score(keys[i])
        documents[i] = key_document(keys[i])


@helper
def best(keys, n, k):  # type: ignore[no-untyped-def]
    return select_best(keys, n, k)


@helper
def ordered(keys, spare, n):  # type: ignore[no-untyped-def]
    sort_descending(keys, spare, n)


@helper
def above(bits, zeros, array, start, limit):  # type: ignore[no-untyped-def]
    bits[0] = greater64(array, np.uint64(start), limit)
    zeros[0] = trailing_zeros(bits[0])


@helper
def back_and_forth(out, values):  # type: ignore[no-untyped-def]
    for i in range(len(values)):
        out[i] = bits_float(float_bits(values[i]))


floats = st.floats(width=32, allow_nan=False)


def make_keys(scores: np.ndarray, documents: np.ndarray) -> np.ndarray:
    keys = np.empty(len(scores), np.uint64)
    keys_of(keys, scores.astype(np.float32), documents.astype(np.int64))
    return keys


@settings(deadline=None)
@given(st.lists(st.tuples(floats, st.integers(0, 2**31 - 1)), max_size=40))
def test_keys_order_as_score_then_document(hits: list[tuple[float, int]]) -> None:
    given_scores = np.array([score for score, _ in hits], np.float32)
    given_documents = np.array([document for _, document in hits], np.int64)
    keys = make_keys(given_scores, given_documents)
    scores, documents = np.empty(len(hits), np.float32), np.empty(len(hits), np.int64)
    parts_of(scores, documents, keys)
    assert scores.tobytes() == given_scores.tobytes()
    assert documents.tolist() == given_documents.tolist()
    for (score, document), key in zip(hits, keys.tolist(), strict=True):
        for (other, row), theirs in zip(hits, keys.tolist(), strict=True):
            if score != other:
                assert (key > theirs) == (score > other)
            elif str(score) == str(other):  # 0.0 and -0.0 are equal scores with two keys
                assert (key > theirs) == (document < row)


def collections(kind: str, n: int) -> np.ndarray:
    chance = np.random.default_rng(n)
    return {
        "random": lambda: chance.integers(0, 2**63, n, np.uint64),
        "ascending": lambda: np.arange(n, dtype=np.uint64),
        "descending": lambda: np.arange(n, 0, -1, dtype=np.uint64),
        "equal": lambda: np.full(n, 7, np.uint64),
        "few values": lambda: chance.integers(0, 3, n, np.uint64),
        "organ pipes": lambda: np.concatenate(
            [np.arange(n // 2), np.arange(n - n // 2, 0, -1)]
        ).astype(np.uint64),
        "extremes": lambda: chance.choice(np.array([0, 2**64 - 1], np.uint64), n),
    }[kind]()


KINDS = ["random", "ascending", "descending", "equal", "few values", "organ pipes", "extremes"]


@pytest.mark.parametrize("kind", KINDS)
def test_select_best_moves_the_best_to_the_front(kind: str) -> None:
    for n in (1, 2, 3, 16, 17, 100, 1001):
        for k in sorted({1, 2, n // 2, n - 1, n} & {*range(1, n + 1)}):
            keys = collections(kind, n)
            expected = sorted(keys.tolist(), reverse=True)
            work = np.concatenate([keys, np.full(3, 2**64 - 1, np.uint64)])
            assert best(work, n, k) == expected[k - 1]
            assert sorted(work[:k].tolist(), reverse=True) == expected[:k]
            assert sorted(work[:n].tolist(), reverse=True) == expected
            assert (work[n:] == 2**64 - 1).all()  # untouched


@pytest.mark.parametrize("kind", KINDS)
def test_sorting_is_descending(kind: str) -> None:
    for n in (0, 1, 2, 15, 16, 17, 31, 32, 33, 500, 4097):
        keys = collections(kind, n)
        work, spare = np.concatenate([keys, np.zeros(2, np.uint64)]), np.empty(n, np.uint64)
        ordered(work, spare, n)
        assert work[:n].tolist() == sorted(keys.tolist(), reverse=True)


def test_compare_64_scores_at_once() -> None:
    chance = random.Random(2)
    specials = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.0, np.nextafter(1, 2)]
    for turn in range(200):
        array = np.array(
            [chance.choice([*specials, chance.random()]) for _ in range(200)], np.float32
        )
        start = chance.randrange(200 - 63)
        limit = np.float32(chance.choice([0.0, 1.0, 0.5, np.nan, -np.inf, np.inf, -0.0]))
        bits, zeros = np.zeros(1, np.uint64), np.zeros(1, np.uint64)
        above(bits, zeros, array, start, limit)
        expected = [i for i in range(64) if array[start + i] > limit]
        assert [i for i in range(64) if int(bits[0]) >> i & 1] == expected, turn
        assert zeros[0] == (expected[0] if expected else 64)


def test_bits_of_floats() -> None:
    values = np.array([0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, 1e-45], np.float32)
    out = np.empty_like(values)
    back_and_forth(out, values)
    assert out.tobytes() == values.tobytes()
