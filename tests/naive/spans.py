"""Spans of tags, token by token in pure Python: as conlleval and seqeval's two modes define them.

Tags are "O" or letter, hyphen and type. `encoded` writes spans (start, stop, type) as tags.
"""

from __future__ import annotations

from itertools import pairwise

Spans = list[tuple[int, int, str]]

LETTERS = {
    "IOB1": "BI", "IOB2": "BI", "IO": "I", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES",
}  # fmt: skip


def encoded(spans: Spans, length: int, scheme: str) -> list[str]:
    tags = ["O"] * length
    for start, stop, kind in spans:
        letters = ["I"] * (stop - start)
        if scheme == "IOB2":
            letters[0] = "B"
        elif scheme == "IOB1":
            letters[0] = "B" if any((b, k) == (start, kind) for _, b, k in spans) else "I"
        elif scheme != "IO":
            begin, inside, end, single = {"BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}[scheme]
            letters = [begin, *inside * (len(letters) - 2), end] if len(letters) > 1 else [single]
        tags[start:stop] = [f"{letter}-{kind}" for letter in letters]
    return tags


def _bies(tag: str) -> tuple[str, str]:
    """Letter, with those of all schemes as BIES, and type."""
    letter, _, kind = tag.partition("-")
    return {"L": "E", "U": "S", "M": "I"}.get(letter, letter), kind


def lenient(tags: list[str]) -> Spans:
    """conlleval's start-of-chunk and end-of-chunk rules."""
    found, start, open_kind = [], -1, ""
    steps = [("O", ""), *map(_bies, tags), ("O", "")]
    for position, ((before, kind), (letter, own)) in enumerate(pairwise(steps)):
        ends = before in ("E", "S") or (before in ("B", "I") and letter in ("B", "S", "O"))
        if (ends or (before != "O" and kind != own)) and start >= 0:
            found.append((start, position, open_kind))
            start = -1
        starts = letter in ("B", "S") or (before in ("E", "S", "O") and letter in ("E", "I"))
        if starts or (letter != "O" and kind != own):
            start, open_kind = position, own
    return found


# the patterns of seqeval.scheme: letter before, letter, whether of the same type (None: any)
ANY = "IOBES"
PATTERNS: dict[str, tuple[set[tuple[str, str, bool | None]], ...]] = {
    "IOB1": (
        {("O", "I", None), ("I", "I", False), ("B", "I", None), ("I", "B", True), ("B", "B", True)},
        {("B", "I", True), ("I", "I", True)},
        {("I", "I", False), ("I", "O", None), ("I", "B", None), ("B", "O", None),
         ("B", "I", False), ("B", "B", True)},
    ),
    "IOB2": (
        {(ANY, "B", None)},
        {("B", "I", True), ("I", "I", True)},
        {("I", "O", None), ("I", "I", False), ("I", "B", None), ("B", "O", None),
         ("B", "I", False), ("B", "B", None)},
    ),
    "BIOES": (
        {(ANY, "B", None), (ANY, "S", None)},
        {("B", "I", True), ("B", "E", True), ("I", "I", True), ("I", "E", True)},
        {("S", ANY, None), ("E", ANY, None)},
    ),
}  # fmt: skip
PATTERNS |= {"BILOU": PATTERNS["BIOES"], "BMES": PATTERNS["BIOES"], "IO": PATTERNS["IOB1"]}


def strict(tags: list[str], scheme: str) -> Spans:
    """seqeval's mode="strict"."""
    start, inside, end = PATTERNS[scheme]
    steps = [*map(_bies, tags), ("O", "")]

    def matches(a: tuple[str, str], b: tuple[str, str], patterns: object) -> bool:
        return any(
            a[0] in before and b[0] in letter and same in (None, a[1] == b[1])
            for before, letter, same in patterns  # type: ignore[attr-defined]
        )

    found, at, before = [], 0, ("O", "")
    while at < len(steps):
        if matches(before, steps[at], start):
            stop = at + 1
            while matches(steps[stop - 1], steps[stop], inside):
                stop += 1
            if matches(steps[stop - 1], steps[stop], end):
                found.append((at, stop, steps[at][1]))
            at = stop
        else:
            at += 1
        before = steps[at - 1]
    return found


def score(gold: list[Spans], predicted: list[Spans]) -> tuple[float, float, float, int]:
    """Micro-averaged precision, recall, F1 and the number of gold spans."""
    correct = sum(len({*a} & {*b}) for a, b in zip(gold, predicted, strict=True))
    given, support = sum(map(len, predicted)), sum(map(len, gold))
    precision, recall = correct / given if given else 0.0, correct / support if support else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0, support
