"""fastseq test, and fastseq info of models: measures of every task, damage, versions."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastseq_cli.models import WHOLE, _write_confusion

from fastseq.store.folder import MANIFEST, read_manifest
from tests.cli.conftest import Run, Write


@pytest.fixture
def measures(run: Run, models: Path, corpora: Path) -> Callable[[str], dict[str, Any]]:
    """measures("reviews"): of the model of that name on the corpus of that name."""

    def measured(name: str) -> dict[str, Any]:
        ran = run("test", models / name, corpora / f"{name}.parquet", "--format", "json")
        values: dict[str, Any] = ran.json
        return values

    return measured


@pytest.fixture
def model(models: Path, tmp_path: Path) -> Path:
    """A copy of a classifier, to be damaged."""
    return Path(shutil.copytree(models / "reviews", tmp_path / "model"))


# ---- measures


def test_classifier_measures_and_confusion_matrix(
    run: Run, models: Path, corpora: Path, measures: Any
) -> None:
    values = measures("reviews")
    assert list(values)[:2] == ["accuracy", "macro_f1"]
    assert values["accuracy"] == values["macro_f1"] == 1.0
    ran = run("test", models / "reviews", corpora / "reviews.parquet")
    table, confusion = (part.splitlines() for part in ran.out.split("\n\n"))
    assert [line.split()[0] for line in table] == [
        "measure", "accuracy", "macro_f1", "loss", "unknown_rate",
    ]  # fmt: skip
    assert [line.split() for line in confusion] == [
        ["expected", "\\", "predicted", "0", "1"],
        ["0", "40", "0"],
        ["1", "0", "40"],
    ]


def test_tagger_measures_of_spans(run: Run, models: Path, corpora: Path, measures: Any) -> None:
    values = measures("spoken")
    assert values["accuracy"] > 0.9
    assert {"precision", "recall", "f1"} <= set(values)
    assert values["tag_scheme"] == "IOB2"
    assert set(values["spans"]) == set(values["strict_spans"]) == {"LOC", "PER"}
    assert set(values["spans"]["PER"]) == {"precision", "recall", "f1", "support"}
    assert sum(of["f1"] for of in values["spans"].values()) > 1.8
    ran = run("test", models / "spoken", corpora / "spoken.parquet")
    table, types = (part.splitlines() for part in ran.out.split("\n\n"))
    assert "strict_f1" in [line.split()[0] for line in table]
    assert types[0].split() == ["IOB2", "type", "precision", "recall", "f1", "support", "strict_f1"]
    assert [line.split()[0] for line in types[1:]] == ["LOC", "PER"]
    assert types[1].split()[4] == str(values["spans"]["LOC"]["support"])
    ran = run("info", models / "spoken")
    assert ["tag", "scheme", "IOB2"] in [line.split() for line in ran.out.splitlines()]


def test_unknown_words_are_reported(run: Run, models: Path, write: Write) -> None:
    """Perplexity is low where every word is unknown: the unknown rate says so."""
    words = ("-o", "m", "--task", "language", "--hidden", "8", "--epochs", "1", "--min-count", "2",
             "--threads", "1")  # fmt: skip
    text = write("text.parquet", text=["the cat sat on the mat"] * 20 + ["a dog"])
    assert run("fit-rnn", text, *words, "--valid", text).code == 0
    strange = write("strange.parquet", text=["lorem ipsum dolor", "sit amet"])
    values = run("test", "m", strange, "--format", "json").json
    assert values["unknown_rate"] == 1.0
    values = run("test", "m", text, "--format", "json").json
    assert values["unknown_rate"] == pytest.approx(2 / 122)
    assert "unknown_rate" in run("test", "m", text).out
    review = write("review.parquet", text=["a good zzz qqq"], label=[1])
    ran = run("test", models / "reviews", review, "--format", "json")
    assert ran.json["unknown_rate"] == 0.5


def test_tagger_measures_without_spans(run: Run, write: Write) -> None:
    tagged = write("tagged.parquet", tokens=[["a", "b"]] * 8, tags=[["X", "Y"]] * 8)
    words = ("-o", "m", "--hidden", "4", "--epochs", "1", "--threads", "1")
    assert run("fit-rnn", tagged, *words).code == 0
    values = run("test", "m", tagged, "--format", "json").json
    assert set(values) == {"accuracy", "macro_f1", "loss", "unknown_rate"}


def test_language_model_measures(run: Run, models: Path, corpora: Path, measures: Any) -> None:
    values = measures("book")
    assert 0 < values["nats"] < 2
    assert values["perplexity"] == pytest.approx(math.exp(values["nats"]))
    assert values["bits_per_character"] == pytest.approx(values["nats"] / math.log(2))
    text = "".join(pq.read_table(corpora / "book.parquet")["text"].to_pylist())
    assert values["units"] == len(text) - 1
    ran = run("test", models / "book", corpora / "book.parquet")
    shown = [line.split() for line in ran.out.splitlines()]
    assert ["units", str(len(text) - 1)] in shown


def test_forecaster_measures(measures: Any) -> None:
    values = measures("wave")
    assert list(values) == ["rmse", "mae", "last_value_rmse", "last_value_mae"]
    assert values["rmse"] < values["last_value_rmse"]


@pytest.mark.parametrize("name", ["reviews", "spoken", "book", "wave"])
def test_column_options_rename_the_columns(
    run: Run, models: Path, corpora: Path, measures: Any, name: str
) -> None:
    table = pq.read_table(corpora / f"{name}.parquet")
    words: list[str] = []
    for column in table.column_names:
        if column != "id":
            words += [f"--{column}-column", f"{column}_2"]
    pq.write_table(table.rename_columns([f"{n}_2" for n in table.column_names]), "other.parquet")
    assert run("test", models / name, "other.parquet").code == 1
    ran = run("test", models / name, "other.parquet", *words, "--format", "json")
    assert ran.json == measures(name)


@pytest.mark.parametrize(
    ("name", "flag", "expected"),
    [
        ("reviews", "--tags-column", "classifier model has no --tags-column; expected --text-"
         "column and --label-column"),
        ("spoken", "--text-column", "expected --tokens-column and --tags-column"),
        ("book", "--label-column", "language model has no --label-column; expected --text-column"),
        ("wave", "--tokens-column", "forecaster model has no --tokens-column; expected --value-"),
    ],
)  # fmt: skip
def test_columns_of_another_task_are_an_error(
    run: Run, models: Path, corpora: Path, name: str, flag: str, expected: str
) -> None:
    error = run("test", models / name, corpora / f"{name}.parquet", flag, "x").error
    assert expected in error


def test_results_do_not_depend_on_threads(run: Run, models: Path, corpora: Path) -> None:
    words = ("test", models / "reviews", corpora / "reviews.parquet", "--format", "json")
    assert run(*words, "--threads", "1").out == run(*words, "--threads", "3").out


def test_labels_unseen_in_training_are_counted(run: Run, models: Path, write: Write) -> None:
    new = write("new.parquet", text=["a good film", "a dull film", "what"], label=[1, 0, 7])
    ran = run("test", models / "reviews", new, "--format", "json")
    assert ran.json["accuracy"] == pytest.approx(2 / 3)
    said = ran.err.splitlines()[-1]
    assert "7" in said
    assert "1 of 3" in said


@pytest.mark.parametrize(
    ("model", "columns", "said"),
    [
        ("reviews", {"text": ["a"], "label": [9]}, "unseen"),
        ("reviews", {"text": ["a"], "label": ["x"]}, "label"),
        ("reviews", {"text": ["a"]}, "label"),
        ("reviews", {"text": ["a"], "label": pa.array([None], pa.int64())}, "row 0"),
        ("spoken", {"tokens": [["a", "b"]], "tags": [["O"]]}, "row 0"),
        ("wave", {"value": [1.0, 2.0]}, "2 rows"),
        ("wave", {"value": [1.0, float("inf")] * 20}, "row 1"),
        ("book", {"text": [""]}, "odd.parquet"),
    ],
)
def test_invalid_data_is_a_one_line_error(
    run: Run, models: Path, write: Write, model: str, columns: dict[str, Any], said: str
) -> None:
    ran = run("test", models / model, write("odd.parquet", **columns))
    assert ran.code == 1
    assert said in ran.error


def test_large_confusion_matrix_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    labels = [f"c{n}" for n in range(WHOLE + 1)]
    counts = [[10 if a == b else (a > b) for b in range(len(labels))] for a in range(len(labels))]
    counts[0][3] = 9
    _write_confusion(labels, counts)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [["times", "expected", "predicted"], ["9", "c0", "c3"]]
    wrong = WHOLE * (WHOLE + 1) // 2 + 1
    assert lines[-1][:2] == ["and", str(wrong - WHOLE)]
    assert len(lines) == WHOLE + 2


# ---- info of models


def test_info_of_a_model(run: Run, models: Path) -> None:
    ran = run("info", models / "reviews", "--verify")
    said = ran.pairs
    assert said["model"] == "classifier"
    assert said["columns"] == "text: text, label: label"
    assert said["classes"] == "2: 0, 1"
    assert said["vocabulary"].endswith(" words")
    assert said["hidden"] == "16"
    assert said["last epoch: epoch"] == "6"
    assert float(said["last epoch: train loss"]) < 0.5
    assert int(said["parameters"].replace(",", "")) > 1000
    assert said["verified"] == "all files are intact"


def test_info_of_every_task(run: Run, models: Path) -> None:
    for name, expected in {
        "spoken": "classes           3: B-LOC, B-PER, O",
        "book": "characters",
        "wave": "values: value",
    }.items():
        ran = run("info", models / name)
        assert ran.code == 0, ran.err
        assert " ".join(expected.split()) in " ".join(ran.out.split())


def test_info_as_json(run: Run, models: Path) -> None:
    said = run("info", models / "book", "--format", "json").json
    assert said["kind"] == "model"
    assert said["settings"]["model"] == "language"
    assert said["settings"]["settings"]["hidden"] == 16
    assert said["statistics"]["vocabulary"]["units"]["unit"] == "char"
    assert said["history"]["epoch"] == 10
    assert said["history"]["train_loss"] > 0


def test_every_damaged_file_is_named(run: Run, model: Path, corpora: Path) -> None:
    for name in read_manifest(model).files:
        path = model / name
        whole = path.read_bytes()
        # a new file: the one next to the manifest may be a hard link to the data file
        path.unlink()
        path.write_bytes(bytes([whole[0] ^ 0x40]) + whole[1:])
        ran = run("info", model, "--verify")
        assert ran.code == 1
        assert path.name in ran.error
        for words in (("test", model), ("predict", model)):
            assert path.name in run(*words, corpora / "reviews.parquet").error
        path.unlink()
        assert run("info", model).code == 0
        assert path.name in run("info", model, "--verify").error
        path.write_bytes(whole)
    assert run("info", model, "--verify").code == 0


def test_damage_of_the_checkpoint_is_named(run: Run, model: Path, corpora: Path) -> None:
    checkpoint = model / "checkpoint"
    names = [*read_manifest(checkpoint).files, MANIFEST]
    assert len(names) > 10
    for name in names:
        whole = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(bytes([whole[0] ^ 0x40]) + whole[1:])
        assert f"checkpoint/{name}" in run("info", model, "--verify").error
        assert run("test", model, corpora / "reviews.parquet").code == 0, (
            "the model itself is whole"
        )
        (checkpoint / name).write_bytes(whole)
    said = run("info", model, "--verify", "--format", "json").json
    assert said["damaged"] == []
    shutil.rmtree(checkpoint)
    assert run("info", model, "--verify").code == 0


def test_other_format_versions_are_an_error(run: Run, model: Path, corpora: Path) -> None:
    manifest = replace(read_manifest(model), format_version=99)
    (model / MANIFEST).write_bytes(manifest.to_bytes())
    error = run("test", model, corpora / "reviews.parquet").error
    assert "format version 99 is too new" in error
    assert run("info", model).error == run("info", model, "--verify").error == error


def test_info_of_a_checkpoint_of_another_format_version(run: Run, model: Path) -> None:
    checkpoint = model / "checkpoint"
    manifest = replace(read_manifest(checkpoint), format_version=99)
    (checkpoint / MANIFEST).write_bytes(manifest.to_bytes())
    assert run("info", model).code == 0
    problem = f"{checkpoint}: format version 99 is too new"
    assert problem in run("info", model, "--verify").error
    (model / MANIFEST).unlink()  # an unfinished training
    assert problem in run("info", model).error
