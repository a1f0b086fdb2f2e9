"""The options of training: a table for all tasks and cells, and how the help page lists them.

Those of them that name columns are options of using a model too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fastseq.errors import SettingsError

from .options import F
from .output import one_line

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


FILE = click.Path(path_type=Path)

DATA = (
    Setting("--text-column", "text; may be repeated.", str, STREAMED, repeated=True, unset="text"),
    Setting("--label-column", "label.", str, (CLASSIFY,), unset="label"),
    Setting("--tokens-column", "lists of tokens.", str, (TAG,), unset="tokens"),
    Setting("--tags-column", "lists of tags.", str, (TAG,), unset="tags"),
    Setting(
        "--value-column",
        "numbers; may be repeated.",
        str,
        (FORECAST,),
        repeated=True,
        unset="value",
    ),
    Setting(
        "--series-column",
        "which series a row belongs to.",
        str,
        (FORECAST,),
        unset="each file is one",
    ),
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
    Setting(
        "--embeddings", "File or folder of word vectors to start from.", FILE, UNITS, metavar="FILE"
    ),
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
    Setting(
        "--tag-scheme",
        "How tags encode spans; auto: detected from all training tags.",
        click.Choice(("auto", "IOB1", "IOB2", "BIOES", "BILOU", "BMES", "IO", "none"), False),
        (TAG,),
    ),
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
        "--optimizer-setting",
        "What else it takes, as momentum=0.9 or betas=0.9,0.99.",
        str,
        TASKS,
        "NAME=X",
        True,
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
        "Validation measure that selects the best epoch: loss; accuracy or macro_f1 (classify, "
        "tag), f1 of spans (tag), perplexity (language), rmse (forecast).",
        str,
        TASKS,
        "M",
        unset="accuracy; language, forecast: loss",
    ),
    Setting("--seed", "Of all that is random."),
    Setting(
        "--device",
        "Where to compute; auto: on a GPU if there is one.",
        _one_of("auto", "cpu", "cuda"),
    ),
    Setting(
        "--precision",
        "On a GPU, what the factors of products are rounded to.",
        _one_of("float32", "tf32", "bfloat16"),
    ),
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


def estimator(task: str) -> type[SequenceModel[Any]]:
    """The class that does it."""
    module, name = ESTIMATORS[task]
    found: type[SequenceModel[Any]] = getattr(import_module(module), name)
    return found


def _defaults(task: str) -> dict[str, Any]:
    parameters = inspect.signature(estimator(task)).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


# ---- naming columns to a model that is trained

INPUTS = ("text_column", "tokens_column", "value_columns", "series_column")


def column_options(*names: str) -> Callable[[F], F]:
    """Add options that name columns of the data, whose values `named_columns` takes by name."""

    def added(function: F) -> F:
        for name in reversed(names):
            setting = SETTINGS[name]
            said = f"{setting.help}  [as in training]"
            function = setting._replace(help=said).option()(function)
        return function

    return added


def named_columns(model: SequenceModel[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that were named, as the methods of the model take them.

    Raises SettingsError for one that a model of its kind does not have, as its `fit` does.
    """
    named = {name: value for name, value in options.items() if value not in (None, ())}
    for name in named:
        if name not in model.columns:
            flags = [SETTINGS[column].flag for column in model.columns if column in options]
            raise SettingsError(
                f"a {model.kind} model has no {SETTINGS[name].flag}; expected {' and '.join(flags)}"
            )
    return named
