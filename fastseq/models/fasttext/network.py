"""FastText's classifier: its fitted state, in memory, in a model's folder and as a .bin file of
fastText's own program, and its lock-free training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.errors import DataError, FormatError
from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.width import LANES
from fastseq.kernels.vectors import fasttext_labels as kernels
from fastseq.kernels.vectors.word2vec import slots_for
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.labels import Labels
from fastseq.models.fasttext.rows import END, LabelledRows, Ngrams, TextRows
from fastseq.models.folder import HISTORY, Content, ModelFolder
from fastseq.models.word_vectors.sampling import NO_TREE, Tree, alias_table, huffman_tree
from fastseq.seeds import mixed_key
from fastseq.text.analyzer import Analyzer
from fastseq.training.checkpoint import History
from fastseq.training.hogwild import ShuffledItems
from fastseq.types import Float32, Float64, Int64, Texts, Tokens
from fastseq.vectors.fasttext_bin import FastTextFile, FastTextSettings, write_fasttext

if TYPE_CHECKING:
    from fastseq.store.columns import Fields

LOSSES = ("softmax", "hierarchical", "negative", "ova")  # in the order of the kernel's numbers
ROUND = 1 << 18  # approximate words of a thread's part of a round
LOSS_EVERY = 16  # texts per text whose loss is measured, at most; softmax measures all
MEASURED = 256  # texts of an epoch whose loss is measured, at least, if it has as many
NS_EXPONENT = 0.5  # negatives are drawn in proportion to count ** NS_EXPONENT
INPUT, OUTPUT = "input.weight", "output.weight"
_NUMBERS = 1 << 22  # scores computed at a time
_WORDS, _BUCKETS = "vocabulary.parquet", "buckets"
_MARK = "__label__"
_BIN_SETTINGS = ("epochs", "min_count", "negatives", "word_ngrams")
_BIN_LOSSES = {"softmax": "softmax", "hierarchical": "hs", "negative": "ns", "ova": "ova"}


@dataclass(slots=True, eq=False)
class FittedState:
    """The fitted state of the classifier."""

    encoder: TextRows
    counts: Int64  # [V] occurrences of each word
    labels: Labels  # K of them
    several: str | None  # separator between the labels of a row; None for one label per row
    loss: str  # one of LOSSES
    inputs: Float32  # [R, W], W a whole number of SIMD vectors
    outputs: Float32  # [M, W]: M is K, of the hierarchical loss K - 1
    fields: Fields  # the columns that were read
    dimensions: int
    words: int  # of all texts, including the end-of-line tokens
    history: History = field(default_factory=History)
    reports: dict[str, ReadReport] = field(default_factory=dict)
    coverage: dict[str, int] | None = None  # of the words by `vectors`, see Vocabulary.coverage
    settings: dict[str, Any] = field(default_factory=dict)  # when fitted, as in its manifest
    data: dict[str, Any] | None = None  # identifies the data of its training; None if unknown
    tree: Tree | None = field(init=False)  # of the hierarchical loss

    def __post_init__(self) -> None:
        hierarchical = self.loss == "hierarchical"
        self.tree = huffman_tree(self.labels.counts, labels=True) if hierarchical else None

    def probabilities(self, rows: Tokens) -> Float32:
        """float32[D, K] of texts: with softmax and tree adding up to 1, else independent."""
        D, K = len(rows), len(self.labels)
        found: Float32 = np.empty((D, K), np.float32)
        step = max(1, _NUMBERS // max(K, self.inputs.shape[1]))
        for first in range(0, D, step):
            last = min(D, first + step)
            means = padded(last - first, self.inputs.shape[1])
            kernels.mean_rows(means, rows.values, rows.offsets[first : last + 1], self.inputs)
            found[first:last] = self._link(means @ self.outputs.T)
        return found

    def _link(self, scores: Float32) -> Float32:
        if self.loss == "softmax":
            scores -= scores.max(1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(1, keepdims=True)
            return scores
        if self.tree is None:  # sigmoid
            independent: Float32 = np.exp(-np.logaddexp(np.float32(0), -scores))
            return independent
        signs = 2 * self.tree.codes - 1
        steps = -np.logaddexp(np.float32(0), -signs * scores[:, self.tree.nodes])
        found: Float32 = np.exp(np.add.reduceat(steps, self.tree.paths[:-1], axis=1))
        return found

    def content(self) -> tuple[Any, ...]:
        """Settings, statistics, weights and files, as ModelWriter.commit takes them."""
        d, encoder = self.dimensions, self.encoder
        weights = {
            INPUT: np.ascontiguousarray(self.inputs[:, :d]),
            OUTPUT: np.ascontiguousarray(self.outputs[:, :d]),
        }
        statistics = {
            "parameters": sum(array.size for array in weights.values()),
            "fields": self.fields.to_dict(),
            "labels": self.labels.to_dict(),
            "several": self.several,
            "vocabulary": {"units": {"unit": "word"}, "size": len(encoder.words)},
            "buckets": len(encoder.used),
            "words": self.words,
        }
        if self.coverage is not None:
            statistics["embeddings"] = self.coverage
        if self.data is not None:
            statistics["data"] = self.data
        files: dict[str, Content] = {
            _WORDS: {"word": encoder.words.to_strings(), "count": self.counts.tolist()},
            _BUCKETS: encoder.used,
            HISTORY: self.history.columns,
        }
        return self.settings, statistics, weights, files

    @staticmethod
    def restored(folder: ModelFolder, analyzer: Analyzer, ngrams: Ngrams, loss: str) -> FittedState:
        """The state that `content` described. Raises FormatError, KeyError, TypeError or ValueError
        for damaged content."""
        from fastseq.store.columns import Fields

        saved, columns = folder.statistics, folder.columns(_WORDS)
        labels = Labels.from_dict(saved["labels"])
        words, used = columns["word"], np.array(folder.array(_BUCKETS, np.int32))
        inputs, outputs = folder.weights[INPUT], folder.weights[OUTPUT]
        if len(labels) < 2:
            raise FormatError(f"{len(labels)} labels, expected at least 2")
        wanted = len(words) + len(used), len(labels) - (loss == "hierarchical")
        if (len(inputs), len(outputs)) != wanted or inputs.shape[1:] != outputs.shape[1:]:
            raise FormatError(
                f"weights of {inputs.shape} and {outputs.shape}, expected {wanted[0]} and "
                f"{wanted[1]} rows of one length"
            )
        if not words or words[0] != END or (np.diff(used) <= 0).any():
            raise FormatError("damaged words or buckets")
        if len(used) and not 0 <= used[0] <= used[-1] < ngrams.buckets:
            raise FormatError(
                f"buckets {used[0]} to {used[-1]}, expected 0 to {ngrams.buckets - 1}"
            )
        tables = padded(*inputs.shape), padded(*outputs.shape)
        for table, array in zip(tables, (inputs, outputs), strict=True):
            table[:, : array.shape[1]] = array
        return FittedState(
            TextRows(analyzer, ngrams, Texts.from_strings(words), used),
            np.array(columns["count"], np.int64), labels, saved["several"], loss, *tables,
            Fields.from_dict(saved["fields"]), inputs.shape[1], saved["words"],
            History(folder.columns(HISTORY)), coverage=saved.get("embeddings"),
            data=saved.get("data"),
        )  # fmt: skip

    def write_bin(self, path: str | Path) -> None:
        """Write fastText's .bin, with labels by falling frequency, as its program expects. Raises
        DataError for labels that are equal with its prefix."""
        encoder, labels, d = self.encoder, self.labels, self.dimensions
        V, buckets, grams = len(encoder.words), encoder.ngrams.buckets, encoder.ngrams.subwords
        order = np.argsort(-labels.counts, kind="stable")
        names = [str(label) for label in labels.values]
        if labels.type == "bool":
            names = [name.lower() for name in names]
        marked = [name if name.startswith(_MARK) else _MARK + name for name in names]
        if len(set(marked)) < len(marked):
            same = next(name for name in marked if marked.count(name) > 1)
            raise DataError(
                f"the labels {same!r} and {same.removeprefix(_MARK)!r} are the same one in "
                "fastText's file: rename one of them"
            )
        table: Float32 = np.zeros((V + buckets, d), np.float32)
        table[:V] = self.inputs[:V, :d]
        table[V + encoder.used.astype(np.int64)] = self.inputs[V:, :d]
        outputs = self.outputs[:, :d]
        if self.tree is None:
            outputs = outputs[order]
        else:  # its program has a row for each label, the last one unused
            outputs = np.concatenate([outputs, np.zeros((1, d), np.float32)])
        settings = FastTextSettings(
            dimensions=d, window=5, **{name: self.settings[name] for name in _BIN_SETTINGS},
            loss=_BIN_LOSSES[self.loss], model="supervised", buckets=buckets, low=grams.min_n,
            high=grams.max_n,
        )  # fmt: skip
        entries = encoder.words.to_strings() + [marked[k] for k in order.tolist()]
        counts = np.concatenate([self.counts, labels.counts[order]])
        write_fasttext(
            path,
            FastTextFile(
                settings, Texts.from_strings(entries), counts, np.arange(V + len(labels)) >= V,
                table, np.ascontiguousarray(outputs), self.words + int(labels.counts.sum()),
            ),
        )  # fmt: skip


def padded(rows: int, width: int) -> Float32:
    """float32[rows, W] of zeros, W rounded up to whole SIMD vectors."""
    whole = -(-width // LANES) * LANES
    return aligned_zeros(rows * whole).reshape(rows, whole)


def first_rows(rows: int, dimensions: int, seed: int) -> Float32:
    """Initial rows, uniform in -1 / dimensions … 1 / dimensions."""
    table = padded(rows, dimensions)
    rng, step = np.random.default_rng(mixed_key(seed, 0)), max(1, _NUMBERS // dimensions)
    for first in range(0, rows, step):
        part = table[first : first + step, :dimensions]
        draw = rng.random(part.shape, np.float32)
        draw -= np.float32(0.5)
        np.multiply(draw, np.float32(2 / dimensions), out=part)
    return table


class LabelLessons:
    """Lessons (training.hogwild) of texts with labels, in another order in every epoch; trains the
    inputs and outputs of `learned` in place."""

    def __init__(
        self, learned: FittedState, data: LabelledRows, negatives: int, seed: int, threads: int
    ) -> None:
        self._learned, self._data, self._negatives, self._seed = learned, data, negatives, seed
        self.arrays = {"inputs": learned.inputs, "outputs": learned.outputs}
        self.row = 1, learned.dimensions
        self._order = ShuffledItems(data.sizes, threads, partial(mixed_key, seed, 1), ROUND)
        self.rounds = self._order.rounds
        loss, K = learned.loss, len(learned.labels)
        self._kind = LOSSES.index(loss)
        self._alias = alias_table(learned.labels.counts, NS_EXPONENT)
        self._tree = learned.tree or NO_TREE
        targets = {"negative": negatives + 1}.get(loss, K)
        slots = slots_for(self._tree.longest if learned.tree is not None else targets)
        self._loss_every = max(1, min(LOSS_EVERY, len(data) // MEASURED))
        self._spaces = [
            (
                aligned_zeros(kernels.work_size(slots, learned.inputs.shape[1])),
                np.zeros((kernels.LISTS, slots), np.int64),
            )
            for _ in range(threads)
        ]

    def learn(
        self, part: int, epoch: int, round: int, rates: tuple[float, float], seen: Float64
    ) -> None:
        learned, data, tree = self._learned, self._data, self._tree
        order, _, parts = self._order.planned(epoch)
        texts = order[parts[part][round] : parts[part][round + 1]]
        key = mixed_key(self._seed, 2, epoch * self.rounds + round, part)
        kernels.train_labels(
            learned.inputs, learned.outputs, data.rows, data.ends, data.labels, data.label_ends,
            data.sizes, texts, self._kind, self._alias, tree.paths, tree.nodes, tree.codes,
            self._negatives, *rates, np.array([key], np.uint64), *self._spaces[part], seen,
            self._loss_every,
        )  # fmt: skip

    def loss(self) -> float:
        """As Lessons defines it: none if no text whose loss was to be measured has a label."""
        return math.nan
