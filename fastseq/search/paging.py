"""Pages of a list of hits: cursors, after which the next page begins.

A cursor is the last hit of a page: its row and score, with the commit of the index and a digest of
the request, in which they are in an order that never changes. So pages neither repeat nor lose a
hit, however many there are, and a cursor of another commit or request is an error.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import SettingsError, quoted
from fastseq.index.collection import Collection
from fastseq.search.columns import (
    SortKey,
    are_after,
    best_of_groups,
    group_numbers,
    order_keys,
    smallest,
)
from fastseq.settings import whole
from fastseq.types import Float32, Int64

_FORM = struct.Struct("<BIQIf")  # version, commit, digest of the request, row, score
_CHECKSUM = struct.Struct("<I")  # CRC-32 of them
_VERSION = 1


class Cursor(NamedTuple):
    """The last hit of a page."""

    row: int
    score: float


def request_digest(*parts: Any) -> int:
    """64 bits that identify a request: all that its hits and their order depend on, but not how
    many are wanted. Equal requests have parts of equal repr, arrays and sequences equal items."""
    shown = repr([_by_content(part) for part in parts])
    digest = blake2b(shown.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _by_content(part: Any) -> Any:
    """What an array or a mapping consists of; others as they are."""
    if isinstance(part, np.ndarray | list):
        return np.asarray(part).tobytes()
    return dict(part) if isinstance(part, Mapping) else part


def encode_cursor(collection: Collection, request: int, row: int, score: float) -> str:
    """The text of a cursor, 34 characters that need no escape in a URL or a shell.

    request : as of `request_digest`
    """
    content = _FORM.pack(_VERSION, collection.commit, request, row, score)
    raw = content + _CHECKSUM.pack(zlib.crc32(content))
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def decode_cursor(collection: Collection, request: int, text: Any) -> Cursor:
    """The hit of a cursor.

    Raises SettingsError where the text is not a cursor, or one of another commit of the index or of
    another request.
    """
    wrong = SettingsError(
        "after must be the cursor of a page of hits (that of the first is None, and start on the "
        f"command line), not {quoted(text)}"
    )
    if not isinstance(text, str):
        raise wrong
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        content, (checksum,) = raw[: -_CHECKSUM.size], _CHECKSUM.unpack(raw[-_CHECKSUM.size :])
        version, commit, of_request, row, score = _FORM.unpack(content)
    except (ValueError, binascii.Error, struct.error):
        checksum = version = None
        content = b""
    if checksum != zlib.crc32(content) or version != _VERSION:
        raise wrong
    if commit != collection.commit:
        raise SettingsError(
            "after is a cursor of another index, or of another commit of this one: begin again "
            "with the first page"
        )
    if of_request != request:
        raise SettingsError(
            "after is a cursor of another query, filter, order or grouping: begin again with the "
            "first page"
        )
    return Cursor(row, score)


def page_of(
    collection: Collection, rows: npt.NDArray[Any], scores: Float32, k: int,
    sort: Sequence[SortKey] = (), group: str | None = None, offset: int = 0,
    after: Cursor | None = None,
) -> Int64:  # fmt: skip
    """int64[at most k]: the places of a page of the m matches of a query, in order.

    rows : int[m], distinct: all matches, in any order
    scores : float32[m]
    sort : by default, by score
    group : a column of which each value, and null, has its best match alone
    offset : matches to leave out before the page
    after : the hit after which the page begins

    Raises SettingsError for an offset below 0, and for both offset and after; DataError where a
    column is unknown or has no order; FormatError for a damaged file.
    """
    offset = whole("offset", offset, 0)
    places = np.arange(len(rows))
    groups = None if group is None else group_numbers(collection, rows, group)
    if after is None:
        keys = order_keys(collection, rows, scores, sort)
    elif offset:
        raise SettingsError("offset and after are both given: expected one of them")
    else:
        every = np.append(scores, np.float32(after.score))
        keys = order_keys(collection, np.append(rows, after.row), every, sort)
        last, keys = [key[-1] for key in keys], [key[:-1] for key in keys]
        is_left = are_after(keys, rows, last, after.row)
        if groups is not None:  # those of earlier pages are not
            is_early = np.zeros(int(groups.max(initial=-1)) + 1, np.bool_)
            is_early[groups[~is_left]] = True
            is_left &= ~is_early[groups]
        places = places[is_left]
        keys, rows = [key[is_left] for key in keys], rows[is_left]
        groups = None if groups is None else groups[is_left]
    if groups is None:
        return places[smallest(keys, rows, offset + k)[offset:]]
    return places[best_of_groups(groups, keys, rows, offset + k)[offset:]]
