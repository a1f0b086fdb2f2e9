"""Training a sequence model in a folder: the same bytes twice, interruptions, divergence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq.errors import DataError, FormatError, NotFittedError, SettingsError, TrainingError
from fastseq.models import load
from fastseq.models.tagger import SequenceTagger
from fastseq.training.loop import TrainingProgress
from tests.models.small_data import (
    DROPPING,
    EXPECTED,
    FAST,
    LABELS,
    ROWS,
    TAGS,
    TEST,
    TEXTS,
    WEIGHTS,
    classifier,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("make", [classifier, lambda **s: SequenceTagger(**{**FAST, **s})])
def test_same_run_writes_the_same_bytes(make: Any, tmp_path: Path) -> None:
    x, y = (TEXTS, LABELS) if make is classifier else (ROWS, TAGS)
    own = {} if make is classifier else {"chars": True, "crf": True}
    files = []
    for name, threads in (("a", 1), ("b", 1), ("c", 2)):
        settings = {**DROPPING, **own, "threads": threads, "bidirectional": True}
        make(**settings).fit(x, y, path=tmp_path / name)
        files.append((tmp_path / name / WEIGHTS).read_bytes())
    assert files[0] == files[1]
    assert files[0] == files[2], "nor does the number of threads matter"
    make(**{**DROPPING, **own, "bidirectional": True, "seed": 1}).fit(x, y, path=tmp_path / "d")
    assert (tmp_path / "d" / WEIGHTS).read_bytes() != files[0]


def test_fit_with_a_path_equals_fit_and_save(tmp_path: Path) -> None:
    place = tmp_path / "model"
    model = classifier().fit(TEXTS, LABELS, path=place)
    np.testing.assert_array_equal(load(place).predict_proba(TEST), model.predict_proba(TEST))
    with pytest.raises(SettingsError, match="already exists"):
        classifier().fit(TEXTS, LABELS, path=place)
    classifier(seed=4).fit(TEXTS, LABELS, path=place, overwrite=True)
    assert load(place).seed == 4
    with pytest.raises(SettingsError, match="resume needs the path"):
        classifier().fit(TEXTS, LABELS, resume=True)


KILLED = """if True:
    import os, signal, sys
    from fastseq.models.scoring import ScoringTask
    from tests.models.small_data import DROPPING, LABELS, TEST, EXPECTED, TEXTS, classifier
    learn, steps = ScoringTask.learn, iter(range(int(sys.argv[2])))
    def counted(self, batch, key):
        if next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return learn(self, batch, key)
    ScoringTask.learn = counted
    model = classifier(**DROPPING)
    model.fit(TEXTS, LABELS, valid=(TEST, EXPECTED), path=sys.argv[1], checkpoint_seconds=0)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("steps", [5, 26])  # of 13 in an epoch
def test_training_resumes_after_a_kill(tmp_path: Path, steps: int) -> None:
    place, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", KILLED, str(place), str(steps)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    assert not (place / "manifest.json").exists()
    valid = (TEST, EXPECTED)
    with pytest.raises(SettingsError, match="unfinished training: resume=True"):
        classifier(**DROPPING).fit(TEXTS, LABELS, valid=valid, path=place)
    again = classifier(**DROPPING).fit(TEXTS, LABELS, valid=valid, path=place, resume=True)
    expected = classifier(**DROPPING).fit(TEXTS, LABELS, valid=valid, path=whole)
    assert (place / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert again.history_ is not None
    assert expected.history_ is not None
    for name, column in expected.history_.columns.items():
        if name not in ("seconds", "units_per_second"):
            assert again.history_.columns[name] == column, name


def test_training_resumes_after_ctrl_c(tmp_path: Path) -> None:
    place, whole = tmp_path / "stopped", tmp_path / "whole"

    def interrupt(progress: TrainingProgress) -> None:
        if progress.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    model = classifier(**DROPPING)
    with pytest.raises(KeyboardInterrupt):
        model.fit(TEXTS, LABELS, path=place, progress=interrupt)
    with pytest.raises(NotFittedError):
        model.predict(TEST)
    with pytest.raises(FormatError, match="an unfinished training: no model yet, but a check"):
        load(place)
    model.fit(TEXTS, LABELS, path=place, resume=True)
    classifier(**DROPPING).fit(TEXTS, LABELS, path=whole)
    assert (place / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_existing_model_survives_ctrl_c(tmp_path: Path) -> None:
    place = tmp_path / "model"
    before = classifier().fit(TEXTS, LABELS, path=place).predict_proba(TEST)

    def interrupt(progress: TrainingProgress) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        classifier(seed=3).fit(TEXTS, LABELS, path=place, overwrite=True, progress=interrupt)
    np.testing.assert_array_equal(load(place).predict_proba(TEST), before)


def test_finished_model_trains_more_epochs(tmp_path: Path) -> None:
    place, whole = tmp_path / "model", tmp_path / "whole"
    classifier(epochs=2).fit(TEXTS, LABELS, path=place)
    classifier(epochs=5).fit(TEXTS, LABELS, path=place, resume=True)
    classifier(epochs=5).fit(TEXTS, LABELS, path=whole)
    assert (place / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    for settings, said in (({"hidden": 9}, "hidden was 8 in that run, now 9"), ({}, "training or")):
        texts, labels = (TEXTS, LABELS) if settings else ([TEXTS[1], *TEXTS[1:]], LABELS)
        with pytest.raises(SettingsError, match=said):
            classifier(epochs=6, **settings).fit(texts, labels, path=place, resume=True)


@pytest.mark.parametrize("what", ["words", "labels", "types"])
def test_resume_rejects_other_words_or_labels(tmp_path: Path, what: str) -> None:
    place = tmp_path / "model"
    classifier(epochs=1).fit(TEXTS, LABELS, path=place)
    texts, labels = list(TEXTS), list[Any](LABELS)
    if what == "words":
        texts = [text.replace("film", "filn") for text in texts]
    else:
        ranks = ["neg", "pos"] if what == "labels" else [0, 1]
        labels = [ranks[label == "pos"] for label in labels]
        if what == "labels":
            labels = [f"{label}ative" for label in labels]
    with pytest.raises(SettingsError, match="the vocabulary, labels or scale of the"):
        classifier(epochs=2).fit(texts, labels, path=place, resume=True)


@pytest.mark.parametrize("settings", [{"patience": 2}, {"schedule": "plateau"}])
def test_missing_validation_is_reported_before_training(settings: dict[str, Any]) -> None:
    def told(progress: TrainingProgress) -> None:
        raise AssertionError("training began")

    with pytest.raises(SettingsError, match="needs validation"):
        classifier(**settings).fit(TEXTS, LABELS, progress=told)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_diverging_loss_stops_with_advice(tmp_path: Path, cell: str) -> None:
    place = tmp_path / "model"
    settings: dict[str, Any] = {"cell": cell, "learning_rate": 1e6}
    with pytest.raises(TrainingError, match=r"at epoch 1, step \d+: lower the learning rate \(now"):
        classifier(**settings).fit(TEXTS, LABELS, path=place)
    assert not (place / "manifest.json").exists()


def test_nan_loss_stops_with_advice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fastseq.models.scoring import ScoringTask

    learn, place, whole = ScoringTask.learn, tmp_path / "model", tmp_path / "whole"
    steps = iter(range(19))  # of 13 in an epoch

    def spoilt(self: Any, batch: Any, key: int) -> Any:
        result = learn(self, batch, key)
        return result if next(steps, None) is not None else result._replace(loss=float("nan"))

    said = (
        r"the loss became nan at epoch 2, step 7: lower the learning rate \(now 0\.02\).*; "
        r"the checkpoint of epoch 2, step 5 can be resumed"
    )
    with monkeypatch.context() as patch:
        patch.setattr(ScoringTask, "learn", spoilt)
        with pytest.raises(TrainingError, match=said):
            classifier().fit(TEXTS, LABELS, path=place, checkpoint_seconds=0)
    assert not (place / "manifest.json").exists()
    classifier().fit(TEXTS, LABELS, path=place, resume=True)
    classifier().fit(TEXTS, LABELS, path=whole)
    assert (place / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    lower = classifier(learning_rate=0.001, epochs=4)
    with pytest.raises(SettingsError, match=r"learning_rate was 0\.02 in that run, now 0\.001"):
        lower.fit(TEXTS, LABELS, path=place, resume=True)  # it did not diverge in the end


def test_failed_fit_leaves_no_folder(tmp_path: Path) -> None:
    place = tmp_path / "models" / "new"
    with pytest.raises(DataError):
        classifier().fit(TEXTS, ["one"] * len(TEXTS), path=place)
    assert list(tmp_path.iterdir()) == []
    place.mkdir(parents=True)
    with pytest.raises(DataError):
        classifier().fit(TEXTS, ["one"] * len(TEXTS), path=place)
    assert place.is_dir(), "it was there before"
    classifier().fit(TEXTS, LABELS, path=place)
    with pytest.raises(DataError):
        classifier().fit(TEXTS, ["one"] * len(TEXTS), path=place, overwrite=True)
    load(place)


@pytest.mark.parametrize("measure", ["loss", "accuracy"])
def test_best_epoch_follows_the_monitored_measure(measure: str, tmp_path: Path) -> None:
    labels = [LABELS[(i * 7) % 100] for i in range(100)]  # nothing to be learned
    valid = (TEST, EXPECTED)
    model = classifier(epochs=8, learning_rate=0.05, monitor=measure)
    model.fit(TEXTS, labels, valid=valid, path=tmp_path / "model")
    assert model.history_ is not None
    columns = model.history_.columns
    best = {
        "loss": int(np.argmin(columns["valid_loss"])),
        "accuracy": int(np.argmax(columns["valid_accuracy"])),
    }
    assert best["loss"] != best["accuracy"], "else this test shows nothing"
    found = model.evaluate(TEST, EXPECTED)
    for name in best:
        assert found[name] == pytest.approx(columns[f"valid_{name}"][best[measure]], rel=1e-5)
    assert load(tmp_path / "model").monitor == measure
    other = classifier(epochs=9, learning_rate=0.05, monitor=None if measure == "loss" else "loss")
    with pytest.raises(SettingsError, match=r"larger_is_better|monitor was"):
        other.fit(TEXTS, labels, valid=valid, path=tmp_path / "model", resume=True)


def test_validation_results_are_reported() -> None:
    told: list[TrainingProgress] = []
    model = classifier().fit(TEXTS, LABELS, valid=(TEST, EXPECTED), progress=told.append)
    assert model.history_ is not None
    found = [progress.valid for progress in told if progress.valid is not None]
    assert [valid["accuracy"] for valid in found] == model.history_.columns["valid_accuracy"]


def test_best_epoch_is_restored_and_patience_stops() -> None:
    labels = [LABELS[(i * 7) % 100] for i in range(100)]  # nothing to be learned
    model = classifier(epochs=40, patience=2, learning_rate=0.05).fit(
        TEXTS, labels, valid=(TEST, EXPECTED)
    )
    assert model.history_ is not None
    found = model.history_.columns["valid_accuracy"]
    assert len(found) < 40
    assert len(found) == int(np.argmax(found)) + 3
    assert model.score(TEST, EXPECTED) == pytest.approx(max(found))
