"""Write the golden folders of word vectors, classifiers, features and interrupted trainings.

    python tests/golden/folders/make.py [FOLDER]

One folder of each kind goes into v1 beside this file or below FOLDER, with `expected.json`: what
each answered, or what an interrupted training ended with once it was resumed. Written once, with
the first release of a format version, and never changed: a later fastseq must read them alike.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner
from fastseq_cli.main import cli

import fastseq
from fastseq.kernels.core.width import LANES
from fastseq.models import load

HERE = Path(__file__).resolve().parent
VERSION = 1

WORDS = ["the", "cat", "dog", "bird", "tree", "house", "runs", "sings", "eats", "sees", "red",
         "green", "small", "old", "new", "york"]  # fmt: skip
TEXTS = [
    " ".join(WORDS[(row * step + at) % len(WORDS)] for at in range(3 + row % 6))
    for row in range(30)
    for step in (1, 3, 7)
] + ["new york is old", "in new york a cat", "naïve Zürich 猫 喜欢 鱼"] * 4
LABELS = [["animal", "place"]["tree" in text or "house" in text] for text in TEXTS]
SEVERAL = [["even", "long"][len(text) > 20] + [",odd", ""][len(text) % 2] for text in TEXTS]
ROWS = [["Ann", "sings"], ["the", "dog", "runs", "home"], ["Bob", "Stone", "eats"]] * 4
TAGS = [["B-PER", "O"], ["O", "O", "O", "O"], ["B-PER", "I-PER", "O"]] * 4
SERIES = np.sin(np.arange(60.0))[:, None] * [1.0, 5.0] + [0.0, 100.0]
ASKED = ["a cat sings in new york", "a word never seen", "猫 green", ""]
ASKED_ROWS = [["Eve", "Stone", "sings"], ["the", "cat"]]
UNKNOWN = ["cats", "Zürcher", "犬"]

SMALL: dict[str, Any] = {"dimensions": 6, "min_count": 2, "threads": 1, "epochs": 4, "seed": 3}
NET: dict[str, Any] = {"hidden": 3, "batch_size": 8, "threads": 1, "epochs": 3, "seed": 3}

VECTORS: dict[str, Callable[[], Any]] = {
    "word2vec": lambda: fastseq.Word2Vec(**SMALL, sample=0.01, phrases=1, phrase_threshold=4.0),
    "word2vec-tree": lambda: fastseq.Word2Vec(
        **SMALL, architecture="cbow", loss="hierarchical", analyzer=fastseq.Analyzer("space")
    ),
    "fasttext": lambda: fastseq.FastText(**SMALL, low=2, high=3, buckets=300, sample=0.01),
    "glove": lambda: fastseq.GloVe(**SMALL, window=4),
}
LABELLERS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "labels": (
        lambda: fastseq.FastTextClassifier(
            dimensions=6,
            word_ngrams=2,
            low=2,
            high=3,
            buckets=300,
            threads=1,
            learning_rate=1.0,
            epochs=20,
        ),
        LABELS,
    ),
    "labels-tree": (
        lambda: fastseq.FastTextClassifier(dimensions=6, loss="hierarchical", threads=1),
        [text.split()[0] for text in TEXTS],
    ),
    "labels-several": (
        lambda: fastseq.FastTextClassifier(
            dimensions=6, loss="ova", threads=1, label_separator=",", min_count=2
        ),
        SEVERAL,
    ),
}
MODELS: dict[str, tuple[Callable[[], Any], tuple[Any, ...]]] = {
    "gru-classifier": (
        lambda: fastseq.SequenceClassifier(
            cell="gru", embedding=4, bidirectional=True, layers=2, pooling="last", **NET
        ),
        (TEXTS, LABELS),
    ),
    "rnn-forecaster": (
        lambda: fastseq.Forecaster(cell="rnn", nonlinearity="relu", window=5, layers=2, **NET),
        (SERIES,),
    ),
    "crf-tagger": (
        lambda: fastseq.SequenceTagger(
            embedding=4, bidirectional=True, crf=True, chars=True, char_embedding=3, char_hidden=2,
            **NET,
        ),
        (ROWS, TAGS),
    ),
    "gru-language": (
        lambda: fastseq.LanguageModel(cell="gru", embedding=4, bptt=4, **NET), (TEXTS,)
    ),
}  # fmt: skip
FEATURES: dict[str, Callable[[], Any]] = {
    "counts": lambda: fastseq.CountFeatures(binary=True, min_df=2, threads=1),
    "tfidf": lambda: fastseq.TfidfFeatures(ngrams=(1, 2), sublinear_tf=True, threads=1),
    "bm25": lambda: fastseq.BM25Features(k1=0.9, b=0.4, stopwords="lucene", threads=1),
}
# trainings that stopped in the middle: of which vectors, of which models
BEGUN = ["word2vec", "word2vec-tree", "fasttext", "glove"], ["gru-classifier", "gru-language"]


class StoppedError(Exception):
    """Ends a training in the middle."""


def vector_answers(path: Path) -> dict[str, Any]:
    """What the folder of word vectors answers, as JSON."""
    vectors = fastseq.WordVectors.load(path)
    asked = vectors.words[1:10:4]
    return {
        "words": vectors.words,
        "vectors": vectors.vectors.tolist(),
        "neighbors": [vectors.neighbors(word, 3, threads=1) for word in asked],
        "analogy": vectors.analogy(*asked, k=2),
        "unknown": None
        if vectors.subwords is None
        else np.asarray(vectors.vectors_of(UNKNOWN)).tolist(),
    }


def model_answers(name: str, model: Any) -> dict[str, Any]:
    """What a model of any kind answers, as JSON."""
    if name == "rnn-forecaster":
        return {"values": model.predict(SERIES)[-3:].tolist()}
    if name == "crf-tagger":
        return {"tags": model.predict(ASKED_ROWS), "score": model.score(ROWS, TAGS)}
    if name == "gru-language":
        return {"values": [model.log_probability(text) for text in TEXTS[:3]]}
    return {
        "labels": [str(label) for label in model.predict(ASKED)],
        "values": model.predict_proba(ASKED).tolist(),
    }


def feature_answers(features: Any) -> dict[str, Any]:
    """The document–term matrix of the given texts."""
    matrix = features.transform(ASKED)
    return {"values": matrix.toarray().tolist(), "dtype": str(matrix.dtype)}


def weights_of(model: Any) -> list[float]:
    """All that a fit learned, one number after the other."""
    if hasattr(model, "vectors_"):
        return model.vectors_.vectors.reshape(-1).tolist()
    return model.learned.network.parameters.values.tolist()


def stop_in(epoch: int) -> Callable[[Any], None]:
    """A report that ends a training at the end of this epoch."""

    def report(progress: Any) -> None:
        if progress.epoch == epoch and getattr(progress, "step", 0) == getattr(
            progress, "steps", 0
        ):
            raise StoppedError

    return report


def resume(name: str, path: Path | None) -> Any:
    """The model that training ends with, resumed in `path`; without it trained in one go."""
    more: dict[str, Any] = {} if path is None else {"path": path, "resume": True}
    if name in VECTORS:
        return VECTORS[name]().fit(TEXTS, **more)
    make, data = MODELS[name]
    return make().fit(*data, **more)


def save_features(target: Path) -> None:
    """A matrix and its terms, as the command writes them."""
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place) / "corpus.parquet"
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": TEXTS}), corpus)
        out = target / "features.npz"
        given = ["features", str(corpus), "--method", "tfidf", "--ngrams", "1-2", "-o", str(out)]
        ran = CliRunner().invoke(cli, given)
        assert ran.exit_code == 0, ran.output


def make(target: Path) -> Path:
    """Write every folder below `target`; refuses to write over any."""
    folder = target / f"v{VERSION}"
    folder.mkdir(parents=True)
    expected: dict[str, Any] = {"lanes": LANES}
    for name, make_vectors in VECTORS.items():
        make_vectors().fit(TEXTS, path=folder / name)
        expected[name] = vector_answers(folder / name)
    for name, (make_model, labels) in LABELLERS.items():
        make_model().fit(TEXTS, labels, path=folder / name)
        expected[name] = model_answers(name, load(folder / name, threads=1))
    for name, (make_model, data) in MODELS.items():
        make_model().fit(*data).save(folder / name)
        expected[name] = model_answers(name, load(folder / name, threads=1))
    for name, make_features in FEATURES.items():
        features = make_features().fit(TEXTS)
        features.save(folder / name)
        expected[name] = feature_answers(features)
    save_features(folder)
    for name in BEGUN[0]:
        path = folder / f"{name}-begun"
        try:
            VECTORS[name]().fit(TEXTS, path=path, checkpoint_seconds=0, report=stop_in(2))
        except StoppedError:
            expected[path.name] = {"weights": weights_of(resume(name, None))}
    for name in BEGUN[1]:
        path = folder / f"{name}-begun"
        make_model, data = MODELS[name]
        try:
            make_model().fit(*data, path=path, checkpoint_seconds=0, progress=stop_in(2))
        except StoppedError:
            expected[path.name] = {"weights": weights_of(resume(name, None))}
    for lock in folder.rglob("lock"):
        lock.unlink()
    for left in folder.glob("*/checkpoint"):
        if not left.parent.name.endswith("-begun"):
            shutil.rmtree(left)
    with open(folder / "expected.json", "x", encoding="utf-8") as file:
        json.dump(expected, file, ensure_ascii=False)
        file.write("\n")
    return folder


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE))
