"""fastseq index --dense, search --dense and --hybrid, and changes of such an index."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import Index, TextEncoder
from fastseq.index import graphs
from fastseq.search import dense as searching
from tests.bert_checkpoints import CONFIG, weights_of, write_checkpoint
from tests.cli.conftest import Run, Write

TEXTS = ["the cat sat", "a dog ran", "the dog sat on the mat", "cat", None]


@pytest.fixture
def index(run: Run, write: Write, tmp_path: Path) -> str:
    write_checkpoint(tmp_path / "model", pooling="mean", limit=8)
    write("docs.parquet", id=list("abcde"), text=TEXTS, year=[1, 2, 3, 4, 5])
    made = run("index", "docs.parquet", "-o", "index", "--dense", "model")
    assert made.pairs["dimensions"] == "24"
    assert "Notice: 1 text of 5 without a token" in made.err
    return "index"


def hits(ran: Any) -> list[tuple[str, float]]:
    return [(hit["id"], hit["score"]) for hit in ran.json]


def test_search_and_changes(run: Run, write: Write, index: str) -> None:
    encoder = TextEncoder.load("model")
    for text, condition in (("dog sat", None), ("a cat", "year > 1")):
        own = ("-i", index, "--format", "json", "-k", "3")
        own += () if condition is None else ("--filter", condition)
        opened = Index.open(index)
        near = opened.search_dense(text, 3, encoder=encoder, filter=condition)
        assert hits(run("search", text, "--dense", *own)) == list(
            zip(near.ids[0], near.scores[0].tolist(), strict=True)
        )
        both = opened.search_hybrid(text, 3, encoder=encoder, filter=condition, weight=0.3, depth=4,
                                    fusion="sum")  # fmt: skip
        ran = run("search", text, "--hybrid", "sum", "--hybrid-weight", "0.3", "--hybrid-depth",
                  "4", *own)  # fmt: skip
        assert hits(ran) == list(zip(both.ids[0], both.scores[0].tolist(), strict=True))
    write("more.parquet", id=["f", "b"], text=["a mat", "the mat"], year=[6, 7])
    assert run("add", "more.parquet", "-i", index).pairs["replaced"] == "1"
    found = run("search", "the mat", "--dense", "-i", index, "--format", "json", "-k", "1")
    assert hits(found)[0][0] == "b"
    write("queries.parquet", query_id=[1, 2], text=["the mat", "cat"])
    ran = run("search", "--queries", "queries.parquet", "--dense", "-i", index, "-k", "1",
              "--format", "tsv")  # fmt: skip
    assert [line.split("\t")[:2] for line in ran.out.splitlines()[1:]] == [["1", "b"], ["2", "d"]]
    ran = run("search", "--queries", "queries.parquet", "--hybrid", "rrf", "-i", index,
              "-o", "run.tsv")  # fmt: skip
    assert ran.code == 0, ran.err
    assert "run.tsv: 2 queries" in ran.err
    shown = run("info", index).pairs
    assert (shown["format version"], shown["dense.size"]) == ("6", "24")
    assert shown["segments"].isdecimal()
    assert run("search", "cat", "--dense", "-i", index, "--snippets").code == 0


def test_a_model_that_moved_or_is_another(run: Run, write: Write, index: str) -> None:
    shutil.move("model", "moved")
    search = ("search", "cat", "--dense", "-i", index)
    assert "model: the model of the index is not there: --dense-model names" in run(*search).error
    assert run(*search, "--dense-model", "moved").code == 0
    write("more.parquet", id=["f"], text=["a mat"], year=[6])
    add = ("add", "more.parquet", "-i", index)
    assert "is not there: --dense names its folder" in run(*add).error
    write_checkpoint(Path("two"), weights=weights_of(CONFIG, 1), pooling="mean")
    for line in (run(*search, "--dense-model", "two").error, run(*add, "--dense", "two").error):
        assert "/model (digest " in line
        assert "/two (digest " in line
    assert run(*add, "--dense", "moved").pairs["added"] == "1"


def test_a_column_of_vectors(run: Run, write: Write, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3, 24)).tolist()
    write("docs.parquet", id=[1, 2, 3], text=["cat", "dog", "a"], v=vectors)
    made = run("index", "docs.parquet", "-o", "index", "--dense-column", "v", "--dense-dtype",
               "float16")  # fmt: skip
    assert made.pairs["dimensions"] == "24"
    write_checkpoint(tmp_path / "model", pooling="mean")
    found = run("search", "cat", "--dense", "-i", "index", "--dense-model", "model", "--format",
                "json")  # fmt: skip
    assert len(hits(found)) == 3
    error = run("search", "cat", "--dense", "-i", "index").error
    assert "the column 'v': --dense-model names the encoder of queries" in error
    write("more.parquet", id=[4], text=["cat"], v=vectors[:1])
    assert run("add", "more.parquet", "-i", "index").pairs["added"] == "1"


def test_graphs(
    run: Run, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("usearch")
    monkeypatch.setattr(graphs, "LEAST", 300)
    monkeypatch.setattr(searching, "_FOUND", 20)
    monkeypatch.setattr(searching, "_VISITED", 1)
    vectors = np.random.default_rng(0).normal(size=(300, 24)).tolist()
    write("docs.parquet", id=range(300), text=["cat"] * 300, v=vectors)
    vector_options = ("--dense-column", "v", "--dense-index", "usearch")
    assert run("index", "docs.parquet", "-o", "index", *vector_options).code == 0
    shown = run("info", "index").pairs
    assert shown["dense.graph"] == "usearch"
    assert (shown["segments with a graph"], shown["format version"]) == ("1", "7")
    assert run("info", "index", "--verify").code == 0
    write_checkpoint(tmp_path / "model", pooling="mean")
    search = ("search", "cat", "-i", "index", "--dense-model", "model", "--format", "json")
    found = hits(run(*search, "--dense"))
    exact = hits(run(*search, "--dense", "--dense-exact"))
    assert len({*found}) == 10
    assert len({*found} & {*exact}) >= 5
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    assert hits(run(*search, "--dense", "--dense-exact")) == exact
    assert run(*search, "--hybrid", "rrf", "--dense-exact").code == 0
    for words in (
        (*search, "--dense"), (*search, "--hybrid", "sum"),
        ("index", "docs.parquet", "-o", "other", *vector_options),
    ):  # fmt: skip
        assert "pip install 'fastseq[usearch]'" in run(*words).error
    write("more.parquet", id=[300], text=["cat"], v=vectors[:1])
    assert "fastseq[usearch]" in run("add", "more.parquet", "-i", "index").error


def test_wrong_input(run: Run, write: Write, index: str) -> None:
    assert run("index", "docs.parquet", "-o", "plain").code == 0
    for words, match in [
        (("-i", "plain", "--dense"), "has no vectors: build it with fastseq index --dense MODEL"),
        (("-i", "plain", "--hybrid", "rrf"), "plain: the index has no vectors"),
        (("-i", index, "--dense", "--model", "bm25"), "--dense cannot be combined with --model"),
        (("-i", index, "--dense", "--hybrid", "rrf"), "--hybrid cannot be combined with --dense"),
        (("-i", index, "--hybrid", "rrf", "--sort", "year"), "cannot be combined with --sort"),
        (("-i", index, "--hybrid-weight", "1"), "require --hybrid"),
        (("-i", index, "--dense-model", "model"), "requires --dense or --hybrid"),
        (("-i", index, "--dense-exact"), "--dense-exact requires --dense or --hybrid"),
        (("-i", index, "--hybrid", "rrf", "--hybrid-weight", "2"), "--hybrid-weight must be a num"),
        (("-i", index, "--hybrid", "rrf", "--hybrid-depth", "0"), "--hybrid-depth must be a whole"),
        (("-i", index, "--dense", "--k1", "2"), "--dense cannot be combined with --k1"),
        (("-i", index, "--dense", "--dense-model", "plain"), "no checkpoint"),
    ]:
        assert match in run("search", "cat", *words).error, words
    for words, match in [
        (("--dense", "plain"), "no checkpoint"),
        (("--dense", "model", "--dense-column", "v"), "cannot be combined with --dense-column"),
        (("--dense-column", "none"), "no column 'none'"),
        (("--dense-index", "usearch"), "--dense-index usearch requires --dense or --dense-column"),
        (("--dense-column", "text"), "expected lists of numbers"),
    ]:
        assert match in run("index", "docs.parquet", "-o", "new", *words).error, words
    assert not Path("new").exists()
    write("more.parquet", id=["f"], text=["a"], year=[1])
    error = run("add", "more.parquet", "-i", "plain", "--dense", "model").error
    assert "the index has no vectors" in error
