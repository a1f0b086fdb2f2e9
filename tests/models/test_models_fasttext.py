"""FastText's classifier: what it learns, what it says, what it refuses."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastseq import FastTextClassifier, SequenceClassifier
from fastseq.errors import (
    DataError,
    DeviceError,
    FormatError,
    NotFittedError,
    SettingsError,
    TrainingError,
)
from fastseq.models import load
from fastseq.models.fasttext import network
from fastseq.models.fasttext import rows as rows_of
from fastseq.text.analyzer import Analyzer
from tests.models.small_data import EXPECTED, LABELS, TEST, TEXTS, WEIGHTS, write
from tests.naive import fasttext_labels as naive
from tests.naive.subwords import buckets

LOSSES = ("softmax", "hierarchical", "negative", "ova")
FAST: dict[str, Any] = {"dimensions": 10, "learning_rate": 0.5, "epochs": 8, "threads": 1}
SPACES = Analyzer(tokenizer="space", lowercase=False)


def fitted(**settings: Any) -> FastTextClassifier:
    return FastTextClassifier(**{**FAST, **settings}).fit(TEXTS, LABELS)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("more", [{}, {"word_ngrams": 2, "low": 2, "high": 3, "buckets": 5000}])
def test_classifier_learns_separable_classes(loss: str, more: dict[str, Any]) -> None:
    model = fitted(loss=loss, threads=2, epochs=25, **more)
    assert model.score(TEST, EXPECTED) > 0.9
    assert model.classes_.tolist() == ["neg", "pos"]
    losses = model.history_["train_loss"]
    assert losses[-1] < 0.5 * losses[0]
    shares = model.predict_proba(TEST)
    assert shares.shape == (30, 2)
    assert ((shares >= 0) & (shares <= 1)).all()
    if loss in ("softmax", "hierarchical"):
        np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    assert (model.predict(TEST) == model.classes_[shares.argmax(1)]).all()


def test_rows_of_a_text_match_the_naive_twin() -> None:
    texts = ["the good good film", "naïve film", "", "the dull plot of the film"]
    model = FastTextClassifier(
        **FAST, word_ngrams=3, low=2, high=3, buckets=97, min_count=2, analyzer=SPACES
    )
    encoder = model.fit(texts, [0, 1, 0, 1]).learned.encoder
    words = encoder.words.to_strings()
    assert words == ["</s>", "the", "film", "good"]
    new = ["good film of naïve", "strange", "", "the </s> good"]
    found = encoder.encode(rows_of.Texts.from_strings(new))
    for text, a, b in zip(new, found.offsets[:-1], found.offsets[1:], strict=True):
        wanted: list[int | str] = []
        pieces: list[int] = []
        for word in text.split():
            wanted += [words.index(word)] if word in words else []
            pieces = buckets(word, 2, 3, 97)
            wanted += [f"bucket {bucket}" for bucket in pieces]
        wanted.append(0)
        grams = naive.ngrams_of([*text.split(), "</s>"], 3, 97)
        wanted += [f"bucket {bucket}" for bucket in grams]
        numbers = encoder.used.tolist()
        names = [
            f"bucket {numbers[row - 4]}" if row >= 4 else int(row) for row in found.values[a:b]
        ]
        known = {f"bucket {number}" for number in numbers}
        assert len(names) == len(wanted)
        for name, each in zip(names, wanted, strict=True):
            assert name == (each if isinstance(each, int) or each in known else -1)


def test_sparse_buckets_equal_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"word_ngrams": 2, "buckets": 3000}
    wanted = fitted(**settings)
    monkeypatch.setattr(rows_of, "_DENSE", 100)
    monkeypatch.setattr(rows_of, "_BLOCK", 50)
    found = fitted(**settings)
    assert found.learned.encoder.used.tolist() == wanted.learned.encoder.used.tolist()
    np.testing.assert_array_equal(found.predict_proba(TEST), wanted.predict_proba(TEST))


def test_memory_limit_does_not_change_the_weights() -> None:
    found, wanted = (fitted(word_ngrams=2, memory=size) for size in ("1KB", "1GB"))
    np.testing.assert_array_equal(found.predict_proba(TEST), wanted.predict_proba(TEST))


def test_only_buckets_in_use_have_rows() -> None:
    learned = fitted(word_ngrams=2, buckets=1 << 30).learned
    assert len(learned.inputs) == len(learned.encoder) < 1000


def test_one_thread_gives_the_same_bits() -> None:
    for loss in LOSSES:
        one, same, other = (fitted(loss=loss, seed=seed).learned for seed in (3, 3, 4))
        assert one.inputs.tobytes() == same.inputs.tobytes()
        assert one.outputs.tobytes() == same.outputs.tobytes()
        assert one.inputs.tobytes() != other.inputs.tobytes()


def test_rounds_visit_every_text_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "ROUND", 50)
    told: list[Any] = []
    model = FastTextClassifier(**{**FAST, "threads": 2})
    model.fit(TEXTS, LABELS, progress=told.append)
    words = sum(len(Analyzer(tokenizer="word").tokens(text)) + 1 for text in TEXTS)
    assert model.history_["words"] == [words] * 8
    assert told[-1].epoch == told[-1].epochs == 8
    assert told[-1].step == told[-1].steps > 3
    assert model.score(TEST, EXPECTED) > 0.9


@pytest.mark.parametrize("text", ["", "zzyzx qqq", "，！"])
def test_text_without_known_words_gets_the_end_of_line_prediction(text: str) -> None:
    model = fitted(loss="softmax")
    learned = model.learned
    scores = learned.outputs @ learned.inputs[0]
    wanted = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(model.predict_proba([text])[0], wanted, rtol=1e-5)
    assert model.predict([text])[0] == model.classes_[wanted.argmax()]


def test_labels_keep_their_type(tmp_path: Path) -> None:
    numbers = [7 if label == "pos" else 3 for label in LABELS]
    model = FastTextClassifier(**FAST).fit(TEXTS, numbers)
    assert model.classes_.tolist() == [3, 7]
    assert model.predict(TEST).dtype.kind == "i"
    path = write(tmp_path / "rows.parquet", text=TEST, label=[7] * 30, id=[*range(30)])
    table = pa.concat_tables(model.predict_batches([path], keep="text", probabilities=True))
    assert table.column_names == ["id", "text", "prediction", "probability", "probabilities"]
    assert table["prediction"].to_pylist() == model.predict(TEST).tolist()
    truths = FastTextClassifier(**FAST).fit(TEXTS, [n == 7 for n in numbers])
    assert truths.predict(TEST).dtype == bool


def test_parquet_and_lists_give_the_same_weights(tmp_path: Path) -> None:
    train = write(tmp_path / "train.parquet", words=TEXTS, sense=LABELS)
    test = write(tmp_path / "test.parquet", words=TEST, sense=EXPECTED)
    model = FastTextClassifier(**FAST)
    model.fit(train, valid=test, text_column="words", label_column="sense")
    assert model.evaluate(test) == fitted().evaluate(TEST, EXPECTED)
    assert model.history_["valid_accuracy"][-1] == model.score(test)
    assert model.history_["valid_loss"][-1] == pytest.approx(model.evaluate(test)["loss"])
    assert set(model.report_) == {"training", "validation", "data"}
    assert model.confusion_.counts.sum() == 30


def test_unknown_words_are_reported() -> None:
    model = FastTextClassifier(**FAST, min_count=2, word_ngrams=2)
    texts = [*TEXTS, "once only"]
    model.fit(texts, [*LABELS, LABELS[0]], valid=(["the zzz plot qqq"], ["pos"]))
    words = sum(len(word) > 1 for text in texts for word in text.split())
    assert model.report_["training"].units == words
    assert model.report_["training"].unknown_rate == 2 / words
    assert model.report_["validation"].unknown_rate == 0.5
    assert model.evaluate(["the zzz plot qqq", ""], ["pos", "neg"])["unknown_rate"] == 0.5
    assert model.report_["data"].empty == 1


def test_unseen_labels_count_as_wrong() -> None:
    model = fitted()
    expected = [*EXPECTED[:-2], "other", "strange"]
    found = model.evaluate(TEST, expected)
    assert model.report_["data"].unseen == {"other": 1, "strange": 1}
    right = (model.predict(TEST[:-2]) == np.array(EXPECTED[:-2])).sum()
    assert found["accuracy"] == pytest.approx(right / 30)
    predicted = model.predict(TEST).tolist()
    f1 = []
    for label in ("neg", "pos", "other", "strange"):
        both = sum(a == b == label for a, b in zip(predicted, expected, strict=True))
        f1.append(2 * both / (predicted.count(label) + expected.count(label)))
    assert found["macro_f1"] == pytest.approx(np.mean(f1))
    with pytest.raises(DataError, match="every label is unseen"):
        model.evaluate(TEST, ["other"] * 30)


def tagged() -> tuple[list[str], list[list[str]]]:
    rng = np.random.default_rng(0)
    topics = {"sea": ["wave", "ship"], "sky": ["cloud", "star"], "fire": ["flame", "smoke"]}
    texts, labels = [], []
    for _ in range(200):
        told = [name for name in topics if rng.random() < 0.5] or ["sea"]
        texts.append(" ".join(str(rng.choice(topics[name])) for name in told) + " and the")
        labels.append(told)
    return texts, labels


def test_texts_with_several_labels(tmp_path: Path) -> None:
    texts, labels = tagged()
    model = FastTextClassifier(**{**FAST, "epochs": 20}, loss="ova")
    model.fit(texts, labels, valid=(texts, labels))
    assert model.classes_.tolist() == ["fire", "sea", "sky"]
    assert [sorted(told) for told in model.predict_several(texts)] == [sorted(t) for t in labels]
    found = model.evaluate(texts, labels)
    assert found["accuracy"] == found["micro_f1"] == model.history_["valid_accuracy"][-1] == 1
    assert found["loss"] == pytest.approx(model.history_["valid_loss"][-1])
    wrong = model.evaluate(texts, [[*told, "storm"] for told in labels])
    assert wrong["micro_f1"] < 1
    assert model.report_["data"].unseen == {"storm": len(texts)}
    assert found["recall"] == pytest.approx(len(texts) / sum(map(len, labels)))
    joined = write(tmp_path / "rows.parquet", text=texts, label=[", ".join(t) for t in labels])
    other = FastTextClassifier(**{**FAST, "epochs": 20}, loss="ova", label_separator=",")
    other.fit(joined)
    np.testing.assert_array_equal(other.predict_proba(texts), model.predict_proba(texts))
    assert other.evaluate(joined) == other.evaluate(texts, labels) == found
    other.save(tmp_path / "model")
    assert FastTextClassifier.load(tmp_path / "model").evaluate(joined) == found
    for loss in LOSSES[:3]:  # learn one of the labels at a time
        told = FastTextClassifier(**FAST, loss=loss).fit(texts, labels).evaluate(texts, labels)
        assert told["accuracy"] > 0.95


def test_pretrained_vectors_initialise_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "vectors.vec"
    path.write_text("3 4\ngood 9 0 0 0\nsuperb 8 1 0 0\nfilm 0 0 0 0.5\n", "utf-8")
    settings = {**FAST, "dimensions": 4, "vectors": path, "learning_rate": 1e-9, "min_count": 1000}
    learned = FastTextClassifier(**settings).fit(TEXTS, LABELS).learned
    words = learned.encoder.words.to_strings()
    assert sorted(words) == ["</s>", "film", "good", "superb"]
    assert learned.counts[words.index("superb")] == 0 < learned.counts[words.index("film")]
    np.testing.assert_allclose(learned.inputs[words.index("superb"), :4], [8, 1, 0, 0], rtol=1e-5)
    model = FastTextClassifier(**{**settings, "min_count": 1}).fit(TEXTS, LABELS)
    tokens = [word for text in TEXTS for word in text.split() if len(word) > 1]
    coverage = {
        "units": len(set(tokens)), "found": 2, "tokens": len(tokens),
        "tokens_found": tokens.count("good") + tokens.count("film"),
    }  # fmt: skip
    assert model.vectors_coverage_ == coverage
    assert fitted().vectors_coverage_ is None
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").vectors_coverage_ == coverage
    with pytest.raises(SettingsError, match="vectors of 4 numbers, but dimensions is 5"):
        FastTextClassifier(**{**settings, "dimensions": 5}).fit(TEXTS, LABELS)
    path.write_text("1 4\ngood 9 nan 0 0\n", "utf-8")
    with pytest.raises(DataError, match="line 2 holds a number that is not finite"):
        FastTextClassifier(**settings).fit(TEXTS, LABELS)


# ---- keeping


@pytest.mark.parametrize("loss", LOSSES)
def test_save_load_copy_and_pickle_keep_predictions(tmp_path: Path, loss: str) -> None:
    model = FastTextClassifier(**FAST, loss=loss, word_ngrams=2, low=2, high=2, analyzer=SPACES)
    model.fit(TEXTS, LABELS, path=tmp_path / "model")
    wanted = model.predict_proba(TEST)
    loaded = load(tmp_path / "model", threads=1)
    assert isinstance(loaded, FastTextClassifier)
    for other in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict_proba(TEST), wanted)
        assert other.history_ == model.history_
        assert other.get_params() == model.get_params()
    assert loaded.n_parameters_ == model.n_parameters_
    with pytest.raises(SettingsError, match="already exists"):
        model.save(tmp_path / "model")
    model.save(tmp_path / "model", overwrite=True)


def test_damaged_and_other_models_are_rejected(tmp_path: Path) -> None:
    model = fitted()
    model.save(tmp_path / "model")
    weights = tmp_path / "model" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(FormatError, match="weights"):
        FastTextClassifier.load(tmp_path / "model")
    with pytest.raises(FormatError, match="expected a folder that fastseq wrote"):
        FastTextClassifier.load(tmp_path)


def test_weights_of_another_vocabulary_are_rejected(tmp_path: Path) -> None:
    model = fitted()
    model.learned.inputs = model.learned.inputs[:-1]
    model.save(tmp_path / "model")
    with pytest.raises(FormatError, match=r"expected .* rows of one length"):
        FastTextClassifier.load(tmp_path / "model")


# ---- what is refused


@pytest.mark.parametrize(
    ("texts", "labels", "said"),
    [
        (["aa b", "cc d"], ["x", "x"], "single label, 'x',"),
        ([], [], "no rows to learn from"),
        (["", " "], ["x", "y"], "no words in any text"),
        (["aa", "bb"], ["x"], "2 texts, but 1 labels"),
        (["aa", None], ["x", None], "row 1 .from 0.: the label is null"),
        (["aa", "bb"], [["x"], [3]], "row 1 .from 0.: expected a list of labels"),
        (["aa", 3], ["x", "y"], "row 1 .from 0.: a int, expected a text"),
        (["aa", "b\udcff"], ["x", "y"], "row 1 .from 0.: its text is not valid UTF-8"),
    ],
)
def test_unusable_training_data_is_rejected(texts: Any, labels: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        FastTextClassifier(**FAST).fit(texts, labels)


def test_missing_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", text=TEXTS)
    with pytest.raises(DataError, match=r"rows.parquet: .*label"):
        FastTextClassifier(**FAST).fit(path)
    with pytest.raises(DataError, match=r"rows.parquet: .*sense"):
        FastTextClassifier(**FAST).fit(path, label_column="sense")
    numbers = write(tmp_path / "numbers.parquet", text=TEXTS, label=[1, 2] * 50)
    with pytest.raises(DataError, match="labels are int64; expected strings"):
        FastTextClassifier(**FAST, label_separator=",").fit(numbers)
    with pytest.raises(DataError, match=r"the label column .* is int64"):
        FastTextClassifier(**FAST).fit(TEXTS, LABELS, valid=numbers)


@pytest.mark.parametrize(
    "settings",
    [
        {"dimensions": 0}, {"loss": "hinge"}, {"word_ngrams": 0}, {"low": 4, "high": 3},
        {"buckets": 0}, {"min_count": 0}, {"negatives": 0}, {"label_separator": ""},
        {"epochs": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")},
        {"analyzer": "word"}, {"analyzer": Analyzer(ngrams=(1, 2))}, {"seed": -1},
        {"threads": 0}, {"memory": "much"},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_rejected(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        FastTextClassifier(**{**FAST, **settings}).fit(TEXTS, LABELS)


def test_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    model = FastTextClassifier(**{**FAST, "learning_rate": 9e5, "dimensions": 100, "epochs": 40})
    with pytest.raises(TrainingError, match="lower the learning rate"):
        model.fit(TEXTS, LABELS, path=tmp_path / "model")
    assert not (tmp_path / "model" / WEIGHTS).exists()


def test_missing_devices_are_rejected(tmp_path: Path) -> None:
    fitted().save(tmp_path / "model")
    with pytest.raises(DeviceError, match="CUDA"):
        FastTextClassifier.load(tmp_path / "model", device="cuda")
    with pytest.raises(FormatError, match="holds a fasttext, expected a classifier"):
        SequenceClassifier.load(tmp_path / "model")


def test_analyzer_removes_stop_words_and_stems() -> None:
    analyzer = Analyzer.for_language("english")
    model = FastTextClassifier(**FAST, analyzer=analyzer).fit(TEXTS, LABELS)
    words = model.learned.encoder.words.to_strings()
    assert "the" not in words
    assert "awful" not in words
    assert analyzer.tokens("awful")[0] in words
    assert model.learned.counts[0] == len(TEXTS)
    assert model.learned.counts.sum() == model.history_["words"][0]


def test_unfitted_model_raises_not_fitted() -> None:
    for use in (lambda m: m.predict(TEST), lambda m: m.classes_, lambda m: m.save("nowhere")):
        with pytest.raises(NotFittedError, match="call fit first"):
            use(FastTextClassifier())


def test_scikit_learn_protocol() -> None:
    model = FastTextClassifier(word_ngrams=2)
    assert repr(model) == "FastTextClassifier(word_ngrams=2)"
    assert model.set_params(epochs=3).get_params()["epochs"] == 3
    with pytest.raises(SettingsError, match="no parameter"):
        model.set_params(layers=2)


def test_empty_vocabulary_is_rejected():
    with pytest.raises(DataError, match="no word occurs 50 times"):
        FastTextClassifier(min_count=50).fit(["red apple", "blue lake"] * 3, ["a", "b"] * 3)
