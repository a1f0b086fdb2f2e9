"""Queries, runs, relevance judgments and other tables in files."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, FastseqError, FastseqWarning, SettingsError
from fastseq.store import runs
from fastseq.store.files import opened, written_whole
from fastseq.store.outputs import check_output, kind_of
from fastseq.store.parquet import write_columns
from fastseq.store.runs import RunWriter, read_qrels, read_queries, read_run, run_table

QUERIES = ["q1", "q2", "猫", "q4"]
OFFSETS = np.array([0, 3, 3, 4, 6])
DOCS = ["d1", "d2", "d3", "魚", "d1", "d9"]
SCORES = np.array([3.5, 2.25, 1e-7, 12.345678, 0.1, -2], np.float32)


def hits() -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
    return QUERIES, OFFSETS, DOCS, SCORES


def write_run(path: Path, *run: Any) -> None:
    with RunWriter(path) as writer:
        writer.append(*run)


def rows() -> list[tuple[str, str, int, np.float32]]:
    """The run above, row by row, the slow way."""
    out = []
    for q, query in enumerate(QUERIES):
        for rank, at in enumerate(range(OFFSETS[q], OFFSETS[q + 1]), 1):
            out.append((query, DOCS[at], rank, SCORES[at]))
    return out


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_run_as_parquet(tmp_path: Path) -> None:
    path = tmp_path / "run.parquet"
    write_run(path, *hits())
    table = pq.read_table(path)
    assert table.schema.names == ["query_id", "doc_id", "rank", "score"]
    assert [str(t) for t in table.schema.types] == ["string", "string", "int32", "float"]
    assert [tuple(r.values()) for r in table.to_pylist()] == [
        (q, d, rank, float(score)) for q, d, rank, score in rows()
    ]
    assert table.equals(run_table(*hits()))


def test_run_as_trec(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    write_run(path, *hits())
    lines = [line.split(" ") for line in path.read_text("utf-8").split("\n")]
    assert lines.pop() == [""]
    assert [(q, d, int(r), np.float32(s)) for q, _, d, r, s, _ in lines] == rows()
    assert {(line[1], line[5]) for line in lines} == {("Q0", "fastseq")}


def test_run_as_tsv(tmp_path: Path) -> None:
    path = tmp_path / "run.TSV"
    write_run(path, *hits())
    header, *lines = path.read_text("utf-8").splitlines()
    assert header == "query_id\tdoc_id\trank\tscore"
    split = [line.split("\t") for line in lines]
    assert [(q, d, int(r), np.float32(s)) for q, d, r, s in split] == rows()


@pytest.mark.parametrize("suffix", [".parquet", ".trec", ".tsv"])
def test_runs_written_in_parts_and_read_back(tmp_path: Path, suffix: str) -> None:
    whole, parts = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    write_run(whole, *hits())
    with RunWriter(parts) as writer:
        writer.append([], [0], [], SCORES[:0])
        for q in range(len(QUERIES)):
            a, b = OFFSETS[q], OFFSETS[q + 1]
            writer.append([QUERIES[q]], [0, b - a], DOCS[a:b], SCORES[a:b])
    wanted: dict[str, dict[str, float]] = {}
    for query, document, _, score in rows():
        wanted.setdefault(query, {})[document] = score
    for path in (whole, parts):
        run = read_run(path)
        assert list(run) == ["q1", "猫", "q4"]
        assert {q: {d: np.float32(s) for d, s in of.items()} for q, of in run.items()} == wanted
    if suffix != ".parquet":
        assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.parametrize("suffix", [".parquet", ".trec", ".tsv"])
def test_integer_ids(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    documents = pa.chunked_array([pa.array([7], pa.uint64()), pa.array([2**63], pa.uint64())])
    write_run(path, np.array([4, 5]), [0, 1, 2], documents, SCORES[:2])
    assert read_run(path) == {"4": {"7": 3.5}, "5": {str(2**63): 2.25}}
    if suffix == ".parquet":
        assert [str(t) for t in pq.read_schema(path).types[:2]] == ["int64", "uint64"]


@pytest.mark.parametrize("suffix", [".parquet", ".trec", ".tsv"])
def test_run_without_a_hit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    write_run(path, ["q"], [0, 0], [], SCORES[:0])
    assert read_run(path) == {}
    with RunWriter(path):
        pass
    assert read_run(path) == {}


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=30))
@settings(max_examples=60, deadline=None)
def test_scores_survive_text(tmp_path_factory: pytest.TempPathFactory, scores: list[float]) -> None:
    path = tmp_path_factory.mktemp("run") / "run.trec"
    values = np.array(scores, np.float32)
    write_run(path, ["q"], [0, len(scores)], [str(i) for i in range(len(scores))], values)
    back = list(read_run(path).get("q", {}).values())
    np.testing.assert_array_equal(np.array(back, np.float32), values)


def test_long_runs_are_formatted_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, pieces = tmp_path / "whole.trec", tmp_path / "pieces.trec"
    write_run(whole, *hits())
    monkeypatch.setattr(runs, "_LINES", 2)
    write_run(pieces, *hits())
    assert whole.read_bytes() == pieces.read_bytes()


@pytest.mark.parametrize("bad", ["two words", "tab\there", "line\nend", ""])
def test_ids_that_text_cannot_represent(tmp_path: Path, bad: str) -> None:
    for suffix in (".trec", ".tsv"):
        path = put(tmp_path / f"run{suffix}", "the run before")
        if suffix == ".tsv" and bad == "two words":
            write_run(path, [bad], [0, 1], [bad], SCORES[:1])
            assert path.read_text().split("\n")[1].split("\t")[:2] == [bad, bad]
            continue
        with pytest.raises(DataError, match=r"white space.*parquet") as error:
            write_run(path, ["q1"], [0, 2], ["fine", bad], SCORES[:2])
        assert repr(bad) in str(error.value)
        with pytest.raises(DataError, match="query id"):
            write_run(path, [bad], [0, 1], ["fine"], SCORES[:1])
        assert path.read_text() == "the run before"
        assert [p for p in tmp_path.iterdir() if p.suffix == ".tmp"] == []
    write_run(tmp_path / "run.parquet", [bad], [0, 1], [bad], SCORES[:1])
    assert read_run(tmp_path / "run.parquet") == {bad: {bad: 3.5}}


def test_run_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ends in .*\.trec.*, not '\.json'"):
        write_run(tmp_path / "run.json", *hits())
    with pytest.raises(ValueError, match="different lengths"):
        write_run(tmp_path / "run.trec", QUERIES, OFFSETS, DOCS[:-1], SCORES)
    assert list(tmp_path.iterdir()) == []


def test_writing_a_large_run_imports_no_pandas_and_takes_a_second(tmp_path: Path) -> None:
    code = f"""if True:
        import sys, time
        import numpy as np
        from fastseq.store.runs import RunWriter
        n, k = 1400, 1000
        ids = [f"{{i}}-0" for i in range(n * k)]
        scores = np.random.default_rng(0).random(n * k).astype(np.float32)
        start = time.process_time()
        with RunWriter({str(tmp_path / "run.trec")!r}) as writer:
            writer.append(range(n), np.arange(n + 1) * k, ids, scores)
        taken = time.process_time() - start
        print(taken, any(name.split(".")[0] == "pandas" for name in sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    taken, pandas = done.stdout.split()
    assert float(taken) < 5  # 0.6 s where nothing else runs
    assert pandas == "False"
    with open(tmp_path / "run.trec") as file:
        assert sum(1 for _ in file) == 1_400_000


def test_qrels(tmp_path: Path) -> None:
    wanted = {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": -1}}
    pq.write_table(
        pa.table({"query_id": ["q1", "q1", "q2"], "doc_id": ["d1", "d2", "d1"], "rel": [2, 0, -1]}),
        tmp_path / "a.parquet",
    )
    put(tmp_path / "a.txt", "q1 0 d1 2\nq1\t0  d2 0\r\n\nq2 0 d1 -1\n")
    put(tmp_path / "a.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n")
    for name in ("a.parquet", "a.txt", "a.tsv"):
        assert read_qrels(tmp_path / name) == wanted
    both = pa.table({"query_id": [1, 1], "doc_id": [5, 5], "rel": [1.0, 1.0]})
    pq.write_table(both, tmp_path / "b.parquet")
    assert read_qrels(tmp_path / "b.parquet") == {"1": {"5": 1}}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "q1 0 d1 1\nq1 d1 1\n", "line 2: 3 columns, expected 4: query_id 0 doc_id rel"),
        ("a.txt", "q1 0 d1 high\n", "line 1: expected an integer as relevance, not 'high'"),
        ("a.txt", "q1 0 d1 1\nq1 0 d1 2\n", "line 2: 'd1' has two relevances for query 'q1'"),
        ("a.txt", b"q1 0 d1 1\n\xff 0 d1 1\n", "not UTF-8"),
        ("a.tsv", "query_id\tdoc_id\n", "line 1: no column 'rel' in the header"),
        ("a.tsv", "query_id\tdoc_id\trel\nq1\td1\n", "line 2: 2 columns, the header has 3"),
        ("a.parquet", b"PAR1 not", "not a Parquet file"),
        ("a.parquet", b"", "not a Parquet file"),
    ],
)
def test_invalid_qrels_are_rejected(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    path = put(tmp_path / name, content)
    with pytest.raises(DataError, match=said) as error:
        read_qrels(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"query_id": ["q"], "doc": ["d"], "rel": [1]}, r"no column 'doc_id'; .* doc \(string\)"),
        (
            {"query_id": ["q", None], "doc_id": ["d", "e"], "rel": [1, 1]},
            "query id is null in row 1",
        ),
        ({"query_id": ["q"], "doc_id": ["d"], "rel": [None]}, "row 0.*expected an integer"),
        ({"query_id": ["q"], "doc_id": ["d"], "rel": [0.5]}, "row 0.*expected an integer"),
        (
            {"query_id": ["q"], "doc_id": [0.5], "rel": [1]},
            "document id, row 0 .*is 0.5, expected a whole",
        ),
    ],
)
def test_invalid_parquet_qrels_are_rejected(
    tmp_path: Path, columns: dict[str, list[object]], said: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "qrels.parquet")
    with pytest.raises(DataError, match=said):
        read_qrels(tmp_path / "qrels.parquet")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.trec", "q1 Q0 d1 1 2.5\n", "line 1: 5 columns, expected 6: query_id Q0 doc_id rank"),
        ("a.trec", "q1 Q0 d1 1 x tag\n", "line 1: expected a number as score, not 'x'"),
        ("a.run", "q1 Q0 d1 1 nan tag\n", "line 1: expected a number as score"),
        ("a.run", "q1 Q0 d1 1 2 t\nq1 Q0 d1 2 1 t\n", "line 2: 'd1' is duplicated for query 'q1'"),
        ("a.tsv", "q1\td1\t1\t2.5\n", "line 1: no column"),
    ],
)
def test_invalid_runs_are_rejected(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_run(put(tmp_path / name, content))
    for read in (read_run, read_qrels, read_queries):
        for missing in ("no.tsv", "no.parquet"):
            with pytest.raises(DataError, match="no such file"):
                read(tmp_path / missing)


@pytest.mark.parametrize("names", [("query_id", "text"), ("qid", "query"), ("_id", "text")])
def test_queries_from_parquet(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "queries.parquet"
    for ids in (["1", "two"], [1, 2]):
        for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())):
            texts = pa.array(["猫 fish", None], pa.string()).cast(kind)
            pq.write_table(pa.table([pa.array(ids), texts], names=list(names)), path)
            assert read_queries(path) == (ids, ["猫 fish", ""])


def test_queries_prefer_the_standard_names(tmp_path: Path) -> None:
    columns = {"id": ["x"], "query": ["no"], "query_id": ["q"], "text": ["yes"]}
    pq.write_table(pa.table(columns), tmp_path / "queries.parquet")
    assert read_queries(tmp_path / "queries.parquet") == (["q"], ["yes"])


def test_a_warning_names_the_line_outside_of_the_package(tmp_path: Path) -> None:
    path = put(tmp_path / "queries.tsv", b"1\tcat\n\n2\tdog\n")
    with pytest.warns(FastseqWarning, match="1 empty line") as caught:
        read_queries(path)
    assert caught[0].filename == __file__


def test_queries_from_lines(tmp_path: Path) -> None:
    content = "\ufeff1\twhat is\ta tab?\r\n\n2\t\n猫\tcut\u2028here\x85\x0band\rthere"
    wanted = (["1", "2", "猫"], ["what is\ta tab?", "", "cut\u2028here\x85\x0band\rthere"])
    assert read_queries(put(tmp_path / "queries.tsv", content)) == wanted
    headed = put(tmp_path / "queries.txt", "query_id\ttext\n1\tone\n")
    with pytest.warns(FastseqWarning, match=r"queries\.txt: the first line is read as a header"):
        assert read_queries(headed) == (["1"], ["one"])
    assert read_queries(put(tmp_path / "empty.tsv", "")) == ([], [])


@pytest.mark.parametrize(
    "header",
    ["query_id\ttext", "qid\tquery", "#Query ID\tQuery", '"id"\t"text"', "id\ttitle\tnote"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_header_of_queries_is_skipped_with_a_notice(tmp_path: Path, header: str, end: str) -> None:
    path = put(tmp_path / "q.tsv", end.join([header, "1\tone two", "2\tid", ""]).encode())
    with pytest.warns(FastseqWarning, match=re.escape(f"as a header: {header!r}")) as caught:
        assert read_queries(path) == (["1", "2"], ["one two", "id"])
    assert len(caught) == 1


def test_carriage_returns_alone_end_lines_and_empty_lines_are_counted(tmp_path: Path) -> None:
    path = put(tmp_path / "q.tsv", "\ufeff1\tone\r2\ttwo\u2028three\r\r  \r3\tfour\r\r")
    with pytest.warns(FastseqWarning, match=r"q\.tsv: 2 empty lines are skipped$"):
        assert read_queries(path) == (["1", "2", "3"], ["one", "two\u2028three", "four"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_queries(put(tmp_path / "p.tsv", "1\tid\rtext\nid\tof\n"))[0] == ["1", "id"]
        assert read_qrels(put(tmp_path / "q.qrels", "q1 0 d1 1\rq1 0 d2 0\r")) is not None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("q.tsv", "1\tone\nno tab here\n", "line 2: expected an id, a tab and the query"),
        ("q.tsv", "\tno id\n", "line 1: expected an id, a tab and the query"),
        ("q.tsv", "1\tone\n1\tother\n", "the query id '1' is duplicated"),
        ("q.tsv", b"1\tone\n2\t\xff\xfe\n3\tx", r"q\.tsv, line 2: not UTF-8 text"),
        ("q.parquet", b"1\tone\n", "not a Parquet file"),
    ],
)
def test_invalid_queries_are_rejected(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        read_queries(put(tmp_path / name, content))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"key": ["1"], "text": ["x"]}, r"no column 'query_id'; its columns: key \(string\), text"),
        ({"query_id": ["1"], "body": ["x"]}, "no column 'text'"),
        ({"query_id": ["1"], "text": [5]}, "text of the queries is int64, expected strings"),
        ({"query_id": [True], "text": ["x"]}, "query id is bool, expected strings, numbers"),
        ({"query_id": ["1", None], "text": ["x", "y"]}, "query id is null in row 1"),
        ({"query_id": [7, 7], "text": ["x", "y"]}, "query id 7 is duplicated"),
    ],
)
def test_invalid_parquet_queries_are_rejected(
    tmp_path: Path, columns: dict[str, list[object]], said: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "q.parquet")
    with pytest.raises(DataError, match=said):
        read_queries(tmp_path / "q.parquet")


def test_writes_are_atomic(tmp_path: Path) -> None:
    path = put(tmp_path / "out.txt", "before")

    def fail() -> None:
        with written_whole(path) as temporary:
            put(temporary, "half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "before"
    with pytest.raises(FastseqError, match="No space left"), written_whole(path):
        raise OSError(28, "No space left on device")
    with written_whole(path) as temporary:
        put(temporary, "after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    link = tmp_path / "link"
    link.symlink_to(path)
    with written_whole(link) as temporary:
        put(temporary, "through the link")
    assert link.is_symlink()
    assert path.read_text() == "through the link"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "out.txt"]
    with pytest.raises(SettingsError, match="is a folder"), written_whole(tmp_path):
        pass
    with pytest.raises(SettingsError, match="no such folder"), written_whole(tmp_path / "a" / "b"):
        pass


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write_columns(path, {"id": ["a", "b"], "n": np.array([1, 2], np.int8), "tags": [["x"], []]})
    assert pq.read_table(path).to_pylist() == [
        {"id": "a", "n": 1, "tags": ["x"]},
        {"id": "b", "n": 2, "tags": []},
    ]
    before = path.read_bytes()
    interval = pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    for bad in (
        lambda: write_columns(path, {"a": [1], "b": [1, 2]}),
        lambda: write_columns(path, {"a": [1, "x"]}),
        lambda: write_columns(path, {"span": interval}),
    ):
        with pytest.raises(DataError, match=r"cannot write .*table\.parquet as Parquet"):
            bad()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]


def test_other_white_space_stays_in_a_trec_id(tmp_path: Path) -> None:
    odd = "a\u3000b\u00a0c"
    write_run(tmp_path / "run.trec", ["q1"], [0, 1], [odd], SCORES[:1])
    assert read_run(tmp_path / "run.trec") == {"q1": {odd: 3.5}}


def test_integer_ids_beyond_int64(tmp_path: Path) -> None:
    large = 2**63 + 5
    write_run(tmp_path / "run.tsv", [1], [0, 1], [large], SCORES[:1])
    assert str(large) in (tmp_path / "run.tsv").read_text()


def test_qrels_with_column_names_of_beir(tmp_path: Path) -> None:
    table = pa.table({"query-id": ["q"], "corpus-id": ["d"], "score": [1]})
    pq.write_table(table, tmp_path / "qrels.parquet")
    assert read_qrels(tmp_path / "qrels.parquet") == {"q": {"d": 1}}


# ---- compressed text, BEIR


@pytest.mark.parametrize("suffix", [".trec.gz", ".tsv.zst", ".TREC.ZST", ".tsv.gz"])
def test_compressed_runs(tmp_path: Path, suffix: str) -> None:
    path, plain = tmp_path / f"run{suffix}", tmp_path / f"run{Path(suffix).stem.lower()}"
    write_run(path, *hits())
    write_run(plain, *hits())
    with opened(path) as file:
        assert file.read() == plain.read_bytes()
    assert path.read_bytes()[:2] in (b"\x1f\x8b", b"\x28\xb5")
    assert read_run(path) == read_run(plain)
    before = path.read_bytes()
    write_run(path, *hits())
    assert path.read_bytes() == before, "the same bytes each time"
    assert kind_of(path) == kind_of(plain) == (None if "tsv" in suffix else "run")
    with_foreign_line = gzip.compress(plain.read_bytes() + b"of another program\n")
    assert kind_of(put(tmp_path / "other.trec.gz", with_foreign_line)) is None


@pytest.mark.parametrize(
    "pack", [gzip.compress, lambda data: pa.compress(data, "zstd", asbytes=True)]
)
def test_compressed_files_are_known_by_their_content(tmp_path: Path, pack: Any) -> None:
    run = put(tmp_path / "run.trec", pack(b"q Q0 d 1 2.5 tag\n"))
    qrels = put(tmp_path / "qrels.txt", pack(b"q 0 d 1\n"))
    queries = put(tmp_path / "queries.tsv.gz", pack(b"q\ttext\n"))
    assert read_run(run) == {"q": {"d": 2.5}}
    assert read_qrels(qrels) == {"q": {"d": 1}}
    assert read_queries(queries) == (["q"], ["text"])


@pytest.mark.parametrize(
    "pack", [gzip.compress, lambda data: pa.compress(data, "zstd", asbytes=True)]
)
def test_damaged_compression_is_an_error(tmp_path: Path, pack: Any) -> None:
    whole = pack(b"".join(b"q\t%d\t1\t%d\n" % (i, i * i) for i in range(5000)))
    with pytest.raises(DataError, match=r"run\.trec\.gz: cannot be read") as error:
        read_run(put(tmp_path / "run.trec.gz", whole[:-20]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["run.parquet.gz", "run.gz", "run.trec.xz"])
def test_other_compressions_of_runs_are_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="a run ends in"):
        RunWriter(tmp_path / name)
    with pytest.raises(SettingsError, match="must end in"):
        check_output(tmp_path / name, "run", suffixes=runs.RUN_SUFFIXES)


def test_queries_and_judgments_of_beir(tmp_path: Path) -> None:
    lines = (
        '{"_id": "1", "text": "zero dimensional", "metadata": {"31715818": [{"label": "A"}]}}\n'
        '\n{"_id": "3", "text": null, "metadata": {"14717500": []}}\n'
    )
    for name in ("queries.jsonl", "queries.jsonl.gz", "queries.json"):
        content = gzip.compress(lines.encode()) if name.endswith("gz") else lines
        path = put(tmp_path / name, content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_queries(path) == (["1", "3"], ["zero dimensional", ""])
    qrels = put(
        tmp_path / "test.tsv", "query-id\tcorpus-id\tscore\n1\t31715818\t1\n3\t14717500\t0\n"
    )
    assert read_qrels(qrels) == {"1": {"31715818": 1}, "3": {"14717500": 0}}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"_id": "2", "text": "b"', r"line 2: not JSON \("),
        ("[1]", "line 2: a list, expected an object"),
        ('{"text": "b", "n": 1}', "line 2: no field 'query_id'; its fields: text, n"),
        ('{"_id": "2"}', "line 2: no field 'text'; its fields: _id"),
        ('{"_id": 1.5, "text": "b"}', r"line 2: the query id is 1\.5"),
        ('{"_id": true, "text": "b"}', "line 2: the query id is True"),
        ('{"_id": "2", "text": ["b"]}', r"line 2: the text is \['b'\]"),
        ('{"_id": "1", "text": "b"}', "the query id '1' is duplicated"),
    ],
)
def test_bad_queries_in_json_name_the_line(line: str, problem: str, tmp_path: Path) -> None:
    path = put(tmp_path / "q.jsonl", f'{{"_id": "1", "text": "a"}}\n{line}\n')
    with pytest.raises(DataError, match=problem) as error:
        read_queries(path)
    assert str(error.value).startswith(str(path))


def test_position_in_a_zstd_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    path = put(tmp_path / "a.zst", pa.compress(content, "zstd", asbytes=True))
    with opened(path) as file:
        assert file.read(10) == content[:10]
        assert file.seek(1_000_000) == 1_000_000
        assert file.read(5) == content[1_000_000:1_000_005]
        file.seek(3)
        assert file.read() == content[3:]
        file.seek(0)
        assert file.readline() == content[: content.index(b"\n") + 1]


# ---- formats by content

COLUMNS: dict[str, dict[str, list[Any]]] = {
    "queries": {"query_id": ["q", "r"], "text": ["a cat", "dogs"]},
    "run": {"query_id": ["q", "q"], "doc_id": ["d", "e"], "rank": [1, 2], "score": [2.5, 1.0]},
    "qrels": {"query_id": ["q", "q"], "doc_id": ["d", "e"], "rel": [1, 0]},
}
READ: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "queries": (read_queries, (["q", "r"], ["a cat", "dogs"])),
    "run": (read_run, {"q": {"d": 2.5, "e": 1.0}}),
    "qrels": (read_qrels, {"q": {"d": 1, "e": 0}}),
}
LINES = {
    "queries": "q\ta cat\nr\tdogs\n",
    "run": "q Q0 d 1 2.5 tag\nq Q0 e 2 1.0 tag\n",
    "qrels": "q 0 d 1\nq 0 e 0\n",
}


def contents(what: str) -> dict[str, bytes]:
    """The same rows in each format."""
    table, parquet = pa.table(COLUMNS[what]), io.BytesIO()
    pq.write_table(table, parquet)
    rows = [list(row.values()) for row in table.to_pylist()]
    made = {
        "parquet": parquet.getvalue(),
        "jsonl": "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode(),
        "lines": b"\n" + LINES[what].encode(),
    }
    for name, by in (("csv", ","), ("tsv", "\t")):
        lines = [by.join(map(str, row)) + "\n" for row in [table.column_names, *rows]]
        made[name] = "".join(lines).encode()
    made["gzip"] = gzip.compress(made["lines"])
    made["zstd"] = pa.compress(made["jsonl"], "zstd", asbytes=True)
    return made


@pytest.mark.filterwarnings("ignore::fastseq.errors.FastseqWarning")
@pytest.mark.parametrize("what", READ)
@pytest.mark.parametrize("form", ["parquet", "jsonl", "lines", "csv", "tsv", "gzip", "zstd"])
def test_formats_are_recognised_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, form: str
) -> None:
    read, expected = READ[what]
    content = contents(what)[form]
    path = put(tmp_path / "file", content)
    assert read(path) == expected
    assert read(f"file://{path}") == expected
    with open(path, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert read("-") == expected
    if form in ("jsonl", "csv", "parquet"):
        assert read(put(tmp_path / f"file.{form}", content)) == expected


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("what", READ)
def test_pipes_are_read_once(tmp_path: Path, what: str) -> None:
    read, expected = READ[what]
    for form in ("parquet", "gzip"):
        pipe = tmp_path / form
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=[contents(what)[form]])
        writer.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FastseqWarning)
            assert read(pipe) == expected
        writer.join()


@pytest.mark.parametrize("what", READ)
@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\0\0", b"a single\nline", b"[\n1]", b"a,b\n"]
)
def test_content_of_no_known_format_is_an_error(tmp_path: Path, what: str, content: bytes) -> None:
    with pytest.raises(DataError, match=r"file: of no known format, expected .*query_id"):
        READ[what][0](put(tmp_path / "file", content))


def test_empty_content(tmp_path: Path) -> None:
    path = put(tmp_path / "file", b" \n")
    with pytest.raises(DataError, match="file: empty, expected queries: Parquet"):
        read_queries(path)
    assert read_run(path) == {}
    assert read_qrels(path) == {}


def test_queries_in_csv(tmp_path: Path) -> None:
    path = put(tmp_path / "q.csv", 'qid,query,n\n007,"a, ""b""",1\n\n8,,2\n9,10,3\n')
    with pytest.warns(FastseqWarning, match=r"q\.csv: 1 empty line is skipped"):
        assert read_queries(path) == (["007", "8", "9"], ['a, "b"', "", "10"])
    with pytest.raises(DataError, match=r"no column 'text'; its columns: id \(int64\)"):
        read_queries(put(tmp_path / "p.csv", "id,body\n1,a\n"))
