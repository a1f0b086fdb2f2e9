"""fastseq: search, text features and sequence models over Parquet, compiled by Numba.

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
        DeviceError,
        FastseqError,
        FormatError,
        MissingExtraError,
        NotFittedError,
        SettingsError,
        TrainingError,
    )
    from fastseq.features.estimators import BM25Features, CountFeatures, TfidfFeatures
    from fastseq.models.classifier import SequenceClassifier
    from fastseq.models.fasttext.classifier import FastTextClassifier
    from fastseq.models.fasttext.vectors import FastText
    from fastseq.models.forecaster import Forecaster
    from fastseq.models.language import LanguageModel
    from fastseq.models.tagger import SequenceTagger
    from fastseq.models.word_vectors.glove import GloVe
    from fastseq.models.word_vectors.phrases import Phrases
    from fastseq.models.word_vectors.word2vec import Word2Vec
    from fastseq.search.index import Hits, Index
    from fastseq.search.ranking import BM25, TFIDF, BoW
    from fastseq.store.rows import Corpus
    from fastseq.text.analyzer import Analyzer
    from fastseq.vectors.expansion import Expander
    from fastseq.vectors.words import WordVectors

__version__ = "0.1.0"

_HOMES = {
    "Analyzer": "fastseq.text.analyzer",
    "BM25": "fastseq.search.ranking",
    "BM25Features": "fastseq.features.estimators",
    "BoW": "fastseq.search.ranking",
    "Corpus": "fastseq.store.rows",
    "CountFeatures": "fastseq.features.estimators",
    "DataError": "fastseq.errors",
    "DeviceError": "fastseq.errors",
    "Expander": "fastseq.vectors.expansion",
    "FastTextClassifier": "fastseq.models.fasttext.classifier",
    "FastText": "fastseq.models.fasttext.vectors",
    "FastseqError": "fastseq.errors",
    "Forecaster": "fastseq.models.forecaster",
    "FormatError": "fastseq.errors",
    "GloVe": "fastseq.models.word_vectors.glove",
    "Hits": "fastseq.search.index",
    "Index": "fastseq.search.index",
    "LanguageModel": "fastseq.models.language",
    "MissingExtraError": "fastseq.errors",
    "NotFittedError": "fastseq.errors",
    "Phrases": "fastseq.models.word_vectors.phrases",
    "SequenceClassifier": "fastseq.models.classifier",
    "SequenceTagger": "fastseq.models.tagger",
    "SettingsError": "fastseq.errors",
    "TFIDF": "fastseq.search.ranking",
    "TfidfFeatures": "fastseq.features.estimators",
    "TrainingError": "fastseq.errors",
    "Word2Vec": "fastseq.models.word_vectors.word2vec",
    "WordVectors": "fastseq.vectors.words",
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
    "DeviceError",
    "Expander",
    "FastText",
    "FastTextClassifier",
    "FastseqError",
    "Forecaster",
    "FormatError",
    "GloVe",
    "Hits",
    "Index",
    "LanguageModel",
    "MissingExtraError",
    "NotFittedError",
    "Phrases",
    "SequenceClassifier",
    "SequenceTagger",
    "SettingsError",
    "TfidfFeatures",
    "TrainingError",
    "Word2Vec",
    "WordVectors",
]


_ROOMS = ("models", "nn")  # fastseq.nn.LSTM without a second import


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"fastseq.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'fastseq' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_ROOMS])
