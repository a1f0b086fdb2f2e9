"""Near words for queries, and known words for unknown ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import Analyzer, SettingsError, WordVectors
from fastseq.models.word_vectors.phrases import Phrases
from fastseq.vectors.expansion import Expander, suggestions

GOLDEN = Path(__file__).parents[1] / "golden" / "vectors"
WORDS = [f"w{n}" for n in range(30)]
ARRAY = np.random.default_rng(5).normal(size=(30, 6)).astype(np.float32)
KNOWN = WordVectors(WORDS, ARRAY)


def expected(query: list[str], terms: int, weight: float) -> dict[str, float]:
    """By sorting all cosines of each word."""
    units = ARRAY / np.linalg.norm(ARRAY.astype(float), axis=1, keepdims=True)
    found: dict[str, float] = {}
    for word in query:
        if word not in WORDS:
            continue
        cosines = units @ units[WORDS.index(word)]
        near = [n for n in np.argsort(-cosines) if WORDS[n] not in query and cosines[n] > 0]
        for n in near[:terms]:
            found[WORDS[n]] = max(found.get(WORDS[n], 0), weight * cosines[n])
    return found


@pytest.mark.parametrize("terms", [1, 3, 40])
def test_nearest_words_of_each_query_word(terms: int) -> None:
    queries = ["w1 W2, unknown w9", "", "unknown", "w3", "w1 w1 w2"]
    found = Expander(KNOWN, terms, weight=0.5)(queries)
    for query, words in zip(queries, found, strict=True):
        wanted = expected(query.lower().replace(",", "").split(), terms, 0.5)
        assert words.keys() == wanted.keys()
        assert words == pytest.approx(wanted, rel=1e-5)
        assert list(words.values()) == sorted(words.values(), reverse=True)
    assert found[1] == found[2] == {}
    assert Expander(KNOWN)(["nothing", "known"]) == [{}, {}]
    assert Expander(KNOWN)([]) == []


def test_expansion_uses_the_fitted_analyzer_and_phrases() -> None:
    saved = {"analyzer": Analyzer(lowercase=False).to_dict()}
    phrases = Phrases(min_count=1, threshold=0).fit(["new york"] * 5)
    array = [[1, 0.1], [1, 0.2], [0.9, 0.2], [1, 0]]
    known = WordVectors(
        ["new_york", "Boston", "boston", "rome_italy"], array, settings=saved, phrases=phrases
    )
    assert list(Expander(known, 3)(["Boston"])[0]) == ["boston", "new york", "rome italy"]
    assert list(Expander(known, 1)(["new york"])[0]) == ["Boston"]
    assert Expander(known, 1)(["york"]) == [{}]
    assert list(Expander(known, 1, analyzer=Analyzer())(["Boston"])[0]) == ["Boston"]


def test_words_never_seen_have_neighbours_by_their_n_grams() -> None:
    known = WordVectors.load(GOLDEN / "gensim.bin")
    unseen = known.words[0] + "x"
    (found,) = Expander(known, 2, 1.0)([unseen])
    wanted = known.neighbors(unseen, 2)
    assert found == pytest.approx({w: c for w, c in wanted if c > 0}, rel=1e-5)


@pytest.mark.parametrize(
    "given", [{"terms": 0}, {"weight": -1}, {"weight": float("inf")}, {"threads": 0}]
)
def test_settings_out_of_range(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(given))):
        Expander(KNOWN, **given)


# ---- did you mean

SPELT = ["quick", "brown", "quite", "fox", "quack"]


def test_suggestions_by_edit_distance() -> None:
    # one swap; "quite" and "quack" take two edits
    assert suggestions("quikc", SPELT) == ["quick"]
    assert suggestions("quck", SPELT) == ["quick", "quack"]
    assert suggestions("quck", SPELT, most=1) == ["quick"]
    assert suggestions("Fox", SPELT) == ["fox"]
    assert suggestions("zzzzzz", SPELT) == []
    assert suggestions("brwn", SPELT, vectors=WordVectors(["x"], [[1.0]])) == ["brown"]
    with pytest.raises(SettingsError, match="most"):
        suggestions("quikc", SPELT, most=0)


class Pieces:
    """Every word never seen is a little off the first axis."""

    arrays: dict[str, Any] = {}  # noqa: RUF012
    settings: dict[str, Any] = {}  # noqa: RUF012

    def vectors_of(self, words: list[str]) -> Any:
        return np.array([[1, 0.1]] * len(words), np.float32)


def test_suggestions_by_subword_vectors() -> None:
    words = ["quirk", "trick", "quack", "quick", "fox"]
    array = [[1, 0.1], [1, 0.2], [1, 0.5], [1, 0.1], [0, 1]]
    known = WordVectors(words, array, subwords=Pieces())
    # of two that take one edit the nearer; "quirk" and "trick" are as near, and take more
    assert suggestions("quck", words, vectors=known) == ["quick", "quack"]
    assert suggestions("quck", ["quack"], vectors=known) == ["quack"]
    said: list[list[str]] = []

    def knows(asked: Any) -> list[bool | None]:
        said.append(list(asked))
        return [word == "quirk" for word in asked]

    assert suggestions("quikc", [], knows, known) == ["quirk"]
    assert sorted(said[0]) == sorted(words)
    # none of the vectors' words is known: by spelling
    assert suggestions("quikc", ["quicken"], lambda asked: [None] * len(asked), known) == []
    assert suggestions("quikc", ["quik"], lambda asked: [False] * len(asked), known) == ["quik"]
