"""Options derived from the parameters that estimators declare, and options that name columns.

An option has the parameter's name, type, choices, help text and default; what is not given is not
passed on, so that the estimator's own default holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from fastseq import estimator as declared
from fastseq.errors import SettingsError
from fastseq.estimator import Parameter, parameters_of
from fastseq.features.estimators import DocumentCount
from fastseq.settings import parse_range

from .output import one_line

if TYPE_CHECKING:
    from fastseq.text.analyzer import Analyzer

Decorator = Callable[[Any], Any]
F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V")

NONE = object()  # the value None, given
ZERO_IS_NONE = ("clip", "clip_value")  # options of numbers above 0 that 0 turns off


class ParameterOption(click.Option):
    """An option that is listed in a section of the help page."""

    def __init__(self, *names: Any, section: str = "Options", **more: Any) -> None:
        super().__init__(*names, **more)
        self.section = section


class Sectioned(click.Command):
    """A command whose options are listed in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                section = getattr(param, "section", "Options")
                sections.setdefault(section, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Share(click.ParamType):  # type: ignore[type-arg]
    """A whole number counts documents, one with a point is a share of them."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        self.fail(f"{value!r} is neither a number of documents, as 2, nor a share of them, as 0.5")


# ---- options of parameters


def parameter_options(
    *kinds: type[Any], skip: Iterable[str] = (), names: Mapping[type[Any], str] | None = None
) -> list[Decorator]:
    """An option for each parameter of the classes, `threads` and `analyzer` excepted.

    names : of the classes, which the help of a parameter that not all have begins with
    """
    found: dict[str, dict[type[Any], Parameter]] = {}
    for kind in kinds:
        for name, each in parameters_of(kind).items():
            if name not in ("threads", "analyzer", *skip):
                found.setdefault(name, {})[kind] = each
    return [_option(each, kinds, names or {}) for each in found.values()]


def given_parameters(kind: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Take the parameters of the class that were given out of the command's options."""
    taken = {name: options.pop(name) for name in parameters_of(kind) if name in options}
    return {n: None if v is NONE else v for n, v in taken.items() if v not in (None, ())}


def _option(
    by_kind: Mapping[type[Any], Parameter],
    kinds: tuple[type[Any], ...],
    names: Mapping[type[Any], str],
) -> Decorator:
    each = next(iter(by_kind.values()))
    said = each.help
    if each.name in ZERO_IS_NONE:
        said = f"{said.rstrip('.')}; 0 for none."
    if len(by_kind) < len(kinds):
        said = f"{', '.join(names[kind] for kind in by_kind)}: {said[0].lower()}{said[1:]}"
    defaults: dict[str, list[str]] = {}
    for kind, own in by_kind.items():
        defaults.setdefault(_shown(own), []).append(names.get(kind, ""))
    usual = max(defaults, key=lambda shown: len(defaults[shown]))
    others = [f"{', '.join(some)}: {shown}" for shown, some in defaults.items() if shown != usual]
    shown = "; ".join(filter(None, (usual, *others)))
    return click.option(
        *flags_of(each), each.name, cls=ParameterOption, section=each.section, default=None,
        help=f"{said}  [default: {shown}]" if shown else said,
        callback=lambda ctx, option, value: _value(each, option, value), **_type(each),
    )  # fmt: skip


def flags_of(each: Parameter) -> list[str]:
    """The names of a parameter's option, as click takes them."""
    first = each.flag or each.name
    if isinstance(each.check, declared.Flag) and not each.flag and each.default is True:
        first = f"{each.name}/no_{each.name}"
    names = [name.replace("_", "-") for name in (first, *each.aliases)]
    return ["--" + name.replace("/", "/--") for name in names]


def _type(each: Parameter) -> dict[str, Any]:
    """Type and metavar of an option."""
    check = each.check
    if isinstance(check, declared.Flag):
        return {"is_flag": True}
    if isinstance(check, declared.Choice):
        names = (*check.names, "none") if each.none and "none" not in check.names else check.names
        return {"type": click.Choice(names, case_sensitive=all(map(str.islower, names)))}
    kind: type[Any] = str
    metavar, multiple = "S", False
    if isinstance(check, declared.Whole):
        kind, metavar = int, "N"
    elif isinstance(check, declared.Real):
        kind, metavar = float, "X"
    elif isinstance(check, declared.Location):
        return {"type": click.Path(path_type=Path), "metavar": each.metavar}
    elif isinstance(check, DocumentCount):
        return {"type": Share(), "metavar": each.metavar}
    elif isinstance(check, declared.Named | declared.Weights):
        metavar, multiple = "NAME=X", True
    return {"type": kind, "metavar": each.metavar or metavar, "multiple": multiple}


def _value(each: Parameter, option: click.Parameter, value: Any) -> Any:
    """The value of an option as the parameter takes it."""
    check, flag = each.check, option.opts[0]
    if value in (None, ()):
        return None
    if isinstance(check, declared.Span):
        return parse_range(value, flag)
    if isinstance(check, declared.Words):
        return [word.strip() for word in value.split(",") if word.strip()]
    if isinstance(check, declared.Named):
        return _named(flag, value, _number_or_several)
    if isinstance(check, declared.Weights):
        return "balanced" if value == ("balanced",) else _named(flag, value, _number)
    if isinstance(check, declared.Choice) and each.none and value == "none":
        return value if "none" in check.names else NONE
    return NONE if each.name in ZERO_IS_NONE and value == 0 else value


def _shown(each: Parameter) -> str:
    """A default as the help page has it."""
    value = each.default
    if isinstance(each.check, declared.Flag):
        on, _, off = flags_of(each)[0].partition("/")
        return each.none if value is None else "" if not off or not value else on[2:]
    if value is None:
        return each.none
    if isinstance(each.check, declared.Span):
        return "-".join(map(str, sorted(set(value))))
    if isinstance(value, float):
        return f"{value:g}"
    return one_line(value) if value != () else ""


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


# ---- what a term is


def analyzer_options(function: F) -> F:
    """Add the options of analysis, whose values `analyzer_of` takes by name."""
    from fastseq.text.analyzer import Analyzer

    language = click.option(
        "--language", cls=ParameterOption, section="Analysis", metavar="L",
        help="Stop words and stemmer of a language at once.",
    )  # fmt: skip
    return with_options(language, *parameter_options(Analyzer))(function)


def analyzer_of(language: str | None, **options: Any) -> Analyzer:
    """The analyzer that `analyzer_options` describe."""
    from fastseq.text.analyzer import Analyzer

    given = given_parameters(Analyzer, options)
    if not language:
        return Analyzer(**given)
    if {"stopwords", "stemmer"} & given.keys():
        raise click.UsageError("--language stands for --stopwords and --stemmer: give it alone")
    return Analyzer.for_language(language, **given)


def with_options(*options: Decorator) -> Callable[[F], F]:
    """Add options, in the order in which the help page lists them."""

    def added(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return added


# ---- columns of the data

CLASSIFY, TAG, LANGUAGE, FORECAST = "classify", "tag", "language", "forecast"


class Column(NamedTuple):
    """An option that names a column.

    flag      of the option
    name      of the argument of `fit`
    help      what the column holds
    tasks     that read it
    default   its usual name
    repeated  may be given several times
    """

    flag: str
    name: str
    help: str
    tasks: tuple[str, ...]
    default: str
    repeated: bool = False

    def option(self, default: str = "", tasks: bool = False) -> Decorator:
        """The option for click, its default the usual name."""
        said = f"{', '.join(self.tasks)}: {self.help}" if tasks else self.help.capitalize()
        return click.option(
            self.flag, self.name, cls=ParameterOption, section="Columns", metavar="C",
            multiple=self.repeated, default=() if self.repeated else None,
            help=f"{said}  [{default or f'default: {self.default}'}]",
        )  # fmt: skip


COLUMNS = {
    column.name: column
    for column in (
        Column("--text-column", "text_column", "text; may be repeated.", (CLASSIFY, LANGUAGE),
               "text", True),
        Column("--label-column", "label_column", "label.", (CLASSIFY,), "label"),
        Column("--tokens-column", "tokens_column", "lists of tokens.", (TAG,), "tokens"),
        Column("--tags-column", "tags_column", "lists of tags.", (TAG,), "tags"),
        Column("--value-column", "value_columns", "numbers; may be repeated.", (FORECAST,),
               "value", True),
        Column("--series-column", "series_column", "series of each row.", (FORECAST,),
               "each file is one series"),
    )
}  # fmt: skip
INPUTS = ("text_column", "tokens_column", "value_columns", "series_column")


def column_options(*names: str) -> Callable[[F], F]:
    """Add options that name columns of the data, whose values `named_columns` takes by name."""
    return with_options(*(COLUMNS[name].option("as in training", tasks=True) for name in names))


def named_columns(model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that were named, as the methods of the model take them.

    Raises SettingsError for one that a model of its kind does not have, as its `fit` does.
    """
    named = {name: value for name, value in options.items() if value not in (None, ())}
    for name in named:
        if name not in model.columns:
            flags = [COLUMNS[column].flag for column in model.columns if column in options]
            raise SettingsError(
                f"a {model.kind} model has no {COLUMNS[name].flag}; expected {' and '.join(flags)}"
            )
    return named
