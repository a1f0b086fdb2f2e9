"""Corpora: column rules, every Arrow type of strings, batches of any size, bad files."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, SettingsError
from fastseq.store import sources
from fastseq.store.arrays import byte_lengths, plain, plain_type, to_texts
from fastseq.store.data_files import LocalFile
from fastseq.store.rows import Corpus, RowBatch

STRING_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
]
WORDS = ["a", "", None, "猫 喜欢 吃 鱼", "naïve café", "x" * 40, "\N{GRINNING FACE} ok", "b c"]
strings = st.lists(st.one_of(st.none(), st.text(max_size=20)), min_size=1, max_size=40)


class Stream:
    """Anything with Arrow's stream interface, as a data frame has it."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


class Array:
    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return self.batch.__arrow_c_array__(requested_schema)


def of_type(values: list[str | None], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    if "binary" in str(kind):
        return pa.array([None if v is None else v.encode() for v in values], kind)
    return pa.array(values, kind)


def texts_in(batches: list[RowBatch]) -> list[str]:
    return [text for batch in batches for text in batch.texts.to_strings()]


def write(path: Path, columns: dict[str, object], **options: object) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize(
    ("columns", "id_column", "text"),
    [
        (["id", "text"], "id", "text"),
        (["_id", "doc_id", "text"], "doc_id", "text"),
        (["_id", "title", "text"], "_id", "text"),
        (["title", "text"], None, "text"),
        (["id", "body"], "id", "body"),
        (["body"], None, "body"),
    ],
)
def test_columns_are_guessed(columns: list[str], id_column: str | None, text: str) -> None:
    corpus = Corpus.open(pa.table({name: ["x", "y"] for name in columns}))
    assert (corpus.id_column, corpus.text_columns) == (id_column, (text,))
    assert corpus.stored_columns == tuple(columns)


def test_data_frame_index_is_a_column_only_if_named() -> None:
    table = pa.table({"body": ["x"], "__index_level_0__": ["row"]})
    corpus = Corpus.open(table)
    assert corpus.text_columns == corpus.stored_columns == ("body",)
    named = Corpus.open(table, id_column="__index_level_0__")
    assert next(named.batches()).ids.to_pylist() == ["row"]


def test_numeric_columns_do_not_affect_the_guessed_text() -> None:
    corpus = Corpus.open(pa.table({"n": [1], "body": ["x"], "f": [0.5]}))
    assert corpus.text_columns == ("body",)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id_column": "nr"}, "no column 'nr'"),
        ({"text_columns": ["body"]}, "no column 'body'"),
        ({"text_columns": "a", "store": ["url"]}, "no column 'url'"),
        ({}, "which column is the text"),
    ],
)
def test_missing_column_error_lists_the_columns(
    tmp_path: Path, options: dict[str, object], said: str
) -> None:
    path = write(tmp_path / "docs.parquet", {"key": [1], "a": ["x"], "b": ["y"]})
    with pytest.raises(DataError) as error:
        Corpus.open(path, **options)  # type: ignore[arg-type]
    message = str(error.value)
    assert said in message
    assert str(path) in message
    assert "key (int64), a (string), b (string)" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": [["x"]], "text": ["x"]}, "id column .id. is list<.*expected strings, numbers"),
        ({"id": [True], "text": ["x"]}, "id column 'id' is bool"),
        ({"id": ["a"], "text": [1]}, "text column 'text' is int64, expected strings"),
        ({"id": ["a"], "text": [[1]]}, "text column 'text' is list<"),
    ],
)
def test_unsuitable_types_are_rejected(columns: dict[str, list[object]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        Corpus.open(pa.table(columns))


def test_duplicate_column_names() -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"])
    with pytest.raises(DataError, match="2 columns called 'text'"):
        Corpus.open(table)


@pytest.mark.parametrize("kind", STRING_TYPES, ids=str)
def test_every_type_of_strings_is_the_same_text(tmp_path: Path, kind: pa.DataType) -> None:
    values = WORDS * 3
    table = pa.table({"id": list(range(len(values))), "text": of_type(values, kind)})
    wanted = [v or "" for v in values]
    path = tmp_path / "docs.parquet"
    try:
        pq.write_table(table, path)
    except pa.ArrowNotImplementedError:  # views, in older versions
        pq.write_table(table.set_column(1, "text", table["text"].cast(plain_type(kind))), path)
    sliced = pa.concat_tables([table.slice(0, 5), table.slice(5, 9), table.slice(14)])
    for source in (table, sliced, Stream(table), path):
        for max_bytes in (1, 37, 1 << 20):
            batches = list(Corpus.open(source).batches(max_bytes))
            assert texts_in(batches) == wanted
            assert sum(batch.null_texts for batch in batches) == 3
            stored = pa.concat_tables([b.kept for b in batches])
            assert [str(t) for t in stored.schema.types] == [
                "int64",
                "binary" if "binary" in str(kind) else "string",
            ]
            column = stored["text"].cast(pa.string()).to_pylist()
            assert column == values
    (batch,) = Corpus.open(table.slice(3, 7)).batches()
    assert batch.texts.to_strings() == wanted[3:10]


def test_dictionary_of_views_is_text_too() -> None:
    values = pa.array(["one", "a long string that no view holds inline"], pa.string_view())
    codes = pa.array([1, None, 0, 1, 0], pa.int32())
    table = pa.table({"text": pa.DictionaryArray.from_arrays(codes, values)})
    (batch,) = Corpus.open(table.slice(1)).batches()
    assert batch.texts.to_strings() == ["", "one", values[1].as_py(), "one"]
    assert batch.null_texts == 1


@given(strings, st.integers(1, 60), st.integers(1, 9))
@settings(max_examples=80, deadline=None)
def test_batches_of_any_size_are_the_same_corpus(
    values: list[str | None], max_bytes: int, chunk: int
) -> None:
    ids = [f"d{i}" for i in range(len(values))]
    whole = pa.table({"id": ids, "text": pa.array(values, pa.string()), "n": range(len(ids))})
    parts = pa.concat_tables([whole.slice(i, chunk) for i in range(0, len(ids), chunk)])
    batches = list(Corpus.open(parts).batches(max_bytes))
    assert texts_in(batches) == [v or "" for v in values]
    assert sum(b.null_texts for b in batches) == values.count(None)
    assert pa.concat_tables([b.kept for b in batches]).combine_chunks().equals(whole)
    assert [i for b in batches for i in b.ids.to_pylist()] == ids
    assert [b.first_row for b in batches] == [0, *np.cumsum([b.rows for b in batches])[:-1]]


def test_null_slots_with_bytes_are_empty_texts() -> None:
    text = pa.Array.from_buffers(
        pa.string(),
        3,
        [
            pa.py_buffer(bytes([0b101])),
            pa.py_buffer(np.array([0, 2, 5, 6], np.int32)),
            pa.py_buffer(b"abJUNc"),
        ],
    )
    (batch,) = Corpus.open(pa.table({"text": text})).batches()
    assert batch.texts.to_strings() == ["ab", "", "c"]
    assert batch.null_texts == 1


def test_text_columns_are_joined_by_a_space() -> None:
    table = pa.table(
        {
            "id": ["1", "2", "3", "4"],
            "title": pa.array(["T", None, None, ""], pa.string_view()),
            "text": pa.array([b"x", b"y", None, b"z"], pa.large_binary()),
        }
    )
    (batch,) = Corpus.open(table, text_columns=["title", "text"], store=["id"]).batches()
    assert batch.texts.to_strings() == ["T x", " y", " ", " z"]
    assert batch.null_texts == 1
    assert batch.kept.schema.names == ["id"]
    (batch,) = Corpus.open(table, text_columns=("text", "title", "text"), store=()).batches()
    assert batch.texts.to_strings()[0] == "x T x"


def test_stored_columns() -> None:
    table = pa.table({"n": [1], "id": ["a"], "text": ["x"], "l": [["p", "q"]]})
    assert Corpus.open(table).stored_columns == ("n", "id", "text", "l")
    assert Corpus.open(table, store="l").stored_columns == ("id", "l")
    assert Corpus.open(table, store=["n", "id", "n"]).stored_columns == ("id", "n")
    (batch,) = Corpus.open(table.drop_columns("id"), store=[]).batches()
    assert batch.kept is None
    assert batch.ids is None


def test_a_column_without_a_name_is_stored(tmp_path: Path) -> None:
    """As a data frame's index in a CSV file."""
    path = tmp_path / "frame.csv"
    path.write_text(",text\n7,cat sat\n8,dog\n")
    for source in (path, pa.table({"": [7, 8], "text": ["cat sat", "dog"]})):
        corpus = Corpus.open(source)
        assert corpus.stored_schema.names == ["", "text"]
        (batch,) = corpus.batches()
        assert batch.kept.column("").to_pylist() == [7, 8]
        (batch,) = Corpus.open(source, id_column="").batches()
        assert batch.ids.to_pylist() == [7, 8]


def test_the_arrays_are_what_kernels_expect_and_outlive_the_batch(tmp_path: Path) -> None:
    path = write(tmp_path / "docs.parquet", {"text": [f"text number {i}" for i in range(5000)]})
    batches = Corpus.open(path).batches(10_000)
    texts = next(batches).texts
    batches.close()
    del batches
    gc.collect()
    pa.default_memory_pool().release_unused()
    for array, kind in ((texts.data, np.uint8), (texts.offsets, np.int64)):
        assert array.dtype == kind
        assert array.flags.writeable
        assert array.flags.c_contiguous
    assert texts.offsets[0] == 0
    assert texts.to_strings()[:2] == ["text number 0", "text number 1"]


def test_paths_folders_globs_and_lists(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet", "sub/c.parquet", ".hidden.parquet", "_tmp/d.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, {"text": [name]})
    (tmp_path / "notes.txt").write_text("not Parquet")
    index = tmp_path / "index"
    (index / "data-000001").mkdir(parents=True)
    write(index / "data-000001" / "documents.parquet", {"text": ["of an index"]})
    (index / "manifest.json").write_text("{}")

    def read(source: object) -> list[str]:
        return texts_in(list(Corpus.open(source).batches()))

    assert read(tmp_path) == ["a.parquet", "b.parquet", "sub/c.parquet"]
    assert read(str(tmp_path / "*.parquet")) == ["a.parquet", "b.parquet"]
    assert read(str(tmp_path / "**" / "c.*")) == ["sub/c.parquet"]
    both = [tmp_path / "b.parquet", str(tmp_path / "[ab].parquet")]
    assert read(both) == ["b.parquet", "a.parquet"]
    (tmp_path / "we[i]rd.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
    assert read(tmp_path / "we[i]rd.parquet") == ["a.parquet"]


def test_sizes_are_known_before_reading(tmp_path: Path) -> None:
    plain = {"use_dictionary": False, "write_statistics": False}
    write(tmp_path / "a.parquet", {"id": [1, 2], "text": ["x" * 500, "y" * 500]}, **plain)
    write(tmp_path / "b.parquet", {"id": [3], "text": ["z" * 1000]}, **plain)
    corpus = Corpus.open(tmp_path)
    assert corpus.num_rows == 3
    assert 2000 <= (corpus.num_bytes or 0) <= 2600
    table = pa.table({"text": ["x" * 100]})
    assert Corpus.open(table).num_rows == 1
    assert (Corpus.open(table).num_bytes or 0) >= 100
    reader = Corpus.open(table.to_reader())
    assert (reader.num_rows, reader.num_bytes) == (None, None)


def test_streams() -> None:
    table = pa.table({"text": ["a", "b"]})
    frame = Corpus.open(Stream(table))
    assert texts_in(list(frame.batches())) == texts_in(list(frame.batches())) == ["a", "b"]
    once = Corpus.open(table.to_reader())
    assert texts_in(list(once.batches())) == ["a", "b"]
    with pytest.raises(DataError, match="read once"):
        list(once.batches())
    array = Corpus.open(Array(table.to_batches()[0]))
    assert texts_in(list(array.batches())) == ["a", "b"]
    assert texts_in(list(Corpus.open(table.to_batches()[0]).batches())) == ["a", "b"]


def test_stream_that_fails() -> None:
    def rows() -> object:
        yield pa.record_batch({"text": ["a"]})
        raise OSError("the line was cut")

    reader = pa.RecordBatchReader.from_batches(pa.schema([("text", pa.string())]), rows())
    with pytest.raises(DataError, match="the line was cut"):
        list(Corpus.open(reader).batches(1))


@pytest.mark.parametrize("source", [3, None, [], [1, 2], {"text": ["x"]}.items()])
def test_invalid_corpora(source: object) -> None:
    with pytest.raises(SettingsError, match="expected paths"):
        Corpus.open(source)


def test_files_must_agree(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"id": ["x"], "text": ["a"], "n": pa.array([1], pa.int32())})
    write(tmp_path / "b.parquet", {"n": [2], "text": pa.array(["b"], pa.large_string()), "id": "y"})
    write(tmp_path / "c.parquet", {"id": ["z"], "text": pa.nulls(1), "n": pa.nulls(1), "more": [1]})
    (batch,) = Corpus.open(tmp_path).batches()
    assert batch.kept.to_pydict() == {
        "id": ["x", "y", "z"],
        "text": ["a", "b", None],
        "n": [1, 2, None],
        "more": [None, None, 1],
    }
    write(tmp_path / "d.parquet", {"text": ["d"], "n": [1]})
    with pytest.raises(DataError, match=r"d\.parquet: no column 'id', which .*a\.parquet has"):
        Corpus.open(tmp_path)
    write(tmp_path / "d.parquet", {"id": [7], "text": ["d"], "n": [1]})
    with pytest.raises(DataError, match=r"d\.parquet: the column 'id' is int64, but string in .*a"):
        Corpus.open(tmp_path)


def test_null_ids_are_rejected(tmp_path: Path) -> None:
    ids = [str(i) for i in range(50)]
    write(tmp_path / "a.parquet", {"id": ids, "text": ids})
    write(tmp_path / "b.parquet", {"id": [*ids[:30], None, "x"], "text": ["t"] * 32})
    with pytest.raises(DataError, match=r"b\.parquet: row 30 .from 0.: the id in column 'id' is n"):
        list(Corpus.open(tmp_path).batches(64))


def test_invalid_utf8_in_ids_texts_and_stored_columns() -> None:
    broken = pa.array([b"fine", b"bad \xff", None]).view(pa.string())
    table = pa.table({"id": pa.array([b"a", b"\xc3", b"c"]).view(pa.string()), "text": broken})
    with pytest.raises(DataError, match=r"row 1 .from 0.*not UTF-8"):
        list(Corpus.open(table).batches())
    (batch,) = Corpus.open(table.drop_columns("id")).batches()
    assert batch.texts.data.tobytes() == b"finebad \xff"
    assert batch.kept["text"].to_pylist() == ["fine", "bad \N{REPLACEMENT CHARACTER}", None]


def test_integer_ids_keep_their_type(tmp_path: Path) -> None:
    ids = pa.array([2**63, 5], pa.uint64())
    path = write(tmp_path / "a.parquet", {"doc_id": ids, "text": ["a", "b"]})
    (batch,) = Corpus.open(path).batches()
    assert batch.ids.equals(ids)


def test_no_rows(tmp_path: Path) -> None:
    columns = {"id": pa.array([], pa.string()), "text": pa.nulls(0)}
    write(tmp_path / "a.parquet", columns)
    with pq.ParquetWriter(tmp_path / "b.parquet", pa.table(columns).schema):
        pass  # not even a row group
    for path in (tmp_path / "a.parquet", tmp_path / "b.parquet", tmp_path):
        corpus = Corpus.open(path)
        assert corpus.num_rows == 0
        assert list(corpus.batches()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"id,text\n1,x\n", "not a Parquet file, or one cut short"),
        (b"PAR1" + b"\0" * 60 + b"PAR1", "not a Parquet file, or one cut short"),
    ],
)
def test_files_that_are_not_parquet(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "docs.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        Corpus.open(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_truncated_and_damaged_files(tmp_path: Path) -> None:
    texts = [f"text {i} of many" for i in range(20_000)]
    path = write(tmp_path / "a.parquet", {"text": texts}, use_dictionary=False, compression="zstd")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match=r"a\.parquet.*cut short"):
        Corpus.open(path)
    path.write_bytes(raw[:2000] + b"\xff" * 3000 + raw[5000:])
    corpus = Corpus.open(path)
    with pytest.raises(DataError, match=r"a\.parquet.*damaged") as error:
        list(corpus.batches())
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.parquet"):
        list(corpus.batches())


@pytest.mark.parametrize("name", ["missing.parquet", "missing/*.parquet", "empty"])
def test_paths_without_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=name.split("/")[0]):
        Corpus.open(tmp_path / name)


def test_long_document_is_one_batch(tmp_path: Path) -> None:
    texts = ["short", "long " * 2_000_000, "short too"]
    path = write(tmp_path / "a.parquet", {"text": texts})
    batches = list(Corpus.open(path).batches(1 << 20))
    assert [b.rows for b in batches] == [1, 1, 1]
    assert texts_in(batches) == texts


def test_damaged_arrow_arrays_are_rejected() -> None:
    def text(offsets: list[int]) -> pa.Array:
        ends = np.array([0, 1, 2], np.int32)
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"abcdef")]
        array = pa.Array.from_buffers(pa.string(), 2, buffers)
        ends[:] = offsets  # behind Arrow's back, which would refuse it
        return array

    with pytest.raises(DataError, match="descend"):
        byte_lengths(text([0, 5, 2]))
    with pytest.raises(DataError, match="leave its data"):
        to_texts(text([0, 5, 5000]))
    with pytest.raises(DataError, match="leave its data"):
        to_texts(text([-3, 5, 6]))


def test_short_slice_of_a_large_array() -> None:
    data = np.zeros((1 << 31) + 100, np.uint8)  # never touched but at its end
    data[-5:] = list(b"hello")
    ends = np.array([0, len(data) - 5, len(data)], np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
    large = pa.Array.from_buffers(pa.large_string(), 2, buffers)
    assert plain(large.slice(1), pa.string()).to_pylist() == ["hello"]
    with pytest.raises(DataError, match="more than 2 GiB"):
        plain(large, pa.string())


def test_huge_row_group_is_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "docs.parquet"
    rng = np.random.default_rng(0)
    line = bytes(rng.integers(97, 123, 1 << 20, np.uint8)).decode()
    texts = [line[i : i + 1000] for i in rng.integers(0, len(line) - 1000, 100_000).tolist()]
    table = pa.table({"id": np.arange(len(texts)), "text": texts, "unused": texts})
    pq.write_table(table, path, row_group_size=len(texts), compression="lz4", use_dictionary=False)
    assert pq.read_metadata(path).num_row_groups == 1
    code = f"""if True:
        import sys
        import pyarrow as pa
        from fastseq.store.rows import Corpus
        total = sum(b.texts.nbytes for b in Corpus.open({str(path)!r}, store=["id"]).batches())
        loaded = any(name.split(".")[0] == "pandas" for name in sys.modules)
        print(total, pa.default_memory_pool().max_memory(), loaded)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    total, peak, pandas = done.stdout.split()
    assert int(total) == 100_000_000
    assert int(peak) < 25_000_000
    assert pandas == "False"  # importing it costs half a second


def opened(path: Path) -> sources.ParquetSource:
    return sources.ParquetSource(LocalFile(path))


def test_rows_read_at_a_time_follow_their_size(tmp_path: Path) -> None:
    small = opened(write(tmp_path / "s.parquet", {"text": ["x"] * 40_000}))
    assert [len(b) for b in small.read(["text"], 1 << 30)] == [sources.MAX_ROWS] * 2 + [7232]
    texts = [str(i) * 2000 for i in range(1000, 1100)]
    path = write(tmp_path / "l.parquet", {"text": texts}, use_dictionary=False, compression="none")
    assert max(len(b) for b in opened(path).read(["text"], 80_000)) == 9
