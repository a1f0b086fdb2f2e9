"""fastseq predict: the output of every task, to a file and to standard output; errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastseq_cli.models import _print

from tests.cli.conftest import Run, Write

TINY = ("--hidden", "4", "--embedding", "4", "--epochs", "1", "--threads", "1", "--quiet")


def rows(ran: Any) -> list[dict[str, Any]]:
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


def test_labels_keep_their_type(run: Run, models: Path, corpora: Path) -> None:
    words = ("--keep", "text", "--keep", "label", "-o", "out.parquet")
    ran = run("predict", models / "reviews", corpora / "reviews.parquet", *words)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.splitlines()[-1] == "out.parquet: 80 rows"
    table = pq.read_table("out.parquet")
    assert table.column_names == ["id", "text", "label", "prediction", "probability"]
    assert table.schema.field("prediction").type == pa.int64()
    assert table.schema.field("probability").type == pa.float32()
    assert table["id"].to_pylist()[:2] == ["r0", "r1"]
    assert table["prediction"].to_pylist() == table["label"].to_pylist()
    assert all(0.5 <= p <= 1 for p in table["probability"].to_pylist())


def test_string_and_boolean_labels_keep_their_type(run: Run, write: Write) -> None:
    for name, labels in (("names", ["no", "yes"]), ("truths", [False, True])):
        corpus = write(f"{name}.parquet", text=["dull", "good"] * 8, label=labels * 8)
        assert run("fit-gru", corpus, "-o", name, *TINY).code == 0
        assert {row["prediction"] for row in rows(run("predict", name, corpus))} <= {*labels}


def test_tagger_writes_a_tag_per_token(run: Run, models: Path, corpora: Path) -> None:
    corpus = corpora / "spoken.parquet"
    found = rows(run("predict", models / "spoken", corpus, "--keep", "tokens", "--keep", "tags"))
    assert [list(row) for row in found[:1]] == [["id", "tokens", "tags", "prediction"]]
    assert [row["id"] for row in found] == list(range(80))
    assert all(len(row["prediction"]) == len(row["tokens"]) for row in found)
    same = [row["prediction"] == row["tags"] for row in found]
    assert sum(same) > 70


def test_forecasts_are_in_the_row_they_predict(run: Run, models: Path, corpora: Path) -> None:
    words = ("predict", models / "wave", corpora / "wave.parquet", "--keep", "value")
    found = rows(run(*words))
    value = pq.read_table(corpora / "wave.parquet")["value"].to_pylist()
    assert list(found[0]) == ["id", "value", "row", "step", "prediction"]
    assert [row["row"] for row in found if row["step"] == 1] == list(range(8, len(value) + 1))
    assert [row["row"] for row in found if row["step"] == 2] == list(range(9, len(value) + 2))
    known = found[:-3]
    assert [row["value"] for row in known] == [value[row["row"]] for row in known]
    assert [row["id"] for row in known] == [row["row"] for row in known]
    errors = [abs(row["prediction"] - row["value"]) for row in known if row["step"] == 1]
    assert sum(errors) / len(errors) < 0.15
    assert [(r["id"], r["value"], r["row"] - len(value), r["step"]) for r in found[-3:]] == [
        (None, None, 0, 1),
        (None, None, 0, 2),
        (None, None, 1, 2),
    ]
    assert run(*words, "-o", "out.parquet").code == 0
    assert pq.read_table("out.parquet").to_pylist() == found
    lines = [line.split("\t") for line in run(*words, "--format", "tsv").out.splitlines()]
    assert lines[-1][:4] == ["", "", str(len(value) + 1), "2"]


def test_each_file_of_a_folder_is_a_series(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, n in (("a", 20), ("b", 4), ("c", 30)):
        table = pa.table(
            {"value": [float(i % 5) for i in range(n)], "day": [f"{name}{i}" for i in range(n)]}
        )
        pq.write_table(table, tmp_path / "data" / f"{name}.parquet")
    sizes = ("--hidden", "4", "--epochs", "1", "--window", "8", "--value-column", "value")
    ran = run("fit-lstm", "data", "--task", "forecast", "-o", "m", *sizes)
    assert ran.code == 0
    assert "1 of 3 series have fewer than 9 rows: left out: data/b.parquet (4)" in ran.err
    ran = run("predict", "m", "data", "--keep", "day")
    found = rows(ran)
    assert "1 of 3 series have fewer than 8 rows: left out: data/b.parquet (4)" in ran.err
    assert [(row["series"], row["day"]) for row in found] == [
        *(("data/a.parquet", f"a{i}") for i in range(8, 20)),
        ("data/a.parquet", None),
        *(("data/c.parquet", f"c{i}") for i in range(8, 30)),
        ("data/c.parquet", None),
    ]
    ran = run("predict", "m", "data", "--series-column", "day")
    assert ran.code == 0
    assert rows(ran) == []
    assert "54 of 54 series have fewer than 8 rows" in ran.err
    assert "fewer than 9 rows" in run("test", "m", "data").err


def test_standard_output_has_the_rows_of_the_file(run: Run, models: Path, corpora: Path) -> None:
    words = ("predict", models / "reviews", corpora / "reviews.parquet", "--keep", "text")
    assert run(*words, "-o", "out.parquet").code == 0
    kept = pq.read_table("out.parquet").to_pylist()
    assert rows(run(*words)) == rows(run(*words, "--format", "jsonl")) == kept
    header, *lines = [line.split("\t") for line in run(*words, "--format", "tsv").out.splitlines()]
    assert header == list(kept[0])
    assert [line[:3] for line in lines] == [
        [row["id"], row["text"], str(row["prediction"])] for row in kept
    ]
    tagged = ("predict", models / "spoken", corpora / "spoken.parquet", "--format", "tsv")
    assert run(*tagged).out.splitlines()[1] == "0\tB-PER O B-PER O B-LOC"


def test_rows_are_printed_as_they_are_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    class Found:
        total = 4
        schema = pa.schema({"id": pa.int64()})

        def __iter__(self) -> Any:
            for n in (0, 2):
                printed.append(capsys.readouterr().out)
                yield pa.table({"id": [n, n + 1]})

    for form, first in (("jsonl", '{"id": 0}\n{"id": 1}\n'), ("tsv", "id\n0\n1\n")):
        printed: list[str] = []
        calls: list[tuple[int, int | None]] = []
        _print(Found(), form, lambda *done, calls=calls: calls.append(done))  # type: ignore[arg-type]
        assert "".join(printed) == first, "before the second table is asked for"
        assert "3" in capsys.readouterr().out
        assert calls == [(2, 4), (4, 4)]


def test_labels_may_be_missing(run: Run, models: Path, write: Write) -> None:
    new = write("new.parquet", text=["a good film 1", "a dull film 2"], url=["u", "v"])
    words = ("--id-column", "url", "--quiet")
    found = rows(run("predict", models / "reviews", new, *words))
    assert [(row["id"], row["prediction"]) for row in found] == [("u", 1), ("v", 0)]


@pytest.mark.parametrize(
    ("model", "flag"),
    [("reviews", "text"), ("spoken", "tokens"), ("wave", "value")],
)
def test_column_options_rename_the_columns(
    run: Run, models: Path, corpora: Path, model: str, flag: str
) -> None:
    table = pq.read_table(corpora / f"{model}.parquet")
    other = table.rename_columns([f"{n}_2" if n == flag else n for n in table.column_names])
    pq.write_table(other, "other.parquet")
    words = (f"--{flag}-column", f"{flag}_2")
    assert f"'{flag}'" in run("predict", models / model, "other.parquet").error
    found = rows(run("predict", models / model, "other.parquet", *words))
    assert found == rows(run("predict", models / model, corpora / f"{model}.parquet"))


def test_repeated_keep_columns_are_written_once(run: Run, models: Path, corpora: Path) -> None:
    reviews = corpora / "reviews.parquet"
    once = rows(run("predict", models / "reviews", reviews, "--keep", "text"))
    words = ("--keep", "text", "--keep", "text")
    assert rows(run("predict", models / "reviews", reviews, *words)) == once


def test_the_data_is_never_overwritten(
    run: Run, models: Path, corpora: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        shutil.copy(corpora / "reviews.parquet", tmp_path / f"{name}.parquet")
    before = Path("b.parquet").read_bytes()
    for data in (("a.parquet", "b.parquet"), ("?.parquet",), (tmp_path,)):
        error = run("predict", models / "reviews", *data, "-o", "./b.parquet").error
        assert "b.parquet: is also an input" in error
        assert Path("b.parquet").read_bytes() == before
    words = ("predict", models / "reviews", "a.parquet", "-o", "b.parquet")
    assert run(*words).error.endswith(
        "not known to be predictions of fastseq: --overwrite replaces it"
    )
    assert Path("b.parquet").read_bytes() == before
    assert run(*words, "--overwrite").code == 0
    assert run(*words).code == 0  # what predict wrote, predict replaces


def test_data_without_rows_gives_no_rows(run: Run, models: Path, write: Write) -> None:
    empty = write("empty.parquet", text=pa.array([], pa.string()))
    assert run("predict", models / "reviews", empty, "-o", "out.parquet").code == 0
    assert pq.read_table("out.parquet").column_names == ["id", "prediction", "probability"]
    assert rows(run("predict", models / "reviews", empty)) == []


def test_rows_of_several_files_are_numbered_consecutively(
    run: Run, models: Path, corpora: Path
) -> None:
    spoken = corpora / "spoken.parquet"
    table = pq.read_table(spoken)
    pq.write_table(table.slice(0, 30), "a.parquet")
    pq.write_table(table.slice(30), "b.parquet")
    whole = rows(run("predict", models / "spoken", spoken))
    assert rows(run("predict", models / "spoken", "a.parquet", "b.parquet")) == whole
    assert rows(run("predict", models / "spoken", "?.parquet", "--threads", "3")) == whole


def test_empty_texts_are_counted(run: Run, models: Path, write: Write) -> None:
    odd = write("odd.parquet", text=["good film", "", None])
    ran = run("predict", models / "reviews", odd)
    assert len(rows(ran)) == 3
    assert "2 of 3 texts are empty (1 of them null)" in ran.err
    assert run("predict", models / "reviews", odd, "--quiet").err == ""


@pytest.mark.parametrize(
    ("model", "words", "said"),
    [
        ("reviews", ("spoken.parquet",), ("spoken.parquet", "text")),
        ("reviews", ("wave.parquet",), ("wave.parquet", "text")),
        ("spoken", ("reviews.parquet",), ("reviews.parquet", "tokens")),
        ("wave", ("reviews.parquet",), ("reviews.parquet", "value")),
        ("reviews", ("gone.parquet",), ("gone.parquet",)),
        ("reviews", ("reviews.parquet", "--keep", "stars"), ("stars", "label")),
        ("reviews", ("reviews.parquet", "--id-column", "stars"), ("stars",)),
        ("reviews", ("reviews.parquet", "--text-column", "stars"), ("stars", "label")),
        (
            "reviews",
            ("reviews.parquet", "--text-column", "text", "--text-column", "text"),
            ("the text column 'text' is named 2 times",),
        ),
        (
            "reviews",
            ("reviews.parquet", "--tokens-column", "text"),
            ("a classifier model has no --tokens-column; expected --text-column",),
        ),
        (
            "wave",
            ("wave.parquet", "--text-column", "value"),
            ("a forecaster model has no --text-column; expected --value-column",),
        ),
        ("reviews", ("reviews.parquet", "-o", "out.csv"), ("out.csv", ".parquet")),
        ("reviews", ("reviews.parquet", "-o", "no/such/out.parquet"), ("no/such",)),
        ("reviews", ("reviews.parquet", "--device", "cuda"), ("CUDA",)),
        ("book", ("book.parquet",), ("language model", "generate")),
        ("gone", ("reviews.parquet",), ("gone",)),
    ],
)
def test_errors_are_one_line(
    run: Run,
    models: Path,
    corpora: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    words: tuple[str, ...],
    said: tuple[str, ...],
) -> None:
    monkeypatch.chdir(corpora)
    before = set(corpora.iterdir())
    ran = run("predict", models / model, *words)
    assert ran.code == 1
    assert all(part in ran.error for part in said), ran.error
    assert set(corpora.iterdir()) == before


def test_keep_column_named_prediction_is_an_error(run: Run, models: Path, write: Write) -> None:
    again = write("again.parquet", text=["good"], prediction=[1])
    words = ("--keep", "prediction", "-o", "out.parquet")
    assert "'prediction'" in run("predict", models / "reviews", again, *words).error
    assert not Path("out.parquet").exists()


def test_index_is_not_a_model(run: Run, bilingual: Path, corpora: Path) -> None:
    error = run("predict", bilingual, corpora / "reviews.parquet").error
    assert "index" in error


def test_format_and_output_exclude_each_other(run: Run, models: Path, corpora: Path) -> None:
    words = ("-o", "out.parquet", "--format", "tsv")
    ran = run("predict", models / "reviews", corpora / "reviews.parquet", *words)
    assert ran.code == 2
    assert "-o" in ran.error
    assert run("predict", models / "reviews").code == 2
    reviews = corpora / "reviews.parquet"
    assert run("predict", models / "reviews", reviews, "--label-column", "label").code == 2
