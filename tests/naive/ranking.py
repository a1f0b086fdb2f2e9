"""Ranking by definition: every document scored in float64, nothing pruned, nothing cached.

A document is a list of tokens, a query a list of tokens (a repeated one counts each time) or a
{token: weight} mapping, of weights not below 1 where a SMART letter takes a logarithm. Query tokens
that no document has are left out before anything is computed. Nothing of fastseq is imported.

BM25: C. Kamphuis et al., "Which BM25 Do You Mean?", ECIR 2020, in the forms that bm25s computes.
SMART: Manning, Raghavan and Schütze, Introduction to Information Retrieval, section 6.4.3, with
natural logarithms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

Documents = Sequence[Sequence[str]]
Query = Sequence[str] | Mapping[str, float]
Scores = tuple[np.ndarray, np.ndarray]  # float64[D] and, for documents with a query term, bool[D]

VARIANTS = ("lucene", "robertson", "atire", "bm25+", "bm25l")
BY_ABSENCE = ("bm25+", "bm25l")  # a query term that a document lacks adds f(0)


def bm25_idf(variant: str, df: int, documents: int) -> float:
    """How much one occurrence of a term that `df` of `documents` documents have is worth."""
    if variant == "lucene":
        return math.log(1 + (documents - df + 0.5) / (df + 0.5))
    if variant == "robertson":
        return math.log(max(1.0, (documents - df + 0.5) / (df + 0.5)))
    if variant == "atire":
        return math.log(documents / df)
    if variant == "bm25+":
        return math.log((documents + 1) / df)
    if variant == "bm25l":
        return math.log((documents + 1) / (df + 0.5))
    raise ValueError(f"no such variant: {variant}")


def bm25_frequency(
    variant: str, tf: float, length: float, mean_length: float, k1: float, b: float, delta: float
) -> float:
    """The part of a term's score that its `tf` occurrences in one document make."""
    norm = 1 - b + b * length / mean_length
    if variant in ("lucene", "robertson"):
        return tf / (tf + k1 * norm)
    if variant == "atire":
        return (k1 + 1) * tf / (tf + k1 * norm)
    if variant == "bm25+":
        return (k1 + 1) * tf / (tf + k1 * norm) + delta if tf else delta
    if variant == "bm25l":
        c = tf / norm if tf else 0.0
        return (k1 + 1) * (c + delta) / (k1 + c + delta)
    raise ValueError(f"no such variant: {variant}")


def bm25(
    documents: Documents,
    query: Query,
    variant: str = "lucene",
    k1: float = 1.2,
    b: float = 0.75,
    delta: float = 0.5,
) -> Scores:
    """BM25 of every document; `mean_length` counts the empty documents too."""
    counts = [Counter(document) for document in documents]
    df = _document_frequencies(counts)
    weights = _query_weights(query, df)
    lengths = [len(document) for document in documents]
    mean_length = sum(lengths) / len(lengths) if lengths else 0.0

    scores = np.zeros(len(documents))
    found = np.zeros(len(documents), bool)
    for d, (count, length) in enumerate(zip(counts, lengths, strict=True)):
        for token, weight in weights.items():
            tf = count[token]
            found[d] |= tf > 0
            if tf or variant in BY_ABSENCE:
                part = bm25_frequency(variant, tf, length, mean_length, k1, b, delta)
                scores[d] += weight * bm25_idf(variant, df[token], len(documents)) * part
    return scores, found


def smart(documents: Documents, query: Query, notation: str = "ltc.lnc") -> Scores:
    """TF-IDF in SMART notation: term frequency, document frequency and norm of the documents, a
    dot, and the same of the query.

    frequency  n natural, b boolean, l 1 + ln tf, a 0.5 + 0.5 tf / max tf,
               L (1 + ln tf) / (1 + ln of the mean tf of the text's distinct tokens)
    document   n none, t ln(N / df), p max(0, ln((N - df) / df))
    norm       n none, c cosine
    """
    of_documents, of_query = notation.split(".")
    counts = [Counter(document) for document in documents]
    df = _document_frequencies(counts)
    query_vector = _smart_vector(_query_weights(query, df), of_query, df, len(documents))
    scores = np.zeros(len(documents))
    found = np.zeros(len(documents), bool)
    for d, count in enumerate(counts):
        vector = _smart_vector(count, of_documents, df, len(documents))
        for token, weight in query_vector.items():
            if token in count:
                found[d] = True
                scores[d] += weight * vector[token]
    return scores, found


def bag_of_words(documents: Documents, query: Query, cosine: bool = False) -> Scores:
    """The dot product of the raw counts, or their cosine."""
    return smart(documents, query, "nnc.nnc" if cosine else "nnn.nnn")


def top_k(scores: np.ndarray, found: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64[<= k] and scores float64 of the best: score descending, then row ascending."""
    rows = sorted(np.flatnonzero(found).tolist(), key=lambda row: (-scores[row], row))[:k]
    return np.array(rows, np.int64), scores[rows]


def _query_weights(query: Query, df: Mapping[str, int]) -> dict[str, float]:
    weights = query if isinstance(query, Mapping) else Counter(query)
    return {token: float(weight) for token, weight in weights.items() if token in df}


def _document_frequencies(counts: Sequence[Mapping[str, int]]) -> Counter[str]:
    return Counter(token for count in counts for token in count)


def smart_frequency(letter: str, tf: float, largest: float = 1.0, mean: float = 1.0) -> float:
    """The weight of a frequency. One below 1, of a sloppy phrase say, is its own b and l."""
    if letter == "a":
        return 0.5 + 0.5 * tf / largest
    if letter == "b":
        return min(tf, 1.0)
    if letter in "lL":
        logarithm = 1 + math.log(tf) if tf >= 1 else tf
        return logarithm / (1 + math.log(mean)) if letter == "L" else logarithm
    return tf


def smart_idf(letter: str, df: int, documents: int) -> float:
    if letter == "n":
        return 1.0
    if letter == "t":
        return math.log(documents / df)
    return max(0.0, math.log((documents - df) / df)) if df < documents else 0.0


def _smart_vector(
    counts: Mapping[str, float], letters: str, df: Mapping[str, int], documents: int
) -> dict[str, float]:
    """The weight of every token of one text."""
    if not counts:
        return {}
    frequency, collection, norm = [*letters]
    largest = max(counts.values())
    mean = sum(counts.values()) / len(counts)
    vector = {
        token: smart_frequency(frequency, tf, largest, mean)
        * smart_idf(collection, df[token], documents)
        for token, tf in counts.items()
    }
    if norm == "n":
        return vector
    if norm != "c":
        raise ValueError(f"no such norm: {norm}")
    length = math.sqrt(sum(weight * weight for weight in vector.values()))
    return {token: weight / length if length else 0.0 for token, weight in vector.items()}
