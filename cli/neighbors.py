"""fastseq neighbors: the words nearest to some words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import (
    Common,
    common_options,
    example,
    format_option,
    overwrite_option,
    pass_common,
    skip_bad_lines_option,
)
from .output import write_json, write_jsonl, write_rows

if TYPE_CHECKING:
    from fastseq.vectors.words import WordVectors

COLUMNS = ("query", "rank", "word", "score")


@click.command(
    "neighbors",
    epilog=example(
        "fastseq neighbors vectors cat",
        "fastseq neighbors vectors cat dog -k 3 --format json",
        "fastseq neighbors vectors cat violin paris --plot words.png",
        "fastseq neighbors GoogleNews-vectors-negative300.bin.gz Paris --format tsv",
    ),
)
@click.argument("vectors", type=click.Path(path_type=Path))
@click.argument("words", metavar="WORD...", nargs=-1, required=True)
@click.option("-k", default=10, show_default=True, help="Words to find for each WORD.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the words and those found: .png, .svg or .pdf.",
)
@overwrite_option
@format_option("table", "json", "jsonl", "tsv", default="table", help="Form of the results.")
@skip_bad_lines_option
@common_options
@pass_common
def command(
    common: Common,
    vectors: Path,
    words: tuple[str, ...],
    k: int,
    plot: Path | None,
    overwrite: bool,
    form: str,
    skip_bad_lines: bool,
) -> None:
    """Find the words nearest to each WORD, by the cosine of their vectors.

    VECTORS is a folder of word vectors, or a file in word2vec's text or binary form, GloVe's or
    fastText's text, a model of fastText's (.bin, which knows every word), or Parquet (word,
    vector). JSON is a list of {query, rank, word, score}. A WORD that is none of them is read as
    the text of their training was: with phrases, "new york" is new_york.
    """
    from fastseq.settings import whole
    from fastseq.vectors.words import WordVectors

    whole("k", k, 1)
    if plot is not None:
        from fastseq.vectors.plots import check_plot

        check_plot(plot, vectors, overwrite=overwrite)
    common.announce_compilation()
    known = WordVectors.load(vectors, common.threads, skip_bad_lines)
    asked = [_as_trained(word, known) for word in words]
    found = known.neighbors_of_each(asked, k, threads=common.threads)
    rows = [
        (query, rank, word, score)
        for query, near in zip(asked, found, strict=True)
        for rank, (word, score) in enumerate(near, 1)
    ]
    if plot is not None:
        from fastseq.vectors.plots import word_map

        drawn = word_map(known, asked, plot, k, threads=common.threads, overwrite=overwrite)
        common.say(f"{plot}: {drawn:,} words")
    for query in dict.fromkeys(q for q, near in zip(asked, found, strict=True) if not near):
        common.say(f"{query}: nothing is near to it")
    if form in ("json", "jsonl"):
        named = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        write_json(named) if form == "json" else write_jsonl(named)
    else:
        alone = len(words) == 1 and form == "table"  # of one word, its name is no news
        write_rows(form, COLUMNS[1:] if alone else COLUMNS, [row[alone:] for row in rows])


def _as_trained(word: str, known: WordVectors) -> str:
    """The word, or the one that the training's analyzer and phrases make of it where it is none."""
    from fastseq.errors import FormatError

    if word in known:
        return word
    try:
        made = known.words_of(word)
    except FormatError:  # of another version's tables: the vectors are good all the same
        return word
    return made[0] if len(made) == 1 and made[0] in known else word
