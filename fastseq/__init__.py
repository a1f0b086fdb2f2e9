"""fastseq: search and text features over Parquet, compiled by Numba.

    import fastseq
    index = fastseq.Index.build("corpus.parquet", "my-index")
    index.search("black cat").to_dicts()

The names below are loaded when first used, so that `import fastseq` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastseq.errors import (
        DataError,
        FastseqError,
        FormatError,
        MissingExtraError,
        NotFittedError,
        SettingsError,
    )
    from fastseq.features.kinds import BM25Features, CountFeatures, TfidfFeatures
    from fastseq.search.hits import Hits
    from fastseq.search.index import Index
    from fastseq.search.models import BM25, TFIDF, BoW
    from fastseq.store.corpus import Corpus
    from fastseq.text.analyzer import Analyzer

__version__ = "0.1.0"

_HOMES = {
    "Analyzer": "fastseq.text.analyzer",
    "BM25": "fastseq.search.models",
    "BM25Features": "fastseq.features.kinds",
    "BoW": "fastseq.search.models",
    "Corpus": "fastseq.store.corpus",
    "CountFeatures": "fastseq.features.kinds",
    "DataError": "fastseq.errors",
    "FastseqError": "fastseq.errors",
    "FormatError": "fastseq.errors",
    "Hits": "fastseq.search.hits",
    "Index": "fastseq.search.index",
    "MissingExtraError": "fastseq.errors",
    "NotFittedError": "fastseq.errors",
    "SettingsError": "fastseq.errors",
    "TFIDF": "fastseq.search.models",
    "TfidfFeatures": "fastseq.features.kinds",
}

__all__ = [
    "BM25",
    "TFIDF",
    "Analyzer",
    "BM25Features",
    "BoW",
    "Corpus",
    "CountFeatures",
    "DataError",
    "FastseqError",
    "FormatError",
    "Hits",
    "Index",
    "MissingExtraError",
    "NotFittedError",
    "SettingsError",
    "TfidfFeatures",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastseq' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
