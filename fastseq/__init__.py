"""fastseq: search, text features and sequence models over Parquet, compiled by Numba.

    import fastseq
    index = fastseq.Index.build("corpus.parquet", "my-index")
    index.search("black cat").to_dicts()

Public names are loaded when first used, so that `import fastseq` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastseq.errors import (
        DataError as DataError,
    )
    from fastseq.errors import (
        DeviceError as DeviceError,
    )
    from fastseq.errors import (
        FastseqError as FastseqError,
    )
    from fastseq.errors import (
        FormatError as FormatError,
    )
    from fastseq.errors import (
        MissingExtraError as MissingExtraError,
    )
    from fastseq.errors import (
        NotFittedError as NotFittedError,
    )
    from fastseq.errors import (
        SettingsError as SettingsError,
    )
    from fastseq.errors import (
        TrainingError as TrainingError,
    )
    from fastseq.features.estimators import (
        BM25Features as BM25Features,
    )
    from fastseq.features.estimators import (
        CountFeatures as CountFeatures,
    )
    from fastseq.features.estimators import (
        TfidfFeatures as TfidfFeatures,
    )
    from fastseq.models.bert.answering import BertAnswerer as BertAnswerer
    from fastseq.models.bert.embedding import BertEmbedder as BertEmbedder
    from fastseq.models.bert.encoding import TextEncoder as TextEncoder
    from fastseq.models.bert.finetuning import BertClassifier as BertClassifier
    from fastseq.models.bert.finetuning import BertRegressor as BertRegressor
    from fastseq.models.bert.masked import MaskedLanguageModel as MaskedLanguageModel
    from fastseq.models.bert.pretraining import BertPretrainer as BertPretrainer
    from fastseq.models.bert.reranking import BertReranker as BertReranker
    from fastseq.models.bert.sparse import SparseEncoder as SparseEncoder
    from fastseq.models.bert.tagging import BertTagger as BertTagger
    from fastseq.models.classifier import SequenceClassifier as SequenceClassifier
    from fastseq.models.fasttext.classifier import FastTextClassifier as FastTextClassifier
    from fastseq.models.fasttext.vectors import FastText as FastText
    from fastseq.models.forecaster import Forecaster as Forecaster
    from fastseq.models.language import LanguageModel as LanguageModel
    from fastseq.models.tagger import SequenceTagger as SequenceTagger
    from fastseq.models.word_vectors.glove import GloVe as GloVe
    from fastseq.models.word_vectors.phrases import Phrases as Phrases
    from fastseq.models.word_vectors.word2vec import Word2Vec as Word2Vec
    from fastseq.search.bm25f import BM25F as BM25F
    from fastseq.search.columns import facet_request as facet_request
    from fastseq.search.feedback import RM3 as RM3
    from fastseq.search.feedback import Rocchio as Rocchio
    from fastseq.search.hits import Hits as Hits
    from fastseq.search.index import Index as Index
    from fastseq.search.ranking import BM25 as BM25
    from fastseq.search.ranking import DPH as DPH
    from fastseq.search.ranking import PL2 as PL2
    from fastseq.search.ranking import TFIDF as TFIDF
    from fastseq.search.ranking import BoW as BoW
    from fastseq.search.ranking import Dirichlet as Dirichlet
    from fastseq.search.ranking import Dot as Dot
    from fastseq.search.ranking import JelinekMercer as JelinekMercer
    from fastseq.search.ranking import Ranking as Ranking
    from fastseq.search.synonyms import SynonymMap as SynonymMap
    from fastseq.store.rows import Corpus as Corpus
    from fastseq.text.analyzer import Analyzer as Analyzer
    from fastseq.vectors.expansion import Expander as Expander
    from fastseq.vectors.words import WordVectors as WordVectors

__version__ = "0.1.0"

# {module: its public names}
_PUBLIC = {
    "errors": "DataError DeviceError FastseqError FormatError MissingExtraError NotFittedError "
    "SettingsError TrainingError",
    "features.estimators": "BM25Features CountFeatures TfidfFeatures",
    "models.bert.answering": "BertAnswerer",
    "models.bert.embedding": "BertEmbedder",
    "models.bert.encoding": "TextEncoder",
    "models.bert.sparse": "SparseEncoder",
    "models.bert.finetuning": "BertClassifier BertRegressor",
    "models.bert.masked": "MaskedLanguageModel",
    "models.bert.pretraining": "BertPretrainer",
    "models.bert.reranking": "BertReranker",
    "models.bert.tagging": "BertTagger",
    "models.classifier": "SequenceClassifier",
    "models.fasttext.classifier": "FastTextClassifier",
    "models.fasttext.vectors": "FastText",
    "models.forecaster": "Forecaster",
    "models.language": "LanguageModel",
    "models.tagger": "SequenceTagger",
    "models.word_vectors.glove": "GloVe",
    "models.word_vectors.phrases": "Phrases",
    "models.word_vectors.word2vec": "Word2Vec",
    "search.bm25f": "BM25F",
    "search.feedback": "RM3 Rocchio",
    "search.hits": "Hits",
    "search.index": "Index",
    "search.columns": "facet_request",
    "search.ranking": "BM25 BoW DPH Dirichlet Dot JelinekMercer PL2 Ranking TFIDF",
    "search.synonyms": "SynonymMap",
    "store.rows": "Corpus",
    "text.analyzer": "Analyzer",
    "vectors.expansion": "Expander",
    "vectors.words": "WordVectors",
}
_HOMES = {name: module for module, names in _PUBLIC.items() for name in names.split()}
_PACKAGES = ("models", "nn", "query")  # fastseq.nn.LSTM without a second import

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"fastseq.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'fastseq' has no attribute {name!r}")
    value = getattr(import_module(f"fastseq.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_PACKAGES])
