"""fastseq index --impacts, and commands on such an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Run

WEIGHTS = pa.map_(pa.string(), pa.float32())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write("docs", id=["a", "b", "c"], impacts=[
        [("cat", 1.5), ("##ing", 0.5)], [("cat", 0.5), ("dog", 2.0)], [],
    ], year=[1, 2, 3])  # fmt: skip
    return tmp_path


def write(name: str, kind: pa.DataType = WEIGHTS, **columns: list[Any]) -> None:
    columns["impacts"] = pa.array(columns["impacts"], kind)
    pq.write_table(pa.table(columns), f"{name}.parquet")


@pytest.fixture
def index(run: Run, folder: Path) -> str:
    said = run("index", "docs.parquet", "--impacts", "impacts", "-o", "index").pairs
    assert (said["documents"], said["terms"], said["postings"]) == ("3", "3", "4")
    return "index"


def hits(ran: Any) -> list[tuple[str, float]]:
    return [(hit["id"], hit["score"]) for hit in ran.json]


def test_search_and_changes(run: Run, index: str) -> None:
    found = run("search", "cat^2 ##ing", "-i", index, "--format", "json")
    assert hits(found) == [("a", 3.5), ("b", 1.0)]
    assert found.json[0]["fields"] == {"id": "a", "year": 1}
    found = run("search", "cat", "-i", index, "--model", "dot", "--filter", "year > 1", "--format",
                "json")  # fmt: skip
    assert hits(found) == [("b", 0.5)]
    assert run("search", "c*", "-i", index, "--count").out == "2\n"
    explained = run("search", "dog^3", "-i", index, "--explain")
    assert "3 = weight in the query" in explained.out
    assert "2 = weight in the document" in explained.out
    write("more", id=["d", "b"], impacts=[[("cat", 4.0)], [("dog", 1.0)]], year=[4, 5])
    assert run("add", "more.parquet", "-i", index).pairs["replaced"] == "1"
    assert run("delete", "a", "-i", index).pairs["deleted"] == "1"
    for _ in range(2):
        found = run("search", "cat dog", "-i", index, "--format", "json")
        assert hits(found) == [("d", 4.0), ("b", 1.0)]
        assert run("compact", "-i", index).code == 0
    info = run("info", index, "--verify", "--format", "json").json
    assert info["format_version"] == 4
    assert info["settings"]["impacts"] == {"column": "impacts", "weights": "float"}
    assert info["damaged"] == []
    assert "impacts.weights" in run("info", index).out


def test_files_of_queries(run: Run, index: str, folder: Path) -> None:
    expected = ["q1 Q0 a 1 3.25 fastseq", "q1 Q0 b 2 1 fastseq", "q2 Q0 b 1 3 fastseq"]
    pairs: list[list[tuple[str, float]]] = [[("cat", 2.0), ("##ing", 0.5)], [("dog", 1.5)]]
    # beside a text, which is not what is searched for
    write("queries", query_id=["q1", "q2"], text=["x", "y"], impacts=pairs)
    ran = run("search", "--queries", "queries.parquet", "-i", index)
    assert ran.out.splitlines() == expected
    assert ran.err == ""
    lines = [
        json.dumps({"id": id, "impacts": dict(own)})
        for id, own in zip(["q1", "q2"], pairs, strict=True)
    ]
    Path("queries.jsonl").write_text("\n".join(lines))
    assert run("search", "--queries", "queries.jsonl", "-i", index).out.splitlines() == expected
    Path("queries.tsv").write_text("q1\tcat dog\n")
    assert run("search", "--queries", "queries.tsv", "-i", index).out.splitlines() == [
        "q1 Q0 b 1 2.5 fastseq", "q1 Q0 a 2 1.5 fastseq"
    ]  # fmt: skip
    write("bad", query_id=["q1"], impacts=[[("cat", None)]])
    ran = run("search", "--queries", "bad.parquet", "-i", index)
    assert "bad.parquet: the queries: a term or weight is null" in ran.error
    write("bad", query_id=["q1"], impacts=[[("cat", float("nan"))]])
    assert "must be a finite number" in run(
        "search", "--queries", "bad.parquet", "-i", index
    ).error
    Path("bad.jsonl").write_text('{"id": 1, "impacts": {"cat": "much"}}')
    assert "a weight that is not a number" in run(
        "search", "--queries", "bad.jsonl", "-i", index
    ).error
    # where the file has no weights, its texts; without both, the error names the text
    Path("none.jsonl").write_text('{"id": 1, "words": "cat"}')
    assert "no field 'text'" in run("search", "--queries", "none.jsonl", "-i", index).error


def test_whole_weights_are_exported_as_ciff(run: Run, folder: Path) -> None:
    write("whole", pa.map_(pa.string(), pa.int16()), id=["a", "b"], impacts=[
        [("cat", 150), ("dog", 3)], [("cat", 7)],
    ])  # fmt: skip
    assert run("index", "whole.parquet", "--impacts", "impacts", "-o", "whole").code == 0
    assert run("export-ciff", "whole", "whole.ciff").code == 0
    assert run("import-ciff", "whole.ciff", "back").code == 0
    expected = hits(run("search", "cat^2 dog", "-i", "whole", "--format", "json"))
    assert expected == [("a", 303.0), ("b", 14.0)]
    found = run("search", "cat^2 dog", "-i", "back", "--model", "bow", "--format", "json")
    assert hits(found) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "bm25"], "searched with the model Dot, the dot product, not with BM25"),
        (["--k1", "2"], "searched with the model Dot"),
        (["--snippets"], "an index of impacts has no text"),
        (["--feedback", "rm3"], "feedback is not for an index of impacts"),
    ],
)
def test_options_without_a_meaning(
    run: Run, index: str, arguments: list[str], message: str
) -> None:
    assert message in run("search", "cat", "-i", index, *arguments).error
    assert "has no positions" in run("search", '"cat dog"', "-i", index).error
    assert "more_like is not for" in run("search", "--like", "a", "-i", index).error
    assert "not whole numbers" in run("export-ciff", index, "x.ciff").error


def test_bad_input_is_one_line(run: Run, folder: Path) -> None:
    arguments = ("--impacts", "impacts", "-o", "bad")
    for option in (["--text-column", "id"], ["--field", "id"], ["--stemmer", "english"]):
        ran = run("index", "docs.parquet", *arguments, *option)
        assert ran.code == 2
        assert "--impacts cannot be combined with" in ran.err
    wrong = [(None, "is null"), (float("nan"), "is nan"), (float("inf"), "is inf"), (-1.0, "is -1")]
    for weight, message in wrong:
        write("wrong", id=["a", "b"], impacts=[[], [("dog", weight)]])
        error = run("index", "docs.parquet", "wrong.parquet", *arguments).error
        assert "wrong.parquet: row 1 (from 0): the weight of 'dog' in column 'impacts'" in error
        assert message in error
    assert "no column 'none'" in run("index", "docs.parquet", "--impacts", "none").error
    error = run("index", "docs.parquet", "--impacts", "year").error
    assert "'year' is int64, expected a map" in error
    assert not Path("bad").exists()
