"""fastseq fit-glove: Parquet to word vectors."""

from __future__ import annotations

from typing import Any

import click

from .options import Common, example, pass_common
from .vectors_options import learn_vectors, vectors_options


@click.command(
    "fit-glove",
    epilog=example(
        "fastseq fit-glove corpus.parquet -o vectors",
        "fastseq fit-glove corpus.parquet --window 15 --dimensions 200 --epochs 50",
        "fastseq analogy vectors man king woman",
    ),
)
@vectors_options(
    click.option(
        "--window", type=int, default=10, show_default=True, help="Words on each side that count."
    ),
    click.option(
        "--symmetric/--left",
        default=True,
        show_default=True,
        help="Count words on both sides, or those on the left alone.",
    ),
    click.option(
        "--distance-weighting/--no-distance-weighting",
        default=True,
        show_default=True,
        help="Count a word at distance k as 1 / k, or as 1.",
    ),
    click.option(
        "--x-max",
        type=float,
        default=10.0,
        show_default=True,
        help="Words that meet less often than this count less.",
    ),
    click.option(
        "--alpha", type=float, default=0.75, show_default=True, help="By (x / x-max) ** alpha."
    ),
    click.option(
        "--combine",
        type=click.Choice(["sum", "word"]),
        default="sum",
        show_default=True,
        help="Sum a word's vectors as word and as context, or take the one as word.",
    ),
    click.option("--learning-rate", type=float, default=0.05, show_default=True, help="AdaGrad's."),
    epochs=25,
)
@pass_common
def glove(common: Common, /, **given: Any) -> None:
    """Learn word vectors from Parquet files, folders or globs (GloVe).

    Every row of CORPUS is a sentence. How often words stand near each other is counted once, and
    vectors are learned whose products are the logarithms of that: see `fastseq neighbors`,
    `analogy` and `test-vectors`.
    """
    from fastseq.models.word_vectors.glove import GloVe

    learn_vectors(common, GloVe, **given)
