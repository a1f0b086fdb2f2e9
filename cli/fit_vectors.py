"""fastseq fit-word2vec, fit-fasttext, fit-glove: Parquet to word vectors."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import (
    FILE,
    Common,
    common_options,
    example,
    pass_common,
    text_column_option,
    training_options,
)
from .output import write_pairs
from .parameters import (
    Sectioned,
    analyzer_of,
    analyzer_options,
    given_parameters,
    parameter_options,
    with_options,
)
from .progress import fitting

if TYPE_CHECKING:
    from fastseq.models.word_vectors.base import VectorModel

DEFAULT_VECTORS = ".fastseq/vectors"


def _command(name: str, module: str, kind: str, text: str, *examples: str) -> click.Command:
    """The command that trains a model of word vectors."""
    model: type[VectorModel] = getattr(import_module(f"fastseq.models.{module}"), kind)

    def run(common: Common, **given: Any) -> None:
        _fit(common, model, **given)

    run.__doc__ = f"""Learn word vectors from Parquet files, folders or globs ({kind}).

    Every row of CORPUS is a sentence. {text}
    """
    output = click.option(
        "-o",
        "--output",
        "path",
        type=FILE,
        metavar="VECTORS",
        default=DEFAULT_VECTORS,
        show_default=True,
        help="Folder of the vectors.",
    )
    start = click.option(
        "--start",
        type=FILE,
        metavar="VECTORS",
        help="Continue from these vectors, with their dimensions and n-grams unless given.",
    )
    run = with_options(
        *training_options(output),
        start,
        text_column_option,
        *parameter_options(model),
        analyzer_options,
        common_options,
        pass_common,
    )(run)
    epilog = example(f"fastseq {name} corpus.parquet -o vectors", *examples)
    return click.command(name, cls=Sectioned, epilog=epilog)(run)


def _fit(
    common: Common,
    kind: type[VectorModel],
    corpus: tuple[Path, ...],
    path: Path,
    overwrite: bool,
    resume: bool,
    start: Path | None,
    valid: Path | None,
    text_columns: tuple[str, ...],
    **given: Any,
) -> None:
    settings = given_parameters(kind, given)
    model = kind(**settings, analyzer=analyzer_of(**given), threads=common.threads)
    common.announce_compilation()
    began = time.perf_counter()
    with fitting(common, path, "words", resume) as report:
        model.fit(
            list(corpus), valid=None if valid is None else [valid], path=path,
            text_column=list(text_columns) or None, start=start, overwrite=overwrite,
            resume=resume, report=report,
        )  # fmt: skip
    if not common.quiet:
        write_pairs(_told(model, path, time.perf_counter() - began))


def _told(model: VectorModel, path: Path, spent: float) -> list[tuple[str, Any]]:
    """The trained model and its measures."""
    history, found = model.history_, model.vectors_
    pairs: list[tuple[str, Any]] = [
        ("vectors", path),
        ("words", f"{len(found):,}"),
        ("dimensions", found.dimensions),
    ]
    if "cooccurrences" in found.statistics:
        pairs.append(("co-occurrences", f"{found.statistics['cooccurrences']:,}"))
    pairs += [
        ("epochs", len(history["epoch"])),
        ("training loss", _loss(history["train_loss"][-1])),
    ]
    if "valid_loss" in history:
        pairs.append(("validation loss", _loss(history["valid_loss"][-1])))
    words, seconds = (sum(filter(None, history[name])) for name in ("words", "seconds"))
    speed = words / max(seconds, 1e-9)
    return [*pairs, ("time", f"{spent:.2f} s ({speed:,.0f} words/s)")]


def _loss(value: float | None) -> float | str:
    return "none: the rows of CORPUS hold nothing to tell apart" if value is None else value


word2vec = _command(
    "fit-word2vec",
    "word_vectors.word2vec",
    "Word2Vec",
    """Words that occur in similar contexts get similar vectors:
    see `fastseq neighbors`, `analogy` and `test-vectors`.""",
    "fastseq fit-word2vec corpus.parquet --architecture cbow --dimensions 200 --epochs 10",
    "fastseq neighbors vectors london",
)
fasttext = _command(
    "fit-fasttext",
    "fasttext.vectors",
    "FastText",
    """A word's vector is the mean of its own and those of its
    character n-grams: unknown words have vectors too, misspelt ones near the words meant. For a
    text classifier see `fastseq fit-fasttext-classifier`.""",
    "fastseq neighbors vectors accomodation",
    "fastseq export vectors model.bin --format fasttext",
)
glove = _command(
    "fit-glove",
    "word_vectors.glove",
    "GloVe",
    """Co-occurrences of words are counted once, and vectors are
    learned whose products approximate their logarithms: see `fastseq neighbors`, `analogy` and
    `test-vectors`.""",
    "fastseq fit-glove corpus.parquet --window 15 --dimensions 200 --epochs 50",
    "fastseq analogy vectors man king woman",
)
