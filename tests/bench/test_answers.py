"""The reference of the benchmark of queries, against a plain evaluation over lists of words; the
query sets."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.common.answers import Answers, QueryJudge, Words, edit_distances, even
from bench.common.questions import CONDITIONS, Drawing, Question, write_corpus
from bench.common.reference import Ranking

# each is its own stem
WORDS = ["ant", "bee", "cat", "dog", "cow", "crab", "crow", "craw"]


def corpus(seed: int, stop: str = "the") -> list[list[str]]:
    chance = random.Random(seed)
    words = [*WORDS, stop]
    return [chance.choices(words, k=chance.choice([0, 1, 5, 30])) for _ in range(40)]


def answers(documents: list[list[str]], analysis: str) -> Answers:
    columns = pa.table({"price": [row * 0.1 for row in range(len(documents))]})
    return Answers(Words.of([" ".join(words) for words in documents]), analysis, columns)


def expected(documents: list[list[str]], leaves: list[tuple[list[float], float]]) -> list[float]:
    """BM25 of leaves: their frequency in each document, and their idf."""
    lengths = [sum(word != "the" for word in document) for document in documents]
    mean = sum(lengths) / len(lengths)
    norms = [1.2 * (0.25 + 0.75 * length / mean) for length in lengths]
    return [
        sum(idf * tfs[row] / (tfs[row] + norms[row]) for tfs, idf in leaves if tfs[row])
        for row in range(len(documents))
    ]


def idf(documents: list[list[str]], tfs: list[float]) -> float:
    count = sum(tf > 0 for tf in tfs)
    return math.log(1 + (len(documents) - count + 0.5) / (count + 0.5))


def tfs_of(documents: list[list[str]], word: str) -> list[float]:
    return [float(document.count(word)) for document in documents]


def check(found: tuple[np.ndarray, np.ndarray], scores: list[float], match: list[bool]) -> None:
    assert found[0].tolist() == [row for row, each in enumerate(match) if each]
    np.testing.assert_allclose(found[1], np.array(scores)[match], rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_words_of_all_kinds(seed: int) -> None:
    documents = corpus(seed)
    own = answers(documents, "stems")
    ant, bee = tfs_of(documents, "ant"), tfs_of(documents, "bee")
    leaves = [(ant, 2 * idf(documents, ant)), (bee, idf(documents, bee))]
    scores = expected(documents, leaves)
    either = [a + b > 0 for a, b in zip(ant, bee, strict=True)]
    text = "the ant bee ant"
    check(own.score(Question("or", text)), scores, either)
    both = [a > 0 and b > 0 for a, b in zip(ant, bee, strict=True)]
    check(own.score(Question("and", text)), scores, both)
    no_cat = [each and "cat" not in words for each, words in zip(either, documents, strict=True)]
    check(own.score(Question("not", text, without="cat")), scores, no_cat)
    cheap = [each and row < 10 for row, each in enumerate(either)]
    condition = CONDITIONS["1 %, scattered"]
    check(own.score(Question("filter", text, condition=condition)), scores, cheap)


@pytest.mark.parametrize("seed", range(4))
def test_phrases_count_occurrences_with_any_word_for_a_stop_word(seed: int) -> None:
    documents = corpus(seed)
    own = answers(documents, "stems")
    occurrences = [
        float(sum(words[at] == "ant" and words[at + 2] == "bee" for at in range(len(words) - 2)))
        for words in documents
    ]
    both = sum(idf(documents, tfs_of(documents, word)) for word in ("ant", "bee"))
    scores = expected(documents, [(occurrences, both)])
    match = [tf > 0 for tf in occurrences]
    assert any(match)
    check(own.score(Question("phrase", "ant the bee")), scores, match)


@pytest.mark.parametrize("seed", range(4))
def test_prefixes_and_fuzzy_words_are_groups(seed: int) -> None:
    documents = corpus(seed)
    own = answers(documents, "stems")

    def group(similar: dict[str, float]) -> tuple[list[float], list[bool]]:
        tfs = [
            sum(words.count(word) * similarity for word, similarity in similar.items())
            for words in documents
        ]
        return expected(documents, [(tfs, idf(documents, tfs))]), [tf > 0 for tf in tfs]

    check(own.score(Question("prefix", "cr")), *group({"crab": 1, "crow": 1, "craw": 1}))
    near = {"craw": 1.0, "crow": 0.75, "crab": 0.75}
    check(own.score(Question("fuzzy", "craw", edits=1)), *group(near))
    check(own.score(Question("fuzzy", "at", edits=2)), *group({"ant": 0.5, "cat": 0.5}))


def test_words_as_written_have_no_stop_words_and_no_stems() -> None:
    documents = [["the", "running", "cats"], ["runs"]]
    written, stems = answers(documents, "words"), answers(documents, "stems")
    assert written.score(Question("or", "the"))[0].tolist() == [0]
    assert stems.score(Question("or", "the"))[0].tolist() == []
    assert written.score(Question("prefix", "runn"))[0].tolist() == [0]
    assert stems.score(Question("prefix", "runn"))[0].tolist() == [0, 1], "the documents of run"
    assert stems.word_of(int(stems.term_of[1])) in ("running", "runs")


def distance(one: str, other: str) -> int:
    """Optimal string alignment, by its definition."""
    if not one or not other:
        return len(one) + len(other)
    best = min(distance(one[1:], other) + 1, distance(one, other[1:]) + 1)
    best = min(best, distance(one[1:], other[1:]) + (one[0] != other[0]))
    if len(one) > 1 and len(other) > 1 and one[:2] == other[1::-1]:
        best = min(best, distance(one[2:], other[2:]) + 1)
    return best


def test_edit_distances_match_their_definition() -> None:
    chance = random.Random(3)
    for length in range(1, 6):
        words = ["".join(chance.choices("abc", k=length)) for _ in range(20)]
        codes = np.array([[ord(letter) for letter in word] for word in words], np.int32).T
        for query in ("a", "ab", "bca", "abcab"):
            assert edit_distances(query, codes).tolist() == [distance(query, w) for w in words]


def test_the_judge_of_matches_and_counts() -> None:
    documents = [["ant"], ["bee"], ["ant", "bee"], ["ant"]]
    asked = [Question("or", "ant"), Question("or", "bee")]
    judge = QueryJudge(answers(documents, "stems"), asked, 2)

    def share(rows: list[list[int]]) -> bool:
        ranking = Ranking(np.array(rows, np.int32), np.zeros((2, 3), np.float32))
        return judge.matching(3, 1.0)(ranking).passed

    assert share([[0, 2, 3], [1, 2, -1]])
    assert not share([[0, 2, -1], [1, 2, -1]]), "a hit is missing"
    assert not share([[0, 1, 3], [1, 2, -1]]), "a hit does not match"
    assert [judge.counts([3, n]) for n in (2, 1)] == [1, 0.5]
    assert judge.smaller(1).counts([3]) == 1
    assert even("abcdefgh", 3) == ["a", "d", "h"]


def test_query_sets_are_as_described(tmp_path: Path) -> None:
    documents = [*corpus(1), [f"{word}s" for word in WORDS], ["alpha", "alphabetical"]]
    source = tmp_path / "source.parquet"
    pq.write_table(pa.table({"text": [" ".join(words) for words in documents]}), source)
    target = tmp_path / "corpus.parquet"
    write_corpus(source, "text", target, False, None)
    table = pq.read_table(target)
    assert table["row"].to_pylist() == list(range(42))
    for condition in CONDITIONS.values():
        assert condition.mask(table).dtype == bool
    own = Answers(Words.open(target, "text", tmp_path / "words"), "stems", table)
    again = Answers(Words.open(target, "text", tmp_path / "words"), "stems", table)
    drawing = Drawing(own, ["ant bee", "cow"], 30)
    for name in ("or", "and", "phrase", "prefix", "fuzzy", "not", "filter", "long"):
        sets = drawing.sets(name)
        assert sets == Drawing(again, ["ant bee", "cow"], 30).sets(name), "seeded"
        for questions in (each.questions for each in sets):
            rows = [len(own.score(question)[0]) for question in questions]
            if name in ("and", "phrase"):
                assert [n > 0 for n in rows] == [True] * 30, "each has the document it is from"
    assert {len(q.text.split()) for q in drawing.sets("and")[0].questions} == {2, 3}
    assert {len(q.text.split()) for q in drawing.sets("phrase")[0].questions} == {2, 3, 4}


def test_sentences_of_a_corpus(tmp_path: Path) -> None:
    source, target = tmp_path / "source.parquet", tmp_path / "corpus.parquet"
    texts = ["One is 1.5 m. Two! three? \nFour", "", "Five (e.g. this one)."]
    pq.write_table(pa.table({"text": texts}), source)
    write_corpus(source, "text", target, True, None)
    parts = ["One is 1.5 m.", "Two! three?", "Four", "Five (e.g. this one)."]
    assert pq.read_table(target)["text"].to_pylist() == parts
    write_corpus(source, "text", target, True, 2)
    assert pq.read_table(target)["text"].to_pylist() == parts[:2]
