"""Similarities and analogies by hand, the files they are read from, and gensim as a peer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import WordVectors
from fastseq.errors import DataError, SettingsError
from fastseq.vectors.evaluation import (
    Pairs,
    Questions,
    analogies,
    read_pairs,
    read_questions,
    similarity,
    spearman,
)

PAIRS = [("tiger", "cat", 7.35), ("book", "paper", 7.46), ("Jerusalem", "Israel", 8.46)]
GOOGLE = """\
: capital-common-countries
Athens Greece Oslo Norway

Oslo Norway Athens Greece
: gram3-comparative
bad worse big bigger
"""


def numbers(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


# ---- files


@pytest.mark.parametrize(
    "text",
    [
        "tiger\tcat\t7.35\nbook\tpaper\t7.46\nJerusalem\tIsrael\t8.46\n",
        "Word 1,Word 2,Human (mean)\ntiger,cat,7.35\nbook,paper,7.46\nJerusalem,Israel,8.46\n",
        "tiger cat 7.35\r\nbook  paper 7.46\r\n\r\nJerusalem Israel 8.46",
        "# made in 2002\n# Word 1\tWord 2\ntiger\tcat\t7.35\tx\nbook\tpaper\t7.46\ty\n"
        "Jerusalem\tIsrael\t8.46\tz",
        "word1\tword2\tPOS\tSimLex999\tconc\ntiger\tcat\tN\t7.35\t1\nbook\tpaper\tN\t7.46\t1\n"
        "Jerusalem\tIsrael\tN\t8.46\t2\n",
        "score;word2;word1\n7.35;cat;tiger\n7.46;paper;book\n8.46;Israel;Jerusalem\n",
    ],
)
def test_pairs_in_every_text_form(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_bytes(text.encode("utf-8-sig"))
    found = read_pairs(path)
    assert list(zip(found.first, found.second, found.scores.tolist(), strict=True)) == PAIRS
    assert len(found) == 3


def test_pairs_and_analogies_in_parquet(tmp_path: Path) -> None:
    first, second, score = zip(*PAIRS, strict=True)
    table = {"score": score, "word1": first, "word2": second}
    pq.write_table(pa.table({k: list(v) for k, v in table.items()}), tmp_path / "p.parquet")
    pairs = read_pairs(tmp_path / "p.parquet")
    assert (pairs.first, pairs.second) == (list(first), list(second))
    assert pairs.scores.tolist() == list(score)
    (tmp_path / "q.txt").write_text(GOOGLE)
    google = read_questions(tmp_path / "q.txt")
    assert google.words[1] == ("Oslo", "Norway", "Athens", "Greece")
    assert google.sections == ["capital-common-countries"] * 2 + ["gram3-comparative"]
    columns = dict(zip("abcd", map(list, zip(*google.words, strict=True)), strict=True))
    pq.write_table(pa.table({**columns, "section": google.sections}), tmp_path / "q.parquet")
    again = read_questions(tmp_path / "q.parquet")
    assert (again.words, again.sections) == (google.words, google.sections)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no pairs"),
        ("# nothing\n", "no pairs"),
        ("tiger\tcat\n", "line 1"),
        ("tiger\tcat\t7\nbook\tpaper\n", "line 2"),
        ("tiger\tcat\t7\nbook\tpaper\thigh\n", "line 2.*'high'"),
        ("tiger\tcat\t7\nbook\tpaper\tnan\n", "line 2"),
        ("tiger\tcat\t7\n\tpaper\t7\n", "line 2"),
        ("one\ttwo\tthree\ntiger\tcat\t7\n", "line 1.*names"),
        ("word1\tword2\tx\tscore\ntiger\tcat\t7\n", "line 2"),
    ],
)
def test_invalid_pairs_are_rejected(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "pairs.tsv").write_text(text)
    with pytest.raises(DataError, match=rf"pairs\.tsv.*{said}"):
        read_pairs(tmp_path / "pairs.tsv")


@pytest.mark.parametrize(
    ("text", "said"), [("", "no questions"), (": s\n", "no questions"), ("a b c\n", "line 1")]
)
def test_invalid_analogies_are_rejected(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "q.txt").write_text(text)
    with pytest.raises(DataError, match=rf"q\.txt.*{said}"):
        read_questions(tmp_path / "q.txt")


@pytest.mark.parametrize(
    "columns",
    [
        {"word1": ["a"], "word2": ["b"]},
        {"word1": ["a"], "word2": [None], "score": [1.0]},
        {"word1": ["a"], "word2": ["b"], "score": [None]},
        {"word1": ["a"], "word2": [["b"]], "score": [1.0]},
        {"word1": pa.array([], pa.string()), "word2": pa.array([], pa.string()), "score": []},
        {"section": ["s"], "a": ["a"], "b": ["b"], "c": ["c"], "d": [""]},
        {"section": ["s"], "a": ["a"], "b": ["b"], "c": ["c"], "d": [None]},
    ],
)
def test_invalid_parquet_is_rejected(tmp_path: Path, columns: Any) -> None:
    pq.write_table(pa.table(columns), tmp_path / "f.parquet")
    read = read_questions if "section" in columns else read_pairs
    with pytest.raises(DataError, match=r"f\.parquet"):
        read(tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"gone\.parquet"):
        read(tmp_path / "gone.parquet")


# ---- similarity


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(-10, 10)), min_size=2, max_size=30),
)
def test_rank_correlation_matches_scipy(values: list[tuple[int, float]]) -> None:
    x, y = (np.array(column, np.float64) for column in zip(*values, strict=True))
    found = spearman(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-9)


def test_similarity_by_hand() -> None:
    array = np.array([[1, 0], [1, 1], [0, 1], [-1, 0]], np.float32)
    known = WordVectors(["a", "b", "c", "D"], array)
    pairs = Pairs(["A", "a", "a", "x"], ["b", "c", "d", "a"], np.array([1.0, 3.0, 2.0, 9.0]))
    found = similarity(known, pairs)  # cosines .7, 0, -1 against 1, 3, 2
    assert found.to_dict() == {
        "spearman": pytest.approx(-0.5),
        "pairs": 4,
        "used": 3,
        "out_of_vocabulary": 0.25,
    }
    strict = similarity(known, pairs, ignore_case=False)
    assert (strict.used, strict.out_of_vocabulary) == (1, 0.75)
    assert math.isnan(strict.spearman)
    assert similarity(known, pairs, most=3).used == 2
    with pytest.raises(SettingsError):
        similarity(known, pairs, most=0)


# ---- analogies


@pytest.fixture
def known() -> WordVectors:
    """Vectors that answer exactly the first section of GOOGLE correctly."""
    words = ["athens", "greece", "oslo", "norway", "bad", "worse", "big", "small", "bigger"]
    array = numbers(9, 12)
    array[:4] = 0
    array[:4, :4] = [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]]
    array[8] = -array[6]
    return WordVectors(words, array)


def asked(*more: tuple[str, str, str, str]) -> Questions:
    lines = [line.split() for line in GOOGLE.splitlines() if line and line[0] != ":"]
    words = [(a, b, c, d) for a, b, c, d in lines]
    return Questions([*words, *more], ["capital"] * 2 + ["gram3"] + ["gram9"] * len(more))


@pytest.mark.parametrize("method", ["add", "mul"])
def test_analogies_by_hand(known: WordVectors, method: str) -> None:
    found = analogies(known, asked(("bad", "worse", "nice", "nicer")), method=method)
    names = [(s.name, s.correct, s.used, s.skipped) for s in found.sections]
    assert names == [("capital", 2, 2, 0), ("gram3", 0, 1, 0), ("gram9", 0, 0, 1)]
    assert found.total.accuracy == pytest.approx(2 / 3)
    assert found.semantic.accuracy == 1.0
    assert found.syntactic.accuracy == 0.0
    assert (found.syntactic.used, found.syntactic.skipped) == (1, 1)
    said = found.to_dict()
    assert (said["used"], said["skipped"]) == (3, 1)
    assert math.isnan(said["sections"][2]["accuracy"])
    with pytest.raises(SettingsError):
        analogies(known, asked(), method="sub")


def test_restricted_vocabulary_limits_questions_and_answers(known: WordVectors) -> None:
    assert analogies(known, asked(), most=4).total.used == 2
    assert analogies(known, asked(), most=8).total.used == 2
    assert analogies(known, asked(), most=3).total.used == 0
    strict = analogies(known, asked(), ignore_case=False)
    assert [s.used for s in strict.sections] == [0, 1]


def test_question_words_in_another_case_are_excluded() -> None:
    """As in gensim: of spellings that differ in case the first counts, and none is an answer."""
    array = numbers(8, 12, 3)
    array[3] = array[1] - array[0] + array[2]
    array[4:8] = array[3] + 0.01 * numbers(4, 12, 4)
    words = ["a", "b", "c", "d", "A", "B", "C", "D"]
    found = analogies(WordVectors(words, array), Questions([("A", "b", "C", "D")], ["s"]))
    assert (found.total.correct, found.total.used) == (1, 1)


@pytest.mark.parametrize("seed", range(3))
def test_scores_match_gensim(seed: int, tmp_path: Path) -> None:
    """On vectors that answer about half of the questions correctly."""
    gensim = pytest.importorskip("gensim.models.keyedvectors")
    chance = np.random.default_rng(seed)
    words = [f"w{i}" if i % 5 else f"W{i - 1}" for i in range(1, 200)]
    array = numbers(len(words), 10, seed)
    lines, sections = [], ["family", "gram1-adverb"]
    for section in sections:
        lines.append(f": {section}")
        for _ in range(60):
            a, b, c, d = chance.choice(len(words), 4, replace=False)
            if chance.random() < 0.5:
                array[d] = array[b] / np.linalg.norm(array[b]) - array[a] + array[c]
            lines.append(" ".join(words[i].upper() for i in (a, b, c, d)))
    lines.append("w1 w2 w3 unknown")
    (tmp_path / "q.txt").write_text("\n".join(lines))
    pairs = [(words[i], words[j].upper(), i * j % 7) for i, j in chance.integers(0, 199, (80, 2))]
    (tmp_path / "p.tsv").write_text("\n".join("\t".join(map(str, pair)) for pair in pairs))
    oracle = gensim.KeyedVectors(10)
    oracle.add_vectors(words, array)
    known = WordVectors(words, array)

    for most in (300_000, 150):
        found = analogies(known, read_questions(tmp_path / "q.txt"), most=most)
        _, theirs = oracle.evaluate_word_analogies(str(tmp_path / "q.txt"), restrict_vocab=most)
        of_name = {s["section"]: len(s["correct"]) for s in theirs}
        assert {s.name: s.correct for s in found.sections} == {n: of_name[n] for n in sections}
        assert found.total.used == sum(len(theirs[-1][k]) for k in ("correct", "incorrect"))
        assert found.total.correct > 0
        alike = similarity(known, read_pairs(tmp_path / "p.tsv"), most=most)
        _, rank, unknown = oracle.evaluate_word_pairs(str(tmp_path / "p.tsv"), restrict_vocab=most)
        assert alike.spearman == pytest.approx(rank[0], abs=1e-6)
        assert 100 * alike.out_of_vocabulary == pytest.approx(unknown)
