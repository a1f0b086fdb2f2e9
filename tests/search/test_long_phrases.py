"""Phrases of very many words: found, counted and scored in time, with a slop and without."""

from __future__ import annotations

import random
import time
from typing import NamedTuple

import pytest

from fastseq import Analyzer, Index
from fastseq.query import Boolean, Phrase

WORDS = 5_000
DOCUMENTS = 5_000
MOST_SECONDS = 2.5  # each takes a few tenths of one; many seconds where time is quadratic
REPEATED = ["the"] * WORDS
DIFFERENT = [f"w{n}" for n in range(WORDS)]
ALTERNATING = ["the", "cat"] * (WORDS // 2)


class Built(NamedTuple):
    index: Index
    phrase: str


@pytest.fixture(scope="module", params=[REPEATED, DIFFERENT, ALTERNATING])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Documents of 22 words; one of the phrase, one with it inside, one with another word in it,
    and one that lacks its last word."""
    words = request.param
    chance = random.Random(8)
    documents = [["the", "cat", *chance.choices(["the", "cat", "sat"], k=20)]
                 for _ in range(DOCUMENTS)]  # fmt: skip
    documents[4_000] = words
    documents[4_001] = ["sat", "sat", *words, "sat"]
    documents[4_002] = [*words[:100], "sat", *words[100:]]
    documents[4_003] = words[:-1]
    path = tmp_path_factory.mktemp("long")
    texts = [" ".join(document) for document in documents]
    index = Index.build(texts, path / "i", analyzer=Analyzer(stopwords="none"), positions=True)
    return Built(index, " ".join(words))


@pytest.mark.parametrize("slop", [0, 2])
def test_the_documents_with_a_long_phrase(built: Built, slop: int) -> None:
    index, phrase = built.index, Phrase(built.phrase, slop=slop)
    short = Phrase("the cat " * 50, slop=slop)
    expected = [4_000, 4_001] + [4_002] * (slop > 0)
    for query, other in ((phrase, short), (Boolean(must=[phrase]), Boolean(must=[short]))):
        index.search(other, k=10)  # compiles
        index.count(other)
        start = time.process_time()
        found = index.search(query, k=10)
        searched = time.process_time()
        count = index.count(query)
        counted = time.process_time()
        assert sorted(found.rows[0, : len(expected) + 1].tolist()) == [-1, *expected]
        assert count == len(expected)
        assert searched - start < MOST_SECONDS
        assert counted - searched < MOST_SECONDS
