"""Data small enough to train on in a test, and easy enough to be learned."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastseq.models.classifier import SequenceClassifier
from fastseq.models.data.tokenizer import SequenceTokenizer
from fastseq.models.data.vocabulary import VocabularyBuilder
from fastseq.nn.layer import Parameters
from fastseq.types import Texts

GOOD = ["good", "fine", "great", "lovely"]
BAD = ["bad", "dull", "awful", "poor"]
PLAIN = ["the", "film", "was", "a", "plot", "and", "with", "some", "music"]

NOUNS = ["dog", "cat", "house", "tree", "song"]
VERBS = ["runs", "sees", "eats", "sings"]
PEOPLE = ["Ann", "Bob", "Eve"]


def reviews(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of 2 to 9 words with one that decides, and their labels "pos" and "neg"."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(count):
        words = rng.choice(PLAIN, rng.integers(1, 9)).tolist()
        label = int(rng.integers(2))
        words.insert(int(rng.integers(len(words) + 1)), str(rng.choice([BAD, GOOD][label])))
        texts.append(" ".join(words))
        labels.append(["neg", "pos"][label])
    return texts, labels


def sentences(count: int, seed: int = 0) -> tuple[list[list[str]], list[list[str]]]:
    """Lists of tokens and of tags: a person is a span of one token or, with a title, of two."""
    rng = np.random.default_rng(seed)
    rows, tags = [], []
    for _ in range(count):
        row: list[str] = []
        tag: list[str] = []
        for _ in range(int(rng.integers(1, 4))):
            kind = int(rng.integers(3))
            if kind == 0:
                row += ["the", str(rng.choice(NOUNS))]
                tag += ["O", "O"]
            elif kind == 1:
                row += [str(rng.choice(VERBS))]
                tag += ["O"]
            else:
                row += ["Dr", str(rng.choice(PEOPLE))]
                tag += ["B-PER", "I-PER"]
        rows.append(row)
        tags.append(tag)
    return rows, tags


def write(path: Path, **columns: Any) -> Path:
    """Columns as a Parquet file."""
    pq.write_table(pa.table(columns), path)
    return path


def vocabulary_of(
    tokenizer: SequenceTokenizer, slices: Iterable[Texts], *more: Any, **named: Any
) -> Any:
    """The vocabulary of some texts; further arguments as VocabularyBuilder.finish."""
    builder = VocabularyBuilder(tokenizer)
    for texts in slices:
        builder.add(texts)
    return builder.finish(*more, **named)[0]


def assert_gradients(parameters: Parameters, loss: Any, learn: Any) -> None:
    """Compare the gradients with the slope of the loss along the gradient of each parameter.

    `loss()` is the loss with the weights as they are, `learn()` adds to the gradients too.
    """
    parameters.zero_gradients()
    learn()
    for name, gradient in parameters.gradient_views.items():
        direction = gradient.astype(np.float64)
        size = np.linalg.norm(direction)
        assert size > 1e-6, f"{name} has no gradient"
        view = parameters.views[name]
        before = view.copy()
        step = 2e-3 * direction / size
        found = []
        for sign in (1, -1):
            view[...] = before + sign * step
            found.append(loss())
        view[...] = before
        slope = (found[0] - found[1]) / 4e-3
        np.testing.assert_allclose(slope, size, rtol=0.02, atol=5e-5, err_msg=name)


SMALL: dict[str, Any] = {
    "hidden": 8,
    "embedding": 8,
    "batch_size": 8,
    "dropout": 0.0,
    "threads": 1,
}
FAST: dict[str, Any] = {**SMALL, "learning_rate": 0.02, "epochs": 3}
DROPPING: dict[str, Any] = {**FAST, "dropout": 0.3, "recurrent_dropout": 0.2, "layers": 2}

TEXTS, LABELS = reviews(100)
TEST, EXPECTED = reviews(30, seed=1)
ROWS, TAGS = sentences(60)

WEIGHTS = "weights.safetensors"


def classifier(**settings: Any) -> SequenceClassifier:
    return SequenceClassifier(**{**FAST, **settings})
