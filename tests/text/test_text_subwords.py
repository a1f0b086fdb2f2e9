"""Character n-grams by fastText's rules, against plain Python and gensim."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import SettingsError
from fastseq.text.subwords import Subwords
from fastseq.types import Texts
from tests.naive import subwords as naive

GENSIM = Path(__file__).parent.parent / "golden" / "vectors" / "gensim.json"


def ids(subwords: Subwords, words: Texts | list[str]) -> list[list[int]]:
    found = subwords.ids(words if isinstance(words, Texts) else Texts.from_strings(words))
    assert found.values.dtype == np.int32
    assert found.offsets.dtype == np.int64
    assert len(found.values) == found.offsets[-1]
    values = found.values.tolist()
    return [values[a:b] for a, b in pairwise(found.offsets.tolist())]


def test_buckets_match_gensim() -> None:
    said = json.loads(GENSIM.read_text("utf-8"))["hashes"]
    assert len(said) == 2
    for name, words in said.items():
        low, high, buckets = map(int, name.replace("-", " ").split())
        assert ids(Subwords(low, high, buckets), list(words)) == list(words.values())


def test_ngrams_of_known_examples() -> None:
    """Of "<猫>": its two pairs and the whole; of "<a>" with single characters: the middle one."""
    assert naive.subwords("猫", 2, 3) == ["<猫", "<猫>", "猫>"]
    assert ids(Subwords(2, 3, 2**31 - 1), ["猫"]) == [[905430362, 1544274214, 1486292004]]
    # FNV-1a's own test vector: "a" is 0xe40c292c
    assert ids(Subwords(1, 1, 2**31 - 1), ["a"]) == [[0xE40C292C % (2**31 - 1)]]


def test_words_of_every_script() -> None:
    rng = random.Random(3)
    pools = ["abcxyz", "àéîöüñçß", "猫犬語日本", "😀🎉👩\u200d👧🏽", "<>/s", "абв", "\u0301\u0300a"]
    words = ["", "a", "<", ">", "<>", "s>", "</s", "</s>x", "x</s>"]
    for _ in range(2000):
        pool = rng.choice([*pools, "".join(pools)])
        words.append("".join(rng.choice(pool) for _ in range(rng.randint(1, 12))))
    for low, high, buckets in [(3, 6, 2_000_000), (1, 6, 50), (1, 1, 7), (5, 5, 1), (2, 40, 999)]:
        expected = [naive.buckets(word, low, high, buckets) for word in words]
        assert ids(Subwords(low, high, buckets), words) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=5),
    st.integers(1, 5),
    st.integers(0, 4),
    st.integers(1, 2**31 - 1),
)
def test_ngrams_of_any_words(words: list[str], low: int, more: int, buckets: int) -> None:
    expected = [naive.buckets(word, low, low + more, buckets) for word in words]
    assert ids(Subwords(low, low + more, buckets), words) == expected


def test_end_of_line_has_no_ngrams() -> None:
    assert ids(Subwords(1, 3, 9), ["</s>", "a", "</s>"])[::2] == [[], []]
    assert ids(Subwords(1, 3, 9), ["</t>", "</S>", "</s"]) == [
        naive.buckets(word, 1, 3, 9) for word in ("</t>", "</S>", "</s")
    ]


@pytest.mark.parametrize(("low", "high"), [(3, 0), (0, 6), (0, 0)])
def test_no_ngrams_at_all(low: int, high: int) -> None:
    subwords = Subwords(low, high, 0)
    assert (subwords.min_n, subwords.max_n) == (0, 0)
    assert ids(subwords, ["where", "猫"]) == [[], []]


def test_no_words() -> None:
    assert ids(Subwords(), []) == []


def test_texts_that_begin_within_their_bytes() -> None:
    whole = Texts.from_strings(["skipped", "where", "猫"])
    part = Texts(whole.data, whole.offsets[1:].copy())
    assert ids(Subwords(3, 4, 77), part) == [naive.buckets(w, 3, 4, 77) for w in ("where", "猫")]


def test_bytes_that_are_not_utf8() -> None:
    """A continuation byte belongs to the preceding byte, whatever that is."""
    data = np.frombuffer(bytearray(b"\x80a\xff"), np.uint8)
    found = ids(Subwords(2, 2, 1000), Texts(data, np.array([0, 3], np.int64)))
    assert found == [[naive.fnv1a(ngram) % 1000 for ngram in (b"<\x80a", b"a\xff", b"\xff>")]]


@pytest.mark.parametrize(
    ("low", "high", "buckets", "said"),
    [
        (4, 3, 10, "min_n is 4 and max_n 3"),
        (-1, 3, 10, "min_n must be"),
        (3, 2.5, 10, "max_n must be"),
        (3, 6, 0, "buckets must be a whole number of at least 1"),
        (3, 6, 1 << 31, "buckets must be a whole number below"),
        (0, 0, -1, "buckets must be"),
    ],
)
def test_invalid_settings_are_rejected(low: int, high: int, buckets: int, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Subwords(low, high, buckets)
