"""Files of data: standard input, file systems by URI, folders and globs of every format."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from fastseq.errors import DataError, FastseqWarning, SettingsError
from fastseq.store import data_files as module
from fastseq.store.data_files import find_files
from fastseq.store.dataset import open_sources
from fastseq.store.locations import (
    Location,
    format_of,
    glob_matches,
    is_uri,
    local_path,
    suffix_of,
)
from fastseq.store.outputs import check_folder, check_output
from fastseq.store.rows import Corpus, open_rows

TABLE = pa.table({"id": ["a", "b"], "text": ["one", "two"]})


def texts(source: Any) -> list[str]:
    return [t for batch in Corpus.open(source).batches() for t in batch.text.to_strings()]


def contents() -> dict[str, bytes]:
    """The table in each format."""
    parquet, stream, file = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(TABLE, parquet)
    with pa.ipc.new_stream(stream, TABLE.schema) as writer:
        writer.write_table(TABLE)
    with pa.ipc.new_file(file, TABLE.schema) as writer:
        writer.write_table(TABLE, 1)
    lines = b'{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n'
    found = {
        "Parquet": parquet.getvalue(),
        "Arrow stream": stream.getvalue(),
        "Arrow file": file.getvalue(),
        "JSON Lines": lines,
        "CSV": b"id,text\na,one\nb,two\n",
        "TSV": b"id\ttext\na\tone\nb\ttwo\n",
    }
    packed = {
        f"{name} in zstd": pa.compress(found[name], "zstd", asbytes=True) for name in ("CSV",)
    }
    return found | {name: bytes(data) for name, data in packed.items()}


class Input:
    """Standard input over bytes, or over a file."""

    def __init__(self, data: Any) -> None:
        self.buffer = data if hasattr(data, "read") else io.BytesIO(data)
        self.closed = False


# ---- standard input


@pytest.mark.parametrize("name", contents())
@pytest.mark.parametrize("is_file", [False, True])
def test_standard_input_in_every_format(
    name: str, is_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data: Any = contents()[name]
    if is_file:
        (tmp_path / "input").write_bytes(b"skip" + data)
        data = open(tmp_path / "input", "rb")  # noqa: SIM115
        data.seek(4)
    monkeypatch.setattr(sys, "stdin", Input(data))
    for dash in ("-", Path("-"), ["-"], Location("-"))[: 4 if is_file else 2]:
        if dash != ["-"]:
            assert texts(dash) == ["one", "two"], "it can be opened again"
    corpus = Corpus.open(Path("-"))
    assert next(corpus.batches()).source == "standard input"
    assert corpus.where(1) == "standard input: row 1 (from 0)"


def test_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, data in contents().items():
        read_end, write_end = os.pipe()
        os.write(write_end, data)
        os.close(write_end)
        with open(read_end, "rb") as pipe:
            monkeypatch.setattr(sys, "stdin", Input(pipe))
            assert texts("-") == ["one", "two"], name


def test_named_pipes(tmp_path: Path) -> None:
    for name, data in contents().items():
        pipe = tmp_path / name
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        assert texts(pipe) == texts(str(pipe)) == ["one", "two"], "read once, opened twice"
        writer.join()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "standard input is empty, expected Parquet, JSON Lines"),
        (b"\0\1\2\3", "standard input: of no known format"),
        (b'{"id": 1, "text": "a"}\nx\n', "standard input, line 2: not JSON"),
        (b"id,text\n1,a,b\n", r"standard input: row 0 \(from 0\): 3 fields"),
        (
            b"some prose\nof cats\n",
            "of no known format: the first line .* or the single column 'text'$",
        ),
        (b"id;text\n1;a\n", "of no known format: the first line is neither a JSON object nor"),
        (b'[\n {"text": "a"}\n]\n', "standard input, line 1: expected a JSON object, not an array"),
        (b'[{"text": "a"}]', "standard input, line 1: expected a JSON object, not an array"),
        (b"PAR1 cut", "standard input: not a Parquet file, or one cut short"),
        (b"\xff\xff\xff\xff\x10\0", "standard input: "),
    ],
)
def test_bad_standard_input(data: bytes, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Input(data))
    with pytest.raises(DataError, match=problem) as error:
        Corpus.open("-")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"text\none\ntwo\n", b'\xef\xbb\xbf\r\n"text"\r\none\r\ntwo\r\n'])
def test_standard_input_of_a_single_column(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Input(data))
    assert texts("-") == ["one", "two"]
    with pytest.raises(DataError, match=r"or the single column 'review'$"):
        Corpus.open("-", text_columns="review")
    monkeypatch.setattr(sys, "stdin", Input(data.replace(b"text", b"review")))
    assert Corpus.open("-", text_columns="review").num_rows == 2
    with pytest.raises(DataError, match=r"or the single column 'text'$"):
        open_rows("-", "text", targets=False)
    monkeypatch.setattr(sys, "stdin", Input(b"value\n1\n2\n"))
    assert open_rows("-", "values", targets=False).fields.values == ("value",)


def test_standard_input_that_is_closed_or_named_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Input(b"id,text\na,b\n"))
    with pytest.raises(SettingsError, match="named twice"):
        Corpus.open([Path("-"), Path("-")])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        Corpus.open("-")


def test_standard_input_among_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"id": ["x"], "text": ["zero"]}), tmp_path / "a.parquet")
    monkeypatch.setattr(sys, "stdin", Input(contents()["CSV"]))
    assert texts([tmp_path / "a.parquet", Path("-")]) == ["zero", "one", "two"]


# ---- file systems


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = contents()
    root = tmp_path / "data"
    (root / "lang=en").mkdir(parents=True)
    (root / "lang=de").mkdir()
    (root / "a b.parquet").write_bytes(data["Parquet"])
    (root / "lang=en" / "b.jsonl").write_bytes(data["JSON Lines"].replace(b"o", b"0"))
    (root / "lang=de" / "c.CSV.zst").write_bytes(data["CSV in zstd"])
    (root / "notes.txt").write_text("x")
    (root / "_SUCCESS").touch()
    (root / "single.json").write_text('{\n"a": 1}\n')
    (root / "model" / "data-000001").mkdir(parents=True)
    (root / "model" / "manifest.json").write_text("{}")
    (root / "model" / "data-000001" / "x.parquet").write_bytes(data["Parquet"])
    return root


class BucketSystem:
    """`FileSystem.from_uri` for bucket://name/path: folders below a root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []

    def from_uri(self, uri: str) -> tuple[Any, str]:
        self.asked.append(uri)
        if not uri.startswith("s3://"):
            return pafs.FileSystem.from_uri(uri)
        if "denied" in uri:
            raise OSError("When reading information for the bucket: AWS Error ACCESS_DENIED\nmore")
        local = pafs.LocalFileSystem()
        return pafs.SubTreeFileSystem(str(self.root), local), uri[5:].partition("?")[0]


@pytest.fixture
def bucket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> BucketSystem:
    """s3://data/…, the folder."""
    system = BucketSystem(folder.parent)

    def file_system(uri: str) -> tuple[Any, str]:
        try:
            return system.from_uri(uri)
        except OSError as error:
            raise DataError(f"{uri}: {module.reason(error)}") from error

    monkeypatch.setattr(module, "file_system", file_system)
    return system


@pytest.mark.parametrize("scheme", ["file", "s3"])
def test_folders_files_and_globs_by_uri(scheme: str, folder: Path, bucket: BucketSystem) -> None:
    base = f"file://{folder}" if scheme == "file" else "s3://data"
    everything = ["one", "two", "one", "two", "0ne", "tw0"]
    for uri in (base, f"{base}/"):
        with pytest.warns(FastseqWarning, match=r"2 files skipped, .*notes\.txt, …"):
            corpus = Corpus.open(uri)
        rows = [row for batch in corpus.batches() for row in batch.kept.to_pylist()]
        assert [row["text"] for row in rows] == everything
        assert [row["lang"] for row in rows] == [None, None, "de", "de", "en", "en"]
        assert corpus.sources[2].name == f"{base}/lang=en/b.jsonl"
    assert texts(f"{base}/lang=en/b.jsonl") == ["0ne", "tw0"]
    assert texts(f"{base}/lang=*/*") == ["one", "two", "0ne", "tw0"]
    assert texts(f"{base}/lang=*") == ["one", "two", "0ne", "tw0"]
    assert texts(f"{base}/**/*.jsonl") == ["0ne", "tw0"]
    assert texts(f"{base}/lang=[e]n") == ["0ne", "tw0"]
    assert texts(f"{base}/a*.parquet?region=x" if scheme == "s3" else f"{base}/a*") == [
        "one",
        "two",
    ]
    assert texts([f"{base}/lang=en", f"{base}/**/b.*", folder / "lang=de"]) == [
        "0ne", "tw0", "one", "two",
    ]  # fmt: skip


def test_parameters_of_a_uri_are_passed_on(bucket: BucketSystem) -> None:
    assert texts("s3://data/lang=*/b.jsonl?region=eu-1&endpoint_override=localhost%3A9") == [
        "0ne", "tw0",
    ]  # fmt: skip
    assert bucket.asked == ["s3://data?region=eu-1&endpoint_override=localhost%3A9"]


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("s3://data/none.parquet", "s3://data/none.parquet: no such file or folder"),
        ("s3://data/*.none", "no file matches"),
        ("s3://denied/x", "s3://denied/x: When reading .*ACCESS_DENIED$"),
        ("nope://x/y", "nope://x/y: Unrecognized filesystem type"),
        ("file://relative", "file://relative: "),
        ("s3://data/notes.txt", "s3://data/notes.txt: not Parquet, and no name of another format"),
    ],
)
def test_bad_uris(uri: str, problem: str, bucket: BucketSystem) -> None:
    if uri.startswith(("nope", "file")):
        bucket.from_uri = lambda uri: _from_uri(uri)  # type: ignore[method-assign]
    with pytest.raises(DataError, match=problem) as error:
        Corpus.open(uri)
    assert "\n" not in str(error.value)


def _from_uri(uri: str) -> tuple[Any, str]:
    try:
        return pafs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid as error:
        raise OSError(str(error)) from error


def test_errors_of_the_real_file_systems() -> None:
    for uri in ("nope://x/y", "file:///no/such/file.parquet", "s3://"):
        with pytest.raises(DataError) as error:
            Corpus.open(uri)
        assert str(error.value).startswith(f"{uri}: ")
        assert "\n" not in str(error.value)


def test_damaged_file_by_uri(folder: Path) -> None:
    path = folder / "a b.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"file:///.*a b\.parquet: not a Parquet file"):
        Corpus.open(f"file://{folder}/a*.parquet")


# ---- folders of every format


def test_folder_of_every_format(folder: Path) -> None:
    with pytest.warns(FastseqWarning, match="2 files skipped") as caught:
        assert texts(folder) == ["one", "two", "one", "two", "0ne", "tw0"]
    assert len(caught) == 1
    assert texts(folder / "lang=*" / "*") == ["one", "two", "0ne", "tw0"]
    names = [os.path.basename(file.name) for file in find_files([folder]).files]
    assert names == ["a b.parquet", "c.CSV.zst", "b.jsonl"]


def test_json_in_a_folder_is_read_if_its_first_line_is_an_object(tmp_path: Path) -> None:
    for name, content in {
        "lines.json": '\n{"text": "a"}\n{"text": "b"}\n',
        "one.json": '{"text": "c"}',
        "array.json": '[{"text": "c"}]\n',
        "pretty.json": '{\n  "text": "c"\n}\n',
        "number.json": "5\n",
    }.items():
        (tmp_path / name).write_text(content)
    with pytest.warns(FastseqWarning, match="3 files skipped"):
        assert texts(tmp_path) == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"pretty\.json, line 1: expected a JSON object on each"):
        Corpus.open(tmp_path / "pretty.json")


def test_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no file of data in this folder or below it: \*\.parquet"):
        open_sources(tmp_path)


def test_outputs_in_folders_that_are_read(folder: Path) -> None:
    for name in ("run.tsv", "out.jsonl", "run.tsv.gz", "x.parquet"):
        with pytest.raises(SettingsError, match="would be part of the input"):
            check_output(folder / name, "run", [f"file://{folder}"])
        with pytest.raises(SettingsError, match="would be part of the input"):
            check_output(folder / name, "run", [folder])
    check_output(folder / "run.trec", "run", [folder, "s3://data", "-"])
    with pytest.raises(SettingsError, match="is also an input"):
        check_output(folder / "a b.parquet", "run", f"file://{folder}/a b.parquet")
    with pytest.raises(SettingsError, match="holds the input"):
        check_folder(folder, f"file://{folder}/lang=en/b.jsonl")


# ---- names


@pytest.mark.parametrize(
    ("name", "suffix", "form"),
    [
        ("a.parquet", ".parquet", "Parquet"),
        ("A.PARQUET", ".parquet", "Parquet"),
        ("a.parquet.gz", ".parquet", None),
        ("x/a.JSONL.GZ", ".jsonl", "JSON Lines"),
        ("a.json", ".json", "JSON Lines"),
        ("a.csv.zst", ".csv", "CSV"),
        ("a.tsv", ".tsv", "TSV"),
        ("a.trec.gz", ".trec", None),
        ("a.gz", "", None),
        ("a", "", None),
    ],
)
def test_formats_by_suffix(name: str, suffix: str, form: str | None) -> None:
    assert (suffix_of(name), format_of(name)) == (suffix, form)


def test_uris_and_local_paths() -> None:
    assert [is_uri(t) for t in ("s3://b/x", "file:///x", "C://x", "a.parquet", "x:y", "-")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert local_path("file:///a/b%20c") == Path("/a/b c")
    assert (local_path("s3://b/x"), local_path("-"), local_path("a/b")) == (None, None, Path("a/b"))
    assert os.fspath(Location("s3://b//x")) == str(Location("s3://b//x")) == "s3://b//x"


@pytest.mark.parametrize(
    ("path", "pattern", "matches"),
    [
        ("a.parquet", "*.parquet", True),
        ("x/a.parquet", "*.parquet", False),
        ("x/y/a.csv", "**/*.csv", True),
        ("a.csv", "**/*.csv", True),
        (".x/a.csv", "**/*.csv", False),
        ("x/a.csv", "**", True),
        ("x/a.csv", "*/a.[ct]sv", True),
        (".a", "*", False),
    ],
)
def test_globs(path: str, pattern: str, matches: bool) -> None:
    assert glob_matches(path.split("/"), pattern.split("/")) == matches


def test_files_that_are_named_twice_are_read_once_with_a_notice(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text(f"id,text\n{name},a text\n")
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    with pytest.warns(FastseqWarning, match=r"1 file is named more than once, .*: .*a\.csv$"):
        assert Corpus.open([a, b, a, tmp_path / "." / "a.csv"]).num_rows == 2
    with pytest.warns(FastseqWarning, match=r"2 files are named more than once, .*, …$"):
        assert Corpus.open([tmp_path, a, b]).num_rows == 3
