"""fastseq phrases: neighbouring words that belong together."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from fastseq.models.word_vectors.phrases import Phrases
from fastseq.settings import whole

from .options import (
    Common,
    common_options,
    example,
    format_option,
    pass_common,
    text_column_option,
)
from .output import write_json, write_jsonl, write_rows
from .parameters import (
    Sectioned,
    analyzer_of,
    analyzer_options,
    given_parameters,
    parameter_options,
    with_options,
)

COLUMNS = ("rank", "phrase", "score", "count")


@click.command(
    "phrases",
    cls=Sectioned,
    epilog=example(
        "fastseq phrases corpus.parquet",
        "fastseq phrases corpus.parquet --by count --passes 2 -k 100 --format tsv",
        "fastseq phrases corpus.parquet --scoring npmi --threshold 0.5 --common-words of,the,and",
    ),
)
@click.argument("corpus", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-k", default=20, show_default=True, help="Phrases to show.")
@click.option(
    "--by",
    type=click.Choice(["score", "count"]),
    default="score",
    show_default=True,
    help="Order of the phrases.",
)
@text_column_option
@with_options(*parameter_options(Phrases), analyzer_options)
@format_option("table", "json", "jsonl", "tsv", default="table", help="Form of the results.")
@common_options
@pass_common
def command(
    common: Common,
    /,
    corpus: tuple[Path, ...],
    k: int,
    by: str,
    text_columns: tuple[str, ...],
    form: str,
    **options: Any,
) -> None:
    """Find phrases: words that stand side by side more often than chance.

    CORPUS is Parquet files, folders or globs; every row is a text of its own. The score is
    (count(ab) - min_count) N / (count(a) count(b)), N being the number of different words and
    pairs. JSON is a list of {rank, phrase, score, count}. With --phrases,
    `fastseq fit-word2vec` makes phrases words.
    """
    whole("k", k, 1)
    settings = given_parameters(Phrases, options)
    if settings.get("scoring") == "npmi":
        settings.setdefault("threshold", 0.5)
    finder = Phrases(**settings, analyzer=analyzer_of(**options), threads=common.threads)
    common.announce_compilation()
    began = time.perf_counter()
    found = finder.fit(list(corpus), text_column=list(text_columns) or None).phrases_
    if by == "count":
        found = sorted(found, key=lambda one: -one[2])
    rows = [(rank, *one) for rank, one in enumerate(found[:k], 1)]
    if form in ("json", "jsonl"):
        named = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        write_json(named) if form == "json" else write_jsonl(named)
    elif rows or form == "tsv":
        write_rows(form, COLUMNS, rows)
    common.say(f"{len(found):,} phrases in {time.perf_counter() - began:.1f} s")
