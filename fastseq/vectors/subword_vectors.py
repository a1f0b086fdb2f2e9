"""Vectors of unknown words, from those of their character n-grams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError, SettingsError
from fastseq.kernels.text.ngrams import add_rows
from fastseq.text.subwords import Subwords
from fastseq.types import Float32, Int32, Int64, Texts

SUBWORDS = "subwords"  # array of a folder of vectors, and its setting with the n-grams
BUCKETS = "buckets"


class SubwordVectors:
    """A vector for each bucket of n-grams; that of a word is the mean of its n-grams' (Bojanowski
    et al. 2017, "Enriching Word Vectors with Subword Information").

    Buckets that no word in training fell into have no row: they count as zeros. Of fastText's two
    million, a corpus uses some hundred thousand.

    grams : which n-grams a word has
    table : float32[R, d]
    buckets : int32[R], the bucket of each row, all different; None: row r is bucket r

    Raises FormatError where these are not consistent.
    """

    def __init__(self, grams: Subwords, table: Float32, buckets: Int32 | None = None) -> None:
        self.grams = grams
        self.table = table
        self.buckets = buckets
        self._rows: Int32 | None = None
        if table.ndim != 2 or table.dtype != np.float32:
            raise FormatError(f"vectors of n-grams are {table.dtype}{list(table.shape)}")
        if buckets is None:
            if len(table) != grams.buckets:
                raise FormatError(f"{len(table)} vectors of n-grams, expected {grams.buckets}")
            return
        if len(buckets) != len(table) or buckets.ndim != 1 or buckets.dtype != np.int32:
            raise FormatError(
                f"{len(table)} vectors of n-grams, but {buckets.dtype}{list(buckets.shape)} buckets"
            )
        if ((buckets < 0) | (buckets >= grams.buckets)).any():
            raise FormatError(f"a bucket of n-grams is not below {grams.buckets}")
        self._rows = np.full(grams.buckets, -1, np.int32)
        self._rows[buckets] = np.arange(len(buckets), dtype=np.int32)
        if np.count_nonzero(self._rows >= 0) != len(buckets):
            raise FormatError("a bucket of n-grams occurs twice")

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that a folder of vectors stores."""
        more = {} if self.buckets is None else {BUCKETS: self.buckets}
        return {SUBWORDS: self.table, **more}

    @property
    def settings(self) -> dict[str, int]:
        """The n-grams, under the names that folders of vectors use."""
        return {"low": self.grams.min_n, "high": self.grams.max_n, "buckets": self.grams.buckets}

    @classmethod
    def from_folder(
        cls, arrays: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> SubwordVectors | None:
        """Those of a folder of vectors; None where it has none.

        Raises FormatError where array and settings are not consistent.
        """
        if SUBWORDS not in settings:
            return None
        try:
            saved, table = settings[SUBWORDS], arrays[SUBWORDS]
            grams = Subwords(saved["low"], saved["high"], saved["buckets"])
            found = cls(grams, table, arrays.get(BUCKETS))
        except (KeyError, TypeError, SettingsError, FormatError) as error:
            raise FormatError(f"vectors of n-grams are damaged: {error}") from None
        if table.shape[1] != arrays["vectors"].shape[1]:
            raise FormatError(
                f"vectors of n-grams are damaged: they have {table.shape[1]} dimensions, those of "
                f"words {arrays['vectors'].shape[1]}"
            )
        return found

    def vectors_of(self, words: list[str]) -> Float32:
        """float32[n, d]; zeros for a word without n-grams."""
        sums, many = self.sums_of(Texts.from_strings(words))
        sums /= np.maximum(many, 1).astype(np.float32)[:, None]
        return sums

    def sums_of(self, words: Texts) -> tuple[Float32, Int64]:
        """The sum of each word's n-gram vectors, float32[n, d], and its number of n-grams,
        int64[n]."""
        ids = self.grams.ids(words)
        rows, ends = ids.values, ids.offsets
        if self._rows is not None:
            found = self._rows[rows]
            kept = np.concatenate([[0], np.cumsum(found >= 0)])
            rows, ends = np.ascontiguousarray(found[found >= 0]), kept[ends]
        out: Float32 = np.zeros((len(words), self.table.shape[1]), np.float32)
        with np.errstate(over="ignore"):
            add_rows(out, rows, ends, np.asarray(self.table))
        return out, np.diff(ids.offsets)


def means(own_rows: Float32, own: Int32, table: Float32, ids: Int32, ends: Int64) -> Float32:
    """float32[W, d]: the mean of own_rows[own[w]], unless that is -1, and of the rows
    ids[ends[w]:ends[w + 1]] of the table."""
    out: Float32 = np.zeros((len(own), table.shape[1]), np.float32)
    known = np.flatnonzero(own >= 0)
    out[known] = own_rows[own[known]]
    with np.errstate(over="ignore"):
        add_rows(out, ids, ends, table)
        out /= np.maximum(np.diff(ends) + (own >= 0), 1).astype(np.float32)[:, None]
    return out


def with_ngrams(words: list[str], grams: Subwords) -> list[str]:
    """Those of the words that have n-grams."""
    sizes = np.diff(grams.ids(Texts.from_strings(words)).offsets).tolist()
    return [word for word, many in zip(words, sizes, strict=True) if many]
