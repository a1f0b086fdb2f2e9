"""Columns of impacts: the weights of the terms of each document, as learned-sparse models write
them.

Such a column is a map from strings to numbers, or lists of structs of a string and a number, which
JSON Lines has and some writers of Parquet make of maps.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fastseq.errors import DataError, RowError, quoted
from fastseq.store.arrays import (
    byte_lengths,
    element_type,
    first_null,
    is_null,
    is_text,
    list_offsets,
    number_array,
    plain,
    plain_type,
    to_texts,
    valid_utf8,
)
from fastseq.types import Float64, Int64, Texts, offsets_of, ranges

WHOLE, FLOAT = "integer", "float"  # kinds of weights
# the largest weight of each kind: a term frequency, and what leaves room for sums in float32
MOST_WEIGHT = {WHOLE: float((1 << 31) - 1), FLOAT: 1e15}
EXPECTED = "a map from strings to numbers or lists of structs of a string and a number"
_PAIR_BYTES = 8  # of a weight, beside the bytes of its term


class Impacts(NamedTuple):
    """The terms of D documents with their weights.

    terms    of all documents, one after the other
    offsets  int64[D + 1]  document d has the terms offsets[d]:offsets[d + 1]
    weights  float64[n]  above 0, as float32 too
    nulls    null documents, which have no terms
    """

    terms: Texts
    offsets: Int64
    weights: Float64
    nulls: int


def is_impacts(kind: pa.DataType) -> bool:
    """Whether a plain type is impacts; lists of nulls are all empty."""
    element = element_type(kind)
    if pa.types.is_null(kind) or (element is not None and pa.types.is_null(element)):
        return True
    return _pair(kind) is not None


def kind_of_weights(kinds: Iterable[pa.DataType]) -> str:
    """WHOLE where the weights of all types of impacts are integers, else FLOAT."""
    pairs = [_pair(plain_type(kind)) for kind in kinds]
    numbers = [pair[1] for pair in pairs if pair is not None]
    return WHOLE if numbers and all(map(pa.types.is_integer, numbers)) else FLOAT


def _pair(kind: pa.DataType) -> tuple[int, pa.DataType] | None:
    """(place of the term in the pairs of a plain type, type of the weights); None for a type that
    is not of pairs."""
    if pa.types.is_map(kind):
        fields = [kind.key_type, kind.item_type]
    else:
        element = element_type(kind)
        if element is None or not pa.types.is_struct(element) or element.num_fields != 2:
            return None
        fields = [field.type for field in element]
    for place in (0, 1):
        if _is_term(fields[place]) and _is_number(fields[1 - place]):
            return place, fields[1 - place]
    return None


def _is_term(kind: pa.DataType) -> bool:
    return is_text(kind) and not pa.types.is_null(kind)


def _is_number(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind))


def impact_bytes(array: pa.Array) -> Int64:
    """int64[D]: the bytes of terms and weights of each row of a column of impacts."""
    terms, _, offsets = _pairs(array)
    ends = offsets_of(byte_lengths(terms) + _PAIR_BYTES)
    lengths: Int64 = np.diff(ends[offsets])
    return lengths


def read_impacts(array: pa.Array, name: str, kind: str) -> Impacts:
    """The impacts of a column. Weights that are 0, as float32 too, are left out.

    name : of the column, for messages
    kind : WHOLE or FLOAT

    Raises RowError for a term that is null or not UTF-8, and a weight that is null, not finite,
    negative or too large, or, of WHOLE, not a whole number.
    """
    terms, numbers, offsets = _pairs(array)
    nulls = array.null_count

    def row(place: int) -> int:
        return int(np.searchsorted(offsets, place, "right")) - 1

    where = f"in column {name!r}"
    if terms.null_count:
        raise RowError(row(first_null(terms)), f"a term {where} is null")
    if not valid_utf8(terms):
        place = next(i for i in range(len(terms)) if not valid_utf8(terms.slice(i, 1)))
        raise RowError(row(place), f"a term {where} is not UTF-8")
    if numbers.null_count:
        place = first_null(numbers)
        raise RowError(row(place), f"the weight of {_shown(terms, place)} {where} is null")
    weights: Float64 = numbers.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    most = MOST_WEIGHT[kind]
    right = (weights >= 0) & (weights <= most)
    expected = f"a number from 0 to {most:g}"
    if kind == WHOLE:
        right &= weights == np.floor(weights)
        expected = f"a whole number from 0 to {int(most)}, as the weights of this index are"
    for place in np.flatnonzero(~right)[:1].tolist():
        found = numbers[place].as_py()
        problem = f"the weight of {_shown(terms, place)} {where} is {found}; expected {expected}"
        raise RowError(row(place), problem)
    kept = weights.astype(np.float32) > 0
    if not kept.all():
        places = np.flatnonzero(kept)
        terms, weights = terms.take(number_array(places)), weights[places]
        offsets = offsets_of(kept)[offsets]
    # Arrow's are read-only, which kernels would be compiled for once more
    return Impacts(to_texts(terms), offsets, np.require(weights, requirements="W"), nulls)


def weighted_queries(array: pa.Array, where: str) -> list[dict[str, float]]:
    """The terms of each row of a column of pairs with their weights, of any sign; those of a
    repeated term are added. Raises DataError, whose message begins with `where`, for a null or a
    term that is not UTF-8."""
    terms, numbers, offsets = _pairs(array)
    if terms.null_count or numbers.null_count or not valid_utf8(terms):
        raise DataError(f"{where}: a term or weight is null, or a term is not UTF-8")
    names, ends = terms.to_pylist(), offsets.tolist()
    weights = numbers.cast(pa.float64(), safe=False).to_pylist()
    found: list[dict[str, float]] = []
    for first, last in pairwise(ends):
        query: dict[str, float] = {}
        for name, weight in zip(names[first:last], weights[first:last], strict=True):
            query[name] = query.get(name, 0.0) + weight
        found.append(query)
    return found


def _shown(terms: pa.Array, place: int) -> str:
    return quoted(terms[place].as_py())


def _pairs(array: pa.Array) -> tuple[pa.Array, pa.Array, Int64]:
    """(terms as plain strings, weights, int64[D + 1] offsets of the rows in both)."""
    kind = plain_type(array.type)
    if isinstance(array, pa.ExtensionArray):
        return _pairs(array.storage)
    pair = _pair(kind)
    if pair is None:  # nulls and empty lists
        nothing = np.zeros(len(array) + 1, np.int64)
        return pa.array([], pa.string()), pa.array([], pa.float64()), nothing
    parts: list[Any]
    if pa.types.is_map(array.type):
        ends = array.offsets.to_numpy().astype(np.int64)
        counts = np.diff(ends)
        if array.null_count:
            counts[is_null(array)] = 0
        # the keys of null maps, too, and of rows outside of a slice
        chosen = number_array(ranges(ends[:-1], counts))
        parts = [each.take(chosen) for each in (array.keys, array.items)]
        offsets = offsets_of(counts)
    elif element_type(array.type) is not None and not pa.types.is_dictionary(array.type):
        offsets = list_offsets(array)
        elements = array.flatten()
        if not pa.types.is_struct(elements.type):
            elements = plain(elements, kind.value_type)
        parts = elements.flatten()  # not `field`, which ignores null structs
    else:
        return _pairs(plain(array, kind))
    place, number = pair
    terms = plain(parts[place], plain_type(parts[place].type)).cast(pa.string(), safe=False)
    return terms, plain(parts[1 - place], number), offsets
