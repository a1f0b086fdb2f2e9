"""fastseq fit-fasttext, and the use of vectors with character n-grams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import FastText, WordVectors
from tests.cli.conftest import Run, Write, two_topics

# of eight words in similar contexts: enough passes that spelling distinguishes them
OPTIONS = ("--dimensions", 8, "--epochs", 10, "--sample", 0, "--threads", 1, "--buckets", 1000)


@pytest.fixture
def made(run: Run, tmp_path: Path, write: Write) -> Path:
    ran = run(
        "fit-fasttext", write("corpus.parquet", text=two_topics()), "-o", tmp_path / "v", *OPTIONS
    )
    assert ran.code == 0, ran.err
    assert "training loss" in ran.out
    return tmp_path / "v"


def test_unknown_words_have_neighbors(run: Run, made: Path) -> None:
    ran = run("neighbors", made, "aple", "-k", 1, "--format", "json")
    assert ran.json[0]["word"] == "apple"


def test_exported_fasttext_model_reads_back_equal(run: Run, made: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.bin"
    ran = run("export", made, model, "--format", "fasttext")
    assert ran.code == 0, ran.err
    first, again = WordVectors.load(made), WordVectors.load(model)
    np.testing.assert_allclose(
        again.vectors_of(["aple", "lake"]), first.vectors_of(["aple", "lake"]), atol=1e-6
    )
    ran = run("neighbors", model, "aple", "-k", 1, "--format", "json")
    assert ran.json[0]["word"] == "apple"


def test_the_command_and_python_train_equal_vectors(made: Path) -> None:
    loaded = FastText.load(made)
    again = FastText(**{**loaded.get_params(), "threads": 1}).fit(two_topics())
    np.testing.assert_array_equal(again.vectors_.vectors, loaded.vectors_.vectors)


def test_start_sets_dimensions_and_n_grams(
    run: Run, made: Path, tmp_path: Path, write: Write
) -> None:
    corpus = write("more.parquet", text=two_topics())
    ran = run("fit-fasttext", corpus, "-o", tmp_path / "w", "--start", made, "--epochs", 1)
    assert ran.code == 0, ran.err
    before, after = (FastText.load(path) for path in (made, tmp_path / "w"))
    for name in ("dimensions", "min_n", "max_n", "buckets"):
        assert getattr(after, name) == getattr(before, name)
    assert before.buckets != FastText().buckets


def test_start_requires_equal_n_grams(run: Run, made: Path, tmp_path: Path, write: Write) -> None:
    corpus = write("more.parquet", text=two_topics())
    further = ("fit-fasttext", corpus, "-o", tmp_path / "w", *OPTIONS, "--start", made)
    assert run(*further, "--quiet").code == 0
    other = run(*further, "--overwrite", "--high", 5)
    assert other.code == 1
    assert "the vectors to start from have Subwords(min_n=3, max_n=6, buckets=1000)" in other.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--low", 5, "--high", 4), "--min-n is 5 and --max-n 4"),
        (("--buckets", 0), "buckets must be"),
        (("--window", 0), "window must be"),
        (("--min-count", 1000), "none of the corpus's 8 words occurs 1,000 times"),
    ],
)
def test_errors_are_one_line(
    run: Run, tmp_path: Path, write: Write, options: tuple[Any, ...], said: str
) -> None:
    ran = run("fit-fasttext", write("c.parquet", text=two_topics()), "-o", tmp_path / "v", *options)
    assert ran.code == 1
    assert len([line for line in ran.err.splitlines() if line.startswith("Error: ")]) == 1
    assert said in ran.err


def test_sequence_model_starts_from_fasttext_vectors(
    run: Run, made: Path, tmp_path: Path, write: Write
) -> None:
    strange = ["aple peer plumm", "rivr lakes oceans"] * 20
    corpus = write("strange.parquet", text=strange, label=["fruit", "water"] * 20)
    ran = run(
        "fit-gru", corpus, "--embeddings", made, "--freeze-embeddings", "--hidden", 4, "--epochs",
        1, "-o", tmp_path / "model",
    )  # fmt: skip
    assert ran.code == 0, ran.err
