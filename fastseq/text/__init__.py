"""Text analysis: analyzers, and the lexicon that turns texts into token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastseq.text.analyzer import Analyzer
    from fastseq.text.lexicon import Lexicon

__all__ = ["Analyzer", "Lexicon"]


def __getattr__(name: str) -> Any:
    """The public names, loaded when first asked for: Numba comes with the lexicon."""
    if name == "Analyzer":
        from fastseq.text.analyzer import Analyzer

        return Analyzer
    if name == "Lexicon":
        from fastseq.text.lexicon import Lexicon

        return Lexicon
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
