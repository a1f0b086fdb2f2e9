"""Inverted slices as `Merge` takes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastseq.index.slices import Slice, SliceStore


def stored(slices: Iterable[Slice]) -> SliceStore:
    """The slices, in memory."""
    store = SliceStore(lambda: Path("nowhere"))
    for one in slices:
        store.append(one)
    return store
