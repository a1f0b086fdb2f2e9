"""A fitted estimator predicts and is saved with the parameters that it was fitted with."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from sklearn.base import clone

from fastseq import (
    Analyzer,
    BM25Features,
    CountFeatures,
    FastText,
    FastTextClassifier,
    Forecaster,
    GloVe,
    LanguageModel,
    Phrases,
    SequenceClassifier,
    SequenceTagger,
    TfidfFeatures,
    Word2Vec,
)
from fastseq.errors import NotFittedError
from fastseq.estimator import parameters_of
from tests.hammering import assert_same_from_threads
from tests.models.small_data import reviews, sentences

TEXTS, LABELS = reviews(40)
ROWS, TAGS = sentences(30)
SERIES = np.sin(np.arange(60) / 3)
WORDS = ["the good film was fine", "a bad film was dull", "new york is fine"] * 10
NETWORK = {"hidden": 6, "epochs": 1, "threads": 1}
TEXT = {**NETWORK, "embedding": 5}
VECTORS = {"dimensions": 6, "epochs": 1, "min_count": 1, "threads": 1}


class Case(NamedTuple):
    """An estimator, what it is fitted on, other parameters, and what a fitted one answers."""

    estimator: Any
    data: tuple[Any, ...]
    others: dict[str, Any]
    answer: Callable[[Any], Any]

    @property
    def name(self) -> str:
        return type(self.estimator).__name__


def vectors(model: Any) -> Any:
    return model.vectors_.vectors


CASES = [
    Case(
        SequenceClassifier(**TEXT, pooling="max"), (TEXTS, LABELS),
        {"pooling": "mean", "hidden": 16, "cell": "gru", "unit": "char", "max_length": 1},
        lambda model: model.predict_proba(TEXTS),
    ),
    Case(
        SequenceTagger(**TEXT, chars=True, crf=True), (ROWS, TAGS),
        {"chars": False, "crf": False, "bidirectional": True, "tag_scheme": "none"},
        lambda model: model.predict(ROWS),
    ),
    Case(
        LanguageModel(**TEXT, unit="char"), (TEXTS,),
        {"unit": "word", "layers": 2, "bptt": 3, "seed": 4},
        lambda model: [model.evaluate(TEXTS), list(model.generate("the", 20))],
    ),
    Case(
        Forecaster(**NETWORK, window=8, horizon=2), (SERIES,),
        {"window": 9, "horizon": 3, "hidden": 7},
        lambda model: [model.predict(SERIES), model.forecast(SERIES), model.evaluate(SERIES)],
    ),
    Case(
        FastTextClassifier(dimensions=6, word_ngrams=2, min_n=2, max_n=3, buckets=50, epochs=1,
                           threads=1), (TEXTS, LABELS),
        {"dimensions": 7, "loss": "hierarchical", "max_n": 0, "buckets": 7, "word_ngrams": 1,
         "analyzer": Analyzer(tokenizer="char")},
        lambda model: model.predict_proba(TEXTS),
    ),
    Case(Word2Vec(**VECTORS), (WORDS,), {"dimensions": 7, "loss": "hierarchical"}, vectors),
    Case(
        FastText(**VECTORS, buckets=40), (WORDS,), {"min_n": 2, "max_n": 4, "buckets": 30},
        lambda model: [vectors(model), model.vectors_["unseen"]],
    ),
    Case(GloVe(**VECTORS), (WORDS,), {"dimensions": 7, "combine": "word", "window": 1}, vectors),
    Case(
        TfidfFeatures(ngrams=(1, 2)), (TEXTS,),
        {"norm": "l1", "use_idf": False, "sublinear_tf": True, "ngrams": (1, 1), "min_df": 3,
         "dtype": np.float32},
        lambda model: [model.transform(TEXTS).toarray(), model.weights],
    ),
    Case(
        BM25Features(k1=2.0), (TEXTS,), {"k1": 0.5, "b": 0.1, "stopwords": "english"},
        lambda model: model.transform(TEXTS).toarray(),
    ),
    Case(
        CountFeatures(lowercase=False), (TEXTS,), {"binary": True, "tokenizer": "char"},
        lambda model: model.transform(TEXTS).toarray(),
    ),
]  # fmt: skip


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_equal(found, expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_set_params_after_fit_changes_neither_predictions_nor_what_is_saved(
    case: Case, tmp_path: Path
) -> None:
    model = clone(case.estimator).fit(*case.data)
    fitted, expected = model.get_params(), case.answer(model)
    model.save(tmp_path / "before")
    assert model.set_params(**case.others) is model
    assert_same(case.answer(model), expected)
    model.save(tmp_path / "model")
    model.save(tmp_path / "before", overwrite=True)
    for place in ("model", "before"):
        loaded = type(model).load(tmp_path / place)
        assert_same(case.answer(loaded), expected)
        for name, value in loaded.get_params().items():
            if name == "dtype":
                assert np.dtype(value) == np.dtype(fitted[name])
            elif name in case.others and name not in ("analyzer", *parameters_of(Analyzer)):
                assert value == fitted[name], name
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_same(case.answer(copied), expected)
        assert {n: copied.get_params()[n] for n in case.others} == case.others


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fit_after_set_params_uses_the_new_parameters(case: Case, tmp_path: Path) -> None:
    model = clone(case.estimator).fit(*case.data)
    model.set_params(**case.others).fit(*case.data).save(tmp_path / "model")
    again = type(model)(**{**case.estimator.get_params(), **case.others}).fit(*case.data)
    assert_same(case.answer(model), case.answer(again))
    assert_same(case.answer(type(model).load(tmp_path / "model")), case.answer(again))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_clone_is_not_fitted(case: Case) -> None:
    model = clone(case.estimator).fit(*case.data)
    copied = clone(model)
    assert copied.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        case.answer(copied)


def test_phrases_are_joined_with_the_common_words_of_their_search() -> None:
    model = Phrases(min_count=1, threshold=0.1, common_words=("is",)).fit(WORDS)
    sentence = [["york", "is", "fine"]]
    expected = model.transform(sentence)
    assert expected != sentence
    model.set_params(common_words=(), threshold=1e9)
    assert model.transform(sentence) == expected
    assert pickle.loads(pickle.dumps(model)).transform(sentence) == expected


def test_exported_bin_has_the_fitted_settings(tmp_path: Path) -> None:
    model = FastTextClassifier(dimensions=6, epochs=3, word_ngrams=2, buckets=50, threads=1)
    model.fit(TEXTS, LABELS).export(tmp_path / "a.bin")
    model.set_params(epochs=9, word_ngrams=1, min_count=4).export(tmp_path / "b.bin")
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fitted_estimator_serves_several_threads(case: Case, threads: int) -> None:
    model = clone(case.estimator).set_params(threads=threads).fit(*case.data)
    parts = {
        "SequenceTagger": [(lambda x: model.predict(x), ROWS)],
        "Forecaster": [(lambda x: model.predict(x), SERIES)],
        "LanguageModel": [
            (lambda x: model.evaluate(x)["nats"], TEXTS),
            (lambda x: list(model.generate(x[0][:3], 20, seed=3)), TEXTS),
            (lambda x: model.log_probability(x[0]), TEXTS),
        ],
    }.get(case.name)
    if parts is None and hasattr(model, "vectors_"):
        parts = [(lambda x: model.vectors_.neighbors(x[0].split()[0], k=3), WORDS)]
    elif parts is None and hasattr(model, "transform"):
        parts = [(lambda x: model.transform(x).toarray(), TEXTS)]
    for call, data in parts or [(lambda x: model.predict_proba(x), TEXTS)]:
        assert_same_from_threads(call, [data[:12], data[8:25], data[3:]], 15)
