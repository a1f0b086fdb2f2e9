"""Stored columns: groups independent of batching, reading of rows, damage."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, FormatError
from fastseq.store import documents
from fastseq.store.container import Container, ContainerWriter
from fastseq.store.documents import (
    GROUP_ROWS,
    DocumentWriter,
    ParquetDocuments,
    StoredDocuments,
    open_documents,
    read_schema,
    schema_bytes,
    schema_text,
)
from fastseq.store.recent import Recent

ROWS = 20_000
PARQUET_ROWS = 4096  # of a row group in format 1


def sample(rows: int = ROWS) -> pa.Table:
    return pa.table(
        {
            "id": [f"doc-{i}" for i in range(rows)],
            "n": pa.array([None if i % 7 == 0 else i for i in range(rows)], pa.int32()),
            "kind": [("module", "class", None)[i % 3] for i in range(rows)],
            "tags": [["x", "y"][: i % 3] for i in range(rows)],
            "flag": [None if i % 5 == 0 else i % 2 == 0 for i in range(rows)],
        }
    )


def opened(
    read: Callable[[int, int], Any], schema: Any, rows: list[int], sizes: list[int], *parts: Any,
    name: str = "documents",
) -> StoredDocuments:  # fmt: skip
    """A reader; `read` gives the bytes of a range."""

    def read_many(starts: list[int], stops: list[int]) -> list[Any]:
        return list(map(read, starts, stops))

    return open_documents(name, read_many, schema, rows, sizes, *parts)


class Written:
    """What a DocumentWriter made of a table, given in parts."""

    def __init__(self, table: pa.Table, cuts: list[int] | None = None, copied: bool = False):
        self.groups: list[bytes] = []
        writer = DocumentWriter(lambda group: self.groups.append(bytes(group)), table.schema)
        for start, stop in pairwise([0, *sorted(cuts or []), table.num_rows]):
            part = table.slice(start, stop - start)
            if copied:  # rather than views of the table's buffers
                part = pa.Table.from_pylist(part.to_pylist(), table.schema)
            writer.append(part)
        writer.end_group()
        writer.end_group()  # nothing is pending
        self.rows, self.sizes, self.schema = writer.rows, writer.sizes, writer.schema
        self.parts, self.column_parts = writer.parts, writer.column_parts
        self.group_parts = writer.group_parts
        assert self.sizes == [len(group) for group in self.groups]
        assert sum(self.rows) == table.num_rows * len(self.parts)

    def reader(self, read: Callable[[int, int], Any] | None = None) -> StoredDocuments:
        raw = b"".join(self.groups)
        read = read or (lambda start, stop: raw[start:stop])
        return opened(
            read, schema_bytes(self.schema), self.rows, self.sizes, self.column_parts,
            self.group_parts,
        )  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return sample()


@pytest.fixture(scope="module")
def written(table: pa.Table) -> Written:
    return Written(table)


@pytest.fixture(scope="module")
def path(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of format 1."""
    target = tmp_path_factory.mktemp("documents") / "documents.parquet"
    pq.write_table(table, target, row_group_size=PARQUET_ROWS, write_page_checksum=True)
    return target


def parquet(path: Path) -> ParquetDocuments:
    return ParquetDocuments(path.read_bytes(), path)


@pytest.fixture(params=["groups", "parquet"])
def reader(request: pytest.FixtureRequest, written: Written, path: Path) -> StoredDocuments:
    return written.reader() if request.param == "groups" else parquet(path)


# ---- writing


@given(st.lists(st.integers(0, ROWS), max_size=12), st.booleans())
@settings(max_examples=15, deadline=None)
def test_groups_do_not_depend_on_batching(cuts: list[int], copied: bool) -> None:
    table = sample()
    one, other = Written(table), Written(table, cuts, copied)
    assert one.groups == other.groups
    assert one.rows == other.rows


@pytest.mark.parametrize("offset", [0, 1, 8, 1001])
def test_groups_do_not_depend_on_the_buffers_of_slices(offset: int) -> None:
    """Neither their offsets nor the bytes of other rows, which pad the buffers of a slice."""
    table = sample(2 * offset + 600).slice(offset, 509)
    assert Written(table).groups == Written(table, copied=True).groups
    assert b"doc-" not in b"".join(Written(table.select(["flag"])).groups)


def test_groups_are_arrow_streams_of_some_rows(written: Written, table: pa.Table) -> None:
    assert written.rows == [GROUP_ROWS] * (ROWS // GROUP_ROWS) + [ROWS % GROUP_ROWS]
    batches = []
    for group in written.groups:
        with ipc.open_stream(group) as stream:
            batches += list(stream)
    assert [batch.num_rows for batch in batches] == written.rows
    assert pa.Table.from_batches(batches).equals(table)
    assert sum(written.sizes) < pa.Table.from_batches(batches).nbytes


def test_long_documents_make_shorter_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "GROUP_BYTES", 10_000)
    rng = random.Random(1)
    texts = ["x" * rng.choice([0, 10, 3000, 25_000]) for _ in range(300)]
    table = pa.table({"id": pa.nulls(300, pa.string()), "text": texts})
    whole = Written(table)
    for cuts in ([1, 2, 3], [150], list(range(300))):
        assert Written(table, cuts).groups == whole.groups
    naive, size = [0], 0
    for text in texts:  # a group ends with the row that fills it
        naive[-1] += 1
        size += len(text)
        if size >= 10_000:
            naive.append(0)
            size = 0
    own = [n for n, part in zip(whole.rows, whole.group_parts, strict=True) if part]
    assert whole.parts == [["id"], ["text"]]
    assert own == [n for n in naive if n]
    taken = whole.reader().take([299, 7, 7])
    assert taken["text"].to_pylist() == [texts[299], texts[7], texts[7]]


PARTS = [["id", "n", "tags"], ["text", "title"]]


def long_rows(rows: int) -> pa.Table:
    rng = random.Random(7)
    return pa.table(
        {
            "id": [f"d{i}" for i in range(rows)],
            "text": ["x" * rng.randrange(400) for _ in range(rows)],
            "n": pa.array([None if i % 3 == 0 else i for i in range(rows)], pa.int16()),
            "title": ["title " * rng.randrange(30) if i % 9 else None for i in range(rows)],
            "tags": [["x", "y"][: i % 3] for i in range(rows)],
        }
    )


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "GROUP_BYTES", 3000)
    monkeypatch.setattr(documents, "GROUP_ROWS", 64)


@given(st.lists(st.integers(0, 300), max_size=8), st.integers(0, 299))
@settings(max_examples=20, deadline=None)
def test_columns_of_long_strings_have_groups_of_their_own(cuts: list[int], first: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "GROUP_BYTES", 3000)
        patch.setattr(documents, "GROUP_ROWS", 64)
        table = long_rows(300)
        whole, cut = Written(table), Written(table, cuts)
        assert cut.groups == whole.groups
        assert (cut.rows, cut.group_parts) == (whole.rows, whole.group_parts)
    assert whole.parts == PARTS
    assert whole.column_parts == [0, 1, 0, 1, 0]
    both = zip(whole.rows, whole.group_parts, strict=True)
    assert [rows for rows, part in both if not part] == [64, 64, 64, 64, 44]
    for number, group in enumerate(whole.groups):
        assert ipc.open_stream(group).schema.names == PARTS[whole.group_parts[number]]
    reader = whole.reader()
    for names in (["n"], ["title", "id"], ["tags", "text", "n"], table.schema.names):
        wanted = table.select(names)
        assert pa.Table.from_batches(reader.batches(names)).equals(wanted)
        found = pa.Table.from_batches(reader.rows(first, 300, names))
        assert found.equals(wanted.slice(first))
        rows = [299, first, 7, 7]
        for recent in (None, Recent(1 << 20)):
            assert reader.take(rows, names, recent).equals(wanted.take(pa.array(rows)))
    assert reader.column("title").equals(table["title"])
    assert reader.take([], ["text", "id"]).equals(table.select(["text", "id"]).slice(0, 0))
    with pytest.raises(DataError, match="no stored column 'no'"):
        reader.take([0], ["text", "no"])
    with pytest.raises(IndexError):
        reader.take([300])


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        (pa.table({"a": ["x" * 100] * 100, "b": ["y" * 100] * 100}), [["a", "b"]]),  # all are long
        (pa.table({"a": ["x" * 40] * 100, "b": ["y" * 40] * 100}), [["a", "b"]]),  # none is
        (pa.table({"a": ["x" * 100] * 20, "b": range(20)}), [["a", "b"]]),  # one group
        (pa.table({"a": [*[""] * 64, *["x" * 100] * 64], "b": range(128)}), [["a", "b"]]),
        (pa.table({"a": ["x" * 100] * 100, "b": range(100)}), [["b"], ["a"]]),
    ],
)
def test_when_columns_have_groups_of_their_own(
    small_groups: None, table: pa.Table, parts: list[list[str]]
) -> None:
    written = Written(table)
    assert written.parts == parts
    assert written.reader().take(range(table.num_rows)).equals(table)


def test_parts_that_contradict_the_columns(small_groups: None) -> None:
    written = Written(long_rows(200))
    good = written.column_parts, written.group_parts
    for of_columns, of_groups in (
        (good[0][:-1], good[1]),
        (good[0], good[1][:-1]),
        ([0, 0, 0, 0, 0], good[1]),
        (good[0], [0, *good[1][1:]] if good[1][0] else [1, *good[1][1:]]),
        (good[0], [2, *good[1][1:]]),
    ):
        written.column_parts, written.group_parts = of_columns, of_groups
        with pytest.raises(FormatError, match=r"^documents: damaged"):
            written.reader()
    written.column_parts, written.group_parts = [1 - part for part in good[0]], good[1]
    with pytest.raises(FormatError, match=r"^documents: damaged"):  # the groups have other columns
        written.reader().take([0])


def test_groups_of_another_writer_are_copied(written: Written, table: pa.Table) -> None:
    """As merging does: the rows before them end a group."""
    groups: list[bytes] = []
    reader = written.reader()
    writer = DocumentWriter(lambda group: groups.append(bytes(group)), table.schema)
    writer.append(table.slice(0, 100))
    for number in (3, 0):
        writer.append_group(reader.group(number), written.rows[number])
    writer.append(table.slice(7, 5))
    writer.end_group()
    assert writer.rows == [100, GROUP_ROWS, GROUP_ROWS, 5]
    assert groups[1:3] == [written.groups[3], written.groups[0]]
    merged = opened(
        lambda a, b: b"".join(groups)[a:b], schema_bytes(table.schema), writer.rows, writer.sizes
    )
    parts = ((0, 100), (3 * GROUP_ROWS, GROUP_ROWS), (0, GROUP_ROWS), (7, 5))
    expected = pa.concat_tables([table.slice(*part) for part in parts])
    assert merged.take(range(merged.num_rows)).equals(expected)


def test_unsupported_type_is_named() -> None:
    """pyarrow cannot take rows of them; the corpus decodes those outside of lists and structs."""
    encoded = [
        pa.dictionary(pa.int8(), pa.string()), pa.string_view(), pa.binary_view(),
        pa.run_end_encoded(pa.int32(), pa.string()),
    ]  # fmt: skip
    for inner in encoded:
        for kind in (inner, pa.list_(inner), pa.struct([("a", pa.int8()), ("b", inner)])):
            schema = pa.schema([("id", pa.string()), ("span", kind)])
            with pytest.raises(DataError, match=r"column 'span' is .*cannot be stored.*store="):
                DocumentWriter(print, schema)


def test_types_that_parquet_lacks_are_stored() -> None:
    rows = 200
    interval = pa.array([(1, 2, 3), None] * (rows // 2), pa.month_day_nano_interval())
    pair = pa.UnionArray.from_sparse(pa.array([0, 1] * 100, pa.int8()), [pa.array(range(rows))] * 2)
    table = pa.table({"span": interval, "pair": pair, "none": pa.nulls(rows)})
    reader = Written(table).reader()
    assert reader.take(range(rows)).equals(table)
    assert reader.take([3, 2]).to_pylist() == table.to_pylist()[3:1:-1]


def test_different_schema_is_rejected(table: pa.Table) -> None:
    writer = DocumentWriter(print, table.schema)
    with pytest.raises(DataError, match="unlike those before"):
        writer.append(table.select(["id"]))


def test_metadata_of_a_schema_is_not_stored() -> None:
    plain = pa.table({"a": ["x"]})
    table = plain.replace_schema_metadata({"pandas": "a version and a date"})
    assert Written(table).groups == Written(plain).groups
    assert schema_text(table.schema) == schema_text(plain.schema)


def test_errors_of_the_disk_pass_through() -> None:
    def full(group: Any) -> None:
        raise OSError(28, "No space left on device")

    writer = DocumentWriter(full, sample(10).schema)
    writer.append(sample(10))
    with pytest.raises(OSError, match="No space left"):
        writer.end_group()


def test_schemas_as_text() -> None:
    schema = sample(1).schema
    assert read_schema(schema_text(schema), "manifest").equals(schema)
    assert read_schema("", "manifest").names == []
    for damaged in ("?", "AAAA", schema_text(schema)[:40]):
        with pytest.raises(FormatError, match="manifest: damaged"):
            read_schema(damaged, "manifest")


# ---- reading


@pytest.mark.parametrize("count", [1, 3, 2000])
def test_take_returns_the_given_rows(reader: StoredDocuments, table: pa.Table, count: int) -> None:
    rows = np.random.default_rng(count).integers(0, ROWS, count).astype(np.int32)
    assert reader.num_rows == ROWS
    assert reader.columns == table.schema.names
    assert reader.schema.equals(table.schema)
    assert reader.take(rows).equals(table.take(pa.array(rows)))
    assert reader.take(rows, [], Recent(1 << 20)).num_columns == 0
    some = reader.take(rows, ["kind", "id"])
    assert some.equals(table.select(["kind", "id"]).take(pa.array(rows)))


def test_take_of_no_rows_and_of_rows_out_of_range(reader: StoredDocuments) -> None:
    assert reader.take([]).num_rows == 0
    assert reader.take([], ["n"]).schema.names == ["n"]
    for rows in ([-1], [0, ROWS]):
        with pytest.raises(IndexError):
            reader.take(rows)
    said = "no stored column 'text'; stored are: id, n, kind, tags, flag"
    with pytest.raises(DataError, match=said):
        reader.take([0], ["text"])
    with pytest.raises(DataError, match="no stored column 'text'"):
        reader.column("text")


def test_few_hits_read_few_groups(reader: StoredDocuments, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[int], list[str]]] = []
    read = type(reader)._read

    def spy(self: Any, groups: Any, names: list[str]) -> pa.Table:
        seen.append((list(groups), names))
        return read(self, groups, names)

    monkeypatch.setattr(type(reader), "_read", spy)
    size = int(reader.starts[1])
    reader.take([5, size + 1, 6], ["id", "n"])
    assert seen == [([0, 1], ["id", "n"])]
    reader.take(range(0, ROWS, 100), ["id"])  # most of them: read once, then kept
    assert seen[1:] == [([*range(len(reader.starts) - 1)], ["id"])]
    reader.take(range(0, ROWS, 50), ["id"])
    assert reader.column("id").num_chunks == 1
    assert len(seen) == 2


@pytest.mark.parametrize("cores", [1, 3])
def test_rows_of_many_groups_are_read_on_threads(
    table: pa.Table, small_groups: None, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(documents, "core_count", lambda: cores)
    monkeypatch.setattr(documents, "_AT_ONCE", 2)
    written = Written(table)
    raw, names = b"".join(written.groups), set()

    def read(start: int, stop: int) -> bytes:
        time.sleep(0.001)  # so that other threads begin
        names.add(threading.current_thread().name)
        return raw[start:stop]

    reader = written.reader(read)
    groups = len(reader.starts) - 1
    assert groups > 40
    chance = np.random.default_rng(cores)
    chosen = chance.choice(groups, groups // 2, replace=False)
    rows = np.concatenate([reader.starts[chosen], reader.starts[chosen + 1] - 1, [ROWS - 1]])
    chance.shuffle(rows)
    assert reader.take(rows).equals(table.take(pa.array(rows)))
    assert len(names) == cores

    def fail(start: int, stop: int) -> bytes:
        if start > len(raw) // 2:
            raise FormatError("the checksum is wrong")
        return raw[start:stop]

    with pytest.raises(FormatError, match="the checksum is wrong"):
        written.reader(fail).take(rows)


@pytest.mark.parametrize("limit", [1 << 30, 3000])
def test_few_rows_are_the_same_from_a_cache_of_groups(
    reader: StoredDocuments, table: pa.Table, limit: int
) -> None:
    recent, rng = Recent(limit), np.random.default_rng(7)
    for _ in range(20):
        rows = rng.integers(0, ROWS, 10)
        assert reader.take(rows, recent=recent).equals(table.take(pa.array(rows)))
        some = reader.take(rows, ["tags", "id"], recent)
        assert some.equals(table.select(["tags", "id"]).take(pa.array(rows)))
        assert recent.nbytes <= limit


def test_groups_in_a_cache_are_not_read_again(written: Written) -> None:
    raw, asked = b"".join(written.groups), []

    def read(start: int, stop: int) -> bytes:
        asked.append(start)
        return raw[start:stop]

    recent, reader = Recent(1 << 30), written.reader(read)
    first = reader.take([0, 1, 500], None, recent)
    known = len(asked)
    assert known
    assert reader.take([0, 1, 500], None, recent).equals(first)
    assert len(asked) == known
    # another reader with the same cache has its own groups
    other = written.reader(lambda start, stop: read(start, stop))
    assert other.take([0, 1, 500], None, recent).equals(first)
    assert len(asked) > known


def test_only_the_bytes_of_a_column_of_a_group_are_asked_for(written: Written) -> None:
    raw, asked = b"".join(written.groups), set()

    def read(start: int, stop: int) -> bytes:
        asked.update(range(start, stop))
        return raw[start:stop]

    reader = written.reader(read)
    starts = np.cumsum([0, *written.rows]).tolist()
    reader.take([starts[1], starts[5] - 1], ["id"])
    ends = np.cumsum(written.sizes).tolist()
    groups = {*range(ends[0], ends[1]), *range(ends[3], ends[4])}
    assert asked < groups
    assert len(asked) < 0.6 * len(groups)
    reader.take([starts[1], starts[5] - 1])
    assert 0.9 * len(groups) < len(asked & groups) == len(asked)


def test_columns_are_cached(reader: StoredDocuments, table: pa.Table) -> None:
    assert reader.column("kind").equals(table["kind"])
    assert reader.column("kind") is reader.column("kind")


def test_an_empty_table(tmp_path: Path) -> None:
    pq.write_table(sample(0), tmp_path / "documents.parquet")
    assert Written(sample(0)).groups == []
    for reader in (Written(sample(0)).reader(), parquet(tmp_path / "documents.parquet")):
        assert reader.num_rows == 0
        assert reader.column("id").to_pylist() == []
        assert reader.take([]).num_rows == 0


# ---- damage


def test_damage_of_groups_is_found(tmp_path: Path, table: pa.Table) -> None:
    """Bytes changed anywhere: a FormatError naming the file, or the right rows. The checksums are
    those of the container."""
    whole = tmp_path / "whole"
    writer = ContainerWriter(whole)
    stored = DocumentWriter(writer.region("documents", np.uint8).append, table.schema)
    stored.append(table)
    stored.end_group()
    writer.finish()
    raw = whole.read_bytes()
    rng = random.Random(3)
    rows = [*range(0, ROWS, 997)]
    expected = table.take(pa.array(rows))
    messages = []
    for _ in range(100):
        damaged = bytearray(raw)
        damaged[rng.randrange(len(raw) - writer.footer)] ^= rng.randrange(1, 256)
        container = Container(Path("f"), damaged, writer.footer, writer.crc32)

        def read(start: int, stop: int, container: Container = container) -> Any:
            container.verify("documents", start, stop)
            return container.unverified("documents")[start:stop]

        schema = schema_bytes(table.schema)
        reader = opened(read, schema, stored.rows, stored.sizes, name="f")
        try:
            assert reader.take(rows).equals(expected)
        except FormatError as error:
            messages.append(str(error))
        with pytest.raises(FormatError, match="f: damaged"):
            [reader.column(name) for name in reader.columns]
    assert 30 < len(messages) <= 100
    said = "f: damaged: the checksum of documents is wrong"
    assert all(message.startswith(said) for message in messages)


def test_groups_that_contradict_the_index(written: Written, table: pa.Table) -> None:
    """A file that was written wrong."""
    raw = b"".join(written.groups)
    schema = schema_bytes(table.schema)
    other = schema_bytes(table.select(["id"]).schema)
    for read, kept, rows in (
        (lambda a, b: raw[a:b], schema, [written.rows[0] + 1, *written.rows[1:]]),
        (lambda a, b: raw[a + 8 : b + 8], schema, written.rows),
        (lambda a, b: b"", schema, written.rows),
        (lambda a, b: bytes(b - a), schema, written.rows),
        (lambda a, b: Written(pa.table({"q": [1]})).groups[0], other, written.rows),
    ):
        reader = opened(read, kept, rows, written.sizes)
        with pytest.raises(FormatError, match=r"^documents: damaged"):
            reader.take([0])
    with pytest.raises(FormatError, match=r"^documents: damaged"):
        opened(lambda a, b: b"", b"no schema", [], [])


def test_damage_of_parquet_is_found_and_never_crashes(path: Path, table: pa.Table) -> None:
    """Bytes changed anywhere: a FormatError naming the file, or the right rows."""
    raw = path.read_bytes()
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    rng = random.Random(3)
    messages = []
    for _ in range(150):
        damaged = bytearray(raw)
        at = rng.randrange(footer)
        damaged[at] ^= rng.randrange(1, 256)
        try:
            reader = ParquetDocuments(damaged, "documents.parquet")
            rows = {name: reader.column(name) for name in reader.columns}
            assert pa.table(rows).equals(table)
        except FormatError as error:
            messages.append(str(error))
    assert len(messages) > 140
    assert all(m.startswith("documents.parquet: damaged") and "\n" not in m for m in messages)


def test_damaged_footer_of_parquet_never_crashes(path: Path) -> None:
    code = f"""if True:
        import random
        from pathlib import Path
        from fastseq.errors import FormatError
        from fastseq.store.documents import ParquetDocuments
        raw = Path({str(path)!r}).read_bytes()
        footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
        rng = random.Random(4)
        caught = 0
        for _ in range(300):
            damaged = bytearray(raw)
            for _ in range(rng.choice([1, 3])):
                damaged[rng.randrange(footer, len(raw))] = rng.randrange(256)
            try:
                reader = ParquetDocuments(damaged, "f")
                for name in reader.columns:
                    reader.column(name)
                reader.take([0, reader.num_rows - 1])
            except FormatError:
                caught += 1
        print(caught)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


@pytest.mark.parametrize("size", [0, 3, 4, 100, -1, -9])
def test_truncated_parquet_files(path: Path, size: int) -> None:
    with pytest.raises(FormatError, match=r"documents\.parquet: damaged"):
        ParquetDocuments(path.read_bytes()[:size], "documents.parquet")
