"""Spans named by BIO tags, and their precision, recall and F1 as conlleval counts them.

A tag is "O", or a prefix alone ("B") or a prefix, a hyphen and a type ("B-PER"). B and I make
BIO; E (the last of several) and S (a span of one) beside them make BIOES. Spans are read as
conlleval (Tjong Kim Sang, Buchholz 2000) and seqeval's default mode read them: an I that cannot
go on with the span before it begins a new one, so nothing tagged is lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fastseq.errors import DataError

_TAG = re.compile(r"O|[BIES](-.+)?", re.DOTALL)


class Span(NamedTuple):
    """Positions start:stop of a sequence, of one type ("" where tags have none)."""

    start: int
    stop: int
    kind: str


class SpanScore(NamedTuple):
    """Fractions of predicted spans that are right, of right spans found, and their harmonic mean.

    A fraction of nothing is 0.
    """

    precision: float
    recall: float
    f1: float


def is_bio(names: Iterable[str]) -> bool:
    """Whether these are the names of BIO (or BIOES) tags: all of that form, a B or an I there."""
    tags = list(names)
    return all(_TAG.fullmatch(tag) for tag in tags) and any(tag[0] in "BI" for tag in tags)


def spans(tags: Sequence[str]) -> list[Span]:
    """The spans of one sequence, from left to right; they do not overlap.

    Raises DataError for a tag that is not of the form above, with its position.
    """
    return list(_read(tags))


def _read(tags: Sequence[str]) -> Iterator[Span]:
    start = -1  # of the open span, -1 where there is none
    kind = ""
    for position, tag in enumerate(tags):
        if not _TAG.fullmatch(tag):
            raise DataError(f"tag {tag!r} at position {position} is not a BIO tag")
        prefix, of = tag[0], tag[2:]
        if start >= 0 and (prefix not in ("I", "E") or of != kind):
            yield Span(start, position, kind)
            start = -1
        if prefix == "O":
            continue
        if start < 0:
            start, kind = position, of
        if prefix in ("E", "S"):
            yield Span(start, position + 1, kind)
            start = -1
    if start >= 0:
        yield Span(start, len(tags), kind)


@dataclass(slots=True)
class SpanCounts:
    """Spans of each type, counted batch after batch.

    right   predicted where one of the same start, stop and type is expected
    given   predicted
    wanted  expected
    """

    right: Counter[str] = field(default_factory=Counter)
    given: Counter[str] = field(default_factory=Counter)
    wanted: Counter[str] = field(default_factory=Counter)

    def add(
        self,
        gold: Sequence[Sequence[str]],
        predicted: Sequence[Sequence[str]],
        first_row: int = 0,
    ) -> None:
        """Count the spans of more sequences, the first of which is called row `first_row`.

        Raises DataError when the sequences differ in number or length (with the row), or a tag is
        not of BIO's form.
        """
        if len(gold) != len(predicted):
            raise DataError(f"{len(predicted)} tag sequences are predicted, expected {len(gold)}")
        for row, (one, other) in enumerate(zip(gold, predicted, strict=True), first_row):
            if len(one) != len(other):
                raise DataError(f"row {row}: {len(other)} tags are predicted, expected {len(one)}")
            try:
                expected, found = set(_read(one)), set(_read(other))
            except DataError as error:
                raise DataError(f"row {row}: {error}") from None
            self.right.update(span.kind for span in expected & found)
            self.given.update(span.kind for span in found)
            self.wanted.update(span.kind for span in expected)

    def score(self) -> SpanScore:
        """Precision, recall and F1 over the spans of all types together (micro)."""
        return _score(self.right.total(), self.given.total(), self.wanted.total())

    def by_kind(self) -> dict[str, SpanScore]:
        """The same for each type on either side, in the order of their names."""
        kinds = sorted({*self.given, *self.wanted})
        return {k: _score(self.right[k], self.given[k], self.wanted[k]) for k in kinds}


def span_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> SpanScore:
    """Precision, recall and F1 over the spans of all sequences, all types together (micro).

    A predicted span is right where one of the same start, stop and type is in `gold`.

    Raises DataError as SpanCounts.add.
    """
    counts = SpanCounts()
    counts.add(gold, predicted)
    return counts.score()


def span_f1_by_kind(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, SpanScore]:
    """The same for each type on either side, in the order of their names."""
    counts = SpanCounts()
    counts.add(gold, predicted)
    return counts.by_kind()


def _score(right: int, given: int, wanted: int) -> SpanScore:
    precision = right / given if given else 0.0
    recall = right / wanted if wanted else 0.0
    both = precision + recall
    return SpanScore(precision, recall, 2 * precision * recall / both if both else 0.0)
