"""What commands read: JSON Lines, CSV, compressed text, standard input, URIs, nested columns."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Run, Write, two_topics

TABLE = pa.table({"id": ["a", "b"], "text": ["black cats", "brown dogs"]})
LINES = '{"id": "a", "text": "black cats"}\n{"id": "b", "text": "brown dogs"}\n'
CSV = "id,text\na,black cats\nb,brown dogs\n"


def ids(run: Run, query: str, *words: object) -> list[Any]:
    return [hit["id"] for hit in run("search", query, "--format", "json", *words).json]


def put(name: str, content: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# ---- BEIR


@pytest.mark.parametrize("packed", [False, True])
def test_layout_of_beir(run: Run, packed: bool) -> None:
    corpus = [
        {"_id": f"d{i}", "title": f"title {i}", "text": f"about word{i} and cats", "metadata": {}}
        for i in range(20)
    ]
    queries = [{"_id": f"q{i}", "text": f"word{i}", "metadata": {"x": i}} for i in range(20)]
    end = ".gz" if packed else ""
    for name, rows in {"corpus": corpus, "queries": queries}.items():
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        put(f"set/{name}.jsonl{end}", gzip.compress(content) if packed else content)
    qrels = ["query-id\tcorpus-id\tscore", *(f"q{i}\td{i}\t1" for i in range(20))]
    put("set/qrels/test.tsv", "\n".join(qrels))
    both = ("--text-column", "title", "--text-column", "text")
    assert run("index", f"set/corpus.jsonl{end}", *both).pairs["documents"] == "20"
    out = "run.trec" + (".zst" if packed else "")
    ran = run("search", "--queries", f"set/queries.jsonl{end}", "-k", 5, "-o", out)
    assert ran.code == 0, ran.err
    ran = run("evaluate", out, "set/qrels/test.tsv", "-m", "nDCG@10", "--format", "json")
    assert ran.json == {"nDCG@10": 1.0}
    again = run("search", "--queries", f"set/queries.jsonl{end}", "-k", 5, "-o", out)
    assert again.code == 0, "a run of fastseq is replaced, compressed or not"


# ---- formats and standard input


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("docs.jsonl", LINES),
        ("docs.json", LINES),
        ("docs.ndjson.gz", gzip.compress(LINES.encode())),
        ("docs.csv", CSV),
        ("docs.tsv.zst", pa.compress(CSV.replace(",", "\t").encode(), "zstd", asbytes=True)),
    ],
)
def test_formats(name: str, content: str | bytes, run: Run) -> None:
    put(f"in/{name}", content)
    for corpus in (f"in/{name}", "in", "in/*", f"file://{Path.cwd()}/in", Path.cwd() / "in"):
        assert run("index", corpus, "--overwrite").pairs["documents"] == "2"
        assert ids(run, "dogs") == ["b"]


def inputs() -> dict[str, bytes]:
    parquet, stream = io.BytesIO(), io.BytesIO()
    pq.write_table(TABLE, parquet)
    with pa.ipc.new_stream(stream, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return {
        "JSON Lines": LINES.encode(),
        "JSON Lines in gzip": gzip.compress(LINES.encode()),
        "CSV": CSV.encode(),
        "Parquet": parquet.getvalue(),
        "Arrow": stream.getvalue(),
    }


@pytest.mark.parametrize("name", inputs())
def test_standard_input(name: str, run: Run) -> None:
    ran = run("index", "-", "-o", "index", stdin=inputs()[name])
    assert ran.pairs["documents"] == "2"
    assert ids(run, "dogs", "-i", "index") == ["b"]


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", inputs())
def test_standard_input_of_a_process(name: str, run: Run, tmp_path: Path) -> None:
    """A pipe, and a redirected file."""
    data = inputs()[name]
    command = [sys.executable, "-m", "fastseq_cli", "--quiet", "index", "-", "--overwrite"]
    subprocess.run(command, input=data, check=True)
    assert ids(run, "dogs") == ["b"]
    with open(put("input", data), "rb") as file:
        subprocess.run(command, stdin=file, check=True)
    assert ids(run, "dogs") == ["b"]


def test_models_and_features_read_standard_input(run: Run) -> None:
    rows = [{"text": t, "label": "ab"[i % 2]} for i, t in enumerate(two_topics())]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    small = ("--embedding", 8, "--hidden", 8, "--epochs", 1, "-o", "model")
    ran = run("fit-gru", "-", *small, stdin=lines)
    assert ran.code == 0, ran.err
    assert ran.pairs["task"] == "classify", "the columns are read before the rows"
    ran = run("predict", "model", "-", "--keep", "label", stdin=lines)
    assert len(ran.out.splitlines()) == 300
    assert run("test", "model", "-", "--format", "json", stdin=lines).json["accuracy"] >= 0
    ran = run("features", "-", "-o", "counts", stdin="id,text\n1,a cat\n2,a dog\n")
    assert ran.pairs["rows"] == "2"
    ran = run("fit-word2vec", "-", "--epochs", 1, "--dimensions", 8, "-o", "vectors", stdin=lines)
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("index", "-", "-"),
        ("features", "-", "-", "-o", "x.npz"),
        ("fit-gru", "-", "--valid", "-"),
        ("predict", "model", "-", "-"),
    ],
)
def test_standard_input_twice_is_a_usage_error(words: tuple[str, ...], run: Run) -> None:
    ran = run(*words, stdin=LINES)
    assert ran.code == 2
    assert "standard input (-) is named twice" in ran.error


@pytest.mark.parametrize(
    ("stdin", "problem"),
    [
        (b"", "standard input is empty, expected Parquet"),
        (b'{"text": "a"}\n{"text": 5}\n', "standard input, line 2: the column 'text' is a number"),
        (b"id,text\na,b,c\n", "standard input: row 0 (from 0): 3 fields, but 2 in the header"),
        (b"id,text\na,b\na,c\n", "duplicate ids: 'a' (standard input: row 0 (from 0), standard"),
    ],
)
def test_bad_standard_input(stdin: bytes, problem: str, run: Run) -> None:
    ran = run("index", "-", stdin=stdin)
    assert ran.code == 1
    assert problem in ran.error


def test_bad_files_are_named(run: Run) -> None:
    for name, content, problem in (
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "a.jsonl, line 2: not JSON"),
        ("a.csv", 'id,text\n1,"open\n', "a.csv, line 2: a quote is not closed"),
        ("a.jsonl.gz", gzip.compress(LINES.encode())[:-8], "a.jsonl.gz: cannot be read (Truncated"),
        ("a.txt", "hello", "a.txt: not Parquet, and no name of another format"),
    ):
        assert problem in run("index", put(name, content)).error
    assert "nope://x/y: Unrecognized filesystem" in run("index", "nope://x/y").error
    assert "no such file or folder" in run("index", f"file://{Path.cwd()}/none.parquet").error
    assert "s.jsonl: no such file" in run("index", "s.jsonl").error


def test_empty_lines_of_csv(run: Run) -> None:
    """A row in a single column, counted in several."""
    put("texts.csv", "text\nblack cats\n\nbrown dogs\n")
    ran = run("index", "texts.csv")
    assert "Notice" not in ran.err
    assert (ran.pairs["documents"], ran.pairs["null texts"]) == ("3", "1")
    assert ids(run, "dogs") == [2]
    put("docs.csv", CSV.replace("\n", "\n\n"))
    ran = run("index", "docs.csv", "-o", "docs")
    assert "Notice: docs.csv: 3 empty lines are skipped\n" in ran.err
    assert ran.pairs["documents"] == "2"
    assert "Notice" not in run("index", "docs.csv", "-o", "docs", "--quiet").err


# ---- nested columns, ids


def test_nested_columns(run: Run) -> None:
    rows = [
        {"meta": {"id": "a"}, "doc": {"text": "black cats", "tags": ["x", "fast"]}},
        {"meta": {"id": "b"}, "doc": {"text": "brown dogs", "tags": None}},
    ]
    put("docs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), "docs.parquet")
    for corpus in ("docs.jsonl", "docs.parquet"):
        columns = (
            "--text-column",
            "doc.text",
            "--text-column",
            "doc.tags",
            "--id-column",
            "meta.id",
        )
        assert run("index", corpus, *columns, "--overwrite").code == 0
        assert ids(run, "fast") == ["a"]
        wrong = run("index", corpus, "--text-column", "doc.body", "-o", "other").error
        assert f"{corpus}: no column 'doc.body'; its columns: meta.id (string), doc.text" in wrong


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (pa.array([dt.date(2020, 1, 31), dt.date(2021, 1, 1)]), "2020-01-31"),
        (pa.array([dt.datetime(2020, 1, 31, 12), dt.datetime(2021, 1, 1)]), "2020-01-31T12:00:00"),
        (
            pa.array([bytes(range(16)), bytes(16)], pa.uuid()),
            "00010203-0405-0607-0809-0a0b0c0d0e0f",
        ),
        (pa.array([b"\x01\xff", b""]), "01ff"),
        (pa.array([7.0, 8.0]), 7),
    ],
    ids=["date", "timestamp", "uuid", "bytes", "float"],
)
def test_ids_have_one_form_everywhere(values: pa.Array, shown: Any, run: Run) -> None:
    table = pa.table({"id": values, "text": ["black cats", "brown dogs"]})
    pq.write_table(table, "docs.parquet")
    assert run("index", "docs.parquet").code == 0
    (hit,) = run("search", "cats", "--format", "json").json
    assert hit["id"] == hit["fields"]["id"] == shown
    assert run("search", "cats", "--format", "tsv").out.splitlines()[1].split("\t")[2] == str(shown)
    assert str(shown) in run("search", "cats").out
    assert run("search", "cats", "--format", "trec").out.split()[2] == str(shown)
    put("queries.tsv", "q\tcats\n")
    for out in ("run.trec.gz", "run.tsv", "run.parquet"):
        assert run("search", "--queries", "queries.tsv", "-o", out, "--overwrite").code == 0
    assert pq.read_table("run.parquet")["doc_id"].to_pylist() == [shown]
    assert gzip.decompress(Path("run.trec.gz").read_bytes()).split()[2].decode() == str(shown)
    assert Path("run.tsv").read_text().splitlines()[1].split("\t")[1] == str(shown)


def test_ids_of_predictions(run: Run, write: Write) -> None:
    rows = two_topics()[:50]
    days = [dt.date(2020, 1, 1) + dt.timedelta(i) for i in range(50)]
    write("l.parquet", text=rows, label=["ab"[i % 2] for i in range(50)], id=days)
    small = ("--embedding", 8, "--hidden", 8, "--epochs", 1, "-o", "model")
    assert run("fit-gru", "l.parquet", *small).code == 0
    lines = run("predict", "model", "l.parquet").out.splitlines()
    assert json.loads(lines[1])["id"] == "2020-01-02"
    assert run("predict", "model", "l.parquet", "-o", "p.parquet").code == 0
    assert pq.read_table("p.parquet")["id"].to_pylist() == days, "Parquet has the type of the ids"


def test_ids_that_are_not_whole(run: Run) -> None:
    pq.write_table(pa.table({"id": [1.0, 2.5], "text": ["a", "b"]}), "docs.parquet")
    ran = run("index", "docs.parquet")
    assert "docs.parquet: row 1 (from 0): column 'id': the id is 2.5, expected a whole" in ran.error
