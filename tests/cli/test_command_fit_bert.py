"""fastseq fit-bert, and predict, test and info of its models."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.bert_checkpoints import write_checkpoint
from tests.cli.conftest import Run, Write

TEXTS = ["the cat sat", "a dog ran on the mat", "cat cat .", "the dog ran", "", "a cat"] * 2
LABELS = ["cat" if "cat" in text else "dog" for text in TEXTS]
FIT = ("--base", "base", "--epochs", "1", "--batch-size", "4", "-o", "model", "--overwrite")


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "base", pooling="mean", limit=8)


def test_classify(run: Run, write: Write) -> None:
    write("train.parquet", text=TEXTS, label=LABELS)
    ran = run("fit-bert", "train.parquet", *FIT, "--valid", "train.parquet")
    assert {"model", "task", "parameters", "best epoch", "validation accuracy"} <= set(ran.pairs)
    assert ran.pairs["task"] == "classify"
    assert "2 of 12 texts are empty: read as [CLS] [SEP]" in ran.err
    assert "2 of 12 rows are cut to the maximum length" not in ran.err
    assert run("predict", "model", "train.parquet", "-o", "out.parquet").code == 0
    found = pq.read_table("out.parquet")
    assert found.schema.names == ["id", "prediction", "probability"]
    assert set(found["prediction"].to_pylist()) <= {"cat", "dog"}
    measures = run("test", "model", "train.parquet", "--format", "json").json
    assert set(measures) == {"accuracy", "macro_f1", "loss", "unknown_rate"}
    described = run("info", "model", "--verify").pairs
    assert described["model"] == "bert classifier"
    assert described["vocabulary"] == "17 word pieces"
    assert described["maximum length"] == "8 tokens"
    assert described["classes"] == "2: cat, dog"
    assert described["verified"] == "all files are intact"


def test_numbers_and_pairs(run: Run, write: Write) -> None:
    scores = [float(len(text)) for text in TEXTS]
    write("scored.parquet", text=TEXTS, label=scores)
    assert run("fit-bert", "scored.parquet", "--task", "regress", *FIT).pairs["task"] == "regress"
    measures = run("test", "model", "scored.parquet", "--format", "json").json
    assert set(measures) == {"pearson", "spearman", "r2", "loss"}
    write("pairs.parquet", a=TEXTS, b=TEXTS[::-1], label=scores)
    assert run("fit-bert", "pairs.parquet", "--task", "pair", *FIT).code == 0
    assert run("info", "model").pairs["model"] == "bert regressor"
    assert run("info", "model").pairs["columns"] == "text: a, b, values: label"
    write("named.parquet", x=TEXTS, y=TEXTS[::-1], gold=LABELS)
    columns = ("--text-column", "x", "--text-column", "y", "--label-column", "gold")
    assert run("fit-bert", "named.parquet", "--task", "pair", *columns, *FIT).code == 0
    assert run("info", "model").pairs["columns"] == "text: x, y, label: gold"
    ran = run("predict", "model", "named.parquet", "--keep", "gold", "--format", "jsonl")
    assert len(ran.out.splitlines()) == len(TEXTS)


def test_similarities_of_texts_read_separately(run: Run, write: Write) -> None:
    write("pairs.parquet", a=TEXTS, b=TEXTS[::-1], label=[float(len(text)) for text in TEXTS])
    fit = ("fit-bert", "pairs.parquet", *FIT, "--separate")
    for task in ("pair", "regress"):
        assert run(*fit, "--task", task).pairs["task"] == task
        assert run("info", "model").pairs["columns"] == "text: a, b, values: label"
    measures = run("test", "model", "pairs.parquet", "--format", "json").json
    assert set(measures) == {"pearson", "spearman", "r2", "loss"}
    ran = run("predict", "model", "pairs.parquet", "--format", "jsonl")
    assert len(ran.out.splitlines()) == len(TEXTS)
    assert run("export", "model", "encoder").code == 0
    embed = ("embed", "encoder", "pairs.parquet", "--text-column", "a", "-o", "vectors.parquet")
    assert run(*embed).code == 0
    assert "--separate is for --task regress" in run(*fit).err
    write("labelled.parquet", a=TEXTS, b=TEXTS, label=LABELS)
    ran = run("fit-bert", "labelled.parquet", "--task", "pair", "--separate", *FIT)
    assert "--separate is not for pairs with such labels" in ran.err
    columns = ("--text-column", "a", "--text-column", "c")
    assert "no column 'c'" in run(*fit, "--task", "regress", *columns).error


def test_tags(run: Run, write: Write) -> None:
    words = [text.split() for text in TEXTS]
    tags = [["B-X" if word[:3] == "cat" else "O" for word in row] for row in words]
    write("tagged.parquet", tokens=words, tags=tags, key=range(len(words)))
    fit = ("fit-bert", "tagged.parquet", "--task", "tag", *FIT)
    ran = run(*fit, "--valid", "tagged.parquet")
    assert ran.pairs["task"] == "tag"
    assert ran.pairs["tag scheme"] == "IOB2"
    assert "validation f1" in ran.pairs
    assert "2 of 12 rows have no token: left out" in ran.err
    assert run("predict", "model", "tagged.parquet", "-o", "out.parquet", "--keep", "key").code == 0
    found = pq.read_table("out.parquet")
    assert [len(row) for row in found["prediction"].to_pylist()] == [len(row) for row in words]
    measures = run("test", "model", "tagged.parquet", "--format", "json").json
    assert {"accuracy", "f1", "strict_f1", "spans"} <= set(measures)
    assert run("info", "model").pairs["tag scheme"] == "IOB2"
    assert "--text-column is for --task classify or" in run(*fit, "--text-column", "key").err
    assert "--pooling is for --task classify or regress" in run(*fit, "--pooling", "max").err
    assert "no column 'x'" in run(*fit, "--tokens-column", "x").error


def test_answers(run: Run, write: Write) -> None:
    contexts = ["the cat sat on the mat", "a dog ran", "the mat , a cat"] * 2
    given = {
        "question": ["cat on", "dog", "the dog"] * 2, "context": contexts,
        "answer": ["the mat", "a dog", None] * 2, "answer_start": [15, 0, None] * 2,
    }  # fmt: skip
    write("squad.parquet", **given)
    ran = run("fit-bert", "squad.parquet", "--task", "answer", *FIT, "--valid", "squad.parquet")
    assert {"validation f1", "validation exact match"} <= set(ran.pairs)
    measures = run("test", "model", "squad.parquet", "--format", "json").json
    assert set(measures) == {"f1", "exact_match", "loss"}
    assert "exact_match" in run("test", "model", "squad.parquet").out
    assert run("predict", "model", "squad.parquet", "-o", "out.parquet").code == 0
    found = pq.read_table("out.parquet")
    assert found.column_names == ["id", "prediction", "probability", "start", "stop"]
    question = ("answer", "model", "cat on", contexts[0])
    (best,) = run(*question, "--format", "json").json
    assert best["answer"] == found["prediction"][0].as_py()
    assert len(run(*question, "-k", "3", "--format", "jsonl").out.splitlines()) == 3
    assert run(*question).out.splitlines()[0].split()[:2] == ["rank", "answer"]
    assert "k must be a whole number of at least 1" in run(*question, "-k", "0").error
    write("train.parquet", text=TEXTS, label=LABELS)
    run("fit-bert", "train.parquet", *FIT, "-o", "other")
    assert "a bert classifier cannot answer" in run("answer", "other", "a", "b").error


def test_ranking(run: Run, write: Write) -> None:
    rows = {"query": ["cat", "dog"], "positive": ["a cat", "the dog"]}
    write("lists.parquet", **rows, negatives=[["a dog", "mat"], ["the cat"]])
    ran = run("fit-bert", "lists.parquet", "--task", "rerank", *FIT, "--valid", "lists.parquet")
    assert {"validation loss", "validation accuracy"} <= set(ran.pairs)
    measures = run("test", "model", "lists.parquet", "--format", "json").json
    assert set(measures) == {"loss", "accuracy"}
    assert run("predict", "model", "lists.parquet", "-o", "out.parquet").code == 0
    assert pq.read_table("out.parquet").schema.names == ["id", "prediction"]
    write("docs.parquet", id=["x", "y", "z"], text=["a cat sat", "the mat", "a dog , a cat"])
    assert run("index", "docs.parquet", "-o", "index").code == 0
    search = ("search", "cat", "-i", "index", "--rerank", "model", "--format", "json")
    found = run(*search).json
    assert {hit["id"] for hit in found} == {"x", "z"}
    assert [hit["score"] for hit in found] == sorted((hit["score"] for hit in found), reverse=True)
    assert [hit["id"] for hit in run(*search, "-k", "1").json] == [found[0]["id"]]
    assert len(run(*search, "--rerank-depth", "1", "-k", "2").json) == 2  # at least -k
    first = run(*search[:4], "-k", "1", "--format", "json").json
    shallow = run(*search, "--rerank-depth", "1", "-k", "1").json
    assert [hit["id"] for hit in shallow] == [hit["id"] for hit in first]
    assert "--rerank cannot be combined with --sort" in run(*search, "--sort", "id").err
    plain = run(*search[:4], "--format", "json").json
    mixed = run(*search, "--rerank-weight", "0").json
    assert [hit["id"] for hit in mixed] == [hit["id"] for hit in plain]
    assert [hit["score"] for hit in mixed] == [1.0, 0.0]
    err = run(*search, "--rerank-weight", "2").err
    assert "--rerank-weight must be a number from 0 to 1" in err
    for option in ("--rerank-depth", "--rerank-weight"):
        needs = "--rerank-depth and --rerank-weight require --rerank"
        assert needs in run("search", "cat", option, "1").err
    assert run("index", "docs.parquet", "-o", "bare", "--store", "id").code == 0
    assert "no stored text" in run("search", "cat", "-i", "bare", "--rerank", "model").error
    write("train.parquet", text=TEXTS, label=LABELS)
    run("fit-bert", "train.parquet", *FIT, "-o", "other")
    assert "a bert classifier cannot rank" in run(*search[:4], "--rerank", "other").error


def test_wrong_input(run: Run, write: Write) -> None:
    write("train.parquet", text=TEXTS, label=LABELS)
    fit = ("fit-bert", "train.parquet")
    assert "give --base" in run(*fit, "-o", "model").err
    assert "no such folder" in run(*fit, "--base", "none").error
    Path("empty").mkdir()
    assert "config.json: no such file" in run(*fit, "--base", "empty").error
    assert "no column 'b'" in run(*fit, "--task", "pair", "--text-column", "text",
                                  "--text-column", "b", "--base", "base").error  # fmt: skip
    assert "no column 'a'" in run(*fit, "--task", "pair", "--base", "base").error
    assert "expected numbers" in run(*fit, "--task", "regress", "--base", "base").error
    weights = run(*fit, "--task", "regress", *FIT, "--class-weights", "balanced")
    assert "--class-weights is for --task classify" in weights.err
    assert weights.code == 2
    assert "--max-length is 99, but the model has 16" in run(*fit, *FIT, "--max-length", "99").error
    assert not Path("model").exists() or not Path("model/manifest.json").exists()


def test_export(run: Run, write: Write) -> None:
    write("train.parquet", text=TEXTS, label=LABELS)
    assert run("fit-bert", "train.parquet", *FIT).code == 0
    assert "out: the bert classifier of model" in run("export", "model", "out").err
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= {
        path.name for path in Path("out").iterdir()
    }
    assert run("embed", "out", "train.parquet", "-o", "vectors.parquet").code == 0
    assert "already exists: --overwrite" in run("export", "model", "out").error
    assert run("export", "model", "out", "--overwrite").code == 0
    assert "--format is for word vectors" in run("export", "model", "o", "--format", "text").err
