"""Document-term matrices in plain Python: dicts and float64, nothing of fastseq."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

Row = dict[str, float]


@dataclass
class Fitted:
    """The columns in order, their document frequencies, the collection's sizes."""

    terms: list[str]
    df: dict[str, int]
    documents: int
    average: float


def fit(
    tokens: list[list[str]],
    min_df: float = 1,
    max_df: float = 1.0,
    max_features: int | None = None,
    binary: bool = False,
) -> Fitted:
    """tokens: the terms of every text."""
    df = Counter(term for text in tokens for term in set(text))
    totals = df if binary else Counter(term for text in tokens for term in text)
    low = min_df if isinstance(min_df, int) else min_df * len(tokens)
    high = max_df if isinstance(max_df, int) else max_df * len(tokens)
    kept = sorted(term for term in df if low <= df[term] <= high)
    if max_features is not None:
        kept = sorted(sorted(kept, key=lambda term: -totals[term])[:max_features])
    average = sum(map(len, tokens)) / len(tokens)
    return Fitted(kept, {term: df[term] for term in kept}, len(tokens), average)


def counts(fitted: Fitted, text: list[str], binary: bool = False) -> Row:
    """How often one text has each column."""
    found = Counter(term for term in text if term in fitted.df)
    return {term: 1 if binary else count for term, count in found.items()}


def tfidf(
    fitted: Fitted,
    text: list[str],
    norm: str | None = "l2",
    use_idf: bool = True,
    smooth_idf: bool = True,
    sublinear_tf: bool = False,
    binary: bool = False,
) -> Row:
    """scikit-learn's TF-IDF of one text."""
    row = {}
    for term, count in counts(fitted, text, binary).items():
        tf = 1 + math.log(count) if sublinear_tf else count
        smooth = 1 if smooth_idf else 0
        idf = 1 + math.log((fitted.documents + smooth) / (fitted.df[term] + smooth))
        row[term] = tf * idf if use_idf else float(tf)
    length = {
        None: 1.0,
        "l1": math.fsum(row.values()),
        "l2": math.sqrt(math.fsum(value * value for value in row.values())),
    }[norm]
    return {term: value / length for term, value in row.items()}


def bm25(fitted: Fitted, text: list[str], k1: float, b: float) -> Row:
    """Lucene's BM25 of one text, as a weight of every term."""
    row = {}
    for term, tf in counts(fitted, text).items():
        df = fitted.df[term]
        idf = math.log(1 + (fitted.documents - df + 0.5) / (df + 0.5))
        row[term] = idf * tf / (tf + k1 * (1 - b + b * len(text) / fitted.average))
    return row
