"""Plain values that all packages share: frozen dataclasses over arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]
UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def offsets_of(counts: npt.ArrayLike) -> Int64:
    """int64[n + 1]: 0, then the running total of n counts."""
    offsets = np.zeros(np.size(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The distinct ones of n integers, ascending. `np.unique` takes a hundred times as long for
    millions of integers, where NumPy is 2.3 or later and nothing but the values is asked for."""
    ascending = np.sort(values, axis=None)
    is_first = np.ones(len(ascending), np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=is_first[1:])
    return ascending[is_first]


def ranges(first: Int64, counts: Int64) -> Int64:
    """The integers first[i] to first[i] + counts[i] of each i, one range after the other."""
    offsets = offsets_of(counts)
    out: Int64 = np.repeat(first - offsets[:-1], counts)
    out += np.arange(offsets[-1])
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """D strings as one run of UTF-8 bytes, the way Arrow keeps them.

    data     uint8[n]     the bytes; text i is data[offsets[i]:offsets[i + 1]]
    offsets  int64[D + 1] ascending; the first need not be 0
    """

    data: UInt8
    offsets: Int64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of text, without the offsets."""
        return int(self.offsets[-1] - self.offsets[0])

    @staticmethod
    def from_strings(strings: Iterable[str]) -> Texts:
        """Texts of Python strings. A lone surrogate becomes the (invalid) bytes it encodes to."""
        encoded = [s.encode("utf-8", "surrogatepass") for s in strings]
        offsets = offsets_of([len(b) for b in encoded])
        # a bytearray, so that NumPy sees a writable buffer: read-only arrays are another type to
        # Numba and would compile every kernel a second time
        return Texts(np.frombuffer(bytearray(b"".join(encoded)), np.uint8), offsets)

    def to_strings(self) -> list[str]:
        """The D Python strings; invalid UTF-8 becomes U+FFFD."""
        raw = self.data.tobytes()
        return [raw[a:b].decode("utf-8", "replace") for a, b in pairwise(self.offsets.tolist())]


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The token ids of D texts.

    values   int32[n]     vocabulary ids
    offsets  int64[D + 1] text i holds values[offsets[i]:offsets[i + 1]]
    """

    values: Int32
    offsets: Int64

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True, eq=False)
class RawWords:
    """The distinct words of texts as they are written, that is as the tokenizer returns them, and
    what the analyzer makes of them.

    words   the n words
    terms   int32[n]  the term of each
    counts  int64[n]  its occurrences
    """

    words: Texts
    terms: Int32
    counts: Int64

    def __len__(self) -> int:
        return len(self.terms)


Label = str | int | bool


@dataclass(frozen=True, slots=True, eq=False)
class VectorRows:
    """The vectors of D rows, of which some may have none.

    values  float32[V, H]
    places  int64[D]  the number of each row's vector; -1 for a row without
    """

    values: Float32
    places: Int64

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: Int64) -> VectorRows:
        """Those of some rows."""
        places = self.places[rows]
        there = places >= 0
        return VectorRows(self.values[places[there]], np.where(there, np.cumsum(there) - 1, -1))

    @staticmethod
    def joined(parts: Sequence[VectorRows]) -> VectorRows:
        """The rows of several, of one length of vectors, after each other."""
        starts = offsets_of([len(part.values) for part in parts]).tolist()
        places = [
            np.where(part.places < 0, -1, part.places + start)
            for part, start in zip(parts, starts, strict=False)
        ]
        return VectorRows(np.concatenate([part.values for part in parts]), np.concatenate(places))

    def dense(self, start: int, stop: int, size: int) -> Float32:
        """float32[stop - start, size] of rows [start, stop), with zeros for one without. `size` is
        H, or anything where no row has a vector."""
        places = self.places[start:stop]
        found = np.zeros((len(places), size), np.float32)
        there = places >= 0
        if there.any():
            found[there] = self.values[places[there]]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Categories:
    """n labels or tags, dictionary-encoded.

    values  the distinct ones, all strings, all integers or all booleans
    codes   int32[n]: element i is values[codes[i]]; -1 where it is missing
    """

    values: tuple[Label, ...]
    codes: Int32

    def __len__(self) -> int:
        return len(self.codes)

    def to_list(self) -> list[Any]:
        """The n values; None for a missing one."""
        known = (*self.values, None)
        return [known[code] for code in self.codes.tolist()]
