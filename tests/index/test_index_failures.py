"""Builds that fail: one clear error, the old index untouched, nothing left behind."""

from __future__ import annotations

import errno
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastseq import Analyzer, DataError, FastseqError, FormatError, Index, SettingsError
from fastseq.index import build as build_module
from fastseq.store.files import SpillFile
from fastseq.store.folder import verify

OLD = pa.table({"id": ["old"], "text": ["an old document"]})
STAGES = ["index", "merge", "commit"]


def new_table(rows: int = 3000) -> pa.Table:
    return pa.table(
        {
            "id": [f"new{n}" for n in range(rows)],
            "text": [f"a new document w{n % 50} w{n % 7} w{n}" for n in range(rows)],
        }
    )


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dozens of slices from a few thousand rows."""
    monkeypatch.setattr(build_module, "SMALLEST_MEMORY", 1 << 10)
    monkeypatch.setattr(build_module, "_FIXED", 0)
    monkeypatch.setattr(build_module, "_SMALLEST_SLICE", 1 << 10)
    monkeypatch.setattr(build_module, "_LARGEST_SLICE", 2 << 10)


@pytest.fixture
def standing(tmp_path: Path) -> Path:
    """An index that must survive."""
    Index.build(OLD, tmp_path / "index")
    return tmp_path / "index"


def names(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*")}


def assert_still_stands(path: Path, before: set[str]) -> None:
    assert names(path) == before
    assert verify(path) == []
    assert Index.open(path).search("old").ids == [["old"]]
    assert Index.build(new_table(10), path, overwrite=True).search("new", k=20).counts[0] == 10


# ---- interrupts


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupt_leaves_the_old_index(
    standing: Path,
    small_slices: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    stage: str,
    threads: int,
    error: type[BaseException],
) -> None:
    before = names(standing)
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    calls = 0

    def interrupt(now: str, done: int, total: int | None) -> None:
        nonlocal calls
        calls += now == stage
        if calls == (1 if stage == "commit" else 2):
            raise error

    with pytest.raises(error):
        Index.build(
            new_table(),
            standing,
            overwrite=True,
            threads=threads,
            memory=30_000,
            progress=interrupt,
        )
    gc.collect()
    assert complaints == []  # of a writer left open
    assert capfd.readouterr() == ("", "")
    assert_still_stands(standing, before)


def test_interrupted_first_build_can_be_repeated(tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "index"
    with pytest.raises(KeyboardInterrupt):
        Index.build(new_table(), path, progress=interrupt)
    with pytest.raises(FormatError, match="no such folder"):
        Index.open(path)
    assert len(Index.build(OLD, path)) == 1
    assert names(path) == {
        "data-000001", "data-000001/segment-000001", "lock", "manifest.json"
    }  # fmt: skip


KILLED = """
import os, signal, sys
import fastseq
from fastseq.index import build

build.SMALLEST_MEMORY = build._SMALLEST_SLICE = 1 << 10
build._FIXED = 0
build._LARGEST_SLICE = 4 << 10
path, corpus, stage = sys.argv[1:]

def kill(now, done, total):
    if now == stage and done:
        print("killing", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

fastseq.Index.build(corpus, path, overwrite=True, memory=30_000, progress=kill)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("stage", STAGES)
def test_killed_build_leaves_the_old_index(standing: Path, tmp_path: Path, stage: str) -> None:
    before = names(standing)
    pq.write_table(new_table(), tmp_path / "new.parquet", row_group_size=100)
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, standing, tmp_path / "new.parquet", stage],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ran.returncode, ran.stdout) == (-9, "killing\n"), ran.stderr
    assert before < names(standing)  # what it wrote is still there
    assert verify(standing) == []
    assert Index.open(standing).search("old").ids == [["old"]]
    Index.build(new_table(10), standing, overwrite=True)
    assert len(names(standing)) == len(before)  # swept
    assert Index.open(standing).search("new", k=20).counts[0] == 10


# ---- text that is not UTF-8


def with_bad_rows(rows: int, bad: list[int]) -> pa.Table:
    texts = [f"document w{n} some more words".encode() for n in range(rows)]
    for row in bad:
        texts[row] = b"broken \xff " + texts[row]
    return pa.table({"id": range(rows), "text": pa.array(texts, pa.binary())})


@pytest.mark.sample(6)
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("bad", [[0], [1234], [2999], [700, 701, 2000], [2000, 650], [69_000]])
def test_the_first_invalid_row_is_named(
    tmp_path: Path,
    small_slices: None,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    bad: list[int],
) -> None:
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    rows = 3000 if max(bad) < 3000 else 70_000
    started = time.monotonic()
    with pytest.raises(DataError, match=rf"row {min(bad)} .from 0.: its text is not valid UTF-8"):
        Index.build(with_bad_rows(rows, bad), tmp_path / "index", threads=threads, memory=60_000)
    assert time.monotonic() - started < 30  # nobody waits for a slice that has failed
    gc.collect()
    assert complaints == []


def test_invalid_rows_of_later_files_are_counted_in_their_file(tmp_path: Path) -> None:
    for name, table in (("a", with_bad_rows(50, [])), ("b", with_bad_rows(50, [7]))):
        pq.write_table(table.drop_columns("id"), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: row 7 .from 0.: its text"):
        Index.build(str(tmp_path / "*.parquet"), tmp_path / "index")


def test_invalid_text_is_replaced_when_asked(tmp_path: Path, small_slices: None) -> None:
    table = with_bad_rows(3000, [5, 2500])
    index = Index.build(
        table, tmp_path / "index", analyzer=Analyzer(on_invalid="replace"), threads=3, memory=60_000
    )
    assert index.search("broken", k=5).rows[0].tolist() == [5, 2500, -1, -1, -1]
    assert index.search("w2500", k=1).rows[0, 0] == 2500
    assert index.search("broken", k=1).fields(0)[0]["text"].startswith(b"broken \xff")


# ---- the corpus


@pytest.mark.parametrize(
    ("corpus", "settings", "said"),
    [
        (pa.table({"text": pa.array([], pa.string())}), {}, "no rows"),
        (pa.table({"a": [1]}), {}, "a (int64)"),
        (OLD, {"text_columns": "body"}, "id (string), text (string)"),
        (OLD, {"id_column": "key"}, "id (string), text (string)"),
        (OLD, {"store": ["price"]}, "id (string), text (string)"),
        (pa.table({"id": ["a", None], "text": ["x", "y"]}), {}, "row 1"),
        (pa.table({"id": [*"abcba"], "text": [*"vwxyz"]}), {}, "'a' (rows 0, 4), 'b' (rows 1, 3)"),
        (pa.table({"id": [7, 8, 7], "text": [*"xyz"]}), {}, "7 (rows 0, 2)"),
        ("missing.parquet", {}, "missing.parquet: no such file"),
        ([], {}, "a corpus of type list that is empty"),
        (3, {}, "a corpus of type int: expected paths"),
        ([{"text": "cat sat"}, 3], {}, "row 1 (from 0) is of type int"),
        (iter([]), {}, "a corpus of type list_iterator that is empty"),
    ],
)
def test_unusable_corpora_are_rejected(
    standing: Path, corpus: Any, settings: dict[str, Any], said: str
) -> None:
    before = names(standing)
    with pytest.raises((DataError, SettingsError)) as caught:
        Index.build(corpus, standing, overwrite=True, **settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_still_stands(standing, before)


def test_duplicate_ids_far_apart_are_named(standing: Path, small_slices: None) -> None:
    rows = 5000
    ids = [f"d{n}" for n in range(rows)]
    for n in range(7):
        ids[rows - 1 - n] = f"d{n}"
    before = names(standing)
    table = pa.table({"key": ids, "text": ["some words"] * rows})
    with pytest.raises(DataError) as caught:
        Index.build(table, standing, id_column="key", memory=60_000, threads=3, overwrite=True)
    said = str(caught.value)
    assert said.startswith("column 'key': duplicate ids: 'd0' (rows 0, 4999), 'd1' (rows 1, 4998)")
    assert "'d4'" in said
    assert "'d5'" not in said
    assert_still_stands(standing, before)


def test_failing_stream_leaves_no_index(standing: Path, small_slices: None) -> None:
    schema = new_table(1).schema

    def batches() -> Iterator[pa.RecordBatch]:
        yield from new_table(2000).to_batches(100)
        raise ValueError("the connection is gone")

    before = names(standing)
    with pytest.raises(ValueError, match="the connection is gone"):
        Index.build(
            pa.RecordBatchReader.from_batches(schema, batches()),
            standing,
            overwrite=True,
            threads=3,
            memory=60_000,
        )
    assert_still_stands(standing, before)


def test_damage_after_the_first_row_groups_is_an_error(tmp_path: Path, small_slices: None) -> None:
    corpus = tmp_path / "corpus.parquet"
    pq.write_table(new_table(), corpus, row_group_size=100, write_page_checksum=True)
    raw = bytearray(corpus.read_bytes())
    for at in range(len(raw) // 2, len(raw) // 2 + 64):
        raw[at] ^= 0x55
    corpus.write_bytes(raw)
    with pytest.raises(DataError, match=r"corpus\.parquet"):
        Index.build(corpus, tmp_path / "index", threads=3, memory=60_000)


# ---- settings and the system


@pytest.mark.parametrize("threads", [1, 3])
def test_failing_function_as_tokenizer_leaves_no_index(
    standing: Path, small_slices: None, threads: int
) -> None:
    def refuse(text: str) -> list[str]:
        if "w2000" in text:
            raise LookupError("not this one")
        return text.split()

    def wrong(text: str) -> list[str]:
        return [len(text)] if "w2000" in text or "w2900" in text else []  # type: ignore[list-item]

    before = names(standing)
    for function, kind, said in (
        (refuse, LookupError, "not this one"),
        (wrong, DataError, r"row 2000 .*the tokenizer returned \d+; expected str"),
    ):
        with pytest.raises(kind, match=said):
            Index.build(
                new_table(), standing, analyzer=Analyzer(tokenizer=function), overwrite=True,
                memory=30_000, threads=threads,
            )  # fmt: skip
    assert_still_stands(standing, before)


@pytest.mark.parametrize(
    "settings",
    [{"memory": "lots"}, {"memory": 0}, {"memory": -5}, {"threads": 0}, {"threads": 1.5}],
)
def test_wrong_settings_are_rejected(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Index.build(OLD, tmp_path / "index", **settings)
    assert not (tmp_path / "index").exists()


def test_existing_path_is_rejected(standing: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="overwrite"):
        Index.build(OLD, standing)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingsError, match="is a file"):
        Index.build(OLD, tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"


class SmallDisk:
    """A file on a disk that is full after 20 writes."""

    def __init__(self, file: Any) -> None:
        self._file, self._writes = file, 0

    def write(self, data: memoryview) -> int:
        self._writes += 1
        if self._writes > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written: int = self._file.write(data)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_full_disk_while_spilling_is_one_error_line(
    standing: Path, small_slices: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = SpillFile.__init__

    def small(self: SpillFile, path: Path) -> None:
        create(self, path)
        self._file = SmallDisk(self._file)  # type: ignore[assignment]

    monkeypatch.setattr(SpillFile, "__init__", small)
    before = names(standing)
    with pytest.raises(FastseqError, match=r"^cannot write .*-slices-0: No space left on device$"):
        Index.build(new_table(), standing, overwrite=True, memory=30_000)
    monkeypatch.undo()
    assert_still_stands(standing, before)


FEW_FILES = """
import json, resource, sys
import pyarrow as pa
import fastseq
from fastseq.index import build
from fastseq.index.slices import SliceStore

build.SMALLEST_MEMORY = build._SMALLEST_SLICE = 1 << 10
build._FIXED = 0
build._LARGEST_SLICE = 2 << 10
spilled = []
spill = SliceStore.spill
SliceStore.spill = lambda self: (spilled.append(len(self.slices)), spill(self))
texts = [f"document w{n % 50} w{n % 7} w{n}" for n in range(4000)]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
index = fastseq.Index.build(pa.table({"text": texts}), sys.argv[1], memory=30_000, threads=2)
print(json.dumps([spilled[-1], index.summary["documents"], index.search("w77").ids[0][0]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit to set")
def test_spilled_slices_are_one_file(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FEW_FILES, tmp_path / "index"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    slices, documents, first = json.loads(ran.stdout)
    assert slices > 64
    assert (documents, first) == (4000, 77)
