"""fastseq add, delete, compact: options, summary, invalid input, other writers, interruptions."""

from __future__ import annotations

import ctypes
import gzip
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastseq
from fastseq.index import changes
from fastseq.store.folder import MANIFEST, read_manifest
from tests.cli.conftest import SCRIPT, Run, Write, run_cli

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "v1"
INDEX = Path(".fastseq/index")
COMMANDS = [("add", "new.parquet"), ("delete", "a"), ("compact",)]
COMPACT_AFTER_DELETE = "a commit with a deleted document, so that compact has something to do"


@pytest.fixture
def cats(run: Run, write: Write) -> Path:
    """An index in the default folder, and new.parquet."""
    corpus = write(
        "cats.parquet",
        id=["a", "b", "c", "d", "e"],
        title=["On cats", "On dogs", "Null", "On tea", "On mice"],
        text=["The cat runs", "The dog runs", None, "Green tea", "A mouse runs from a cat"],
        year=[2001, 2002, 2003, 2004, 2005],
    )
    write("new.parquet", id=["b", "z"], title=["Two dogs", "Owls"], text=["Two dogs", "An owl"])
    assert run("index", corpus).code == 0
    return corpus


@pytest.fixture
def unchanged(cats: Path) -> Iterator[None]:
    """The index, with a deleted document, which the test must not change."""
    assert run_cli("delete", "d").code == 0, COMPACT_AFTER_DELETE
    with kept():
        yield


@contextmanager
def kept(index: Path = INDEX, verify: bool = True) -> Iterator[None]:
    """Checks that the block changes no file of the index, and leaves no other."""

    def files() -> dict[str, bytes]:
        paths = (path for path in sorted(index.rglob("*")) if path.is_file())
        return {str(path): path.read_bytes() for path in paths if path.name != "lock"}

    before = files()
    yield
    assert files() == before
    assert not verify or run_cli("info", index, "--verify").code == 0


def found(query: str, *words: object) -> list[Any]:
    return [hit["id"] for hit in run_cli("search", query, "--format", "json", *words).json]


def error_of(*words: str) -> str:
    """The one line on stderr of a command that fails in a process of its own."""
    ran = subprocess.run([SCRIPT, *words], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (1, ""), ran
    lines = [line for line in ran.stderr.splitlines() if not line.startswith("Compiling ")]
    assert len(lines) == 1, ran.stderr
    return lines[0]


# ---- add


def test_add_appends_and_replaces(run: Run, cats: Path) -> None:
    said = run("add", "new.parquet").pairs
    counts = ("added", "replaced", "null texts", "documents", "segments")
    assert [said[name] for name in counts] == ["2", "1", "0", "6", "2"]
    assert said["index"] == str(INDEX)
    assert set(said) == {"index", *counts, "size", "time"}
    assert found("dog") == []
    assert found("dogs") == ["b"]
    assert found("owl") == ["z"]
    hit = run("search", "owl", "--format", "json").json[0]
    assert hit["fields"] == {"id": "z", "title": "Owls", "text": "An owl", "year": None}


def test_add_uses_the_columns_and_the_analysis_of_the_index(run: Run, write: Write) -> None:
    first = write("first.parquet", key=[1, 2], title=["cats", "dogs"], body=["sing", None])
    columns = ("--id-column", "key", "--text-column", "title", "--text-column", "body")
    assert run("index", first, *columns, "--language", "english").code == 0
    more = write("more.parquet", body=["singing", None], title=["owls", None], key=[3, 1])
    said = run("add", more).pairs
    assert (said["added"], said["replaced"], said["null texts"]) == ("2", "1", "1")
    assert found("owl") == found("sings") == [3]
    assert found("cat") == []


def test_add_several_files_and_folders_in_one_commit(run: Run, cats: Path, write: Write) -> None:
    (INDEX.parent.parent / "many").mkdir()
    for name in ("p", "q"):
        write(f"many/{name}.parquet", id=[name], text=[f"an owl {name * 3}"])
    said = run("add", "many", "new.parquet").pairs
    assert (said["added"], said["replaced"], said["segments"]) == ("4", "1", "2")
    assert found("owl") == ["z", "p", "q"]


def test_add_of_json_lines_and_csv(run: Run, cats: Path, tmp_path: Path) -> None:
    lines = '{"id": "p", "text": "an owl", "year": 1999}\n{"text": "owls", "id": "a"}\n'
    (tmp_path / "more.jsonl").write_text(lines)
    said = run("add", "more.jsonl").pairs
    assert (said["added"], said["replaced"]) == ("2", "1")
    (tmp_path / "more.csv").write_text("id,title,text,year\nq,Owl,an owl,1998\n")
    assert run("add", "more.csv").pairs["added"] == "1"
    said = run("add", "-", stdin=lines.replace("owl", "toad")).pairs
    assert (said["added"], said["replaced"]) == ("2", "2")
    assert found("owl toad toads") == ["a", "q", "p"]
    assert fastseq.Index.open(INDEX).get("q")["year"] == 1998


def test_add_of_no_rows_changes_nothing(run: Run, unchanged: None, write: Write) -> None:
    empty = write("none.parquet", id=pa.array([], pa.string()), text=pa.array([], pa.string()))
    assert run("add", empty).pairs["added"] == "0"


def test_add_leaves_the_hits_of_a_new_index(run: Run, cats: Path, write: Write) -> None:
    assert run("add", "new.parquet").code == 0
    assert run("delete", "a").code == 0
    rows = ["c", "d", "e", "b", "z"]
    texts = [None, "Green tea", "A mouse runs from a cat", "Two dogs", "An owl"]
    assert run("index", write("all.parquet", id=rows, text=texts), "-o", "fresh").code == 0
    for model in ("bm25", "bm25l", "tfidf", "bow"):
        for query in ("runs cat tea", "two dogs an owl", "a"):
            words = ("search", query, "--model", model, "--format", "json")
            one, other = (
                [(hit["id"], hit["score"]) for hit in run(*words, "-i", index).json]
                for index in (INDEX, "fresh")
            )
            assert one == other


def test_quiet_prints_nothing(run: Run, cats: Path) -> None:
    for words in (*COMMANDS, ("delete", "nobody")):
        ran = run(*words, "--quiet")
        assert (ran.code, ran.out, ran.err) == (0, "", "")


@pytest.mark.parametrize("name", ["add", "delete", "compact"])
def test_changes_are_completed_by_the_shell(name: str, tmp_path: Path) -> None:
    env = {**os.environ, "_FASTSEQ_COMPLETE": "bash_complete"}
    for words, expected in ((f"fastseq {name[:3]}", name), (f"fastseq {name} --wa", "--wait")):
        cword = str(len(words.split()) - 1)
        ran = subprocess.run(
            [SCRIPT], capture_output=True, text=True, cwd=tmp_path,
            env={**env, "COMP_WORDS": words, "COMP_CWORD": cword},
        )  # fmt: skip
        assert f"plain,{expected}" in ran.stdout


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": ["k"], "text": ["x"], "author": ["y"]}, ("'author'", "leave it out", "again")),
        ({"id": [7], "text": ["x"]}, ("'id'", "int64", "string")),
        ({"id": ["k"], "text": ["x"], "year": ["late"]}, ("'year'", "string", "int64")),
        ({"id": ["k"], "text": [1.5]}, ("'text'", "double")),
        ({"id": ["k"], "title": ["x"]}, ("no column 'text'", "id", "title")),
        ({"text": ["x"]}, ("no column 'id'", "text")),
        ({"id": ["k", None], "text": ["x", "y"]}, ("null",)),
        ({"id": ["k", "l", "k"], "text": ["x"] * 3}, ("duplicate", "'k'")),
        ({"id": ["k", "l", "k"], "text": ["word " * 400_000] * 3}, ("duplicate", "'k'")),
        ({"id": [f"k{i % 2000}" for i in range(2001)], "text": ["x"] * 2001}, ("duplicate", "k0")),
        ({"id": ["k"], "text": pa.array([b"\xff"]).cast("string", False)}, ("UTF-8", "row 0")),
    ],
)
def test_add_of_other_columns_is_an_error(
    run: Run, unchanged: None, write: Write, columns: dict[str, Any], said: tuple[str, ...]
) -> None:
    error = run("add", write("wrong.parquet", **columns)).error
    assert "wrong.parquet" in error
    assert all(word in error for word in said), error


def test_add_of_other_columns_leaves_them_out_where_columns_were_named(
    run: Run, cats: Path, write: Write
) -> None:
    assert run("index", cats, "--store", "year", "--overwrite").code == 0
    more = write("more.parquet", id=["k"], text=["An owl"], author=["me"], year=[2020])
    assert run("add", more).code == 0
    hit = run("search", "owl", "--format", "json").json[0]
    assert hit["fields"] == {"id": "k", "year": 2020}


def test_add_of_numbers_widens_them(run: Run, cats: Path, write: Write) -> None:
    more = write("more.parquet", id=["k"], text=["An owl"], year=pa.array([7], pa.int16()))
    assert run("add", more).code == 0
    assert fastseq.Index.open(INDEX).get("k")["year"] == 7


@pytest.mark.parametrize(
    ("corpus", "said"),
    [("gone.parquet", "gone.parquet"), ("gone/*.parquet", "gone/*.parquet"), (".", ".")],
)
def test_add_of_missing_files_is_an_error(
    run: Run, unchanged: None, corpus: str, said: str, tmp_path: Path
) -> None:
    if corpus == ".":
        (tmp_path / "empty.parquet").touch()
        corpus = said = "empty.parquet"
    assert said in run("add", corpus).error


def test_add_of_a_damaged_file_is_an_error(run: Run, unchanged: None, write: Write) -> None:
    rows = [str(i) for i in range(5000)]
    corpus = write("big.parquet", id=rows, text=["word " * 20] * len(rows))
    whole = bytearray(corpus.read_bytes())
    whole[4:400] = b"\xff" * 396
    corpus.write_bytes(whole)
    assert "big.parquet" in run("add", corpus).error


def test_invalid_options_are_a_one_line_error(run: Run, unchanged: None) -> None:
    assert "256MB" in run("add", "new.parquet", "--memory", "much").error
    assert "256MB" in run("delete", "a", "--memory", "much").error
    assert "256MB" in run("compact", "--memory", "much").error
    for words in COMMANDS:
        for wait in ("-1", "nan"):
            assert "wait must be a number of seconds" in run(*words, "--wait", wait).error
        ran = run(*words, "--wait", "long")
        assert ran.code == 2
        assert "--wait" in ran.error
    assert run("add").code == 2
    for option in ("--language", "--tokenizer", "--text-column", "--id-column", "--store"):
        ran = run("add", "new.parquet", option, "english")  # those of the index apply
        assert ran.code == 2
        assert option in ran.error


def test_add_invalid_text(run: Run, cats: Path, write: Write) -> None:
    texts = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    Path("u8.jsonl").write_bytes(b'{"id": "q", "text": "caf\xe9"}\n')
    for new in (write("u8.parquet", id=["q"], text=texts).name, "u8.jsonl"):
        assert run("add", new).error == (
            f"Error: {new}: row 0 (from 0): its text is not valid UTF-8 (build the index again "
            "with --on-invalid replace, which reads it as U+FFFD)"
        )
    with pytest.raises(fastseq.DataError, match='again with on_invalid="replace", which reads'):
        fastseq.Index.open(INDEX).add("u8.jsonl")


# ---- delete


def test_delete_counts_deleted_and_unknown_ids(run: Run, cats: Path) -> None:
    ran = run("delete", "b", "nobody", "b", "none")
    said = ran.pairs
    assert [said[name] for name in ("deleted", "unknown ids", "documents")] == ["1", "2", "4"]
    assert ran.err == "no document has the ids 'nobody', 'none'\n"
    assert found("runs") == ["a", "e"]
    ran = run("delete", "b")
    assert ran.pairs["unknown ids"] == "1"
    assert ran.err == "no document has the id 'b'\n"


def test_delete_rewrites_a_segment_within_its_memory(
    run: Run, cats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    class Writer(changes.IndexWriter):
        def __init__(self, path: Any, memory: Any, *others: Any) -> None:
            given.append(memory)
            super().__init__(path, memory, *others)

    monkeypatch.setattr(changes, "IndexWriter", Writer)
    said = run("delete", "a", "b", "--memory", "64MB").pairs
    assert given == [64 << 20]
    assert (said["deleted"], said["documents"], said["segments"]) == ("2", "3", "1")
    assert "deleted documents" not in run("info", INDEX).pairs
    assert found("cat") == ["e"]


def test_delete_names_a_few_unknown_ids(run: Run, cats: Path) -> None:
    ran = run("delete", *(f"k{i}" for i in range(1234)))
    assert ran.pairs["unknown ids"] == "1,234"
    assert ran.err.startswith("no document has the ids 'k0', 'k1', ")
    assert ran.err.endswith("'k7' and 1,226 more\n")
    assert ran.err.count("\n") == 1


def test_delete_of_unknown_ids_changes_nothing(run: Run, unchanged: None) -> None:
    assert run("delete", "nobody").code == 0


def test_delete_every_document(run: Run, cats: Path, write: Write) -> None:
    said = run("delete", *"abcde").pairs
    assert (said["documents"], said["segments"]) == ("0", "0")
    assert found("cat") == []
    queries = write("queries.parquet", query_id=["1"], text=["cat"])
    assert run("search", "--queries", queries).out == ""
    assert run("compact").code == 0
    assert run("add", "new.parquet").pairs["documents"] == "2"
    assert found("owl") == ["z"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a\nb\n", "ab"),
        ("a\r\nb", "ab"),
        ("a\rb\r", "ab"),
        ("\ufeffa\n\n  \nb", "ab"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("stdin", [False, True])
def test_ids_in_lines(
    run: Run, cats: Path, tmp_path: Path, content: str, expected: str, stdin: bool
) -> None:
    raw = content.encode()
    (tmp_path / "ids.txt").write_bytes(raw)
    ran = run("delete", "--ids", "-", stdin=raw) if stdin else run("delete", "--ids", "ids.txt")
    assert ran.pairs["deleted"] == str(len(expected))
    assert ran.pairs["unknown ids"] == "0"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_ids_in_a_pipe(run: Run, cats: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ids")
    writer = threading.Thread(target=(tmp_path / "ids").write_text, args=["a\nb\n"])
    writer.start()
    assert run("delete", "--ids", "ids").pairs["deleted"] == "2"
    writer.join()


def test_ids_in_lines_have_spaces(run: Run, write: Write, tmp_path: Path) -> None:
    corpus = write("spaces.parquet", id=["a b", " a", "a", "é"], text=["x"] * 4)
    assert run("index", corpus).code == 0
    (tmp_path / "ids").write_text("a b\n a\né\n", "utf-8")
    assert run("delete", "--ids", "ids").pairs["deleted"] == "3"
    assert run("delete", "a", "-i", INDEX).pairs["documents"] == "0"


@pytest.mark.parametrize("column", ["id", "doc_id", "_id", "whatever"])
def test_ids_in_parquet(run: Run, cats: Path, write: Write, column: str) -> None:
    columns = {column: ["b", "e", "k"]}
    if column != "whatever":
        columns["text"] = ["x", "y", "z"]
    path = write("ids.parquet", **columns)
    said = run("delete", "--ids", path).pairs
    assert (said["deleted"], said["unknown ids"]) == ("2", "1")
    said = run("delete", "--ids", "-", stdin=path.read_bytes()).pairs
    assert (said["deleted"], said["unknown ids"]) == ("0", "3")


def test_ids_of_the_corpus_itself(run: Run, cats: Path) -> None:
    assert run("delete", "--ids", cats).pairs["documents"] == "0"


@pytest.mark.parametrize(
    ("ids", "given"),
    [
        ([1, -2, 3], ["1", "-2"]),
        (pa.array([1, 2, 3], pa.uint8()), ["3", "1"]),
        (["1", "01", "-2"], ["01", "-2"]),
        ([1.0, 2.0, 3.0], ["2", "3"]),
        ([Decimal("1.50"), Decimal("2.00"), Decimal("3.00")], ["1.50", "3"]),
        (pa.array([1, 2, 3], pa.date32()), ["1970-01-02", "1970-01-04"]),
        (pa.array([1, 2, 3], pa.timestamp("s", "UTC")), ["1970-01-01T00:00:01Z"]),
        ([b"\x01", b"\xff", b"\x02"], ["01", "ff"]),
    ],
)
def test_ids_are_converted_to_the_type_of_the_column(
    run: Run, write: Write, ids: Any, given: list[str]
) -> None:
    assert run("index", write("typed.parquet", id=ids, text=["x", "y", "z"])).code == 0
    said = run("delete", "--", *given).pairs
    assert (said["deleted"], said["unknown ids"]) == (str(len(given)), "0")
    assert said["documents"] == str(3 - len(given))
    assert run("delete", "--ids", "typed.parquet").pairs["documents"] == "0"


@pytest.mark.parametrize("given", ["x", "1.5", "01", "", " 1"])
def test_id_of_another_type_is_an_error(run: Run, write: Write, given: str) -> None:
    assert run("index", write("numbers.parquet", id=[1, 2], text=["x", "y"])).code == 0
    with kept():
        error = run("delete", "1", given).error
        assert repr(given) in error
        assert "expected integers (int64)" in error


def test_files_without_ids_are_an_error(
    run: Run, unchanged: None, write: Write, tmp_path: Path
) -> None:
    def error(name: object) -> str:
        return run("delete", "--ids", name).error

    (tmp_path / "latin.txt").write_bytes(b"a\nb\ncaf\xe9\n")
    assert "latin.txt, line 3: not UTF-8" in error("latin.txt")
    assert "gone.txt" in error("gone.txt")
    assert ".fastseq" in error(".fastseq")
    path = write("two.parquet", key=["a"], other=["b"])
    assert "no column 'id'; its columns: key (string), other (string)" in error(path)
    assert "null.parquet: row 1 (from 0): the id is null" in error(
        write("null.parquet", id=["a", None])
    )
    assert "numbers.parquet: row 0 (from 0): the id 1 (int) is of another type" in error(
        write("numbers.parquet", id=[1, 2])
    )
    assert "lists.parquet: the id column 'id' is list<" in error(
        write("lists.parquet", id=[["a"], ["b"]])
    )
    (tmp_path / "bare.csv").write_text("a\nb\n")
    assert "bare.csv: no column 'id'; its columns: a (" in error("bare.csv")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"a\nb\n" * 1000)[:20])
    assert "cut.txt.gz: cannot be read" in error("cut.txt.gz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "two.parquet" in error(path)
    assert "standard input, line 1: not UTF-8" in run("delete", "--ids", "-", stdin=b"\xe9").error


def test_delete_takes_ids_a_file_or_a_filter(run: Run, unchanged: None) -> None:
    for words in ((), ("a", "--ids", "cats.parquet"), ("a", "--where", "year = 2001")):
        ran = run("delete", *words)
        assert ran.code == 2
        assert "give either IDs, --ids FILE or --where FILTER" in ran.error


@pytest.mark.skipif(sys.platform != "linux", reason="arguments of other systems are text")
def test_id_that_is_not_utf8_is_an_error(unchanged: None) -> None:
    assert "not UTF-8" in error_of("delete", os.fsdecode(b"caf\xe9"))


# ---- compact


def test_compact_merges_segments_and_removes_documents(run: Run, cats: Path) -> None:
    assert run("add", "new.parquet").code == 0
    hits = [run("search", "dogs runs", "--format", "json").out]
    said = run("compact").pairs
    counts = ("merged segments", "removed documents", "documents", "segments")
    assert [said[name] for name in counts] == ["2", "1", "6", "1"]
    hits.append(run("search", "dogs runs", "--format", "json").out)
    assert hits[0] == hits[1]
    with kept():
        said = run("compact").pairs
        assert (said["merged segments"], said["removed documents"]) == ("0", "0")
    assert run("info", INDEX, "--verify").code == 0


def test_many_additions_are_merged(run: Run, cats: Path, write: Write) -> None:
    for i in range(25):
        more = write("more.parquet", id=[f"k{i}"], text=[f"an owl {i}"])
        said = run("add", more).pairs
    assert int(said["segments"]) < 12
    assert said["documents"] == "30"
    assert found("owl", "-k", "30") == [f"k{i}" for i in range(25)]


# ---- info, and index on an index


def test_info_of_segments_and_deleted_documents(run: Run, cats: Path) -> None:
    assert run("add", "new.parquet").code == 0
    ran = run("info", INDEX, "--verify")
    said = ran.pairs
    assert (said["format version"], said["documents"], said["segments"]) == ("3", "6", "2")
    assert said["deleted documents"] == "1"
    assert said["segment-000001"] == "5 documents (1 deleted)"
    assert said["segment-000002"] == "2 documents"
    assert said["verified"] == "all files are intact"
    assert run("info", INDEX, "--format", "json").json["statistics"]["segments"][0]["deleted"] == 1
    assert run("delete", *"abcdez").code == 0
    said = run("info", INDEX, "--verify").pairs
    assert said["documents"] == "0"
    assert "deleted documents" not in said


def test_info_shows_the_first_segments(run: Run, cats: Path) -> None:
    manifest = read_manifest(INDEX)
    segments = manifest.statistics["segments"] * 1234
    many = replace(manifest, statistics={**manifest.statistics, "segments": segments})
    (INDEX / MANIFEST).write_bytes(many.to_bytes())
    ran = run("info", INDEX)
    assert ran.pairs["segments"] == "1,234"
    assert ran.pairs["1,224 more"] == "6,120 documents"
    assert len(ran.out.splitlines()) < 50


def test_info_names_a_damaged_file_of_deletions(run: Run, cats: Path) -> None:
    assert run("delete", "a").code == 0
    (path,) = INDEX.glob("data-*/deleted-*")
    path.write_bytes(bytes([path.read_bytes()[0] ^ 2]))
    assert path.name in run("info", INDEX, "--verify").error
    for words in (("search", "cat"), *COMMANDS):
        assert path.name in run(*words).error


def test_index_on_an_index_names_add(run: Run, unchanged: None) -> None:
    error = run("index", "new.parquet").error
    assert "fastseq add" in error
    assert "--overwrite" in error


# ---- indexes that cannot be changed


@pytest.mark.parametrize("words", [("add", "new.parquet"), ("delete", "1"), ("delete", "x")])
def test_index_without_ids_is_an_error(run: Run, cats: Path, write: Write, words: Any) -> None:
    assert run("index", write("texts.parquet", text=["x", "y"]), "-o", "rows").code == 0
    with kept(Path("rows")):
        error = run(*words, "-i", "rows").error
    assert "no id column" in error
    assert "build it again" in error
    assert run("compact", "-i", "rows").code == 0


@pytest.mark.parametrize("words", COMMANDS)
def test_folder_that_is_no_index_is_an_error(run: Run, cats: Path, words: tuple[str, ...]) -> None:
    Path("mine").mkdir()
    Path("mine/photo.jpg").write_text("mine")
    Path("file").write_text("mine")
    shutil.copytree(INDEX, "model")
    manifest = replace(read_manifest(Path("model")), kind="model")
    (Path("model") / MANIFEST).write_bytes(manifest.to_bytes())
    for name, said in (
        ("mine", "expected a folder that fastseq wrote"),
        ("file", "expected a folder"),
        ("gone", "no such folder"),
        ("model", "holds the kind 'model', expected 'index'"),
    ):
        error = run(*words, "-i", name).error
        assert name in error
        assert said in error
    assert [path.name for path in Path("mine").iterdir()] == ["photo.jpg"]
    assert Path("file").read_text() == "mine"
    assert not Path("gone").exists()


@pytest.mark.parametrize("words", COMMANDS)
def test_newer_format_is_an_error(run: Run, cats: Path, words: tuple[str, ...]) -> None:
    manifest = replace(read_manifest(INDEX), format_version=8)
    (INDEX / MANIFEST).write_bytes(manifest.to_bytes())  # with its checksum
    extra = INDEX / "data-000001" / "of_the_newer_format"
    extra.write_text("mine")
    with kept(verify=False):
        error = run(*words).error
    assert "format version 8 is too new" in error
    assert "upgrade fastseq" in error
    assert "checksum" not in error


@pytest.mark.parametrize("name", ["words", "pieces", "pairs"])
def test_first_change_of_format_1_writes_format_3(
    run: Run, write: Write, tmp_path: Path, name: str
) -> None:
    shutil.copytree(GOLDEN / name, "old")
    query = ("search", "green tea", "-i", "old", "--format", "json", "-k", "50")
    before = run(*query).out
    assert run("info", "old").pairs["format version"] == "1"
    with kept(Path("old")):
        assert run("delete", "nobody", "-i", "old").code == 0
    more = write("new.parquet", id=["k"], text=["zebras"])
    shutil.copytree("old", "compacted")
    assert run("add", more, "-i", "old").pairs["documents"] == "49"
    assert found("zebras", "-i", "old")[0] == "k"
    assert run("delete", "k", "-i", "old").code == 0
    assert run("compact", "-i", "compacted").code == 0
    for index in ("old", "compacted"):
        said = run("info", index, "--verify").pairs
        assert (said["format version"], said["documents"]) == ("3", "48")
        assert run(*query[:3], index, *query[4:]).out == before


# ---- other writers


HOLD = """
import sys, fastseq
with fastseq.Index.open(sys.argv[1]).writer():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(cats: Path) -> Iterator[Callable[[], None]]:
    """Another process that writes to the index, until the function is called."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, INDEX], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"

    def end() -> None:
        child.communicate()

    yield end
    end()


@pytest.mark.sample(2)
@pytest.mark.parametrize("words", COMMANDS)
def test_second_writer_is_an_error(
    run: Run, writer: Callable[[], None], words: tuple[str, ...]
) -> None:
    before = read_manifest(INDEX)
    assert run(*words).error.endswith(f"another process is writing to {INDEX}")
    started = time.monotonic()
    assert "another process is writing" in run(*words, "--wait", "0.3").error
    assert time.monotonic() - started >= 0.3
    assert found("cat") == ["a", "e"]  # readers are not kept waiting
    assert read_manifest(INDEX) == before
    writer()
    assert run(*words).code == 0


@pytest.mark.sample(1)
@pytest.mark.parametrize("words", COMMANDS)
def test_wait_for_another_writer(
    run: Run, writer: Callable[[], None], words: tuple[str, ...]
) -> None:
    timer = threading.Timer(0.5, writer)
    timer.start()
    assert run(*words, "--wait", "60").code == 0
    timer.join()


def test_unknown_ids_are_those_of_the_commit_that_is_changed(run: Run, cats: Path) -> None:
    """Not of one before, which was opened while another writer was at work."""
    index = fastseq.Index.open(INDEX)
    with index.writer() as writer:
        timer = threading.Timer(1.0, writer.delete, [["a"]])
        child = subprocess.Popen(
            [SCRIPT, "delete", "a", "b", "--wait", "60"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        timer.start()
        timer.join()
    out, err = child.communicate(timeout=60)
    assert "no document has the id 'a'" in err
    assert "unknown ids  1" in out
    assert len(fastseq.Index.open(INDEX)) == 3


# ---- a folder that cannot be written to


def without_root() -> None:
    """Let the permissions of files hold for root, too: PR_CAPBSET_DROP of CAP_DAC_OVERRIDE."""
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(24, 1, 0, 0, 0):
        os._exit(99)


@pytest.mark.skipif(sys.platform != "linux", reason="needs permissions that hold for root, too")
@pytest.mark.sample(2)
@pytest.mark.parametrize("words", COMMANDS)
def test_read_only_folder_is_an_error(unchanged: None, words: tuple[str, ...]) -> None:
    folders = [INDEX, *(path for path in INDEX.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        ran = subprocess.run(
            [SCRIPT, *words], capture_output=True, text=True, preexec_fn=without_root
        )
        if ran.returncode == 99:
            pytest.skip("root without CAP_SETPCAP")
        searched = subprocess.run(
            [SCRIPT, "search", "cat"], capture_output=True, text=True, preexec_fn=without_root
        )
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert ran.returncode == 1
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert line == f"Error: cannot write to {INDEX}: Permission denied"
    assert searched.returncode == 0


# ---- Ctrl-C

# the command, which stops before or after a function, or prints when it is in it
PAUSED = """
import sys, time
import filelock
from fastseq.index import changes
from fastseq.store.writer import FolderWriter
where, name = sys.argv[1].split()
owner = {"commit": FolderWriter, "acquire": filelock.FileLock}.get(name, changes.IndexWriter)
real = getattr(owner, name)
def paused(*args, **named):
    result = real(*args, **named) if where == "after" else None
    print("paused", flush=True)
    if where == "in":
        return real(*args, **named)
    time.sleep(60)
    return result
setattr(owner, name, paused)
from fastseq_cli.main import main
sys.argv[1:] = sys.argv[2:]
main()
"""


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("add", "new.parquet"), "before _append"),
        (("add", "new.parquet"), "after _append"),
        (("add", "new.parquet"), "before commit"),
        (("delete", "a"), "after _remove"),
        (("delete", "a"), "before commit"),
        (("delete", "a", "b", "c"), "after _merge"),  # due where much is deleted
        (("compact",), "before _merge"),
        (("compact",), "after _merge"),
        (("compact",), "before commit"),
    ],
)
def test_interrupt_keeps_the_old_commit(
    unchanged: None, words: tuple[str, ...], place: str
) -> None:
    interrupt_paused(place, *words)


def interrupt_paused(place: str, *words: str) -> None:
    """Run the command and interrupt it at a place."""
    child = subprocess.Popen(
        [sys.executable, "-c", PAUSED, place, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "paused\n", child.communicate()
    time.sleep(0.2)
    interrupt(child)


def interrupt(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "Interrupted"
    assert "Traceback" not in err


@pytest.mark.sample(1)
@pytest.mark.parametrize("words", COMMANDS)
def test_interrupt_while_waiting(
    run: Run, writer: Callable[[], None], words: tuple[str, ...]
) -> None:
    before = read_manifest(INDEX)
    interrupt_paused("in acquire", *words, "--wait", "60")
    assert read_manifest(INDEX) == before


def test_interrupt_of_a_long_addition(run: Run, tmp_path: Path) -> None:
    texts = [" ".join(f"word{i}x{j}" for j in range(60)) for i in range(2000)]
    schema = pa.schema({"id": pa.int64(), "text": pa.string()})
    with pq.ParquetWriter("big.parquet", schema) as file:
        for part in range(300):
            ids = [*range(part * 2000, part * 2000 + 2000)]
            file.write_table(pa.table({"id": ids, "text": texts}, schema))
    fastseq.Index.build(pa.table({"id": [-1], "text": ["an owl"]}, schema), INDEX)
    with kept():
        quiet = {path.name for path in INDEX.rglob("*")}
        child = subprocess.Popen(
            [SCRIPT, "add", "big.parquet"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while {path.name for path in INDEX.rglob("*")} == quiet:
            assert child.poll() is None, child.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)
        interrupt(child)
    assert found("owl") == [-1]
