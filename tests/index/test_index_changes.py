"""Documents added, replaced and deleted in commits; merges of segments; readers."""

from __future__ import annotations

import datetime
import errno
import hashlib
import inspect
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastseq import BM25, BoW, DataError, FastseqError, FormatError, Index, SettingsError
from fastseq.index import VERSION, changes, merging, segment_writer
from fastseq.index import build as build_module
from fastseq.index import segment as segment_module
from fastseq.index.merging import due
from fastseq.store import disk
from fastseq.store.folder import read_manifest, verify
from tests.index.living import (
    ANALYZER,
    WORDS,
    Documents,
    assert_holds,
    assert_tidy,
    built,
    built_golden,
    documents_of,
    fresh_hits,
    hits_of,
    some_rows,
    table_of,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "v1"


pytestmark = pytest.mark.usefixtures("no_waiting")


def add(index: Index, documents: Documents, rows: list[Any], **settings: Any) -> dict[str, int]:
    documents.add(rows)
    return index.add(table_of(rows), threads=1, **settings)


def segments(index: Index) -> list[int]:
    """The live documents of each segment."""
    return [leaf.documents for leaf in index._collection.leaves]


def files(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file()
    }


# ---- add, delete, replace, compact


def test_add_appends_and_replaces(index: Index, documents: Documents) -> None:
    assert add(index, documents, some_rows([30, 3, 31, 19], 1)) == {
        "added": 4, "replaced": 2, "null_texts": 0, "merged": 0,
    }  # fmt: skip
    assert documents.ids[-4:] == [30, 3, 31, 19]
    assert_holds(index, documents)
    assert segments(index) == [18, 4]
    assert index.summary["segments"] == 2
    assert index.summary["deleted"] == 2
    assert index.get(3)["year"] == 1901
    assert 3 in index
    assert 32 not in index
    assert_tidy(index.path)


def test_delete_counts_unknown_ids_once(index: Index, documents: Documents) -> None:
    found = index.delete([4, 7, 4, 99, 99, 100])
    assert found == {"deleted": 2, "unknown": 2, "merged": 0}
    documents.delete([4, 7])
    assert_holds(index, documents)
    assert index.delete([4]) == {"deleted": 0, "unknown": 1, "merged": 0}
    assert index.delete([]) == {"deleted": 0, "unknown": 0, "merged": 0}
    assert index.get(4) is None
    assert 4 not in index
    assert_tidy(index.path)


@pytest.mark.parametrize(
    "ids", [np.array([5, 6]), pa.array([5, 6]), (5, 6), iter([5, 6]), pa.chunked_array([[5], [6]])]
)
def test_ids_to_delete_may_be_of_many_types(index: Index, ids: Any) -> None:
    assert index.delete(ids)["deleted"] == 2


def test_changes_without_effect_make_no_commit(index: Index) -> None:
    before = files(index.path)
    index.delete([1000])
    with index.writer() as writer:
        writer.add(table_of(some_rows([500])))
        writer.delete(500)
    index.compact()
    assert files(index.path) == before
    assert not index.refresh()


def test_null_texts_are_counted_once(index: Index, documents: Documents) -> None:
    rows = [{"id": 50, "text": None, "year": 1}, {"id": 51, "text": "w1", "year": None}]
    assert add(index, documents, rows)["null_texts"] == 1
    with index.writer() as writer:
        writer.add(table_of(rows))
        writer.add(table_of(rows[:1]))
        assert writer.summary["null_texts"] == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "_FEW_ROWS", 1)
        assert add(index, documents, rows)["null_texts"] == 1


def test_compact_makes_one_segment_without_deleted_documents(
    index: Index, documents: Documents
) -> None:
    for number in range(3):
        add(index, documents, some_rows([number, 40 + number], number))
    index.delete([5, 41])
    documents.delete([5, 41])
    index.compact(threads=1)
    assert segments(index) == [len(documents)]
    assert index.summary.keys() >= {"documents", "terms", "postings", "tokens"}
    assert "deleted" not in index.summary
    assert_holds(index, documents)
    assert_tidy(index.path)


def test_compacted_statistics_are_those_of_a_new_index(
    index: Index, documents: Documents, tmp_path: Path
) -> None:
    add(index, documents, some_rows([3, 50], 1))
    index.delete([7])
    documents.delete([7])
    fresh = built(documents.rows, tmp_path / "fresh")
    assert index._collection.documents == fresh._collection.documents
    assert index._collection.tokens == fresh._collection.tokens
    assert index._collection.terms == fresh._collection.terms
    assert sorted(index.frequent_terms()) == sorted(fresh.frequent_terms())
    index.compact()
    numbers = ("documents", "terms", "postings", "tokens")
    assert {n: index.summary[n] for n in numbers} == {n: fresh.summary[n] for n in numbers}


def test_everything_may_be_deleted_and_added_again(index: Index, documents: Documents) -> None:
    add(index, documents, some_rows([50]))
    assert index.delete([*range(60)])["deleted"] == 21
    documents.delete(range(60))
    assert len(index) == 0
    assert_holds(index, documents)
    assert index.search(["w1", {"w1": -1.0}], k=3).ids == [[], []]
    assert index.frequent_terms() == []
    assert index.knows(["w1"]) == [False]
    assert_tidy(index.path)
    index.compact()
    again = Index.open(index.path)
    assert_holds(again, documents)
    assert documents_of(again) == []
    add(again, documents, some_rows([3, 1], 2))
    assert_holds(again, documents)
    assert again.delete(3)["deleted"] == 1
    documents.delete([3])
    assert_holds(again, documents)


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        (pa.string(), ["a", "é猫", "", "a" * 300]),
        (pa.large_string(), ["x", "y", "z", "w"]),
        (pa.int8(), [-3, 0, 100, -128]),
        (pa.uint64(), [0, 2**64 - 1, 2**63, 5]),
        (pa.date32(), [datetime.date(2020, 1, n) for n in (1, 2, 3, 4)]),
    ],
    ids=str,
)
def test_ids_of_several_types(tmp_path: Path, kind: pa.DataType, ids: list[Any]) -> None:
    def table(rows: Any) -> pa.Table:
        return pa.table(
            {"id": pa.array([id for id, _ in rows], kind), "text": [text for _, text in rows]}
        )

    def opened(rows: Any, path: Path) -> Index:
        return Index.build(table(rows), path, analyzer=ANALYZER)

    first, second, third, fourth = ids
    try:
        index = opened([(first, "w1"), (second, "w2 w1"), (third, "w3")], tmp_path / "index")
    except DataError as error:
        pytest.skip(f"not an id yet: {error}")
    index.add(table([(fourth, "w1 w4"), (second, "w5")]))
    index.delete([first])
    fresh = opened([(third, "w3"), (fourth, "w1 w4"), (second, "w5")], tmp_path / "fresh")
    assert hits_of(index) == hits_of(fresh)
    assert documents_of(index) == documents_of(fresh)
    assert second in index
    assert first not in index
    index.compact()
    assert hits_of(index) == hits_of(fresh)


def test_ids_of_another_type_are_refused(index: Index, tmp_path: Path) -> None:
    before = files(index.path)
    with pytest.raises(DataError, match="id"):
        index.delete(["a"])
    with pytest.raises(DataError, match="id"):
        index.add(pa.table({"id": ["a"], "text": ["w1"]}))
    with pytest.raises(DataError, match="id"):
        index.add(pa.table({"id": pa.array([None], pa.int64()), "text": ["w1"]}))
    assert files(index.path) == before
    plain = Index.build(pa.table({"text": ["w1"]}), tmp_path / "plain", analyzer=ANALYZER)
    for change in (lambda: plain.add(pa.table({"text": ["w2"]})), lambda: plain.delete([0])):
        with pytest.raises(DataError, match="no id column"):
            change()


def test_missing_columns_are_null_and_new_ones_refused(
    index: Index, documents: Documents, tmp_path: Path
) -> None:
    index.add(pa.table({"id": [60], "text": ["w1 w2"]}))
    documents.add([{"id": 60, "text": "w1 w2", "year": None}])
    assert_holds(index, documents)
    index.add(pa.table({"year": pa.array([7], pa.int8()), "text": ["w3"], "id": [61]}))
    documents.add([{"id": 61, "text": "w3", "year": 7}])
    assert_holds(index, documents)
    before = files(index.path)
    with pytest.raises(DataError, match=r"no column 'price'.*leave it out"):
        index.add(pa.table({"id": [62], "text": ["w1"], "price": [1.5]}))
    with pytest.raises(DataError, match=r"'year' is string, but int64"):
        index.add(pa.table({"id": [62], "text": ["w1"], "year": ["x"]}))
    with pytest.raises(DataError, match="text"):
        index.add(pa.table({"id": [62]}))
    assert files(index.path) == before
    named = built(documents.rows, tmp_path / "named", store=["year"])
    named.add(pa.table({"id": [62], "text": ["w1"], "price": [1.5], "year": [3]}))
    assert named.get(62) == {"id": 62, "year": 3}


@pytest.mark.parametrize("few", [1, 1024])
def test_duplicate_ids_in_one_addition_are_refused(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """However the rows are split into batches and files, and whatever their number."""
    monkeypatch.setattr(changes, "_FEW_ROWS", few)
    before = files(index.path)
    corpus = pa.concat_tables([table_of(some_rows([70, 71])), table_of(some_rows([72, 70]))])
    for number, rows in enumerate(([70, 71], [72, 70])):
        pq.write_table(table_of(some_rows(rows)), tmp_path / f"{number}.parquet")
    for source in (corpus, str(tmp_path / "*.parquet")):
        with pytest.raises(DataError, match=r"duplicate id.*70"):
            index.add(source)
        assert files(index.path) == before


# ---- a block of changes


def test_a_block_is_one_commit(index: Index, documents: Documents) -> None:
    reader = Index.open(index.path)
    commit = read_manifest(index.path).statistics["commit"]
    with index.writer(threads=1) as writer:
        for number in range(30):
            writer.add(table_of(some_rows([number, 100 + number], number)))
            documents.add(some_rows([number, 100 + number], number))
            writer.delete([number + 1, 200])
            documents.delete([number + 1])
        assert not reader.refresh()
        assert len(index) == len(reader) == 20
        assert writer.summary["unknown"] >= 30
    assert read_manifest(index.path).statistics["commit"] == commit + 1
    assert_holds(index, documents)
    assert reader.refresh()
    assert_holds(reader, documents)
    assert_tidy(index.path)


def test_an_exception_discards_the_block(index: Index, documents: Documents) -> None:
    before = files(index.path)

    def fail() -> None:
        with index.writer() as writer:
            writer.add(table_of(some_rows([1, 200], 5)))
            writer.delete([2])
            writer.compact()
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fail()
        assert files(index.path) == before
        assert_holds(index, documents)
    add(index, documents, some_rows([200, 1], 5))
    assert_holds(index, documents)


def test_a_refused_addition_leaves_the_rest_of_the_block(
    index: Index, documents: Documents
) -> None:
    bad = pa.concat_tables([table_of(some_rows([70])), table_of(some_rows([5, 70]))])
    with index.writer() as writer:
        writer.add(table_of(some_rows([80, 3], 1)))
        with pytest.raises(DataError):
            writer.add(bad)
        with pytest.raises(DataError):
            writer.delete(["x"])
        writer.add(table_of(some_rows([81], 1)))
    documents.add(some_rows([80, 3], 1))
    documents.add(some_rows([81], 1))
    assert_holds(index, documents)


def test_additions_outlive_an_error_in_the_block(
    index: Index, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that was full for a while: what failed failed, and the rest is there."""
    write, calls = disk.write, 0

    def full(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(*args)

    monkeypatch.setattr(disk, "write", full)
    for failing in range(1, 200, 11):
        calls = 0
        with index.writer(threads=1) as writer:
            writer.add(table_of(some_rows([80, 3], failing)))
            with suppress(FastseqError):
                writer.compact()
            failed, calls = calls == failing, 1000
            writer.add(table_of(some_rows([81], failing)))
        documents.add(some_rows([80, 3], failing))
        documents.add(some_rows([81], failing))
        assert_holds(index, documents)
        assert_tidy(index.path)
        if not failed:
            return
    raise AssertionError("more calls than expected")


def test_two_writers_are_one_too_many(index: Index) -> None:
    with index.writer() as writer:
        writer.delete([1])
        with pytest.raises(FastseqError, match="another process is writing"):
            Index.open(index.path).delete([2], wait=0.05)
    assert Index.open(index.path).delete([2])["deleted"] == 1


@pytest.mark.parametrize("setting", [{"wait": -1}, {"wait": "x"}, {"threads": 0}, {"memory": "x"}])
def test_wrong_settings_of_a_writer_are_refused(index: Index, setting: dict[str, Any]) -> None:
    with pytest.raises(SettingsError), index.writer(**setting):
        pass


# ---- readers


def test_readers_keep_their_commit(index: Index, documents: Documents) -> None:
    states = [(Index.open(index.path), documents.copy())]
    for number in range(6):
        add(index, documents, some_rows([number, 60 + number], number))
        if number % 3 == 2:
            index.compact()
        index.delete([number + 7])
        documents.delete([number + 7])
        states.append((Index.open(index.path), documents.copy()))
    built(some_rows([1]), index.path, overwrite=True)
    for reader, then in states:
        assert_holds(reader, then)
    for reader, _ in states:
        assert reader.refresh()
        assert len(reader) == 1
        assert not reader.refresh()


def test_refresh_shares_what_did_not_change(index: Index, documents: Documents) -> None:
    reader = Index.open(index.path)
    first = reader._collection.leaves[0]
    add(index, documents, some_rows([60]))
    assert reader.refresh()
    assert reader._collection.leaves[0] is first
    index.delete([3])
    documents.delete([3])
    assert reader.refresh()
    assert reader._collection.leaves[0].segment is first.segment
    assert first.live is None
    assert_holds(reader, documents)


def test_refresh_reads_other_deletions_of_the_same_number(
    index: Index, documents: Documents, tmp_path: Path
) -> None:
    """As after a backup was put back."""
    shutil.copytree(index.path, tmp_path / "backup")
    index.delete([3])
    reader = Index.open(index.path)
    shutil.rmtree(index.path)
    shutil.copytree(tmp_path / "backup", index.path)
    Index.open(index.path).delete([4])
    assert reader.refresh()
    documents.delete([4])
    assert_holds(reader, documents)


def test_refresh_of_a_gone_index_keeps_the_commit(index: Index, documents: Documents) -> None:
    shutil.rmtree(index.path)
    with pytest.raises(FormatError):
        index.refresh()
    assert_holds(index, documents)


READER = """
import hashlib, sys
from pathlib import Path
from fastseq import Index
from tests.index.living import documents_of, hits_of

index = Index.open(Path(sys.argv[1]))
for line in sys.stdin:
    if line.strip() == "refresh":
        index.refresh()
    if line.strip() == "open":
        index = Index.open(Path(sys.argv[1]))
    found = repr((documents_of(index), sorted(hits_of(index).items())))
    print(hashlib.sha256(found.encode()).hexdigest(), flush=True)
"""


def test_readers_in_other_processes_keep_their_commit(
    index: Index, documents: Documents
) -> None:
    """While a writer compacts and overwrites, and removes the files that they use."""

    def digest() -> str:
        found = repr((documents_of(index), sorted(hits_of(index).items())))
        return hashlib.sha256(found.encode()).hexdigest()

    for number in range(4):
        add(index, documents, some_rows([number, 60 + number], number))
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(index.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        for _ in range(2)
    ]  # fmt: skip

    def ask(word: str) -> set[str]:
        for reader in readers:
            assert reader.stdin is not None
            reader.stdin.write(word + "\n")
            reader.stdin.flush()
        return {reader.stdout.readline().strip() for reader in readers}  # type: ignore[union-attr]

    try:
        before = digest()
        assert ask("search") == {before}
        index.compact()
        assert digest() == before
        assert ask("search") == {before}
        for number in range(12):
            add(index, documents, some_rows([number, 90 + number], 7))
            index.compact()
        assert ask("search") == {before}
        after = digest()
        assert ask("refresh") == {after}
        built(some_rows([1, 2]), index.path, overwrite=True)
        assert ask("search") == {after}
        index.refresh()
        assert ask("open") == {digest()}
    finally:
        for reader in readers:
            reader.communicate()


# ---- format 1


@pytest.mark.parametrize("name", ["words", "pairs", "pieces"])
def test_the_first_change_migrates_format_1(tmp_path: Path, name: str) -> None:
    path = tmp_path / "index"
    shutil.copytree(GOLDEN / name, path)
    old = Index.open(path)
    analyzer = old.analyzer
    rows = documents_of(old)
    index = Index.open(path)
    index.delete(["d06", "d11"])
    index.add(pa.table({"id": ["d01", "new"], "text": ["tea often", "green w7"]}))
    assert read_manifest(path).format_version == VERSION
    assert_tidy(path)
    expected = [row for row in rows if row["id"] not in ("d06", "d11", "d01")]
    for id, text in (("d01", "tea often"), ("new", "green w7")):
        expected.append({"id": id, "text": text, "year": None, "tags": None})
    assert documents_of(index) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.index.living.GOLDEN_ANALYZER", analyzer)
        assert hits_of(index) == fresh_hits(expected, build=built_golden)
    assert documents_of(old) == rows
    index.compact()
    assert documents_of(index) == expected


def test_compact_migrates_format_1(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "words", tmp_path / "index")
    before = Index.open(tmp_path / "index")
    index = Index.open(tmp_path / "index")
    index.compact()
    assert read_manifest(tmp_path / "index").format_version == VERSION
    assert documents_of(index) == documents_of(before)
    assert hits_of(index) == hits_of(before)
    assert_tidy(tmp_path / "index")


# ---- merging


@pytest.mark.parametrize(
    ("documents", "deleted", "expected"),
    [
        ([], [], None),
        ([5], [0], None),
        ([1] * 9, [0] * 9, None),
        ([1] * 10, [0] * 10, (0, 10)),
        ([5000] + [1] * 10, [0] * 11, (1, 11)),
        ([400] * 10, [0] * 10, (0, 10)),
        ([400] * 9 + [1], [0] * 10, None),
        ([5000, 1, 1, 400, 1, 1], [0] * 6, (1, 3)),
        ([5000, 1, 400, 1, 1, 400, 5000], [0] * 7, (1, 6)),
        ([5000, 400, 1, 400, 1, 1], [0] * 6, None),
        ([10], [5], None),
        ([10], [6], (0, 1)),
        ([5000, 10], [2501, 0], (0, 1)),
    ],
)
def test_merges_that_are_due(
    documents: list[int], deleted: list[int], expected: tuple[int, int] | None
) -> None:
    assert due(documents, deleted) == expected


sizes_of = st.one_of(
    st.lists(st.sampled_from([1, 5, 30, 100, 321, 3000, 4000, 40_000]), max_size=300),
    st.tuples(st.lists(st.sampled_from([1, 40, 350, 3500]), min_size=1, max_size=12),
              st.integers(1, 60)).map(lambda pattern: pattern[0] * pattern[1]),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(sizes_of)
@example(([1] * 9 + [350]) * 200)
@example((([1] * 9 + [350]) * 9 + [3500]) * 12)
def test_merging_bounds_the_segments_and_the_copying(sizes: list[int]) -> None:
    live: list[int] = []
    copied = 0
    for size in sizes:
        live.append(size)
        while (found := due(live, [0] * len(live))) is not None:
            first, last = found
            assert 0 <= first < last <= len(live)
            assert last - first > 1
            copied += sum(live[first:last])
            live[first:last] = [sum(live[first:last])]
        levels = int(np.log10(max(sum(live), 320) / 32))
        assert len(live) <= 2 * merging.FACTOR * (levels + 1)
    if sizes:
        # small ones of one level are merged every nine commits
        assert copied <= sum(sizes) * 2 * (levels + 2) + 9 * 320 * len(sizes)


def test_many_small_commits_leave_few_segments(index: Index, documents: Documents) -> None:
    most = 0
    for number in range(70):
        add(index, documents, some_rows([100 + number], number))
        most = max(most, len(segments(index)))
    assert most <= 2 * merging.FACTOR
    assert_holds(index, documents)
    assert len([*index.path.glob("data-*")]) <= most


def test_much_deleted_segments_are_written_anew(
    index: Index, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    def merge(*given: Any) -> Any:
        used.update(inspect.signature(merging.merge).bind(*given).arguments)
        return merging.merge(*given)

    used: dict[str, Any] = {}
    monkeypatch.setattr(changes, "merge", merge)
    index.delete(documents.ids[:6])
    assert index.summary["deleted"] == 6
    assert index.delete(documents.ids[6:7], memory="100MB", threads=3)["merged"] == 1
    assert (used["memory"], used["threads"]) == (20 << 20, 3)
    assert "deleted" not in index.summary
    documents.delete(documents.ids[:7])
    assert_holds(index, documents)


def test_large_frequencies_are_merged(tmp_path: Path) -> None:
    documents = Documents()
    index = None
    for number in range(6):
        rows = [
            {"id": 10 * number + n, "text": "w1 " * tf + "w2 " * (n % 2) * 255 + "w3", "year": n}
            for n, tf in enumerate((1, 254, 255, 256, 1000, 3000))
        ]
        if index is None:
            index = built(rows, tmp_path / "index")
        else:
            index.add(table_of(rows))
        documents.add(rows)
    assert index is not None
    gone = documents.ids[2::5]
    index.delete(gone)
    documents.delete(gone)
    assert_holds(index, documents)
    index.compact(threads=2)
    assert_holds(index, documents)
    add(index, documents, some_rows([999]))
    index.compact()
    assert_holds(index, documents)


@pytest.mark.parametrize("cut", [0, 3000])
def test_merges_cross_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    """Segments whose documents fall into other windows of 65,536 when they are merged, after
    deletions before, at and behind the borders."""
    sizes = [65_536 - cut, 70_000, 3]
    chance = np.random.default_rng(cut)

    def table(first: int, rows: int) -> pa.Table:
        picks = chance.integers(0, len(WORDS), (rows, 2)).tolist()
        texts = [f"{WORDS[a]} {WORDS[b]} all" for a, b in picks]
        texts[0] += " first" * 300
        texts[-1] += " last"
        return pa.table({"id": np.arange(first, first + rows), "text": texts})

    starts = np.cumsum([0, *sizes])
    tables = [table(int(first), rows) for first, rows in zip(starts, sizes, strict=False)]
    index = Index.build(tables[0], tmp_path / "index", analyzer=ANALYZER, store=["id"], threads=2)
    for one in tables[1:]:
        index.add(one, threads=2)
    gone = {0, sizes[0] - 1, sizes[0], 65_536, int(starts[-1]) - 1}
    gone |= set(chance.integers(0, starts[-1], 20_000).tolist())
    index.delete(sorted(gone))
    whole = pa.concat_tables(tables)
    left = whole.filter(pa.array([id not in gone for id in range(int(starts[-1]))]))
    fresh = Index.build(left, tmp_path / "fresh", analyzer=ANALYZER, store=["id"], threads=2)
    asked: dict[str, Any] = {
        "models": [BM25(), BoW()],
        "queries": ["w1 w2", "first", "last all", {"w3": -1.0, "first": 2.0}, "all"],
        "depths": (10, 1000),
    }
    expected = hits_of(fresh, **asked)
    assert hits_of(index, **asked) == expected
    index.compact(threads=2)
    assert len(segments(index)) == 1
    assert hits_of(index, **asked) == expected
    assert verify(index.path) == []


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks of few postings, slices of few documents, as with little memory."""
    monkeypatch.setattr(segment_writer, "SMALLEST_CHUNK", 16)
    monkeypatch.setattr(build_module, "SMALLEST_MEMORY", 1 << 10)
    monkeypatch.setattr(build_module, "_FIXED", 0)
    monkeypatch.setattr(build_module, "_SMALLEST_SLICE", 1 << 9)
    monkeypatch.setattr(build_module, "_LARGEST_SLICE", 1 << 10)
    monkeypatch.setattr(changes, "_FEW_ROWS", 4)
    monkeypatch.setattr(segment_module, "_LOOKUPS", 3)


def changed(path: Path, **settings: Any) -> tuple[Index, Documents]:
    """An index after many changes."""
    documents = Documents(some_rows(range(60)))
    index = built(documents.rows, path, **settings)
    for number in range(5):
        rows = some_rows(range(number * 3, number * 30 + 8), number)
        index.add(table_of(rows), **settings)
        documents.add(rows)
        index.delete([number * 11, number * 7 + 1], **settings)
        documents.delete([number * 11, number * 7 + 1])
    index.compact(**settings)
    index.add(table_of(some_rows([5, 500], 9)), **settings)
    documents.add(some_rows([5, 500], 9))
    return index, documents


def test_little_memory_gives_the_same_bytes(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    expected = files(changed(tmp_path / "much")[0].path)
    request.getfixturevalue("small_chunks")
    index, documents = changed(tmp_path / "little", memory=3000)
    assert_holds(index, documents)
    found = files(index.path)
    assert found.keys() == expected.keys()
    assert found == expected


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_give_the_same_bytes(tmp_path: Path, small_chunks: None, threads: int) -> None:
    one, documents = changed(tmp_path / "one", threads=1, memory=20_000)
    several, _ = changed(tmp_path / "several", threads=threads, memory=20_000)
    assert files(one.path) == files(several.path)
    assert_holds(several, documents)


def test_progress_of_merges_and_commits(index: Index) -> None:
    said: list[tuple[str, int, int | None]] = []
    index.add(
        table_of(some_rows([1, 70])), threads=1, progress=lambda *now: said.append(now)
    )
    index.compact(progress=lambda *now: said.append(now))
    stages = [stage for stage, _, _ in said]
    assert {*stages} == {"index", "merge", "commit"}
    assert said[-1] == ("commit", 21, 21)
    assert all(total is None or done <= total for _, done, total in said)


@pytest.mark.parametrize("stage", ["index", "merge", "commit"])
def test_an_interrupt_in_any_stage_changes_nothing(
    index: Index, documents: Documents, stage: str
) -> None:
    add(index, documents, some_rows([70, 3]))
    before = files(index.path)

    def interrupt(now: str, done: int, total: int | None) -> None:
        if now == stage:
            raise KeyboardInterrupt

    def fail() -> None:
        with index.writer(threads=2, progress=interrupt) as writer:
            writer.add(table_of(some_rows([71, 3], 4)))
            writer.compact()

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert files(index.path) == before
    assert_holds(index, documents)
    assert_holds(Index.open(index.path), documents)
