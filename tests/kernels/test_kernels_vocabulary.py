"""Sorted words: order, prefixes, ranges, patterns and edit distance, against lists."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastseq.errors import SettingsError
from fastseq.kernels.text import vocabulary as kernels
from fastseq.text.patterns import regex, wildcard
from fastseq.text.vocabulary import SortedWords
from fastseq.types import Texts
from tests.naive import vocabulary as naive

# of one to four bytes, with leads and continuations in common; and NUL
ALPHABET = "\0abcé\xea\u07ff中丮ꠀ\ud7ff\uffff😀😁\U0010ffff"
# shared beginnings around the eight bytes of a key and the limit of an LCP
BEGINNINGS = [
    "",
    "",
    "abcdefgh",
    "é" * 4,
    "x" * 253,
    "x" * 255,
    "x" * 256,
    "é" * 127 + "中",
    "中" * 200,
]

few_letters = st.text("ab", max_size=6)
letters = st.text(ALPHABET, max_size=5)
long_words = st.tuples(st.sampled_from(BEGINNINGS), letters | few_letters).map("".join)
vocabularies = st.lists(few_letters | letters | long_words, unique=True, max_size=60)


def sorted_words(words: Sequence[str]) -> SortedWords:
    return SortedWords(Texts.from_strings(words))


@given(vocabularies)
@example([])
@example([""])
@settings(max_examples=400, deadline=None)
def test_words_are_sorted_by_bytes(words: list[str]) -> None:
    found = sorted_words(words)
    assert len(found) == len(words)
    assert found.order.dtype == np.int32
    assert found.order.tolist() == naive.by_bytes(words)
    assert found.strings(found.order) == [words[number] for number in naive.by_bytes(words)]


@given(st.randoms(use_true_random=False), st.sampled_from(BEGINNINGS))
@settings(max_examples=40, deadline=None)
def test_many_words_with_one_beginning(rng: random.Random, beginning: str) -> None:
    """Runs of equal keys of every length, which are merged."""
    count = rng.choice([7, 8, 9, 15, 16, 17, 31, 33, 100, 1000])
    words = list(
        {beginning + "".join(rng.choices("abé\0", k=rng.randrange(12))) for _ in range(count)}
    )
    rng.shuffle(words)
    assert sorted_words(words).order.tolist() == naive.by_bytes(words)


@given(vocabularies)
@settings(max_examples=200, deadline=None)
def test_common_prefixes_and_branches(words: list[str]) -> None:
    texts = Texts.from_strings(words)
    n, order = len(words), np.array(naive.by_bytes(words), np.int32)
    out = np.empty(texts.nbytes + kernels.PADDING, np.uint8)
    offsets = np.empty(n + 1, np.int64)
    lcp, branches = np.zeros((2, n + kernels.PADDING), np.uint8)
    kernels.gather_words(out, offsets, lcp, branches, texts.data, texts.offsets, order)
    ordered = [words[number].encode() for number in order]
    assert out[: texts.nbytes].tobytes() == b"".join(ordered)
    assert offsets.tolist() == [0, *np.cumsum([len(word) for word in ordered])]
    expected = [min(naive.common_prefix(a, b), kernels.DEEPEST) for a, b in pairwise(ordered)]
    assert lcp.tolist() == [0] * bool(n) + expected + [0] * kernels.PADDING
    for word, common, branch in zip(ordered[1:], expected, branches[1:], strict=False):
        assert word[common] == branch


def test_offsets_may_begin_anywhere() -> None:
    data = np.frombuffer(bytearray(b"??bac"), np.uint8)
    words = SortedWords(Texts(data, np.array([2, 3, 4, 5])))
    assert words.strings(words.order) == ["a", "b", "c"]
    assert words.order.tolist() == [1, 0, 2]


# ---- prefixes and ranges


@given(vocabularies, letters | few_letters | st.sampled_from(BEGINNINGS))
@settings(max_examples=400, deadline=None)
def test_prefix(words: list[str], prefix: str) -> None:
    for some in (prefix.encode(), prefix.encode()[:-1], b"\xff"):
        expected = [n for n in naive.by_bytes(words) if words[n].encode().startswith(some)]
        assert sorted_words(words).prefix(some).tolist() == expected


limits = st.none() | letters | few_letters | long_words


@given(vocabularies, limits, limits, st.booleans(), st.booleans())
@settings(max_examples=400, deadline=None)
def test_range(
    words: list[str], low: str | None, high: str | None, include_low: bool, include_high: bool
) -> None:
    below = None if low is None else low.encode()
    above = None if high is None else high.encode()
    expected = []
    for number in naive.by_bytes(words):
        word = words[number].encode()
        if below is not None and (word < below or (word == below and not include_low)):
            continue
        if above is not None and (word > above or (word == above and not include_high)):
            continue
        expected.append(number)
    found = sorted_words(words).range(below, above, include_low, include_high)
    assert found.tolist() == expected


def test_range_without_words_between() -> None:
    words = sorted_words(["a", "b", "c"])
    assert words.range(b"c", b"a").tolist() == []
    assert words.range(b"b", b"b", False, True).tolist() == []
    assert words.range(b"b", b"b").tolist() == [1]


# ---- patterns

wildcards = st.text("ab*?\\" + ALPHABET, max_size=6)


@given(vocabularies, wildcards | st.tuples(st.sampled_from(BEGINNINGS), wildcards).map("".join))
@example(["", "a", "aa"], "*")
@example(["", "a", "aa"], "")
@example(["x" * 300, "x" * 300 + "a", "x" * 300 + "b"], "x*a")
@example(["a" + "x" * 300 + c for c in "abc"] + ["b"], "*b")
@settings(max_examples=600, deadline=None)
def test_wildcards(words: list[str], pattern: str) -> None:
    expected = [n for n in naive.by_bytes(words) if naive.wildcard_matches(pattern, words[n])]
    found = sorted_words(words).matching(wildcard(pattern))
    assert found.dtype == np.int32
    assert found.tolist() == expected


PATTERNS = [
    "a*", "(a|b)*", "(ab)+", ".*b", "[^a]*", "x+(a|é)?", "x{253,}.", ".{3}", "é*中?.*", "[中丮].*",
    "(a+)+b", "[^b-中]{2,}", "", "x*中*|a", "[\\s\\S]", "\\w+", "abcdefgh.?",
]  # fmt: skip


@given(vocabularies, st.sampled_from(PATTERNS))
@settings(max_examples=600, deadline=None)
def test_regular_expressions(words: list[str], pattern: str) -> None:
    accepts = re.compile(pattern, re.DOTALL).fullmatch
    expected = [n for n in naive.by_bytes(words) if accepts(words[n])]
    assert sorted_words(words).matching(regex(pattern)).tolist() == expected


# ---- edit distance


def assert_similar(words: list[str], word: str, max_edits: int, prefix_length: int = 0) -> None:
    found = sorted_words(words).fuzzy(word, max_edits, prefix_length)
    assert found.ids.dtype == np.int32
    assert found.edits.dtype == np.uint8
    pairs = list(zip(found.ids.tolist(), found.edits.tolist(), strict=True))
    assert pairs == naive.similar(words, word, max_edits, prefix_length)


queries = letters | few_letters | st.text("abc", max_size=9)


@given(vocabularies, queries | long_words, st.integers(0, 2), st.integers(0, 4))
@settings(max_examples=800, deadline=None)
def test_fuzzy(words: list[str], word: str, max_edits: int, prefix_length: int) -> None:
    assert_similar(words, word, max_edits, prefix_length)


@st.composite
def dense(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A word, and many words of the same few letters, all of the same length in UTF-8."""
    word = st.text(draw(st.sampled_from(["abc", "дежз", "中丮丯"])), max_size=9)
    return draw(word), list(draw(st.sets(word, max_size=150)))


@given(dense())
@settings(max_examples=400, deadline=None)
def test_fuzzy_in_dense_vocabularies(case: tuple[str, list[str]]) -> None:
    word, words = case
    for max_edits in range(3):
        assert_similar(words, word, max_edits)


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("letters", ["ab", "де", "中丮"])
def test_fuzzy_after_long_beginnings(beginning: str, letters: str) -> None:
    """Equal beginnings do not change a distance."""
    ends = ["".join(chosen) for n in range(6) for chosen in product(letters, repeat=n)]
    words = sorted_words([beginning + end for end in ends])
    for end in ends[::3]:
        for max_edits in range(3):
            found = words.fuzzy(beginning + end, max_edits)
            pairs = list(zip(found.ids.tolist(), found.edits.tolist(), strict=True))
            assert pairs == naive.similar(ends, end, max_edits, 0)


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A word, and words made of it by some edits each."""
    word = draw(
        st.text(draw(st.sampled_from(["ab", "abcdef", "дежз", "中丮丯", ALPHABET])), max_size=12)
    )
    word = draw(st.sampled_from([""] * 40 + BEGINNINGS)) + word
    others = set()
    for _ in range(draw(st.integers(1, 25))):
        other = word
        for _ in range(draw(st.integers(0, 3))):
            at = len(other) - draw(st.integers(0, min(len(other), 8)))
            letter = draw(st.sampled_from([*"abдж中丮", *ALPHABET]))
            other = draw(
                st.sampled_from(
                    [
                        other[:at] + letter + other[at:],
                        other[:at] + other[at + 1 :],
                        other[:at] + letter + other[at + 1 :],
                        other[:at] + other[at : at + 2][::-1] + other[at + 2 :],
                    ]
                )
            )
        others.add(other)
    return word, list(others)


@given(edited(), st.integers(0, 2), st.integers(0, 3))
@settings(max_examples=400, deadline=None)
def test_fuzzy_of_edited_words(
    case: tuple[str, list[str]], max_edits: int, prefix_length: int
) -> None:
    word, words = case
    assert_similar(words, word, max_edits, prefix_length)
    assert_similar(words, word, max_edits, len(word) - prefix_length if len(word) > 3 else 0)


def test_transposition_is_one_edit_and_alignment_is_restricted() -> None:
    words = ["ba", "bca", "a", "xab"]
    near = sorted_words(words).fuzzy("ab", 1)
    assert dict(zip(near.ids.tolist(), near.edits.tolist(), strict=True)) == {0: 1, 2: 1, 3: 1}
    # "ca" to "abc" would be 2 if a transposed pair could be changed again
    assert sorted_words(["abc"]).fuzzy("ca", 2).ids.tolist() == []


def test_all_words_of_wide_vocabularies_are_seen() -> None:
    """More than 64 words between those that match: LCPs are compared in several blocks."""
    words = [f"{a}{b:03d}" for a in "abcdefgh" for b in range(200)] + ["xquery", "query"]
    for word in ("query", "qeury", "b100", "zz100", "h199x"):
        assert_similar(words, word, 1)
        assert_similar(words, word, 2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((3,), "max_edits"), ((-1,), "max_edits"), ((1.5,), "max_edits"), ((1, -1), "prefix_length")],
)
def test_wrong_numbers(arguments: tuple[int, ...], named: str) -> None:
    with pytest.raises(SettingsError, match=f"{named} must be a whole number"):
        sorted_words(["a"]).fuzzy("a", *arguments)
