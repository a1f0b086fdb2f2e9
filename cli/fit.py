"""fastseq fit-lstm, fit-gru, fit-rnn: Parquet to a trained model. One builder makes the three."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .options import Common, Interrupted, common_options, example, model_option, pass_common
from .output import one_line, write_pairs
from .progress import training

if TYPE_CHECKING:
    from fastseq.models.base import SequenceModel

CLASSIFY, TAG, LANGUAGE, FORECAST = "classify", "tag", "language", "forecast"
STREAMED, LABELLED, UNITS = (CLASSIFY, LANGUAGE), (CLASSIFY, TAG), (CLASSIFY, TAG, LANGUAGE)

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


# what `fit` and the constructors call options that are repeated on the command line
_PLURAL = {
    "value_column": "value_columns",
    "optimizer_setting": "optimizer_settings",
    "schedule_setting": "schedule_settings",
}


class Setting(NamedTuple):
    """An option of training. Its default is the estimators', where the help page finds it.

    flags     as click takes them
    help      before which the tasks are said that it is for
    kind      of its value; bool for a flag
    tasks     that have it
    metavar   of its value, where its kind has none
    repeated  may be given several times
    unset     what the help page says of a default that is None
    cells     whose command has it
    """

    flags: str
    help: str
    kind: Any = int
    tasks: tuple[str, ...] = TASKS
    metavar: str | None = None
    repeated: bool = False
    unset: str = ""
    cells: tuple[str, ...] = tuple(CELLS)

    @property
    def flag(self) -> str:
        """As a message names it."""
        return self.flags.partition("/")[0]

    @property
    def name(self) -> str:
        """As the estimators name it."""
        name = self.flag.removeprefix("--").replace("-", "_")
        return _PLURAL.get(name, name)

    def option(self) -> Any:
        """The option for click."""
        said = self.help
        if self.tasks not in (TASKS, UNITS):
            said = f"{', '.join(self.tasks)}: {said[0].lower()}{said[1:]}"
        kind: dict[str, Any] = {"is_flag": True} if self.kind is bool else {"type": self.kind}
        metavar = self.metavar or {int: "N", float: "X", str: "C"}.get(self.kind)
        if self.kind is not bool:
            kind["metavar"] = metavar
        default: Any = () if self.repeated else None
        return click.option(
            self.flags, self.name, default=default, multiple=self.repeated, help=said, **kind
        )

    def default(self, defaults: dict[str, dict[str, Any]]) -> str:
        """The defaults, by task and name, as the help page has them: that of most tasks first."""
        tasks: dict[str, list[str]] = {}
        for task in self.tasks:
            value = defaults[task].get(self.name)
            if isinstance(value, float):
                value = f"{value:g}"
            shown = self.unset if value is None or value is False else one_line(value)
            tasks.setdefault(shown, []).append(task)
        usual = max(tasks, key=lambda shown: len(tasks[shown]))
        others = [f"{', '.join(some)}: {shown}" for shown, some in tasks.items() if shown != usual]
        return "; ".join(filter(None, (usual, *others)))


def _one_of(*names: str) -> click.Choice[str]:
    return click.Choice(names)


_FILE = click.Path(path_type=Path)

DATA = (
    Setting("--text-column", "text; may be repeated.  [text]", str, STREAMED, repeated=True),
    Setting("--label-column", "label.  [label]", str, (CLASSIFY,)),
    Setting("--tokens-column", "lists of tokens.  [tokens]", str, (TAG,)),
    Setting("--tags-column", "lists of tags.  [tags]", str, (TAG,)),
    Setting("--value-column", "numbers; may be repeated.  [value]", str, (FORECAST,), None, True),
)
MODEL = (
    Setting(
        "--unit",
        "What is read one after the other.",
        _one_of("word", "space", "char", "byte"),
        UNITS,
    ),
    Setting(
        "--lowercase/--keep-case",
        "Whether Apple is apple.",
        bool,
        UNITS,
        unset="lower case with words, else as it is",
    ),
    Setting("--min-count", "Units that are rarer are unknown.", int, UNITS),
    Setting("--max-vocabulary", "Keep the N most frequent units.", int, UNITS, unset="all"),
    Setting("--max-length", "Cut texts to N units.", int, (CLASSIFY,), unset="not cut"),
    Setting("--embedding", "Numbers that stand for a unit.", int, UNITS),
    Setting("--embeddings", "File of word vectors to start from.", _FILE, UNITS, metavar="FILE"),
    Setting("--freeze-embeddings", "Leave the embeddings as they are.", bool, UNITS),
    Setting("--hidden", "Numbers in the state of a layer."),
    Setting(
        "--nonlinearity", "What bounds a state.", _one_of("tanh", "relu"), TASKS, cells=("rnn",)
    ),
    Setting("--layers", "Recurrent layers, one above the other."),
    Setting("--bidirectional/--no-bidirectional", "read backwards too.", bool, LABELLED),
    Setting(
        "--pooling",
        "what of all states the label is read from.",
        _one_of("last", "mean", "max", "attention"),
        (CLASSIFY,),
    ),
    Setting("--chars", "look at the characters of words too.", bool, (TAG,)),
    Setting("--char-embedding", "with --chars, numbers that stand for one.", int, (TAG,)),
    Setting("--char-hidden", "with --chars, numbers in their states.", int, (TAG,)),
    Setting("--crf", "A conditional random field over the tags.", bool, (TAG,)),
    Setting("--tie-weights", "one matrix as embedding and output.", bool, (LANGUAGE,)),
    Setting("--window", "rows of the past that a forecast is made from.", int, (FORECAST,)),
    Setting("--horizon", "rows to forecast.", int, (FORECAST,)),
)
TRAINING = (
    Setting("--epochs", "Passes over the corpus."),
    Setting("--batch-size", "Sequences learned from at once."),
    Setting(
        "--bptt",
        "units that gradients go back.",
        int,
        (LANGUAGE,),
        unset="35, or 100 with char and byte",
    ),
    Setting("--dropout", "Share of numbers dropped between layers.", float),
    Setting("--recurrent-dropout", "Share of recurrent weights dropped.", float),
    Setting(
        "--class-weights",
        "how much each class counts: balanced, or LABEL=WEIGHT, repeated.",
        str,
        (CLASSIFY,),
        "W",
        True,
        unset="all alike",
    ),
    Setting(
        "--optimizer",
        "How weights are moved.",
        _one_of("sgd", "adagrad", "rmsprop", "adam", "adamw"),
    ),
    Setting(
        "--optimizer-setting", "What else it takes, as momentum=0.9.", str, TASKS, "NAME=X", True
    ),
    Setting(
        "--learning-rate", "Highest learning rate.", float, unset="the model's or the optimizer's"
    ),
    Setting("--weight-decay", "Pull of the weights towards 0.", float),
    Setting(
        "--schedule",
        "Of the learning rate.",
        _one_of("constant", "step", "cosine", "linear", "plateau"),
    ),
    Setting("--schedule-setting", "What else it takes, as every=500.", str, TASKS, "NAME=X", True),
    Setting("--warmup", "Steps over which the learning rate rises first."),
    Setting("--clip", "Largest norm of all gradients; 0: any.", float, unset="0"),
    Setting("--clip-value", "Largest value of one gradient; 0: any.", float, unset="0"),
    Setting("--patience", "Stop after N epochs without a better validation."),
    Setting(
        "--monitor",
        "What a validation is better by: loss, or accuracy, perplexity or rmse of its task.",
        str,
        TASKS,
        "M",
        unset="accuracy; language, forecast: loss",
    ),
    Setting("--seed", "Of all that is random."),
    Setting("--device", "Where to compute.", _one_of("auto", "cpu", "cuda")),
    Setting("--memory", "Working memory, such as 256MB.", str, metavar="SIZE"),
)
SETTINGS = {setting.name: setting for setting in (*DATA, *MODEL, *TRAINING)}
SECTIONS = {"Columns": DATA, "Model": MODEL, "Training": TRAINING}


class Sectioned(click.Command):
    """A command whose many options are listed in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        home = {each.name: title for title, some in SECTIONS.items() for each in some}
        lists: dict[str, list[tuple[str, str]]] = {"Options": [], **{t: [] for t in SECTIONS}}
        defaults = {task: _defaults(task) for task in TASKS}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is None:
                continue
            name = param.name or ""
            shown = SETTINGS[name].default(defaults) if name in SETTINGS else ""
            if shown:
                record = (record[0], f"{record[1]}  [{shown}]")
            lists[home.get(name, "Options")].append(record)
        for title, records in lists.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _estimator(task: str) -> type[SequenceModel[Any]]:
    module, name = ESTIMATORS[task]
    found: type[SequenceModel[Any]] = getattr(import_module(module), name)
    return found


def _defaults(task: str) -> dict[str, Any]:
    parameters = inspect.signature(_estimator(task)).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def _command(cell: str) -> click.Command:
    name = f"fit-{cell}"

    def run(common: Common, corpus: tuple[Path, ...], **options: Any) -> None:
        _fit(common, cell, corpus, **options)

    run.__doc__ = f"""Train {CELLS[cell]} on Parquet files, folders or globs.

    CORPUS has text and label to learn to classify, tokens and tags to tag, text to model a
    language, or numbers, oldest first, to forecast. The model, the history of its training and a
    checkpoint are written to MODEL. Without --valid nothing is held out and the last weights are
    kept; with it those of the best epoch.
    """
    options = [
        click.argument("corpus", nargs=-1, required=True, type=_FILE),
        click.option(
            "--task",
            type=click.Choice(TASKS),
            help="What to learn.  [default: by the columns of CORPUS]",
        ),
        click.option(
            "--valid", type=_FILE, metavar="FILE", help="Parquet to validate on after every epoch."
        ),
        model_option("-o", "--output", help="Folder of the model to write."),
        click.option("--overwrite", is_flag=True, help="Replace the model that stands there."),
        click.option("--resume", is_flag=True, help="Go on from the checkpoint that is there."),
        click.option("--plot", type=_FILE, metavar="FILE", help="Draw the learning curve."),
        click.option(
            "--gradient-flow",
            type=_FILE,
            metavar="FILE",
            help="Draw the norm of the gradient that reaches each time step.",
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

    for path in (plot, gradient_flow):
        if path is not None:
            plots.check_plot(path)
    make: Callable[..., SequenceModel[Any]] = _estimator(chosen)
    model = make(cell=cell, threads=common.threads, **given)
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
    from fastseq.store.fields import LABEL_NAME, TAGS_NAME, TOKENS_NAME
    from fastseq.store.sources import open_sources

    source = open_sources(list(corpus))[0]
    columns = source.schema.names
    tagged = TOKENS_NAME in columns and TAGS_NAME in columns
    if (LABEL_NAME in columns) != tagged:
        return TAG if tagged else CLASSIFY
    raise click.UsageError(
        f"cannot tell by the columns of {source.name} ({', '.join(columns)}) what to learn: "
        "give --task classify, tag, language or forecast"
    )


def _class_weights(flag: str, given: tuple[str, ...]) -> str | dict[str, float]:
    return "balanced" if given == ("balanced",) else _numbers(flag, given)


def _numbers(flag: str, given: tuple[str, ...]) -> dict[str, float]:
    """{name: number} of NAME=NUMBER, repeated; the name may hold an equals sign too."""
    numbers = {}
    for each in given:
        name, _, number = each.rpartition("=")
        try:
            numbers[name] = int(number) if number.isdecimal() else float(number)
        except ValueError:
            name = ""
        if not name:
            raise click.UsageError(f"cannot read {flag} {each!r}: write it like name=0.5")
    return numbers


# values that are not what the estimators take: a function of the flag and the value
PARSED: dict[str, Callable[[str, Any], Any]] = {
    "class_weights": _class_weights,
    "optimizer_settings": _numbers,
    "schedule_settings": _numbers,
    "clip": lambda _, norm: norm or None,
    "clip_value": lambda _, value: value or None,
}


def _unit(task: str, given: dict[str, Any]) -> str:
    """What speed is said in."""
    if task == FORECAST:
        return "values"
    return {"char": "characters", "byte": "bytes"}.get(given.get("unit", ""), "tokens")


def _summary(model: SequenceModel[Any], unit: str, seconds: float) -> Iterator[tuple[str, Any]]:
    """What became of a training."""
    yield "parameters", f"{model.n_parameters_:,}"
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
    learned = sum(row["units_per_second"] for row in rows) / len(rows)
    yield "time", f"{seconds:.2f} s ({learned:,.0f} {unit}/s)"


lstm, gru, rnn = (_command(cell) for cell in CELLS)
