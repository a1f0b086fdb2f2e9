"""Phrases by dictionaries of tuples, word after word."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

Parts = tuple[str, ...]
Sentences = Sequence[Sequence[str]]


def pairs(sentence: Sequence[str], common: Collection[str]) -> Iterable[Parts]:
    """Every word with the one before that is not common, and the common ones between."""
    for end, word in enumerate(sentence):
        start = end - 1
        while start >= 0 and sentence[start] in common:
            start -= 1
        if word not in common and start >= 0:
            yield tuple(sentence[start : end + 1])


def find(
    sentences: Sentences, min_count: int, threshold: float, scoring: str, common: Collection[str]
) -> dict[Parts, tuple[float, int]]:
    """{words of a phrase: (score, count)}"""
    words = Counter(word for sentence in sentences for word in sentence)
    counts = Counter(pair for sentence in sentences for pair in pairs(sentence, common))
    total = sum(words.values())
    different = len(counts) + sum(word not in common for word in words)
    found = {}
    for parts, count in counts.items():
        a, b = words[parts[0]], words[parts[-1]]
        if scoring == "default":
            score = (count - min_count) / (a * b) * different
        elif count >= min_count:
            score = math.log(count / total / (a / total * (b / total))) / -math.log(count / total)
        else:
            continue
        if score > threshold:
            found[parts] = score, count
    return found


def join(sentences: Sentences, found: Collection[Parts], common: Collection[str]) -> Sentences:
    """Phrases joined, from left to right."""
    return [_joined(list(sentence), found, common) for sentence in sentences]


def _joined(sentence: list[str], found: Collection[Parts], common: Collection[str]) -> list[str]:
    out: list[str] = []
    at = 0
    while at < len(sentence):
        end = at + 1
        while end < len(sentence) and sentence[end] in common:
            end += 1
        parts = tuple(sentence[at : end + 1])
        if sentence[at] not in common and end < len(sentence) and parts in found:
            out.append("_".join(parts))
            at = end + 1
        else:
            out.append(sentence[at])
            at += 1
    return out
