"""Estimators with declared parameters.

    class Forecaster(SequenceModel):
        window: int = parameter(default=32, check=Whole(1), help="Rows of the input window.")
        hidden: int = 64  # another default of an inherited parameter

The constructor and its signature, `get_params`, `set_params`, `repr`, `check`, the section
"Parameters" of the docstring and the options of the command line are derived from the declarations.
Frozen dataclasses (an analyzer) declare their parameters in the same way.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar, dataclass_transform

import numpy as np

from fastseq import settings
from fastseq.errors import NotFittedError, SettingsError

T = TypeVar("T")
S = TypeVar("S", bound=Any)  # a fitted state

# ---- valid values


@dataclass(frozen=True, eq=False, repr=False)
class Check:
    """Any value."""

    def __call__(self, name: str, value: Any) -> Any:
        """The value of the parameter `name` as a plain Python value. Raises SettingsError for one
        that is not valid."""
        return value


@dataclass(frozen=True, eq=False, repr=False)
class Whole(Check):
    """Whole numbers, least <= value < below."""

    least: int = 1
    below: int = 1 << 31

    def __call__(self, name: str, value: Any) -> Any:
        return settings.whole(name, value, self.least, self.below)


@dataclass(frozen=True, eq=False, repr=False)
class Real(Check):
    """Finite numbers between bounds, inclusive (least, most) or exclusive (above, below)."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def wanted(self) -> str:
        """A description of the range."""
        if self.least is not None and self.most is not None:
            return f"from {self.least:,} to {self.most:,}"
        bounds = (("at least", self.least), ("above", self.above), ("at most", self.most),
                  ("below", self.below))  # fmt: skip
        parts = [f"{word} {bound:g}" for word, bound in bounds if bound is not None]
        if len(parts) > 1:
            return " and ".join(parts)
        return f"a number {parts[0]}" if parts else "a finite number"

    def __call__(self, name: str, value: Any) -> Any:
        def holds(number: float) -> bool:
            return math.isfinite(number) and not (
                (self.least is not None and number < self.least)
                or (self.most is not None and number > self.most)
                or (self.above is not None and number <= self.above)
                or (self.below is not None and number >= self.below)
            )

        return settings.real(name, value, holds, self.wanted)


@dataclass(frozen=True, eq=False, repr=False)
class DocumentCount(Check):
    """A number of texts from 1, or a fraction of them as a float from 0.0 to 1.0."""

    def __call__(self, name: str, value: Any) -> Any:
        integral = isinstance(value, numbers.Integral)
        share = isinstance(value, numbers.Real) and not integral and 0.0 <= float(value) <= 1.0
        if not share and not (integral and not isinstance(value, bool) and value >= 1):
            raise SettingsError(
                f"{name} is {value!r}; expected a number of texts from 1, or a share 0.0 to 1.0"
            )
        return value


@dataclass(frozen=True, eq=False, repr=False)
class Choice(Check):
    """One of several names."""

    names: tuple[str, ...]

    def __init__(self, names: Iterable[str]) -> None:
        object.__setattr__(self, "names", tuple(names))

    def __call__(self, name: str, value: Any) -> Any:
        return settings.one_of(name, value, self.names)


class Flag(Check):
    """True or False."""

    def __call__(self, name: str, value: Any) -> Any:
        return settings.flag(name, value)


class Text(Check):
    """A non-empty string."""

    def __call__(self, name: str, value: Any) -> Any:
        if not isinstance(value, str) or not value:
            raise SettingsError(f"{name} must be a string that is not empty, not {value!r}")
        return value


class Location(Check):
    """A path."""

    def __call__(self, name: str, value: Any) -> Any:
        return settings.file_path(name, value)


class Size(Check):
    """Bytes as a number or as text such as 256MB."""

    def __call__(self, name: str, value: Any) -> Any:
        settings.parse_size(value)
        return value


@dataclass(frozen=True, eq=False, repr=False)
class Span(Check):
    """Two whole numbers, 1 <= lowest <= highest <= most."""

    most: int

    def __call__(self, name: str, value: Any) -> Any:
        if isinstance(value, tuple | list) and len(value) == 2:
            low, high = value
            if type(low) is type(high) is int and 1 <= low <= high <= self.most:
                return low, high
        raise SettingsError(
            f"{name} is {value!r}; expected two whole numbers, 1 <= low <= high <= {self.most}"
        )


class Named(Check):
    """A dictionary of values by name."""

    def __call__(self, name: str, value: Any) -> Any:
        return settings.named(name, value)


class Weights(Check):
    """Class weights: "balanced", or a dictionary of numbers by label, checked against the data."""


class Words(Check):
    """Several strings."""

    def __call__(self, name: str, value: Any) -> Any:
        if isinstance(value, str) or not all(isinstance(word, str) for word in value):
            raise SettingsError(f"{name} is {value!r}; expected a list of words")
        return value


@dataclass(frozen=True, eq=False, repr=False)
class Instance(Check):
    """An object of a class that has `to_dict` and `from_dict`."""

    kind: type[Any]

    def __call__(self, name: str, value: Any) -> Any:
        if not isinstance(value, self.kind):
            raise SettingsError(f"{name} is {value!r}; expected a fastseq.{self.kind.__name__}")
        return value


@dataclass(frozen=True, eq=False, repr=False)
class Checked(Check):
    """The values for which a function does not raise SettingsError."""

    rule: Callable[[Any], object]

    def __call__(self, name: str, value: Any) -> Any:
        self.rule(value)
        return value


FRACTION = Real(least=0, below=1)
SEED = Whole(0, 1 << 64)
THREADS = Whole(1, 1025)

# ---- declarations


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """The declaration of a parameter.

    name     of the constructor's argument; also the option's, with hyphens
    type     its annotation
    check    its valid values, except None
    help     a sentence for the docstring and the help page
    notes    further sentences for the docstring
    none     the meaning of None; empty if None is not valid
    aliases  earlier names, still accepted; the first is the name in manifests
    flag     the option's name if it differs, or both names of a switch, such as lowercase/keep-case
    metavar  of the option, if it differs from that of its type
    section  of the help page
    run      a parameter of one run, not saved with the model
    """

    name: str = ""
    type: str = ""
    default: Any
    check: Check
    help: str
    notes: str = ""
    none: str = ""
    aliases: tuple[str, ...] = ()
    flag: str = ""
    metavar: str = ""
    section: str = "Model"
    run: bool = False

    @property
    def stored(self) -> str:
        """The name in manifests."""
        return self.aliases[0] if self.aliases else self.name

    def validate(self, value: Any) -> Any:
        """The value as a plain Python value. Raises SettingsError if it is not valid."""
        return None if value is None and self.none else self.check(self.name, value)

    def documented(self) -> str:
        """The entry in the section "Parameters" of a docstring."""
        kind = self.type.replace('"', "")
        if isinstance(self.check, Choice):
            kind = "{" + ", ".join(map(repr, self.check.names)) + "}"
        default = getattr(self.default, "__name__", None) or repr(self.default)
        none = f"None: {self.none}." if self.none else ""
        text = " ".join(filter(None, (self.help, self.notes, none)))
        return f"{self.name} : {kind}, default {default}\n    {text}"


def parameter(*, default: Any, **more: Any) -> Any:
    """Declare a parameter of an estimator or a dataclass; `more` are fields of Parameter."""
    made = Parameter(default=default, **more)
    return dataclasses.field(default=default, metadata={"parameter": made})


def declared_by(kind: type[Any], name: str, **changes: Any) -> Any:
    """Declare a parameter as a dataclass declares it; `changes` are fields of Parameter."""
    found = dataclasses.replace(parameters_of(kind)[name], **changes)
    return dataclasses.field(default=found.default, metadata={"parameter": found})


def parameters_of(kind: type[Any]) -> dict[str, Parameter]:
    """{name: declaration} of an estimator or a dataclass, own ones before inherited ones."""
    found: dict[str, Parameter] | None = getattr(kind, "_parameters", None)
    if found is not None:
        return found
    return {
        field.name: dataclasses.replace(
            field.metadata["parameter"], name=field.name, type=str(field.type)
        )
        for field in dataclasses.fields(kind)
        if "parameter" in field.metadata
    }


def valid_parameters(given: Any) -> dict[str, Any]:
    """The parameters of an estimator or a dataclass as plain Python values. Raises SettingsError
    if one is not valid."""
    declared = parameters_of(type(given))
    return {name: each.validate(getattr(given, name)) for name, each in declared.items()}


def documented(text: str, parameters: Iterable[Parameter]) -> str:
    """The docstring with a section "Parameters", before "Attributes" if it has that."""
    entries = "\n".join(each.documented() for each in parameters)
    head, line, tail = inspect.cleandoc(text).partition("\nAttributes\n")
    rest = f"{line}{tail}" if line else ""
    return f"{head.rstrip()}\n\nParameters\n----------\n{entries}\n{rest}"


def describe_parameters(kind: type[T]) -> type[T]:
    """Class decorator that adds the section "Parameters" to a dataclass's docstring."""
    if kind.__doc__:
        kind.__doc__ = documented(kind.__doc__, parameters_of(kind).values())
    return kind


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(parameter,))
class BaseEstimator(Generic[S]):
    """Parameters by name, following scikit-learn's conventions: the constructor stores them, and
    `fit` checks them."""

    estimator_type: ClassVar[str | None] = None  # "classifier", "regressor"
    _parameters: ClassVar[dict[str, Parameter]] = {}

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        own = dict(vars(cls))
        types = own.get("__annotations__") or inspect.get_annotations(cls)
        found = {
            name: dataclasses.replace(field.metadata["parameter"], name=name, type=str(types[name]))
            for name, field in own.items()
            if isinstance(field, dataclasses.Field)
        }
        for base in cls.__mro__[1:]:
            for name, declared in vars(base).get("_parameters", {}).items():
                found.setdefault(name, declared)
        for name, declared in found.items():
            if name in types and not isinstance(own.get(name), dataclasses.Field):
                declared = found[name] = dataclasses.replace(declared, default=own[name])
            setattr(cls, name, declared.default)
            for alias in declared.aliases:
                setattr(cls, alias, _alias(name))
        cls._parameters = found
        only = inspect.Parameter.KEYWORD_ONLY
        cls.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(name, only, default=each.default, annotation=each.type)
                for name, each in found.items()
            ]
        )
        if own.get("__doc__"):
            cls.__doc__ = documented(own["__doc__"], found.values())

    def __init__(self, **params: Any) -> None:
        given = self._resolved(params)
        for name, declared in self._parameters.items():
            setattr(self, name, given.get(name, declared.default))
        self._given = set(given)
        self._learned: Any = None

    @classmethod
    def _resolved(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters under their names. Raises SettingsError if one is unknown or given twice."""
        names = {alias: name for name, p in cls._parameters.items() for alias in p.aliases}
        given: dict[str, Any] = {}
        for key, value in params.items():
            name = names.get(key, key)
            if name not in cls._parameters:
                raise SettingsError(
                    f"{cls.__name__} has no parameter {key!r}; it has {', '.join(cls._parameters)}"
                )
            if name in given:
                raise SettingsError(f"{key} is another name of {name}: give one of them")
            given[name] = value
        return given

    @property
    def learned(self) -> S:
        """The fitted state. Raises NotFittedError before `fit`."""
        if self._learned is None:
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit first")
        state: S = self._learned
        return state

    # ---- scikit-learn's protocol

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name. `deep` is ignored."""
        return {name: getattr(self, name) for name in self._parameters}

    def set_params(self, **params: Any) -> Self:
        """Change parameters by name, for the next `fit`.

        Raises SettingsError for an unknown parameter; nothing is changed then.
        """
        for name, value in self._resolved(params).items():
            setattr(self, name, value)
            self._given.add(name)
        return self

    def __repr__(self) -> str:
        shown = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not (default := self._parameters[name].default) and value != default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __sklearn_is_fitted__(self) -> bool:
        return self._learned is not None

    def __sklearn_tags__(self) -> Any:
        """Called only by scikit-learn."""
        from sklearn import utils  # type: ignore[import-untyped,unused-ignore]

        kind = self.estimator_type
        return utils.Tags(
            estimator_type=kind,
            target_tags=utils.TargetTags(required=kind is not None),
            transformer_tags=utils.TransformerTags() if hasattr(self, "transform") else None,
            classifier_tags=utils.ClassifierTags() if kind == "classifier" else None,
            input_tags=utils.InputTags(two_d_array=False, string=True),
        )

    # ---- checking and saving

    def check(self) -> None:
        """Raise SettingsError if a parameter is out of its range."""
        valid_parameters(self)
        self._check()

    def _check(self) -> None:
        """Raise SettingsError if parameters contradict each other."""

    def is_given(self, name: str) -> bool:
        """Whether a parameter was set, even to its default."""
        value = getattr(self, name)
        return name in self._given or value is not self._parameters[name].default

    def snapshot(self) -> Self:
        """An unfitted copy."""
        given = {name: getattr(self, name) for name in self._parameters if self.is_given(name)}
        return type(self)(**copy.deepcopy(given))

    __sklearn_clone__ = snapshot

    def settings(self) -> dict[str, Any]:
        """The parameters of the model as JSON, under their names in manifests."""
        return {
            declared.stored: plain(getattr(self, name))
            for name, declared in self._parameters.items()
            if not declared.run
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], **run: Any) -> Self:
        """An estimator with the parameters of `settings()`, of this or an earlier version, and the
        given parameters of a run.

        Raises SettingsError for unknown parameters, FormatError for an object that cannot be
        restored.
        """
        known = {each for name, p in cls._parameters.items() for each in (name, *p.aliases)}
        unknown = sorted(settings.keys() - known)
        if unknown:
            raise SettingsError(
                f"settings that this version of fastseq does not know: {', '.join(unknown)}"
            )
        given = cls._resolved(settings)
        for name, value in given.items():
            check = cls._parameters[name].check
            if isinstance(check, Instance) and value is not None:
                given[name] = check.kind.from_dict(value)
        return cls(**given | run)


def _alias(name: str) -> property:
    return property(
        lambda self: getattr(self, name), lambda self, value: setattr(self, name, value),
        doc=f"Another name of {name}.",
    )  # fmt: skip


def plain(value: Any) -> Any:
    """A value as JSON."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value.to_dict() if hasattr(value, "to_dict") else value
