"""fastseq embed: vectors of texts by a BERT checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options
from .options import Common, command
from .progress import progress

POOLINGS = ("mean", "cls", "max", "none")


@command(
    "embed",
    "fastseq embed all-MiniLM-L6-v2 docs.parquet -o vectors.parquet",
    "fastseq embed splade docs.parquet -o sparse.parquet --sparse --top-terms 200",
    "fastseq embed e5-small docs.parquet -o docs.parquet --prompt 'passage: ' --keep title",
)
@options.model
@options.corpus
@options.file("-o", "--output", metavar="OUT", required=True, help="File of vectors: .parquet.")
@options.overwrite
@click.option(
    "--keep", metavar="C", multiple=True, help="Column to copy to the output; may be repeated."
)
@options.id_column
@options.text_column
@click.option(
    "--vector-column", metavar="C",
    help="Name of the column of vectors.  [default: vector; impacts with --sparse]",
)  # fmt: skip
@click.option(
    "--sparse", is_flag=True,
    help="Weights of terms by the masked-word head of MODEL (SPLADE), for index --impacts.",
)  # fmt: skip
@options.number("--top-terms", help="Largest weights of a text with --sparse.  [default: all]")
@options.choice(
    "--dtype",
    of=("float32", "float16", "int8"),
    default=None,
    help="Type of the vectors' numbers; int8 has a scale for each vector.  [default: float32]",
)
@options.choice(
    "--precision", of=("float32", "bfloat16", "int8"), default=None,
    help="Of the products: the latter two are faster on CPUs with instructions for them.  "
    "[default: float32]",
)  # fmt: skip
@options.choice(
    "--pooling", of=POOLINGS, default=None,
    help="How the vectors of tokens become that of a text; none: they remain, with their spans.  "
    "[default: the checkpoint's, else mean]",
)  # fmt: skip
@click.option(
    "--normalize/--no-normalize", default=None,
    help="Divide each vector by its Euclidean norm.  [default: as the checkpoint; those of tokens: "
    "no]",
)  # fmt: skip
@options.number(
    "--max-length",
    help="Tokens of a text, with [CLS] and [SEP].  [default: the checkpoint's limit]",
)
@options.choice(
    "--on-truncate", of=("warn", "error", "split"), default="warn",
    help="What happens with longer texts: the end is left out and they are counted, an error, or "
    "windows are encoded, whose vectors are averaged.",
)  # fmt: skip
@click.option(
    "--prompt", metavar="TEXT",
    help="What every text begins with, or the name of one of the checkpoint's prompts.  "
    "[default: the checkpoint's default prompt]",
)  # fmt: skip
def embed(
    common: Common,
    model_path: Path,
    corpus: tuple[Path, ...],
    output: Path,
    overwrite: bool,
    keep: tuple[str, ...],
    id_column: str | None,
    text_columns: tuple[str, ...],
    vector_column: str | None,
    sparse: bool,
    top_terms: int | None,
    dtype: str | None,
    precision: str | None,
    pooling: str | None,
    normalize: bool | None,
    max_length: int | None,
    on_truncate: str,
    prompt: str | None,
) -> None:
    """Encode the texts of CORPUS with the encoder MODEL, a checkpoint of BERT.

    MODEL is a folder in Hugging Face's format: config.json, model.safetensors, and tokenizer.json
    or vocab.txt; the pooling, normalisation, limit and prompts of sentence-transformers are used
    where it has them. OUT has the id of each row (or its number), the columns of --keep, and the
    vector, a list of a fixed size. A text without a token has a null, and is counted. With
    --pooling none it has lists: the word pieces (tokens), where each begins and ends in the text
    (starts, ends; in code points), and their vectors. With --sparse, for a masked-language model,
    it has maps from terms to weights.
    """
    if sparse:
        given = {
            "--dtype": dtype, "--precision": precision, "--pooling": pooling,
            "--normalize": normalize is not None,
        }  # fmt: skip
        for option, value in given.items():
            if value:
                raise click.UsageError(f"--sparse cannot be combined with {option}")
    elif top_terms is not None:
        raise click.UsageError("--top-terms requires --sparse")
    from fastseq.models.bert.encoding import TextEncoder
    from fastseq.models.bert.sparse import IMPACTS, SparseEncoder
    from fastseq.store.outputs import check_output
    from fastseq.store.rows import Corpus

    check_output(output, "predictions", corpus, suffixes=(".parquet",), overwrite=overwrite)
    tokens = pooling == "none"
    limits: dict[str, Any] = {"max_length": max_length, "threads": common.threads}
    encoder: TextEncoder | SparseEncoder
    if sparse:
        encoder = SparseEncoder.load(model_path, top_terms=top_terms, **limits)
    else:
        encoder = TextEncoder.load(
            model_path, pooling=None if tokens else pooling, normalize=normalize,
            precision=precision or "float32", **limits,
        )
    reader = Corpus.open(list(corpus), id_column, text_columns or None, keep)
    common.announce_compilation()
    column = vector_column
    if column is None:
        column = IMPACTS if sparse else "vector"
    settings: dict[str, Any] = {"prompt": prompt, "on_truncate": on_truncate, "column": column}
    if isinstance(encoder, SparseEncoder):
        found = encoder.predict_batches(reader, **settings)
    elif tokens:
        found = encoder.predict_token_batches(
            reader, kind=dtype or "float32", normalize=bool(normalize), **settings
        )
    else:
        found = encoder.predict_batches(reader, kind=dtype or "float32", **settings)
    with progress(common) as report:

        def done(rows: int, total: int | None) -> None:
            if report is not None:
                report("embed", rows, total)

        done(0, found.total)
        rows = found.write(output, done, overwrite)
    for message in encoder.report.messages(encoder.max_length, on_truncate == "split"):
        common.notify(message)
    common.notify(f"{output}: {rows:,} rows, {encoder.report.tokens:,} tokens")
