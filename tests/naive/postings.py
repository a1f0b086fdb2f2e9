"""Postings of segments as lists of (document, frequency): counted, merged, encoded; the distinct
terms of queries; the sums of a document's squared weights. Nothing of fastseq is imported."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby, zip_longest

WINDOW = 65_536
LARGE = 255
LARGE_PACKED = 15  # of frequencies that are packed two to a byte

Postings = list[list[tuple[int, int]]]  # of each term, by document


def count_live(postings: Postings, deleted: set[int], terms: Sequence[int]) -> list[int]:
    """The documents of each term that are not deleted."""
    return [sum(row not in deleted for row, _ in postings[term]) for term in terms]


def merge(
    segments: Sequence[Postings], rows: Sequence[Sequence[int]], terms: Sequence[Sequence[int]],
    size: int,
) -> Postings:  # fmt: skip
    """One segment of several.

    rows  of each segment: the new row of each document, -1 for a deleted one
    terms  of each segment: the new number of each term
    size  the number of new terms
    """
    merged: Postings = [[] for _ in range(size)]
    for postings, new_rows, new_terms in zip(segments, rows, terms, strict=True):
        for term, found in zip(new_terms, postings, strict=True):
            merged[term] += [(new_rows[row], tf) for row, tf in found if new_rows[row] >= 0]
    return merged


def runs(found: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(window, postings in it) of one term's postings."""
    windows = groupby(row // WINDOW for row, _ in found)
    return [(window, len(list(members))) for window, members in windows]


def encode(postings: Postings, packed: bool = False) -> dict[str, list[int]]:
    """The arrays of the format; packed frequencies are two to a byte."""
    every = [posting for found in postings for posting in found]
    every_run = [run for found in postings for run in runs(found)]
    mark = LARGE_PACKED if packed else LARGE
    tfs = [min(tf, mark) for _, tf in every]
    if packed:
        pairs = zip_longest(tfs[::2], tfs[1::2], fillvalue=0)
        tfs = [first + 16 * second for first, second in pairs]
    large = [(at, tf) for at, (_, tf) in enumerate(every) if tf >= mark]
    return {
        "docs": [row % WINDOW for row, _ in every],
        "tfs": tfs,
        "run_window": [window for window, _ in every_run],
        "run_count": [count - 1 for _, count in every_run],
        "large_at": [at for at, _ in large],
        "large_tf": [tf for _, tf in large],
    }


def count_terms(
    queries: Sequence[Sequence[int]], df: Sequence[int], names: Sequence[bytes]
) -> list[list[tuple[int, int]]]:
    """(term, occurrences) of each query's distinct terms that a document has, by their bytes."""
    counts = [Counter(term for term in query if df[term]) for query in queries]
    return [sorted(count.items(), key=lambda pair: names[pair[0]]) for count in counts]


def document_sums(
    postings: Postings, documents: int, values: Sequence[Sequence[float]]
) -> tuple[list[int], list[int]]:
    """(sums in units of 2^-64, distinct terms) of each document; `values` of each posting are
    squared. Each square is a float64, cut to the unit before it is added."""
    sums, unique = [0] * documents, [0] * documents
    for found, weights in zip(postings, values, strict=True):
        for (row, _), weight in zip(found, weights, strict=True):
            sums[row] += math.floor(Fraction(min(weight * weight, 2.0**62)) * 2**64)
            unique[row] += 1
    return sums, unique
