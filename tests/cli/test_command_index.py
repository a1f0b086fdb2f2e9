"""fastseq index: options, summary, invalid corpora."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import SCRIPT, Run, Write


def found(run: Run, query: str, *words: object) -> list[dict[str, Any]]:
    ran = run("search", query, "--format", "json", *words)
    return ran.json


def ids(run: Run, query: str, *words: object) -> list[Any]:
    return [hit["id"] for hit in found(run, query, *words)]


@pytest.fixture
def cats(write: Write) -> Path:
    return write(
        "cats.parquet",
        id=["a", "b", "c", "d"],
        title=["On cats", "On dogs", "Null", "Café"],
        text=["The cats run", "The dog runs", None, "A café for 猫喜欢吃鱼 people"],
        year=[2001, 2002, 2003, 2004],
    )


def test_summary_counts_documents_and_terms(run: Run, cats: Path) -> None:
    ran = run("index", cats)
    said = ran.pairs
    assert said["index"] == str(Path(".fastseq/index"))
    assert said["documents"] == "4"
    assert said["null texts"] == "1"
    assert int(said["terms"]) == 13
    assert "documents/s" in said["time"]
    assert set(said) >= {"postings", "size"}


def test_quiet_prints_nothing(run: Run, cats: Path) -> None:
    ran = run("--quiet", "index", cats)
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_store_selects_the_stored_columns(run: Run, cats: Path) -> None:
    assert run("index", cats, "-o", "all").code == 0
    assert run("index", cats, "-o", "some", "--store", "year", "--store", "title").code == 0
    assert run("index", cats, "-o", "id", "--store", "none").code == 0

    def fields(index: str) -> dict[str, Any]:
        kept = found(run, "dog", "-i", index)[0]["fields"]
        return {name: value for name, value in kept.items() if name != "id"}

    assert fields("all") == {"title": "On dogs", "text": "The dog runs", "year": 2002}
    assert fields("some") == {"title": "On dogs", "year": 2002}
    assert fields("id") == {}
    assert ids(run, "dog", "-i", "id") == ["b"]


def test_text_columns_are_joined(run: Run, cats: Path) -> None:
    words = ("--text-column", "title", "--text-column", "text", "--id-column", "year")
    assert run("index", cats, *words).code == 0
    assert ids(run, "null") == [2003]
    assert ids(run, "cats on") == [2001, 2002]


@pytest.mark.parametrize(
    ("words", "query", "expected"),
    [
        ((), "run", ["a"]),
        (("--stemmer", "english"), "run", ["a", "b"]),
        ((), "cat", []),
        (("--language", "english"), "cat", ["a"]),
        (("--language", "english"), "the", []),
        (("--stopwords", "lucene"), "the", []),
        ((), "cafe", []),
        (("--fold-accents",), "cafe", ["d"]),
        (("--keep-case",), "the", []),
        (("--keep-case",), "The", ["a", "b"]),
        ((), "喜欢", ["d"]),
        (("--cjk", "none"), "欢", ["d"]),
        (("--tokenizer", "word", "--cjk", "none"), "喜欢", []),
        (("--tokenizer", "word", "--cjk", "none"), "猫喜欢吃鱼", ["d"]),
        ((), "a", ["d"]),
        (("--tokenizer", "unicode"), "a", ["d"]),
        (("--tokenizer", "word"), "a", []),
        (("--tokenizer", "char", "--cjk", "none"), "欢", ["d"]),
        (("--tokenizer", "space"), "a", ["d"]),
        (("--ngrams", "2-2"), "dog runs", ["b"]),
        (("--ngrams", "2"), "dog", []),
        (("--char-ngrams", "3-3"), "og", ["b"]),
        (("--char-ngrams", "2-3"), "do", ["b"]),
        (("--min-length", "4"), "run", []),
        (("--max-length", "3"), "runs", []),
    ],
)
def test_options_of_analysis_reach_the_analyzer(
    run: Run, cats: Path, words: tuple[str, ...], query: str, expected: list[str]
) -> None:
    assert run("index", cats, *words).code == 0
    assert sorted(ids(run, query)) == expected


@pytest.mark.parametrize(
    ("words", "tokenizer", "normalization"),
    [
        ((), "unicode", None),
        (("--language", "german"), "unicode", "german"),
        (("--language", "azerbaijani"), "unicode", "azerbaijani"),
        (("--language", "japanese"), "unicode", None),
        (("--language", "german", "--tokenizer", "word"), "word", None),
        (("--language", "german", "--normalization", "none"), "unicode", None),
        (("--normalization", "french", "--tokenizer", "word"), "word", "french"),
    ],
)
def test_default_tokenizer_and_normalisation_of_a_language(
    run: Run, cats: Path, words: tuple[str, ...], tokenizer: str, normalization: str | None
) -> None:
    assert run("index", cats, *words).code == 0
    saved = run("info", ".fastseq/index", "--format", "json").json["settings"]["analyzer"]
    assert (saved["tokenizer"], saved.get("normalization")) == (tokenizer, normalization)


def test_help_has_the_default_tokenizer(run: Run) -> None:
    for command, tokenizer in (("index", "unicode"), ("features", "word"), ("phrases", "word")):
        text = " ".join(run(command, "--help").out.split())
        (shown,) = re.findall(r"--tokenizer .*?\[default: (.*?)\]", text)
        assert shown == tokenizer


def test_existing_index_needs_overwrite(run: Run, cats: Path, write: Write) -> None:
    other = write("other.parquet", id=["z"], text=["something else"])
    assert run("index", cats).code == 0
    assert "overwrite" in run("index", other).error
    assert ids(run, "dog") == ["b"]
    assert run("index", other, "--overwrite").code == 0
    assert ids(run, "dog") == []
    assert ids(run, "something") == ["z"]


def test_fastseq_index_sets_the_default_folder(
    run: Run, cats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTSEQ_INDEX", "elsewhere/deep")
    assert run("index", cats).code == 0
    assert Path("elsewhere/deep/manifest.json").is_file()
    assert ids(run, "dog") == ["b"]


def test_corpora_are_folders_and_globs(run: Run, write: Write, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for name in ("p", "q", "r"):
        write(f"many/{name}.parquet", id=[name], text=[f"text of {name * 3}"])
    for corpus in ("many", "many/*.parquet"):
        assert run("index", corpus, "--overwrite").code == 0
        assert ids(run, "text") == ["p", "q", "r"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--text-column", "body"), ("body", "id", "title", "text", "year")),
        (("--id-column", "key"), ("key", "id", "title", "text", "year")),
        (("--store", "author"), ("author", "title")),
        (("--memory", "much"), ("much", "256MB")),
        (("--ngrams", "2-1"), ("--ngrams", "2-1")),
        (("--ngrams", "x"), ("--ngrams", "x")),
        (("--min-length", "0"), ("--min-length must be", "not 0")),
        (("--language", "klingon"), ("klingon", "english")),
        (("--stemmer", "klingon"), ("klingon", "english")),
        (("--stopwords", "klingon"), ("klingon",)),
        (("--text-column", "year"), ("year",)),
    ],
)
def test_invalid_options_are_a_one_line_error(
    run: Run, cats: Path, words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    ran = run("index", cats, *words)
    assert ran.code == 1
    assert all(word in ran.error for word in said)
    assert not Path(".fastseq/index/manifest.json").exists()


def test_ambiguous_text_column_is_an_error(run: Run, write: Write) -> None:
    corpus = write("two.parquet", id=["a"], title=["x"], body=["y"])
    error = run("index", corpus).error
    assert "title" in error
    assert "body" in error


def test_missing_file_is_named(run: Run) -> None:
    assert "gone.parquet" in run("index", "gone.parquet").error
    assert "gone/*.parquet" in run("index", "gone/*.parquet").error


def test_empty_file_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.parquet").touch()
    assert "empty.parquet" in run("index", "empty.parquet").error


def test_corpus_without_rows_is_an_error(run: Run, write: Write) -> None:
    corpus = write("none.parquet", id=pa.array([], pa.string()), text=pa.array([], pa.string()))
    assert "no rows" in run("index", corpus).error
    assert not Path(".fastseq/index/manifest.json").exists()


def test_null_texts_are_empty_documents(run: Run, write: Write) -> None:
    corpus = write("null.parquet", id=["a", "b"], text=pa.array([None, None], pa.string()))
    ran = run("index", corpus)
    assert ran.code == 0, ran.err
    assert ids(run, "anything") == []


def test_duplicate_ids_are_named(run: Run, write: Write) -> None:
    corpus = write("twice.parquet", id=["k1", "k2", "k2", "k3", "k3"], text=["x"] * 5)
    error = run("index", corpus).error
    assert "k2" in error
    assert "k3" in error


def test_null_id_is_named(run: Run, write: Write) -> None:
    corpus = write("null.parquet", id=["a", None], text=["x", "y"])
    assert "null" in run("index", corpus).error


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_truncated_file_is_an_error(run: Run, cats: Path, keep: float) -> None:
    whole = cats.read_bytes()
    cats.write_bytes(whole[: int(len(whole) * keep)])
    assert "cats.parquet" in run("index", cats).error


def test_file_that_is_not_parquet_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("id,text\n1,cat\n" * 50)
    assert "list.csv" in run("index", "list.csv").error


def test_damaged_file_is_an_error(run: Run, write: Write) -> None:
    corpus = write("big.parquet", id=[str(i) for i in range(5000)], text=["word " * 20] * 5000)
    whole = bytearray(corpus.read_bytes())
    whole[4:400] = b"\xff" * 396
    corpus.write_bytes(whole)
    assert "big.parquet" in run("index", corpus).error
    assert not Path(".fastseq/index/manifest.json").exists()


def test_index_path_that_is_a_file_is_an_error(run: Run, cats: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    for words in ((), ("--overwrite",)):
        assert "taken" in run("index", cats, "-o", "taken", *words).error
    assert (tmp_path / "taken").read_text() == "mine"


def test_other_folders_are_left_alone(run: Run, cats: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("mine")
    assert "photos" in run("index", cats, "-o", "photos", "--overwrite").error
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["one.jpg"]


def test_indexes_a_document_of_ten_megabytes(run: Run, write: Write) -> None:
    long = " ".join(f"w{i}" for i in range(1_500_000))
    assert len(long) > 10 << 20
    corpus = write("long.parquet", id=["long", "short"], text=[long, "w7 w8"])
    assert run("index", corpus, "--memory", "64MB").code == 0
    assert ids(run, "w1499999") == ["long"]
    assert ids(run, "w8") == ["short", "long"]


def test_counts_a_term_a_hundred_thousand_times(run: Run, write: Write) -> None:
    corpus = write("same.parquet", id=["many", "one"], text=["echo " * 100_000, "echo one two"])
    assert run("index", corpus).code == 0
    hits = found(run, "echo", "--model", "bow")
    assert [(hit["id"], hit["score"]) for hit in hits] == [("many", 100_000), ("one", 1)]
    assert ids(run, "echo", "--b", "0") == ["many", "one"]


def test_interrupt_keeps_the_old_index(run: Run, cats: Path, tmp_path: Path) -> None:
    assert run("index", cats).code == 0
    before = found(run, "dog")
    text = pa.array([" ".join(f"word{i}x{j}" for j in range(60)) for i in range(2000)])
    table = pa.table({"text": text})
    with pq.ParquetWriter("big.parquet", table.schema) as writer:
        for _ in range(300):
            writer.write_table(table)
    index = tmp_path / ".fastseq" / "index"
    quiet = {path.name for path in index.rglob("*")}
    child = subprocess.Popen(
        [SCRIPT, "index", "big.parquet", "--overwrite"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # the first new file is a sign that the writing has begun
    deadline = time.monotonic() + 60
    while {path.name for path in index.rglob("*")} == quiet and time.monotonic() < deadline:
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "Interrupted"
    assert "Traceback" not in err
    assert found(run, "dog") == before
    assert run("info", index, "--verify").code == 0
    assert run("index", cats, "--overwrite").code == 0  # the lock died with its process
