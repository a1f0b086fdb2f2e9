"""Sequence models. `load` opens whichever stands in a folder; it is imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastseq.models.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name != "load":
        raise AttributeError(f"module 'fastseq.models' has no attribute {name!r}")
    from fastseq.models.loading import load

    return load
