"""Spans of lists of tags, through the product's own reading and counts."""

from __future__ import annotations

import numpy as np

from fastseq.models.metrics import SchemeTags, SpanCounts, SpanScore, TagScheme

IOB2 = TagScheme("IOB2")
Rows = list[list[str]]


def codes_of(names: list[str], rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Tags as numbers of names, and where sequences begin and end."""
    codes = np.array([names.index(tag) for row in rows for tag in row], np.int32)
    return codes, np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)


def spans(
    tags: list[str], scheme: TagScheme = IOB2, strict: bool = False
) -> list[tuple[int, int, str]]:
    """Start, stop and type of the spans of one sequence."""
    names = sorted(set(tags))
    own = SchemeTags(scheme, names)
    found = own.spans(*codes_of(names, [tags]), strict)
    return [(a, b, own.types[k]) for a, b, k in zip(*map(np.ndarray.tolist, found), strict=True)]


def violation(tags: list[str], scheme: TagScheme) -> str:
    """The first step of a sequence that is not well formed, in words."""
    names = sorted(set(tags))
    return SchemeTags(scheme, names).violations(*codes_of(names, [tags]))[2]


def counted(gold: Rows, predicted: Rows, scheme: TagScheme = IOB2) -> SpanCounts:
    """The counts of the spans of all sequences."""
    assert [*map(len, gold)] == [*map(len, predicted)]
    names = sorted({tag for row in [*gold, *predicted] for tag in row})
    expected, offsets = codes_of(names, gold)
    counts = SpanCounts(scheme)
    counts.add(names, expected, codes_of(names, predicted)[0], offsets)
    return counts


def span_f1(
    gold: Rows, predicted: Rows, scheme: TagScheme = IOB2, strict: bool = False
) -> SpanScore:
    """Scores of the spans of all types together."""
    return counted(gold, predicted, scheme).score(strict)
