"""Vectors of words that were never seen, from those of their character n-grams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastseq.errors import FormatError, SettingsError
from fastseq.store.fasttext_bin import FastTextFile
from fastseq.store.fasttext_model import means
from fastseq.text.subwords import Subwords
from fastseq.types import Float32, Texts

ARRAY = "subwords"


class SubwordVectors:
    """A vector for each bucket of n-grams; that of a word is the mean of its n-grams' (Bojanowski
    et al. 2017, "Enriching Word Vectors with Subword Information").

    grams  which n-grams a word has
    table  float32[buckets, d]
    """

    def __init__(self, grams: Subwords, table: Float32) -> None:
        self.grams = grams
        self.table = table

    @property
    def arrays(self) -> dict[str, Float32]:
        """What a folder of vectors keeps."""
        return {ARRAY: self.table}

    @property
    def settings(self) -> dict[str, int]:
        """What a folder of vectors notes beside."""
        return {"low": self.grams.low, "high": self.grams.high, "buckets": self.grams.buckets}

    @classmethod
    def from_folder(
        cls, arrays: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> SubwordVectors | None:
        """Those that a folder keeps; None where it has none.

        Raises FormatError where array and settings do not fit.
        """
        if ARRAY not in settings:
            return None
        try:
            grams, table = Subwords(**settings[ARRAY]), arrays[ARRAY]
        except (KeyError, TypeError, SettingsError) as error:
            raise FormatError(f"vectors of n-grams are damaged: {error}") from None
        shape = (grams.buckets, arrays["vectors"].shape[1])
        if table.shape != shape or table.dtype != np.float32:
            raise FormatError(
                f"vectors of n-grams are {table.dtype}{list(table.shape)}, expected "
                f"float32{list(shape)}"
            )
        return cls(grams, table)

    @classmethod
    def from_fasttext(cls, file: FastTextFile) -> SubwordVectors | None:
        """Those of a fastText model; None where it has no n-grams."""
        low, high = file.settings.ngrams
        if not high:
            return None
        return cls(Subwords(low, high, file.settings.buckets), file.input[file.num_words :])

    def vectors_of(self, words: list[str]) -> Float32:
        """float32[n, d]; zeros for a word without n-grams."""
        ids = self.grams.ids(Texts.from_strings(words))
        none = np.empty((0, self.table.shape[1]), np.float32)
        table = np.asarray(self.table)
        return means(none, np.full(len(words), -1, np.int32), table, ids.values, ids.offsets)
