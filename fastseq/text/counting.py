"""Counting the terms of texts, and the document-term matrices made of the counts.

Which terms are columns is known only when every text has been read, so the ids of the texts are
kept, and become the rows of a sparse matrix in slices on several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastseq.kernels.text import counts as kernels
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import Lexicon, encode_slices, joined_levels
from fastseq.types import Float64, Int32, Int64, Texts, Tokens, UInt64, offsets_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# weights of a slice's terms: (values out, counts, columns, starts int64[D + 1], lengths int64[D])
Weigh = Callable[[Float64, Int32, Int32, Int64, Int64], None]

_INT32_MAX = 2**31 - 1
_PARTS = 4  # per thread, where the parts of a sort are of unequal size


@dataclass(slots=True)
class _Slice:
    """Consecutive texts: their ids for each n of the n-grams, and their lengths in terms [D]."""

    levels: list[Tokens]
    lengths: Int64


class _Frequencies:
    """Document frequencies and, with `totals`, occurrences of the terms of one n-gram level."""

    def __init__(self, totals: bool) -> None:
        self._with_totals = totals
        self._seen: Int32 = np.zeros(0, np.int32)  # (1 + last text, document frequency) of a term
        self._totals: Int64 = np.zeros(0, np.int64)

    def add(self, ids: Tokens, first: int, size: int) -> None:
        """Count texts, the first of them number `first`, whose ids are below `size`."""
        if 2 * size > len(self._seen):
            self._seen = np.pad(self._seen, (0, 3 * size - len(self._seen)))
        if self._with_totals and size > len(self._totals):
            self._totals = np.pad(self._totals, (0, size + size // 2 - len(self._totals)))
        kernels.count_documents(self._seen, self._totals, ids.values, ids.offsets, first)

    def finish(self, size: int) -> tuple[Int64, Int64]:
        """(df, totals) of the terms."""
        return self._seen[1 : 2 * size : 2].astype(np.int64), self._totals[:size]


class TermCounts:
    """Texts that were read, with the frequencies of their terms.

    Parameters
    ----------
    slices : the texts; iterated in this thread
    keep : whether `matrix` will be called
    frequencies, totals : whether to count df, and totals

    Attributes
    ----------
    terms : the distinct terms, by id; with n-grams section after section
    documents, tokens : numbers of texts, and of terms in all of them
    df : int64[V], texts that have each term
    totals : int64[V], occurrences of each term

    Raises RowError for a text that is not UTF-8, unless the analyzer replaces.
    """

    def __init__(
        self, analyzer: Analyzer, slices: Iterable[Texts], threads: int, *,
        keep: bool = True, frequencies: bool = True, totals: bool = False,
    ) -> None:  # fmt: skip
        lexicon = Lexicon(analyzer)
        # tokens of a function may contain spaces: n-grams of different tokens may be equal
        ambiguous = callable(analyzer.tokenizer) and analyzer.ngrams[1] > 1
        counted = [_Frequencies(totals) for _ in lexicon.section_sizes]
        self._slices: list[_Slice] = []
        self.documents = self.tokens = 0

        def finish(_: int, levels: list[Tokens]) -> _Slice:
            lengths: Int64 = np.sum(
                [np.diff(ids.offsets) for ids in levels], axis=0, dtype=np.int64
            )
            if keep or ambiguous:
                # the kernels' buffers are longer than what they hold
                levels = [Tokens(ids.values.copy(), ids.offsets) for ids in levels]
            return _Slice(levels, lengths)

        for texts, one in encode_slices(lexicon, slices, finish, threads):
            if frequencies and not ambiguous:
                for level, ids, size in zip(
                    counted, one.levels, lexicon.section_sizes, strict=True
                ):
                    level.add(ids, self.documents, size)
            self.documents += len(texts)
            self.tokens += int(one.lengths.sum())
            if keep or ambiguous:
                self._slices.append(one)
        self._sizes = lexicon.section_sizes
        self.terms = lexicon.terms()
        if ambiguous:
            counted = [_Frequencies(totals)]
            self._merge_equal_terms(counted[0], frequencies)
        found = [level.finish(n) for level, n in zip(counted, self._sizes, strict=True)]
        self.df: Int64 = np.concatenate([df for df, _ in found])
        self.totals: Int64 = np.concatenate([total for _, total in found])

    def _merge_equal_terms(self, counted: _Frequencies, frequencies: bool) -> None:
        """Give equal terms one id, in the slices too, and count them."""
        known: dict[str, int] = {}
        ids_of = [known.setdefault(term, len(known)) for term in self.terms.to_strings()]
        new_ids = np.array(ids_of, np.int32)
        first = 0
        for one in self._slices:
            ids = joined_levels(one.levels, self._sizes)
            one.levels = [Tokens(new_ids[ids.values], ids.offsets)]
            if frequencies:
                counted.add(one.levels[0], first, len(known))
            first += len(ids)
        self.terms, self._sizes = Texts.from_strings(known), [len(known)]

    def matrix(
        self, columns: Int32, width: int, dtype: npt.DTypeLike, threads: int, *,
        binary: bool = False, weigh: Weigh | None = None,
    ) -> csr_matrix:  # fmt: skip
        """The document-term matrix, [documents, width], columns ascending in each row.

        columns  int32[V]  the column of each term, or -1
        binary   count every term as one
        weigh    computes weights from counts, called in the threads; None: the counts

        To be called once: the ids of the texts are freed.
        """
        import scipy.sparse

        slices, bits = self._slices, max(width - 1, 1).bit_length()

        def sort(one: _Slice) -> tuple[Tokens, Int64, Int64]:
            ids = joined_levels(one.levels, self._sizes)
            one.levels = []
            lengths, distinct = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64)
            spare = np.empty(np.diff(ids.offsets).max(initial=0), np.int32)
            kernels.sort_rows(
                ids.values, lengths, distinct, spare, np.empty(256, np.int32), ids.offsets, columns,
                bits,
            )  # fmt: skip
            return ids, lengths, offsets_of(distinct)

        with ThreadPoolExecutor(threads, "fastseq-rows") as pool:
            rows = list(pool.map(sort, slices))
            bases = offsets_of([starts[-1] for _, _, starts in rows]).tolist()
            parts = [s[1:] + base for (_, _, s), base in zip(rows, bases, strict=False)]
            indptr = np.concatenate([np.zeros(1, np.int64), *parts])
            data = np.empty(bases[-1], dtype)
            indices = np.empty(len(data), np.int32)

            def write(at: int) -> None:
                (ids, lengths, starts), part = rows[at], slice(bases[at], bases[at + 1])
                counts = np.empty(part.stop - part.start, np.int32)
                kernels.write_rows(indices[part], counts, ids.offsets, lengths, ids.values)
                if binary:
                    counts.fill(1)
                if weigh is None:
                    data[part] = counts
                    return
                values = data[part] if data.dtype == np.float64 else np.empty(len(counts))
                weigh(values, counts, indices[part], starts, slices[at].lengths)
                if data.dtype != np.float64:
                    data[part] = values

            list(pool.map(write, range(len(slices))))
        if len(data) <= _INT32_MAX:
            indptr = indptr.astype(np.int32)
        else:
            indices = indices.astype(np.int64)
        shape = (self.documents, width)
        made = scipy.sparse.csr_matrix((data, indices, indptr), shape=shape, copy=False)
        made.has_sorted_indices = True
        made.has_canonical_format = True
        return made


def ascending(terms: Texts, chosen: Int32, threads: int) -> Int32:
    """`chosen` (term ids) in the order of the terms' bytes, which is that of their code points."""
    order = chosen
    keys: UInt64 = np.empty(len(order), np.uint64)
    kernels.sort_keys(keys, order, terms.data, terms.offsets)
    # a first cut by two bytes, so that the threads have ranges of their own
    prefixes = (keys >> np.uint64(48)).astype(np.uint16)
    places = np.argsort(prefixes, kind="stable")
    order, keys = order[places], keys[places]
    borders = np.append(np.flatnonzero(np.diff(prefixes[places])) + 1, len(order))
    ideal = np.linspace(0, len(order), threads * _PARTS + 1)[1:]
    cuts = [0, *np.unique(borders[np.searchsorted(borders, ideal)]).tolist()]

    def sort(part: tuple[int, int]) -> None:
        n = part[1] - part[0]
        kernels.sort_terms(
            order[slice(*part)], keys[slice(*part)], np.empty(n, np.int32), np.empty(n, np.uint64),
            np.empty(2 * n + 8, np.int64), np.empty(257, np.int64), terms.data, terms.offsets,
        )  # fmt: skip

    with ThreadPoolExecutor(threads, "fastseq-sort") as pool:
        list(pool.map(sort, pairwise(cuts)))
    return order


def taken(terms: Texts, order: Int32) -> Texts:
    """The texts `order`, in that order."""
    offsets = offsets_of(np.diff(terms.offsets)[order])
    data = np.empty(int(offsets[-1]), np.uint8)
    kernels.gather_texts(data, offsets, order, terms.data, terms.offsets)
    return Texts(data, offsets)
