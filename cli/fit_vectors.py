"""fastseq fit-word2vec: Parquet to word vectors."""

from __future__ import annotations

from typing import Any

import click

from .options import Common, example, pass_common
from .vectors_options import learn_vectors, vectors_options


@click.command(
    "fit-word2vec",
    epilog=example(
        "fastseq fit-word2vec corpus.parquet -o vectors",
        "fastseq fit-word2vec corpus.parquet --architecture cbow --dimensions 200 --epochs 10",
        "fastseq neighbors vectors london",
    ),
)
@vectors_options(
    click.option(
        "--architecture",
        type=click.Choice(["skipgram", "cbow"]),
        default="skipgram",
        show_default=True,
        help="Each word of the context against the word, or their mean.",
    ),
    click.option(
        "--loss",
        type=click.Choice(["negative", "hierarchical"]),
        default="negative",
        show_default=True,
        help="Negative sampling, or hierarchical softmax.",
    ),
    click.option(
        "--window", type=int, default=5, show_default=True, help="Words on each side, at most."
    ),
    click.option(
        "--negatives", type=int, default=5, show_default=True, help="Drawn for every word."
    ),
    click.option(
        "--power",
        type=float,
        default=0.75,
        show_default=True,
        help="Of counts, to draw negatives by.",
    ),
    click.option(
        "--sample",
        type=float,
        default=1e-3,
        show_default=True,
        help="Thin out words of a larger share of the text; 0 for none.",
    ),
    click.option(
        "--learning-rate",
        type=float,
        help="At the beginning.  [default: 0.025, with cbow 0.05]",
    ),
    click.option(
        "--last-rate",
        type=float,
        default=1e-4,
        show_default=True,
        help="Learning rate at the end.",
    ),
    epochs=5,
)
@pass_common
def word2vec(common: Common, /, **given: Any) -> None:
    """Learn word vectors from Parquet files, folders or globs (Word2Vec).

    Every row of CORPUS is a sentence. Words that stand in like surroundings get vectors that are
    near each other: see `fastseq neighbors`, `analogy` and `test-vectors`.
    """
    from fastseq.vectors.word2vec import Word2Vec

    learn_vectors(common, Word2Vec, **given)
