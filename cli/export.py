"""fastseq export: word vectors to a file that other programs read."""

from __future__ import annotations

from pathlib import Path

import click

from .options import (
    Common,
    common_options,
    example,
    overwrite_option,
    pass_common,
    skip_bad_lines_option,
)

FILE = click.Path(path_type=Path)


@click.command(
    "export",
    epilog=example(
        "fastseq export vectors vectors.vec",
        "fastseq export vectors vectors.bin.gz",
        "fastseq export cc.en.300.bin words.parquet",
        "fastseq export vectors model.bin --format fasttext",
    ),
)
@click.argument("vectors", type=FILE)
@click.argument("output", metavar="FILE", type=FILE)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "binary", "parquet", "fasttext"]),
    help="word2vec's text or binary form, Parquet (word, vector), or fastText's model (.bin, with "
    "the vectors of n-grams).  [default: by the suffix: .vec and .txt, .bin as binary, .parquet; "
    "the first three also with .gz]",
)
@overwrite_option
@skip_bad_lines_option
@common_options
@pass_common
def command(
    common: Common,
    vectors: Path,
    output: Path,
    form: str | None,
    overwrite: bool,
    skip_bad_lines: bool,
) -> None:
    """Write the word vectors of VECTORS to FILE.

    VECTORS is a folder of word vectors, or a file of any form that fastseq reads.
    """
    from fastseq.store.outputs import check_output
    from fastseq.store.vector_files import KIND
    from fastseq.vectors.words import WordVectors

    check_output(output, KIND, vectors, overwrite=overwrite)
    common.announce_compilation()
    known = WordVectors.load(vectors, common.threads, skip_bad_lines)
    known.export(output, form, overwrite)
