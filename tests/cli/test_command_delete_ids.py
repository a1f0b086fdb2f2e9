"""fastseq delete --ids: files of every format, the column of ids, messages about single ids."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from tests.cli.conftest import Run, Write


@pytest.fixture
def cats(run: Run, write: Write) -> Path:
    """An index in the default folder."""
    corpus = write("cats.parquet", id=["a", "b", "e"], text=["A cat", "A dog", "A mouse"])
    assert run("index", corpus).code == 0
    return corpus


def _ids_in_formats() -> dict[str, bytes]:
    lines = b'{"id": "b", "text": "x"}\n{"id": "e", "text": "y"}\n{"id": "k", "text": "z"}\n'
    csv = b"text,id\nx,b\ny,e\nz,k\n"
    return {
        "ids.jsonl": lines,
        "ids.json": lines,
        "ids.ndjson.gz": gzip.compress(lines),
        "ids": lines,
        "ids.csv": csv,
        "one.csv": b"id\nb\ne\nk\n",
        "ids.csv.zst": pa.compress(csv, "zstd", asbytes=True),
        "ids.tsv": csv.replace(b",", b"\t"),
        "only.jsonl": b'{"key": "b"}\n{"key": "e"}\n{"key": "k"}\n',
        "ids.txt.gz": gzip.compress(b"b\ne\nk\n"),
        "ids.zst": pa.compress(b"b\ne\nk\n", "zstd", asbytes=True),
    }


@pytest.mark.parametrize("name", _ids_in_formats())
def test_ids_in_every_format(run: Run, cats: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(_ids_in_formats()[name])
    ran = run("delete", "--ids", name)
    assert (ran.pairs["deleted"], ran.pairs["unknown ids"]) == ("2", "1")
    assert ran.err == "no document has the id 'k'\n"


def test_compressed_ids_and_json_lines_on_standard_input(run: Run, cats: Path) -> None:
    assert run("delete", "--ids", "-", stdin=gzip.compress(b"b\n")).pairs["deleted"] == "1"
    assert run("delete", "--ids", "-", stdin='{"id": "e"}\n').pairs["deleted"] == "1"
    ran = run("delete", "--ids", "-", stdin="{01234567-89ab-cdef-0123-456789abcdef}\n")
    assert ran.pairs["unknown ids"] == "1"


def test_ids_are_read_from_the_id_column_of_the_index(
    run: Run, write: Write, tmp_path: Path
) -> None:
    (tmp_path / "docs.csv").write_text("key,id,text\n1,3,x\n2,4,y\n3,5,z\n")
    assert run("index", "docs.csv", "--id-column", "key", "--text-column", "text").code == 0
    (tmp_path / "ids.csv").write_text("key,id\n1,3\n")
    assert run("delete", "--ids", "ids.csv").pairs["deleted"] == "1"
    assert run("delete", "1").pairs["deleted"] == "0"
    assert run("delete", "--ids", write("ids.parquet", key=[2], id=[3])).pairs["deleted"] == "1"
    assert run("delete", "3").pairs["deleted"] == "1"


def test_ids_in_csv_are_as_they_are_written(run: Run, write: Write, tmp_path: Path) -> None:
    assert run("index", write("docs.parquet", id=["1", "01"], text=["x", "y"])).code == 0
    (tmp_path / "ids.csv").write_text("id\n1\n")
    assert run("delete", "--ids", "ids.csv").pairs["deleted"] == "1"
    assert run("delete", "01").pairs["deleted"] == "1"


def test_ids_of_another_type_in_a_file_are_located(run: Run, write: Write, tmp_path: Path) -> None:
    assert run("index", write("numbers.parquet", id=[1, 2], text=["x", "y"])).code == 0
    (tmp_path / "ids.txt").write_text("1\n\nx\n")
    (tmp_path / "ids.csv").write_text("id\n1\nx\n")
    said = run("delete", "--ids", "ids.txt").error
    assert "ids.txt, line 3: the id 'x' (str) is of another type: expected integers" in said
    said = run("delete", "--ids", "ids.csv").error
    assert "ids.csv: row 1 (from 0): the id 'x' (str) is of another type" in said
    said = run("delete", "--ids", write("floats.parquet", id=[1.0, 1.5])).error
    assert "floats.parquet: row 1 (from 0): the id is 1.5" in said
    assert run("info", ".fastseq/index").pairs["documents"] == "2"


def test_integers_out_of_range_are_unknown(run: Run, write: Write) -> None:
    assert run("index", write("numbers.parquet", id=[1, 2], text=["x", "y"])).code == 0
    huge = "9" * 20
    ran = run("delete", "--", huge, "1", huge, "-9" + huge, "9" * 5000)
    assert (ran.pairs["deleted"], ran.pairs["unknown ids"]) == ("1", "3")
    assert f"the ids '{huge}', '-9{huge}', '{'9' * 80}'…\n" in ran.err
    path = write("large.parquet", id=pa.array([2**64 - 1, 2], pa.uint64()))
    ran = run("delete", "--ids", path)
    assert (ran.pairs["deleted"], ran.pairs["unknown ids"]) == ("1", "1")
    assert ran.err == f"no document has the id {2**64 - 1}\n"


def test_long_ids_are_shortened_in_messages(run: Run, cats: Path) -> None:
    assert run("delete", "x" * 80).err == f"no document has the id '{'x' * 80}'\n"
    assert run("delete", "x" * 100_000).err == f"no document has the id '{'x' * 80}'…\n"
    assert f"no documents contain '{'y' * 80}'…\n" in run("search", "y" * 90).err
