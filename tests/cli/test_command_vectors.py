"""fastseq neighbors, analogy, test-vectors, export and info; fit-word2vec and fit-glove."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import WordVectors
from fastseq.store.folder import read_manifest
from tests.cli.conftest import Run, Write, two_topics

WORDS = ["man", "king", "woman", "queen", "猫"]
ARRAY = np.array(
    [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1], [3, 1, -1, 0]], np.float32
)


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    settings = {"model": "word2vec", "window": 5, "analyzer": {"tokenizer": "word"}}
    statistics = {"tokens": 12345, "history": {"epoch": [1, 2], "train_loss": [2.5, 1.25]}}
    known = WordVectors(WORDS, ARRAY, [9, 8, 7, 6, 5], settings=settings, statistics=statistics)
    known.save(tmp_path / "vectors")
    return tmp_path / "vectors"


@pytest.fixture
def sets(tmp_path: Path, write: Write) -> dict[str, Path]:
    """The same pairs and the same questions, each in Parquet and as text."""
    pairs = [("man", "king", 3.0), ("man", "queen", 1.0), ("Woman", "man", 3.5), ("man", "x", 0.0)]
    first, second, score = map(list, zip(*pairs, strict=True))
    questions = [("man", "king", "woman", "queen"), ("king", "man", "queen", "猫")]
    a, b, c, d = map(list, zip(*questions, strict=True))
    (tmp_path / "p.tsv").write_text(
        "Word 1\tWord 2\tHuman (mean)\n" + "".join("\t".join(map(str, p)) + "\n" for p in pairs)
    )
    (tmp_path / "q.txt").write_text(
        ": royal\nman king woman queen\n: gram1\nking man queen 猫\n", "utf-8"
    )
    return {
        "p.tsv": tmp_path / "p.tsv",
        "q.txt": tmp_path / "q.txt",
        "p.parquet": write("p.parquet", word1=first, word2=second, score=score),
        "q.parquet": write("q.parquet", section=["royal", "gram1"], a=a, b=b, c=c, d=d),
    }


# ---- neighbors


def test_neighbors_in_every_format(run: Run, vectors: Path) -> None:
    ran = run("neighbors", vectors, "man", "猫", "-k", 2, "--format", "json")
    found = ran.json
    expected = [
        {"query": query, "rank": rank, "word": word, "score": pytest.approx(score, abs=1e-6)}
        for query in ("man", "猫")
        for rank, (word, score) in enumerate(WordVectors.load(vectors).neighbors(query, 2), 1)
    ]
    assert found == expected
    assert found[0]["score"] == pytest.approx(0.5, abs=1e-6)
    words = ("neighbors", vectors, "man", "猫", "-k", 2, "--format")
    assert [json.loads(line) for line in run(*words, "jsonl").out.splitlines()] == found
    tsv = [line.split("\t") for line in run(*words, "tsv").out.splitlines()]
    assert tsv[0] == ["query", "rank", "word", "score"]
    assert [row[2] for row in tsv[1:]] == [row["word"] for row in found]
    table = [line.split() for line in run("neighbors", vectors, "man").out.splitlines()]
    assert table[0] == ["rank", "word", "score"]
    assert table[1] == ["1", "king", "0.5000"]
    assert len(table) == 5  # fewer words than k
    several = run("neighbors", vectors, "man", "king").out.splitlines()
    assert several[0].split() == ["query", "rank", "word", "score"]


def test_neighbors_in_files_of_other_programs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text("cat 1 2\ndog 2 1\n")
    assert "dog" in run("neighbors", "glove.txt", "cat").out
    (tmp_path / "glove.txt").write_text("cat 1 2\ndog 2 nan\n")
    assert "glove.txt: line 2" in run("neighbors", "glove.txt", "cat").error


def test_unknown_word_is_an_error(run: Run, vectors: Path) -> None:
    ran = run("neighbors", vectors, "man", "quen")
    assert ran.code == 1
    said = "Error: 'quen' is not among the 5 words; nearest spellings: 'queen'"
    assert ran.error == said
    assert ran.out == ""
    assert run("analogy", vectors, "man", "quen", "woman").error == said
    assert "'man'" in run("neighbors", vectors, "MAN").error


# ---- analogy


def test_analogy_in_every_format(run: Run, vectors: Path) -> None:
    words = ("analogy", vectors, "man", "king", "woman")
    ran = run(*words, "--format", "json")
    found = ran.json
    assert [row["rank"] for row in found] == [1, 2]
    assert [row["word"] for row in found] == ["queen", "猫"]
    assert found[0]["score"] == pytest.approx(1.0, abs=1e-6)
    multiplied = run(*words, "--method", "mul", "-k", 1, "--format", "json").json
    assert multiplied[0]["word"] == "queen"
    assert multiplied[0]["score"] == pytest.approx(0.75 * 0.75 / (0.5 + 1e-3), abs=1e-5)
    assert [json.loads(line) for line in run(*words, "--format", "jsonl").out.splitlines()] == found
    assert run(*words, "--format", "tsv").out.splitlines()[0] == "rank\tword\tscore"
    assert run(*words).out.splitlines()[1].split() == ["1", "queen", "1.0000"]


# ---- test-vectors


@pytest.mark.parametrize("form", ["text", "parquet"])
def test_evaluation_as_json(run: Run, vectors: Path, sets: dict[str, Path], form: str) -> None:
    pairs, questions = ("p.tsv", "q.txt") if form == "text" else ("p.parquet", "q.parquet")
    ran = run(
        "test-vectors", vectors, "--similarity", pairs, "--analogies", questions, "--format", "json"
    )
    said = ran.json
    assert said == {
        "similarity": [
            {
                "file": pairs,
                # cosines .5, 0, .5 against 3, 1, 3.5: ranks 2.5, 1, 2.5 and 2, 1, 3
                "spearman": pytest.approx(math.sqrt(0.75)),
                "pairs": 4,
                "used": 3,
                "out_of_vocabulary": 0.25,
            }
        ],
        "analogies": [
            {
                "file": questions,
                "accuracy": 0.5,
                "semantic": 1.0,
                "syntactic": 0.0,
                "used": 2,
                "skipped": 0,
                "sections": [
                    {"section": "royal", "accuracy": 1.0, "correct": 1, "used": 1, "skipped": 0},
                    {"section": "gram1", "accuracy": 0.0, "correct": 0, "used": 1, "skipped": 0},
                ],
            }
        ],
    }


def test_evaluation_as_tables(run: Run, vectors: Path, sets: dict[str, Path]) -> None:
    words = ("--similarity", "p.tsv", "--similarity", "p.parquet", "--analogies", "q.txt")
    ran = run("test-vectors", vectors, *words, "--most", 4)
    assert ran.code == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0] == ["file", "spearman", "pairs", "used", "out_of_vocabulary"]
    assert lines[1][:2] == ["p.tsv", "0.8660"]
    assert lines[2][1:] == lines[1][1:]
    assert lines[4] == ["q.txt", "accuracy", "correct", "used", "skipped"]
    assert [line[0] for line in lines[5:]] == ["royal", "gram1", "semantic", "syntactic", "total"]
    assert lines[-1] == ["total", "1.0000", "1", "1", "1"]  # the fifth word is not known


def test_match_case_and_method(run: Run, vectors: Path, sets: dict[str, Path]) -> None:
    words = ("test-vectors", vectors, "--similarity", "p.tsv", "--format", "json")
    assert run(*words, "--match-case").json["similarity"][0]["used"] == 2
    words = ("test-vectors", vectors, "--analogies", "q.txt", "--method", "mul", "--format", "json")
    assert run(*words).json["analogies"][0]["semantic"] == 1.0


def test_measures_without_known_words_are_null(run: Run, vectors: Path, tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("x y 1\n")
    (tmp_path / "q.txt").write_text("x y z a\n")
    words = ("--similarity", "p.tsv", "--analogies", "q.txt", "--format", "json")
    said = run("test-vectors", vectors, *words).json
    assert said["similarity"][0]["spearman"] is None
    assert said["similarity"][0]["out_of_vocabulary"] == 1.0
    assert said["analogies"][0]["accuracy"] is None


def test_invalid_options_are_a_one_line_error(
    run: Run, vectors: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    assert run("test-vectors", vectors).code == 2
    assert run("neighbors", vectors).code == 2
    assert run("analogy", vectors, "man", "king").code == 2
    for wrong in (
        ("neighbors", vectors, "man", "-k", 0),
        ("analogy", vectors, "man", "king", "woman", "-k", -1),
        ("test-vectors", vectors, "--analogies", "q.txt", "--most", 0),
    ):
        assert run(*wrong).code == 1
        assert "at least 1" in run(*wrong).error
    assert "gone" in run("neighbors", "gone", "man").error
    assert "gone.txt" in run("test-vectors", vectors, "--analogies", "gone.txt").error
    (tmp_path / "bad.txt").write_text(": s\none two three\n")
    assert "bad.txt, line 2" in run("test-vectors", vectors, "--analogies", "bad.txt").error
    (tmp_path / "empty").mkdir()
    assert "empty" in run("neighbors", "empty", "man").error


# ---- info


def test_info_of_word_vectors(run: Run, vectors: Path) -> None:
    ran = run("info", vectors, "--verify")
    said = ran.pairs
    assert said["kind"] == "vectors"
    assert said["model"] == "word2vec"
    assert said["words"] == "5"
    assert said["dimensions"] == "4"
    assert said["tokens"] == "12,345"
    assert said["analyzer.tokenizer"] == "word"
    assert said["last epoch: train loss"] == "1.25"
    assert said["verified"] == "all files are intact"
    content = run("info", vectors, "--format", "json").json
    assert content["kind"] == "vectors"
    assert content["settings"]["window"] == 5


def test_info_names_damaged_files(run: Run, vectors: Path) -> None:
    for name in read_manifest(vectors).files:
        whole = (vectors / name).read_bytes()
        (vectors / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        ran = run("info", vectors, "--verify")
        assert ran.code == 1
        assert name in ran.error
        (vectors / name).write_bytes(whole[:-1])
        error = run("neighbors", vectors, "man").error
        assert Path(name).name in error
        (vectors / name).write_bytes(whole)
    assert run("info", vectors, "--verify").code == 0


# ---- export


@pytest.mark.parametrize("name", ["v.vec", "v.txt.gz", "v.bin", "v.bin.gz", "v.parquet"])
def test_exported_vectors_read_back_equal(
    run: Run, vectors: Path, tmp_path: Path, name: str
) -> None:
    ran = run("export", vectors, tmp_path / name)
    assert (ran.code, ran.out) == (0, "")
    back = WordVectors.load(tmp_path / name)
    assert back.words == WORDS
    np.testing.assert_array_equal(back.vectors, ARRAY)


def test_export_errors_are_one_line(run: Run, vectors: Path, tmp_path: Path) -> None:
    for output, said in (("v.zip", "v.zip"), ("no/v.vec", "no"), ("vectors", "is also an input")):
        ran = run("export", vectors, tmp_path / output)
        assert ran.code == 1
        assert ran.err.startswith("Error: ")
        assert said in ran.err
        assert len(ran.err.splitlines()) == 1
    spaced = tmp_path / "spaced"
    WordVectors(["new york", "b"], [[1.0], [2.0]]).save(spaced)
    ran = run("export", spaced, tmp_path / "v.vec")
    assert ran.code == 1
    assert "'new york'" in ran.err


# ---- fit-word2vec


def test_word2vec_is_trained_and_used(run: Run, tmp_path: Path, write: Write) -> None:
    corpus = write("corpus.parquet", text=two_topics())
    made = tmp_path / "made"
    options = ("--dimensions", 8, "--epochs", 4, "--sample", 0, "--threads", 1)
    ran = run("fit-word2vec", corpus, "-o", made, *options, "--valid", corpus)
    assert ran.code == 0, ran.err
    for said in ("words", "8", "training loss", "validation loss", "words/s"):
        assert said in ran.out
    assert ran.err.count("epoch ") == 4
    near = run("neighbors", made, "apple", "-k", 1, "--format", "json")
    assert near.json[0]["word"] in ("pear", "plum", "cherry")
    again = run("fit-word2vec", corpus, "-o", made, *options)
    assert again.code == 1
    assert "already exists" in again.err
    further = run(
        "fit-word2vec", corpus, "-o", tmp_path / "further", *options, "--start", made, "--quiet"
    )
    assert (further.code, further.out, further.err) == (0, "", "")
    said = run("info", made, "--verify", "--format", "json")
    assert said.code == 0
    assert said.json["kind"] == "vectors"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--min-count", 1000), "none of the corpus's 8 words occurs 1,000 times"),
        (("--dimensions", 0), "dimensions must be"),
        (("--ngrams", "1-2"), "without n-grams"),
        (("--text-column", "nowhere"), "nowhere"),
        (("--start", "nowhere"), "nowhere"),
    ],
)
def test_errors_are_one_line(
    run: Run, tmp_path: Path, write: Write, options: tuple[Any, ...], said: str
) -> None:
    ran = run("fit-word2vec", write("c.parquet", text=two_topics()), "-o", tmp_path / "v", *options)
    assert ran.code == 1
    assert len([line for line in ran.err.splitlines() if line.startswith("Error: ")]) == 1
    assert said in ran.err
    assert not (tmp_path / "v" / "manifest.json").exists()


def test_start_requires_equal_dimensions(
    run: Run, vectors: Path, tmp_path: Path, write: Write
) -> None:
    corpus = write("c.parquet", text=two_topics())
    for dimensions in (5, 100):
        ran = run("fit-word2vec", corpus, "-o", tmp_path / "v", "--start", vectors,
                  "--dimensions", dimensions)  # fmt: skip
        assert ran.code == 1
        assert f"have 4 dimensions, but dimensions is {dimensions}" in ran.err


def test_start_sets_the_dimensions(run: Run, vectors: Path, tmp_path: Path, write: Write) -> None:
    corpus = write("c.parquet", text=two_topics())
    ran = run("fit-word2vec", corpus, "-o", tmp_path / "v", "--start", vectors, "--epochs", 1)
    assert ran.code == 0, ran.err
    for out in (ran.out, run("info", tmp_path / "v").out):
        assert re.search("^dimensions +4$", out, re.MULTILINE)


def test_embeddings_from_a_folder_of_vectors(run: Run, tmp_path: Path, write: Write) -> None:
    rows = two_topics()
    corpus = write("c.parquet", text=rows, label=["fruit", "water"] * 150)
    made, model = tmp_path / "made", tmp_path / "model"
    assert run("fit-word2vec", corpus, "-o", made, "--dimensions", 8, "--epochs", 1).code == 0
    ran = run("fit-gru", corpus, "--embeddings", made, "--epochs", 1, "--hidden", 8, "-o", model)
    assert ran.code == 0, ran.err


# ---- fit-glove


def test_glove_is_trained_and_used(run: Run, tmp_path: Path, write: Write) -> None:
    corpus = write("corpus.parquet", text=two_topics())
    made = tmp_path / "made"
    options = ("--dimensions", 8, "--epochs", 60, "--threads", 1)
    more = ("--window", 4, "--x-max", 50, "--no-distance-weighting", "--combine", "word")
    ran = run("fit-glove", corpus, "-o", made, *options, *more, "--valid", corpus)
    assert ran.code == 0, ran.err
    for said in ("words", "co-occurrences", "training loss", "validation loss", "words/s"):
        assert said in ran.out
    assert ran.err.count("epoch ") == 60
    near = run("neighbors", made, "apple", "-k", 1, "--format", "json")
    assert near.json[0]["word"] in ("pear", "plum", "cherry")
    settings = run("info", made, "--verify", "--format", "json").json["settings"]
    expected = {"model": "glove", "window": 4, "x_max": 50.0, "combine": "word", "symmetric": True}
    assert expected.items() <= settings.items()
    assert settings["distance_weighting"] is False
    further = run(
        "fit-glove", corpus, "-o", tmp_path / "further", *options, "--left", "--start", made,
        "--quiet",
    )  # fmt: skip
    assert (further.code, further.out, further.err) == (0, "", "")
    again = run("fit-glove", corpus, "-o", made, *options)
    assert "already exists" in again.error


def test_glove_errors_are_one_line(run: Run, write: Write) -> None:
    corpus = write("c.parquet", text=two_topics())
    for options, said in (
        (("--x-max", 0), "--x-max must be above 0"),
        (("--window", 5000), "window must be"),
        (("--min-count", 1000), "none of the corpus's 8 words occurs 1,000 times"),
    ):
        assert said in run("fit-glove", corpus, "-o", "v", *options).error
