"""Fine-tuning of BERT against transformers (bench/golden.py: the file), and its bits and errors."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

import fastseq
from fastseq import BertClassifier, BertRegressor
from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.models.bert import finetuning
from fastseq.models.bert.finetuning import BertModel, BertTask
from fastseq.models.data.batches import take
from tests.bert_checkpoints import CONFIG, write_checkpoint

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "transformer" / "finetuning.npz"))
SPEC = json.loads(str(GOLDEN["spec"]))
TEXTS = [
    "the cat sat", "a dog ran on the mat", "cat cat .", "the dog ran", "a cat sat on the mat, cats",
    "dog, dogs running", "the mat", "a cat", "dog dog dog", "cats on the mat .",
]  # fmt: skip
LABELS = ["cat" if "cat" in text else "dog" for text in TEXTS]
SCORES = [float(len(text.split())) for text in TEXTS]
SETTINGS: dict[str, Any] = {
    "batch_size": 4, "epochs": 3, "learning_rate": 5e-3, "dropout": 0.1, "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bert") / "base"
    write_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def classifier(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BertClassifier, Path]:
    path = tmp_path_factory.mktemp("bert") / "model"
    model = BertClassifier(base=base, threads=2, **SETTINGS)
    return model.fit(TEXTS, LABELS, valid=(TEXTS, LABELS), path=path), path


def under(prefix: str) -> dict[str, np.ndarray]:
    found = {k.removeprefix(prefix): v for k, v in GOLDEN.items() if k.startswith(prefix)}
    assert found, prefix
    return found


@pytest.mark.parametrize("task", ["classify", "pair"])
def test_twenty_losses_match_transformers(task: str, tmp_path: Path) -> None:
    golden = under(f"{task}/")
    write_checkpoint(tmp_path, SPEC["config"], under(f"{task}/p "))
    (tmp_path / "vocab.txt").write_text("\n".join(SPEC["pieces"]) + "\n")

    def with_head(self: BertModel, *given: Any) -> BertTask:
        found = BertModel._task(self, *given)
        found.parameters.load_state_dict(under(f"{task}/p "))  # the initial head is random
        return found

    kind = BertClassifier if task == "classify" else BertRegressor
    made: Any = type("Golden", (kind,), {"_task": with_head})
    first, second = SPEC["first"], SPEC["second"]
    model = made(
        base=tmp_path, pooling="cls", pairs=task == "pair", epochs=SPEC["steps"], dropout=0.0,
        batch_size=len(first), learning_rate=SPEC["rate"], weight_decay=SPEC["decay"],
        clip=SPEC["clip"], warmup_ratio=SPEC["warmup"] / SPEC["steps"],
    )  # fmt: skip
    texts = list(zip(first, second, strict=True)) if task == "pair" else first
    model.fit(texts, GOLDEN["scores" if task == "pair" else "labels"])
    np.testing.assert_allclose(model.history_.columns["train_loss"], golden["losses"], rtol=1e-4)
    if task == "pair":
        assert np.allclose(model.predict(texts), golden["outputs"][:, 0], rtol=1e-3, atol=1e-3)
    else:
        shifted = np.exp(golden["outputs"] - golden["outputs"].max(1, keepdims=True))
        wanted = shifted / shifted.sum(1, keepdims=True)
        assert np.allclose(model.predict_proba(texts), wanted, atol=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_gradients_are_those_of_the_loss(base: Path, pooling: str) -> None:
    model = BertClassifier(base=base, pooling=pooling, pairs=True, threads=1)
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    task = model._task(pairs, LABELS, None, {}, model._backend())
    network, parameters = task.learned.network, task.parameters
    for part in (network.embeddings, *network.encoder.layers, network._drop):
        part.dropout = part.rate = 0.0  # type: ignore[union-attr]
    for layer in network.encoder.layers:
        layer.attention.dropout = 0.0
    batch = take(task.train, np.arange(len(pairs)))

    def loss(training: bool) -> float:
        return float(network.loss(network.scores(batch, training), batch, training)[0])

    loss(training=True)
    network.backward()
    gradients = parameters.gradients.copy()
    slope = float(np.linalg.norm(gradients.astype(np.float64)))
    start, step = parameters.values.copy(), 2e-3
    found = []
    for sign in (1, -1):
        parameters.values[:] = start + np.float32(sign * step / slope) * gradients
        found.append(loss(training=False))
    assert (found[0] - found[1]) / (2 * step) == pytest.approx(slope, rel=1e-2)


def test_a_saved_model_predicts_the_same_and_needs_nothing_else(
    classifier: tuple[BertClassifier, Path], base: Path, tmp_path: Path
) -> None:
    model, path = classifier
    expected = model.predict_proba(TEXTS)
    moved = path.rename(tmp_path / "moved")
    elsewhere = base.rename(tmp_path / "base")
    loaded = fastseq.models.load(moved, threads=1)
    elsewhere.rename(base)
    assert isinstance(loaded, BertClassifier)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), expected)
    copied = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(copied.predict_proba(TEXTS[:2]), expected[:2])
    for row, text in enumerate(TEXTS):  # alone as in a batch
        np.testing.assert_array_equal(loaded.predict_proba([text])[0], expected[row])
    weights = load_file(moved / "weights.safetensors")
    assert weights["bert.embeddings.word_embeddings.weight"].shape == (CONFIG["vocab_size"], 24)
    assert weights["classifier.weight"].shape == (2, 24)
    moved.rename(path)


def test_it_learns_on_any_number_of_threads(
    classifier: tuple[BertClassifier, Path], base: Path
) -> None:
    model, _ = classifier
    history = model.history_
    assert history is not None
    losses = history.columns["train_loss"]
    assert losses[-1] < losses[0]
    rates = history.columns["learning_rate"]
    assert rates[0] > rates[1] > rates[2] > 0
    again = BertClassifier(base=base, threads=1, **SETTINGS)
    again.fit(TEXTS, LABELS, valid=(TEXTS, LABELS))
    weights = model.learned.network.parameters.values
    np.testing.assert_array_equal(again.learned.network.parameters.values, weights)


def test_a_resumed_training_has_the_same_bits(
    classifier: tuple[BertClassifier, Path], base: Path, tmp_path: Path
) -> None:
    model, _ = classifier
    other = BertClassifier(base=base, threads=2, **SETTINGS)
    given: dict[str, Any] = {
        "valid": (TEXTS, LABELS), "path": tmp_path / "model", "checkpoint_seconds": 0
    }  # fmt: skip

    def stop(progress: Any) -> None:
        if progress.epoch == 2:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        other.fit(TEXTS, LABELS, progress=stop, **given)
    for more, texts, match in [
        ({"pooling": "max"}, TEXTS, r"settings\.pooling was mean in that run"),
        ({"max_length": 8}, TEXTS, r"settings\.max_length was null in that run, now 8"),
        ({"max_length": 8, "learning_rate": 1.0}, TEXTS[::-1], "learning_rate was 0.005"),
        ({}, TEXTS[::-1], "the training or validation data are not what they were in that run"),
    ]:
        with pytest.raises(SettingsError, match=f"cannot resume: {match}"):
            BertClassifier(base=base, **(SETTINGS | more)).fit(texts, LABELS, resume=True, **given)
    other.fit(TEXTS, LABELS, resume=True, **given)
    np.testing.assert_array_equal(
        other.learned.network.parameters.values, model.learned.network.parameters.values
    )
    # with other weights to start from it is another run
    weights = load_file(base / "model.safetensors")
    weights["embeddings.LayerNorm.bias"] += 1
    moved = base.rename(tmp_path / "base")
    write_checkpoint(base, weights=weights)
    with pytest.raises(SettingsError, match="resume: the weights of base=… are not what they were"):
        other.fit(TEXTS, LABELS, resume=True, **given)
    shutil.rmtree(base)
    moved.rename(base)


def test_numbers_of_pairs(base: Path, tmp_path: Path) -> None:
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    model = BertRegressor(base=base, pairs=True, **{**SETTINGS, "epochs": 8, "dropout": 0.0})
    model.fit(pairs, SCORES, valid=(pairs, SCORES), path=tmp_path / "model")
    measures = model.evaluate(pairs, SCORES)
    predictions = model.predict(pairs)
    errors = (predictions - np.array(SCORES)) ** 2
    assert measures["loss"] == pytest.approx(errors.mean(), rel=1e-5)
    assert measures["pearson"] == pytest.approx(np.corrcoef(predictions, SCORES)[0, 1], abs=1e-6)
    assert measures["r2"] == pytest.approx(1 - errors.sum() / (np.var(SCORES) * len(SCORES)))
    assert model.score(pairs, SCORES) == measures["r2"] > 0
    loaded = fastseq.models.load(tmp_path / "model")
    table = pa.table({"x": TEXTS, "y": TEXTS[::-1], "s": SCORES, "key": range(10)})
    named = {"text_column": ["x", "y"], "id_column": "key"}
    (found,) = loaded.predict_batches(table, **named)
    assert found.column_names == ["id", "prediction"]
    np.testing.assert_array_equal(found["prediction"].to_numpy(), predictions)
    # the order of the texts matters, and so do their types
    assert not np.array_equal(model.predict([pair[::-1] for pair in pairs]), predictions)
    for single in (["one two"], np.array(["one two"]), [None], [("a", "b"), "one"]):
        with pytest.raises(DataError, match=r"row [01] \(from 0\): .*, expected a pair of texts"):
            model.predict(single)
    with pytest.raises(DataError, match="single texts, expected pairs of texts"):
        model.predict(pa.array(["one two"]))
    with pytest.raises(DataError, match=r"row 0 .* expected a pair of texts"):
        model.evaluate(["one"], [1.0])
    pq.write_table(table, tmp_path / "t.parquet")
    paths = [str(tmp_path / "t.parquet")]
    assert len(loaded.predict(paths, text_column=["x", "y"])) == len(TEXTS)


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_gradients_of_cosines_are_those_of_the_loss(base: Path, pooling: str) -> None:
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    model = BertRegressor(base=base, separate=True, pooling=pooling, dropout=0.0, threads=1)
    task = model._task(pairs, SCORES, None, {}, model._backend())
    network, parameters = task.learned.network, task.parameters
    batch = take(task.train, np.arange(len(pairs)))

    def loss(training: bool) -> float:
        return float(network.loss(network.scores(batch, training), batch, training)[0])

    # the predictions begin at the mean and the deviation of the numbers
    start = network.scores(batch)
    assert start.mean() == pytest.approx(np.mean(SCORES), rel=1e-4)
    assert start.std() == pytest.approx(np.std(SCORES), rel=1e-3)
    assert np.corrcoef(start[:, 0], SCORES)[0, 1] > 0
    loss(training=True)
    network.backward()
    gradients = parameters.gradients.astype(np.float64)
    own = parameters.views.keys()
    names = [next(n for n in own if "layer.0" in n and n.endswith("query.weight")), HEAD_WEIGHT]
    values = parameters.values.copy()
    rng = np.random.default_rng(1)
    for direction in (gradients, *(_along(parameters, name, rng) for name in names)):
        slope, step = float(gradients @ direction), 2e-3 / np.linalg.norm(direction)
        found = []
        for sign in (1, -1):
            parameters.values[:] = values + (sign * step * direction).astype(np.float32)
            found.append(loss(training=False))
        assert (found[0] - found[1]) / (2 * step) == pytest.approx(slope, rel=2e-2, abs=1e-3)


HEAD_WEIGHT = "classifier.weight"


def _along(parameters: Any, name: str, rng: np.random.Generator) -> Any:
    """A random direction of one parameter."""
    before = parameters.values.copy()
    parameters.values[:] = 0
    view = parameters.views[name]
    view[...] = rng.standard_normal(view.shape)
    found = parameters.values.astype(np.float64)
    parameters.values[:] = before
    return found


def test_numbers_of_texts_read_separately(base: Path, tmp_path: Path) -> None:
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    scores = [abs(len(a) - len(b)) / 8 for a, b in pairs]  # in any order
    given: dict[str, Any] = {**SETTINGS, "epochs": 8, "dropout": 0.0}
    model = BertRegressor(base=base, separate=True, **given)
    model.fit(pairs, scores, valid=(pairs, scores), path=tmp_path / "model")
    predictions = model.predict(pairs)
    measures = model.evaluate(pairs, scores)
    errors = (predictions - np.array(scores)) ** 2
    assert measures["loss"] == pytest.approx(errors.mean(), rel=1e-5)
    losses = model.history_.columns["valid_loss"]
    assert losses[-1] < losses[0]
    # a cosine has no order, and the exported encoder has the same vectors
    np.testing.assert_array_equal(model.predict([pair[::-1] for pair in pairs]), predictions)
    model.export(tmp_path / "encoder")
    encoder = fastseq.TextEncoder.load(tmp_path / "encoder")
    vectors = encoder.encode(TEXTS).astype(np.float64)
    head = load_file(tmp_path / "encoder" / "model.safetensors")
    cosines = (vectors * vectors[::-1]).sum(1)
    wanted = cosines * head[HEAD_WEIGHT][0, 0] + head["classifier.bias"][0]
    np.testing.assert_allclose(predictions, wanted, rtol=1e-4, atol=1e-4)
    loaded = fastseq.models.load(tmp_path / "model")
    assert isinstance(loaded, BertRegressor)
    assert loaded.separate
    np.testing.assert_array_equal(loaded.predict(pairs), predictions)
    table = pa.table({"x": TEXTS, "y": TEXTS[::-1], "key": range(10)})
    named: dict[str, Any] = {"text_column": ["x", "y"], "id_column": "key"}
    (found,) = loaded.predict_batches(table, **named)
    np.testing.assert_array_equal(found["prediction"].to_numpy(), predictions)
    for row, pair in enumerate(pairs):  # alone as in a batch
        assert loaded.predict([pair])[0] == predictions[row]
    with pytest.raises(DataError, match="expected a pair of texts"):
        loaded.predict(["one"])
    # the larger the number, the less alike
    away = BertRegressor(base=base, separate=True, **given).fit(pairs, [-s for s in scores])
    assert away.learned.network.output.values["weight"][0, 0] < 0 < head[HEAD_WEIGHT][0, 0]
    texts = {"a": ["the cat", "", None], "b": ["a dog", "cat", "mat"]}
    rows = pa.table({**texts, "label": [1.0, 2.0, 3.0]})
    model = BertRegressor(base=base, separate=True, epochs=1).fit(rows)
    wanted = ["2 of 3 rows have an empty text (1 of them null): read as [CLS] [SEP]"]
    assert model.report_["training"].messages() == wanted


def test_evaluation_holds_one_part_at_a_time(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = pa.table({"text": TEXTS, "label": SCORES})
    model = BertRegressor(base=base, epochs=1).fit(part)
    whole, steps = model.evaluate(part), []
    read, predict = BertModel._encoded, finetuning.predicted

    def encoded(*given: Any) -> Any:
        for each in read(*given):
            steps.append("read")
            yield each

    def predicted(*given: Any) -> Any:
        steps.append("predict")
        return predict(*given)

    monkeypatch.setattr(BertModel, "_encoded", encoded)
    monkeypatch.setattr(finetuning, "predicted", predicted)
    assert model.evaluate(pa.concat_tables([part] * 3)) == pytest.approx(whole)
    assert steps == ["read", "predict"] * 3
    with pytest.raises(DataError, match="there are no rows"):
        model.evaluate(part.slice(0, 0))


def test_empty_and_null_texts_of_pairs_are_counted(base: Path) -> None:
    rows = pa.table({
        "a": ["the cat", "", None, "dog", None], "b": ["a dog", "cat", "mat", None, ""],
        "label": [1.0, 2.0, 3.0, 4.0, 5.0],
    })  # fmt: skip
    model = BertRegressor(base=base, pairs=True, epochs=1).fit(rows)
    wanted = ["4 of 5 rows have an empty text (3 of them null): read as no tokens"]
    assert model.report_["training"].messages() == wanted
    model.evaluate(rows)
    assert model.report_["data"].messages() == wanted
    rows = rows.set_column(2, "label", pa.array([1.0, 2.0, 1e300, 4.0, 5.0]))
    with pytest.raises(DataError, match=r"row 2 \(from 0\): the number 1e\+300 is beyond float32"):
        BertRegressor(base=base, pairs=True, epochs=1).fit(rows)


def test_empty_null_and_long_texts_are_counted(classifier: tuple[BertClassifier, Path]) -> None:
    model, _ = classifier
    long = "the cat sat on a mat " * 5
    found = model.predict_proba(["", None, long, "cat"])
    np.testing.assert_array_equal(found[0], found[1])
    assert model.report_["data"].messages() == [
        "2 of 4 texts are empty (1 of them null): read as [CLS] [SEP]",
        "1 of 4 rows are cut to the maximum length",
    ]
    lengths = model.learned.encoder.max_length
    assert lengths == CONFIG["max_position_embeddings"]
    assert model.predict([]).tolist() == []


def test_labels_that_training_did_not_have(classifier: tuple[BertClassifier, Path]) -> None:
    model, _ = classifier
    measures = model.evaluate(["the cat", "a dog"], ["cat", "cow"])
    assert measures["accuracy"] <= 0.5
    assert measures["unknown_rate"] == 0
    # special tokens are not counted
    rate = model.evaluate(["the zebra", "a", "dog"], ["cat", "dog", "dog"])["unknown_rate"]
    assert rate == model.report_["data"].unknown_rate == 1 / 4
    measures = model.evaluate(["the cat", "a dog"], ["cat", "cow"])
    (message,) = model.report_["data"].messages()
    assert message == "1 of 2 rows have a label unseen in training: 'cow'"
    with pytest.raises(DataError, match="every label is unseen in training"):
        model.evaluate(["the cat"], ["cow"])
    with pytest.raises(DataError, match="labels such as 3; expected those of training"):
        model.evaluate(["the cat"], [3])


def test_bad_rows(base: Path, tmp_path: Path) -> None:
    pair = BertClassifier(base=base, pairs=True, epochs=1)
    with pytest.raises(
        DataError, match=r"no column 'b'; its columns: a \(string\), label \(string\)"
    ):
        pair.fit(pa.table({"a": TEXTS, "label": LABELS}))
    with pytest.raises(SettingsError, match="text_column is 'a'; expected the two columns"):
        pair.fit(pa.table({"a": TEXTS, "label": LABELS}), text_column="a")
    with pytest.raises(DataError, match=r"row 1 \(from 0\): \('a',\), expected a pair of texts"):
        pair.fit([("a", "b"), ("a",)], ["x", "y"])
    with pytest.raises(DataError, match="2 texts, but 1 targets"):
        pair.fit([("a", "b"), ("a", "c")], ["x"])
    plain = BertRegressor(base=base, epochs=1)
    with pytest.raises(DataError, match=r"row 1 .*the number in column 'label' is null"):
        plain.fit(pa.table({"text": ["a", "b"], "label": [1.0, None]}))
    with pytest.raises(DataError, match="the value column 'label' is string, expected numbers"):
        plain.fit(TEXTS, LABELS)
    pq.write_table(pa.table({"text": ["a"], "label": ["cow"]}), tmp_path / "v.parquet")
    with pytest.raises(DataError, match=r"v\.parquet: every label is unseen in training"):
        BertClassifier(base=base, epochs=1).fit(TEXTS, LABELS, valid=tmp_path / "v.parquet")
    with pytest.raises(DataError, match="nothing to tell apart"):
        BertClassifier(base=base, epochs=1).fit(TEXTS, ["one"] * len(TEXTS))


def test_bases_that_cannot_be_used(base: Path, tmp_path: Path) -> None:
    def fit(path: Path | None, **more: Any) -> None:
        BertClassifier(base=path, epochs=1, **more).fit(TEXTS, LABELS)

    with pytest.raises(SettingsError, match="base must be given"):
        fit(None)
    with pytest.raises(DataError, match="no such folder"):
        fit(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"config.json: no such file"):
        fit(tmp_path / "empty")
    write_checkpoint(tmp_path / "lacking", weights={
        name: value for name, value in load_file(base / "model.safetensors").items()
        if "layer.1.output.dense.weight" not in name
    })  # fmt: skip
    with pytest.raises(FormatError, match=r"encoder.layer.1.output.dense.weight is missing"):
        fit(tmp_path / "lacking")
    one_type = {**CONFIG, "type_vocab_size": 1}
    weights = load_file(base / "model.safetensors")
    name = "embeddings.token_type_embeddings.weight"
    weights[name] = weights[name][:1].copy()
    write_checkpoint(tmp_path / "untyped", one_type, weights)
    with pytest.raises(FormatError, match="has no token type of second texts"):
        fit(tmp_path / "untyped", pairs=True)
    with pytest.raises(SettingsError, match="max_length is 17, but the model has 16 positions"):
        fit(base, max_length=17)
    with pytest.raises(SettingsError, match="gradient_flow is of recurrent layers"):
        BertClassifier(base=base, epochs=1).fit(TEXTS, LABELS, gradient_flow=True)


def test_damaged_models_are_refused(
    classifier: tuple[BertClassifier, Path], tmp_path: Path
) -> None:
    model, _ = classifier
    path = tmp_path / "model"
    model.save(path)
    manifest = json.loads((path / "manifest.json").read_text())
    weights = load_file(path / "weights.safetensors")
    save_file({**weights, "classifier.bias": weights["classifier.bias"][:1]},
              path / "weights.safetensors")  # fmt: skip
    assert manifest["statistics"]["config"]["hidden_size"] == 24
    with pytest.raises(FormatError, match="damaged"):
        fastseq.models.load(path)
