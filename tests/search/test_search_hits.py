"""Hits as tables and Arrow streams, documents by id, pickles and copies of indexes and hits."""

from __future__ import annotations

import copy
import gc
import io
import multiprocessing
import pickle
import shutil
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fastseq import Hits, Index
from fastseq.errors import DataError, FormatError, MissingExtraError
from fastseq.index import collection
from fastseq.search import hits as hits_module
from fastseq.search.display import (
    HTML_CELL,
    HTML_TITLE,
    cut,
    html_table,
    one_line,
    text_table,
    width_of,
)

ROWS = 30
TABLE = pa.table(
    {
        "id": [f"d{i}" for i in range(ROWS)],
        "title": [f"<b>Title</b> & {i}" for i in range(ROWS)],
        "text": ["green tea " * (i + 1) + "\x1b[2J" for i in range(ROWS)],
        "year": [2000 + i if i % 3 else None for i in range(ROWS)],
    }
)
RUN = ["query_id", "doc_id", "rank", "score"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index.build(TABLE, tmp_path_factory.mktemp("hits") / "index")


@pytest.fixture(scope="module")
def found(index: Index) -> Hits:
    return index.search(["tea", "nothing", "green"], k=20)


def test_rows_are_read_once_and_not_shared(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Index.open(index.path)
    read: list[int] = []
    take = type(fresh._collection).take

    def spy(self: Any, rows: Any, columns: Any = None) -> Any:
        read.extend(rows.tolist())
        return take(self, rows, columns)

    monkeypatch.setattr(type(fresh._collection), "take", spy)
    first = fresh.search("tea", k=4)
    expected = copy.deepcopy(first[0])
    first[0][0]["fields"]["title"] = "changed by the caller"
    assert first[0] == fresh.search("tea", k=4)[0] == expected
    assert len(fresh.search("tea", k=6)[0]) == 6
    assert len(read) == len(set(read)) == 6


def test_nested_values_of_rows_are_not_shared(tmp_path: Path) -> None:
    table = pa.table({"text": ["green tea", "black tea"], "tags": [["a", "b"], None]})
    index = Index.build(table, tmp_path / "index")
    index.search("green")[0][0]["fields"]["tags"].append("changed by the caller")
    assert index.search("green")[0][0]["fields"]["tags"] == ["a", "b"]


def test_rows_of_a_commit_are_its_own(tmp_path: Path) -> None:
    index = Index.build(TABLE.slice(0, 3), tmp_path / "index")
    before = index.search("green", k=3)
    shown = before[0]
    index.delete(["d0"])
    index.add([{"id": "d9", "text": "green", "title": "new", "year": 1}])
    assert sorted(hit["id"] for hit in index.search("green", k=3)[0]) == ["d1", "d2", "d9"]
    assert before[0] == shown


# ---- as a sequence


@pytest.mark.parametrize(
    ("queries", "shown"),
    [
        ("tea", "Hits(1 query, 10 hits)"),
        (["tea", "nothing", "green"], "Hits(3 queries, 20 hits)"),
        ("nothing", "Hits(1 query, 0 hits)"),
        ([], "Hits(0 queries, 0 hits)"),
        ({"tea": 1.0}, "Hits(1 query, 10 hits)"),
    ],
)
def test_repr_counts_queries_and_hits(index: Index, queries: Any, shown: str) -> None:
    assert repr(index.search(queries)) == shown


def test_hits_of_one_query_are_a_list_of_dictionaries(index: Index) -> None:
    found = index.search("tea", k=3)
    (only,) = found
    assert only == found[0] == found[-1] == found.to_dicts()
    assert [hit["rank"] for hit in found[0]] == [1, 2, 3]
    assert only in found
    assert [] not in found
    assert list(reversed(found)) == [only]
    assert found[1:].ids == []


# ---- Arrow, pandas, polars


def test_arrow_reads_the_columns_of_to_table(found: Hits) -> None:
    table = pa.table(found)
    assert table.column_names == RUN
    assert table.equals(found.to_table())
    assert pa.RecordBatchReader.from_stream(found).read_all().equals(table)
    assert pa.table(found[2:]).column("doc_id").to_pylist() == found.ids[2]


def test_arrow_stream_casts_to_the_requested_schema(found: Hits) -> None:
    kinds = [pa.int32(), pa.large_string(), pa.int64(), pa.float64()]
    schema = pa.schema(list(zip(RUN, kinds, strict=True)))
    table = pa.table(found, schema=schema)
    assert table.schema == schema
    assert table.equals(found.to_table().cast(schema))
    with pytest.raises(ValueError, match="not matching"):
        pa.table(found, schema=schema.remove(1))


@pytest.mark.parametrize("kind", [pa.string(), pa.int32(), pa.int64(), pa.uint64(), None])
def test_types_do_not_depend_on_the_number_of_hits(
    tmp_path: Path, kind: pa.DataType | None
) -> None:
    table = pa.table({"text": ["tea", "tea cup"]})
    if kind is not None:
        table = table.append_column("id", pa.array([7, 8]).cast(kind))
    index = Index.build(table, tmp_path / "index")
    some, none = index.search("tea").to_table(), index.search("nothing").to_table()
    assert some.num_rows == 2
    assert none.num_rows == 0
    assert some.schema == none.schema == index.search([]).to_table().schema
    assert some.schema.field("doc_id").type == (kind or pa.int64())


def test_stored_columns_are_added_where_asked(found: Hits) -> None:
    table = found.to_table(["a", "b", "c"], ["year", "id", "year"])
    assert table.column_names == [*RUN, "year", "id", "year"]
    assert table.column("id").to_pylist() == table.column("doc_id").to_pylist()
    assert found.to_table(columns="title").column_names == [*RUN, "title"]
    assert found.fields(0, []) == [{}] * 20


def test_columns_that_are_not_stored_are_rejected(found: Hits, tmp_path: Path) -> None:
    bare = Index.build(pa.table({"text": ["tea"]}), tmp_path / "index", store=[]).search("tea")
    for hits in (found, bare):
        with pytest.raises(DataError, match="no stored column 'price'"):
            hits.to_table(columns=["price"])
        with pytest.raises(DataError, match="no stored column 'price'"):
            hits.fields(0, ["price"])


def test_pandas_frames(found: Hits) -> None:
    pytest.importorskip("pandas")
    frame = found.to_pandas(query_ids=["a", "b", "c"], columns=["title"])
    assert list(frame.columns) == [*RUN, "title"]
    assert list(frame["doc_id"]) == [*found.ids[0], *found.ids[2]]
    assert list(frame["query_id"]) == ["a"] * 20 + ["c"] * 20


def test_polars_frames(found: Hits) -> None:
    polars = pytest.importorskip("polars")
    frame = found.to_polars(columns=["title"])
    assert frame.columns == [*RUN, "title"]
    assert frame["doc_id"].to_list() == [*found.ids[0], *found.ids[2]]
    assert polars.DataFrame(found).equals(found.to_polars())


def test_duckdb_reads_hits(found: Hits) -> None:
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    connection.register("found", found)
    sql = "select query_id, count(*), max(rank) from found group by 1 order by 1"
    assert connection.sql(sql).fetchall() == [(0, 20, 20), (2, 20, 20)]


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_missing_packages_are_named(
    found: Hits, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"pip install {package}$"):
        getattr(found, f"to_{package}")()


# ---- on a terminal


def test_printed_hits_of_one_query(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    found = index.search("tea", k=12)
    header, *rows, more = str(found).splitlines()
    assert header.split() == ["rank", "score", "id", "title", "text", "year"]
    assert [row.split()[2] for row in rows] == found.ids[0][: hits_module.SHOWN_HITS]
    assert more == "… 2 more hits"
    assert str(index.search("nothing")) == "0 hits"
    assert str(index.search("tea", k=1)).count("\n") == 1
    assert str(index.search([])) == "no queries"


def test_printed_hits_of_many_queries(index: Index) -> None:
    found = index.search(["tea", "nothing", *["tea"] * 98], k=2)
    parts = str(found).split("\n\n")
    assert len(parts) == hits_module.SHOWN_QUERIES + 1
    assert parts[0].startswith("query 0: 2 hits\nrank")
    assert parts[1] == "query 1: 0 hits"
    assert parts[-1] == "… 95 more queries"


def test_only_shown_documents_are_read(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    found = index.search(["tea"] * 50, k=20)
    read = []
    take = type(index._collection.leaves[0].segment.stored).take
    monkeypatch.setattr(
        type(index._collection.leaves[0].segment.stored),
        "take",
        lambda self, rows, *rest: read.append(len(rows)) or take(self, rows, *rest),
    )
    assert str(found)
    assert found._repr_html_()
    assert read == [hits_module.SHOWN_HITS] * hits_module.SHOWN_QUERIES * 2


@pytest.mark.parametrize("width", [1, 10, 30, 60, 200])
def test_printed_hits_fit_the_terminal(
    found: Hits, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    printed = str(found)
    rows = [line for line in printed.splitlines() if line[:4].strip().isdigit()]
    assert "\x1b" not in printed
    assert all(width_of(row) <= width for row in rows)
    if width == 30:
        assert "not shown: title, text, year" in printed
    if width == 200:
        assert "<b>Title</b> & 29" in printed


def test_rich_prints_the_table_without_markup(index: Index) -> None:
    out = io.StringIO()
    found = index.search("tea", k=3)
    Console(file=out, width=70).print(found)
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0].split()[:3] == ["rank", "score", "id"]
    assert "<b>Title</b> & " in lines[1]
    assert all(width_of(line) <= 70 for line in lines)


@given(st.lists(st.tuples(st.text(), st.integers() | st.none()), max_size=5), st.integers(1, 60))
def test_text_tables_fit(rows: list[tuple[str, int | None]], width: int) -> None:
    lines, missing = text_table(["text", "number"], rows, width)
    assert len(lines) == len(rows) + 1
    assert missing in ([], ["number"])
    assert all(width_of(line) <= width for line in lines)
    unlimited, missing = text_table(["text", "number"], rows, None)
    assert not missing
    assert len(unlimited) == len(rows) + 1


# ---- in a notebook


class Cells(HTMLParser):
    """The tags, texts and titles of the cells of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.titles: list[str | None] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        assert {name for name, _ in attributes} <= {"style", "title"}
        if tag == "td":
            self.cells.append("")
            self.titles.append(dict(attributes).get("title"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["td"]:
            self.cells[-1] += data


texts = st.text() | st.sampled_from(
    ["<script>alert(1)</script>", "\"' onclick='x", "&amp;", "猫" * 100, "a b " * 50, "x" * 20_000]
)


@given(st.lists(st.tuples(texts, texts), max_size=4), st.tuples(texts, texts))
def test_html_has_every_text_escaped(rows: list[tuple[str, str]], names: tuple[str, str]) -> None:
    parsed = Cells(html_table(names, rows, caption="<hits>"))
    assert parsed.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    values = [one_line(value) for row in rows for value in row]
    assert parsed.cells == [cut(value, HTML_CELL) for value in values]
    assert parsed.titles == [
        None if cut(value, HTML_CELL) == value else cut(value, HTML_TITLE) for value in values
    ]


def test_notebooks_show_tables(index: Index, found: Hits) -> None:
    parsed = Cells(found._repr_html_())
    assert parsed.tags == {*["div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p"]}
    assert parsed.cells[2] == found.ids[0][0]
    assert parsed.cells[3].startswith("<b>Title</b>")
    assert len(parsed.cells) == 2 * hits_module.SHOWN_HITS * 6
    long = next(title for title in parsed.titles if title is not None)
    assert long.startswith("green tea green tea")
    assert "\x1b" not in long
    assert "query 1: 0 hits" in found._repr_html_()
    assert Cells(index.search([])._repr_html_()).cells == []
    many = index.search(["tea"] * 100)._repr_html_()
    assert "95 more queries" in many
    assert many.count("<table>") == hits_module.SHOWN_QUERIES


# ---- documents by id


def test_documents_by_id(index: Index) -> None:
    for row in (0, 7, ROWS - 1):
        assert index.get(f"d{row}") == TABLE.slice(row, 1).to_pylist()[0]
        assert f"d{row}" in index
    assert index.get(np.str_("d3"))["id"] == "d3"
    assert index.get("unknown") is None
    assert index.get("unknown", {}) == {}
    assert "unknown" not in index
    assert index._collection.rows_of(["d2", "x", "d2", "d0"]).tolist() == [2, -1, 2, 0]
    assert index._collection.rows_of([]).tolist() == []


INT64 = st.integers(-(2**63), 2**63 - 1)


@settings(deadline=None, max_examples=80)
@given(st.lists(INT64, min_size=1, max_size=20, unique=True), st.data())
def test_rows_of_integer_ids(ids: list[int], data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.sampled_from(ids) | INT64, max_size=20))
    expected = [ids.index(value) if value in ids else -1 for value in asked]
    with tempfile.TemporaryDirectory() as folder:
        table = pa.table({"id": ids, "text": ["a"] * len(ids)})
        index = Index.build(table, Path(folder) / "index", threads=1)
        for given in (asked, [str(value) for value in asked], np.array(asked, np.int64)):
            assert index._collection.rows_of(given).tolist() == expected


def test_ids_of_equal_hashes_are_compared(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of ids has 32 bits of their hashes; here every document has those of the id."""
    (leaf,) = index._collection.leaves
    every = (np.zeros(3 * ROWS, np.int64), np.arange(3 * ROWS) % ROWS)
    monkeypatch.setattr(leaf.segment, "rows_with", lambda hashes, column: every)
    assert index._collection.rows_of(["d7"]).tolist() == [7]
    assert index._collection.rows_of(["unknown"]).tolist() == [-1]


def test_ids_without_a_column_are_row_numbers(tmp_path: Path) -> None:
    table = pa.table({"text": ["tea", "cup"]})
    index = Index.build(table, tmp_path / "index")
    assert index.get(1) == {"text": "cup"}
    assert index.get(np.int64(0)) == {"text": "tea"}
    assert index.get("1") == {"text": "cup"}
    assert [index.get(row) for row in (-1, 2, 2**63 - 1)] == [None] * 3
    bare = Index.build(table, tmp_path / "bare", store=[])
    assert bare.get(1) == {}
    assert bare.get(2) is None


@pytest.mark.parametrize(
    ("ids", "wrong", "types"),
    [
        (["a", "b"], 1, r"1 \(int\) is of another type: expected strings \(string\)"),
        (["a", "b"], None, r"None \(NoneType\) .* expected strings"),
        (["a", "b"], b"a", r"b'a' \(bytes\) .* expected strings"),
        ([1, 2], "a", r"'a' \(str\) .* expected integers \(int64\)"),
        ([1, 2], "01", r"'01' \(str\) .* expected integers"),
        ([1, 2], True, r"True \(bool\) .* expected integers"),
        ([1, 2], 1.5, r"1\.5 \(float\) .* expected integers"),
        ([1, 2], [1], r"\[1\] \(list\) .* expected integers"),
        (None, "a", r"'a' \(str\) .* expected integers"),
    ],
)
def test_ids_of_another_type_are_rejected(tmp_path: Path, ids: Any, wrong: Any, types: str) -> None:
    columns = {"text": ["tea", "cup"]} if ids is None else {"id": ids, "text": ["tea", "cup"]}
    index = Index.build(pa.table(columns), tmp_path / "index")
    with pytest.raises(DataError, match=types):
        index.get(wrong)
    with pytest.raises(DataError, match=types):
        _ = wrong in index


@pytest.mark.parametrize("columns", [{}, {"id": [1, 2]}])
def test_integers_out_of_range_are_unknown(tmp_path: Path, columns: Any) -> None:
    index = Index.build(pa.table({"text": ["tea", "cup"]} | columns), tmp_path / "index")
    for id in (2**63, -(2**70), str(10**30)):
        assert index.get(id) is None
        assert id not in index
        assert index.unknown_ids(iter([id, 1, id])) == [id]
        assert index.unknown_ids([1, 7, id]) == [7, id]


def test_ids_in_the_form_of_results_are_found(tmp_path: Path) -> None:
    """Files of runs, and command lines, have an integer as text."""
    table = pa.table({"id": [7, -3], "text": ["tea", "cup"]})
    index = Index.build(table, tmp_path / "index")
    for id, text in ((7, "7"), (-3, "-3")):
        assert index.get(text) == index.get(id)
        assert index.get(text)["id"] == id
        assert text in index
    assert "8" not in index


# ---- pickles and copies


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpickle as another process does, which shares no open segment."""
    monkeypatch.setattr(collection, "_shared", WeakValueDictionary())


def same(a: Hits, b: Hits) -> bool:
    equal = a.rows.tobytes() == b.rows.tobytes() and a.scores.tobytes() == b.scores.tobytes()
    return equal and a.ids == b.ids and list(a) == list(b)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(index: Index, found: Hits, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    raw = pickle.dumps((index, found, found[::2]), protocol)
    assert len(raw) < 6000  # neither postings nor ids
    monkeypatch.setattr(collection, "_shared", WeakValueDictionary())
    other, hits, some = pickle.loads(raw)
    assert other._collection is not index._collection
    assert hits._collection is some._collection is other._collection
    assert other.path.is_absolute()
    assert other.summary == index.summary
    assert len(other) == len(index)
    assert same(hits, found)
    assert same(some, found[::2])
    assert same(other.search(["tea", "nothing", "green"], k=20), found)
    assert other.get("d3") == index.get("d3")


def test_an_index_of_a_relative_path_may_be_changed_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"id": n, "text": f"tea {n}"} for n in range(3)]
    index = Index.build(rows, "index")
    assert repr(index) == "Index('index', 3 documents, 1 segment)"
    other = Index.open("index")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    kept = other._collection.leaves[0].segment
    assert index.add([{"id": 3, "text": "tea"}])["added"] == 1
    assert other.refresh()
    assert not other.refresh()
    assert other._collection.leaves[0].segment is kept
    assert len(other) == len(index) == len(copy.copy(index)) == 4
    assert other.path == Path("index")
    assert "4 documents" in repr(other)
    index.delete([0])
    assert index._collection.folder.damaged() == []
    assert pickle.loads(pickle.dumps(index)).search("tea").counts.tolist() == [3]


def test_pickles_of_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    index = Index.build(TABLE, "index")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir("other")
    raw = pickle.dumps(index)
    monkeypatch.setattr(collection, "_shared", WeakValueDictionary())
    assert pickle.loads(raw).path == tmp_path / "index"


def test_pickles_share_open_files(index: Index, found: Hits) -> None:
    """Results that come back from other processes by the thousand need no files of their own."""
    assert pickle.loads(pickle.dumps(found))._collection is index._collection
    assert pickle.loads(pickle.dumps(index))._collection is index._collection


def test_segments_of_pickles_are_closed_with_the_last_of_them(
    index: Index, found: Hits, elsewhere: None
) -> None:
    raw = pickle.dumps(found)
    collection._shared.clear()
    hits = [pickle.loads(raw) for _ in range(3)]
    assert len(collection._shared) == 1
    assert hits[0]._collection is hits[2]._collection is not found._collection
    del hits
    gc.collect()
    assert len(collection._shared) == 0


def test_pickles_of_an_earlier_commit_are_refused(tmp_path: Path, elsewhere: None) -> None:
    path = tmp_path / "index"
    index = Index.build(TABLE, path)
    raw = [pickle.dumps(index), pickle.dumps(index.search("tea"))]
    held = index.search("tea").to_dicts()
    Index.build(TABLE.slice(1), path, overwrite=True)
    assert pickle.loads(raw[1]).to_dicts() == held  # while the commit is open in this process
    collection._shared.clear()
    for pickled in raw:
        with pytest.raises(FormatError, match="index: the commit of this pickle is gone; Index"):
            pickle.loads(pickled)
    shutil.rmtree(path)
    with pytest.raises(FormatError, match="index: no such folder"):
        pickle.loads(raw[0])


def test_equal_commits_are_interchangeable(tmp_path: Path, elsewhere: None) -> None:
    path = tmp_path / "index"
    raw = pickle.dumps(Index.build(TABLE, path).search("tea"))
    shutil.rmtree(path)
    collection._shared.clear()
    index = Index.build(TABLE, path)
    assert same(pickle.loads(raw), index.search("tea"))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_share_the_open_index(tmp_path: Path, copied: Any) -> None:
    index = Index.build(TABLE, tmp_path / "index")
    found = index.search("tea")
    Index.build(TABLE.slice(1), tmp_path / "index", overwrite=True)  # a copy keeps its commit
    other, hits = copied(index), copied(found)
    assert other._collection is hits._collection is index._collection
    assert other.summary == index.summary
    assert other.summary is not index.summary
    assert same(hits, found)
    assert same(other.search("tea"), found)
    if copied is copy.deepcopy:
        hits.rows[:] = -1
        assert found.counts.tolist() == [10]


def test_another_process_searches(index: Index) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pairs = [(index, "tea"), (index, ["green", "nothing"])]
        one, two = pool.starmap(Index.search, pairs)
    assert same(one, index.search("tea"))
    assert same(two, index.search(["green", "nothing"]))
    assert one._collection is index._collection
