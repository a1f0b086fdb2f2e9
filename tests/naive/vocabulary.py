"""Edit distance, common prefixes and wildcards, in plain Python."""

from __future__ import annotations

import re
from collections.abc import Sequence


def edit_distance(a: str, b: str) -> int:
    """Optimal string alignment distance: insertions, deletions, substitutions and transpositions of
    neighbours (the table of Wagner & Fischer 1974)."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) + 1):
        for j in range(len(b) + 1):
            if not i or not j:
                table[i][j] = i + j
                continue
            table[i][j] = min(
                table[i - 1][j] + 1,
                table[i][j - 1] + 1,
                table[i - 1][j - 1] + (a[i - 1] != b[j - 1]),
            )
            if i > 1 and j > 1 and a[i - 2 : i] == b[j - 2 : j][::-1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


def similar(
    words: Sequence[str], word: str, max_edits: int, prefix_length: int
) -> list[tuple[int, int]]:
    """(number, distance) of the words within max_edits that begin as `word`, by their bytes."""
    prefix, rest = word[:prefix_length], word[prefix_length:]
    found = [
        (number, edit_distance(rest, other[len(prefix) :]))
        for number, other in enumerate(words)
        if other.startswith(prefix)
    ]
    near = [pair for pair in found if pair[1] <= max_edits]
    return sorted(near, key=lambda pair: words[pair[0]].encode())


def by_bytes(words: Sequence[str]) -> list[int]:
    """The numbers of the words in the order of their bytes."""
    return sorted(range(len(words)), key=lambda number: words[number].encode())


def common_prefix(a: bytes, b: bytes) -> int:
    """The number of equal bytes at the beginning."""
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def wildcard_matches(pattern: str, word: str) -> bool:
    """Whether a wildcard matches a word: by a regular expression of Python."""
    parts, at = [], 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\" and at + 1 < len(pattern):
            at += 1
            parts.append(re.escape(pattern[at]))
        else:
            parts.append({"*": ".*", "?": "."}.get(character, re.escape(character)))
        at += 1
    return re.fullmatch("".join(parts), word, re.DOTALL) is not None
