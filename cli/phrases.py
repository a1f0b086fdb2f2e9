"""fastseq phrases: neighbouring words that belong together."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from .options import (
    Common,
    analyzer_of,
    analyzer_options,
    common_options,
    example,
    format_option,
    pass_common,
)
from .output import write_json, write_jsonl, write_rows

COLUMNS = ("rank", "phrase", "score", "count")


@click.command(
    "phrases",
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
    help="What the first have most of.",
)
@click.option("--passes", type=int, default=1, show_default=True, help="More join longer phrases.")
@click.option(
    "--min-count", type=int, default=5, show_default=True, help="Pairs must occur more often."
)
@click.option("--threshold", type=float, help="Least score of a phrase.  [default: 10; npmi 0.5]")
@click.option(
    "--scoring",
    type=click.Choice(["default", "npmi"]),
    default="default",
    show_default=True,
    help="word2vec's, or normalised pointwise mutual information, -1 to 1.",
)
@click.option("--common-words", metavar="W,W", help="May stand inside a phrase: of,the,and.")
@click.option(
    "--text-column",
    "text_columns",
    metavar="C",
    multiple=True,
    help="Column of text; may be repeated.  [default: text, else the only one of strings]",
)
@click.option("--memory", default="1GB", show_default=True, help="To work in, such as 256MB.")
@analyzer_options
@format_option("table", "json", "jsonl", "tsv", default="table", help="Form of the results.")
@common_options
@pass_common
def command(
    common: Common,
    /,
    corpus: tuple[Path, ...],
    k: int,
    by: str,
    passes: int,
    min_count: int,
    threshold: float | None,
    scoring: str,
    common_words: str | None,
    text_columns: tuple[str, ...],
    memory: str,
    form: str,
    **analysis: Any,
) -> None:
    """Find phrases: words that stand side by side more often than chance.

    CORPUS is Parquet files, folders or globs; every row is a text of its own. The score is
    (count(ab) - min_count) N / (count(a) count(b)), N being the number of different words and
    pairs. JSON is a list of {rank, phrase, score, count}. With --phrases,
    `fastseq fit-word2vec` makes phrases words.
    """
    from fastseq.models.word_vectors.phrases import Phrases
    from fastseq.settings import whole

    whole("k", k, 1)
    if threshold is None:
        threshold = 0.5 if scoring == "npmi" else 10.0
    finder = Phrases(
        min_count=min_count, threshold=threshold, scoring=scoring, passes=passes,
        common_words=[word.strip() for word in (common_words or "").split(",") if word.strip()],
        analyzer=analyzer_of(**analysis), threads=common.threads, memory=memory,
    )  # fmt: skip
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
