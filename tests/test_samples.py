"""The sample corpora, and the hand-written set in data/."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fastseq import samples
from fastseq.errors import DataError

ROOT = Path(__file__).resolve().parent.parent
TABLES = ("docs", "queries", "qrels")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("samples") / "deep" / "er"
    written = samples.write_samples(made)
    assert {path.name: pq.read_metadata(path).num_rows for path in made.iterdir()} == written
    return made


def rows(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def test_documents_come_from_the_standard_library(folder: Path) -> None:
    documents = {row["id"]: row for row in rows(folder / "docs.parquet")}
    assert len(documents) == pq.read_metadata(folder / "docs.parquet").num_rows > 3000
    decode = documents["json.decoder.JSONDecoder.decode"]
    assert decode["module"] == "json.decoder"
    assert decode["kind"] == "method"
    assert decode["title"].startswith("JSONDecoder.decode(self, s")
    assert decode["text"].startswith("Return the Python representation of ``s``")
    assert documents["json"]["kind"] == "module"
    assert documents["textwrap.dedent"]["kind"] == "function"
    assert documents["argparse.ArgumentParser"]["kind"] == "class"
    for row in documents.values():
        assert row["text"].strip()
        assert not any(part.startswith("_") for part in row["id"].split("."))
        assert not samples.SKIPPED & set(row["module"].split("."))


def test_docstrings_match_inspect(folder: Path) -> None:
    import inspect
    import textwrap as module

    texts = {row["id"]: row["text"] for row in rows(folder / "docs.parquet")}
    for name in ("wrap", "fill", "dedent", "TextWrapper", "TextWrapper.wrap"):
        thing: object = module
        for part in name.split("."):
            thing = getattr(thing, part)
        assert texts[f"textwrap.{name}"] == inspect.getdoc(thing)


def test_queries_have_one_relevant_document(folder: Path) -> None:
    texts = {row["id"]: row["text"] for row in rows(folder / "docs.parquet")}
    queries = {row["query_id"]: row["text"] for row in rows(folder / "queries.parquet")}
    answers = rows(folder / "qrels.parquet")
    assert len(queries) >= 300
    assert [row["query_id"] for row in answers] == list(queries)
    firsts = [text.partition("\n")[0].strip() for text in texts.values()]
    for row in answers:
        assert row["rel"] == 1
        assert texts[row["doc_id"]].startswith(queries[row["query_id"]])
        assert firsts.count(queries[row["query_id"]]) == 1


def test_independent_engine_ranks_the_answer_first(folder: Path) -> None:
    import bm25s

    documents = rows(folder / "docs.parquet")
    queries = [row["text"] for row in rows(folder / "queries.parquet")]
    answers = [row["doc_id"] for row in rows(folder / "qrels.parquet")]
    engine = bm25s.BM25(k1=1.2, b=0.75)
    engine.index(
        bm25s.tokenize([row["text"] for row in documents], stopwords=None, show_progress=False),
        show_progress=False,
    )
    asked = bm25s.tokenize(queries, stopwords=None, show_progress=False)
    found, _ = engine.retrieve(asked, k=1, show_progress=False)
    assert [documents[row]["id"] for row in found[:, 0]] == answers


@pytest.mark.parametrize("name", ["labelled", "tagged"])
def test_training_and_test_rows_are_disjoint(folder: Path, name: str) -> None:
    train, test = (rows(folder / f"{name}{end}.parquet") for end in ("", "_test"))
    assert len(train) > 8 * len(test) > 0
    if name == "labelled":
        assert {row["label"] for row in test} <= {row["label"] for row in train}
        assert len({row["label"] for row in train}) >= 10
    else:
        assert not {tuple(row["tokens"]) for row in test} & {tuple(row["tokens"]) for row in train}


def test_tagged_lines_are_python(folder: Path) -> None:
    lines = rows(folder / "tagged.parquet")
    for line in lines:
        assert len(line["tokens"]) == len(line["tags"])
    pairs = {(token, tag) for line in lines for token, tag in zip(*line.values(), strict=True)}
    assert ("def", "KEYWORD") in pairs
    assert ("(", "OP") in pairs
    assert not [pair for pair in pairs if pair[0] == "return" and pair[1] != "KEYWORD"]


def test_names_are_tagged_by_their_part_in_the_line(tmp_path: Path) -> None:
    source = tmp_path / "some.py"
    source.write_text(
        "from os import path\n"
        "def area(self, width=1):\n"
        "    return self.scale(width, by=2.5) * other.size  # twice\n",
        "utf-8",
    )
    tagged = [
        dict(zip(tokens, tags, strict=True)) for tokens, tags in samples.tagged_lines({"": source})
    ]
    assert tagged[0] == {"from": "KEYWORD", "os": "IMPORT", "import": "KEYWORD", "path": "IMPORT"}
    assert tagged[1] == {
        "def": "KEYWORD",
        "area": "DEFINITION",
        "(": "OP",
        "self": "NAME",
        ",": "OP",
        "width": "ARGUMENT",
        "=": "OP",
        "1": "NUMBER",
        ")": "OP",
        ":": "OP",
    }
    wanted = {"self": "NAME", "scale": "CALL", "by": "ARGUMENT", "2.5": "NUMBER"}
    wanted |= {"size": "ATTRIBUTE", "# twice": "COMMENT", "width": "NAME"}
    assert {name: tagged[2][name] for name in wanted} == wanted


def test_samples_are_reproducible(folder: Path, tmp_path: Path) -> None:
    samples.write_samples(tmp_path)
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_source_is_parsed_and_never_executed(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text('"""The pack."""\nraise SystemExit(9)\n')
    (tmp_path / "pack" / "bad.py").write_text("def broken(:\n")
    (tmp_path / "pack" / "_hidden.py").write_text('"""Hidden."""\n')
    (tmp_path / "old.py").write_bytes(
        b'# -*- coding: latin-1 -*-\n"""Caf\xe9 \\d."""\n'
        b"if True:\n    def f():\n        '''Under if.'''\n"
        b"try:\n    import nothing\nexcept ImportError:\n    def g():\n        '''Under try.'''\n"
    )
    modules = samples.library_modules(tmp_path)
    assert list(modules) == ["old", "pack", "pack.bad"]
    found = {document.id: document.text for document in samples.library_documents(modules)}
    assert found == {
        "old": "Café \\d.",
        "old.f": "Under if.",
        "old.g": "Under try.",
        "pack": "The pack.",
    }
    assert capfd.readouterr() == ("", "")


def test_library_without_source_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not there as source"):
        samples.library_modules(tmp_path)


def test_file_in_place_of_the_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(DataError, match="is a file"):
        samples.write_samples(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_bilingual_set_matches_its_source(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "data", tmp_path / "data", ignore=shutil.ignore_patterns("*.parquet"))
    subprocess.run([sys.executable, tmp_path / "data" / "make.py"], check=True, cwd=tmp_path)
    for name in TABLES:
        made = pq.read_table(tmp_path / "data" / "bilingual" / f"{name}.parquet")
        assert made == pq.read_table(ROOT / "data" / "bilingual" / f"{name}.parquet")


def test_bilingual_judgements_name_existing_rows() -> None:
    docs, queries, qrels = (rows(ROOT / "data" / "bilingual" / f"{n}.parquet") for n in TABLES)
    ids = {row["id"] for row in docs}
    assert len(ids) == len(docs) >= 40
    assert {row["language"] for row in docs} == {"zh", "en", "mixed"}
    assert {row["doc_id"] for row in qrels} <= ids
    assert {row["query_id"] for row in qrels} == {row["query_id"] for row in queries}


def test_row_of_the_wrong_width_is_named(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make", ROOT / "data" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    (tmp_path / "t.tsv").write_text("a\tb\n1\t2\n3\n")
    with pytest.raises(SystemExit, match=r"t.tsv:3: 1 cells, expected 2"):
        make.columns_of(tmp_path / "t.tsv")
