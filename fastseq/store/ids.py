"""Ids of documents: a 64-bit hash of each, and the search for duplicates among millions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fastseq.errors import DataError
from fastseq.store.arrays import to_texts
from fastseq.types import Int64, UInt64

_LOOKED_AT = 1000  # candidate rows whose ids are read at a time
_NAMED = 5  # duplicates that an error names


def id_hashes(ids: pa.Array) -> UInt64:
    """uint64[n]: a hash of each id. Equal ids have equal hashes; different integers always have
    different ones, different strings nearly always.

    Parameters
    ----------
    ids : strings or integers of any Arrow width, without nulls
    """
    if pa.types.is_integer(ids.type):
        # the finalizer of SplitMix64 (Steele, Lea, Flood 2014), a bijection
        h: UInt64 = ids.to_numpy(zero_copy_only=False).astype(np.uint64)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return h ^ (h >> np.uint64(31))
    from fastseq.kernels.text.ids import hash_rows

    texts = to_texts(ids)
    out = np.empty(len(texts), np.uint64)
    hash_rows(out, texts.data, texts.offsets)
    return out


def shared_hashes(hashes: UInt64) -> Int64:
    """int64[m]: the rows, ascending, whose hash another row has too."""
    ascending = np.sort(hashes)
    twice = ascending[1:][ascending[1:] == ascending[:-1]]
    if len(twice) == 0:
        return np.zeros(0, np.int64)
    twice = np.unique(twice)
    at = np.minimum(np.searchsorted(twice, hashes), len(twice) - 1)
    return np.flatnonzero(twice[at] == hashes).astype(np.int64)


def find_duplicate_ids(
    hashes: UInt64, ids_of: Callable[[Int64], Sequence[Any]], most: int = _NAMED
) -> list[tuple[Any, list[int]]]:
    """The ids that more than one row has, with their rows, ordered by the first: `most` of them,
    or fewer when there are no more. Hashes only propose; the ids themselves decide.

    Parameters
    ----------
    hashes : uint64[n], `id_hashes` of every row
    ids_of : gives the ids of some rows (int64[m], ascending)
    """
    rows = shared_hashes(hashes)
    # rows of one hash together, the hash whose first row comes first in front
    _, first, member = np.unique(hashes[rows], return_index=True, return_inverse=True)
    rows = rows[np.argsort(first[member], kind="stable")]
    edges = np.flatnonzero(np.diff(hashes[rows]) != 0) + 1
    found: list[tuple[Any, list[int]]] = []
    start = 0
    while start < len(rows) and len(found) < most:
        # whole groups of one hash, a thousand rows or so
        later = edges[edges >= start + _LOOKED_AT]
        stop = int(later[0]) if len(later) else len(rows)
        some = np.sort(rows[start:stop])
        seen: dict[Any, list[int]] = {}
        for row, value in zip(some.tolist(), ids_of(some), strict=True):
            seen.setdefault(value, []).append(row)
        found += [(value, at) for value, at in seen.items() if len(at) > 1]
        start = stop
    return found[:most]


def refuse_duplicate_ids(
    hashes: UInt64,
    ids_of: Callable[[Int64], Sequence[Any]],
    where: str = "the corpus",
    place: Callable[[int], str] | None = None,
) -> None:
    """Check that every row has its own id. `place` names a row, for messages; None: its number.

    Raises
    ------
    DataError
        It does not; the message names the first few and their rows.
    """
    found = find_duplicate_ids(hashes, ids_of)
    if found:
        named = ", ".join(
            f"{value!r} ({'rows ' if place is None else ''}"
            f"{', '.join(map(place or str, rows[:3]))}{', …' if len(rows) > 3 else ''})"
            for value, rows in found
        )
        more = ", and perhaps more" if len(found) == _NAMED else ""
        raise DataError(f"{where}: duplicate ids: {named}{more}; expected one row for each id")
