"""fastseq fit-fasttext: Parquet to word vectors that are made of those of character n-grams."""

from __future__ import annotations

from typing import Any

import click

from .options import Common, example, pass_common
from .vectors_options import learn_vectors, vectors_options, window_options


@click.command(
    "fit-fasttext",
    epilog=example(
        "fastseq fit-fasttext corpus.parquet -o vectors",
        "fastseq neighbors vectors accomodation",
        "fastseq export vectors model.bin --format fasttext",
    ),
)
@vectors_options(
    *window_options(power=0.5, sample=1e-4, rate=0.05),
    click.option(
        "--low", type=int, default=3, show_default=True, help="Characters of an n-gram, at least."
    ),
    click.option(
        "--high",
        type=int,
        default=6,
        show_default=True,
        help="Characters of an n-gram, at most; 0 for no n-grams.",
    ),
    click.option(
        "--buckets",
        type=int,
        default=2_000_000,
        show_default=True,
        help="That n-grams are hashed into; those not in use take no memory.",
    ),
    epochs=5,
)
@pass_common
def fasttext(common: Common, /, **given: Any) -> None:
    """Learn word vectors from Parquet files, folders or globs (FastText).

    Every row of CORPUS is a sentence. A word's vector is the mean of its own and those of its
    character n-grams: words never seen have vectors too, misspelt ones near the words meant. For
    a classifier of texts see `fastseq fit-fasttext-classifier`.
    """
    from fastseq.models.fasttext.vectors import FastText

    learn_vectors(common, FastText, **given)
