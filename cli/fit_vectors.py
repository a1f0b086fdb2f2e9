"""fastseq fit-word2vec: Parquet to word vectors."""

from __future__ import annotations

from typing import Any

import click

from .options import Common, example, pass_common
from .vectors_options import learn_vectors, vectors_options, window_options


@click.command(
    "fit-word2vec",
    epilog=example(
        "fastseq fit-word2vec corpus.parquet -o vectors",
        "fastseq fit-word2vec corpus.parquet --architecture cbow --dimensions 200 --epochs 10",
        "fastseq neighbors vectors london",
    ),
)
@vectors_options(*window_options(power=0.75, sample=1e-3, rate=None), epochs=5)
@pass_common
def word2vec(common: Common, /, **given: Any) -> None:
    """Learn word vectors from Parquet files, folders or globs (Word2Vec).

    Every row of CORPUS is a sentence. Words that stand in like surroundings get vectors that are
    near each other: see `fastseq neighbors`, `analogy` and `test-vectors`.
    """
    from fastseq.models.word_vectors.word2vec import Word2Vec

    learn_vectors(common, Word2Vec, **given)
