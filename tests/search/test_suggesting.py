"""Spelling suggestions and completions, against sorted lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import SettingsError
from fastseq.search.suggesting import complete, suggest
from fastseq.text.vocabulary import SortedWords
from fastseq.types import Int64, Texts
from tests.naive import vocabulary as naive


def arrays_of(counts: dict[str, int]) -> tuple[SortedWords, Int64]:
    return SortedWords(Texts.from_strings(counts)), np.array(list(counts.values()), np.int64)


some_words = st.dictionaries(st.text("abé", max_size=8), st.integers(0, 3), max_size=60)


@given(
    some_words, st.text("abé", max_size=8), st.sets(st.text("ab", max_size=3)), st.integers(1, 8)
)
@settings(max_examples=600, deadline=None)
def test_suggestions(counts: dict[str, int], word: str, stop: set[str], most: int) -> None:
    expected = []
    if len(word) > 2 and word not in stop:
        edits = {other: naive.edit_distance(word, other) for other in counts}
        expected = [
            other
            for other, df in counts.items()
            if df and other not in stop and 0 < edits[other] <= (2 if len(word) > 5 else 1)
        ]
        expected.sort(key=lambda other: (edits[other], -counts[other], other.encode()))
    assert suggest(word, *arrays_of(counts), stop, most) == expected[:most]


@given(some_words, st.text("abé", max_size=3), st.integers(1, 8))
@settings(max_examples=600, deadline=None)
def test_completions(counts: dict[str, int], prefix: str, most: int) -> None:
    found = [(word, df) for word, df in counts.items() if df and word.startswith(prefix)]
    expected = sorted(found, key=lambda pair: (-pair[1], pair[0].encode()))[:most]
    assert complete(prefix, *arrays_of(counts), most) == expected


def test_short_words_and_stop_words_have_no_suggestions() -> None:
    counts = {"to": 90, "dog": 8, "so": 70, "the": 99, "then": 5, "ten": 4}
    words, df = arrays_of(counts)
    assert suggest("do", words, df) == []
    assert suggest("t", words, df) == []
    assert suggest("the", words, df, {"the"}) == []
    assert suggest("teh", words, df, {"the"}) == ["ten"]
    assert suggest("teh", words, df) == ["the", "ten"]


def test_the_default_is_three_suggestions_and_ten_completions() -> None:
    words, df = arrays_of({f"word{letter}": n for n, letter in enumerate("abcdefghijklm", 1)})
    assert suggest("wordz", words, df) == ["wordm", "wordl", "wordk"]
    assert complete("wo", words, df)[:2] == [("wordm", 13), ("wordl", 12)]
    assert len(complete("wo", words, df)) == 10


def test_no_words() -> None:
    words, df = arrays_of({})
    assert suggest("anything", words, df) == []
    assert complete("", words, df) == []


@pytest.mark.parametrize("most", [0, -1, 1.5, "3"])
def test_wrong_numbers(most: int) -> None:
    words, df = arrays_of({"word": 1})
    with pytest.raises(SettingsError, match="most must be a whole number"):
        suggest("word", words, df, (), most)
    with pytest.raises(SettingsError, match="most must be a whole number"):
        complete("wo", words, df, most)
