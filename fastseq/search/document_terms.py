"""The terms of documents of a collection, for query expansion by feedback and for documents like
another.

An index has no list of the terms of each document: they are found by a pass over the posting lists
of all terms, of which only the places of the documents are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastseq.index.collection import Collection, Leaf
from fastseq.kernels.search.documents import read_documents
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS
from fastseq.text.weighting import bm25_idf
from fastseq.types import Float64, Int32, Int64, Texts, offsets_of, ranges


@dataclass(frozen=True, eq=False)
class DocumentTerms:
    """The terms of D documents.

    documents  of the collection
    names    the distinct terms, in the order of their bytes
    df       int64[V]      documents of the collection with each
    offsets  int64[D + 1]  document d has the elements offsets[d]:offsets[d + 1]
    terms    int32[n]      numbers of terms, ascending in each document
    tfs      float64[n]    their frequencies
    lengths  float64[D]    tokens of each document
    """

    documents: int
    names: list[str]
    df: Int64
    offsets: Int64
    terms: Int32
    tfs: Float64
    lengths: Float64

    @cached_property
    def idf(self) -> Float64:
        """float64[V]: of BM25."""
        return bm25_idf(self.documents, self.df)

    @cached_property
    def norms(self) -> Float64:
        """float64[D]: the Euclidean norm of the frequencies of each document."""
        owners = np.repeat(np.arange(len(self.lengths)), np.diff(self.offsets))
        return np.sqrt(np.bincount(owners, self.tfs**2, len(self.lengths)))

    def places(self, documents: Int64) -> tuple[Int64, Int64]:
        """(places of the elements of some documents, one after the other, the number of those of
        each)."""
        counts = np.diff(self.offsets)[documents]
        return ranges(self.offsets[documents], counts), counts


def terms_of_documents(collection: Collection, rows: Int64) -> DocumentTerms:
    """The terms of some documents, given by their distinct rows. Raises FormatError where postings
    are damaged."""
    names: dict[bytes, int] = {}
    lengths = np.zeros(len(rows))
    terms, owners, tfs = [], [], []
    for leaf in collection.leaves:
        places = np.flatnonzero(
            (rows >= leaf.first_row) & (rows < leaf.first_row + leaf.segment.documents)
        )
        if not len(places):
            continue
        local = rows[places] - leaf.first_row
        lengths[places] = leaf.segment.lengths[local]
        found, own_rows, counts = _read(leaf, local)
        distinct, numbers = np.unique(found, return_inverse=True)
        vocabulary = leaf.segment.vocabulary
        starts, stops = (
            vocabulary.offsets[distinct].tolist(),
            vocabulary.offsets[distinct + 1].tolist(),
        )
        own = [vocabulary.data[a:b].tobytes() for a, b in zip(starts, stops, strict=True)]
        known = np.array([names.setdefault(name, len(names)) for name in own], np.int64)
        terms.append(known[numbers])
        owners.append(places[own_rows])
        tfs.append(counts)
    ordered = sorted(names)
    ranks = np.empty(len(names), np.int64)
    ranks[[names[name] for name in ordered]] = np.arange(len(names))
    term = ranks[np.concatenate([np.empty(0, np.int64), *terms])]
    owner = np.concatenate([np.empty(0, np.int64), *owners])
    order = np.lexsort((term, owner))
    texts = [name.decode("utf-8", "replace") for name in ordered]
    return DocumentTerms(
        collection.documents, texts, document_frequencies(collection, texts),
        offsets_of(np.bincount(owner, minlength=len(rows))), term[order].astype(np.int32),
        np.concatenate([np.empty(0), *tfs])[order], lengths,
    )  # fmt: skip


def document_frequencies(collection: Collection, terms: list[str]) -> Int64:
    """int64[n]: the documents with each term. Raises FormatError where postings are damaged."""
    texts = Texts.from_strings(terms)
    df = np.zeros(len(terms), np.int64)
    for leaf in collection.leaves:
        df += leaf.counts_of(leaf.segment.lookup(texts))
    return df


def _read(leaf: Leaf, rows: Int64) -> tuple[Int32, Int64, Float64]:
    """(terms, numbers, frequencies) of documents of a segment; numbers are places in `rows`."""
    segment = leaf.segment
    segment.verify_all_postings()
    order = np.argsort(rows)
    counts = np.bincount(rows >> WINDOW_BITS, minlength=segment.windows)
    wanted = (rows[order] & (WINDOW - 1)).astype(np.uint16)
    most = int(segment.lengths[rows].sum(dtype=np.int64))
    terms, numbers, tfs = np.empty((3, most), np.int32)
    found = read_documents(terms, numbers, tfs, segment.postings, wanted, offsets_of(counts))
    return terms[:found], order[numbers[:found]], tfs[:found].astype(np.float64)
