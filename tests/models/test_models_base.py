"""What every sequence model does: settings, saving, loading, word vectors, gradient flow."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone, is_classifier

import fastseq
from fastseq.errors import (
    DataError,
    DeviceError,
    FormatError,
    NotFittedError,
    SettingsError,
)
from fastseq.models import load
from fastseq.models.classifier import SequenceClassifier
from fastseq.models.sequence import SequenceModel, mean_norms
from fastseq.models.tagger import SequenceTagger
from fastseq.store.folder import read_manifest
from fastseq.store.weights import read_weights, write_weights
from tests.models.small_data import (
    FAST,
    LABELS,
    ROWS,
    TAGS,
    TEST,
    TEXTS,
    WEIGHTS,
    classifier,
    sentences,
    write,
)

# ---- settings


def test_settings_by_name() -> None:
    model = SequenceClassifier(hidden=7, class_weights={"a": 2.0})
    settings = model.get_params()
    assert settings["hidden"] == 7
    assert settings["cell"] == "lstm"
    assert model.set_params(hidden=9, cell="gru") is model
    assert (model.hidden, model.cell) == (9, "gru")
    with pytest.raises(SettingsError, match="SequenceClassifier has no parameter 'hiden'"):
        model.set_params(hiden=3, cell="rnn")
    assert model.cell == "gru", "nothing is changed"
    assert repr(model) == "SequenceClassifier(class_weights={'a': 2.0}, cell='gru', hidden=9)"
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert is_classifier(model)
    assert not is_classifier(SequenceTagger())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cell": "lstms"}, "cell is 'lstms'; expected one of lstm, gru, rnn"),
        ({"nonlinearity": "sine"}, "nonlinearity is 'sine'; expected one of tanh, relu"),
        ({"nonlinearity": "relu"}, "nonlinearity relu is for the cell rnn; the cell lstm has"),
        ({"monitor": "f1"}, "monitor is 'f1'; expected one of accuracy, loss"),
        ({"monitor": "loss"}, "monitor needs validation"),
        ({"hidden": 0}, "hidden must be a whole number of at least 1, not 0"),
        ({"hidden": 2.5}, "hidden must be a whole number of at least 1, not 2.5"),
        ({"layers": True}, "layers must be a whole number of at least 1, not True"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"recurrent_dropout": -0.1}, "recurrent_dropout must be at least 0 and below 1, not -0.1"),
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0"),
        ({"clip": -1.0}, "clip must be a number above 0"),
        ({"patience": 0}, "patience must be a whole number of at least 1"),
        ({"optimizer": "adamm"}, "optimizer is 'adamm'; expected one of sgd"),
        ({"optimizer_settings": {"momentum": 0.9}}, "adam has no setting 'momentum'"),
        ({"schedule": "cosin"}, "schedule is 'cosin'; expected one of"),
        ({"schedule": "step"}, "the schedule step needs the setting 'every'"),
        ({"device": "gpu"}, "device is 'gpu'; expected one of auto, cpu, cuda"),
        ({"memory": "much"}, "cannot read 'much' as a size"),
        ({"threads": 0}, "threads must be a whole number of at least 1"),
        ({"unit": "words"}, "unit is 'words'"),
        ({"embedding": 0}, "embedding must be"),
        ({"embedding": None}, "embedding is None: expected a size, or a file"),
        ({"freeze_embeddings": True}, "freeze_embeddings needs embeddings"),
        ({"min_count": 0}, "min_count must be"),
        ({"max_vocabulary": 0}, "max_vocabulary must be"),
        ({"pooling": "sum"}, "pooling is 'sum'; expected one of last, mean, max, attention"),
        ({"max_length": 0}, "max_length must be"),
        ({"patience": 2}, "patience needs validation"),
        ({"hidden": "64"}, "hidden must be a whole number of at least 1, not '64'"),
        ({"seed": None}, "seed must be a whole number of at least 0, not None"),
        ({"dropout": "a"}, "dropout must be at least 0 and below 1, not 'a'"),
        ({"dropout": True}, "dropout must be"),
        ({"learning_rate": "fast"}, "learning_rate must be a number above 0, not 'fast'"),
        ({"weight_decay": "a"}, "weight_decay must be"),
        ({"clip": [1]}, r"clip must be a number above 0, not \[1\]"),
        ({"warmup": 2.5}, "warmup must be a whole number of at least 0, not 2.5"),
        ({"schedule_settings": [1]}, r"schedule_settings must be a dictionary .*, not \[1\]"),
        ({"schedule": "step", "schedule_settings": {"every": 2.5}}, "every must be a whole"),
        ({"optimizer_settings": "momentum"}, "optimizer_settings must be a dictionary"),
        ({"cell": ["lstm"]}, r"cell is \['lstm'\]"),
        ({"pooling": ["max"]}, r"pooling is \['max'\]"),
        ({"optimizer": ["adam"]}, r"optimizer is \['adam'\]"),
        ({"schedule": ["cosine"]}, r"schedule is \['cosine'\]"),
        ({"monitor": ["loss"]}, r"monitor is \['loss'\]"),
        ({"class_weights": [1, 2]}, r"class weights \[1, 2\]"),
        ({"class_weights": {"pos": "2"}}, "class weight of 'pos' must be 0 or more, not '2'"),
        ({"class_weights": {"pos": 0, "neg": 0}}, "every class weight is 0"),
        ({"memory": 0.5}, "a size must be"),
        ({"unit": 3}, "unit is 3"),
        ({"hidden": 4 * 10**20}, "hidden must be a whole number below 2147483648"),
        ({"seed": 1 << 64}, "seed must be a whole number below"),
        ({"bidirectional": "no"}, "bidirectional must be True or False, not 'no'"),
        ({"freeze_embeddings": 1}, "freeze_embeddings must be True or False"),
        ({"optimizer_settings": {"team": 3}}, "adam has no setting 'team', expected some of betas"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        classifier(**settings).fit(TEXTS, LABELS)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_models_can_be_copied_and_pickled(copied: Any) -> None:
    model = classifier(class_weights={"pos": 2.0}, threads=2)
    assert copied(model).get_params() == model.get_params()
    model.fit(TEXTS, LABELS)
    twin = copied(model)
    assert twin.get_params() == model.get_params()
    np.testing.assert_array_equal(twin.predict_proba(TEST), model.predict_proba(TEST))
    weights, others = (m.learned.network.parameters.values for m in (model, twin))
    others += 1
    assert not np.array_equal(weights, others)


def test_a_weight_decay_of_zero_is_none() -> None:
    for given, decay in (({}, 0.0), ({"weight_decay": 0.01}, 0.01)):
        model = classifier(optimizer="adamw", **given)
        assert model._training_settings(0.0, None).optimiser_settings["weight_decay"] == decay
    # as in checkpoints that were written before, so that they can be resumed
    assert classifier()._training_settings(0.0, None).optimiser_settings == {}
    model = classifier(optimizer="adamw", optimizer_settings={"weight_decay": 0.1})
    assert model._training_settings(0.0, None).optimiser_settings == {"weight_decay": 0.1}


def test_optimiser_and_schedule_take_their_settings() -> None:
    model = classifier(
        optimizer="sgd",
        optimizer_settings={"momentum": 0.9},
        weight_decay=1e-4,
        schedule="step",
        schedule_settings={"every": 13, "factor": 0.5},
        warmup=2,
        clip=1.0,
        clip_value=0.5,
    ).fit(TEXTS, LABELS)
    assert model.history_ is not None
    assert model.history_.columns["learning_rate"] == [0.02, 0.01, 0.005]


def test_missing_cuda_is_one_error_line(tmp_path: Path) -> None:
    place = tmp_path / "model"
    with pytest.raises(DeviceError, match="CUDA"):
        classifier(device="cuda").fit(TEXTS, LABELS, path=place)
    assert not place.exists()
    model = classifier(epochs=1, device="cpu").fit(TEXTS, LABELS)
    model.save(place)
    for opened in (SequenceClassifier.load, load):
        with pytest.raises(DeviceError, match="CUDA"):
            opened(place, device="cuda")


def test_columns_of_other_models() -> None:
    with pytest.raises(SettingsError, match="a classifier has no tags_column; expected text_"):
        classifier().fit(TEXTS, LABELS, tags_column="tags")
    with pytest.raises(SettingsError, match="a tagger has no text_column; expected tokens_"):
        SequenceTagger(**FAST).fit(ROWS, TAGS, text_column="text")


def test_unfitted_model_raises_not_fitted(tmp_path: Path) -> None:
    model = SequenceClassifier()
    with pytest.raises(NotFittedError, match="call fit first"):
        model.save(tmp_path / "model")
    for name in ("learned", "history_", "n_parameters_", "report_", "gradient_flow_"):
        with pytest.raises(NotFittedError):
            getattr(model, name)


def test_failed_fit_keeps_the_fitted_state() -> None:
    model = classifier().fit(TEXTS, LABELS)
    before = model.predict_proba(TEST)
    with pytest.raises(DataError):
        model.fit(["a"], ["b"])
    np.testing.assert_array_equal(model.predict_proba(TEST), before)
    model.set_params(epochs=1).fit(TEXTS[:50], LABELS[:50])
    assert not np.array_equal(model.predict_proba(TEST), before)


# ---- saving


def models() -> dict[str, SequenceModel[Any]]:
    return {
        "classifier": classifier(pooling="attention", bidirectional=True).fit(TEXTS, LABELS),
        "tagger": SequenceTagger(**FAST, crf=True, chars=True).fit(ROWS, TAGS),
    }


@pytest.fixture(scope="module")
def fitted() -> dict[str, SequenceModel[Any]]:
    return models()


@pytest.mark.parametrize("kind", ["classifier", "tagger"])
def test_save_and_load_round_trip(kind: str, fitted: dict[str, Any], tmp_path: Path) -> None:
    model, place = fitted[kind], tmp_path / "model"
    model.save(place)
    data = TEST if kind == "classifier" else sentences(20, seed=2)[0]
    for loaded in (type(model).load(place), load(place, threads=2)):
        assert type(loaded) is type(model)
        found, expected = loaded.predict(data), model.predict(data)
        assert list(found) == list(expected)
        assert loaded.settings() == model.settings()
        assert loaded.history_.columns == model.history_.columns
        assert loaded.n_parameters_ == model.n_parameters_
        assert loaded.vocabulary_.texts.to_strings() == model.vocabulary_.texts.to_strings()
        with pytest.raises(NotFittedError, match="no gradient flow"):
            _ = loaded.gradient_flow_
    again = tmp_path / "again"
    load(place).save(again)
    assert (again / WEIGHTS).read_bytes() == (place / WEIGHTS).read_bytes()
    weights, metadata = read_weights(place / WEIGHTS)
    assert metadata == {"model": kind}
    assert sum(array.size for array in weights.values()) == model.n_parameters_
    other = SequenceTagger if kind == "classifier" else SequenceClassifier
    with pytest.raises(FormatError, match=f"holds a {kind}, expected a {other.kind}"):
        other.load(place)
    with pytest.raises(SettingsError, match="overwrite"):
        model.save(place)
    model.save(place, overwrite=True)


def test_names_of_the_weights(fitted: dict[str, Any], tmp_path: Path) -> None:
    fitted["tagger"].save(tmp_path / "model")
    weights, _ = read_weights(tmp_path / "model" / WEIGHTS)
    chars = [f"characters.lstm.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih")]
    for name in ("embedding.weight", "characters.embedding.weight", "lstm.weight_ih_l0", *chars):
        assert name in weights
    assert weights["output.weight"].shape == (3, 8)
    assert weights["crf.transitions"].shape == (3, 3)


def test_damaged_models_are_rejected(fitted: dict[str, Any], tmp_path: Path) -> None:
    place = tmp_path / "model"
    fitted["classifier"].save(place)
    whole = tmp_path / "whole"
    shutil.copytree(place, whole)

    def refused(match: str) -> None:
        with pytest.raises(FormatError, match=match):
            load(place)
        shutil.rmtree(place)
        shutil.copytree(whole, place)

    # one bit of a weight, in every file it may be read from
    for path in place.rglob(WEIGHTS):
        content = bytearray(path.read_bytes())
        content[-5] ^= 16
        path.unlink()
        path.write_bytes(content)
    refused("damaged")
    for path in place.rglob("vocabulary.parquet"):
        path.unlink()
    refused("vocabulary")
    with pytest.raises(FormatError, match="nowhere"):
        load(tmp_path / "nowhere")
    load(place)


def test_other_versions_and_kinds_are_rejected(fitted: dict[str, Any], tmp_path: Path) -> None:
    place = tmp_path / "model"
    fitted["classifier"].save(place)
    manifest = read_manifest(place)

    def refused(match: str, **changes: Any) -> None:
        # sealed again, as another version of the program would have written it
        (place / "manifest.json").write_bytes(replace(manifest, **changes).to_bytes())
        with pytest.raises(FormatError, match=match):
            load(place)

    refused("format version 2 is too new", format_version=2)
    refused("format version 0 is too old", format_version=0)
    settings = manifest.settings
    refused("a model of kind 'poet'", settings={**settings, "model": "poet"})
    own = settings["settings"]
    refused("does not know: hiden", settings={**settings, "settings": {**own, "hiden": 3}})
    refused("cell is 'x'", settings={**settings, "settings": {**own, "cell": "x"}})
    refused("do not fit this model", settings={**settings, "settings": {**own, "hidden": 9}})
    said = manifest.statistics
    refused("not consistent", statistics={k: v for k, v in said.items() if k != "vocabulary"})
    refused("damaged", statistics={**said, "vocabulary": {**said["vocabulary"], "size": 3}})
    labels = {**said["labels"], "values": ["a"], "counts": [1]}
    refused("1 labels, expected at least 2", statistics={**said, "labels": labels})


def test_weights_of_another_model_are_rejected(fitted: dict[str, Any], tmp_path: Path) -> None:
    place = tmp_path / "model"
    fitted["classifier"].save(place)
    weights, _ = read_weights(place / WEIGHTS)
    (place / WEIGHTS).unlink()
    write_weights(place / WEIGHTS, {name: array + 1 for name, array in weights.items()})
    with pytest.raises(FormatError, match="damaged or exchanged"):
        load(place)


# ---- word vectors


def vectors(path: Path, words: dict[str, list[float]]) -> Path:
    lines = [f"{word} {' '.join(map(str, vector))}" for word, vector in words.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_word_vectors_initialise_embeddings(tmp_path: Path) -> None:
    given = {"good": [1.0, 2.0, 3.0], "film": [0.5, 0.25, -4.0], "zebra": [9.0, 9.0, 9.0]}
    path = vectors(tmp_path / "v.txt", given)
    model = classifier(embedding=None, embeddings=path, freeze_embeddings=True).fit(TEXTS, LABELS)
    table = model.learned.network.embedding.values["weight"]
    words = model.vocabulary_.texts.to_strings()
    assert table.shape == (len(words), 3)
    np.testing.assert_array_equal(table[words.index("good")], given["good"])
    np.testing.assert_array_equal(table[words.index("film")], given["film"])
    others = [i for i, word in enumerate(words) if word not in given]
    tokens = [word for text in TEXTS for word in text.split()]
    coverage = {
        "units": len(words) - 1, "found": 2,
        "tokens": len(tokens), "tokens_found": sum(word in given for word in tokens),
    }  # fmt: skip
    assert model.embeddings_coverage_ == coverage
    spread = np.std([given["good"], given["film"]])
    assert 0.5 * spread < table[others].std() < 1.5 * spread
    model.save(tmp_path / "model")
    path.unlink()  # a saved model needs the file no more
    back = load(tmp_path / "model")
    np.testing.assert_array_equal(back.predict_proba(TEST), model.predict_proba(TEST))
    assert back.embeddings_coverage_ == coverage
    assert classifier().fit(TEXTS, LABELS).embeddings_coverage_ is None
    moving = vectors(tmp_path / "w.txt", given)
    model = classifier(embedding=3, embeddings=str(moving)).fit(TEXTS, LABELS)
    table = model.learned.network.embedding.values["weight"]
    assert not np.allclose(table[words.index("good")], given["good"])


def test_mismatched_word_vectors_are_rejected(tmp_path: Path) -> None:
    path = vectors(tmp_path / "v.txt", {"good": [1.0, 2.0]})
    with pytest.raises(SettingsError, match=r"v\.txt: vectors of 2 numbers, but embedding is 8"):
        classifier(embeddings=path).fit(TEXTS, LABELS)
    path = vectors(tmp_path / "n.txt", {"zebra": [1.0, 2.0]})
    with pytest.raises(DataError, match=r"n\.txt: holds none of the \d+ units"):
        classifier(embedding=None, embeddings=path).fit(TEXTS, LABELS)
    with pytest.raises(DataError, match="no such file"):
        classifier(embedding=None, embeddings=tmp_path / "x.txt").fit(TEXTS, LABELS)


# ---- gradient flow


def test_gradient_flow(tmp_path: Path) -> None:
    texts = [f"{'the film ' * 20}{'good' if i % 2 else 'bad'}" for i in range(32)]
    labels = [i % 2 for i in range(32)]
    flows = {}
    for cell in ("lstm", "rnn"):
        model = SequenceClassifier(**FAST, cell=cell, pooling="last")
        model.fit(texts, labels, gradient_flow=True, valid=(texts, labels))
        flows[cell] = model.gradient_flow_
        assert list(flows[cell]) == ["before training", "epoch 1", "epoch 2", "epoch 3"]
        assert all(norms.shape == (41,) for norms in flows[cell].values())
        assert all(np.isfinite(norms).all() for norms in flows[cell].values())
        # what is read out is the last step: far before it there is less of a gradient
        norms = flows[cell]["before training"]
        assert norms[:5].mean() > 2 * norms[-10:].mean()
        unwatched = SequenceClassifier(**FAST, cell=cell, pooling="last").fit(
            texts, labels, valid=(texts, labels)
        )
        np.testing.assert_array_equal(unwatched.predict_proba(texts), model.predict_proba(texts))


def test_gradient_flow_norms_by_hand() -> None:
    dx = np.array([[3, 4], [0, 1], [6, 8], [0, 0], [5, 12]], np.float32)
    found = mean_norms(dx, np.array([0, 2, 5]))
    # back from the last: rows 1 and 4, then 0 and 3, then 2 alone
    np.testing.assert_allclose(found, [(1 + 13) / 2, (5 + 0) / 2, 10])


# ---- the nonlinearity of plain recurrence


@pytest.mark.parametrize("kind", ["classifier", "tagger", "language", "forecaster"])
def test_the_nonlinearity_reaches_every_layer(kind: str, tmp_path: Path) -> None:
    small: dict[str, Any] = {"cell": "rnn", "hidden": 8, "epochs": 1, "threads": 1, "layers": 2}
    wave = np.sin(np.arange(80.0))
    made: dict[str, tuple[Any, Any, Any]] = {
        "classifier": (SequenceClassifier, (TEXTS, LABELS), TEST),
        "tagger": (SequenceTagger, (ROWS, TAGS), ROWS),
        "language": (fastseq.LanguageModel, (TEXTS,), TEST),
        "forecaster": (fastseq.Forecaster, (wave,), wave),
    }
    estimator, data, new = made[kind]
    more: dict[str, Any] = {"chars": True, "char_hidden": 4} if kind == "tagger" else {}
    measured = []
    for nonlinearity in ("relu", "tanh"):
        model = estimator(**small, **more, nonlinearity=nonlinearity).fit(*data)
        layers = [
            layer
            for name, layer in model.learned.network.layers.items()
            if name.rpartition(".")[2] == "rnn"
        ]
        assert len(layers) == (2 if kind == "tagger" else 1)
        assert {layer.nonlinearity for layer in layers} == {nonlinearity}
        model.save(tmp_path / nonlinearity)
        loaded = load(tmp_path / nonlinearity)
        assert loaded.get_params()["nonlinearity"] == nonlinearity
        answers = [
            each.evaluate(new) if kind == "language" else list(each.predict(new))
            for each in (model, loaded)
        ]
        np.testing.assert_equal(*answers)
        measured.append(model.history_.columns["train_loss"])
    assert measured[0] != measured[1]


# ---- names


CHEAP = """if True:
    import sys
    import fastseq
    assert not any("pyarrow" in name or "numba" in name for name in sys.modules)
    package = fastseq.models
    assert not any("pyarrow" in name or "numba" in name for name in sys.modules)
    from fastseq.models import load
    assert package.load is load
    assert not hasattr(package, "loads")
"""


def test_load_imports_lazily() -> None:
    subprocess.run([sys.executable, "-c", CHEAP], check=True)


def test_public_names() -> None:
    names = ("SequenceClassifier", "SequenceTagger", "LanguageModel", "Forecaster")
    for name in (*names, "DeviceError", "TrainingError"):
        assert getattr(fastseq, name).__name__ == name
        assert name in fastseq.__all__
        assert name in dir(fastseq)
    assert fastseq.SequenceClassifier is SequenceClassifier


def test_parquet_files_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    write(folder / "a.parquet", text=TEXTS[:50], label=LABELS[:50])
    write(folder / "b.parquet", text=TEXTS[50:], label=LABELS[50:])
    one = classifier().fit(folder)
    other = classifier().fit(TEXTS, LABELS)
    np.testing.assert_array_equal(one.predict_proba(TEST), other.predict_proba(TEST))
    files = [str(folder / "a.parquet"), str(folder / "b.parquet")]
    strings = classifier().fit(files, valid=[str(folder)])
    np.testing.assert_array_equal(strings.predict_proba(TEST), other.predict_proba(TEST))
    assert len(strings.predict(files)) == 100
    assert len(strings.predict([*files, "not a file"])) == 3, "texts"
