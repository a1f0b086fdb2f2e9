"""fastseq phrases; neighbors of phrases and plots; query expansion and suggestions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastseq import WordVectors
from tests.cli.conftest import Run, Write

TEXTS = ["new york is big", "old new york", "york is old", "the bank of york", "new york bank of"]


@pytest.fixture
def corpus(write: Write) -> Path:
    return write("c.parquet", id=list(range(20)), text=TEXTS * 4)


def test_phrases_in_every_format(run: Run, corpus: Path) -> None:
    words = ("phrases", corpus, "--threshold", "0.3", "--threads", "1")
    found = run(*words, "--format", "json").json
    assert [one["rank"] for one in found] == list(range(1, len(found) + 1))
    # 8 words and 10 different pairs; new 12, york 20, both 12 times
    (york,) = (one for one in found if one["phrase"] == "new_york")
    assert york["count"] == 12
    different = len({pair for text in TEXTS for pair in zip(*[text.split()[i:] for i in (0, 1)],
                                                            strict=False)})  # fmt: skip
    assert york["score"] == pytest.approx((12 - 5) * (8 + different) / (12 * 20))
    ran = run(*words, "-k", "2", "--by", "count")
    assert ran.out.splitlines()[0].split() == ["rank", "phrase", "score", "count"]
    assert ran.out.splitlines()[1].split()[1:] == ["new_york", f"{york['score']:.4f}", "12"]
    assert f"{len(found)} phrases" in ran.err
    assert len(run(*words, "-k", "1", "--format", "jsonl").out.splitlines()) == 1
    npmi = run(*words, "--scoring", "npmi", "--format", "json").json
    assert all(0.3 < one["score"] <= 1 for one in npmi)
    assert {one["phrase"] for one in npmi} > {"new_york"}
    joined = run(
        "phrases", corpus, "--min-count", "1", "--common-words", "of,the", "--threshold", "0.1",
        "--format", "tsv", "--quiet",
    )  # fmt: skip
    assert "bank_of_york" in joined.out
    assert joined.err == ""


def test_phrases_of_invalid_input_is_a_one_line_error(run: Run, corpus: Path) -> None:
    assert "gone.parquet" in run("phrases", "gone.parquet").error
    assert "passes" in run("phrases", corpus, "--passes", "0").error
    assert "k must" in run("phrases", corpus, "-k", "0").error
    assert run("phrases").code == 2
    ran = run("phrases", corpus, "--threshold", "1000")
    assert (ran.code, ran.out) == (0, "")
    assert "0 phrases" in ran.err


def test_word_vectors_with_phrases(run: Run, corpus: Path) -> None:
    fitted = run(
        "fit-word2vec", corpus, "-o", "v", "--phrases", "1", "--phrase-threshold", "0.3",
        "--min-count", "2", "--epochs", "1", "--dimensions", "4", "--threads", "1", "--quiet",
    )  # fmt: skip
    assert fitted.code == 0, fitted.err
    assert WordVectors.load("v").words_of("New York") == ["new_york"]
    by_text = run("neighbors", "v", "New York", "-k", "2", "--format", "json")
    by_word = run("neighbors", "v", "new_york", "-k", "2", "--format", "json")
    assert by_text.json == by_word.json != []
    assert "'york new'" in run("neighbors", "v", "york new").error
    said = run("info", "v", "--format", "json").json
    assert said["statistics"]["phrases"] >= 1
    assert said["settings"]["phrases"] == 1


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    words = ["big", "large", "huge", "old"]
    array = np.array([[1, 0], [0.9, 0.1], [0.8, 0.3], [-1, 0.2]], np.float32)
    WordVectors(words, array).save(tmp_path / "near")
    return tmp_path / "near"


def test_neighbors_plot_is_written(run: Run, vectors: Path) -> None:
    ran = run("neighbors", vectors, "big", "-k", "2", "--plot", "m.png")
    assert ran.code == 0, ran.err
    assert "large" in ran.out
    assert "m.png: 3 words" in ran.err
    assert Path("m.png").read_bytes().startswith(b"\x89PNG")
    assert ".svg" in run("neighbors", vectors, "big", "--plot", "m.gif").error
    assert "three" in run("neighbors", vectors, "big", "-k", "1", "--plot", "n.png").error
    assert not Path("n.png").exists()


@pytest.fixture
def index(run: Run, write: Write) -> None:
    texts = ["a large house", "a huge tree", "an old house", "big", "large large large"]
    write("docs.parquet", id=[f"d{n}" for n in range(5)], text=texts)
    assert run("index", "docs.parquet").code == 0


@pytest.mark.usefixtures("index")
def test_search_with_expansion(run: Run, vectors: Path, write: Write) -> None:
    def found(*words: object) -> dict[str, float]:
        ran = run("search", *words, "--format", "json", "--quiet")
        return {hit["id"]: hit["score"] for hit in ran.json}

    assert found("big") == {"d3": pytest.approx(found("big")["d3"])}
    expanded = found("big", "--expand", vectors)
    assert next(iter(expanded)) == "d3", "what was asked for comes before what is near it"
    assert set(expanded) == {"d0", "d1", "d3", "d4"}
    assert set(found("big", "--expand", vectors, "--expand-terms", "1")) == {"d0", "d3", "d4"}
    light, heavy = (
        found("big", "--expand", vectors, "--expand-weight", weight) for weight in ("0.1", "0.2")
    )
    assert heavy["d1"] == pytest.approx(2 * light["d1"], rel=1e-5)
    assert heavy["d3"] == pytest.approx(light["d3"])
    write("q.parquet", query_id=["q1", "q2"], text=["big", "old"])
    ran = run("search", "--queries", "q.parquet", "--expand", vectors, "--format", "tsv")
    lines = [line.split("\t") for line in ran.out.splitlines()[1:]]
    assert {line[1] for line in lines if line[0] == "q1"} == set(expanded)
    assert {line[1] for line in lines if line[0] == "q2"} == {"d2"}
    run("search", "--queries", "q.parquet", "--expand", vectors, "-o", "run.tsv")
    assert len(Path("run.tsv").read_text().splitlines()) >= len(lines)


@pytest.mark.usefixtures("index")
def test_search_with_invalid_expansion_is_an_error(run: Run, vectors: Path) -> None:
    assert run("search", "big", "--expand-terms", "3").code == 2
    assert run("search", "big", "--expand-weight", "0.1").code == 2
    assert "terms" in run("search", "big", "--expand", vectors, "--expand-terms", "0").error
    assert "weight" in run("search", "big", "--expand", vectors, "--expand-weight", "-1").error
    assert "gone" in run("search", "big", "--expand", "gone").error


@pytest.mark.usefixtures("index")
def test_unknown_words_get_suggestions(run: Run, vectors: Path) -> None:
    ran = run("search", "larg house zzzzzz")
    assert "d2" in ran.out
    assert ran.err.splitlines()[-2:] == [
        "no documents contain 'larg'; did you mean 'large'?",
        "no documents contain 'zzzzzz'",
    ]
    many = run("search", " ".join(f"zzz{n}zzz" for n in range(10))).err.splitlines()
    assert sum(line.startswith("no documents contain 'zzz") for line in many) == 8
    assert many[-1] == "no documents contain 2 other words either"
    assert "did you mean" not in run("search", "large house").err
    assert run("search", "larg", "--quiet").err == ""
    # the vectors have no n-grams: by spelling too
    assert "'large'?" in run("search", "larg", "--expand", vectors).err
