"""Stored columns: files independent of batching, reading of rows, damage."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, FastseqError, FormatError
from fastseq.store import documents
from fastseq.store.documents import (
    GROUP_ROWS,
    DocumentReader,
    DocumentWriter,
)

ROWS = 20_000


def sample(rows: int = ROWS) -> pa.Table:
    return pa.table(
        {
            "id": [f"doc-{i}" for i in range(rows)],
            "n": pa.array([None if i % 7 == 0 else i for i in range(rows)], pa.int32()),
            "kind": [("module", "class", None)[i % 3] for i in range(rows)],
            "tags": [["x", "y"][: i % 3] for i in range(rows)],
        }
    )


def written(table: pa.Table, cuts: list[int] | None = None) -> bytes:
    file = io.BytesIO()
    with DocumentWriter(file, table.schema, "id") as writer:
        edges = [0, *sorted(cuts or []), table.num_rows]
        for start, stop in pairwise(edges):
            writer.append(table.slice(start, stop - start))
    assert writer.num_rows == table.num_rows
    return file.getvalue()


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return sample()


@pytest.fixture(scope="module")
def path(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("documents") / "documents.parquet"
    with DocumentWriter(target, table.schema, "id") as writer:
        writer.append(table)
    return target


@given(st.lists(st.integers(0, ROWS), max_size=12))
@settings(max_examples=15, deadline=None)
def test_file_does_not_depend_on_batching(cuts: list[int]) -> None:
    table = sample()
    assert written(table, cuts) == written(table)


def test_row_groups_have_4096_rows(path: Path, table: pa.Table) -> None:
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
    assert sizes == [GROUP_ROWS] * (ROWS // GROUP_ROWS) + [ROWS % GROUP_ROWS]
    assert pq.read_table(path).equals(table)


def test_long_documents_make_shorter_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "GROUP_BYTES", 10_000)
    rng = random.Random(1)
    texts = ["x" * rng.choice([0, 10, 3000, 25_000]) for _ in range(300)]
    table = pa.table({"id": pa.nulls(300, pa.string()), "text": texts})
    whole = written(table)
    for cuts in ([1, 2, 3], [150], list(range(300))):
        assert written(table, cuts) == whole
    metadata = pq.read_metadata(io.BytesIO(whole))
    sizes = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
    naive, size = [0], 0
    for text in texts:  # a group ends with the row that fills it
        naive[-1] += 1
        size += len(text)
        if size >= 10_000:
            naive.append(0)
            size = 0
    assert sizes == [n for n in naive if n]
    reader = DocumentReader(whole, "documents")
    assert reader.take([299, 7, 7])["text"].to_pylist() == [texts[299], texts[7], texts[7]]


@pytest.mark.parametrize("count", [1, 3, 2000])
def test_take_returns_the_given_rows(path: Path, table: pa.Table, count: int) -> None:
    rows = np.random.default_rng(count).integers(0, ROWS, count).astype(np.int32)
    for reader in (DocumentReader(path), DocumentReader(bytearray(path.read_bytes()))):
        assert reader.num_rows == ROWS
        assert reader.columns == table.schema.names
        assert reader.take(rows).equals(table.take(pa.array(rows)))
        some = reader.take(rows, ["kind", "id"])
        assert some.equals(table.select(["kind", "id"]).take(pa.array(rows)))


def test_take_of_no_rows_and_of_rows_out_of_range(path: Path) -> None:
    reader = DocumentReader(path)
    assert reader.take([]).num_rows == 0
    assert reader.take([], ["n"]).schema.names == ["n"]
    for rows in ([-1], [0, ROWS]):
        with pytest.raises(IndexError):
            reader.take(rows)
    with pytest.raises(DataError, match="no stored column 'text'; stored are: id, n, kind, tags"):
        reader.take([0], ["text"])
    with pytest.raises(DataError, match="no stored column 'text'"):
        reader.column("text")


def test_few_hits_read_few_row_groups(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = DocumentReader(path)
    seen: list[list[int]] = []
    read = reader._file.read_row_groups

    def spy(groups: list[int], **options: object) -> pa.Table:
        seen.append(groups)
        return read(groups, **options)

    monkeypatch.setattr(reader._file, "read_row_groups", spy)
    reader.take([5, GROUP_ROWS + 1, 6])
    assert seen == [[0], [1]]
    reader.take(range(0, ROWS, 100), ["id"])  # most of them: read once, then kept
    assert seen[2:] == [[0, 1, 2, 3, 4]]
    reader.take(range(0, ROWS, 50), ["id"])
    assert reader.column("id").num_chunks == 1
    assert len(seen) == 3


def test_columns_are_cached(path: Path, table: pa.Table) -> None:
    reader = DocumentReader(path)
    assert reader.column("kind").equals(table["kind"])
    assert reader.column("kind") is reader.column("kind")


def test_an_empty_table() -> None:
    raw = written(sample(0))
    reader = DocumentReader(raw, "documents")
    assert reader.num_rows == 0
    assert reader.column("id").to_pylist() == []
    assert reader.take([]).num_rows == 0


def test_unsupported_type_is_named() -> None:
    interval = pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    table = pa.table({"id": ["a"], "span": interval})
    with pytest.raises(DataError, match=r"column 'span' is month_day_nano_interval.*store="):
        DocumentWriter(io.BytesIO(), table.schema)


def test_different_schema_is_rejected(table: pa.Table) -> None:
    writer = DocumentWriter(io.BytesIO(), table.schema)
    with pytest.raises(DataError, match="unlike those before"):
        writer.append(table.select(["id"]))


def test_full_disk_error_is_one_line() -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    def write() -> None:
        with DocumentWriter(Full(), sample(10).schema) as writer:
            writer.append(sample(10))

    with pytest.raises(FastseqError, match="No space left"):
        write()


def test_damage_is_found_and_never_crashes(path: Path, table: pa.Table) -> None:
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
            reader = DocumentReader(damaged, "documents.parquet")
            rows = {name: reader.column(name) for name in reader.columns}
            assert pa.table(rows).equals(table)
        except FormatError as error:
            messages.append(str(error))
    assert len(messages) > 140
    assert all(m.startswith("documents.parquet: damaged") and "\n" not in m for m in messages)


def test_damaged_footer_never_crashes(path: Path) -> None:
    code = f"""if True:
        import random
        from pathlib import Path
        from fastseq.errors import FormatError
        from fastseq.store.documents import DocumentReader
        raw = Path({str(path)!r}).read_bytes()
        footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
        rng = random.Random(4)
        caught = 0
        for _ in range(300):
            damaged = bytearray(raw)
            for _ in range(rng.choice([1, 3])):
                damaged[rng.randrange(footer, len(raw))] = rng.randrange(256)
            try:
                reader = DocumentReader(damaged, "f")
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
def test_truncated_files(path: Path, tmp_path: Path, size: int) -> None:
    short = tmp_path / "documents.parquet"
    short.write_bytes(path.read_bytes()[:size])
    with pytest.raises(FormatError, match=r"documents\.parquet: damaged"):
        DocumentReader(short)
    with pytest.raises(FormatError, match="nowhere: missing"):
        DocumentReader(tmp_path / "nowhere")


def test_views_inside_lists_are_rejected() -> None:
    """pyarrow writes them and cannot take rows of them."""
    schema = pa.schema([("tags", pa.list_(pa.string_view()))])
    with pytest.raises(DataError, match="tags"):
        DocumentWriter(pa.BufferOutputStream(), schema)
