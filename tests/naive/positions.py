"""The kernels of positions by definition. Nothing of fastseq is imported.

A posting is (document, positions): its frequency is the number of its positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from tests.naive import inverted

Posting = tuple[int, list[int]]
Postings = list[list[Posting]]  # of each term, by document


def encode(positions: Sequence[int]) -> bytes:
    """The positions of one posting: the first, and the distances to each next one."""
    distances = [*positions[:1], *(b - a for a, b in pairwise(positions))]
    return b"".join(map(inverted.integer, distances))


def invert(documents: Sequence[Sequence[Sequence[int]]], first: int) -> dict[int, list[Posting]]:
    """The postings of the terms of documents given by the terms of their columns; -1 is a removed
    word. `first` is the number of the first document."""
    found: dict[int, list[Posting]] = {}
    for row, columns in enumerate(documents, first):
        position = 0
        for column in columns:
            for term in column:
                if term >= 0:
                    postings = found.setdefault(term, [(row, [])])
                    if postings[-1][0] != row:
                        postings.append((row, []))
                    postings[-1][1].append(position)
                position += 1
            position += inverted.COLUMN_GAP
    return dict(sorted(found.items()))


def data_of(postings: Postings) -> bytes:
    """The positions of all postings."""
    return b"".join(encode(positions) for term in postings for _, positions in term)


def blocks_of(postings: Postings) -> list[int]:
    """The bytes of the positions of each block of postings."""
    sizes = [len(encode(positions)) for term in postings for _, positions in term]
    return [sum(sizes[at : at + inverted.BLOCK]) for at in range(0, len(sizes) + 1, inverted.BLOCK)]


def block_starts(postings: Postings) -> list[int]:
    """Where the positions of each block start, and their end."""
    return [0, *accumulate(blocks_of(postings))]


def merge(
    segments: Sequence[Postings], rows: Sequence[Sequence[int]], terms: Sequence[Sequence[int]],
    size: int,
) -> list[bytes]:  # fmt: skip
    """The positions of each term of one segment of several.

    rows  of each segment: the new row of each document, -1 for a deleted one
    terms  of each segment: the new number of each term, -1 where only deleted documents have it
    """
    merged = [b""] * size
    for postings, new_rows, new_terms in zip(segments, rows, terms, strict=True):
        for term, found in zip(new_terms, postings, strict=True):
            for row, positions in found:
                if new_rows[row] >= 0:
                    merged[term] += encode(positions)
    return merged
