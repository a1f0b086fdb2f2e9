"""fastseq fit-lstm, fit-gru, fit-rnn: Parquet to a trained model. One builder makes the three."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fastseq.errors import SettingsError

from .fit_options import (
    CELLS,
    CLASSIFY,
    DATA,
    FILE,
    FORECAST,
    SETTINGS,
    TAG,
    TASKS,
    Sectioned,
    estimator,
)
from .options import Common, Interrupted, common_options, example, model_option, pass_common
from .output import write_pairs
from .progress import training

if TYPE_CHECKING:
    from fastseq.models.base import SequenceModel

V = TypeVar("V")


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
    options = [
        click.argument("corpus", nargs=-1, required=True, type=FILE),
        click.option(
            "--task",
            type=click.Choice(TASKS),
            help="What to learn.  [default: by the columns of CORPUS]",
        ),
        click.option(
            "--valid", type=FILE, metavar="FILE", help="Parquet to validate on after every epoch."
        ),
        model_option("-o", "--output", help="Folder of the model to write."),
        click.option("--overwrite", is_flag=True, help="Replace the model that stands there."),
        click.option("--resume", is_flag=True, help="Go on from the checkpoint that is there."),
        click.option(
            "--plot", type=FILE, metavar="FILE", help="Draw the learning curve: .png, .svg, .pdf."
        ),
        click.option(
            "--gradient-flow",
            type=FILE,
            metavar="FILE",
            help="Draw how far back in time the gradient reaches: .png, .svg, .pdf; or write its "
            "numbers, when, steps_before_last and norm: .parquet.",
        ),
        *(setting.option() for setting in SETTINGS.values() if cell in setting.cells),
        common_options,
        pass_common,
    ]
    for option in reversed(options):
        run = option(run)
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
    given = {name: value for name, value in settings.items() if value not in (None, ())}
    chosen = task or _guessed(corpus, given)
    for name in given:
        if chosen not in SETTINGS[name].tasks:
            raise click.UsageError(
                f"{SETTINGS[name].flag} is for --task {' or '.join(SETTINGS[name].tasks)}"
                + ("" if task else f"; by its columns CORPUS is for --task {chosen}")
            )
    columns = {setting.name: given.pop(setting.name, None) for setting in DATA}
    if "embeddings" in given:
        given.setdefault("embedding", None)  # as large as those of the file
    for name, parse in PARSED.items():
        if name in given:
            given[name] = parse(SETTINGS[name].flag, given[name])
    from fastseq.models import plots
    from fastseq.models.folder import is_begun, is_trained

    if plot is not None:
        plots.check_plot(plot)
    if gradient_flow is not None:
        plots.check_gradient_flow(gradient_flow)
        _refuse_sources(gradient_flow, (*corpus, valid, given.get("embeddings")))
    make: Callable[..., SequenceModel[Any]] = estimator(chosen)
    model = make(cell=cell, threads=common.threads, **given)
    if resume and not (is_begun(model_path) or is_trained(model_path)):
        common.say(f"{model_path} has no checkpoint: training from the beginning")
    common.announce_compilation()
    started = time.perf_counter()
    unit = _unit(chosen, given)
    with training(common, unit) as report:
        try:
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
        except KeyboardInterrupt:
            if report.began:
                raise Interrupted(
                    f"Interrupted; the checkpoint in {model_path} is kept: the same command with "
                    "--resume goes on from it"
                ) from None
            raise
    common.say_met(model.report_, "training", "validation")
    if plot is not None and model.history_ is not None:
        plots.learning_curve(model.history_, plot)
    if gradient_flow is not None:
        plots.gradient_flow(model.gradient_flow_, gradient_flow)
    if not common.quiet:
        seconds = time.perf_counter() - started
        write_pairs([("model", model_path), ("task", chosen), *_summary(model, unit, seconds)])


def _guessed(corpus: tuple[Path, ...], given: dict[str, Any]) -> str:
    """The task that the columns named, or else those of CORPUS, are for."""
    for setting in DATA:
        if setting.name in given and len(setting.tasks) == 1:
            return setting.tasks[0]
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


def _refuse_sources(output: Path, sources: Iterable[Path | None]) -> None:
    """Refuse to write over what is read."""
    from fastseq.store.sources import find_files

    read = find_files(source for source in sources if source is not None)
    if output.resolve() in [path.resolve() for path in read]:
        raise SettingsError(f"{output}: is part of what is read, choose another output")


# ---- values as the estimators take them


def _class_weights(flag: str, given: tuple[str, ...]) -> str | dict[str, float]:
    return "balanced" if given == ("balanced",) else _named(flag, given, _number)


def _settings(flag: str, given: tuple[str, ...]) -> dict[str, float | tuple[float, ...]]:
    return _named(flag, given, _number_or_several)


def _named(flag: str, given: tuple[str, ...], parse: Callable[[str], V]) -> dict[str, V]:
    """{name: value} of NAME=VALUE, repeated; the name may hold an equals sign too."""
    values = {}
    for each in given:
        name, _, value = each.rpartition("=")
        try:
            values[name] = parse(value)
        except ValueError:
            name = ""
        if not name:
            raise click.UsageError(f"cannot read {flag} {each!r}: write it like name=0.5")
    return values


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)


def _number_or_several(text: str) -> float | tuple[float, ...]:
    """A number, or those between commas."""
    numbers = tuple(map(_number, text.split(",")))
    return numbers[0] if len(numbers) == 1 else numbers


# options whose values are not: a function of the flag and the value
PARSED: dict[str, Callable[[str, Any], Any]] = {
    "class_weights": _class_weights,
    "optimizer_settings": _settings,
    "schedule_settings": _settings,
    "clip": lambda _, norm: norm or None,
    "clip_value": lambda _, value: value or None,
}


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
