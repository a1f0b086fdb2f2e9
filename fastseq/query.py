"""Queries as values.

    from fastseq.query import Boolean, Phrase, Prefix, Term
    Boolean(must=["cat", Phrase("black cat", slop=2)], must_not=[Prefix("dog")])
    Term("black") & Term("cat") & ~Term("dog")

A query is immutable, hashable and comparable. `field` names a text field; None is the text of the
index. Within another query a string is a Term, and lists become tuples. A wrong value raises
SettingsError. Queries are nested at most 200 deep, which bounds every recursion over them.

`str(query)` is the query in the syntax of search/syntax.py, Lucene's, where that can express it:
parsing the text gives an equal query, where numbers and dates of a Range are their text, which
stands for a value of the column's type. Otherwise it is the repr.
"""

from __future__ import annotations

import datetime
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fastseq.errors import SettingsError, quoted
from fastseq.settings import flag, real, string, strings, whole

MAX_DEPTH = 200  # queries in each other
MAX_NODES = 1_000_000  # queries in a nested query, a shared one counted where it occurs
_SHALLOW = 20  # a depth to which recursion is cheap
MAX_SCORE = 1e20  # of a boost and of a constant score
MAX_EDITS = 2  # of a fuzzy word

Bound = str | int | float | bool | datetime.date | Decimal | None
_Parts = list["str | Query"]


class Query:
    """Base of all queries: equality, hashes, operators and text, none of them recursive.

    `a & b` matches where both do, `a | b` where either does, `~a` where a does not, with score 0.
    """

    __slots__ = ("_hash",)
    _hash: int
    __match_args__: tuple[str, ...] = ()
    _depth = 1
    _nodes = 1

    def children(self) -> tuple[Query, ...]:
        """The queries of which this one consists."""
        return ()

    @property
    def depth(self) -> int:
        """The number of queries in each other: 1 for a query without others."""
        return self._depth

    @property
    def nodes(self) -> int:
        """The number of queries that `walk` yields."""
        return self._nodes

    def _key(self) -> tuple[Any, ...]:
        """What this query and an equal one have in common, apart from the children."""
        return tuple(getattr(self, name) for name in self.__match_args__)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Query):
            return NotImplemented
        waiting: list[tuple[Query, Query]] = [(self, other)]
        while waiting:
            left, right = waiting.pop()
            if left is right:
                continue
            if type(left) is not type(right) or left._key() != right._key():
                return False
            waiting += zip(left.children(), right.children(), strict=True)
        return True

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            pass
        deep = self._depth > _SHALLOW
        for query in reversed(list(walk(self))) if deep else (self,):  # children come first
            if not hasattr(query, "_hash"):
                found = hash((type(query).__name__, query._key(), query.children()))
                object.__setattr__(query, "_hash", found)
        return self._hash

    def __reduce__(self) -> Any:
        return type(self), tuple(getattr(self, name) for name in self.__match_args__)

    def __copy__(self) -> Query:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Query:
        return self

    def __or__(self, other: Query | str) -> Query:
        both = [_as_query("a query", part) for part in (self, other)]
        alternatives = [_alternatives(part) for part in both]
        return Boolean(should=alternatives[0] + alternatives[1])

    def __ror__(self, other: str) -> Query:
        return _as_query("a query", other) | self

    def __and__(self, other: Query | str) -> Query:
        left, right = (_conjunction(_as_query("a query", part)) for part in (self, other))
        must = left.must + right.must
        filter = tuple(part for part in left.filter + right.filter if part != All())
        if not must and not filter:
            filter = (All(),)
        return Boolean(must=must, must_not=left.must_not + right.must_not, filter=filter)

    def __rand__(self, other: str) -> Query:
        return _as_query("a query", other) & self

    def __invert__(self) -> Query:
        return Boolean(must_not=(self,), filter=(All(),))

    def __repr__(self) -> str:
        return _joined(self, lambda query: query._repr_parts())

    def __str__(self) -> str:
        if isinstance(self, Term) and self.field is None and is_plain(self.text):
            return self.text
        if any(query._text_parts() is None for query in walk(self)):
            return repr(self)
        text = _joined(self, lambda query: query._text_parts() or [])
        if isinstance(self, Wildcard) and self.field is None and text.rstrip("!").endswith("?"):
            return f"({text})"  # without an operator it is a question
        return text

    def _repr_parts(self) -> _Parts:
        """The arguments that are not the defaults, by name after an optional one."""
        parts: _Parts = [f"{type(self).__name__}("]
        by_name = isinstance(self, Boolean)
        for name, field in self.__dataclass_fields__.items():  # type: ignore[attr-defined]
            value = getattr(self, name)
            if value == field.default:
                by_name = True
                continue
            parts += [", "] if len(parts) > 1 else []
            parts += [f"{name}="] if by_name else []
            if isinstance(value, Query):
                parts.append(value)
            elif isinstance(value, tuple) and any(isinstance(part, Query) for part in value):
                parts.append("(")
                for part in value:
                    parts += [part, ", "]
                parts[-1] = ",)" if len(value) == 1 else ")"
            else:
                parts.append(repr(value))
        return [*parts, ")"]

    def _text_parts(self) -> _Parts | None:
        """The query in the text syntax, its children for their text; None where it has none."""
        return None


def walk(query: Query) -> Iterator[Query]:
    """The query and all queries in it, each before those of which it consists."""
    waiting = [query]
    while waiting:
        found = waiting.pop()
        yield found
        waiting += reversed(found.children())


def _joined(query: Query, parts: Callable[[Query], _Parts]) -> str:
    """The text of a query of which `parts` gives text and other queries."""
    found: list[str] = []
    waiting: _Parts = [query]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            found.append(part)
        else:
            waiting += reversed(parts(part))
    return "".join(found)


# ---- validation


def _as_query(name: str, value: Any) -> Query:
    if isinstance(value, Query):
        return value
    if isinstance(value, str):
        return Term(value)
    raise SettingsError(f"{name} must be a query or a string, not {quoted(value)}")


def _as_queries(name: str, value: Any) -> tuple[Query, ...]:
    if isinstance(value, tuple):
        for part in value:
            if not isinstance(part, Query):
                break
        else:
            return value
    if isinstance(value, Query | str):
        return (_as_query(name, value),)
    if not isinstance(value, Iterable) or isinstance(value, bytes | bytearray | Mapping):
        raise SettingsError(f"{name} must be queries or strings, not {quoted(value)}")
    return tuple(
        [part if isinstance(part, Query) else _as_query(f"each of {name}", part) for part in value]
    )


def _alternatives(query: Query) -> tuple[Query, ...]:
    """Queries of which any must match, and whose scores add up, as for this query."""
    if not isinstance(query, Boolean) or query.must or query.must_not or query.filter:
        return (query,)
    return (query,) if query.minimum_should_match or not query.should else query.should


def _conjunction(query: Query) -> Boolean:
    """The query as a Boolean without optional clauses."""
    if not isinstance(query, Boolean) or query.should or query.minimum_should_match:
        return Boolean(must=(query,))
    return query if query.must or query.filter else Boolean(must=(query,))


def _check_text(name: str, text: Any, field: Any) -> None:
    string(name, text)
    if field is not None:
        string("field", field)


def _set(query: Query, /, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(query, name, value)


def _several_texts(value: Any) -> tuple[str, ...]:
    texts = tuple(strings("texts", value))
    if not texts:
        raise SettingsError("texts must have at least one text")
    return texts


def _score(name: str, value: Any) -> float:
    wanted = f"a number from 0 to {MAX_SCORE:g}"
    return real(name, value, lambda number: 0 <= number <= MAX_SCORE, wanted)


def _edits(value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or number not in (0, 1, 2):
        raise SettingsError(f"max_edits must be 0, 1 or 2, not {quoted(value)}")
    return number


def _bound(name: str, value: Any) -> Bound:
    """The bound, NumPy's integers as int."""
    if isinstance(value, str):
        return string(name, value)
    if value is None or isinstance(value, bool | int | datetime.date):
        return value
    if isinstance(value, float):
        if not math.isnan(value):
            return float(value)
    elif isinstance(value, Decimal):
        if not value.is_nan():
            return value
    elif not isinstance(value, Iterable):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise SettingsError(
        f"{name} must be a string, a number, True or False, a date, a datetime or None, "
        f"not {quoted(value)}"
    )


def _bound_text(bound: str | float | datetime.date | Decimal) -> str | None:
    """The text that stands for a bound; None for an infinite number."""
    if isinstance(bound, datetime.date):
        return bound.isoformat()
    if isinstance(bound, bool):
        return str(bound).lower()
    if isinstance(bound, float | Decimal) and math.isinf(bound):
        return None
    return str(bound)


# ---- the text syntax

# characters that are part of a word anywhere: a text of them alone is plain but for - and AND
_ORDINARY = re.compile(r"""[^+\-!():^\[\]"{}~*?\\/&|AON]*""")
_OPERATOR = re.compile(
    r"""[+!():^\[\]"{}~*?\\/&|] | (?<!\S)- | (?<!\S)(?:AND|OR|NOT)(?!\S)""", re.VERBOSE
)
_SPECIAL = re.compile(r"""[\s():^\[\]"{}~*?\\]""")
_SPECIAL_FIRST = frozenset("+-!/<>")
OPERATOR_WORDS = frozenset(("AND", "OR", "NOT", "&&", "||"))
_SIMPLE_BOUND = re.compile(r"[\w.+:-]+")
_PATTERN = re.compile(r"\\[*?\\]|[^\\]", re.DOTALL)
_REGEX = re.compile(r"(?!\s)(?:[^\\]|\\[^/])+", re.DOTALL)


def is_plain(text: str) -> bool:
    """Whether a text surely has no operator of the text syntax."""
    return _ORDINARY.fullmatch(text) is not None or _OPERATOR.search(text) is None


def _escaped(text: str) -> str:
    """A text as one word of the text syntax, with backslashes before its operators."""
    if text in OPERATOR_WORDS or text[:1] in _SPECIAL_FIRST:
        return f"\\{text[0]}{_SPECIAL.sub(_with_backslash, text[1:])}"
    return _SPECIAL.sub(_with_backslash, text)


def _with_backslash(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def _quoted_text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _in_field(field: str | None, text: str) -> _Parts | None:
    """`field:text`; None for an empty text or name."""
    if not text or field == "":
        return None
    return [text if field is None else f"{_escaped(field)}:{text}"]


# ---- words


# Batches have thousands of Terms and Booleans: with an __init__ of their own they are made in .6 of
# the time of a frozen dataclass's, which looks up each attribute by its name.


def _setters(kind: type[Query], *names: str) -> Iterator[Callable[[Query, Any], None]]:
    """Functions that set the attributes of a query."""
    return (getattr(kind, name).__set__ for name in names)


@dataclass(frozen=True, slots=True, eq=False, repr=False, init=False)
class Term(Query):
    """The words of a text, as the analyzer finds them; any of several."""

    text: str
    field: str | None = None

    def __init__(self, text: str, field: str | None = None) -> None:
        if field is not None or type(text) is not str or not text.isascii():
            _check_text("text", text, field)
        _set_text(self, text)
        _set_field(self, field)

    def _text_parts(self) -> _Parts | None:
        return _in_field(self.field, _escaped(self.text))


_set_text, _set_field = _setters(Term, "text", "field")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class IndexTerm(Query):
    """A term as the index has it: it is not analysed. What feedback adds to a query; the text
    syntax has none."""

    term: str
    field: str | None = None

    def __post_init__(self) -> None:
        _check_text("term", self.term, self.field)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Phrase(Query):
    """The words of a text in sequence, each at the position after the one before.

    In scripts that are indexed as bigrams (東京大学 is 東京, 京大, 大学), white space ends a run,
    as in Lucene's CJKAnalyzer: "東京大学" and "東京 大学", which has no 京大, match texts that are
    written so; "東京 大学" with a slop of 1 matches both. On a stored column a phrase is the whole
    value, and slop does not count.

    slop : the sum of moves of single words that a match may need, as in Lucene
    """

    text: str
    field: str | None = None
    slop: int = 0

    def __post_init__(self) -> None:
        _check_text("text", self.text, self.field)
        _set(self, slop=whole("slop", self.slop, 0))

    def _text_parts(self) -> _Parts | None:
        slop = f"~{self.slop}" if self.slop else ""
        text = _quoted_text(self.text) + slop if self.text.strip() else ""
        return _in_field(self.field, text)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Near(Query):
    """Words near each other.

    A text of several words is an error when it is searched for: combine several Near, or use a
    Phrase with a slop. A single character of a script that is indexed as bigrams stands for itself
    alone, where the text has it alone, and not for the bigrams with it, as in other queries: those
    that it begins and ends overlap, so the positions between words would not be their number.

    texts    : each one word
    distance : the most other positions among them
    in_order : whether they must occur in the order given
    """

    texts: tuple[str, ...]
    distance: int
    in_order: bool = False
    field: str | None = None

    def __post_init__(self) -> None:
        _check_text("field", "", self.field)
        _set(
            self,
            texts=_several_texts(self.texts),
            distance=whole("distance", self.distance, 0),
            in_order=flag("in_order", self.in_order),
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Synonyms(Query):
    """Texts scored as one term; a text of several words is a phrase."""

    texts: tuple[str, ...]
    field: str | None = None

    def __post_init__(self) -> None:
        _check_text("field", "", self.field)
        _set(self, texts=_several_texts(self.texts))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prefix(Query):
    """Words that begin with a text, as written."""

    text: str
    field: str | None = None

    def __post_init__(self) -> None:
        _check_text("text", self.text, self.field)

    def _text_parts(self) -> _Parts | None:
        return _in_field(self.field, f"{_escaped(self.text)}*" if self.text else "")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Wildcard(Query):
    """Words that match a pattern, as written: * stands for any characters, ? for one, and a
    backslash makes the next character plain."""

    pattern: str
    field: str | None = None

    def __post_init__(self) -> None:
        _check_text("pattern", self.pattern, self.field)

    def _text_parts(self) -> _Parts | None:
        """None where the parser gives the same words another value: without wildcards, as a prefix,
        or with needless backslashes; and where it takes them for punctuation."""
        parts = _PATTERN.findall(self.pattern)
        wild = [part in ("*", "?") for part in parts]
        words = any(part not in ("*", "?", "!") for part in parts)
        if not any(wild) or not words or "".join(parts) != self.pattern:
            return None
        if parts[-1] == "*" and sum(wild) == 1:
            return None
        first = "\\" if parts[0] in _SPECIAL_FIRST else ""
        text = (part if len(part) == 2 or is_wild else _SPECIAL.sub(_with_backslash, part)
                for part, is_wild in zip(parts, wild, strict=True))  # fmt: skip
        return _in_field(self.field, first + "".join(text))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Regex(Query):
    """Words that match a regular expression as a whole, as written."""

    pattern: str
    field: str | None = None

    def __post_init__(self) -> None:
        _check_text("pattern", self.pattern, self.field)

    def _text_parts(self) -> _Parts | None:
        if not _REGEX.fullmatch(self.pattern):
            return None
        return _in_field(self.field, "/" + self.pattern.replace("/", "\\/") + "/")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Fuzzy(Query):
    """Words within a number of edits of a text, as written.

    max_edits     : 0, 1 or 2 insertions, deletions, substitutions or transpositions of neighbours
    prefix_length : characters at the beginning that must be equal
    """

    text: str
    max_edits: int = MAX_EDITS
    prefix_length: int = 0
    field: str | None = None

    def __post_init__(self) -> None:
        _check_text("text", self.text, self.field)
        _set(
            self,
            max_edits=_edits(self.max_edits),
            prefix_length=whole("prefix_length", self.prefix_length, 0),
        )

    def _text_parts(self) -> _Parts | None:
        if self.prefix_length or not self.text:
            return None
        edits = "" if self.max_edits == MAX_EDITS else self.max_edits
        return _in_field(self.field, f"{_escaped(self.text)}~{edits}")


# ---- fields and columns


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Range(Query):
    """Documents whose column has a value, or whose field has a term, between two bounds.

    low, high : a string, which stands for a value of the column's type, a number, bool, date,
                datetime or Decimal; None for no bound
    """

    field: str
    low: Bound = None
    high: Bound = None
    include_low: bool = True
    include_high: bool = True

    def __post_init__(self) -> None:
        string("field", self.field)
        _set(
            self,
            low=_bound("low", self.low),
            high=_bound("high", self.high),
            include_low=flag("include_low", self.include_low),
            include_high=flag("include_high", self.include_high),
        )

    def _key(self) -> tuple[Any, ...]:
        """Bounds that are equal, but of different types, are compared in different ways."""
        types = type(self.low), type(self.high)
        return self.field, self.low, self.high, self.include_low, self.include_high, types

    def _text_parts(self) -> _Parts | None:
        bounds = []
        for bound in (self.low, self.high):
            if bound is None:
                bounds.append("*")
                continue
            text = _bound_text(bound)
            if text is None:
                return None
            simple = _SIMPLE_BOUND.fullmatch(text) and text != "TO"
            bounds.append(text if simple else _quoted_text(text))
        opening, closing = "{["[self.include_low], "}]"[self.include_high]
        return _in_field(self.field, f"{opening}{bounds[0]} TO {bounds[1]}{closing}")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Exists(Query):
    """Documents whose column is not null, or whose field has a term."""

    field: str

    def __post_init__(self) -> None:
        string("field", self.field)

    def _text_parts(self) -> _Parts | None:
        return _in_field(self.field, "*")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Filter(Query):
    """Documents that meet a condition on stored columns, with score 0.

    expression : the text of a filter, a pyarrow expression, or bool[rows]; the latter two are
                 compared by identity, and an array must not be modified
    """

    expression: Any

    def __post_init__(self) -> None:
        if isinstance(self.expression, str):
            string("expression", self.expression)
        elif self.expression is None or isinstance(self.expression, Query | bool | int | float):
            raise SettingsError(
                "expression must be the text of a filter, a pyarrow expression or an array of "
                f"bools, not {quoted(self.expression)}"
            )

    def _key(self) -> tuple[Any, ...]:
        by_value = isinstance(self.expression, str)
        return (self.expression,) if by_value else (type(self.expression), id(self.expression))

    def _repr_parts(self) -> _Parts:
        return [f"Filter({quoted(self.expression)})"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class All(Query):
    """All documents."""

    def _text_parts(self) -> _Parts | None:
        return ["*:*"]


# ---- queries of other queries


class _Composite(Query):
    """A query with a depth and a number of nodes of its own."""

    __slots__ = ("_depth", "_nodes")

    def _measure(self, children: tuple[Query, ...]) -> None:
        """Set both. Raises SettingsError above the limits."""
        depth = nodes = 1
        for child in children:
            nodes += child._nodes
            if child._depth >= depth:
                depth = child._depth + 1
        if depth > MAX_DEPTH:
            raise SettingsError(f"a query may be nested at most {MAX_DEPTH} deep")
        if depth > 2 and nodes > MAX_NODES:
            raise SettingsError(f"a nested query may have at most {MAX_NODES:,} parts")
        _set_depth(self, depth)
        _set_nodes(self, nodes)


_set_depth, _set_nodes = _setters(_Composite, "_depth", "_nodes")


@dataclass(frozen=True, slots=True, eq=False, repr=False, init=False)
class Boolean(_Composite):
    """Documents that match all of `must` and `filter`, none of `must_not`, and at least
    `minimum_should_match` of `should`; at least one of them where there is no must nor filter.

    Each is a sequence of queries or strings, or one of them. The score is the sum of those of
    `must` and `should`.
    """

    must: tuple[Query, ...] = ()
    should: tuple[Query, ...] = ()
    must_not: tuple[Query, ...] = ()
    filter: tuple[Query, ...] = ()
    minimum_should_match: int = 0

    def __init__(
        self, must: tuple[Query, ...] = (), should: tuple[Query, ...] = (),
        must_not: tuple[Query, ...] = (), filter: tuple[Query, ...] = (),
        minimum_should_match: int = 0,
    ) -> None:  # fmt: skip
        if must or type(must) is not tuple:
            must = _as_queries("must", must)
        if should or type(should) is not tuple:
            should = _as_queries("should", should)
        if must_not or type(must_not) is not tuple:
            must_not = _as_queries("must_not", must_not)
        if filter or type(filter) is not tuple:
            filter = _as_queries("filter", filter)
        if minimum_should_match or type(minimum_should_match) is not int:
            minimum_should_match = whole("minimum_should_match", minimum_should_match, 0)
        _set_must(self, must)
        _set_should(self, should)
        _set_must_not(self, must_not)
        _set_filter(self, filter)
        _set_minimum(self, minimum_should_match)
        self._measure(must + should + must_not + filter)

    def children(self) -> tuple[Query, ...]:
        return self.must + self.should + self.must_not + self.filter

    def _key(self) -> tuple[Any, ...]:
        counts = len(self.must), len(self.should), len(self.must_not), len(self.filter)
        return (*counts, self.minimum_should_match)

    def _text_parts(self) -> _Parts | None:
        if self.filter or self.minimum_should_match or not self.children():
            return None
        optional_alone = not self.must and not self.must_not
        if optional_alone and len(self.should) == 1:
            return None
        parts: _Parts = []
        for sign, queries in (("+", self.must), ("", self.should), ("-", self.must_not)):
            for query in queries:
                parts += [" OR " if optional_alone else " ", sign, *_in_parentheses(query, Boolean)]
        return parts[1:]


_set_must, _set_should, _set_must_not, _set_filter, _set_minimum = _setters(
    Boolean, "must", "should", "must_not", "filter", "minimum_should_match"
)


def _in_parentheses(query: Query, *kinds: type[Query]) -> _Parts:
    """The query, in parentheses if it is of one of the kinds."""
    return ["(", query, ")"] if isinstance(query, kinds) else [query]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Boost(_Composite):
    """A query whose scores are multiplied by a factor, 0 to 1e20."""

    query: Query
    factor: float

    def __post_init__(self) -> None:
        _set(self, query=_as_query("query", self.query), factor=_score("factor", self.factor))
        self._measure((self.query,))

    def children(self) -> tuple[Query, ...]:
        return (self.query,)

    def _key(self) -> tuple[Any, ...]:
        return (self.factor,)

    def _text_parts(self) -> _Parts | None:
        factor = f"{Decimal(repr(self.factor)):f}".removesuffix(".0")
        return [*_in_parentheses(self.query, Boolean, Boost), f"^{factor}"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ConstantScore(_Composite):
    """A query whose matches all have one score, 0 to 1e20."""

    query: Query
    score: float = 1.0

    def __post_init__(self) -> None:
        _set(self, query=_as_query("query", self.query), score=_score("score", self.score))
        self._measure((self.query,))

    def children(self) -> tuple[Query, ...]:
        return (self.query,)

    def _key(self) -> tuple[Any, ...]:
        return (self.score,)
