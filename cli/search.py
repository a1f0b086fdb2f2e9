"""fastseq search: one query to a table or JSON, or a file of queries to a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastseq.errors import DataError, SettingsError

from .options import (
    Common,
    common_options,
    example,
    format_option,
    index_option,
    overwrite_option,
    pass_common,
    skip_bad_lines_option,
)
from .output import RunRow, write_json, write_jsonl, write_rows, write_trec
from .progress import progress

if TYPE_CHECKING:
    from fastseq.search.index import Index
    from fastseq.vectors.expansion import Expander

MODELS = ["bm25", "robertson", "atire", "bm25+", "bm25l", "tfidf", "bow"]
_HITS_AT_A_TIME = 1 << 22  # held in memory while a run is written
_TOLD = 8  # words of a query that are told to be unknown
RUN_COLUMNS = ("query_id", "doc_id", "rank", "score")


@click.command(
    "search",
    epilog=example(
        'fastseq search "parse arguments"',
        'fastseq search "parse arguments" -k 3 --model bm25l --format json',
        "echo parse arguments | fastseq search - --format tsv",
        "fastseq search --queries queries.parquet -k 100 -o run.trec",
        'fastseq search "car insurance" --expand vectors --expand-terms 5',
    ),
)
@click.argument("query", required=False)
@index_option("-i", "--index", help="Folder of the index.")
@click.option("-k", default=10, show_default=True, help="Documents to find for each query.")
@click.option(
    "--model",
    type=click.Choice(MODELS),
    default="bm25",
    show_default=True,
    help="Ranking model. bm25 is Lucene's.",
)
@click.option("--k1", type=float, help="BM25: how soon repeated terms stop counting.  [1.2]")
@click.option("--b", type=float, help="BM25: how much long documents are held back.  [0.75]")
@click.option("--delta", type=float, help="bm25+ and bm25l: what one occurrence is worth.  [0.5]")
@click.option("--smart", metavar="ddd.qqq", help="tfidf: weighting in SMART notation.  [ltc.lnc]")
@click.option(
    "--expand",
    "vectors",
    type=click.Path(path_type=Path),
    metavar="VECTORS",
    help="Look for the nearest words of these word vectors too.",
)
@click.option(
    "--expand-terms", type=int, metavar="N", help="Nearest words of each of the query.  [3]"
)
@click.option(
    "--expand-weight",
    type=float,
    metavar="W",
    help="What one weighs, times its cosine; words of the query weigh 1.  [0.1]",
)
@click.option(
    "--queries",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Many queries: Parquet (query_id, text) or TSV (a header line is skipped).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Where the run of --queries goes: .parquet, .trec or .tsv.",
)
@overwrite_option
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the --queries are searched for: cuda is an NVIDIA GPU.",
)
@format_option(
    "table",
    "json",
    "jsonl",
    "tsv",
    "trec",
    help="Form of the results on standard output.  [default: table; trec with --queries]",
)
@skip_bad_lines_option
@common_options
@pass_common
def command(
    common: Common,
    query: str | None,
    index_path: Path,
    k: int,
    model: str,
    k1: float | None,
    b: float | None,
    delta: float | None,
    smart: str | None,
    vectors: Path | None,
    expand_terms: int | None,
    expand_weight: float | None,
    queries: Path | None,
    output: Path | None,
    overwrite: bool,
    device: str,
    form: str | None,
    skip_bad_lines: bool,
) -> None:
    """Search an index: one QUERY, or a file of them.

    QUERY - reads the query from standard input. JSON is a list of {rank, id, score, fields},
    where fields holds the stored columns. A document without any term of the query is never
    found; equal scores keep the order of the corpus. Words of a QUERY that no document has are
    named on standard error, with known words that may have been meant: by their spelling, or by
    the n-grams of VECTORS that have some (fastText's).
    """
    if (query is None) == (queries is None):
        raise click.UsageError("give either a QUERY or --queries FILE")
    if device != "cpu" and queries is None:
        raise click.UsageError("--device goes with --queries FILE")
    if output is not None and (queries is None or form is not None):
        raise click.UsageError("-o goes with --queries, and takes its form from RUN's suffix")
    if k < 1:
        raise SettingsError(f"k must be at least 1, not {k}")
    if output is not None:
        from fastseq.store.outputs import check_output
        from fastseq.store.runs import RUN_SUFFIXES

        read = (queries, index_path, vectors)
        check_output(output, "run", read, suffixes=RUN_SUFFIXES, overwrite=overwrite)
    if vectors is None and not (expand_terms is None and expand_weight is None):
        raise click.UsageError("--expand-terms and --expand-weight go with --expand VECTORS")
    from fastseq.devices import check_device
    from fastseq.search.ranking import model_by_name

    check_device(device)
    ranking = model_by_name(model, k1=k1, b=b, delta=delta, smart=smart)
    common.announce_compilation()
    expand = None
    if vectors is not None:
        expand = _expander(
            common, vectors, skip_bad_lines, terms=expand_terms, weight=expand_weight
        )
    if query is not None:
        _one(common, _text_of(query), index_path, k, ranking, form or "table", expand)
    elif queries is not None:
        _many(common, queries, index_path, k, ranking, output, form or "trec", expand, device)


def _expander(common: Common, vectors: Path, skip_bad_lines: bool, **given: Any) -> Expander:
    from fastseq.vectors.expansion import Expander
    from fastseq.vectors.words import WordVectors

    said = {name: value for name, value in given.items() if value is not None}
    known = WordVectors.load(vectors, common.threads, skip_bad_lines)
    return Expander(known, **said, threads=common.threads)


def _one(
    common: Common,
    text: str,
    index_path: Path,
    k: int,
    model: Any,
    form: str,
    expand: Expander | None,
) -> None:
    from fastseq import Index

    index = Index.open(index_path)
    k = min(k, len(index))  # a larger k would only reserve memory
    hits = index.search(text, k=k, model=model, threads=common.threads, expand=expand)
    found = hits.to_dicts(0)
    if form == "json":
        write_json(found)
    elif form == "jsonl":
        write_jsonl(found)
    elif form == "trec":
        write_trec(("1", hit["id"], hit["rank"], hit["score"]) for hit in found)
    elif not found and form == "table":
        common.say("No document has a term of this query.")
    else:
        # the id has its own column, wherever it came from
        id_column = index.info()["settings"].get("id_column")
        fields = [name for name in found[0]["fields"] if name != id_column] if found else []
        rows = [
            (hit["rank"], hit["score"], hit["id"], *(hit["fields"][f] for f in fields))
            for hit in found
        ]
        write_rows(form, ["rank", "score", "id", *fields], rows)
    if not common.quiet:
        _did_you_mean(common, text, index, expand)


def _did_you_mean(common: Common, text: str, index: Index, expand: Expander | None) -> None:
    """Say which words of the query no document has, and what may have been meant."""
    unknown = index.unknown_words(text)[:_TOLD]
    if not unknown:
        return
    from fastseq.vectors.suggestions import suggestions

    words = index.frequent_terms()
    vectors = None if expand is None else expand.vectors
    for word in unknown:
        meant = suggestions(word, words, index.knows, vectors, threads=common.threads)
        question = f"; did you mean {' or '.join(map(repr, meant))}?" if meant else ""
        common.say(f"no documents contain {word!r}{question}")


def _many(
    common: Common,
    queries: Path,
    index_path: Path,
    k: int,
    model: Any,
    output: Path | None,
    form: str,
    expand: Expander | None,
    device: str,
) -> None:
    from fastseq import Index
    from fastseq.store.queries import read_queries
    from fastseq.store.runs import RunWriter

    query_ids, texts = read_queries(queries)
    index = Index.open(index_path)
    k = min(k, len(index))
    search = partial(
        index.search, k=k, model=model, threads=common.threads, expand=expand, device=device
    )
    if output is not None:
        written = 0
        # some queries at a time: memory does not grow with their number
        step = max(_HITS_AT_A_TIME // k, 1)
        with RunWriter(output) as run, progress(common) as report:
            for first in range(0, len(texts), step):
                some = texts[first : first + step]
                hits = search(some)
                ends = [0, *hits.counts.cumsum().tolist()]
                scores = hits.scores[hits.rows >= 0]
                run.append(query_ids[first : first + step], ends, list(chain(*hits.ids)), scores)
                written += ends[-1]
                if report is not None:
                    report("search", first + len(some), len(texts))
        common.say(f"{output}: {len(query_ids):,} queries, {written:,} documents")
        return
    hits = search(texts)
    rows = _run_rows(query_ids, hits)
    if form == "trec":
        write_trec(rows)
    elif form in ("json", "jsonl"):
        found_of = [dict(zip(RUN_COLUMNS, row, strict=True)) for row in rows]
        write_json(found_of) if form == "json" else write_jsonl(found_of)
    else:
        write_rows(form, RUN_COLUMNS, list(rows))


def _run_rows(query_ids: list[str] | list[int], hits: Any) -> Iterator[RunRow]:
    """(query id, document id, rank, score) of every hit, query after query."""
    for query_id, ids, scores in zip(query_ids, hits.ids, hits.scores.tolist(), strict=True):
        for rank, (doc_id, score) in enumerate(zip(ids, scores, strict=False), 1):
            yield query_id, doc_id, rank, score


def _text_of(query: str) -> str:
    """The query as text: what standard input holds for "-", and valid Unicode in any case."""
    if query != "-":
        raw = os.fsencode(query) if not query.isascii() else query.encode()
    else:
        raw = sys.stdin.buffer.read()
    try:
        return raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        where = "standard input" if query == "-" else "QUERY"
        raise DataError(f"{where} is not UTF-8 text: byte {error.start} is wrong") from error
