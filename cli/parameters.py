"""Options derived from the parameters that estimators declare, and options that name columns.

An option has the parameter's name, type, choices, help text and default. What is not given is not
passed on, so that the estimator's own default holds, except where the default is the command's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from fastseq import estimator as declared
from fastseq.errors import SettingsError
from fastseq.estimator import Parameter, parameters_of
from fastseq.search.display import one_line
from fastseq.settings import parse_range

from .options import FILE, Decorator, F, SectionOption, several

if TYPE_CHECKING:
    from fastseq.text.analyzer import Analyzer

V = TypeVar("V")
NONE = object()  # the value None, given
ZERO_IS_NONE = ("clip", "clip_value")  # options of numbers above 0 that 0 turns off


class CountOrShare(click.ParamType):  # type: ignore[type-arg]
    """A number of documents, or, with a decimal point, a fraction of them."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        self.fail(
            f"{value!r} is neither a number of documents, as 2, nor a fraction of them, as 0.5"
        )


# check of a parameter: type and metavar of its option, a string by default
_TYPES: dict[type[declared.Check], dict[str, Any]] = {
    declared.Flag: {"is_flag": True, "metavar": None},
    declared.Whole: {"type": int, "metavar": "N"},
    declared.Real: {"type": float, "metavar": "X"},
    declared.Location: {"type": FILE},
    declared.Named: {"metavar": "NAME=X", "multiple": True},
    declared.Weights: {"metavar": "NAME=X", "multiple": True},
    declared.DocumentCount: {"type": CountOrShare()},
}


def options_of(
    *kinds: type[Any], skip: Iterable[str] = (), names: Mapping[type[Any], str] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Decorator:  # fmt: skip
    """An option for each parameter of the classes, `threads` and `analyzer` excepted.

    names : of the classes, which begin the help of a parameter that not all of them have
    defaults : of parameters whose default depends on the command; passed on where not given
    """
    own = defaults or {}
    found: dict[str, dict[type[Any], Parameter]] = {}
    for kind in kinds:
        for name, each in parameters_of(kind).items():
            if name not in ("threads", "analyzer", *skip):
                if name in own:
                    each = dataclasses.replace(each, default=own[name], none="")
                found.setdefault(name, {})[kind] = each
    return several(
        *(_option(each, kinds, names or {}, own.get(name)) for name, each in found.items())
    )


def given(kind: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Remove the parameters of the class from the command's options, and return those given."""
    taken = {name: options.pop(name) for name in parameters_of(kind) if name in options}
    return {n: None if v is NONE else v for n, v in taken.items() if v not in (None, ())}


def _option(
    by_kind: Mapping[type[Any], Parameter],
    kinds: tuple[type[Any], ...],
    names: Mapping[type[Any], str],
    default: Any = None,
) -> Decorator:
    each = next(iter(by_kind.values()))
    text = each.help
    if each.name in ZERO_IS_NONE:
        text = f"{text.rstrip('.')}; 0 for none."
    if len(by_kind) < len(kinds):
        text = f"{', '.join(names[kind] for kind in by_kind)}: {text[0].lower()}{text[1:]}"
    defaults: dict[str, list[str]] = {}
    for kind, own in by_kind.items():
        defaults.setdefault(_shown(own), []).append(names.get(kind, ""))
    usual = max(defaults, key=lambda shown: len(defaults[shown]))
    others = [f"{', '.join(some)}: {shown}" for shown, some in defaults.items() if shown != usual]
    if shown := "; ".join(filter(None, (usual, *others))):
        text += f"  [default: {shown}]"
    return click.option(
        *flags_of(each), each.name, cls=SectionOption, section=each.section, default=default,
        help=text, callback=lambda ctx, option, value: _value(each, option, value), **_type(each),
    )  # fmt: skip


def flags_of(each: Parameter) -> list[str]:
    """The names of a parameter's option, as click takes them."""
    first = each.flag or each.name
    if isinstance(each.check, declared.Flag) and not each.flag and each.default is True:
        first = f"{each.name}/no_{each.name}"
    names = [name.replace("_", "-") for name in (first, *each.aliases)]
    return ["--" + name.replace("/", "/--") for name in names]


def _type(each: Parameter) -> dict[str, Any]:
    if isinstance(each.check, declared.Choice):
        names = each.check.names
        if each.none and "none" not in names:
            names = (*names, "none")
        return {"type": click.Choice(names, case_sensitive=all(map(str.islower, names)))}
    found = {"metavar": "S", **_TYPES.get(type(each.check), {})}
    return {**found, "metavar": each.metavar or found["metavar"]}


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
    """{name: value} of repeated NAME=VALUE, where the name may contain an equals sign."""
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
    numbers = tuple(map(_number, text.split(",")))
    return numbers[0] if len(numbers) == 1 else numbers


# ---- options of analysis


def analysis_options(tokenizer: str | None) -> Decorator:
    """The options of analysis, whose values `analyzer_of` takes by name.

    tokenizer : the command's default; None: the analyzer has none where the option is not given
    """
    from fastseq.text.analyzer import Analyzer

    language = click.option(
        "--language", cls=SectionOption, section="Analysis", metavar="L",
        help="Stop words and stemmer of a language, and with the tokenizer unicode its "
        "normalisation.",
    )  # fmt: skip
    defaults = {} if tokenizer is None else {"tokenizer": tokenizer}
    return several(language, options_of(Analyzer, defaults=defaults))


def analyzer_of(language: str | None, **options: Any) -> Analyzer:
    """The analyzer that the options of analysis describe."""
    from fastseq.text.analyzer import Analyzer

    own = given(Analyzer, options)
    if not language:
        return Analyzer(**own)
    if {"stopwords", "stemmer"} & own.keys():
        raise click.UsageError(
            "--language sets --stopwords and --stemmer and cannot be combined with them"
        )
    return Analyzer.for_language(language, **own)


# ---- options that name columns of the data

CLASSIFY, TAG, LANGUAGE, FORECAST = TASKS = ("classify", "tag", "language", "forecast")


class Column(NamedTuple):
    """An option that names a column.

    name      of the argument of `fit`
    help      what the column contains
    tasks     that read it
    default   its usual name
    repeated  may be given several times
    """

    name: str
    help: str
    tasks: tuple[str, ...]
    default: str
    repeated: bool = False

    @property
    def flag(self) -> str:
        return f"--{self.name.removesuffix('s').replace('_', '-')}"

    def option(self, default: str = "", tasks: bool = True) -> Decorator:
        """The option for click; with the tasks that read it, unless the command has only one."""
        text = f"{', '.join(self.tasks)}: {self.help}" if tasks else self.help.capitalize()
        return click.option(
            self.flag, self.name, cls=SectionOption, section="Columns", metavar="C",
            multiple=self.repeated, default=() if self.repeated else None,
            help=f"{text}  [{default or f'default: {self.default}'}]",
        )  # fmt: skip


COLUMNS = {
    column.name: column
    for column in (
        Column("text_column", "text; may be repeated.", (CLASSIFY, LANGUAGE), "text", True),
        Column("label_column", "label.", (CLASSIFY,), "label"),
        Column("tokens_column", "lists of tokens.", (TAG,), "tokens"),
        Column("tags_column", "lists of tags.", (TAG,), "tags"),
        Column("value_columns", "numbers; may be repeated.", (FORECAST,), "value", True),
        Column("series_column", "series of each row.", (FORECAST,), "each file is one series"),
    )
}


def column_options(*names: str) -> Callable[[F], F]:
    """Options for columns of the data of a trained model, which `named_columns` takes by name."""
    return several(*(COLUMNS[name].option("as in training") for name in names))


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
