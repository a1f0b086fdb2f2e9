"""FastText's classifier on disk: in a model's folder, and as a model of fastText's own program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastseq.errors import DataError, FormatError
from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.models.data.labels import Labels
from fastseq.models.fasttext.network import FittedState, padded
from fastseq.models.fasttext.rows import END, Ngrams, TextRows
from fastseq.models.folder import HISTORY, Content, ModelFolder
from fastseq.models.word_vectors.sampling import huffman_tree
from fastseq.text.analyzer import Analyzer
from fastseq.training.checkpoint import History
from fastseq.types import Float32, Texts

INPUT, OUTPUT = "input.weight", "output.weight"
_WORDS, _BUCKETS = "vocabulary.parquet", "buckets"
_MARK = "__label__"
_BIN_SETTINGS = ("epochs", "min_count", "negatives", "word_ngrams")
_BIN_LOSSES = {"softmax": "softmax", "hierarchical": "hs", "negative": "ns", "ova": "ova"}


def content_of(
    learned: FittedState,
) -> tuple[dict[str, Any], dict[str, Float32], dict[str, Content]]:
    """Statistics, weights and files of a model, as ModelWriter.commit takes them."""
    d, labels = learned.dimensions, learned.labels
    weights = {
        INPUT: np.ascontiguousarray(learned.inputs[:, :d]),
        OUTPUT: np.ascontiguousarray(learned.outputs[:, :d]),
    }
    encoder = learned.encoder
    statistics = {
        "parameters": sum(array.size for array in weights.values()),
        "fields": learned.fields.to_dict(),
        "labels": labels.to_dict(),
        "several": learned.several,
        "vocabulary": {"units": {"unit": "word"}, "size": len(encoder.words)},
        "buckets": len(encoder.used),
        "words": learned.words,
    }
    if learned.coverage is not None:
        statistics["embeddings"] = learned.coverage
    words: Mapping[str, Sequence[Any]] = {
        "word": encoder.words.to_strings(), "count": learned.counts.tolist(),
    }  # fmt: skip
    files: dict[str, Content] = {
        _WORDS: words,
        _BUCKETS: encoder.used,
        HISTORY: learned.history.columns,
    }
    return statistics, weights, files


def learned_of(folder: ModelFolder, analyzer: Analyzer, ngrams: Ngrams, loss: str) -> FittedState:
    """What `content_of` gave. Raises FormatError, KeyError, TypeError or ValueError for what is
    damaged."""
    from fastseq.store.columns import Fields

    saved, columns = folder.statistics, folder.columns(_WORDS)
    labels = Labels.from_dict(saved["labels"])
    words, used = columns["word"], np.array(folder.array(_BUCKETS, np.int32))
    inputs, outputs = folder.weights[INPUT], folder.weights[OUTPUT]
    hierarchical = loss == "hierarchical"
    if len(labels) < 2:
        raise FormatError(f"{len(labels)} labels, expected at least 2")
    wanted = len(words) + len(used), len(labels) - hierarchical
    if (len(inputs), len(outputs)) != wanted or inputs.shape[1:] != outputs.shape[1:]:
        raise FormatError(
            f"weights of {inputs.shape} and {outputs.shape}, expected {wanted[0]} and {wanted[1]} "
            "rows of one length"
        )
    if not words or words[0] != END or (np.diff(used) <= 0).any():
        raise FormatError("damaged words or buckets")
    if len(used) and not 0 <= used[0] <= used[-1] < ngrams.buckets:
        raise FormatError(f"buckets {used[0]} to {used[-1]}, expected 0 to {ngrams.buckets - 1}")
    tables = []
    for array in (inputs, outputs):
        tables.append(padded(*array.shape))
        tables[-1][:, : array.shape[1]] = array
    return FittedState(
        TextRows(analyzer, ngrams, Texts.from_strings(words), used),
        np.array(columns["count"], np.int64),
        labels,
        saved["several"],
        loss,
        tables[0],
        tables[1],
        huffman_tree(labels.counts, labels=True) if hierarchical else None,
        Fields.from_dict(saved["fields"]),
        inputs.shape[1],
        saved["words"],
        History(folder.columns(HISTORY)),
        coverage=saved.get("embeddings"),
    )


def write_bin(path: str | Path, learned: FittedState) -> None:
    """Write fastText's .bin. Its program takes labels to stand by falling frequency, which its
    tree is built from. Raises DataError for labels that are the same once they have its mark."""
    from fastseq.vectors.fasttext_bin import FastTextFile, FastTextSettings, write_fasttext

    encoder, labels, d = learned.encoder, learned.labels, learned.dimensions
    V, buckets = len(encoder.words), encoder.ngrams.buckets
    order = np.argsort(-labels.counts, kind="stable")
    texts = [str(value).lower() if labels.type == "bool" else str(value) for value in labels.values]
    marked = [text if text.startswith(_MARK) else _MARK + text for text in texts]
    if len(set(marked)) < len(marked):
        same = next(name for name in marked if marked.count(name) > 1)
        raise DataError(
            f"the labels {same!r} and {same.removeprefix(_MARK)!r} are the same one in fastText's "
            "file: rename one of them"
        )
    names = Texts.from_strings(marked[k] for k in order.tolist())
    table = aligned_zeros((V + buckets) * d).reshape(V + buckets, d)
    table[:V] = learned.inputs[:V, :d]
    table[V + encoder.used.astype(np.int64)] = learned.inputs[V:, :d]
    outputs = learned.outputs[:, :d]
    if learned.tree is None:
        outputs = outputs[order]
    else:  # its program has a row for each label, the last one without use
        outputs = np.concatenate([outputs, np.zeros((1, d), np.float32)])
    words, size = encoder.words, encoder.words.nbytes
    write_fasttext(
        path,
        FastTextFile(
            FastTextSettings(
                dimensions=d, window=5,
                **{name: learned.settings[name] for name in _BIN_SETTINGS},
                loss=_BIN_LOSSES[learned.loss], model="supervised", buckets=buckets,
                low=encoder.ngrams.subwords.min_n, high=encoder.ngrams.subwords.max_n,
            ),
            Texts(
                np.concatenate([words.data[:size], names.data]),
                np.concatenate([words.offsets, size + names.offsets[1:]]),
            ),
            np.concatenate([learned.counts, labels.counts[order]]),
            np.arange(V + len(labels)) >= V,
            table,
            np.ascontiguousarray(outputs),
            learned.words + int(labels.counts.sum()),
        ),
    )  # fmt: skip
