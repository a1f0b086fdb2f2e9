"""fastseq fit-word2vec: Parquet to word vectors."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from fastseq.errors import SettingsError

from .options import (
    Common,
    Interrupted,
    analyzer_of,
    analyzer_options,
    common_options,
    example,
    pass_common,
)
from .output import write_pairs
from .progress import vectors_training

DEFAULT_VECTORS = ".fastseq/vectors"
FILE = click.Path(path_type=Path)


@click.command(
    "fit-word2vec",
    epilog=example(
        "fastseq fit-word2vec corpus.parquet -o vectors",
        "fastseq fit-word2vec corpus.parquet --architecture cbow --dimensions 200 --epochs 10",
        "fastseq neighbors vectors london",
    ),
)
@click.argument("corpus", nargs=-1, required=True, type=FILE)
@click.option(
    "-o",
    "--output",
    "path",
    type=FILE,
    metavar="VECTORS",
    default=DEFAULT_VECTORS,
    show_default=True,
    help="Folder of the vectors to write.",
)
@click.option("--overwrite", is_flag=True, help="Replace the vectors that stand there.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint that is there.")
@click.option("--start", type=FILE, metavar="VECTORS", help="Go on from these vectors.")
@click.option("--valid", type=FILE, metavar="FILE", help="Parquet to measure the loss on.")
@click.option(
    "--text-column",
    "text_columns",
    metavar="C",
    multiple=True,
    help="Column of text; may be repeated.  [default: text, else the only one of strings]",
)
@click.option("--dimensions", type=int, default=100, show_default=True, help="Of a vector.")
@click.option(
    "--architecture",
    type=click.Choice(["skipgram", "cbow"]),
    default="skipgram",
    show_default=True,
    help="Each word of the context against the word, or their mean.",
)
@click.option(
    "--loss",
    type=click.Choice(["negative", "hierarchical"]),
    default="negative",
    show_default=True,
    help="Negative sampling, or hierarchical softmax.",
)
@click.option(
    "--window", type=int, default=5, show_default=True, help="Words on each side, at most."
)
@click.option("--negatives", type=int, default=5, show_default=True, help="Drawn for every word.")
@click.option(
    "--power", type=float, default=0.75, show_default=True, help="Of counts, to draw negatives by."
)
@click.option(
    "--sample",
    type=float,
    default=1e-3,
    show_default=True,
    help="Thin out words of a larger share of the text; 0 for none.",
)
@click.option("--min-count", type=int, default=5, show_default=True, help="Leave out rarer words.")
@click.option("--max-vocabulary", type=int, help="Most words to keep.  [default: all]")
@click.option("--epochs", type=int, default=5, show_default=True, help="Passes over CORPUS.")
@click.option(
    "--learning-rate",
    type=float,
    help="At the beginning.  [default: 0.025, with cbow 0.05]",
)
@click.option(
    "--last-rate", type=float, default=1e-4, show_default=True, help="Learning rate at the end."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is random.")
@click.option("--memory", default="1GB", show_default=True, help="For the text, such as 256MB.")
@analyzer_options
@common_options
@pass_common
def word2vec(
    common: Common,
    /,
    corpus: tuple[Path, ...],
    path: Path,
    overwrite: bool,
    resume: bool,
    start: Path | None,
    valid: Path | None,
    text_columns: tuple[str, ...],
    **given: Any,
) -> None:
    """Learn word vectors from Parquet files, folders or globs (Word2Vec).

    Every row of CORPUS is a sentence. Words that stand in like surroundings get vectors that are
    near each other: see `fastseq neighbors`, `analogy` and `test-vectors`.
    """
    from fastseq.store.vector_folder import is_begun
    from fastseq.vectors.word2vec import Word2Vec

    names = set(Word2Vec().get_params()) - {"analyzer", "threads"}
    settings = {name: given.pop(name) for name in names}
    model = Word2Vec(**settings, analyzer=analyzer_of(**given), threads=common.threads)
    if start is not None and start.resolve() == path.resolve():
        raise SettingsError(f"{path}: is what to go on from, choose another output")
    common.announce_compilation()
    began = time.perf_counter()
    with vectors_training(common) as report:
        try:
            model.fit(
                list(corpus), valid=None if valid is None else [valid], path=path,
                text_column=list(text_columns) or None, start=start, overwrite=overwrite,
                resume=resume, report=report,
            )  # fmt: skip
        except KeyboardInterrupt:
            if is_begun(path):
                raise Interrupted(
                    f"Interrupted; the checkpoint in {path} is kept: the same command with "
                    "--resume goes on from it"
                ) from None
            raise
    if common.quiet:
        return
    history, found = model.history_, model.vectors_
    pairs: list[tuple[str, Any]] = [
        ("vectors", path),
        ("words", f"{len(found):,}"),
        ("dimensions", found.dimensions),
        ("epochs", len(history["epoch"])),
        ("training loss", _loss(history["train_loss"][-1])),
    ]
    if "valid_loss" in history:
        pairs.append(("validation loss", _loss(history["valid_loss"][-1])))
    words, seconds = (sum(filter(None, history[name])) for name in ("words", "seconds"))
    speed = words / max(seconds, 1e-9)
    spent = time.perf_counter() - began
    write_pairs([*pairs, ("time", f"{spent:.2f} s ({speed:,.0f} words/s)")])


def _loss(value: float | None) -> float | str:
    return "not measured: no two words met" if value is None else value
