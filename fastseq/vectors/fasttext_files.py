"""Word vectors as a model of fastText, which its program and gensim go on from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.errors import SettingsError
from fastseq.types import Float32, Texts
from fastseq.vectors.fasttext_model import FastTextFile, FastTextSettings
from fastseq.vectors.subword_vectors import SubwordVectors

if TYPE_CHECKING:
    from fastseq.vectors.words import WordVectors


def fasttext_file(vectors: WordVectors) -> FastTextFile:
    """The model: its input has a row for every word and bucket, 0.8 GB for two million buckets of
    100 dimensions, of which the rows of buckets in use are filled.

    A word's own row is what makes the mean of its rows its vector. Where nobody kept vectors of
    words as what is predicted, the model's are zeros: good for look-ups, not for going on. Counts
    that nobody kept are 1. What the settings do not say is fastText's default.

    Raises SettingsError where other words' vectors come of something else than n-grams.
    """
    words = Texts.from_strings(vectors.words)
    V, d = len(vectors), vectors.dimensions
    pieces = vectors.subwords
    if pieces is not None and not isinstance(pieces, SubwordVectors):
        raise SettingsError("a model of fastText holds vectors of n-grams, and these are others")
    settings = _settings(vectors.settings, d, pieces)
    rows: Float32 = np.zeros((V + settings.buckets, d), np.float32)
    rows[:V] = vectors.vectors
    if pieces is not None:
        sums, many = pieces.sums_of(words)
        rows[:V] *= (many + 1).astype(np.float32)[:, None]
        rows[:V] -= sums
        places = slice(None) if pieces.buckets is None else pieces.buckets
        rows[V:][places] = pieces.table
    output = vectors.output
    counts = vectors.counts if vectors.counts is not None else np.ones(V, np.int64)
    return FastTextFile(
        settings, words, counts, np.zeros(V, np.bool_), rows,
        np.zeros((V, d), np.float32) if output is None else np.asarray(output), int(counts.sum()),
    )  # fmt: skip


def _settings(
    said: dict[str, Any], dimensions: int, pieces: SubwordVectors | None
) -> FastTextSettings:
    names = {"window": "window", "epochs": "epochs", "min_count": "min_count", "sample": "sample",
             "negatives": "negatives"}  # fmt: skip
    given = {theirs: said[ours] for ours, theirs in names.items() if ours in said}
    model = "cbow" if said.get("architecture") == "cbow" else "skipgram"
    grams: dict[str, Any] = {"low": 0, "high": 0, "buckets": 0}
    if pieces is not None:
        grams = {"low": pieces.grams.min_n, "high": pieces.grams.max_n}
        grams["buckets"] = pieces.grams.buckets
    return FastTextSettings(dimensions=dimensions, model=model, **given, **grams)
