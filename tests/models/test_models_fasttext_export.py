"""FastText's classifier as a model of fastText's own program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import FastTextClassifier
from fastseq.errors import DataError
from fastseq.text.analyzer import Analyzer
from fastseq.types import Texts
from fastseq.vectors.fasttext_bin import read_fasttext
from fastseq.vectors.formats import read_word_vectors
from tests.models.small_data import LABELS, TEST, TEXTS

LOSSES = {"softmax": "softmax", "hierarchical": "hs", "negative": "ns", "ova": "ova"}
SETTINGS: dict[str, Any] = {
    "dimensions": 12, "learning_rate": 0.5, "threads": 1, "word_ngrams": 2, "low": 2, "high": 4,
    "buckets": 700, "min_count": 3, "analyzer": Analyzer(tokenizer="space", lowercase=False),
}  # fmt: skip
THREE = [label if n % 3 else "so so" for n, label in enumerate(LABELS)]


def fitted(**settings: Any) -> FastTextClassifier:
    return FastTextClassifier(**{**SETTINGS, **settings}).fit(TEXTS, THREE)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_exported_model_round_trips(tmp_path: Path, loss: str) -> None:
    model = fitted(loss=loss)
    model.export(tmp_path / "model.bin")
    file, learned = read_fasttext(tmp_path / "model.bin"), model.learned
    settings = file.settings
    assert (settings.model, settings.loss, settings.buckets) == ("supervised", LOSSES[loss], 700)
    assert (settings.word_ngrams, settings.ngrams, settings.min_count) == (2, (2, 4), 3)
    names = file.words.to_strings()
    V = len(learned.encoder.words)
    assert names[:V] == learned.encoder.words.to_strings()
    counts = [THREE.count(name.removeprefix("__label__")) for name in names[V:]]
    assert counts == file.counts[V:].tolist() == sorted(counts, reverse=True)
    assert file.counts[0] == len(TEXTS)  # ends of lines
    np.testing.assert_array_equal(file.input[:V], learned.inputs[:V, :12])
    used = learned.encoder.used
    np.testing.assert_array_equal(file.input[V + used], learned.inputs[V:, :12])
    rest = np.delete(file.input[V:], used, axis=0)
    assert len(rest)
    assert not rest.any()
    if loss == "hierarchical":
        np.testing.assert_array_equal(file.output[:-1], learned.outputs[:, :12])
    else:
        number = [learned.labels.values.index(n.removeprefix("__label__")) for n in names[V:]]
        np.testing.assert_array_equal(file.output, learned.outputs[number, :12])
    words, vectors = read_word_vectors(tmp_path / "model.bin", threads=1)
    np.testing.assert_allclose(
        vectors, file.vectors(Texts.from_strings(words)), rtol=1e-5, atol=1e-7
    )


def test_label_prefix_is_not_doubled(tmp_path: Path) -> None:
    """`__label__pos`, from a file of fastText's, is not marked a second time."""
    marked = [f"__label__{label}" for label in THREE]
    FastTextClassifier(**SETTINGS).fit(TEXTS, marked).export(tmp_path / "marked.bin")
    fitted().export(tmp_path / "plain.bin")
    files = [
        read_fasttext(tmp_path / f"{name}.bin").words.to_strings() for name in ("marked", "plain")
    ]
    assert files[0] == files[1]
    assert sorted(files[0][-3:]) == sorted(set(marked))
    mixed = [f"__label__{label}" if n % 2 else label for n, label in enumerate(THREE)]
    with pytest.raises(DataError, match=r"the labels '__label__.*' are the same one"):
        FastTextClassifier(**SETTINGS).fit(TEXTS, mixed).export(tmp_path / "mixed.bin")
    assert not (tmp_path / "mixed.bin").exists()


def test_without_ngrams_there_are_no_buckets(tmp_path: Path) -> None:
    fitted(word_ngrams=1, low=0, high=0).export(tmp_path / "model.bin")
    assert read_fasttext(tmp_path / "model.bin").settings.buckets == 0
    assert (tmp_path / "model.bin").stat().st_size < 10_000


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("more", [{}, {"word_ngrams": 3}, {"low": 0, "high": 0}])
def test_fasttext_program_predicts_the_same(
    tmp_path: Path, loss: str, more: dict[str, Any]
) -> None:
    fasttext = pytest.importorskip("fasttext")
    model = fitted(loss=loss, **more)
    model.export(tmp_path / "model.bin")
    theirs = fasttext.load_model(str(tmp_path / "model.bin"))
    # its sigmoid is read from a table of 512 steps, its logarithms begin at 1e-5
    near = 8e-3 if loss in ("negative", "ova") else 5e-5
    texts = [*TEST, "", "zzyzx", "dull zzyzx film"]
    for text, shares in zip(texts, model.predict_proba(texts), strict=True):
        labels, found = theirs.predict(text, k=3)
        said = dict(zip(labels, found, strict=True))
        wanted = [said.get(f"__label__{label}", 0.0) for label in model.classes_]
        np.testing.assert_allclose(shares, wanted, atol=near)
