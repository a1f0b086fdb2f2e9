"""fastseq's commands, run in this process: index, search, evaluate, fit-word2vec."""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from fastseq_cli.main import cli

from bench.common.report import Parser, log
from fastseq.store.rows import Corpus

COLLECTIONS = ("ir/cranfield", "ir/scifact")


def fastseq(*arguments: Any) -> str:
    """Run a command; its standard output."""
    out = io.StringIO()
    with redirect_stdout(out):
        cli.main([*map(str, arguments), "--quiet"], "fastseq", standalone_mode=False)
    return out.getvalue()


def text_columns(docs: Path) -> list[str]:
    """Title and text, where there are both."""
    names = pq.read_schema(docs).names
    return [name for name in ("title", "text") if name in names]


def column_options(docs: Path) -> list[str]:
    return [f"--text-column={name}" for name in text_columns(docs)]


def documents(docs: Path) -> tuple[list[Any], list[str]]:
    """Ids and texts."""
    ids: list[Any] = []
    texts: list[str] = []
    for batch in Corpus.open(docs, text_columns=text_columns(docs)).batches():
        assert batch.ids is not None
        assert batch.texts is not None
        ids += batch.ids.to_pylist()
        texts += batch.texts.to_strings()
    return ids, texts


def evaluated(run: Path, qrels: Path, *measures: str) -> list[float]:
    """What `fastseq evaluate` computes, in the order of the measures."""
    wanted = [word for name in measures for word in ("-m", name)]
    return list(json.loads(fastseq("evaluate", run, qrels, *wanted, "--format", "json")).values())


def searched(collection: Path, index: Path, measures: list[str], *more: Any) -> list[float]:
    """The measures of a collection's queries on an index; `more`: options of `fastseq search`."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run.parquet"
        fastseq(
            "search", "--queries", collection / "queries.parquet", "-i", index, "-o", run, *more
        )
        return evaluated(run, collection / "qrels.parquet", *measures)


def add_collections(parser: Parser) -> None:
    parser.add_argument(
        "--collections", nargs="+", default=list(COLLECTIONS),
        help="folders below DATA with docs, queries and qrels .parquet",
    )  # fmt: skip


def collections(parser: Parser, options: argparse.Namespace) -> list[Path]:
    found = [options.data / name for name in options.collections]
    return [parser.existing(path / "docs.parquet").parent for path in found]


def add_vectors(parser: Parser) -> None:
    parser.add_file("--corpus", "text/wiki_simple.parquet", "Parquet file to train vectors on")
    parser.add_argument(
        "--vectors", type=Path, help="word vectors (default: skip-gram of the corpus, in bench/out)"
    )


def vectors(options: argparse.Namespace) -> Path:
    """The word vectors of the options, trained with the defaults where none were given."""
    if options.vectors is None:
        options.vectors = options.folder / f"{options.corpus.stem}-vectors"
        if not options.vectors.exists():
            log(f"training word vectors on {options.corpus}")
            few = ("--min-count", 1) if options.small else ()
            fastseq(
                "fit-word2vec", options.corpus, "-o", options.vectors, "--text-column", "text", *few
            )
    path: Path = options.vectors
    return path
