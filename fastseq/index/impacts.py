"""Inversion of impacts: documents that are terms with weights instead of texts.

Terms are taken as they are, numbered by first occurrence in the collection. Whole weights are
stored as term frequencies; others are float32 numbers beside the postings, whose frequencies are 1.
The length of a document is its number of terms.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastseq.errors import RowError
from fastseq.index.slices import Part, Slice, SliceStore, Vocabulary, packed_larges
from fastseq.kernels.search import postings as kernels
from fastseq.kernels.search.weights import invert_weights
from fastseq.kernels.text.hashing import PADDING
from fastseq.store.impacts import MOST_WEIGHT, WHOLE
from fastseq.store.rows import RowBatch
from fastseq.text.analyzer import Analyzer
from fastseq.text.tables import ByteTable
from fastseq.types import Float64, Int32, Int64, Texts

# queries of an index of impacts are terms between white space, as they are
QUERIES = Analyzer(tokenizer="space", lowercase=False)


@dataclass(frozen=True, slots=True)
class WeightedTerms:
    """The terms of consecutive documents with their weights.

    terms    of all documents, one after the other; or their ids, int32[n]
    offsets  int64[D + 1]  document d has the terms offsets[d]:offsets[d + 1]
    weights  float64[n]
    """

    terms: Texts | Int32
    offsets: Int64
    weights: Float64


class ImpactsBuilder:
    """The inverted index of impacts in progress: its vocabulary and inverted slices, as
    `FieldBuilder` has those of texts.

    weights : the kind of the weights
    """

    prefix, positions, columns = "", False, 1

    def __init__(self, weights: str, make_spill: Callable[[], Path]) -> None:
        self.has_weights = weights != WHOLE
        self._most = MOST_WEIGHT[weights]
        self._table = ByteTable(1, 1 << 10, 0)
        self.slices = SliceStore(make_spill)

    @property
    def nbytes(self) -> int:
        """Bytes of the vocabulary."""
        return self._table.nbytes

    def move_words(self) -> None:
        """Terms are not words that an analyzer changes."""

    def part(self, batch: RowBatch, start: int, stop: int) -> WeightedTerms:
        """The terms and weights of some rows of a batch."""
        impacts = batch.impacts
        assert impacts is not None
        offsets = impacts.offsets[start : stop + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        terms = Texts(impacts.terms.data, impacts.terms.offsets[first : last + 1])
        return WeightedTerms(terms, offsets - first, impacts.weights[first:last])

    def encode(
        self, own: WeightedTerms, enter: Callable[[Any], AbstractContextManager[None]]
    ) -> WeightedTerms:
        """A slice with ids of terms. Only new terms are registered one slice after the other."""
        texts = own.terms
        assert isinstance(texts, Texts)
        data = np.append(texts.data, np.zeros(PADDING, np.uint8))
        distinct = ByteTable(len(texts) // 8 + 8, texts.nbytes // 8 + 64, 0)
        local = distinct.register(data, texts.offsets, 0)
        found, offsets = distinct.texts()
        padded = np.append(found, np.zeros(PADDING, np.uint8))
        with enter(0):
            ids = self._table.register(padded, offsets, 0)
        return WeightedTerms(ids[local], own.offsets, own.weights)

    def invert(self, own: WeightedTerms, window: int, first: int) -> Slice:
        """Invert a slice whose first document has a number in its window.

        Raises RowError where the weights of a term that a document has several times add up to too
        much.
        """
        ids = own.terms
        assert not isinstance(ids, Texts)
        n = len(ids)
        lengths = np.empty(len(own.offsets) - 1, np.int32)
        docs, tfs = np.empty(n, np.uint16), np.empty(n, np.uint8)
        terms, dfs = np.empty((2, n), np.int32)
        weights = np.empty(n if self.has_weights else 0, np.float32)
        large_at, large_tf = np.empty(n, np.int64), np.empty(n, np.int32)
        keys, spare = np.empty((2, n), np.uint64)
        postings, distinct, large, wrong = invert_weights(
            docs, tfs, terms, dfs, weights, large_at, large_tf, lengths, keys, spare,
            np.empty(kernels.DIGITS, np.int64), np.empty(n, np.uint16), ids, own.weights,
            own.offsets, first, len(self._table), not self.has_weights, self._most,
        )  # fmt: skip
        if wrong >= 0:
            most = int(self._most)
            raise RowError(int(wrong), f"the weights of a term add up to more than {most}")
        sizes = np.zeros(distinct, np.int32)
        if self.has_weights:
            sizes = dfs[:distinct] * weights.itemsize
        part = Part(
            terms[:distinct].copy(), dfs[:distinct].copy(), docs[:postings].copy(),
            tfs[:postings].copy(), large_at[:large].copy(), large_tf[:large].copy(),
            packed_larges(tfs[:postings]), weights[:postings].copy().view(np.uint8)
            if self.has_weights
            else np.empty(0, np.uint8),
            sizes,
        )  # fmt: skip
        return Slice(window, lengths, [part])

    def finish(self) -> Vocabulary:
        """The terms, after the last slice."""
        terms = Texts(*self._table.texts())
        return Vocabulary(terms, [len(terms)], None)
