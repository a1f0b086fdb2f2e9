"""What the commands that learn word vectors share: options, the run, and what is told of it.

    @click.command("fit-glove", epilog=example(...))
    @vectors_options(click.option("--window", ...), ..., epochs=25)
    @pass_common
    def glove(common, /, **given):
        from fastseq.models.word_vectors.glove import GloVe

        learn_vectors(common, GloVe, **given)

An option's name is that of a parameter of the model's constructor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fastseq.errors import SettingsError

from .options import Common, Interrupted, analyzer_of, analyzer_options, common_options
from .output import write_pairs
from .progress import vectors_training

if TYPE_CHECKING:
    from fastseq.models.word_vectors.base import VectorModel

F = TypeVar("F", bound=Callable[..., Any])
Option = Callable[[Any], Any]

DEFAULT_VECTORS = ".fastseq/vectors"
FILE = click.Path(path_type=Path)

# where things are
PLACES = (
    click.argument("corpus", nargs=-1, required=True, type=FILE),
    click.option(
        "-o",
        "--output",
        "path",
        type=FILE,
        metavar="VECTORS",
        default=DEFAULT_VECTORS,
        show_default=True,
        help="Folder of the vectors to write.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace the vectors that stand there."),
    click.option("--resume", is_flag=True, help="Go on from the checkpoint that is there."),
    click.option("--start", type=FILE, metavar="VECTORS", help="Go on from these vectors."),
    click.option("--valid", type=FILE, metavar="FILE", help="Parquet to measure the loss on."),
    click.option(
        "--text-column",
        "text_columns",
        metavar="C",
        multiple=True,
        help="Column of text; may be repeated.  [default: text, else the only one of strings]",
    ),
    click.option("--dimensions", type=int, default=100, show_default=True, help="Of a vector."),
)

# what is a word, and how often everything is read
WORDS = (
    click.option(
        "--min-count", type=int, default=5, show_default=True, help="Leave out rarer words."
    ),
    click.option("--max-vocabulary", type=int, help="Most words to keep.  [default: all]"),
    click.option(
        "--phrases",
        type=int,
        default=0,
        show_default=True,
        metavar="PASSES",
        help="Join neighbouring words to phrases, in so many passes.",
    ),
    click.option(
        "--phrase-threshold",
        type=float,
        default=10.0,
        show_default=True,
        help="Of a phrase's score: the higher, the fewer.",
    ),
)
RUN = (
    click.option("--seed", type=int, default=0, show_default=True, help="Of all that is random."),
    click.option("--memory", default="1GB", show_default=True, help="For the text, such as 256MB."),
)


def window_options(*, power: float, sample: float, rate: float | None) -> tuple[Option, ...]:
    """The options of models that learn from windows; a `rate` of None is the architecture's own."""
    told = "At the beginning."
    return (
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
            default=power,
            show_default=True,
            help="Of counts, to draw negatives by.",
        ),
        click.option(
            "--sample",
            type=float,
            default=sample,
            show_default=True,
            help="Thin out words of a larger share of the text; 0 for none.",
        ),
        click.option(
            "--learning-rate",
            type=float,
            default=rate,
            show_default=rate is not None,
            help=told if rate else f"{told}  [default: 0.025, with cbow 0.05]",
        ),
        click.option(
            "--last-rate",
            type=float,
            default=1e-4,
            show_default=True,
            help="Learning rate at the end.",
        ),
    )


def vectors_options(*own: Option, epochs: int) -> Callable[[F], F]:
    """Add the options that all models of word vectors have, and a model's own among them."""
    passes = click.option(
        "--epochs", type=int, default=epochs, show_default=True, help="Passes over CORPUS."
    )

    def decorate(function: F) -> F:
        options: tuple[Option, ...] = (*PLACES, *WORDS, *own, passes, *RUN)
        found: Any = analyzer_options(common_options(function))
        for option in reversed(options):
            found = option(found)
        decorated: F = found
        return decorated

    return decorate


def learn_vectors(
    common: Common,
    kind: Callable[..., VectorModel],
    *,
    corpus: tuple[Path, ...],
    path: Path,
    overwrite: bool,
    resume: bool,
    start: Path | None,
    valid: Path | None,
    text_columns: tuple[str, ...],
    **given: Any,
) -> None:
    """Train a model with the settings among what was `given`, and say how it went."""
    from fastseq.vectors.folder import is_begun

    names = {*kind().get_params(), "low", "high", "power", "last_rate"} - {"analyzer", "threads"}
    settings = {name: given.pop(name) for name in list(given) if name in names}
    model = kind(**settings, analyzer=analyzer_of(**given), threads=common.threads)
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
    if not common.quiet:
        write_pairs(_told(model, path, time.perf_counter() - began))


def _told(model: VectorModel, path: Path, spent: float) -> list[tuple[str, Any]]:
    """What is said of a model that was trained."""
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
    return "not measured: no two words met" if value is None else value
