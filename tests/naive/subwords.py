"""fastText's character n-grams and their buckets, in plain Python."""

from __future__ import annotations


def subwords(word: str, low: int, high: int) -> list[str]:
    """The n-grams of a word, by where they begin, the short ones first."""
    if high == 0 or word == "</s>":
        return []
    padded = f"<{word}>"
    return [
        padded[start:stop]
        for start in range(len(padded))
        for stop in range(start + low, min(start + high, len(padded)) + 1)
        if padded[start:stop] not in ("<", ">") or 0 < start < len(padded) - 1
    ]


def fnv1a(text: str | bytes) -> int:
    """The 32-bit FNV-1a hash of the (UTF-8) bytes, taken as signed characters."""
    h = 2166136261
    for byte in text if isinstance(text, bytes) else text.encode("utf-8"):
        signed = byte - 256 if byte > 127 else byte
        h = ((h ^ (signed & 0xFFFFFFFF)) * 16777619) % 2**32
    return h


def buckets(word: str, low: int, high: int, number: int) -> list[int]:
    return [fnv1a(ngram) % number for ngram in subwords(word, low, high)]


def vector(rows: list[list[float]]) -> list[float]:
    """The mean of some rows, in float64."""
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]
