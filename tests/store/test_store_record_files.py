"""JSON Lines, CSV and TSV: types, blocks of any size, compression, bad files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, FastseqWarning
from fastseq.kernels.text import records
from fastseq.store import record_files
from fastseq.store.dataset import open_sources
from fastseq.store.rows import Corpus, open_rows

BEIR = (
    '{"_id": "4983", "title": "Microstructural", "text": "Alterations", "metadata": {}}\n'
    '{"_id": "5836", "title": "", "text": "Myelodysplastic", "metadata": {}}\n'
)


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(source: Any, **options: Any) -> pa.Table:
    corpus = Corpus.open(source, **options)
    return pa.concat_tables(
        [corpus.stored_schema.empty_table(), *(b.kept for b in corpus.batches())]
    )


def texts(source: Any, **options: Any) -> list[str]:
    return [
        t for batch in Corpus.open(source, **options).batches() for t in batch.text.to_strings()
    ]


def packed(content: str, name: str) -> bytes:
    raw = content.encode()
    if name.endswith(".gz"):
        return gzip.compress(raw[:5]) + gzip.compress(raw[5:])  # two members
    return bytes(pa.compress(raw, "zstd", asbytes=True)) if name.endswith(".zst") else raw


# ---- JSON Lines


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.NDJSON", "corpus.json"])
def test_corpus_of_beir(name: str, suffix: str, tmp_path: Path) -> None:
    path = put(tmp_path / f"{name}{suffix}", packed(BEIR, name + suffix))
    corpus = Corpus.open(path, text_columns=["title", "text"])
    assert (corpus.id_column, corpus.num_rows) == ("_id", 2)
    assert texts(path, text_columns=["title", "text"]) == [
        "Microstructural Alterations",
        " Myelodysplastic",
    ]
    assert read(path).to_pylist()[0] == {
        "_id": "4983",
        "title": "Microstructural",
        "text": "Alterations",
        "metadata": None,
    }


def test_types_of_json(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "text": "2020-01-01", "n": 1, "ok": True, "tags": ["a"], "o": {"x": 1, "e": {}}},
        {"id": 2, "text": "2020-01-01T00:00:00Z", "n": 2.5, "tags": [], "late": "x"},
        {"id": 3, "text": None, "o": {"y": "z"}, "none": None, "empty": {}, "list": [{}]},
    ]
    path = put(tmp_path / "a.jsonl", "\n\n".join(map(json.dumps, rows)))
    table = read(path)
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "int64",
        "text": "string",
        "n": "double",
        "ok": "bool",
        "tags": "list<item: string>",
        "o": "struct<x: int64, y: string>",
        "late": "string",
        "none": "null",
        "empty": "null",
        "list": "null",
    }
    assert table.to_pylist()[2] == {
        "id": 3, "text": None, "n": None, "ok": None, "tags": None, "o": {"x": None, "y": "z"},
        "late": None, "none": None, "empty": None, "list": None,
    }  # fmt: skip
    assert texts(path) == ["2020-01-01", "2020-01-01T00:00:00Z", ""]


def test_columns_and_types_that_appear_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "BLOCK", 256)
    rows: list[dict[str, Any]] = [{"text": f"text {i}", "n": i, "m": {}} for i in range(100)]
    rows[90]["new"] = "x"
    rows[95]["n"] = 0.5
    rows[97]["m"] = {"url": "u"}
    table = read(put(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert [str(kind) for kind in table.schema.types] == [
        "string", "double", "struct<url: string>", "string",
    ]  # fmt: skip
    assert table.num_rows == 100
    assert (table["new"][90].as_py(), table["n"][95].as_py()) == ("x", 0.5)
    assert table["m"][97].as_py() == {"url": "u"}
    assert table["m"][0].as_py() in (None, {"url": None})


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv"])
def test_rows_larger_than_a_block(name: str, tmp_path: Path) -> None:
    long = "word " * 700_000
    if name == "a.jsonl":
        content = f"{json.dumps({'id': 'a', 'text': long})}\n{json.dumps({'id': 'b', 'text': 'c'})}"
    else:
        between = "," if name == "a.csv" else "\t"
        content = f"id{between}text\na{between}{long}\nb{between}c\n"
    assert texts(put(tmp_path / name, content)) == [long, "c"]


def test_row_beyond_the_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "BLOCK", 64)
    monkeypatch.setattr(record_files, "_LARGEST", 256)
    long = put(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "' + "x" * 500 + '"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: a row of more than 2 GB"):
        open_sources(long)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"text": "a"}\n{"text": "b"\n', r"line 2: not JSON \(Missing a comma"),
        (b'{"text": "a"}\n\n[1]\n', "line 3: expected a JSON object, not an array"),
        (b'{"text": "a"}{"text": "b"}\n', "line 1: expected a JSON object on each line"),
        (b'{"text":\n"a"}\n', "line 1: expected a JSON object on each line"),
        (b'[{"text": "a"}]\n', "line 1: expected a JSON object, not an array"),
        (b'{"text": "a", "text": "b"}\n', "line 1: the column 'text' occurs twice"),
        (b'{"text": "a"}\n{"text": 5}\n', "line 2: the column 'text' is a number, but a string in"),
        (
            b'{"o": {"x": 1}}\n{"o": {"x": "y"}}\n',
            "line 2: the column 'o.x' is a string, but a num",
        ),
        (b'{"text": "a"}\n{"te\xff": "b"}\n', "line 2: not JSON"),
        (b'{"text": "\\ud800"}\n', "line 1: not JSON"),
        (b"plain text\n", "line 1: not JSON"),
        (b"", "an empty file, expected Parquet, JSON Lines"),
    ],
)
@pytest.mark.parametrize("ahead", [0, 50])
def test_bad_json_names_file_and_line(
    content: bytes, problem: str, ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the line is not in the first block."""
    monkeypatch.setattr(record_files, "BLOCK", 64)
    if ahead and content:
        before = b'{"n": 1, "text": "0123456789"}\n' * ahead
        content = before + content
        number, _, rest = problem.removeprefix("line ").partition(":")
        if problem.startswith("line"):
            problem = rf"line {int(number) + ahead}:{rest}"
    path = put(tmp_path / "a.jsonl", content)
    with pytest.raises(DataError, match=problem) as error:
        Corpus.open(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_types_that_differ_between_blocks_name_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "BLOCK", 64)
    lines = [json.dumps({"id": i, "text": "some text"}) for i in range(40)]
    lines[33] = json.dumps({"id": "x33", "text": "some text"})
    path = put(tmp_path / "a.jsonl", "\n".join(lines))
    with pytest.raises(DataError) as error:
        Corpus.open(path)
    found = "line 34: the column 'id' is string, but int64 in earlier lines"
    assert found in str(error.value) or "line 34: the column 'id' is a string" in str(error.value)


def test_invalid_text_in_json_is_located(tmp_path: Path) -> None:
    from fastseq import Index

    path = put(tmp_path / "a.jsonl", b'{"text": "a"}\n{"text": "b\xff"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl: row 1 \(from 0\).*UTF-8"):
        Index.build(path, tmp_path / "index", threads=1)


# ---- CSV and TSV


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_csv(suffix: str, tmp_path: Path) -> None:
    content = 'id,title,text\r\n1,"a ""b""","two\r\nlines, and more"\r\n2,,""\r\n\r\n3,x "y" z,c'
    table = read(put(tmp_path / f"a.csv{suffix}", packed(content, suffix)))
    assert table.to_pylist() == [
        {"id": 1, "title": 'a "b"', "text": "two\r\nlines, and more"},
        {"id": 2, "title": None, "text": ""},
        {"id": 3, "title": 'x "y" z', "text": "c"},
    ]


def test_tsv_has_no_quotes(tmp_path: Path) -> None:
    path = put(tmp_path / "a.tsv", 'id\ttext\n1\t"never closed\n2\tb, "c"\n')
    assert read(path).to_pylist() == [
        {"id": 1, "text": '"never closed'},
        {"id": 2, "text": 'b, "c"'},
    ]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-20", "0"], "int64"),
        (["1", ""], "int64"),
        (["007", "8"], "string"),
        (["1", "007"], "string"),
        (["-0", "1"], "string"),
        (["0x10"], "string"),
        (["+1"], "double"),
        (["1", "2.5"], "double"),
        (["1.0", "2.0"], "double"),
        (["1e5", ".5", "5."], "double"),
        (["1.5", "x"], "string"),
        (["01.5"], "string"),
        (["nan", "inf"], "string"),
        (["9223372036854775807"], "int64"),
        (["9223372036854775808"], "string"),
        (["99999999999999999999", "1"], "string"),
        (["9007199254740993", "0.5"], "string"),
        (["true", "false"], "string"),
        (["2020-01-01"], "string"),
        (["", ""], "null"),
        (["1 ", "2"], "string"),
    ],
)
def test_types_of_csv(
    values: list[str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "a.csv", "v,text\n" + "".join(f"{v},x\n" for v in values))
    tables = [read(path)]
    monkeypatch.setattr(record_files, "BLOCK", 8)  # each row is a block
    tables.append(read(path))
    for table in tables:
        assert str(table.schema.field("v").type) == kind
        if kind == "string":
            assert table["v"].to_pylist() == [v or None for v in values]
        else:
            convert = int if kind == "int64" else float
            assert table["v"].to_pylist() == [convert(v) if v else None for v in values]


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (["12e4", "34e5"], "string"),
        (["1.1", "1.2"], "string"),
        (["1.0", "2"], "string"),
        (["1e400"], "string"),
        (["007", "8"], "string"),
        (["7", "+8"], "string"),
        (["7", "-8", "0"], "int64"),
        (["18446744073709551615"], "string"),
    ],
)
def test_ids_in_csv_are_integers_or_as_written(ids: list[str], kind: str, tmp_path: Path) -> None:
    lines = "".join(f"{id},a text\n" for id in ids)
    path = put(tmp_path / "a.csv", f"id,text\n{lines}".encode())
    for store in (None, []):
        (batch,) = Corpus.open(path, store=store).batches()
        assert str(batch.ids.type) == kind
        assert [str(id) for id in batch.ids.to_pylist()] == ids
    (batch,) = open_rows(path, "text", id="id", targets=False).batches()
    assert str(batch.ids.type) == kind


def test_ids_of_several_csv_files_are_strings_if_those_of_one_are(tmp_path: Path) -> None:
    paths = [
        put(tmp_path / "a.csv", b"id,text\n5,a\n"),
        put(tmp_path / "b.csv", b"id,text\nx,b\n"),
        put(tmp_path / "c.jsonl", b'{"id": "7", "text": "c"}\n'),
    ]
    for some in (paths, paths[::2]):
        ids = [id for batch in Corpus.open(some).batches() for id in batch.ids.to_pylist()]
        assert ids[0] == "5"


@pytest.mark.parametrize("size", [1, 20_000])
def test_integers_of_64_bits_in_json(size: int, tmp_path: Path) -> None:
    numbers = [*range(size), 2**64 - 1, 2**63]
    rows = [json.dumps({"id": n, "n": -n, "text": "a text of words"}) for n in numbers]
    path = put(tmp_path / "a.jsonl", "\n".join(rows).encode())
    corpus = Corpus.open(path, store=[])
    assert [id for batch in corpus.batches() for id in batch.ids.to_pylist()] == numbers
    assert corpus.data.type_of("n") == pa.float64(), "negative ones do not fit"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"id,text\n1,a\n2,b,c\n3,d\n", r"row 1 \(from 0\): 3 fields, but 2 in the header"),
        (b"id,text\n\n\n1,a\n\n2,b,c\n3,d\n", r"row 1 \(from 0\): 3 fields, but 2 in the header"),
        (b"id,text\n1,a\n2\n", r"row 1 \(from 0\): 1 fields, but 2 in the header"),
        (b'id,text\n1,a\n2,"b\n3,c\n', "line 3: a quote is not closed"),
        (b"\n\n", "Empty CSV file|no header"),
        (b"id,te\xff\n1,a\n", "utf-8"),
        (b"text,text\na,b\n", "2 columns called 'text'"),
    ],
)
def test_bad_csv_names_file_and_row(content: bytes, problem: str, tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", content)
    with pytest.raises(DataError, match=problem) as error:
        list(Corpus.open(path).batches())
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_wrong_number_of_fields_in_a_later_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "BLOCK", 64)
    rows = [f"{i},text\n" for i in range(100)]
    rows[77] = "77,a,b\n"
    path = put(tmp_path / "a.csv", "id,text\n" + "".join(rows))
    with pytest.raises(DataError, match=r"a\.csv: row 77 \(from 0\): 3 fields"):
        Corpus.open(path)


def test_blocks_of_csv_in_partitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "BLOCK", 64)
    (tmp_path / "lang=en").mkdir()
    rows = [{"id": i, "text": f"word {i}", "lang": "en"} for i in range(100)]
    put(
        tmp_path / "lang=en" / "a.csv",
        "id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in rows),
    )
    assert read(tmp_path).to_pylist() == rows


@pytest.mark.parametrize("content", ["id,text\n", "id,text"])
def test_header_alone(content: str, tmp_path: Path) -> None:
    data = open_sources(put(tmp_path / "a.csv", content))
    assert (data.num_rows, list(data.types)) == (0, ["id", "text"])
    assert list(data.read(["text"], 100)) == []


# ---- empty lines of CSV

ENDS = pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])


@ENDS
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
@pytest.mark.parametrize("block", [*range(1, 9), 1 << 20])
def test_empty_lines_of_a_single_column_are_rows(
    name: str, end: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the blocks of the file begin, and without a notice."""
    monkeypatch.setattr(record_files, "BLOCK", block)
    lines = ["text", "", "a cat", "", "", "7", "a dog", ""]
    path = put(tmp_path / name, packed(end * 2 + "".join(line + end for line in lines), name))
    assert read(path)["text"].to_pylist() == [line or None for line in lines[1:]]
    corpus = Corpus.open(path)
    assert corpus.num_rows == len(lines) - 1
    assert sum(batch.null_texts for batch in corpus.batches()) == 4
    put(path, packed(end.join(lines), name))  # no line after the last end
    assert read(path)["text"].to_pylist() == [line or None for line in lines[1:-1]]


def test_empty_lines_before_and_after_the_header_of_a_single_column(tmp_path: Path) -> None:
    assert read(put(tmp_path / "a.csv", "\n\r\ntext\n\na\n"))["text"].to_pylist() == [None, "a"]
    assert open_sources(put(tmp_path / "a.csv", "\rtext\r")).num_rows == 0
    assert read(put(tmp_path / "b.csv", "text\n\n"))["text"].to_pylist() == [None]
    assert read(put(tmp_path / "c.csv", 'text\n""\n'))["text"].to_pylist() == [""]
    assert open_sources(put(tmp_path / "d.csv", "text\n")).num_rows == 0
    numbers = read(put(tmp_path / "e.csv", "n\n1\n\n3\n"), text_columns="n")["n"]
    assert numbers.to_pylist() == ["1", None, "3"]
    assert str(open_sources(tmp_path / "e.csv").type_of("n")) == "int64"
    folder = tmp_path / "p" / "lang=en"  # a column that is not the file's
    folder.mkdir(parents=True)
    put(folder / "f.csv", "text\na\n\n")
    assert read(tmp_path / "p").to_pylist() == [
        {"text": "a", "lang": "en"}, {"text": None, "lang": "en"},
    ]  # fmt: skip


@ENDS
@pytest.mark.parametrize("block", [*range(1, 9), 1 << 20])
def test_empty_lines_of_several_columns_are_counted(
    end: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "BLOCK", block)
    lines = ["", "id,text", "", "1,a", "", "", '2,"b', "", 'c"', "3,", "", ""]
    path = put(tmp_path / "a.csv", end.join([*lines, ""]))
    with pytest.warns(FastseqWarning, match=r"a\.csv: 6 empty lines are skipped$") as caught:
        table = read(path)
    assert len(caught) == 1
    assert table["text"].to_pylist() == ["a", f"b{end}{end}c", None]
    with pytest.raises(DataError, match=r"row 3 \(from 0\): 3 fields"):
        open_sources(put(path, end.join([*lines, "4,a,b"])))


def test_empty_lines_of_several_files_are_one_notice(tmp_path: Path) -> None:
    for name, content in {
        "a": "a\n\nb\n",
        "b": "\nx,text\n1,a\n",
        "c": "x,text\n1,a\n\n\n",
    }.items():
        put(tmp_path / f"{name}.csv", f"{content}")
    with pytest.warns(FastseqWarning) as caught:
        open_sources(tmp_path)
    (notice,) = caught
    assert str(notice.message) == f"{tmp_path / 'b.csv'} and 1 more: 3 empty lines are skipped"
    put(tmp_path / "c.csv", "x,text\n1,a\n")
    with pytest.warns(FastseqWarning, match=r"b\.csv: 1 empty line is skipped$"):
        open_sources(tmp_path)


# ---- both


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.csv.zst"])
def test_damaged_compression(name: str, tmp_path: Path) -> None:
    content = BEIR * 50 if "json" in name else "id,text\n" + "1,some text\n" * 500
    whole = packed(content, name)
    with pytest.raises(DataError, match=rf"{name}: cannot be read \(") as error:
        list(Corpus.open(put(tmp_path / name, whole[:-9])).batches())
    assert "\n" not in str(error.value)


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    for name, content in {"a.jsonl": '{"text": "a"}', "a.csv": "text\na\n"}.items():
        assert texts(put(tmp_path / name, b"\xef\xbb\xbf" + content.encode())) == ["a"]


def test_content_of_parquet_under_another_name(tmp_path: Path) -> None:
    for name in ("a.csv", "a.jsonl", "a.data", "noname"):
        pq.write_table(pa.table({"text": ["a"]}), tmp_path / name)
        assert texts(tmp_path / name) == ["a"]
    with pytest.raises(DataError, match=r"notes\.txt: not Parquet, and no name of another format"):
        open_sources(put(tmp_path / "notes.txt", "hello"))
    with pytest.raises(DataError, match="not a Parquet file, or one cut short"):
        open_sources(put(tmp_path / "b.parquet", '{"text": "a"}'))


def test_files_of_several_formats_are_one_corpus(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", '{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n')
    put(tmp_path / "b.csv", "id,text,n\nc,three,5\n")
    pq.write_table(pa.table({"id": ["d"], "text": ["four"]}), tmp_path / "c.parquet")
    corpus = Corpus.open(tmp_path)
    assert corpus.num_rows == 4
    assert texts(tmp_path) == ["one", "two", "three", "four"]
    assert read(tmp_path)["n"].to_pylist() == [None, None, 5, None]
    assert corpus.where(2) == f"{tmp_path / 'b.csv'}: row 0 (from 0)"


SAFE = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
# that no text is a number, which CSV does not distinguish
TEXTS = st.one_of(st.none(), SAFE.map("t{}".format))
TYPES = [
    (pa.string(), SAFE.map("s{}".format)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float64(), st.floats(-1e300, 1e300)),
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A column of texts and others of one type each, with nulls."""
    rows = draw(st.integers(1, 12))

    def column(values: st.SearchStrategy[Any], kind: pa.DataType) -> pa.Array:
        return pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), kind)

    columns = {"text": column(TEXTS, pa.string())}
    for name in draw(st.lists(st.sampled_from(["n", "Größe", "a b", "q,r"]), unique=True)):
        kind, values = draw(st.sampled_from(TYPES))
        columns[name] = column(st.one_of(st.none(), values), kind)
    return pa.table(columns)


PROPERTY = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@given(table=tables(), block=st.integers(1, 300), max_bytes=st.integers(1, 100))
@PROPERTY
def test_documents_are_the_same_in_every_format(
    table: pa.Table, block: int, max_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "BLOCK", block)
    pq.write_table(table, tmp_path / "a.parquet")
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist()]
    put(tmp_path / "a.jsonl", "".join(lines))
    pc.write_csv(table, tmp_path / "a.csv")  # a null in a single column is an empty line
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        corpus = Corpus.open(tmp_path / name, text_columns="text")
        batches = list(corpus.batches(max_bytes))
        found = [text for batch in batches for text in batch.text.to_strings()]
        assert found == [text or "" for text in table["text"].to_pylist()], name
        assert sum(b.null_texts for b in batches) == table["text"].null_count, name
        assert corpus.num_rows == table.num_rows
        stored = pa.concat_tables([b.kept for b in batches])
        assert stored.schema.names == table.schema.names
        for column in table.schema.names:
            values, wanted = stored[column].to_pylist(), table[column].to_pylist()
            if name == "a.csv" and pa.types.is_floating(table.schema.field(column).type):
                # of 16 digits and more: strings, as they are written
                values = [None if value is None else float(value) for value in values]
            assert values == wanted, (name, column)


@given(rows=st.lists(st.lists(SAFE, min_size=2, max_size=2), min_size=1), block=st.integers(1, 60))
@PROPERTY
def test_csv_of_pythons_writer(
    rows: list[list[str]], block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "BLOCK", block)
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([["key", "text"], *rows, ["", "a text"]])
    path = put(tmp_path / "a.csv", out.getvalue())
    assert texts(path, text_columns="text") == [*(text for _, text in rows), "a text"]


def test_memory_is_a_few_blocks(tmp_path: Path) -> None:
    row = json.dumps({"id": "x", "text": "word " * 200}) + "\n"
    put(tmp_path / "a.jsonl", row * 200_000)
    program = f"""
        import resource
        import pyarrow.json
        from fastseq.store.rows import Corpus
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert sum(b.rows for b in Corpus.open({str(tmp_path / "a.jsonl")!r}).batches()) == 200_000
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(grown)
        assert grown < 100 << 10, grown
    """
    lines = "\n".join(line.strip() for line in program.splitlines())
    subprocess.run([sys.executable, "-c", lines], check=True)


def test_readers_are_imported_only_for_their_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    program = f"""
import sys
from fastseq.store.rows import Corpus
assert [b.rows for b in Corpus.open({str(tmp_path / "a.parquet")!r}).batches()] == [1]
readers = {{"pyarrow.json", "pyarrow.csv", "fastseq.store.record_files", "pandas"}}
assert not readers & set(sys.modules), readers & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_numbers_are_text_in_csv(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", "id,text,n\n1,007,5\n2,8.50,6\n")
    assert texts(path) == ["007", "8.50"]
    assert texts(path, text_columns=["text", "n"]) == ["007 5", "8.50 6"]
    assert read(path)["n"].to_pylist() == [5, 6]
    (batch,) = open_rows(path, "text", text="n", label="id").batches()
    assert batch.text.to_strings() == ["5", "6"]
    lines = put(tmp_path / "a.jsonl", '{"text": 5}\n')
    with pytest.raises(DataError, match="the text column 'text' is int64, expected strings"):
        Corpus.open(lines)


# ---- the cutting of blocks


def naive_ends(data: bytes, quotes: bool) -> tuple[list[int], bool, int]:
    """The ends of all records, whether a quote is open after the last byte, and how many of the
    records are empty lines."""
    ends, at, empty = [], 0, 0
    while at < len(data):
        field_start, done = True, False
        if data[at : at + 1] in (b"\n", b"\r"):
            of_cr = data[at - 1 : at + 1] == b"\r\n"  # the end of a record before
            empty += not of_cr
        while not done:
            if at == len(data):
                return ends, False, empty
            if field_start and quotes and data[at : at + 1] == b'"':
                at += 1
                while data[at : at + 1] != b'"' or data[at : at + 2] == b'""':
                    at += 2 if data[at : at + 2] == b'""' else 1
                    if at >= len(data):
                        return ends, True, empty
                at += 1
                field_start = False
                continue
            field_start = data[at : at + 1] == b","
            done = data[at : at + 1] in (b"\n", b"\r")
            at += 1
        ends.append(at)
    return ends, False, empty


@given(
    data=st.text('a",\n\r', max_size=40).map(str.encode),
    cuts=st.lists(st.integers(0, 40)),
    quotes=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_records_end_where_a_naive_reader_ends_them(
    data: bytes, cuts: list[int], quotes: bool
) -> None:
    state = np.array([records.RECORD_START, 0], np.int64)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = 0
    quote = ord('"') if quotes else records.NO_QUOTES
    for start, stop in pairwise(edges):
        part = np.frombuffer(bytearray(data[start:stop]), np.uint8)
        end = records.last_record_end(state, part, ord(","), quote)
        found = start + end if end else found
    ends, is_open, empty = naive_ends(data, quotes)
    if data.endswith(b'"') and state[0] == records.AFTER_QUOTE:
        is_open = False  # a quote at the end may be the closing one
    # after a carriage return at the end of a part, a line feed may follow
    sure = [end for end in ends if data[end - 1 : end] == b"\n" or end not in edges]
    assert found == max(sure, default=0)
    assert state[1] == empty
    assert (state[0] == records.IN_QUOTES) == is_open
