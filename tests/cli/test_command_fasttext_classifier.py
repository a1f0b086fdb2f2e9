"""fastseq fit-fasttext-classifier, and predict, test and info with its models."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fastseq import FastTextClassifier
from fastseq.vectors.fasttext_bin import read_fasttext
from tests.cli.conftest import Run, Write, run_cli

FIT = "fit-fasttext-classifier"
SMALL = ("--dimensions", "8", "--learning-rate", "0.5", "--threads", "1")


@pytest.fixture(scope="module")
def model(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fasttext") / "model"
    ran = run_cli(FIT, corpora / "reviews.parquet", "-o", path, *SMALL, "--word-ngrams", "2")
    assert ran.code == 0, ran.err
    return path


def test_fit_prints_progress_and_a_summary(run: Run, corpora: Path, tmp_path: Path) -> None:
    data = corpora / "reviews.parquet"
    ran = run(FIT, data, "--valid", data, "--export", "model.bin", *SMALL, "--epochs", "9")
    assert ran.code == 0, ran.err
    assert ran.out.split()[:2] == ["model", ".fastseq/model"]
    assert "validation accuracy      1.0000" in ran.out
    assert "epoch 9/9: loss" in ran.err
    assert "accuracy 1.0000" in ran.err
    assert read_fasttext(tmp_path / "model.bin").settings.dimensions == 8
    assert FastTextClassifier.load(".fastseq/model").epochs == 9
    assert "model.bin: a file, expected a folder" in run("predict", "model.bin", data).error
    again = run(FIT, data, *SMALL)
    assert "already exists" in again.error
    quiet = run(FIT, data, *SMALL, "--overwrite", "--quiet")
    assert (quiet.code, quiet.out) == (0, "")


def test_predict_with_a_fasttext_classifier(
    run: Run, model: Path, corpora: Path, tmp_path: Path
) -> None:
    data = corpora / "reviews.parquet"
    ran = run("predict", model, data, "-o", "out.parquet", "--keep", "label")
    assert ran.code == 0, ran.err
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["prediction"].to_pylist() == table["label"].to_pylist()
    lines = run("predict", model, data, "--keep", "text").out.splitlines()
    first = json.loads(lines[0])
    assert len(lines) == 80
    assert (first["id"], first["prediction"]) == ("r0", 0)
    assert 0.5 < first["probability"] <= 1
    assert "no --tokens-column" in run("predict", model, data, "--tokens-column", "text").error


def test_test_of_a_fasttext_classifier(run: Run, model: Path, corpora: Path) -> None:
    ran = run("test", model, corpora / "reviews.parquet")
    assert "accuracy      1.0000" in ran.out
    assert "expected \\ predicted" in ran.out
    found = run("test", model, corpora / "reviews.parquet", "--format", "json").json
    assert set(found) == {"accuracy", "macro_f1", "loss", "unknown_rate"}


def test_info_of_a_fasttext_classifier(run: Run, model: Path) -> None:
    ran = run("info", model, "--verify")
    said = ran.pairs
    assert said["model"] == "fasttext"
    assert said["classes"] == "2: 0, 1"
    assert said["word_ngrams"] == "2"
    assert said["vocabulary"].endswith(" words")
    assert "last epoch: train loss" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--export", "model.txt"), "must end in .bin"),
        (("--dimensions", "0"), "dimensions must be a whole number"),
        (("--low", "5", "--high", "2"), "--min-n is 5 and --max-n 2"),
        (("--label-column", "sense"), "sense"),
        (("--ngrams", "1-2"), "without n-grams"),
        (("--vectors", "nowhere.vec"), "no such file"),
    ],
)
def test_errors_are_one_line(run: Run, corpora: Path, words: tuple[str, ...], said: str) -> None:
    assert said in run(FIT, corpora / "reviews.parquet", *words).error
    assert not Path(".fastseq/model/manifest.json").exists()


def test_rows_with_several_labels(run: Run, write: Write) -> None:
    texts = ["wave ship", "cloud star", "wave cloud", "ship star"] * 20
    path = write("rows.parquet", text=texts, label=["sea", "sky", "sea|sky", "sky|sea"] * 20)
    words = ("--loss", "ova", "--label-separator", "|", "--epochs", "30", *SMALL)
    ran = run(FIT, path, *words)
    assert ran.code == 0, ran.err
    found = run("test", ".fastseq/model", path, "--format", "json").json
    assert found["micro_f1"] == 1
