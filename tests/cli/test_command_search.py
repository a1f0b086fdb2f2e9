"""fastseq search: output formats, single queries and query files, errors."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastseq_cli.search import MODELS

from tests.cli.conftest import BILINGUAL, SCRIPT, Run, Write

Search = Callable[..., Any]


@pytest.fixture
def search(run: Run, bilingual: Path) -> Search:
    return lambda *words, **more: run("search", *words, "-i", bilingual, **more)


def hits(ran: Any) -> list[dict[str, Any]]:
    return ran.json


def test_json_is_a_list_of_hits(search: Search) -> None:
    found = hits(search("why do cats purr", "-k", "3", "--format", "json"))
    assert 1 <= len(found) <= 3
    assert [hit["rank"] for hit in found] == list(range(1, len(found) + 1))
    assert list(found[0]) == ["rank", "id", "score", "fields"]
    assert found[0]["id"] == "en02"
    assert set(found[0]["fields"]) >= {"language", "title", "text"}
    assert found[0]["fields"]["title"] == "Why cats purr"
    assert found[0]["fields"]["text"].startswith("A cat purrs when")
    scores = [hit["score"] for hit in found]
    assert scores == sorted(scores, reverse=True)
    assert all(isinstance(score, float) for score in scores)


@pytest.mark.parametrize(
    ("query", "best"),
    [("猫喜欢吃什么", "zh01"), ("长江大桥", "zh12"), ("BM25 k1 参数", "mx02"), ("café", "en18")],
)
def test_chinese_english_and_mixed_queries(search: Search, query: str, best: str) -> None:
    assert hits(search(query, "--format", "json"))[0]["id"] == best


def test_every_format_has_the_same_hits(search: Search) -> None:
    query = ("green tea", "-k", "4")
    found = hits(search(*query, "--format", "json"))
    lines = search(*query, "--format", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == found
    header, *rows = (
        line.split("\t") for line in search(*query, "--format", "tsv").out.splitlines()
    )
    assert header == ["rank", "score", "id", "language", "title", "text"]
    assert [(int(row[0]), float(row[1]), row[2]) for row in rows] == [
        (hit["rank"], hit["score"], hit["id"]) for hit in found
    ]
    trec = [line.split(" ") for line in search(*query, "--format", "trec").out.splitlines()]
    assert [(row[0], row[1], row[2], int(row[3]), row[5]) for row in trec] == [
        ("1", "Q0", hit["id"], hit["rank"], "fastseq") for hit in found
    ]
    assert [float(row[4]) for row in trec] == pytest.approx([hit["score"] for hit in found])
    table = search(*query).out.splitlines()
    assert table[0].split() == ["rank", "score", "id", "language", "title", "text"]
    assert [line.split()[2] for line in table[1:]] == [hit["id"] for hit in found]


def test_dash_reads_the_query_from_standard_input(search: Search) -> None:
    expected = search("scrambled eggs", "--format", "json").out
    assert search("-", "--format", "json", stdin="scrambled\neggs\n").out == expected
    assert search("-", "--format", "json", stdin="").out == "[]\n"


def test_invalid_utf8_on_standard_input_is_an_error(search: Search) -> None:
    assert "UTF-8" in search("-", stdin=b"caf\xe9").error


@pytest.mark.parametrize("query", ["zzzqqq", "", "?!", "  ", "x", "\u3000"])
def test_query_without_known_terms_finds_nothing(search: Search, query: str) -> None:
    assert hits(search(query, "--format", "json")) == []
    for form in ("table", "jsonl", "trec"):
        ran = search(query, "--format", form)
        assert (ran.code, ran.out) == (0, "")
    assert search(query, "--format", "tsv").out == "rank\tscore\tid\tlanguage\ttitle\ttext\n"


def test_k_may_exceed_the_collection(search: Search) -> None:
    found = hits(search("the", "-k", "1000000", "--format", "json"))
    assert 5 < len(found) <= 42
    assert len(hits(search("the", "-k", "1", "--format", "json"))) == 1


@pytest.mark.parametrize("model", MODELS)
def test_every_ranking_model_ranks(search: Search, model: str) -> None:
    if model == "bm25f":
        ran = search("cats", "--model", model)
        assert ran.code == 2
        assert "--model bm25f requires --field" in ran.err
        return
    if model == "dot":
        ran = search("cats", "--model", model)
        assert ran.code == 1
        assert "for an index of impacts" in ran.err
        return
    assert hits(search("why do cats purr", "--model", model, "--format", "json"))[0]["id"] == "en02"


def test_models_match_the_library() -> None:
    from fastseq.search.model_names import model_by_name

    for name in MODELS:
        assert model_by_name(name) is not None


def test_options_reach_the_ranking_model(search: Search) -> None:
    def scores(*words: str) -> list[float]:
        return [hit["score"] for hit in hits(search("tea with milk", *words, "--format", "json"))]

    default = scores()
    assert scores("--k1", "1.2", "--b", "0.75") == default
    for words in (("--k1", "0.9"), ("--b", "0.4"), ("--model", "atire"), ("--model", "tfidf")):
        assert scores(*words) != default
    assert scores("--model", "bm25l", "--delta", "0") != scores("--model", "bm25l")
    ltc = scores("--model", "tfidf", "--smart", "ltc.lnc")
    assert ltc == scores("--model", "tfidf") != scores("--model", "tfidf", "--smart", "nnn.nnn")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-k", "0"), "k"),
        (("-k", "-3"), "-3"),
        (("--k1", "-0.1"), "k1"),
        (("--k1", "nan"), "k1"),
        (("--k1", "inf"), "k1"),
        (("--b", "1.5"), "b"),
        (("--b", "-0.1"), "b"),
        (("--model", "bm25l", "--delta", "-1"), "delta"),
        (("--model", "tfidf", "--smart", "xyz.abc"), "xyz"),
        (("--model", "tfidf", "--k1", "1"), "k1"),
        (("--smart", "ltc.lnc"), "smart"),
    ],
)
def test_invalid_parameters_are_a_one_line_error(
    search: Search, words: tuple[str, ...], said: str
) -> None:
    ran = search("tea", *words)
    assert ran.code == 1
    assert said in ran.error


def test_missing_index_is_an_error(run: Run, tmp_path: Path) -> None:
    assert "gone" in run("search", "tea", "-i", "gone").error
    (tmp_path / "file").write_text("mine")
    assert "file: a file, expected a folder" in run("search", "tea", "-i", "file").error
    (tmp_path / "empty").mkdir()
    assert "empty" in run("search", "tea", "-i", "empty").error


@pytest.mark.parametrize("suffix", [".parquet", ".trec", ".tsv"])
def test_query_file_gives_the_hits_of_single_queries(search: Search, suffix: str) -> None:
    from fastseq.store.runs import read_run

    words = ("--queries", BILINGUAL / "queries.parquet", "-k", "5")
    output = Path("run").with_suffix(suffix)
    ran = search(*words, "-o", output)
    assert (ran.code, ran.out) == (0, ""), ran.err
    assert "14 queries" in ran.err
    run = read_run(output)
    for query in pq.read_table(BILINGUAL / "queries.parquet").to_pylist():
        alone = hits(search(query["text"], "-k", "5", "--format", "json"))
        assert run[query["query_id"]] == pytest.approx({hit["id"]: hit["score"] for hit in alone})


def test_parquet_run_has_four_columns(search: Search) -> None:
    assert search("--queries", BILINGUAL / "queries.parquet", "-o", "run.parquet").code == 0
    table = pq.read_table("run.parquet")
    assert table.column_names == ["query_id", "doc_id", "rank", "score"]
    assert [str(field.type) for field in table.schema][2:] == ["int32", "float"]
    assert table["rank"].to_pylist()[0] == 1


def test_query_file_without_output_prints_a_run(search: Search) -> None:
    words = ("--queries", BILINGUAL / "queries.parquet", "-k", "5")
    assert search(*words, "-o", "run.trec", "--quiet").err == ""
    kept = [line.split() for line in Path("run.trec").read_text().splitlines()]
    said = [line.split() for line in search(*words).out.splitlines()]
    assert [row[:4] for row in said] == [row[:4] for row in kept]
    found = hits(search(*words, "--format", "json"))
    assert [[hit["query_id"], "Q0", hit["doc_id"], str(hit["rank"])] for hit in found] == [
        row[:4] for row in kept
    ]
    lines = search(*words, "--format", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == found
    tsv = search(*words, "--format", "tsv").out.splitlines()
    assert tsv[0] == "query_id\tdoc_id\trank\tscore"
    assert len(tsv) == len(found) + 1


def test_queries_from_tsv_without_hits(search: Search, tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("one\ttea\nnone\tzzzqqq\n", "utf-8")
    found = hits(search("--queries", "q.tsv", "--format", "json"))
    assert {hit["query_id"] for hit in found} == {"one"}
    (tmp_path / "only.tsv").write_text("none\tzzzqqq\n", "utf-8")
    assert search("--queries", "only.tsv", "-o", "run.parquet").code == 0
    assert pq.read_table("run.parquet").num_rows == 0


def test_queries_from_standard_input(search: Search) -> None:
    expected = search("--queries", BILINGUAL / "queries.parquet").out
    rows = pq.read_table(BILINGUAL / "queries.parquet").to_pylist()
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for stdin in (lines.encode(), (BILINGUAL / "queries.parquet").read_bytes()):
        assert search("--queries", "-", stdin=stdin).out == expected != ""
    assert search("-", "--queries", "-", stdin=lines).code == 2
    said = search("--queries", "-", stdin="no tab").error
    assert "standard input: of no known format, expected queries: Parquet, JSON Lines" in said
    assert "standard input: empty" in search("--queries", "-", stdin="").error


@pytest.mark.skipif(os.name == "nt", reason="needs bash")
def test_queries_runs_and_judgments_from_pipes(bilingual: Path, run: Run) -> None:
    queries, qrels = BILINGUAL / "queries.parquet", BILINGUAL / "qrels.parquet"
    expected = run("search", "--queries", queries, "-i", bilingual).out
    fastseq = f"{SCRIPT} --quiet"
    line = (
        f"{fastseq} search --queries <(cat {queries}) -i {bilingual} | tee run "
        f"| {fastseq} evaluate - <(cat {qrels}) -m RR --format json; "
        f"cat run | {fastseq} evaluate /dev/stdin {qrels} -m RR --format json"
    )
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert ran.stdout == '{\n  "RR": 1.0\n}\n' * 2
    assert Path("run").read_text("utf-8") == expected


def test_removed_words_of_many_queries_are_counted(run: Run, write: Write, tmp_path: Path) -> None:
    docs = write("docs.parquet", id=["a"], text=["the wait"])
    (tmp_path / "q.tsv").write_text(
        "q1\tthe the wait\nq2\tthe of\nq3\t?!\nq4\twait\nq5\tan\nq6\tto\n"
    )
    assert run("index", docs, "--language", "english").code == 0
    said = (
        "Notice: not searched for: 6 stop words; 4 of 6 queries have no word to search for: "
        "'q2', 'q3', 'q5', …"
    )
    assert run("search", "--queries", "q.tsv").err.splitlines()[-1] == said
    assert run("search", "--queries", "q.tsv", "-o", "run.trec").err.splitlines()[-1] == said
    assert run("search", "--queries", "q.tsv", "--quiet").err == ""
    ran = run("search", "--queries", "-", stdin="q\twait the cat\n")
    assert "Notice: not searched for: 1 stop word\n" in ran.err
    assert run("search", "--queries", "-", stdin="q\twait cat\n").err == ""
    assert run("index", docs, "--tokenizer", "word", "--overwrite").code == 0
    ran = run("search", "--queries", "-", stdin="q\twait a b\nr\tc\n")
    assert "3 words too short; 1 of 2 queries has no word to search for: 'r'" in ran.err


def test_results_do_not_depend_on_threads(search: Search) -> None:
    words = ("--queries", BILINGUAL / "queries.parquet", "-k", "7")
    one, two = (search(*words, "--threads", n) for n in (1, 3))
    assert one.out == two.out != ""


def test_invalid_query_files_and_outputs_are_errors(search: Search, tmp_path: Path) -> None:
    queries = BILINGUAL / "queries.parquet"
    assert "gone.parquet" in search("--queries", "gone.parquet").error
    assert ".trec" in search("--queries", queries, "-o", "run.csv").error
    assert "no/such" in search("--queries", queries, "-o", "no/such/run.trec").error
    (tmp_path / "folder.trec").mkdir()
    assert "folder.trec" in search("--queries", queries, "-o", "folder.trec").error
    assert "query" in search("--queries", BILINGUAL / "qrels.parquet").error


def test_ids_with_white_space_cannot_be_trec(run: Run, write: Write) -> None:
    assert run("index", write("spaces.parquet", id=["a b"], text=["tea"])).code == 0
    assert "'a b'" in run("search", "tea", "--format", "trec").error
    (Path("q.tsv")).write_text("q\ttea\n")
    assert "'a b'" in run("search", "--queries", "q.tsv", "-o", "run.trec").error
    assert not Path("run.trec").exists()
    assert run("search", "--queries", "q.tsv", "-o", "run.parquet").code == 0


STRANGE_IDS = ["می\u200cخواهم", "a  b", " lead ", "co\u00adop", "a\u202eb", "x\u2028y", "\x1b[1m"]


def test_tsv_has_the_ids_unchanged(run: Run, write: Write) -> None:
    docs = write("docs.parquet", id=STRANGE_IDS, text=["tea"] * len(STRANGE_IDS))
    assert run("index", docs).code == 0
    header, *rows = run("search", "tea", "--format", "tsv").out.split("\n")[:-1]
    assert header == "rank\tscore\tid\ttext"
    assert [row.split("\t")[2] for row in rows] == STRANGE_IDS
    write("q.parquet", query_id=STRANGE_IDS, text=["tea"] * len(STRANGE_IDS))
    many = ("search", "--queries", "q.parquet", "--format", "tsv")
    rows = run(*many).out.split("\n")[1:-1]
    assert [row.split("\t")[:2] for row in rows] == [
        [q, d] for q in STRANGE_IDS for d in STRANGE_IDS
    ]


@pytest.mark.parametrize("id", ["a\tb", "a\nb", "\ra"])
def test_ids_with_a_tab_or_line_break_cannot_be_tsv(run: Run, write: Write, id: str) -> None:
    assert run("index", write("docs.parquet", id=["x", id], text=["tea", "tea"])).code == 0
    write("q.parquet", query_id=["q"], text=["tea"])
    for words in (["tea"], ["--queries", "q.parquet"]):
        ran = run("search", *words, "--format", "tsv")
        assert repr(id) in ran.error
        assert "--format json" in ran.error
        assert ran.out == ""
    assert run("search", "tea", "--format", "json").json[1]["id"] == id


def test_stored_values_have_the_forms_of_ids(run: Run, tmp_path: Path) -> None:
    moment = datetime.datetime(2020, 1, 31, 12, 30)
    columns = {
        "id": pa.array([moment], pa.timestamp("ns", "UTC")),
        "text": pa.array(["tea"]),
        "day": pa.array([moment.date()]),
        "time": pa.array([moment]).cast(pa.timestamp("us")),
        "uuid": pa.array([bytes(range(16))], pa.binary(16)),
        "raw": pa.array([b"\x01\xff"]),
        "price": pa.array([Decimal("1.50")]),
        "days": pa.array([[moment.date(), None]]),
        "more": pa.array([{"at": moment, "n": 1.5, "ok": True}]),
        "map": pa.array([[("a", b"\x00")]], pa.map_(pa.string(), pa.binary())),
        "none": pa.array([None], pa.list_(pa.int64())),
    }
    pq.write_table(pa.table(columns), tmp_path / "docs.parquet")
    assert run("index", "docs.parquet", "--text-column", "text").code == 0
    [hit] = run("search", "tea", "--format", "json").json
    fields = {
        "id": "2020-01-31T12:30:00Z",
        "text": "tea",
        "day": "2020-01-31",
        "time": "2020-01-31T12:30:00",
        "uuid": "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "raw": "01ff",
        "price": "1.50",
        "days": ["2020-01-31", None],
        "more": {"at": "2020-01-31T12:30:00", "n": 1.5, "ok": True},
        "map": [["a", "00"]],
        "none": None,
    }
    assert hit["id"] == fields["id"]
    assert hit["fields"] == fields
    header, row = (
        line.split("\t") for line in run("search", "tea", "--format", "tsv").out.splitlines()
    )
    cells = dict(zip(header, row, strict=True))
    assert header == ["rank", "score", "id", *list(fields)[1:]]
    for name in ("days", "more", "map"):
        assert json.loads(cells[name]) == fields[name]
    assert [cells[name] for name in ("day", "time", "raw", "none")] == [
        "2020-01-31", "2020-01-31T12:30:00", "01ff", "",
    ]  # fmt: skip
    assert '["2020-01-31", null]' in run("search", "tea").out
    assert run("search", "zzz", "--format", "tsv").out.rstrip("\n").split("\t") == header


def test_bilingual_queries_are_answered(search: Search, run: Run) -> None:
    words = ("-m", "RR", "-m", "nDCG@10", "--format", "json")
    assert search("--queries", BILINGUAL / "queries.parquet", "-o", "run.trec").code == 0
    values = hits(run("evaluate", "run.trec", BILINGUAL / "qrels.parquet", *words))
    assert values["RR"] == 1.0
    assert values["nDCG@10"] > 0.85


def test_fresh_process_compiles_nothing(bilingual: Path, tmp_path: Path) -> None:
    words = [SCRIPT, "search", "green tea", "-i", bilingual, "-k", "3"]
    subprocess.run(words, capture_output=True, check=True, cwd=tmp_path)  # fills the cache
    before = os.times()
    ran = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    after = os.times()
    assert ran.stderr == ""
    assert "en04" in ran.stdout
    # processor time, since other tests may run at the same time
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < 2.5


def test_search_imports_only_what_it_needs(bilingual: Path, tmp_path: Path) -> None:
    source = (
        "import sys; from fastseq_cli.main import cli\n"
        f"try: cli(['search', 'green tea', '-i', {str(bilingual)!r}])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'rich', 'ir_measures', 'pandas', 'Stemmer', 'fastseq.index.build'}\n"
        "print(*sorted(heavy & set(sys.modules)), end='', file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
