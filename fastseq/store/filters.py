"""Filters over stored columns, as text.

year >= 2000 and lang in ('en', 'de') and title like '%war%' and tags has 'x' and not draft

    filter      = and-filter ("or" and-filter)*
    and-filter  = not-filter ("and" not-filter)*
    not-filter  = "not" not-filter | "(" filter ")" | predicate
    predicate   = column
                | column ("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=") literal
                | column ["not"] "in" "(" literal ("," literal)* ")"
                | column ["not"] "between" literal "and" literal
                | column ["not"] "like" string
                | column ["not"] "has" literal
                | column "is" ["not"] "null"
    column      = a name, or one in double quotes; doc.year is a field of a struct
    literal     = number | string | "true" | "false" | "null"

Keywords are those of SQL, in any case, and so are nulls: a comparison with a null is null, `and`,
`or` and `not` are Kleene's, and a row passes where the filter is true. A string is in single quotes
(two for one inside), and stands for a date, time or timestamp where the column is one. Integers and
decimals are compared exactly, floats with the nearest of their type. In `like`, % stands for any
characters, _ for one, and \\ makes the next plain. `has` looks for an element in a list; elements
that are null are not equal to it.
"""

from __future__ import annotations

import datetime
import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from functools import reduce
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastseq.errors import DataError, SettingsError, quoted
from fastseq.store.arrays import (
    element_type,
    list_offsets,
    number_array,
    string_scalar,
)
from fastseq.store.documents import StoredDocuments
from fastseq.store.files import reason
from fastseq.store.nested import column_at, field_at, no_column, top_level
from fastseq.threads import Team

Literal = Decimal | str | bool | None

# pa.scalar, pa.array, a Python value as an argument of a function and to_numpy would import an
# installed pandas, which takes 0.3 s
_NO, _YES = number_array([0, 1], np.uint8).cast(pa.bool_())
_UNKNOWN = pa.nulls(1, pa.bool_())[0]

_MOST_DIGITS = 100  # more than any integer or decimal of Arrow has
_EXACT = Context(prec=1000)
_DEEPEST = 200  # nested parentheses and "not"
_COMPARISONS: dict[str, tuple[Any, Callable[[Any, Any], bool]]] = {
    "=": (pc.equal, operator.eq), "!=": (pc.not_equal, operator.ne),
    "<": (pc.less, operator.lt), "<=": (pc.less_equal, operator.le),
    ">": (pc.greater, operator.gt), ">=": (pc.greater_equal, operator.ge),
}  # fmt: skip
_SAME = {"==": "=", "<>": "!="}
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")+")
    | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?(?![\w.]))
    | (?P<word>[^\W\d]\w*(?:\.\w+)*)
    | (?P<sign><=|>=|<>|!=|==|[=<>(),])
    | (?P<end>$)
    | (?P<other>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_QUOTES = {"'": "string", '"': "column name"}
_NO_FIELD = re.compile(r"No match for FieldRef\.Name\((.*?)\) in ", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_KEYWORDS = frozenset(
    ("and", "or", "not", "in", "between", "like", "has", "is", "null", "true", "false")
)


class Filter(ABC):
    """A condition on the columns of a row."""

    @abstractmethod
    def columns(self) -> Iterator[str]:
        """The paths of its columns, repeated where they are."""

    @abstractmethod
    def of(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """True, false or null for each row."""

    def mask(self, rows: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """bool[rows]: where the filter is true. Raises DataError where a column cannot be compared
        as the filter does."""
        try:
            return _where(self.of(rows))
        except DataError as error:
            raise DataError(f"filter: {error}") from error


@dataclass(frozen=True)
class _All(Filter):
    """All of several conditions, or any of them."""

    parts: tuple[Filter, ...]
    every: bool

    def columns(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.columns()

    def of(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        join = pc.and_kleene if self.every else pc.or_kleene
        return reduce(join, (part.of(rows) for part in self.parts))


@dataclass(frozen=True)
class _Not(Filter):
    part: Filter

    def columns(self) -> Iterator[str]:
        return self.part.columns()

    def of(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        return pc.invert(self.part.of(rows))


@dataclass(frozen=True)
class _Predicate(Filter):
    """A condition on one column.

    test : of the column's array and its name
    """

    column: str
    test: Callable[[pa.Array, str], pa.BooleanArray]

    def columns(self) -> Iterator[str]:
        yield self.column

    def of(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        array = column_at(rows, self.column)
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        return self.test(array, self.column)


# ---- predicates


def _where(array: pa.BooleanArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """bool[n]: where an array is true, neither false nor null."""
    numbers = pc.fill_null(array, _NO).cast(pa.uint8())
    buffer = numbers.buffers()[1]
    if not len(array) or buffer is None:
        return np.zeros(len(array), np.bool_)
    return np.frombuffer(buffer, np.bool_, len(array), numbers.offset).copy()


def _constant(array: pa.Array, value: bool) -> pa.BooleanArray:
    """The value, and null where the array is."""
    return pc.if_else(pc.is_valid(array), _YES if value else _NO, _UNKNOWN)


def _is_true(array: pa.Array, name: str) -> pa.BooleanArray:
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.bool_())
    if not pa.types.is_boolean(array.type):
        what = f"is {array.type}: only a boolean is a filter alone"
        raise DataError(f"the column {quoted(name)} {what}")
    return array


def compare(array: pa.Array, name: str, sign: str, literal: Literal) -> pa.BooleanArray:
    """Compare a column with a literal. Raises DataError, with the column's name, where they are of
    different types."""
    kind, types = array.type, pa.types
    if literal is None or types.is_null(kind):
        return pa.nulls(len(array), pa.bool_())
    if element_type(kind) is not None:
        raise DataError(
            f"the column {quoted(name)} is {kind}, a list: use has, as in {name:.80} has "
            f"{_shown(literal)}"
        )
    test, _ = _COMPARISONS[sign]
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        if not isinstance(literal, Decimal):
            _mismatch(name, kind, literal, "a number")
        return _compare_number(array, sign, literal)
    if types.is_boolean(kind):
        if not isinstance(literal, bool):
            _mismatch(name, kind, literal, "true or false")
        return test(array.cast(pa.uint8()), number_array([literal], np.uint8)[0])
    if not isinstance(literal, str):
        _mismatch(name, kind, literal, "a string")
    if types.is_string(kind):
        return test(array, string_scalar(literal, kind))
    if types.is_large_string(kind) or types.is_string_view(kind):
        return test(array.cast(pa.large_string()), string_scalar(literal, pa.large_string()))
    if types.is_temporal(kind) and not types.is_duration(kind) and not types.is_interval(kind):
        return test(*moments(array, name, literal))
    raise DataError(f"the column {quoted(name)} is {kind}, which a filter cannot compare")


def _compare_number(array: pa.Array, sign: str, literal: Decimal) -> pa.BooleanArray:
    test, between = _COMPARISONS[sign]
    kind = array.type
    if pa.types.is_floating(kind):
        # a literal is the nearest number of the column's type: 0.1 is equal to float32(0.1)
        with np.errstate(over="ignore"):
            nearest = np.dtype(kind.to_pandas_dtype()).type(float(literal))
        return test(array.cast(pa.float64()), number_array([nearest], np.float64)[0])
    if literal.adjusted() > _MOST_DIGITS:
        return _constant(array, between(0, 1 if literal > 0 else -1))
    scale = kind.scale if pa.types.is_decimal(kind) else 0
    step = Decimal(1).scaleb(-scale)
    below = literal.quantize(step, ROUND_FLOOR, _EXACT)
    if below != literal:
        if sign in ("=", "!="):
            return _constant(array, sign == "!=")
        sign = ">" if sign in (">", ">=") else "<="
        test, between = _COMPARISONS[sign]
    try:
        if pa.types.is_decimal(kind):
            value = pa.scalar(below, kind)
        else:
            dtype = np.dtype(kind.to_pandas_dtype())
            limits = np.iinfo(dtype)
            if not limits.min <= below <= limits.max:
                raise OverflowError
            value = number_array([int(below)], dtype)[0]
    except (pa.ArrowException, OverflowError, ValueError):
        # outside the type's range: on the same side of every value
        return _constant(array, between(0, 1 if below > 0 else -1))
    return test(array, value)


def moments(array: pa.Array, name: str, literal: str) -> tuple[pa.Array, pa.Scalar]:
    """A column of dates, times or timestamps and a literal, in one type. Raises DataError for a
    literal that is none."""
    kind = array.type
    try:
        if pa.types.is_time(kind):
            moment: Any = datetime.time.fromisoformat(literal)
            return array.cast(pa.time64("ns")), pa.scalar(moment, pa.time64("ns"))
        moment = datetime.datetime.fromisoformat(literal)
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        if zone is None and moment.tzinfo is not None:
            raise ValueError
        if zone is not None:
            moment = moment.replace(tzinfo=moment.tzinfo or datetime.UTC)
        # the literal has microseconds; a cast would lose the nanoseconds of the column
        unit = kind.unit if pa.types.is_timestamp(kind) and kind.unit == "ns" else "us"
        common = pa.timestamp(unit, zone)
        return array.cast(common), pa.scalar(moment, common)
    except (ValueError, OverflowError, pa.ArrowException):
        _mismatch(name, kind, literal, "a string such as '2001-12-31' or '2001-12-31T23:59:59'")


def _mismatch(name: str, kind: pa.DataType, literal: Literal, expected: str) -> NoReturn:
    raise DataError(
        f"the column {quoted(name)} is {kind} and is compared with {_shown(literal)}; expected "
        f"{expected}"
    )


def _shown(literal: Literal) -> str:
    return quoted(literal) if isinstance(literal, str) else f"{str(literal).lower():.80}"


def _is_in(array: pa.Array, name: str, literals: tuple[Literal, ...]) -> pa.BooleanArray:
    return reduce(pc.or_kleene, (compare(array, name, "=", literal) for literal in literals))


def _like(array: pa.Array, name: str, pattern: str) -> pa.BooleanArray:
    kind, types = array.type, pa.types
    if types.is_null(kind):
        return pa.nulls(len(array), pa.bool_())
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise DataError(f"the column {quoted(name)} is {kind}; like requires text")
    return pc.match_like(array.cast(pa.large_string()), pattern)


def _has(array: pa.Array, name: str, literal: Literal) -> pa.BooleanArray:
    kind, types = array.type, pa.types
    if types.is_null(kind):
        return pa.nulls(len(array), pa.bool_())
    if types.is_fixed_size_list(kind):
        array = array.cast(pa.large_list(kind.value_field))
    elif not (types.is_list(kind) or types.is_large_list(kind)):
        raise DataError(f"the column {quoted(name)} is {kind}; has requires a list")
    if literal is None:
        return pa.nulls(len(array), pa.bool_())
    elements = array.flatten()
    if types.is_dictionary(elements.type):
        elements = elements.dictionary_decode()
    if element_type(elements.type) is not None:
        raise DataError(f"the column {quoted(name)} is {kind}, which a filter cannot compare")
    before = np.zeros(len(elements) + 1, np.int32)  # the equal ones before each element
    np.cumsum(_where(compare(elements, name, "=", literal)), out=before[1:])
    at_ends = before[list_offsets(array)]
    known = number_array(at_ends[1:] > at_ends[:-1], np.uint8).cast(pa.bool_())
    return pc.if_else(pc.is_valid(array), known, _UNKNOWN)


# ---- text


def parse_filter(text: str) -> Filter:
    """The filter of a text. Raises SettingsError for one that is not in the language."""
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self._kind, self._value, self._at, self._next = "", "", 0, 0
        self._advance()

    def whole(self) -> Filter:
        found = self._either()
        if self._kind != "end":
            self._fail("and, or or the end")
        return found

    def _advance(self) -> None:
        match = _TOKEN.match(self._text, self._next)
        assert match is not None
        assert match.lastgroup is not None
        self._kind, self._value = match.lastgroup, match[match.lastgroup]
        self._at, self._next = match.start(match.lastgroup), match.end()
        if self._kind == "word" and self._value.lower() in _KEYWORDS:
            self._kind, self._value = "keyword", self._value.lower()

    def _takes(self, *values: str) -> bool:
        """Whether the next token is a keyword or sign of these, which is then passed."""
        if self._kind not in ("keyword", "sign") or self._value not in values:
            return False
        self._advance()
        return True

    def _fail(self, expected: str) -> NoReturn:
        if self._kind == "other" and self._value in _QUOTES and self._is_open():
            what = f"{_QUOTES[self._value]} at character {self._at + 1}"
            raise SettingsError(f"filter: the {what} lacks its closing quote")
        found = "its end" if self._kind == "end" else repr(self._value[:40])
        raise SettingsError(f"filter: expected {expected} at character {self._at + 1}, not {found}")

    def _is_open(self) -> bool:
        """Whether no other quote follows that at the current character."""
        return self._value not in self._text[self._at + 1 :]

    def _either(self) -> Filter:
        parts = [self._both()]
        while self._takes("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else _All(tuple(parts), every=False)

    def _both(self) -> Filter:
        parts = [self._one()]
        while self._takes("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else _All(tuple(parts), every=True)

    def _one(self) -> Filter:
        self._depth += 1
        if self._depth > _DEEPEST:
            nested = f"parentheses and 'not' are nested more than {_DEEPEST} deep"
            raise SettingsError(f"filter: {nested}")
        if self._takes("not"):
            found: Filter = _Not(self._one())
        elif self._takes("("):
            found = self._either()
            if not self._takes(")"):
                self._fail("a closing parenthesis")
        else:
            found = self._predicate()
        self._depth -= 1
        return found

    def _predicate(self) -> Filter:
        column = self._column()
        if self._takes("is"):
            is_null = not self._takes("not")
            if not self._takes("null"):
                self._fail("null")
            null = pc.is_null if is_null else pc.is_valid
            return _Predicate(column, lambda array, name: null(array))
        if self._kind == "sign" and _SAME.get(self._value, self._value) in _COMPARISONS:
            sign = _SAME.get(self._value, self._value)
            self._advance()
            literal = self._literal()
            return _Predicate(column, lambda array, name: compare(array, name, sign, literal))
        negated = self._takes("not")
        found = self._word_predicate(column)
        if found is None:
            if negated:
                self._fail("in, between, like or has")
            return _Predicate(column, _is_true)
        return _Not(found) if negated else found

    def _word_predicate(self, column: str) -> Filter | None:
        if self._takes("in"):
            if not self._takes("("):
                self._fail("a list in parentheses")
            literals = [self._literal()]
            while self._takes(","):
                literals.append(self._literal())
            if not self._takes(")"):
                self._fail("a comma or a closing parenthesis")
            several = tuple(literals)
            return _Predicate(column, lambda array, name: _is_in(array, name, several))
        if self._takes("between"):
            low = self._literal()
            if not self._takes("and"):
                self._fail("and")
            high = self._literal()
            return _All((
                _Predicate(column, lambda array, name: compare(array, name, ">=", low)),
                _Predicate(column, lambda array, name: compare(array, name, "<=", high)),
            ), every=True)  # fmt: skip
        if self._takes("like"):
            pattern = self._literal() if self._kind == "string" else self._fail("a string")
            assert isinstance(pattern, str)
            return _Predicate(column, lambda array, name: _like(array, name, pattern))
        if self._takes("has"):
            element = self._literal()
            return _Predicate(column, lambda array, name: _has(array, name, element))
        return None

    def _column(self) -> str:
        value = self._value
        if self._kind == "quoted":
            value = value[1:-1].replace('""', '"')
        elif self._kind != "word":
            self._fail("a column")
        self._advance()
        return value

    def _literal(self) -> Literal:
        kind, value = self._kind, self._value
        if kind == "string":
            literal: Literal = value[1:-1].replace("''", "'")
        elif kind == "number":
            literal = Decimal(value)
        elif kind == "keyword" and value in ("true", "false", "null"):
            literal = None if value == "null" else value == "true"
        else:
            self._fail("a number, a string in single quotes, true, false or null")
        self._advance()
        return literal


def comparison(schema: pa.Schema, column: str, sign: str, value: Any) -> str:
    """The text of a filter that compares a column with a Python value; a list column has it.

    value : a string stands for a number or a boolean where the column has these

    Raises DataError for a value that no filter can be compared with.
    """
    field = field_at(schema, column)
    assert field is not None
    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if sign == "=" and (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        sign, kind = "has", kind.value_type
    name = '"' + column.replace('"', '""') + '"'
    return f"{name} {sign} {_literal_of(column, kind, value)}"


def _literal_of(column: str, kind: pa.DataType, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        is_number = _NUMBER.fullmatch(value) is not None
        if is_number and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            return value
        if is_number and pa.types.is_decimal(kind):
            return value
        if pa.types.is_boolean(kind) and value.lower() in ("true", "false"):
            return value.lower()
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime.date | datetime.time):
        return f"'{value.isoformat()}'"
    text = str(value)
    if isinstance(value, int | float | Decimal) and _NUMBER.fullmatch(text):
        return text
    raise DataError(f"filter: the column {quoted(column)} cannot be compared with {value!r:.80}")


class _Expression(Filter):
    """An expression of pyarrow over some columns."""

    def __init__(self, expression: pc.Expression, names: Sequence[str]) -> None:
        self._expression, self._names = expression, names

    def columns(self) -> Iterator[str]:
        yield from self._names

    def of(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        import pyarrow.dataset as ds  # slow to import

        found = ds.dataset(pa.table(rows)).to_table(columns={"passes": self._expression})
        passes = found.column(0).combine_chunks()
        if not pa.types.is_boolean(passes.type):
            raise DataError(f"the expression is {passes.type}, not a boolean")
        return passes


def as_filter(given: Any, schema: pa.Schema) -> Filter:
    """A filter of the columns of a schema: its text, or an expression of pyarrow.

    Raises SettingsError for text that is not a filter and for another type, DataError for a column
    that the schema lacks, or that is compared with a literal of another type.
    """
    if isinstance(given, pc.Expression):
        return _Expression(given, schema.names)
    if not isinstance(given, str):
        raise SettingsError(
            "filter must be text such as 'year >= 2000', a pyarrow expression or an array of "
            f"bool, not {given!r:.80}"
        )
    found = parse_filter(given)
    for path in found.columns():
        if field_at(schema, path) is None:
            raise DataError(f"filter: {no_column(schema, path)}")
    # for types that cannot be compared; from_pylist would import an installed pandas, for 0.3 s
    none = [pa.nulls(0, field.type) for field in schema]
    found.mask(pa.RecordBatch.from_arrays(none, schema=schema))
    return found


def passing(
    filter: Filter, documents: Sequence[StoredDocuments | None], threads: int = 1
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """bool[rows]: the stored documents of several files, one after the other, for which a filter is
    true. Raises DataError where it cannot be applied to a column, or nothing is stored; FormatError
    for a damaged file."""
    parts: list[tuple[StoredDocuments, list[str], int, int, int]] = []
    before = 0
    for stored in documents:
        if stored is None:
            raise DataError("filter: the index has no stored columns")
        names = top_level(stored.schema, list(filter.columns()))
        parts += [(stored, names, before, first, stop) for first, stop in stored.spans(names)]
        before += stored.num_rows
    found = np.zeros(before, np.bool_)

    def work(number: int) -> None:
        stored, names, before, first, stop = parts[number]
        at = before + first
        for rows in stored.rows(first, stop, names):
            found[at : at + len(rows)] = _mask(filter, rows, stored.schema)
            at += len(rows)

    Team(threads).run(work, len(parts))
    return found


def _mask(
    filter: Filter, rows: pa.RecordBatch, schema: pa.Schema
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """`Filter.mask` of rows of a schema, which may have more columns."""
    try:
        return filter.mask(rows)
    except pa.ArrowException as error:
        lacking = _NO_FIELD.search(str(error))
        problem = no_column(schema, lacking[1]) if lacking else reason(error)
        raise DataError(f"filter: {problem}") from error
