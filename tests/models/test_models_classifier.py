"""SequenceClassifier: training, prediction, evaluation, errors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from fastseq.errors import DataError, NotFittedError, SettingsError
from fastseq.models.classifier import SequenceClassifier
from fastseq.models.data.batches import take
from fastseq.models.data.examples import Encoder
from fastseq.nn.losses import softmax
from fastseq.store.in_memory import as_source
from fastseq.store.rows import open_rows
from tests.models.small_data import SMALL, assert_gradients, reviews, write

FAST: dict[str, Any] = {**SMALL, "learning_rate": 0.02, "epochs": 6}

TEXTS, LABELS = reviews(120)
TEST, EXPECTED = reviews(40, seed=1)


@pytest.fixture(scope="module")
def fitted() -> SequenceClassifier:
    return SequenceClassifier(**FAST).fit(TEXTS, LABELS)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("pooling", ["max", "mean", "last", "attention"])
def test_classifier_learns_separable_classes(cell: str, pooling: str) -> None:
    model = SequenceClassifier(
        **{**FAST, "epochs": 12}, cell=cell, pooling=pooling, bidirectional=True
    )
    model.fit(TEXTS, LABELS)
    assert model.score(TEST, EXPECTED) >= 0.95
    names = set(model.learned.network.parameters)
    assert {"embedding.weight", f"{cell}.weight_ih_l0_reverse", "output.bias"} <= names
    assert ("attention.vector" in names) == (pooling == "attention")


@pytest.mark.parametrize("pooling", ["max", "mean", "last", "attention"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_match_finite_differences(pooling: str, weighted: bool) -> None:
    model = SequenceClassifier(
        **{**SMALL, "dropout": 0.3},
        pooling=pooling,
        bidirectional=True,
        layers=2,
        recurrent_dropout=0.2,
        class_weights={"pos": 3.0} if weighted else None,
        learning_rate=0.02,
        epochs=1,
    ).fit(TEXTS, LABELS)
    network = model.learned.network
    examples = model.learned.encoder.read(open_rows(as_source(TEST[:6], EXPECTED[:6]), "text"))
    batch = take(examples, np.arange(6))

    def loss(training: bool = False) -> float:
        # the key selects the same elements for any weights
        scores = network.scores(batch, True, 5)
        return network.loss(scores, batch, training)[0]

    def learn() -> None:
        loss(True)
        network.backward()

    assert_gradients(network.parameters, loss, learn)


def test_loss_is_the_weighted_mean_log_probability(fitted: SequenceClassifier) -> None:
    shares = fitted.predict_proba(TEST)
    expected = -np.log(shares[np.arange(len(TEST)), [int(y == "pos") for y in EXPECTED]])
    assert fitted.evaluate(TEST, EXPECTED)["loss"] == pytest.approx(expected.mean(), rel=1e-5)
    weighted = SequenceClassifier(**FAST, class_weights={"pos": 3.0}).fit(TEXTS, LABELS)
    shares = weighted.predict_proba(TEST)
    losses = -np.log(shares[np.arange(len(TEST)), [int(y == "pos") for y in EXPECTED]])
    counts = np.where(np.array(EXPECTED) == "pos", 3.0, 1.0)
    found = weighted.evaluate(TEST, EXPECTED)["loss"]
    assert found == pytest.approx((losses * counts).sum() / counts.sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("values", "kind", "dtype"),
    [
        (["b", "a", "c"], "string", "<U1"),
        ([7, -2, 300], "int64", "int64"),
        ([7, -2, 3], "int8", "int8"),
        ([True, False, True], "bool", "bool"),
    ],
)
def test_labels_keep_their_type(tmp_path: Path, values: list[Any], kind: str, dtype: str) -> None:
    words = ["good", "bad", "plain"]
    rows = list(range(3)) * 6
    labels = pa.array([values[r] for r in rows], kind)
    data = write(tmp_path / "data.parquet", text=[words[r] for r in rows], label=labels)
    model = SequenceClassifier(**{**FAST, "epochs": 15}).fit(data)
    assert model.classes_.tolist() == sorted(set(values))
    assert model.classes_.dtype == np.dtype(dtype)
    found = model.predict(words)
    assert found.tolist() == values
    assert found.dtype == np.dtype(dtype)
    out = tmp_path / "out.parquet"
    assert model.predict_file(data, out, keep="label") == 18
    table = pq.read_table(out)
    assert table.schema.names == ["id", "label", "prediction", "probability"]
    assert str(table.schema.field("prediction").type) == kind
    assert table["prediction"].to_pylist() == table["label"].to_pylist()
    assert table["id"].to_pylist() == list(range(18))


def test_predictions_agree_with_each_other(fitted: SequenceClassifier, tmp_path: Path) -> None:
    shares = fitted.predict_proba(TEST)
    assert shares.shape == (40, 2)
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
    best = shares.argmax(1)
    assert fitted.predict(TEST).tolist() == fitted.classes_[best].tolist()
    for row in (0, 17, 39):  # alone as in company
        np.testing.assert_allclose(fitted.predict_proba([TEST[row]])[0], shares[row], atol=1e-5)
    table = pa.table({"id": [f"r{i}" for i in range(40)], "text": TEST, "url": ["u"] * 40})
    out = tmp_path / "out.parquet"
    assert fitted.predict_file(table, out, keep=["url"], probabilities=True) == 40
    found = pq.read_table(out).to_pydict()
    assert list(found) == ["id", "url", "prediction", "probability", "probabilities"]
    assert found["id"] == table["id"].to_pylist()
    np.testing.assert_array_equal(np.array(found["probabilities"], np.float32), shares)
    np.testing.assert_array_equal(np.array(found["probability"], np.float32), shares.max(1))
    assert fitted.predict([]).tolist() == []
    assert fitted.predict_proba([]).shape == (0, 2)


def test_predictions_keep_the_row_order(fitted: SequenceClassifier) -> None:
    # more rows than are scored at once, and texts of very different lengths
    texts = [f"{'the film ' * (i % 50)}{'good' if i % 3 else 'awful'}" for i in range(1500)]
    found = fitted.predict_proba(texts)
    for row in range(0, 1500, 173):
        np.testing.assert_allclose(fitted.predict_proba([texts[row]])[0], found[row], atol=1e-5)


def test_evaluate_equals_scikit_learn(fitted: SequenceClassifier) -> None:
    texts = [*TEST, "good", "bad", "the", "dull"]
    gold = [*EXPECTED, "neither", "neither", "other", "neg"]
    found = fitted.predict(texts)
    measures = fitted.evaluate(texts, gold)
    assert measures["accuracy"] == pytest.approx(accuracy_score(gold, found))
    expected = f1_score(gold, found, average="macro", zero_division=0)
    assert measures["macro_f1"] == pytest.approx(expected)
    counts = confusion_matrix(gold, found, labels=["neg", "pos"])
    np.testing.assert_array_equal(fitted.confusion_.counts, counts)
    report = fitted.report_["data"]
    assert report.unseen == {"neither": 2, "other": 1}
    assert report.targets == 44
    assert "unseen in training" in report.messages()[-1]


def test_unseen_validation_labels_are_counted(fitted: SequenceClassifier) -> None:
    texts, gold = [*TEST, "good"], [*EXPECTED, "other"]
    model = SequenceClassifier(**{**FAST, "epochs": 2}).fit(TEXTS, LABELS, valid=(texts, gold))
    assert model.report_["validation"].unseen == {"other": 1}
    history = model.history_
    assert history is not None
    assert history.measures == ["loss", "accuracy", "macro_f1"]
    best = max(history.columns["valid_accuracy"])
    assert best <= 40 / 41, "an unseen label counts as wrong"
    assert model.score(texts, gold) == pytest.approx(best), "the best epoch's weights are kept"
    with pytest.raises(DataError, match="every label is unseen"):
        SequenceClassifier(**FAST).fit(TEXTS, LABELS, valid=(["a"], ["other"]))
    with pytest.raises(DataError, match="every label is unseen"):
        fitted.evaluate(["a"], ["other"])
    with pytest.raises(DataError, match="no rows"):
        fitted.evaluate([], [])


def test_empty_texts_are_read_as_unknown(fitted: SequenceClassifier) -> None:
    table = pa.table({"text": ["good", "", None, "   "]})
    found = fitted.predict_proba(table)
    assert fitted.report_["data"].empty == 3
    assert fitted.report_["data"].nulls == 1
    np.testing.assert_array_equal(found[1], found[2])
    np.testing.assert_allclose(found[1], fitted.predict_proba(["zzz"])[0], atol=1e-6)
    model = SequenceClassifier(**SMALL, epochs=1).fit(["", "", "good", ""], list("abab"))
    assert model.report_["training"].empty == 3
    with pytest.raises(DataError, match="no units are left"):
        SequenceClassifier(**SMALL, epochs=1).fit(["", " "], ["a", "b"])


def test_glob_like_texts_and_single_column_frames_are_texts(fitted: SequenceClassifier) -> None:
    texts = ["what is a *.parquet", "a film?"]
    assert fitted.predict(texts).tolist() == fitted.predict(np.array(texts)).tolist()
    table = pa.table({"text": TEXTS, "label": LABELS})
    small = SequenceClassifier(hidden=4, embedding=4, epochs=1, threads=1)
    beside = small.fit(table.select(["text"]), table["label"]).predict_proba(TEXTS)
    np.testing.assert_array_equal(small.fit(TEXTS, LABELS).predict_proba(TEXTS), beside)


def test_one_class_only() -> None:
    with pytest.raises(DataError, match="a single label, 'pos', in 3 rows"):
        SequenceClassifier(**SMALL).fit(["a", "b", "c"], ["pos"] * 3)


def test_columns_can_be_named(tmp_path: Path) -> None:
    data = write(tmp_path / "d.parquet", sentence=TEXTS, kind=LABELS, other=list(range(120)))
    with pytest.raises(DataError, match=r"d\.parquet: cannot tell which column is the text"):
        SequenceClassifier(**FAST).fit(data)
    with pytest.raises(DataError, match=r"d\.parquet: no column 'txt'; its columns: .*sentence"):
        SequenceClassifier(**FAST).fit(data, text_column="txt", label_column="kind")
    with pytest.raises(DataError, match="the text column 'other' is int64, expected strings"):
        SequenceClassifier(**FAST).fit(data, text_column="other", label_column="kind")
    numbers = write(tmp_path / "n.parquet", text=["a", "b"], label=[0.5, 1.5])
    with pytest.raises(DataError, match="the label column 'label' is double, expected strings"):
        SequenceClassifier(**FAST).fit(numbers)
    missing = write(tmp_path / "m.parquet", text=["a", "b"], label=["x", None])
    with pytest.raises(DataError, match=r"m\.parquet: row 1 .*label.*is null"):
        SequenceClassifier(**FAST).fit(missing)
    named = {"text_column": "sentence", "label_column": "kind"}
    model = SequenceClassifier(**FAST).fit(data, **named)
    assert model.score(data) == model.score(TEXTS, LABELS), "the names are remembered"
    renamed = write(tmp_path / "r.parquet", body=TEST, label=EXPECTED)
    with pytest.raises(DataError, match=r"r\.parquet: no column 'sentence'"):
        model.predict(renamed)
    assert model.predict(renamed, text_column="body").tolist() == model.predict(TEST).tolist()
    measures = model.evaluate(renamed, text_column="body", label_column="label")
    assert measures["accuracy"] == model.score(TEST, EXPECTED)


def test_validation_data_with_other_columns(tmp_path: Path) -> None:
    train = write(tmp_path / "train.parquet", text=TEXTS, label=LABELS)
    valid = write(tmp_path / "valid.parquet", sentence=TEST, label=EXPECTED)
    place = tmp_path / "model"
    with pytest.raises(DataError, match=r"valid\.parquet: no column 'text'"):
        SequenceClassifier(**FAST).fit(train, valid=valid, path=place)
    assert not (place / "manifest.json").exists()
    other = write(tmp_path / "other.parquet", text=TEST, label=[1] * 40)
    with pytest.raises(DataError, match=r"other\.parquet: the label column 'label' is int64, but"):
        SequenceClassifier(**FAST).fit(train, valid=other)
    assert SequenceClassifier(**FAST).fit(train, valid=(TEST, EXPECTED)).history_ is not None


def test_evaluation_labels_of_another_type_are_rejected(fitted: SequenceClassifier) -> None:
    with pytest.raises(DataError, match="labels such as 1; expected those of training"):
        fitted.evaluate(["a"], [1])


def test_class_weights() -> None:
    texts, labels = ["same"] * 100, ["rare"] * 10 + ["often"] * 90
    whole = {**FAST, "batch_size": 100, "epochs": 60}
    plain = SequenceClassifier(**whole).fit(texts, labels)
    even = SequenceClassifier(**whole, class_weights="balanced").fit(texts, labels)
    assert plain.predict_proba(["same"])[0, 1] == pytest.approx(0.1, abs=0.05)
    assert even.predict_proba(["same"])[0, 1] == pytest.approx(0.5, abs=0.05)
    with pytest.raises(SettingsError, match="a class weight for 'never'"):
        SequenceClassifier(**FAST, class_weights={"never": 2}).fit(texts, labels)
    with pytest.raises(SettingsError, match="class weights 'even'"):
        SequenceClassifier(**FAST, class_weights="even").fit(texts, labels)


def test_max_length_reads_only_the_start() -> None:
    model = SequenceClassifier(**FAST, max_length=3).fit(TEXTS, LABELS)
    assert model.report_["training"].cut > 0
    cut = model.predict_proba(["the film was good", "the film was bad"])
    np.testing.assert_array_equal(cut[0], cut[1])


def test_unit_settings() -> None:
    for unit in ("space", "char", "byte"):
        model = SequenceClassifier(**{**FAST, "epochs": 1}, unit=unit).fit(TEXTS, LABELS)
        assert model.predict_proba(["Good", "ok"]).shape == (2, 2)
        expected = 256 if unit == "byte" else len(set("".join(TEXTS))) + 1
        if unit != "space":
            assert len(model.vocabulary_) == expected


def test_prediction_uses_the_fitted_encoder(fitted: SequenceClassifier) -> None:
    encoder, train = Encoder.learn(
        open_rows(as_source(TEXTS, LABELS), "text"), fitted.vocabulary_.tokenizer
    )
    assert encoder.vocabulary.texts.to_strings() == fitted.vocabulary_.texts.to_strings()
    batch = take(train, np.arange(4))
    scores = fitted.learned.network.scores(batch)
    np.testing.assert_allclose(softmax(scores), fitted.predict_proba(TEXTS[:4]), atol=1e-5)


def test_unfitted_model_raises_not_fitted() -> None:
    model = SequenceClassifier()
    for use in (
        lambda: model.predict(["a"]),
        lambda: model.predict_proba(["a"]),
        lambda: model.evaluate(["a"], ["b"]),
        lambda: model.classes_,
        lambda: model.vocabulary_,
    ):
        with pytest.raises(NotFittedError, match="SequenceClassifier is not fitted"):
            use()


def test_several_threads_predict_with_one_model() -> None:
    words = [f"w{i % 40}" for i in range(4000)]
    texts = [" ".join(words[i : i + 3 + i % 9]) for i in range(0, 3900, 10)]
    model = SequenceClassifier(hidden=16, embedding=16, epochs=1, threads=1)
    model.fit(texts, [i % 3 for i in range(len(texts))])
    alone = model.predict_proba(texts)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: model.predict_proba(texts), range(12)))
    for other in found:
        np.testing.assert_array_equal(other, alone)
