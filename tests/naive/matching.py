"""Frequencies of phrases and of words near each other, edit distance and wildcards, by definition.

Positions are ascending lists of integers, one list for each slot of a phrase; a slot of several
words has the positions of all of them. Nothing of fastseq is imported.
"""

from __future__ import annotations

from collections.abc import Sequence

Positions = Sequence[Sequence[int]]


def exact_phrase(slots: Positions, offsets: Sequence[int]) -> int:
    """How often every slot is at its offset from one place."""
    places = [{*slot} for slot in slots]
    return sum(
        all(start - offsets[0] + offset in own for own, offset in zip(places, offsets, strict=True))
        for start in slots[0]
    )


def sloppy_phrase(slots: Positions, offsets: Sequence[int], slop: int) -> float:
    """The frequency of a sloppy phrase as Lucene computes it (SloppyPhraseMatcher): the sum of
    1 / (1 + match length) over the matches of a match length of at most `slop`.

    Each slot, two at least, has a cursor into its positions, all at the first. The adjusted
    position of a cursor is its position minus the slot's offset; `end` is the largest adjusted
    position that any cursor has had.

    Collisions: while two cursors are at the same position (which is only possible where slots share
    a word), the one with the larger offset advances. They are resolved at the start and after every
    step; what is left is 0 if a cursor runs out at the start.

    1. Take the cursor of the smallest adjusted position, of equal ones the one with the smaller
       offset. `next` is the smallest adjusted position of the others, and stays as it is; the match
       length is `end` minus the cursor's adjusted position.
    2. Advance the cursor and resolve collisions. If any cursor runs out, the match counts, and that
       was the last one.
    3. If its adjusted position now exceeds `next`, the match counts, and 1 follows; else the match
       length is the smaller of itself and `end` minus the adjusted position, and 2 follows.
    """
    at = [0] * len(slots)
    if not all(slots):
        return 0.0

    def adjusted(cursor: int) -> int:
        return slots[cursor][at[cursor]] - offsets[cursor]

    end = max(map(adjusted, range(len(slots))))

    def advance(cursor: int) -> bool:
        nonlocal end
        at[cursor] += 1
        if at[cursor] == len(slots[cursor]):
            return False
        end = max(end, adjusted(cursor))
        return True

    def resolved() -> bool:
        """False where a cursor runs out."""
        while True:
            known: dict[int, int] = {}
            for cursor in range(len(slots)):
                other = known.setdefault(slots[cursor][at[cursor]], cursor)
                if other != cursor:
                    if not advance(max(cursor, other, key=lambda each: offsets[each])):
                        return False
                    break
            else:
                return True

    frequency = 0.0
    if not resolved():
        return frequency
    while True:
        lowest = min(range(len(slots)), key=lambda each: (adjusted(each), offsets[each]))
        following = min(adjusted(each) for each in range(len(slots)) if each != lowest)
        length = end - adjusted(lowest)
        while True:
            goes_on = advance(lowest) and resolved()
            if not goes_on or adjusted(lowest) > following:
                frequency += 1 / (1 + length) if length <= slop else 0.0
                break
            length = min(length, end - adjusted(lowest))
        if not goes_on:
            return frequency


def near(slots: Positions, distance: int, in_order: bool) -> float:
    """The sum of 1 / (1 + other positions) over the minimal intervals that have a position of their
    own for every slot (ascending ones with `in_order`) and at most `distance` others."""
    places = sorted({place for slot in slots for place in slot})
    # of each start the nearest end, which is never before that of an earlier start
    ends: list[int | None] = []
    first = 0
    for start in places:
        while first < len(places) and not has_all(slots, start, places[first], in_order):
            first += 1
        ends.append(places[first] if first < len(places) else None)
    frequency = 0.0
    for start, end, later in zip(places, ends, [*ends[1:], None], strict=True):
        if end is not None and end != later:
            others = end - start + 1 - len(slots)
            frequency += 1 / (1 + others) if others <= distance else 0.0
    return frequency


def has_all(slots: Positions, start: int, end: int, in_order: bool) -> bool:
    """Whether an interval has a different position for every slot, in their order if wanted."""
    if not slots:
        return True
    inside = [[place for place in slot if start <= place <= end] for slot in slots]
    if in_order:
        return bool(inside[0]) and has_all(inside[1:], inside[0][0] + 1, end, True)
    rarest, *others = sorted(inside, key=len)
    for place in rarest:
        left = [[other for other in slot if other != place] for slot in others]
        if has_all(left, start, end, False):
            return True
    return False


def edits(one: str, other: str) -> int:
    """Optimal string alignment: insertions, deletions, substitutions and transpositions of
    neighbours, of which none is edited twice."""
    table = [[max(i, j) for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            table[i][j] = min(
                table[i - 1][j] + 1,
                table[i][j - 1] + 1,
                table[i - 1][j - 1] + (one[i - 1] != other[j - 1]),
            )
            if i > 1 and j > 1 and one[i - 2 : i] == other[j - 1] + other[j - 2]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


def wildcard(pattern: str, word: str) -> bool:
    """Whether a word has the form of a pattern: ? is one character, * any number of them, and a
    backslash makes the character after it an ordinary one."""
    if not pattern:
        return not word
    head, rest = pattern[0], pattern[1:]
    if head == "*":
        return any(wildcard(rest, word[at:]) for at in range(len(word) + 1))
    if head == "?":
        return bool(word) and wildcard(rest, word[1:])
    if head == "\\" and rest:
        head, rest = rest[0], rest[1:]
    return word[:1] == head and wildcard(rest, word[1:])
