"""Facets, sorting and grouping of matches by stored columns.

The functions take the rows of all matches, of which no more are sorted than are wanted. Columns are
read once and cached (see store/column_values.py for the order of values).

Sorting. "-year,title": by descending year, then ascending title; "year:desc" is the same as
"-year". Nulls come last in both directions, and documents with equal values in the order of their
rows. `_score` is the score, best first unless it is "_score:asc". Double quotes enclose a name with
a comma or a colon, or one that begins with a sign.

Facets. "lang": the most frequent values, ties in ascending order. "year:10": numbers in bins of
this width, which begin at its multiples. "date:month": days or timestamps (in UTC) by year, month
or day. "price:0,10,100": numbers, dates or times from each edge to below the next. A list counts
once for each distinct element, and once for each bin.

Grouping. Documents with equal values are one group, and so are those with null.
"""

from __future__ import annotations

import datetime
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError, quoted
from fastseq.index.collection import Collection
from fastseq.kernels.search.columns import count_bins, count_elements, count_values
from fastseq.kernels.text.hashing import PADDING
from fastseq.settings import strings, whole
from fastseq.text.tables import ByteTable
from fastseq.types import Float32, Int32, Int64, Texts, UInt8, UInt64

if TYPE_CHECKING:
    from fastseq.store.column_values import ColumnValues

SCORE = "_score"
CALENDAR = ("year", "month", "day")
MOST_VALUES = 10  # of a facet
_MOST_DIGITS = 400  # of an edge, more than a float has
CACHED_BYTES = 256 << 20  # of the columns of all indexes
_KEY_BITS = 64
_SCORE_BITS = 32
_FIRST_TAKEN = 1024  # matches that are sorted at first to find groups

_NAME = r'(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<name>[^\s",:+-][^",:]*?))'
_SORT = re.compile(
    rf"\s*(?P<sign>[+-]?){_NAME}\s*(?::\s*(?P<order>asc|desc)\s*)?(?:,(?=\s*\S)|$)", re.I
)
_FACET = re.compile(rf"\s*{_NAME}\s*(?::(?P<bins>.*))?", re.DOTALL)

# ---- requests


class SortKey(NamedTuple):
    """A column, or `_score`, by which hits are sorted."""

    column: str
    descending: bool


@dataclass(frozen=True)
class FacetRequest:
    """What is counted of a column: its values, or bins of them.

    interval  the width of bins of numbers, or "year", "month" or "day"
    ranges    ascending edges: a bin is from each edge to below the next. Numbers, or strings such
              as '2001-12-31' for dates and times
    """

    column: str
    interval: Decimal | str | None = None
    ranges: tuple[Decimal | str, ...] | None = None


def parse_sort(given: Any) -> tuple[SortKey, ...]:
    """The sort keys of a text such as "-year,title", or of several; none for None. Raises
    SettingsError for what is no such text, and for a column given twice."""
    keys: list[SortKey] = []
    for text in [] if given is None else strings("sort", given):
        at = 0
        while at < len(text) or not at:
            match = _SORT.match(text, at)
            if match is None:
                raise SettingsError(
                    f"sort: cannot read {text[at:].strip()!r:.80}; expected columns such as "
                    "-year,title or year:desc"
                )
            order = (match["order"] or "").lower()
            if match["sign"] and order:
                raise SettingsError(f"sort: both a sign and :{order} in {match[0].strip()!r:.80}")
            column = _column_of(match)
            default = "desc" if match["sign"] == "-" or column == SCORE else "asc"
            keys.append(SortKey(column, (order or default) == "desc"))
            at = match.end()
    names = [key.column for key in keys]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"sort: the column {quoted(name)} is given twice")
    return tuple(keys)


def parse_facet(text: str) -> FacetRequest:
    """The request of a text such as "lang", "year:10", "date:month" or "price:0,10,100". Raises
    SettingsError for what is no such text."""
    match = _FACET.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise SettingsError(
            f"facet: cannot read {text!r:.80}; expected a column, or a column and bins such as "
            "year:10, date:month or price:0,10,100"
        )
    column, bins = _column_of(match), match["bins"]
    if bins is None:
        return FacetRequest(column)
    edges = [part.strip() for part in bins.split(",")]
    if len(edges) == 1:
        return facet_request(column, interval=edges[0])
    return facet_request(column, ranges=edges)


def facet_requests(given: Any) -> list[FacetRequest]:
    """The requests of texts, as of `parse_facet`, and of requests; of one or several. Raises
    SettingsError for others, and for a column given twice."""
    several = [given] if isinstance(given, str | FacetRequest) else given
    if not isinstance(several, Iterable):
        raise SettingsError(f"facets must be columns such as 'lang' or 'year:10', not {given!r}")
    found = [one if isinstance(one, FacetRequest) else parse_facet(one) for one in several]
    names = [one.column for one in found]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"facet: the column {quoted(name)} is given twice")
    return found


def facet_request(
    column: str, interval: Any = None, ranges: Iterable[Any] | None = None
) -> FacetRequest:
    """A request with the interval or ranges of a caller: numbers, numbers as text, dates and times
    or their text. Raises SettingsError for others."""
    if interval is not None and ranges is not None:
        raise SettingsError(
            f"facet: the column {quoted(column)} has an interval and ranges: give one"
        )
    if interval is not None:
        width = _literal(column, interval)
        if not isinstance(width, Decimal) and width not in CALENDAR:
            raise SettingsError(
                f"facet: the interval {interval!r:.80} of {quoted(column)} is neither a number "
                f"nor one of {', '.join(CALENDAR)}"
            )
        if isinstance(width, Decimal) and not Decimal("1e-300") <= width <= Decimal("1e300"):
            raise SettingsError(
                f"facet: the interval of {quoted(column)} must be a positive number, not "
                f"{interval!r:.80}"
            )
        return FacetRequest(column, interval=width)
    if ranges is None:
        return FacetRequest(column)
    edges = tuple(_literal(column, edge) for edge in ranges)
    if len(edges) < 2 or len({type(edge) for edge in edges}) > 1:
        raise SettingsError(
            f"facet: the ranges of {quoted(column)} must be two or more edges, all numbers or "
            "all dates or times"
        )
    return FacetRequest(column, ranges=edges)


def _literal(column: str, value: Any) -> Decimal | str:
    """A number, or the text of a date or time."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, datetime.date | datetime.time):  # datetimes among them
        return value.isoformat()
    if isinstance(value, float):
        value = repr(value)
    if isinstance(value, int | Decimal | str) and not isinstance(value, bool):
        try:
            number = Decimal(value)
        except InvalidOperation:
            return str(value)
        if not number.is_nan() and abs(number.adjusted()) <= _MOST_DIGITS:  # infinity has 0
            return number
    raise SettingsError(
        f"facet: {value!r:.80} for the column {quoted(column)} is neither a number nor a date or "
        "time"
    )


def _column_of(match: re.Match[str]) -> str:
    quoted = match["quoted"]
    return match["name"] if quoted is None else quoted.replace('""', '"')


# ---- facets


@dataclass(frozen=True, eq=False)
class Facet:
    """Exact counts of a column over all matches.

    Attributes
    ----------
    column : its name
    values : what is counted. Values as results contain them, by descending count, ties ascending;
        ranges and intervals ascending: (low, high) for low <= value < high, or text such as
        "2001-12" for an interval of the calendar. Ranges are all there, intervals where some match
        has a value in them
    counts : int64[n] of them: a match counts once for each that it has
    other : the sum of the counts of all other values, or the count of values beyond the ranges
    missing : the matches without a value: null, or a list without elements
    """

    column: str
    values: list[Any]
    counts: Int64
    other: int
    missing: int


def facet_counts(
    collection: Collection, request: FacetRequest, matches: npt.NDArray[Any],
    most: int | None = MOST_VALUES,
) -> Facet:  # fmt: skip
    """Count the values of a stored column over all matches.

    matches : int[m] the distinct rows, or bool or uint8[rows of the collection] that is not 0 for
        each of them
    most : how many values, None for all; bins are never left out

    Raises SettingsError for edges that do not ascend, or an interval with too many bins; DataError
    where there is no such column, or it has a type without such bins; FormatError for a damaged
    file.
    """
    from fastseq.store.column_bins import interval_bins, range_bins

    most = None if most is None else whole("most", most, 1)
    column = stored_column(collection, request.column)
    if matches.dtype in (np.bool_, np.uint8):
        marks = (matches != 0).view(np.uint8)
    else:
        marks = np.zeros(collection.rows, np.uint8)
        marks[matches] = 1
    if request.interval is None and request.ranges is None:
        counts, missing = _value_counts(column, marks)
        found = np.flatnonzero(counts)
        fewer = (counts.max(initial=0) - counts[found]).view(np.uint64)
        best = found[smallest([fewer], found, most)]
        values, other = column.results(best), counts.sum() - counts[best].sum()
        return Facet(column.name, values, counts[best], int(other), missing)
    if request.interval is not None:
        labels, bins = interval_bins(column, request.interval)
    else:
        labels, bins = range_bins(column, request.ranges or ())
    binned = np.zeros(len(labels) + 1, np.int64)
    if column.offsets is None:
        counts, missing = _value_counts(column, marks)
        # sums of integers below 2^53: exact
        binned[:] = np.bincount(bins, counts, len(binned))
    else:
        last = np.full(len(binned), -1)
        missing = count_bins(binned, last, bins, column.codes, column.offsets, marks)
    shown = np.arange(len(labels)) if request.interval is None else np.flatnonzero(binned[:-1])
    values = [labels[i] for i in shown.tolist()]
    return Facet(column.name, values, binned[shown], int(binned[-1]), missing)


def _value_counts(column: ColumnValues, matches: UInt8) -> tuple[Int64, int]:
    """int64[D] the matches with each distinct value, and the number of those without any.

    matches : uint8[rows], 1 for each
    """
    if column.offsets is None:
        counts = np.zeros(len(column.values) + 1, np.int64)
        count_values(counts, column.codes, matches)
        return counts[1:], int(counts[0])
    counts = np.zeros(len(column.values), np.int64)
    return counts, count_elements(counts, column.codes, column.offsets, matches)


# ---- order


def order_keys(
    collection: Collection, rows: npt.NDArray[Any], scores: Float32, sort: Sequence[SortKey] = ()
) -> list[UInt64]:
    """Keys of m matches: one or several uint64[m], the first of which decides, then the next. The
    smaller is the better; where all are equal, matches are in the order of their rows.

    rows : int[m]
    scores : float32[m]
    sort : by default, by score

    Raises DataError for an unknown column, and a column of lists or another type without an order;
    FormatError for a damaged file.
    """
    keys: list[UInt64] = []
    free = 0
    for name, descending in sort or (SortKey(SCORE, True),):
        if name == SCORE:
            part, bits = _score_codes(scores, descending), _SCORE_BITS
        else:
            column = single_values(collection, name, "sort")
            codes, null = column.codes[rows], np.int32(len(column.values))
            if descending:
                codes = null - np.int32(1) - codes  # of -1 it is null
            elif len(column.values) < len(column.codes):  # there may be a null
                codes = np.where(codes < 0, null, codes)
            part, bits = codes.astype(np.uint64), int(null).bit_length()
        if keys and bits <= free:
            keys[-1] = keys[-1] << np.uint64(bits) | part
        else:
            keys.append(part)
            free = _KEY_BITS
        free -= bits
    return keys


def _score_codes(scores: Float32, descending: bool) -> UInt64:
    """uint64[m] below 2^32, which compare as scores do."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    # the bits of negative floats descend
    sign = np.uint32(1 << 31)
    codes = np.where(bits < sign, bits | sign, ~bits)
    return (~codes if descending else codes).astype(np.uint64)


def are_after(
    keys: Sequence[UInt64], rows: npt.NDArray[Any], key: Sequence[np.uint64], row: int
) -> npt.NDArray[np.bool_]:
    """bool[m]: whether matches come after one with a key and a row."""
    after = rows > row
    for part, own in zip(reversed(keys), reversed(key), strict=True):
        after = (part > own) | ((part == own) & after)
    return after


def smallest(keys: Sequence[UInt64], rows: npt.NDArray[Any], k: int | None = None) -> Int64:
    """int64[min(k, m)]: the places of the best k of m matches, or of all, in order.

    keys : as of `order_keys`
    rows : int[m], distinct
    """
    if k is None or k >= len(rows):
        return np.lexsort((rows, *reversed(keys)))
    if k == 0:
        return np.empty(0, np.int64)
    tied, chosen = np.arange(len(rows)), np.empty(0, np.int64)
    for part in keys:
        own = part if len(tied) == len(rows) else part[tied]
        last = np.partition(own, k - len(chosen) - 1)[k - len(chosen) - 1]
        chosen = np.append(chosen, tied[own < last])
        tied = tied[own == last]
    needed = k - len(chosen)
    if needed < len(tied):
        tied = tied[np.argpartition(rows[tied], needed)[:needed]]
    chosen = np.append(chosen, tied)
    return chosen[np.lexsort((rows[chosen], *(part[chosen] for part in reversed(keys))))]


def single_values(collection: Collection, name: str, use: str) -> ColumnValues:
    """A column with one value in each document. Raises DataError, with what it would be used for,
    where it has lists; others as `stored_column`."""
    column = stored_column(collection, name)
    if column.offsets is not None:
        raise DataError(
            f"{use}: the column {quoted(name)} is {column.kind}; expected one value in each "
            "document"
        )
    return column


def sort_rows(
    collection: Collection, rows: npt.NDArray[Any], scores: Float32, sort: Sequence[SortKey] = (),
    k: int | None = None,
) -> Int64:  # fmt: skip
    """int64[min(k, m)]: the places of the k best of m matches, or of all, in order. Others as
    `order_keys`."""
    return smallest(order_keys(collection, rows, scores, sort), rows, k)


def group_numbers(collection: Collection, rows: npt.NDArray[Any], column: str) -> Int32:
    """int32[m]: the group of each of m matches, from 0: those with equal values of a column are
    one, and so are those with null. Raises as `single_values`."""
    groups: Int32 = single_values(collection, column, "group").codes[rows] + np.int32(1)
    return groups


def first_of_groups(groups: Int32) -> Int64:
    """int64[g]: the places of the first match of each group, ascending. For matches in order, these
    are the best ones.

    groups : int32[m], as of `group_numbers`
    """
    first = np.full(int(groups.max(initial=-1)) + 1, len(groups))
    # of several assignments the last remains
    first[groups[::-1]] = np.arange(len(groups))[::-1]
    return np.sort(first[first < len(groups)])


def best_of_groups(groups: Int32, keys: Sequence[UInt64], rows: npt.NDArray[Any], k: int) -> Int64:
    """int64[at most k]: the places of the best match of each of the k best groups, in order.

    groups : int32[m], as of `group_numbers`
    keys : as of `order_keys`
    rows : int[m], distinct
    """
    is_left = np.ones(int(groups.max(initial=-1)) + 1, np.bool_)
    left, found = np.arange(len(groups)), np.empty(0, np.int64)
    taken = max(4 * k, _FIRST_TAKEN)
    while len(found) < k and len(left):
        # the groups of the best matches are the best groups
        best = left[smallest([key[left] for key in keys], rows[left], taken)]
        found = np.append(found, best[first_of_groups(groups[best])])
        is_left[groups[found]] = False
        left = left[is_left[groups[left]]]
        taken *= 8
    return found[:k]


# ---- the cache


class ColumnCache:
    """Columns that were used last, of several owners and of at most a number of bytes; the last one
    is kept whatever its size. Thread-safe. Owners are not kept alive."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._lock = threading.Lock()
        self._columns: OrderedDict[tuple[ref[Any], str], ColumnValues] = OrderedDict()

    def get(self, owner: Any, name: str, load: Callable[[], ColumnValues]) -> ColumnValues:
        """The column of an owner, loaded unless it is there."""
        key = ref(owner), name
        with self._lock:
            if key in self._columns:
                self._columns.move_to_end(key)
                return self._columns[key]
        found = load()
        with self._lock:
            for other in list(self._columns):
                if other[0]() is None or other == key:
                    self._bytes -= self._columns.pop(other).nbytes
            self._columns[key] = found
            self._bytes += found.nbytes
            while self._bytes > self._most and len(self._columns) > 1:
                self._bytes -= self._columns.popitem(last=False)[1].nbytes
        return found


_cache = ColumnCache(CACHED_BYTES)


def stored_column(collection: Collection, name: str) -> ColumnValues:
    """A stored column of all rows of a collection, cached.

    Raises DataError where there is no such column, or its type has no order; FormatError for a
    damaged file.
    """
    from fastseq.store.column_values import load_column

    documents = [leaf.segment.stored for leaf in collection.leaves]
    return _cache.get(
        collection, name, lambda: load_column(documents, collection.schema, name, numbered)
    )


def numbered(texts: Texts) -> tuple[Texts, Int32]:
    """(the distinct texts in the order of their first occurrence, int32[n] the number of each)."""
    table = ByteTable.for_text(texts.nbytes, 0)
    data = np.append(texts.data, np.zeros(PADDING, np.uint8))
    numbers = table.register(data, texts.offsets, 0)
    return Texts(*table.texts()), numbers
