"""Vocabularies: the order of ids, what is unknown, round trips; characters of words."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, FormatError, InvalidTextError
from fastseq.models.data.tokenizer import SequenceTokenizer
from fastseq.models.data.vocabulary import (
    CharacterTable,
    Vocabulary,
    VocabularyBuilder,
    distinct_words,
)
from fastseq.types import Texts, Tokens
from tests.models.small_data import vocabulary_of
from tests.naive import units as naive

plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def of(*strings: str) -> Texts:
    return Texts.from_strings(strings)


def rows(tokens: Tokens) -> list[list[int]]:
    values, at = tokens.values.tolist(), tokens.offsets.tolist()
    return [values[a:b] for a, b in pairwise(at)]


def test_ids_follow_frequency_then_first_occurrence() -> None:
    vocabulary = vocabulary_of(SequenceTokenizer("word"), [of("c b b", "a c d."), of("c e")])
    assert vocabulary.texts.to_strings() == ["<unk>", "c", "b", "a", "d", ".", "e"]
    assert rows(vocabulary.encode(of("A c x", "", "."))) == [[3, 1, 0], [], [5]]
    assert vocabulary.unknown == 0
    assert vocabulary.end is None


@given(
    st.lists(st.text("ab cd.é", max_size=12), min_size=1, max_size=12),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(1, 4)),
)
@settings(max_examples=80, deadline=None)
def test_vocabulary_matches_the_naive_twin(
    strings: list[str], min_count: int, max_size: int | None
) -> None:
    split = [naive.units(text, "word", True) for text in strings]
    expected = naive.vocabulary(split, min_count, max_size)
    slices = [of(*strings[:2]), of(*strings[2:])]
    if not expected:
        with pytest.raises(DataError, match="no units are left"):
            vocabulary_of(SequenceTokenizer("word"), slices, min_count, max_size)
        return
    vocabulary = vocabulary_of(SequenceTokenizer("word"), slices, min_count, max_size)
    assert vocabulary.texts.to_strings() == ["<unk>", *expected]
    ids = {unit: i for i, unit in enumerate(expected, 1)}
    assert rows(vocabulary.encode(of(*strings))) == [[ids.get(u, 0) for u in s] for s in split]


def test_builder_ids_map_to_encode_ids() -> None:
    texts = [of("a b a", "b c"), of("c c c d", "")]
    builder = VocabularyBuilder(SequenceTokenizer("space"))
    numbers = [builder.add(part) for part in texts]
    vocabulary, mapping = builder.finish(min_count=2)
    for part, found in zip(texts, numbers, strict=True):
        assert np.array_equal(mapping[found.values], vocabulary.encode(part).values)
    assert np.array_equal(mapping, builder.ids_in(vocabulary))
    assert "d" not in vocabulary.texts.to_strings()


def test_special_units_in_text_are_recognised() -> None:
    text = of("the <unk> sat <eos> <unk> <unk> <unk>")
    vocabulary = vocabulary_of(SequenceTokenizer("space"), [text], end=True)
    assert vocabulary.texts.to_strings() == ["<unk>", "<eos>", "the", "sat"]
    assert vocabulary.end == 1
    assert rows(vocabulary.encode(of("the <unk> <eos> dog"))) == [[2, 0, 1, 0]]
    # the rule of words takes the brackets apart
    assert vocabulary_of(SequenceTokenizer("word"), [text]).encode(of("<unk>")).values.min() > 0


@given(st.lists(plain, min_size=1, max_size=6).filter(any))
@settings(max_examples=60, deadline=None)
def test_characters_round_trip(strings: list[str]) -> None:
    vocabulary = vocabulary_of(SequenceTokenizer("char"), [of(*strings)])
    assert vocabulary.decode(vocabulary.encode(of(*strings)).values) == "".join(strings)


@given(st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_byte_ids_accept_invalid_utf8(raw: bytes) -> None:
    vocabulary = vocabulary_of(SequenceTokenizer("byte"), [])
    assert len(vocabulary) == 256
    assert vocabulary.unknown is None
    data = np.frombuffer(bytearray(b"ab" + raw), np.uint8)
    tokens = vocabulary.encode(Texts(data, np.array([2, len(data)])))
    assert tokens.values.tolist() == list(raw)
    assert tokens.offsets.tolist() == [0, len(raw)]
    assert vocabulary.decode(tokens.values) == raw.decode("utf-8", "replace")


def test_words_are_joined_by_spaces() -> None:
    vocabulary = vocabulary_of(SequenceTokenizer("word"), [of("Well, no.")], end=True)
    assert vocabulary.decode([2, 3, 4, 5, 1, 0]) == "well , no . <eos> <unk>"
    assert vocabulary.decode([]) == ""
    for wrong in ([6], [-1]):
        with pytest.raises(DataError, match="expected 0 to"):
            vocabulary.decode(wrong)


@pytest.mark.parametrize("unit", ["word", "space", "char", "byte"])
def test_vocabulary_round_trips(unit: str) -> None:
    texts = of("Ça va? 東京", "b\x00c")
    end = unit in ("word", "space")
    vocabulary = vocabulary_of(SequenceTokenizer(unit), [texts], end=end)
    stored = None if unit == "byte" else Texts.from_strings(vocabulary.texts.to_strings())
    again = Vocabulary.from_texts(stored, vocabulary.to_dict())
    assert again.end == vocabulary.end
    assert again.tokenizer == vocabulary.tokenizer
    assert np.array_equal(again.encode(texts).values, vocabulary.encode(texts).values)


def test_damaged_vocabulary_is_rejected() -> None:
    vocabulary = vocabulary_of(SequenceTokenizer("word"), [of("a b c")], end=True)
    saved, texts = vocabulary.to_dict(), vocabulary.texts
    with pytest.raises(FormatError, match="lacks 'end'"):
        Vocabulary.from_texts(texts, {"units": saved["units"]})
    with pytest.raises(FormatError, match="5 units, expected 6"):
        Vocabulary.from_texts(texts, saved | {"size": 6})
    with pytest.raises(FormatError, match="does not begin with"):
        Vocabulary.from_texts(of("a", "b", "c", "d", "e"), saved)
    with pytest.raises(FormatError, match="none units"):
        Vocabulary.from_texts(None, saved)


def test_no_units_are_left() -> None:
    with pytest.raises(DataError, match="min_count below 3"):
        vocabulary_of(SequenceTokenizer(), [of("a a b")], min_count=3)
    with pytest.raises(DataError, match="texts that are not empty"):
        vocabulary_of(SequenceTokenizer(), [of("", " ")])


def test_tokens_keep_their_spelling_and_share_the_lower_case_id() -> None:
    builder = VocabularyBuilder(SequenceTokenizer("word"))
    tokens = of("The", "U.S.", "the", "THE", "", "a b")
    offsets = np.array([0, 3, 3, 6])
    numbers = builder.add_tokens(tokens, offsets)
    assert numbers.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert builder.spellings().to_strings() == ["The", "U.S.", "the", "THE", "", "a b"]
    vocabulary, mapping = builder.finish()
    assert vocabulary.texts.to_strings() == ["<unk>", "the", "u.s.", "", "a b"]
    assert mapping.tolist() == [1, 2, 1, 1, 3, 4]
    assert vocabulary.encode_tokens(of("tHe", "U.S", "")).tolist() == [1, 0, 3]
    assert builder.ids_in(vocabulary).tolist() == mapping.tolist()
    cut = builder.add_tokens(tokens, offsets, longest=2)
    assert (cut.values.tolist(), cut.offsets.tolist()) == ([0, 1, 3, 4], [0, 2, 2, 4])
    assert builder.cut_rows == 2
    with pytest.raises(InvalidTextError):
        builder.add_tokens(of("a", "\udc00"), np.array([0, 2]))


# ---- characters of words


def test_characters_are_of_the_words_bytes() -> None:
    table, learned = CharacterTable.learn(of("Été", "ab", "aé"))
    assert table.vocabulary.texts.to_strings() == ["<unk>", "é", "a", "É", "t", "b"]
    assert rows(learned) == [[3, 4, 1], [2, 5], [2, 1]]
    assert rows(table.characters(of("bat", "", "z"))) == [[5, 2, 4], [0], [0]]
    saved = table.to_dict()
    again = Vocabulary.from_texts(table.vocabulary.texts, saved["vocabulary"])
    assert rows(CharacterTable(again, saved["longest"]).characters(of("ab"))) == [[2, 5]]


@given(st.lists(plain, min_size=1, max_size=8).filter(any), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_long_words_are_cut_and_empty_ones_unknown(words: list[str], longest: int) -> None:
    table, learned = CharacterTable.learn(of(*words), longest=longest)
    spelt = [[*map(table.vocabulary.texts.to_strings().index, w[:longest])] or [0] for w in words]
    assert rows(learned) == spelt
    assert rows(table.characters(of(*words))) == spelt


@given(st.lists(st.integers(0, 5), max_size=30))
@settings(max_examples=60, deadline=None)
def test_batch_has_every_distinct_word_once(spellings: list[int]) -> None:
    words = ["a", "bb", "abc", "", "d", "b"]
    table, learned = CharacterTable.learn(of(*words))
    batch = distinct_words(np.array(spellings, np.int32), learned)
    assert len(batch.offsets) - 1 == len(set(spellings))
    mine = rows(Tokens(batch.values, batch.offsets))
    assert [mine[i] for i in batch.inverse] == [rows(learned)[i] for i in spellings]
    assert len(table) == 5
    with pytest.raises(DataError, match="expected 0 to 5"):
        distinct_words(np.array([6], np.int32), learned)


@pytest.mark.parametrize("end", [False, True])
def test_coverage_counts_units_and_their_occurrences(end: bool) -> None:
    units = SequenceTokenizer("word")
    vocabulary = vocabulary_of(units, [Texts.from_strings(["a a b c"])], end=end)
    ids = vocabulary.encode(Texts.from_strings(["a a b b c d d d d"])).values
    if end:
        ids = np.append(ids, np.int32(1))
    found = vocabulary.lookup(Texts.from_strings(["<unk>", "<eos>", "a", "c"])).tolist()
    assert vocabulary.coverage(found, ids) == {
        "units": 3, "found": 2, "tokens": 5, "tokens_found": 3,
    }  # fmt: skip
    assert vocabulary.coverage([], ids)["tokens_found"] == 0
