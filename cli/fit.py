"""fastseq fit-lstm, fit-gru, fit-rnn: Parquet to a trained model. One builder makes the three."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastseq.estimator import parameters_of

from .options import (
    FILE,
    Common,
    common_options,
    example,
    model_option,
    pass_common,
    training_options,
)
from .output import coverage_line, write_pairs
from .parameters import (
    CLASSIFY,
    COLUMNS,
    FORECAST,
    LANGUAGE,
    TAG,
    Column,
    Sectioned,
    flags_of,
    given_parameters,
    parameter_options,
    with_options,
)
from .progress import fitting

if TYPE_CHECKING:
    from fastseq.models.base import SequenceModel

# task: the module and the class that do it
ESTIMATORS = {
    CLASSIFY: ("fastseq.models.classifier", "SequenceClassifier"),
    TAG: ("fastseq.models.tagger", "SequenceTagger"),
    LANGUAGE: ("fastseq.models.language", "LanguageModel"),
    FORECAST: ("fastseq.models.forecaster", "Forecaster"),
}
TASKS = tuple(ESTIMATORS)
CELLS = {
    "lstm": "a long short-term memory network (LSTM)",
    "gru": "a gated recurrent unit network (GRU)",
    "rnn": "a plain recurrent network (RNN)",
}


def estimator(task: str) -> type[SequenceModel[Any]]:
    """The class that does it."""
    module, name = ESTIMATORS[task]
    found: type[SequenceModel[Any]] = getattr(import_module(module), name)
    return found


def _command(cell: str) -> click.Command:
    name = f"fit-{cell}"

    def run(common: Common, corpus: tuple[Path, ...], **options: Any) -> None:
        _fit(common, cell, corpus, **options)

    run.__doc__ = f"""Train {CELLS[cell]} on Parquet files, folders or globs.

    CORPUS has text and label to learn to classify, tokens and tags to tag, text to model a
    language, or numbers, oldest first, to forecast (each file a series, or --series-column). The
    model, the history of its training and a checkpoint are written to MODEL. Without --valid
    nothing is held out and the last weights are kept; with it those of the best epoch.
    """
    kinds = {estimator(task): task for task in TASKS}
    skipped = ("cell",) if cell == "rnn" else ("cell", "nonlinearity")
    options = [
        *training_options(model_option("-o", "--output", help="Folder of the model.")),
        click.option(
            "--task",
            type=click.Choice(TASKS),
            help="What to learn.  [default: by the columns of CORPUS]",
        ),
        click.option(
            "--plot", type=FILE, metavar="FILE", help="Draw the learning curve: .png, .svg, .pdf."
        ),
        click.option(
            "--gradient-flow",
            type=FILE,
            metavar="FILE",
            help="Draw the gradient norm by the distance in time: .png, .svg, .pdf; or write it, "
            "with the columns when, steps_before_last and norm: .parquet.",
        ),
        *(column.option(tasks=True) for column in COLUMNS.values()),
        *parameter_options(*kinds, skip=skipped, names=kinds),
        common_options,
        pass_common,
    ]
    run = with_options(*options)(run)
    epilog = example(
        f"fastseq {name} labelled.parquet --valid labelled_test.parquet --epochs 3",
        f"fastseq {name} tagged.parquet --bidirectional --crf -o tagger",
        f"fastseq {name} book.parquet --task language --unit char --layers 2 -o book",
        f"fastseq {name} sunspots.parquet --task forecast --value-column sunspots --window 48",
    )
    return click.command(name, cls=Sectioned, epilog=epilog)(run)


def _fit(
    common: Common,
    cell: str,
    corpus: tuple[Path, ...],
    task: str | None,
    valid: Path | None,
    model_path: Path,
    overwrite: bool,
    resume: bool,
    plot: Path | None,
    gradient_flow: Path | None,
    **settings: Any,
) -> None:
    columns: dict[str, Any] = {name: settings.pop(name) or None for name in COLUMNS}
    named = [COLUMNS[name] for name, value in columns.items() if value is not None]
    chosen = task or _guessed(corpus, named)
    for column in named:
        _check_task(column.flag, column.tasks, chosen, task)
    make: Any = estimator(chosen)
    given = given_parameters(make, settings)
    for name, value in settings.items():
        if value not in (None, ()):
            tasks = [each for each in TASKS if name in parameters_of(estimator(each))]
            flag = flags_of(parameters_of(estimator(tasks[0]))[name])[0].partition("/")[0]
            _check_task(flag, tasks, chosen, task)
    if "embeddings" in given:
        given.setdefault("embedding", None)  # as large as those of the file
    from fastseq.models import plots

    read = (corpus, valid, given.get("embeddings"))
    if plot is not None:
        others = (model_path, gradient_flow)
        plots.check_plot(plot, read, others=others, overwrite=overwrite)
    if gradient_flow is not None:
        plots.check_gradient_flow(gradient_flow, read, others=[model_path], overwrite=overwrite)
    model: SequenceModel[Any] = make(cell=cell, threads=common.threads, **given)
    common.announce_compilation()
    started = time.perf_counter()
    unit = _unit(chosen, given)
    with fitting(common, model_path, unit, resume) as report:
        model.fit(
            list(corpus),
            valid=valid,
            path=model_path,
            overwrite=overwrite,
            resume=resume,
            progress=report,
            gradient_flow=gradient_flow is not None,
            **columns,
        )
    common.say_met(model.report_, "training", "validation")
    if plot is not None and model.history_ is not None:
        plots.learning_curve(model.history_, plot, overwrite)
    if gradient_flow is not None:
        plots.gradient_flow(model.gradient_flow_, gradient_flow, overwrite)
    if not common.quiet:
        seconds = time.perf_counter() - started
        write_pairs([("model", model_path), ("task", chosen), *_summary(model, unit, seconds)])


def _check_task(flag: str, tasks: Sequence[str], chosen: str, given: str | None) -> None:
    """Refuse an option that is for other tasks."""
    if chosen not in tasks:
        raise click.UsageError(
            f"{flag} is for --task {' or '.join(tasks)}"
            + ("" if given else f"; by its columns CORPUS is for --task {chosen}")
        )


def _guessed(corpus: tuple[Path, ...], named: Iterable[Column]) -> str:
    """The task that the columns named, or else those of CORPUS, are for."""
    for column in named:
        if len(column.tasks) == 1:
            return column.tasks[0]
    from fastseq.store.columns import LABEL_NAME, TAGS_NAME, TOKENS_NAME
    from fastseq.store.sources import open_sources

    data = open_sources(list(corpus))
    columns = list(data.types)
    tagged = TOKENS_NAME in columns and TAGS_NAME in columns
    if (LABEL_NAME in columns) != tagged:
        return TAG if tagged else CLASSIFY
    raise click.UsageError(
        f"cannot tell by the columns of {data.name} ({', '.join(columns)}) what to learn: "
        "give --task classify, tag, language or forecast"
    )


# ---- what is said


def _unit(task: str, given: dict[str, Any]) -> str:
    """What speed is said in."""
    if task == FORECAST:
        return "values"
    return {"char": "characters", "byte": "bytes"}.get(given.get("unit", ""), "tokens")


def _summary(model: SequenceModel[Any], unit: str, seconds: float) -> Iterator[tuple[str, Any]]:
    """The trained model and its measures."""
    yield "parameters", f"{model.n_parameters_:,}"
    if hasattr(model, "tag_scheme_"):
        yield "tag scheme", model.tag_scheme_
    coverage = getattr(model, "embeddings_coverage_", None)
    if coverage is not None:
        yield "embeddings found", coverage_line(coverage)
    history = model.history_
    rows = [] if history is None else list(history.rows())
    if not rows or history is None:
        return
    measure = model.monitored
    best = rows[-1]
    if history.measures:
        measured = [row for row in rows if math.isfinite(row[f"valid_{measure}"])]
        choose = max if model.measures[measure] else min  # of equals the first, as training does
        best = choose(measured or rows[-1:], key=lambda row: row[f"valid_{measure}"])
        yield "best epoch", f"{best['epoch']} of {len(rows)}"
    else:
        yield "epochs", len(rows)
    yield "training loss", best["train_loss"]
    for name in history.measures:
        yield f"validation {name.replace('_', ' ')}", best[f"valid_{name}"]
    if history.measures and hasattr(model, "vocabulary_"):
        yield "validation unknown rate", model.report_["validation"].unknown_rate
    learned = sum(row["units_per_second"] for row in rows) / len(rows)
    yield "time", f"{seconds:.2f} s ({learned:,.0f} {unit}/s)"


lstm, gru, rnn = (_command(cell) for cell in CELLS)
