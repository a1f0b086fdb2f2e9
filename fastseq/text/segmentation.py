"""Chinese word segmentation, through rjieba (the extra `chinese`)."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

from fastseq.errors import MissingExtraError


def segmenter() -> Callable[[str], list[str]]:
    """The function that cuts a run of Han and kana into words.

    Raises MissingExtraError when rjieba is not installed.
    """
    try:
        import rjieba
    except ImportError:
        raise MissingExtraError(
            "cjk='words' needs the package rjieba: pip install 'fastseq[chinese]'"
        ) from None
    cut: Callable[[str], list[str]] = rjieba.cut
    return cut


def segmenter_version() -> str:
    """The version of rjieba, with its dictionary; empty when it is not installed."""
    try:
        return metadata.version("rjieba")
    except metadata.PackageNotFoundError:
        return ""
