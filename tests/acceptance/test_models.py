"""Models learn what can be learned from the sample corpora, with the settings of the README.

Bounds are what was measured (with Python 3.11) less a margin for another Python's library.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fastseq import samples
from fastseq.models.classifier import SequenceClassifier
from fastseq.models.forecaster import Forecaster
from fastseq.models.language import LanguageModel
from fastseq.models.tagger import SequenceTagger


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    samples.write_samples(folder)
    return folder


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_classifier_predicts_the_package_of_a_docstring(folder: Path, cell: str) -> None:
    model = SequenceClassifier(
        cell=cell, bidirectional=True, hidden=64, embedding=64, epochs=3, batch_size=16,
        learning_rate=0.01, max_length=60,
    )  # fmt: skip
    test = folder / "labelled_test.parquet"
    model.fit(folder / "labelled.parquet")
    labels = pq.read_table(test)["label"].to_pylist()
    commonest = max(map(labels.count, labels)) / len(labels)
    assert model.evaluate(test)["accuracy"] > max(0.5, 2 * commonest)


def test_tagger_predicts_python_token_kinds(folder: Path) -> None:
    rows = pq.read_table(folder / "tagged.parquet").slice(0, 3000)
    model = SequenceTagger(
        bidirectional=True, hidden=32, embedding=32, chars=True, epochs=3, learning_rate=0.01
    )
    model.fit(rows)
    found = model.evaluate(folder / "tagged_test.parquet")
    assert found["accuracy"] > 0.9


def test_language_model_beats_letter_frequencies(folder: Path) -> None:
    texts = pq.read_table(folder / "docs.parquet")["text"].to_pylist()
    train, test = texts[:400], texts[400:450]
    model = LanguageModel(unit="char", hidden=64, embedding=32, epochs=3, bptt=64, batch_size=8)
    model.fit(train)
    found = model.evaluate(test)
    letters = np.unique(list("".join(test)), return_counts=True)[1]
    shares = letters / letters.sum()
    alone = -float((shares * np.log(shares)).sum())
    assert found["nats"] < 0.85 * alone
    assert found["perplexity"] == pytest.approx(math.exp(found["nats"]))


def test_forecaster_beats_the_last_value() -> None:
    times = np.arange(1500)
    noise = np.random.default_rng(0).normal(0, 0.05, len(times))
    values = 10 + np.sin(times / 7) + 0.4 * np.sin(times / 3) + noise
    model = Forecaster(window=24, hidden=16, epochs=20)
    model.fit(values[:1200])
    found = model.evaluate(values[1176:])
    assert found["rmse"] < 0.7 * found["last_value_rmse"]
