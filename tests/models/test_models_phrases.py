"""Phrases: found and joined as a plain twin and gensim do, and carried through training."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import Analyzer, Word2Vec, WordVectors
from fastseq.errors import DataError, FormatError, NotFittedError, SettingsError
from fastseq.models.word_vectors import phrases as module
from fastseq.models.word_vectors.phrases import Phrases
from fastseq.vectors.phrases import PhraseTable
from tests.naive import phrases as naive

SPACE = Analyzer(tokenizer="space")
COMMON = ("of", "the")
TEXTS = [
    "i like new york in the spring",
    "new york is the city of new york state",
    "a city of the spring",
] * 8


def corpus(seed: int, sentences: int = 400) -> list[list[str]]:
    """Words of very different frequency, so that some pairs are phrases and some are not."""
    draw = random.Random(seed)
    words = [f"w{n}" for n in range(40)] + ["of", "the"]
    weights = [1 / (n + 1) for n in range(40)] + [0.5, 0.7]
    lines = [draw.choices(words, weights, k=draw.randint(0, 12)) for _ in range(sentences)]
    for line in lines:
        if draw.random() < 0.3:
            line += draw.choice([["bank", "of", "the", "west"], ["rare", "pair"], ["rare", "of"]])
    return lines


def joined(words: list[list[str]]) -> list[str]:
    return [" ".join(line) for line in words]


@pytest.mark.parametrize("common", [(), COMMON])
@pytest.mark.parametrize(("scoring", "threshold"), [("default", 2.0), ("npmi", 0.2)])
@pytest.mark.parametrize("seed", [1, 2])
def test_scores_match_the_naive_twin(
    scoring: str, threshold: float, common: tuple[str, ...], seed: int
) -> None:
    lines: Any = corpus(seed)
    given = {"min_count": 3, "threshold": threshold, "scoring": scoring}
    made = Phrases(**given, common_words=common, passes=2, analyzer=SPACE).fit(joined(lines))
    asked, expected = lines, lines
    for found in made.passes_:
        wanted = naive.find(expected, *given.values(), common)
        assert {one.parts: one.occurrences for one in found} == {
            parts: count for parts, (_, count) in wanted.items()
        }
        for parts, score, _ in found:
            assert score == pytest.approx(wanted[parts][0], rel=1e-12)
        expected = naive.join(expected, wanted, common)
    assert made.passes_[0]
    assert made.transform(asked) == expected
    scores = [score for _, score, _ in made.phrases_]
    assert scores == sorted(scores, reverse=True)


def test_phrases_match_gensim() -> None:
    gensim = pytest.importorskip("gensim.models.phrases")
    lines = corpus(3)
    for scoring, threshold in (("default", 2.0), ("npmi", 0.2)):
        for common in ((), COMMON):
            theirs = gensim.Phrases(
                lines, min_count=3, threshold=threshold, scoring=scoring,
                connector_words=frozenset(common),
            )  # fmt: skip
            given = {"min_count": 3, "threshold": threshold, "scoring": scoring}
            ours = Phrases(**given, common_words=common, analyzer=SPACE).fit(joined(lines))
            expected = theirs.export_phrases()
            found = {phrase: score for phrase, score, _ in ours.phrases_}
            assert found.keys() == expected.keys()
            for phrase, score in found.items():
                assert score == pytest.approx(expected[phrase], rel=1e-12)
            assert ours.transform(lines) == [theirs[line] for line in lines]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=9), max_size=20), st.booleans())
def test_joining_matches_the_naive_twin_on_any_text(
    lines: list[list[str]], with_common: bool
) -> None:
    common = ("d", "e") if with_common else ()
    made = Phrases(min_count=0, threshold=0.9, common_words=common)
    words = list("abcde")
    ids = np.array([words.index(w) for line in lines for w in line], np.int32)
    ends = np.cumsum([len(line) for line in lines], dtype=np.int64)
    more, tokens = made.learn(words, ids, ends)
    expected = naive.join(lines, naive.find(lines, 0, 0.9, "default", common), common)
    marks = [0, *ends.tolist()]
    found = [[more[i] for i in tokens[a:b]] for a, b in pairwise(marks)]
    assert found == expected


def test_phrases_do_not_depend_on_memory_or_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = joined(corpus(4))
    expected = Phrases(min_count=2, threshold=1, threads=1, analyzer=SPACE).fit(lines).passes_
    monkeypatch.setattr(module, "_LEAST", 50)
    for threads in (1, 3):
        made = Phrases(min_count=2, threshold=1, threads=threads, memory=1, analyzer=SPACE)
        assert made.fit(lines).passes_ == expected
    monkeypatch.setattr(module, "_KEY_BYTES", 1)  # one pair fills the buffer several times
    few = Phrases(min_count=2, threshold=0, threads=1, memory=50, analyzer=SPACE)
    repeated = few.fit(["a b " * 300]).passes_[0]
    assert [(one.parts, one.occurrences) for one in repeated] == [
        (("a", "b"), 300),
        (("b", "a"), 299),
    ]


def test_word_spelt_like_a_phrase_shares_its_entry() -> None:
    made = Phrases(min_count=1, threshold=0).fit(["new york", "new york", "new_york"])
    words, tokens = made.join(["new", "york", "new_york"], np.array([0, 1, 2], np.int32),
                              np.array([2, 3], np.int64))  # fmt: skip
    assert words == ["new", "york", "new_york"]
    assert tokens.tolist() == [2, 2]


def test_phrases_round_trip_as_an_array() -> None:
    made = Phrases(min_count=1, threshold=0.5, passes=2, common_words=COMMON).fit(TEXTS)
    again = PhraseTable.from_array(made.to_array())
    assert again.passes_ == made.passes_
    assert again.settings == made.learned.settings
    assert again.transform([["bank", "of"]]) == made.transform([["bank", "of"]])
    for damaged in (b"", b"{", b"[]", b'{"settings":{"passes":0},"passes":[]}',
                    b'{"settings":{},"passes":[[["a",1,1]]]}',
                    b'{"settings":{},"passes":[[[["a","b"],"x",1]]]}'):  # fmt: skip
        with pytest.raises(FormatError, match="damaged"):
            PhraseTable.from_array(np.frombuffer(damaged, np.uint8))


def test_bad_input() -> None:
    with pytest.raises(NotFittedError):
        _ = Phrases().phrases_
    with pytest.raises(DataError, match="no words"):
        Phrases().fit(["", " "])
    with pytest.raises(DataError, match="sentence 1"):
        Phrases().fit(TEXTS).transform([["a"], "b"])
    bad: list[dict[str, Any]] = [
        {"passes": 0}, {"scoring": "pmi"}, {"threshold": float("nan")}, {"min_count": -1},
        {"common_words": "of"}, {"analyzer": "word"},
    ]  # fmt: skip
    for setting in bad:
        with pytest.raises(SettingsError, match=next(iter(setting))):
            Phrases(**setting).fit(TEXTS)
    with pytest.raises(SettingsError, match="phrases"):
        Word2Vec(phrases=-1).fit(TEXTS)
    with pytest.raises(SettingsError, match="threshold"):
        Word2Vec(phrases=1, phrase_threshold=float("inf")).fit(TEXTS)


# ---- in training


def model(**given: Any) -> Word2Vec:
    basic: dict[str, Any] = {"dimensions": 8, "min_count": 2, "epochs": 2, "threads": 1}
    return Word2Vec(**{**basic, "phrases": 1, "phrase_threshold": 0.7, **given})


def test_phrases_are_words_of_the_vocabulary(tmp_path: Path) -> None:
    learned = model().fit(TEXTS, path=tmp_path / "v").vectors_
    plain = model(phrases=0).fit(TEXTS).vectors_
    assert "new_york" in learned
    assert "new_york" not in plain
    assert "york" in plain
    assert "york" not in learned  # all of them are in phrases: none is left to be a word
    assert learned.counts is not None
    assert learned.counts[learned.index("new_york")] == 24
    for loaded in (WordVectors.load(tmp_path / "v"), Word2Vec.load(tmp_path / "v").vectors_):
        assert loaded.words_of("Old New York") == ["old", "new_york"]
        assert loaded.words == learned.words
        np.testing.assert_array_equal(loaded.document_vectors(["new york"])[0], learned["new_york"])
    loaded.save(tmp_path / "again")
    assert WordVectors.load(tmp_path / "again").words_of("new york") == ["new_york"]
    assert loaded.most_frequent(2).phrases is loaded.phrases
    Word2Vec.load(tmp_path / "v").save(tmp_path / "third")
    assert WordVectors.load(tmp_path / "third").words_of("new york") == ["new_york"]


def test_pairs_are_joined_before_rare_words_are_removed() -> None:
    """Words are counted and joined first: a phrase may be rarer than its words, and go."""
    texts = ["red carpet", "red carpet", "red carpet", "red door of iron", "red door of iron"]
    words = model(min_count=2, phrase_threshold=0.1).fit(texts).vectors_.words
    assert "red_carpet" in words
    assert "carpet" not in words


def test_held_out_text_is_joined_too() -> None:
    history = model().fit(TEXTS, valid=["new york of the spring"]).history_
    expected = model(phrases=0).fit(
        _joined_texts(TEXTS), valid=_joined_texts(["new york of the spring"])
    )
    assert history["valid_loss"] == expected.history_["valid_loss"]


def _joined_texts(texts: list[str]) -> list[str]:
    phrases = Phrases(min_count=2, threshold=0.7).fit(TEXTS)
    return joined(phrases.transform([text.split() for text in texts]))


def test_continued_training_joins_the_same_phrases(tmp_path: Path) -> None:
    begun = model().fit(TEXTS)
    further = ["new york has the red carpet", "the red carpet of new york"] * 5
    again = model(phrase_threshold=0.01).fit(further, start=begun).vectors_
    assert again.words[: len(begun.vectors_)] == begun.vectors_.words
    assert {"new_york", "red", "carpet"} <= set(again.words)
    assert not any("_" in word for word in again.words[len(begun.vectors_) :])
    assert again.words_of("new york") == ["new_york"]
    assert "new_york" in model(phrases=0).fit(further, start=begun.vectors_).vectors_


def test_resumed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = model().fit(TEXTS, path=tmp_path / "whole")

    def stop(progress: Any) -> None:
        if progress.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model().fit(TEXTS, path=tmp_path / "v", checkpoint_seconds=0, report=stop)
    resumed = model().fit(TEXTS, path=tmp_path / "v", resume=True)
    np.testing.assert_array_equal(resumed.vectors_.vectors, whole.vectors_.vectors)
    assert resumed.vectors_.words == whole.vectors_.words
