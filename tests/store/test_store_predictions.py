"""Predictions: types, ids, columns to keep, atomic files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastseq.errors import DataError, SettingsError
from fastseq.store import predictions
from fastseq.store.predictions import Predictions, TagLists
from fastseq.store.rows import RowBatch, open_rows
from fastseq.types import Categories

TABLE = pa.table(
    {"doc_id": ["p", "q", "r"], "text": ["a", "b", "c"], "year": pa.array([1, 2, 3], pa.int16())}
)


def labels(codes: list[int], *values: Any) -> Categories:
    return Categories(values, np.array(codes, np.int32))


@pytest.mark.parametrize(
    ("kind", "values"),
    [("string", ("no", "yes")), ("bool", (False, True)), ("int16", (-3, 5)), ("int64", (0, 2**40))],
)
def test_labels_are_written_in_their_own_type(
    kind: str, values: tuple[Any, ...], tmp_path: Path
) -> None:
    path = tmp_path / "out.parquet"
    reader = open_rows(TABLE, "text", keep=["year"], targets=False)

    def predicted() -> Iterator[tuple[RowBatch, dict[str, Any]]]:
        for batch in reader.batches():
            probability = np.array([0.5, 0.25, 1.0], np.float32)
            yield batch, {"prediction": labels([1, 0, -1], *values), "probability": probability}
            assert not path.exists()

    outputs = {"prediction": kind, "probability": "float"}
    assert Predictions(reader, outputs, predicted()).write(path) == 3
    found = pq.read_table(path)
    assert found.schema.names == ["id", "year", "prediction", "probability"]
    assert found.schema.field("prediction").type == pa.type_for_alias(kind)
    assert found.schema.field("year").type == pa.int16()
    assert found.to_pydict() == {
        "id": ["p", "q", "r"],
        "year": [1, 2, 3],
        "prediction": [values[1], values[0], None],
        "probability": [0.5, 0.25, 1.0],
    }


def test_tags_and_forecasts_are_lists(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    source = pa.table({"tokens": [["a", "b"], [], ["c"]]})
    reader = open_rows(source, "tokens", keep="tokens", targets=False)
    batch = next(reader.batches())
    assert batch.token_offsets is not None
    tags = TagLists(labels([0, 1, 1], "X", "Y"), batch.token_offsets)
    columns = {"tags": tags, "v": np.arange(6, dtype=np.float64).reshape(3, 2)}
    outputs = {"tags": "list<string>", "v": "list<float>"}
    Predictions(reader, outputs, [(batch, columns)]).write(path)
    found = pq.read_table(path).to_pydict()
    assert found["tags"] == [["X", "Y"], [], ["Y"]]
    assert found["v"] == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert found["tokens"] == [["a", "b"], [], ["c"]]
    assert found["id"] == [0, 1, 2]


def test_nan_becomes_null(tmp_path: Path) -> None:
    path, nan = tmp_path / "out.parquet", float("nan")
    outputs = {"one": "double", "several": "list<double>"}
    reader = open_rows(TABLE, "text", targets=False)
    several = np.array([[nan, nan], [1.0, nan], [2.0, 3.0]])
    columns = {"one": np.array([nan, 1.0, 2.0]), "several": several}
    Predictions(reader, outputs, [(next(reader.batches()), columns)]).write(path)
    found = pq.read_table(path)
    assert found["one"].to_pylist() == [None, 1.0, 2.0]
    assert found["several"].to_pylist() == [None, [1.0, None], [2.0, 3.0]]
    assert found.schema.field("several").type == pa.list_(pa.float64())


def test_row_numbers_continue_across_batches_and_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "GROUP_ROWS", 10)
    path = tmp_path / "out.parquet"
    reader = open_rows(pa.table({"text": ["word"] * 100}), "text", targets=False)
    found = ((b, {"p": np.full(b.rows, b.first_row, np.float32)}) for b in reader.batches(16))
    Predictions(reader, {"p": "float"}, found).write(path)
    assert pq.read_table(path).column("id").to_pylist() == list(range(100))
    assert pq.ParquetFile(path).num_row_groups > 5
    empty = open_rows(pa.table({"text": pa.array([], pa.string())}), "text", targets=False)
    assert Predictions(empty, {"prediction": "string"}, []).write(path) == 0
    assert pq.read_table(path).schema.names == ["id", "prediction"]
    assert pq.read_table(path).num_rows == 0


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    path.write_bytes(b"before")
    reader = open_rows(TABLE, "text", targets=False)
    batch = next(reader.batches())

    def predicted() -> Iterator[tuple[RowBatch, dict[str, Any]]]:
        yield batch, {"p": np.zeros(3, np.float32)}
        raise RuntimeError("model")

    with pytest.raises(RuntimeError, match="model"):
        Predictions(reader, {"p": "float"}, predicted()).write(path, overwrite=True)
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["out.parquet"]


def test_mismatched_columns_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    reader = open_rows(TABLE, "text", targets=False)
    batch = next(reader.batches())
    for columns, said in (
        ({}, "expected .'p'."),
        ({"p": np.zeros(3), "q": np.zeros(3)}, "expected .'p'."),
        ({"p": np.zeros(2)}, "2 of 'p', expected one for each of 3"),
        ({"p": labels([0, 0, 0], "x")}, "not float"),
    ):
        with pytest.raises(DataError, match=said):
            Predictions(reader, {"p": "float"}, [(batch, columns)]).write(path)
    assert not path.exists()


def test_kept_columns_may_not_have_a_name_of_the_output(tmp_path: Path) -> None:
    taken = TABLE.append_column("prediction", pa.array([1, 2, 3]))
    for keep, table in (("prediction", taken), ("id", TABLE.append_column("id", [[1, 2, 3]]))):
        reader = open_rows(table, "text", text="text", id="doc_id", keep=keep, targets=False)
        with pytest.raises(SettingsError, match=f"the column '{keep}' cannot be kept"):
            Predictions(reader, {"prediction": "string"}, [])
    twice = open_rows(TABLE, "text", keep=["year", "text", "year"], targets=False)
    [table] = Predictions(twice, {}, ((batch, {}) for batch in twice.batches()))
    assert table.schema.names == ["id", "year", "text"]
    assert table["year"].to_pylist() == [1, 2, 3]
    same = TABLE.rename_columns(["id", "text", "year"])
    reader = open_rows(same, "text", keep=["id", "year"], targets=False)
    assert Predictions(reader, {}, []).schema.names == ["id", "year"]
    with pytest.raises(SettingsError, match="no such folder"):
        Predictions(reader, {}, []).write(tmp_path / "no" / "o.parquet")


def test_inputs_are_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        pq.write_table(TABLE, f"{name}.parquet")
    (tmp_path / "link.parquet").symlink_to("b.parquet")
    before = (tmp_path / "b.parquet").read_bytes()
    reader = open_rows(["a.parquet", "b.parquet"], "text", targets=False)
    for path in ("b.parquet", "link.parquet", tmp_path / "x" / ".." / "b.parquet"):
        with pytest.raises(SettingsError, match=r"is also an input"):
            Predictions(reader, {"p": "float"}, []).write(path)
        assert (tmp_path / "b.parquet").read_bytes() == before
    assert Predictions(reader, {"p": "float"}, []).write("c.parquet") == 0
    table = open_rows(TABLE, "text", targets=False)
    assert Predictions(table, {"p": "float"}, []).write(table.sources[0].name) == 0


# ---- a batch at a time


def test_tables_are_lazy_and_equal_the_written_file(tmp_path: Path) -> None:
    made: list[int] = []

    def predictions_of() -> Predictions:
        reader = open_rows(TABLE, "text", keep=["year"], targets=False)

        def found() -> Any:
            for batch in reader.batches(max_bytes=1):
                made.append(batch.first_row)
                yield batch, {"prediction": labels([0] * batch.rows, "x")}

        return Predictions(reader, {"prediction": "string"}, found())

    found = predictions_of()
    assert (found.schema.names, found.total) == (["id", "year", "prediction"], 3)
    assert made == []
    tables = iter(found)
    first = next(tables)
    assert made == [0], "nothing is made before it is asked for"
    whole = pa.concat_tables([first, *tables])
    assert whole.to_pydict() == {"id": ["p", "q", "r"], "year": [1, 2, 3], "prediction": ["x"] * 3}
    told: list[tuple[int, int | None]] = []
    path = tmp_path / "out.parquet"
    assert predictions_of().write(path, lambda done, total: told.append((done, total))) == 3
    assert pq.read_table(path).equals(whole)
    assert told == [(1, 3), (2, 3), (3, 3)]
    reader = open_rows(TABLE, "text", keep=["year"], targets=False)
    with pytest.raises(SettingsError, match="'year' cannot be kept"):
        Predictions(reader, {"year": "string"}, [])
