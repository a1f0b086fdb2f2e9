"""Phrases and words near each other in documents that are lists of tokens, by definition. Nothing
of fastseq is imported.

A document is its tokens, None where a word was removed. A slot is the set of tokens that may be in
its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from itertools import product
from typing import Any

Document = Sequence[Any]
Slot = Collection[Any]


def positions(document: Document, slot: Slot) -> list[int]:
    return [at for at, token in enumerate(document) if token is not None and token in slot]


def exact(document: Document, slots: Sequence[Slot], offsets: Sequence[int]) -> float:
    """The number of places at which the phrase starts."""
    starts = [
        {at - offset for at in positions(document, slot)}
        for slot, offset in zip(slots, offsets, strict=True)
    ]
    return float(len(set.intersection(*starts)))


class _Cursor:
    def __init__(self, places: list[int], offset: int) -> None:
        self.rest, self.offset = deque(places), offset
        self.at = self.rest.popleft()

    @property
    def adjusted(self) -> int:
        return self.at - self.offset

    def move(self) -> bool:
        """Whether there was a next position."""
        if not self.rest:
            return False
        self.at = self.rest.popleft()
        return True


def sloppy(document: Document, slots: Sequence[Slot], offsets: Sequence[int], slop: int) -> float:
    """The sum of 1 / (1 + length) over the matches of Lucene's SloppyPhraseMatcher."""
    places = [positions(document, slot) for slot in slots]
    if not all(places):
        return 0.0
    if len(slots) == 1:
        return float(len(places[0]))
    cursors = []
    for own, offset in zip(places, offsets, strict=True):
        cursor = _Cursor(own, offset)
        while any(cursor.at == other.at for other in cursors):
            if not cursor.move():
                return 0.0
        cursors.append(cursor)
    end = max(cursor.adjusted for cursor in cursors)
    total = 0.0
    while True:
        first = min(cursors, key=lambda cursor: (cursor.adjusted, cursor.offset))
        following = min(cursor.adjusted for cursor in cursors if cursor is not first)
        length = end - first.adjusted
        while True:
            moving: _Cursor | None = first
            while moving is not None:
                if not moving.move():
                    return total + (1 / (1 + length) if length <= slop else 0.0)
                end = max(end, moving.adjusted)
                same = [c for c in cursors if c is not moving and c.at == moving.at]
                moving = max([moving, *same], key=lambda c: c.offset) if same else None
            if first.adjusted > following:
                break
            length = min(length, end - first.adjusted)
        if length <= slop:
            total += 1 / (1 + length)


def near(document: Document, words: Sequence[Any], distance: int, in_order: bool) -> float:
    """The sum of 1 / (1 + others) over the minimal intervals with all words, each at a position of
    its own, that have at most `distance` other positions."""
    intervals = set()
    for places in product(*[positions(document, {word}) for word in words]):
        if len(set(places)) == len(places) and (not in_order or list(places) == sorted(places)):
            intervals.add((min(places), max(places)))
    total = 0.0
    for first, last in intervals:
        if any((a, b) != (first, last) and first <= a and b <= last for a, b in intervals):
            continue
        others = last - first + 1 - len(words)
        if others <= distance:
            total += 1 / (1 + others)
    return total
