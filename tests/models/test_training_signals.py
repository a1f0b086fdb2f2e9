"""Ctrl-C and SIGTERM during training in memory and in a folder: the state that remains."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import (
    FastText,
    FastTextClassifier,
    Forecaster,
    GloVe,
    LanguageModel,
    SequenceClassifier,
    SequenceTagger,
    Word2Vec,
)
from fastseq.errors import FastseqWarning, NotFittedError, SettingsError
from fastseq.interrupts import Interrupts, Terminated
from fastseq.models import load
from fastseq.models.folder import ModelWriter
from fastseq.store.folder import MANIFEST, read_manifest
from fastseq.training.checkpoint import VECTORS_KIND, Checkpoint, History
from fastseq.training.gradient import TrainingSettings, train
from fastseq.vectors.folder import VectorsWriter
from tests.models.fake_models import Linear, explode, interrupt
from tests.models.small_data import reviews, sentences

TEXTS, LABELS = reviews(60)
ROWS, TAGS = sentences(30)
NET: dict[str, Any] = {"hidden": 4, "batch_size": 8, "threads": 1, "schedule": "constant"}
WORDS: dict[str, Any] = {"dimensions": 8, "threads": 1, "min_count": 1}
# an estimator for so many epochs, and what it is fitted on
ESTIMATORS: dict[str, tuple[Callable[[int], Any], tuple[Any, ...]]] = {
    "word2vec": (lambda epochs: Word2Vec(**WORDS, epochs=epochs), (TEXTS,)),
    "fasttext": (lambda epochs: FastText(**WORDS, buckets=99, epochs=epochs), (TEXTS,)),
    "glove": (lambda epochs: GloVe(**WORDS, epochs=epochs), (TEXTS,)),
    "labels": (
        lambda epochs: FastTextClassifier(dimensions=8, threads=1, epochs=epochs),
        (TEXTS, LABELS),
    ),
    "classifier": (
        lambda epochs: SequenceClassifier(**NET, embedding=4, epochs=epochs),
        (TEXTS, LABELS),
    ),
    "tagger": (
        lambda epochs: SequenceTagger(**NET, embedding=4, crf=True, epochs=epochs),
        (ROWS, TAGS),
    ),
    "language": (lambda epochs: LanguageModel(**NET, embedding=4, epochs=epochs), (TEXTS,)),
    "forecaster": (
        lambda epochs: Forecaster(**NET, window=4, epochs=epochs),
        (np.sin(np.arange(60.0)),),
    ),
}
HOGWILD = ("word2vec", "fasttext", "glove", "labels")
RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


def reporting(name: str, number: int) -> dict[str, Any]:
    """The argument of `fit` that sends a signal at the end of the second epoch."""

    def report(progress: Any) -> None:
        if progress.epoch == 2 and progress.step == progress.steps:
            signal.raise_signal(number)

    return {"report" if name in HOGWILD[:3] else "progress": report}


def weights(model: Any) -> Any:
    if isinstance(model, FastTextClassifier):
        return model.learned.outputs.copy()
    if hasattr(model, "vectors_"):
        return model.vectors_.vectors
    return model.learned.network.parameters.values.copy()


@pytest.mark.parametrize("number", RAISED)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_in_memory_fit_keeps_the_last_complete_step(name: str, number: Any, tmp_path: Path) -> None:
    make, data = ESTIMATORS[name]
    model, before = make(4), signal.getsignal(number)
    with pytest.raises(RAISED[number]):
        model.fit(*data, **reporting(name, number))
    assert signal.getsignal(number) is before
    found = weights(model)
    assert np.isfinite(found).all()
    if name in HOGWILD:  # whose learning rate depends on all epochs
        with pytest.raises(KeyboardInterrupt):
            make(4).fit(*data, path=tmp_path / "m", **reporting(name, signal.SIGINT))
        kind = {"kind": VECTORS_KIND} if name != "labels" else {}
        state, arrays = saved(tmp_path / "m" / "checkpoint", **kind)
        assert (state.epoch, state.step) == (1, 1)
        if name in ("word2vec", "labels"):
            of = arrays["vectors"][:, :8] if name == "word2vec" else arrays["outputs"]
            np.testing.assert_array_equal(found, of)
        assert not np.array_equal(found, weights(make(4).fit(*data)))
    else:
        np.testing.assert_array_equal(found, weights(make(2).fit(*data)))
    model.save(tmp_path / "saved")
    again = type(model).load(tmp_path / "saved")
    np.testing.assert_array_equal(weights(again), found)


def saved(path: Path, **kind: str) -> Any:
    """State and arrays of a checkpoint of any run."""
    from fastseq.store.folder import describe

    said = describe(path)["settings"]
    return Checkpoint(path, said["identity"], **kind).load(said["training"])


@pytest.mark.parametrize("number", RAISED)
def test_nothing_is_kept_before_the_first_step_or_with_a_path(number: Any, tmp_path: Path) -> None:
    make, data = ESTIMATORS["classifier"]

    class Signalling(list[str]):
        def __iter__(self) -> Any:
            signal.raise_signal(number)
            return super().__iter__()

    for given, more in (
        ((Signalling(TEXTS), LABELS), {}),
        (data, {"path": tmp_path / "m", **reporting("classifier", number)}),
    ):
        model = make(4)
        with pytest.raises(RAISED[number]):
            model.fit(*given, **more)
        with pytest.raises(NotFittedError):
            model.predict(TEXTS)
    assert make(4).fit(*data, path=tmp_path / "m", resume=True).predict(["good film"])


def test_non_finite_weights_are_not_kept() -> None:
    model = Linear(valid=False)
    model.hooks[5, "learn"] = explode
    model.hooks[5, "batches"] = interrupt
    kept: list[History] = []
    settings = TrainingSettings(epochs=3, optimiser="sgd", learning_rate=0.1, largest_loss=1e4)
    with pytest.raises(KeyboardInterrupt):
        train(model, settings, interrupted=kept.append)
    assert not kept


@pytest.mark.parametrize("name", ESTIMATORS)
def test_finished_run_can_be_resumed(name: str, tmp_path: Path) -> None:
    make, data = ESTIMATORS[name]
    path = tmp_path / "m"
    expected = weights(make(2).fit(*data, path=path))
    told: list[Any] = []
    argument = {"report" if name in HOGWILD[:3] else "progress": told.append}
    found = make(2).fit(*data, path=path, resume=True, **argument)
    assert not told
    np.testing.assert_array_equal(weights(found), expected)
    assert len(dict(getattr(found.history_, "columns", found.history_))["epoch"]) == 2
    if name in HOGWILD:
        with pytest.raises(SettingsError, match="epochs was 2 in that run, now 3"):
            make(3).fit(*data, path=path, resume=True)
    else:
        make(3).fit(*data, path=path, resume=True)


def forget_data(path: Path) -> None:
    """Remove what identifies the data, as in a folder of an earlier version."""
    manifest = read_manifest(path)
    del manifest.statistics["data"]
    (path / MANIFEST).write_bytes(manifest.to_bytes())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_finished_run_is_not_resumed_with_other_data(name: str, tmp_path: Path) -> None:
    make, data = ESTIMATORS[name]
    make(2).fit(*data, path=tmp_path / "trained")
    shutil.rmtree(tmp_path / "trained" / "checkpoint", ignore_errors=True)
    make(2).fit(*data).save(tmp_path / "saved")
    type(make(2)).load(tmp_path / "trained").save(tmp_path / "copied")
    other = tuple(rows[:-1] for rows in data)
    for path in (tmp_path / "trained", tmp_path / "saved", tmp_path / "copied"):
        expected = weights(type(make(2)).load(path))
        found = make(2).fit(*data, path=path, resume=True)
        np.testing.assert_array_equal(weights(found), expected)
        refused = make(2)
        with pytest.raises(SettingsError, match="cannot resume"):
            refused.fit(*other, path=path, resume=True)
        with pytest.raises(NotFittedError):
            weights(refused)
        forget_data(path)
        with pytest.warns(FastseqWarning, match="only the settings were compared"):
            found = make(2).fit(*other, path=path, resume=True)
        np.testing.assert_array_equal(weights(found), expected)


@pytest.mark.parametrize("name", ["labels", "classifier"])
def test_finished_run_is_not_resumed_with_renamed_labels(name: str, tmp_path: Path) -> None:
    make, (texts, labels) = ESTIMATORS[name]
    make(1).fit(texts, labels, path=tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / "checkpoint", ignore_errors=True)
    with pytest.raises(SettingsError, match="labels"):
        make(1).fit(texts, [f"{label}s" for label in labels], path=tmp_path / "m", resume=True)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_signal_waits_while_the_model_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signalling(write: Callable[..., None]) -> Callable[..., None]:
        def interrupted(*given: Any) -> None:
            signal.raise_signal(signal.SIGTERM)
            write(*given)

        return interrupted

    monkeypatch.setattr(VectorsWriter, "write", signalling(VectorsWriter.write))
    monkeypatch.setattr(ModelWriter, "commit", signalling(ModelWriter.commit))
    make, data = ESTIMATORS[name]
    model = make(1)
    with pytest.raises(Terminated):
        model.fit(*data, path=tmp_path / "m")
    written = type(model).load(tmp_path / "m")
    np.testing.assert_array_equal(weights(written), weights(model))


@pytest.mark.parametrize("loss", ["softmax", "negative", "ova", "hierarchical"])
def test_labels_are_resumed_to_the_same_bits(loss: str, tmp_path: Path) -> None:
    def make(**more: Any) -> FastTextClassifier:
        return FastTextClassifier(dimensions=8, threads=1, epochs=4, loss=loss, **more)

    path = tmp_path / "m"
    labels = [text.split()[0] for text in TEXTS]
    with pytest.raises(KeyboardInterrupt):
        make().fit(TEXTS, labels, path=path, **reporting("labels", signal.SIGINT))
    with pytest.raises(SettingsError, match="unfinished training: resume=True"):
        make().fit(TEXTS, labels, path=path)
    with pytest.raises(SettingsError, match=r"settings\.seed was 0 in that run, now 1"):
        make(seed=1).fit(TEXTS, labels, path=path, resume=True)
    with pytest.raises(SettingsError, match="in that run"):
        make().fit([*TEXTS[:-1], "other"], labels, path=path, resume=True)
    found = make().fit(TEXTS, labels, path=path, resume=True)
    whole = make().fit(TEXTS, labels)
    np.testing.assert_array_equal(weights(found), weights(whole))
    assert found.history_["train_loss"] == whole.history_["train_loss"]
    assert not (path / "checkpoint").exists()
    np.testing.assert_array_equal(load(path).predict_proba(TEXTS), whole.predict_proba(TEXTS))


def test_application_handler_runs_after_the_step() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        with Interrupts() as interrupts:
            interrupts.hold()
            signal.raise_signal(signal.SIGTERM)
            assert not came
            interrupts.release()
            assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_second_signal_is_immediate() -> None:
    with Interrupts() as interrupts:
        interrupts.hold()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated) as caught:
            signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 143
