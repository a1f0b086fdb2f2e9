"""A model of fastText in memory: its settings, its words, its two matrices."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.settings import one_of, real, whole
from fastseq.types import Float32, Int32, Int64, Texts, UInt32

MODELS = ("cbow", "skipgram", "supervised")  # from 1 in a file
LOSSES = ("hs", "ns", "softmax", "ova")  # from 1 in a file
PACKED = struct.Struct("<12id")  # the settings in a file


@dataclass(frozen=True, slots=True)
class FastTextSettings:
    """How a model was trained; the defaults are those of fastText for word vectors.

    dimensions   of a vector (dim)
    window       words on each side that a word predicts, or is predicted by, at most (ws)
    epochs       passes over the text (epoch)
    min_count    how often a word must come to be kept (minCount)
    negatives    drawn for each word (neg)
    word_ngrams  the longest n-grams of words, which share the buckets (wordNgrams)
    loss         "hs" (hierarchical softmax), "ns" (negative sampling), "softmax", "ova" (one
                 against all)
    model        "cbow", "skipgram", "supervised"
    buckets      rows of the input after those of the words, for n-grams of every kind (bucket)
    low, high    the fewest and the most code points of a character n-gram (minn, maxn); `high` 0:
                 there are none
    update_rate  tokens between two changes of the learning rate (lrUpdateRate)
    sample       the threshold of subsampling (t)

    Raises SettingsError for what is none of that.
    """

    dimensions: int = 100
    window: int = 5
    epochs: int = 5
    min_count: int = 5
    negatives: int = 5
    word_ngrams: int = 1
    loss: str = "ns"
    model: str = "skipgram"
    buckets: int = 2_000_000
    low: int = 3
    high: int = 6
    update_rate: int = 100
    sample: float = 1e-4

    def __post_init__(self) -> None:
        whole("dimensions", self.dimensions, 1)
        for name in ("window", "epochs", "min_count", "negatives", "word_ngrams", "update_rate"):
            whole(name, getattr(self, name), 0)
        one_of("loss", self.loss, LOSSES)
        one_of("model", self.model, MODELS)
        whole("low", self.low, 0)
        whole("high", self.high, 0)
        whole("buckets", self.buckets, 1 if self.ngrams[1] else 0)
        real("sample", self.sample, lambda t: 0 <= t < math.inf, "at least 0")

    @property
    def ngrams(self) -> tuple[int, int]:
        """The fewest and the most code points of a character n-gram, both at least 1 (fastText
        takes minn 0 for 1); (0, 0) where there are none."""
        low = max(self.low, 1)
        return (low, self.high) if self.high >= low else (0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class FastTextFile:
    """A model of fastText: V words and L labels, d dimensions.

    settings  how it was trained
    words     V + L texts: the words in the order of their ids, then the labels
    counts    int64[V + L]  how often each came
    is_label  bool[V + L]
    input     float32[V + buckets, d]  the words' own vectors, then those of the buckets
    output    float32[M, d]  one row for each label of a supervised model, for each word of others
    tokens    of the text it was trained on

    Raises DataError where sizes or types do not fit each other.
    """

    settings: FastTextSettings
    words: Texts
    counts: Int64
    is_label: npt.NDArray[np.bool_]
    input: Float32
    output: Float32
    tokens: int

    def __post_init__(self) -> None:
        n, d = len(self.words), self.settings.dimensions
        for name, array, kind, shape in (
            ("counts", self.counts, np.int64, (n,)),
            ("is_label", self.is_label, np.bool_, (n,)),
            ("input", self.input, np.float32, (self.num_words + self.settings.buckets, d)),
            ("output", self.output, np.float32, (outputs(self.settings, self.is_label), d)),
        ):
            if array.dtype != kind or array.shape != shape:
                raise DataError(
                    f"{name} of a fastText model is {array.dtype}{list(array.shape)}, "
                    f"expected {np.dtype(kind)}{list(shape)}"
                )
        if self.is_label[: self.num_words].any():
            raise DataError("a label before a word, expected all words of a fastText model first")

    @property
    def num_words(self) -> int:
        """V."""
        return len(self.is_label) - int(np.count_nonzero(self.is_label))

    def vectors(self, words: Texts) -> Float32:
        """float32[W, d]: the vector of each word, one that the model knows or not.

        It is the mean of the word's own row, if it has one, and those of its character n-grams
        (fastText's get_word_vector); zeros where there is none at all.
        """
        from fastseq.kernels.text.hashing import build_slots, lookup
        from fastseq.kernels.text.ngrams import bucket_ids

        known = self.words.offsets[: self.num_words + 1]
        slots: UInt32 = np.zeros(1 << max(2 * len(known), 1).bit_length(), np.uint32)
        build_slots(slots, self.words.data, known)
        own: Int32 = np.empty(len(words), np.int32)
        lookup(own, slots, self.words.data, known, words.data, words.offsets)
        ids, ends = bucket_ids(
            words.data, words.offsets, *self.settings.ngrams, self.settings.buckets
        )
        return means(self.input[: self.num_words], own, self.input[self.num_words :], ids, ends)


def means(own_rows: Float32, own: Int32, table: Float32, ids: Int32, ends: Int64) -> Float32:
    """float32[W, d]: the mean of own_rows[own[w]], unless that is -1, and of the rows
    ids[ends[w]:ends[w + 1]] of the table."""
    from fastseq.kernels.text.ngrams import add_rows

    out: Float32 = np.zeros((len(own), table.shape[1]), np.float32)
    known = np.flatnonzero(own >= 0)
    out[known] = own_rows[own[known]]
    with np.errstate(over="ignore"):
        add_rows(out, ids, ends, table)
        out /= np.maximum(np.diff(ends) + (own >= 0), 1).astype(np.float32)[:, None]
    return out


def outputs(settings: FastTextSettings, is_label: npt.NDArray[np.bool_]) -> int:
    """Rows of the output matrix."""
    return int(np.count_nonzero(is_label == (settings.model == "supervised")))


def packed(settings: FastTextSettings) -> bytes:
    """The settings as a file has them."""
    s = settings
    loss, model = LOSSES.index(s.loss) + 1, MODELS.index(s.model) + 1
    return PACKED.pack(
        s.dimensions, s.window, s.epochs, s.min_count, s.negatives, s.word_ngrams, loss, model,
        s.buckets, s.low, s.high, s.update_rate, s.sample,
    )  # fmt: skip


def unpacked(data: bytes, old: bool) -> FastTextSettings:
    """The settings that a file has, an `old` one with no character n-grams in supervised models.

    Raises SettingsError for what cannot be.
    """
    fields: list[Any] = list(PACKED.unpack(data))
    for at, name, names in ((6, "loss", LOSSES), (7, "model", MODELS)):
        if not 1 <= fields[at] <= len(names):
            raise SettingsError(f"{name} is {fields[at]}, expected 1 to {len(names)}")
        fields[at] = names[fields[at] - 1]
    if old and fields[7] == "supervised":
        fields[10] = 0
    return FastTextSettings(*fields)
