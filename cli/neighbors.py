"""fastseq neighbors: the words nearest to some words."""

from __future__ import annotations

from pathlib import Path

import click

from .options import Common, common_options, example, format_option, pass_common
from .output import write_json, write_jsonl, write_rows

COLUMNS = ("query", "rank", "word", "score")


@click.command(
    "neighbors",
    epilog=example(
        "fastseq neighbors vectors cat",
        "fastseq neighbors vectors cat dog -k 3 --format json",
        "fastseq neighbors GoogleNews-vectors-negative300.bin.gz Paris --format tsv",
    ),
)
@click.argument("vectors", type=click.Path(path_type=Path))
@click.argument("words", metavar="WORD...", nargs=-1, required=True)
@click.option("-k", default=10, show_default=True, help="Words to find for each WORD.")
@format_option("table", "json", "jsonl", "tsv", default="table", help="Form of the results.")
@common_options
@pass_common
def command(common: Common, vectors: Path, words: tuple[str, ...], k: int, form: str) -> None:
    """Find the words nearest to each WORD, by the cosine of their vectors.

    VECTORS is a folder of word vectors, or a file in word2vec's text or binary form, GloVe's or
    fastText's text, a model of fastText's (.bin, which knows every word), or Parquet (word,
    vector). JSON is a list of {query, rank, word, score}.
    """
    from fastseq.settings import whole
    from fastseq.vectors.words import WordVectors

    whole("k", k, 1)
    common.announce_compilation()
    known = WordVectors.load(vectors, threads=common.threads)
    found = known.neighbors_of_each(words, k, threads=common.threads)
    rows = [
        (query, rank, word, score)
        for query, near in zip(words, found, strict=True)
        for rank, (word, score) in enumerate(near, 1)
    ]
    if form in ("json", "jsonl"):
        named = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        write_json(named) if form == "json" else write_jsonl(named)
    else:
        alone = len(words) == 1 and form == "table"  # of one word, its name is no news
        write_rows(form, COLUMNS[1:] if alone else COLUMNS, [row[alone:] for row in rows])
