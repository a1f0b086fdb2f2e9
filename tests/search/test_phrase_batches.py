"""Exact phrases searched and counted by kernels, with and without the bits and short positions of
frequent terms: the same hits in the same bits, which are those of a naive search."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fastseq import BM25, Analyzer, Index
from fastseq.query import Boolean, Phrase, Query
from fastseq.search import term_bits

WORDS = [f"w{n}" for n in range(8)] + ["łódź"]
STOP = "of"
MOST = 66_000  # documents of the larger segment: more than a window
K1, B = 1.5, 0.75

PHRASES = [
    "w0 w1", "w1 w0", "w6 w0", "w0 łódź", "łódź w1", "łódź w7", "w1 w1", "w2 w2 w2", "w1 w0 w2",
    "w3 of w0", "of w5 w4 of of w0", "w0 w1 w0 w1", "w7 w6 w5", "w0 absent",
]  # fmt: skip


class Built:
    """An index, its documents and the rows that are not deleted."""

    def __init__(self, path: Path, documents: list[list[str]], live: list[int]) -> None:
        self.path, self.documents, self.live = path, documents, live
        self.phrases = {phrase: self._found(phrase) for phrase in PHRASES}
        self.lengths = {row: sum(w != STOP for w in documents[row]) for row in live}
        self.df = Counter(word for row in live for word in {*documents[row]})

    def _found(self, phrase: str) -> dict[int, int]:
        """The rows with a phrase, and how often each has it."""
        words = phrase.split()
        while words[0] == STOP:
            del words[0]
        counts = {}
        for row in self.live:
            own = self.documents[row]
            places = [i for i, word in enumerate(own) if word == words[0]]
            count = sum(
                all(word in (STOP, other) for word, other in zip(words, own[i:], strict=False))
                and i + len(words) <= len(own)
                for i in places
            )
            if count:
                counts[row] = count
        return counts

    def scores(self, phrase: str) -> dict[int, float]:
        average = sum(self.lengths.values()) / len(self.lengths)
        idf = 0.0
        for word in phrase.split():
            if word != STOP:
                df = self.df[word]
                idf += math.log(1 + (len(self.live) - df + 0.5) / (df + 0.5))
        return {
            row: idf * tf / (tf + K1 * (1 - B + B * self.lengths[row] / average))
            for row, tf in self.phrases[phrase].items()
        }


def random_documents(seed: int, count: int) -> list[list[str]]:
    """Most with a few words; some in which a word is often, or far from the start."""
    chance = random.Random(seed)
    weights = [1 / (n + 1) for n in range(len(WORDS))] + [0.3]
    documents = []
    for _ in range(count):
        length = chance.choice([2, 3, 5, 8] * 20 + [40, 200, 400])
        documents.append(chance.choices([*WORDS, STOP], weights, k=length))
    return documents


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    documents = random_documents(1, MOST) + random_documents(2, 900)
    path = tmp_path_factory.mktemp("phrases") / "index"
    rows = [{"id": n, "text": " ".join(words) + " end"} for n, words in enumerate(documents)]
    for words in documents:
        words.append("end")
    analyzer = Analyzer(tokenizer="word", stopwords=[STOP])
    index = Index.build(rows[:MOST], path, analyzer=analyzer, threads=1, text_columns=["text"])
    index.add(rows[MOST:], threads=1)
    index.delete(list(range(0, len(rows), 7)), threads=1)
    assert len(index._collection.leaves) == 2
    return Built(path, documents, [row for row in range(len(rows)) if row % 7])


@pytest.fixture(scope="module")
def every(built: Built) -> tuple[np.ndarray, np.ndarray]:
    """All hits, which no threshold can leave out."""
    hits = Index.open(built.path).search(
        [*map(Phrase, PHRASES)], len(built.documents), BM25(k1=K1, b=B)
    )
    return hits.rows, hits.scores


@pytest.mark.parametrize("phrase", PHRASES)
def test_all_hits(built: Built, every: tuple[np.ndarray, np.ndarray], phrase: str) -> None:
    rows, scores = (part[PHRASES.index(phrase)] for part in every)
    expected = built.scores(phrase)
    n = len(expected)
    assert bool(n) == (phrase != "w0 absent")
    assert (rows[n:] == -1).all()
    assert {*rows[:n].tolist()} == {*expected}
    assert scores[:n] == pytest.approx([expected[row] for row in rows[:n].tolist()], rel=1e-5)
    order = np.lexsort((rows[:n], -scores[:n]))
    assert order.tolist() == list(range(n))


@pytest.mark.parametrize("dense", [0, 8, 1 << 20])
@pytest.mark.parametrize("most", [0, 300_000, 1 << 30])
def test_hits_and_counts_with_cached_terms(
    built: Built, every: tuple[np.ndarray, np.ndarray], dense: int, most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With bits of no terms, some and all of them, and memory for the short positions of none, a
    few and all; in a batch and one by one, the first time and when all is cached."""
    monkeypatch.setattr(term_bits, "_DENSE", dense)
    monkeypatch.setattr(term_bits, "_MOST_SHORT", most)
    index, model = Index.open(built.path), BM25(k1=K1, b=B)
    queries = [*map(Phrase, PHRASES)]
    for k in (1, 3, 40, 3):
        hits = index.search(queries, k, model)
        assert np.array_equal(hits.rows, every[0][:, :k])
        assert np.array_equal(hits.scores, every[1][:, :k])
        for query, rows, scores in zip(queries, *every, strict=True):
            one = index.search(query, k, model)
            assert np.array_equal(one.rows[0], rows[:k])
            assert np.array_equal(one.scores[0], scores[:k])
    counts = [len(built.phrases[phrase]) for phrase in PHRASES]
    assert index.count(queries) == counts
    assert [index.count(query) for query in queries] == counts
    short = [sum(map(len, terms._short)) * 4 for terms in index._searcher.counter.bits._dense]
    assert (sum(short) > 0) == (dense > 0 and most > 0)
    assert max(short) <= most


@pytest.mark.parametrize("model", [BM25(variant="bm25+"), BM25(variant="bm25l"), BM25(b=0.0)])
def test_few_hits_are_the_first_of_all(built: Built, model: BM25) -> None:
    """Also with a score that every hit gets, and where many scores are equal."""
    index, queries = Index.open(built.path), [*map(Phrase, PHRASES)]
    every = index.search(queries, len(built.documents), model)
    for k in (1, 10, 100):
        hits = index.search(queries, k, model)
        assert np.array_equal(hits.rows, every.rows[:, :k])
        assert np.array_equal(hits.scores, every.scores[:, :k])


def test_a_batch_has_the_scores_of_clauses(built: Built) -> None:
    """A Boolean of one phrase is evaluated clause by clause."""
    index, model = Index.open(built.path), BM25(k1=K1, b=B)
    some = [phrase for phrase in PHRASES if phrase != "w0 absent"]
    wrapped: list[Query] = [Boolean(must=(Phrase(phrase),)) for phrase in some]
    hits, others = (index.search(q, 25, model) for q in ([*map(Phrase, some)], wrapped))
    assert np.array_equal(hits.rows, others.rows)
    assert np.array_equal(hits.scores, others.scores)
