"""Random documents, and indexes of them in one or several segments."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fastseq import Index


def random_rows(
    chance: random.Random, name: str, words: Sequence[str], power: int, count: int, longest: int
) -> list[dict[str, Any]]:
    """Documents of up to `longest` words, the nth about n^-power times as often as the first, with
    ids that begin with a name and a `part` from 0 to 5."""
    weights = [1 / (n + 1) ** power for n in range(len(words))]
    return [
        {
            "id": f"{name}.{number}",
            "text": " ".join(chance.choices(words, weights, k=chance.randint(0, longest))),
            "part": chance.randint(0, 5),
        }
        for number in range(count)
    ]


def built(
    path: Path, parts: Iterable[Sequence[dict[str, Any]]], delete: int, **settings: Any
) -> Index:
    """An index with a segment of each part, without every nth document; 0 for all documents."""
    first, *others = parts
    index = Index.build(first, path, store=["part"], threads=1, **settings)
    for rows in others:
        index.add(rows, threads=1)
    if delete:
        ids = [row["id"] for rows in (first, *others) for row in rows]
        index.delete(ids[::delete], threads=1)
    assert len(index._collection.leaves) == 1 + len(others)
    return index
