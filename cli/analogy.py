"""fastseq analogy: A is to B as C is to what?"""

from __future__ import annotations

from pathlib import Path

import click

from .options import (
    Common,
    common_options,
    example,
    format_option,
    pass_common,
    skip_bad_lines_option,
)
from .output import write_json, write_jsonl, write_rows

COLUMNS = ("rank", "word", "score")


@click.command(
    "analogy",
    epilog=example(
        "fastseq analogy vectors man king woman",
        "fastseq analogy vectors athens greece oslo -k 1 --method mul --format json",
    ),
)
@click.argument("vectors", type=click.Path(path_type=Path))
@click.argument("a")
@click.argument("b")
@click.argument("c")
@click.option("-k", default=5, show_default=True, help="Answers to give.")
@click.option(
    "--method",
    type=click.Choice(["add", "mul"]),
    default="add",
    show_default=True,
    help="add: nearest to B - A + C (3CosAdd); mul: by a product of cosines (3CosMul).",
)
@format_option("table", "json", "jsonl", "tsv", default="table", help="Form of the results.")
@skip_bad_lines_option
@common_options
@pass_common
def command(
    common: Common,
    vectors: Path,
    a: str,
    b: str,
    c: str,
    k: int,
    method: str,
    form: str,
    skip_bad_lines: bool,
) -> None:
    """Answer the question: A is to B as C is to what?

    VECTORS is a folder of word vectors, or a file as `fastseq neighbors` takes it. The three words
    are no answers. JSON is a list of {rank, word, score}: the cosine, or 3CosMul's product.
    """
    from fastseq.settings import whole
    from fastseq.vectors.words import WordVectors

    whole("k", k, 1)
    common.announce_compilation()
    known = WordVectors.load(vectors, common.threads, skip_bad_lines)
    found = known.analogy(a, b, c, k, method, threads=common.threads)
    rows = [(rank, word, score) for rank, (word, score) in enumerate(found, 1)]
    if form in ("json", "jsonl"):
        named = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        write_json(named) if form == "json" else write_jsonl(named)
    else:
        write_rows(form, COLUMNS, rows)
