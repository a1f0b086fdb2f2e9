"""Sequence models trained and used on the device against the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq.devices import simulated
from fastseq.errors import DeviceError, SettingsError
from fastseq.kernels.cuda.runtime import memory
from fastseq.models import load
from fastseq.models.classifier import SequenceClassifier
from fastseq.models.forecaster import Forecaster
from fastseq.models.language import LanguageModel
from fastseq.models.tagger import SequenceTagger
from fastseq.nn.cuda.backend import CudaBackend

TEXTS, LABELS = ["a b c", "c", "b a", "c c"], [0, 1, 0, 1]
ROWS = [["a", "b"], ["c"], ["b", "a", "c"]]
TAGS = [["B-X", "I-X"], ["O"], ["O", "B-X", "O"]]
SMALL: dict[str, Any] = {"hidden": 4, "epochs": 1, "batch_size": 2, "seed": 5, "threads": 1}
UNITS: dict[str, Any] = {**SMALL, "embedding": 2}
SERIES = np.sin(np.arange(12, dtype=np.float64))


def classifier(**settings: Any) -> SequenceClassifier:
    return SequenceClassifier(**{**UNITS, **settings})


def both(kind: type[Any], *data: Any, fit: dict[str, Any] | None = None, **settings: Any) -> Any:
    """The same training on either device: weights and losses agree."""
    mine = kind(**settings, device="cpu").fit(*data, **(fit or {}))
    theirs = kind(**settings, device="cuda").fit(*data, **(fit or {}))
    assert isinstance(theirs.learned.network.backend, CudaBackend)
    agree(mine, theirs)
    return mine, theirs


def agree(mine: Any, theirs: Any) -> None:
    for name in ("train_loss", "gradient_norm"):
        np.testing.assert_allclose(
            theirs.history_.columns[name], mine.history_.columns[name], rtol=1e-4
        )
    weights = theirs.learned.network.parameters.state_dict()
    for name, value in mine.learned.network.parameters.state_dict().items():
        np.testing.assert_allclose(weights[name], value, rtol=0, atol=1e-4, err_msg=name)


def test_a_classifier() -> None:
    mine, theirs = both(
        SequenceClassifier, TEXTS, LABELS, **UNITS, bidirectional=True, dropout=0.3,
        recurrent_dropout=0.2, pooling="attention", class_weights="balanced", clip=0.5,
        fit={"valid": (TEXTS, LABELS), "gradient_flow": True},
    )  # fmt: skip
    np.testing.assert_allclose(
        theirs.predict_proba(TEXTS), mine.predict_proba(TEXTS), rtol=0, atol=1e-4
    )
    assert theirs.predict(TEXTS).tolist() == mine.predict(TEXTS).tolist()
    assert theirs.evaluate(TEXTS, LABELS) == pytest.approx(mine.evaluate(TEXTS, LABELS), rel=1e-4)
    for name, norms in mine.gradient_flow_.items():
        np.testing.assert_allclose(theirs.gradient_flow_[name], norms, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("crf", [False, True])
def test_a_tagger(crf: bool) -> None:
    settings: dict[str, Any] = {"chars": True, "char_embedding": 2, "char_hidden": 4} if crf else {}
    mine, theirs = both(
        SequenceTagger, ROWS, TAGS, **UNITS, crf=crf, cell="gru", dropout=0.2 if crf else 0.0,
        optimizer="sgd", learning_rate=0.1, **settings,
    )  # fmt: skip
    unseen = [["a", "z"], ["c"]]
    assert theirs.predict(unseen) == mine.predict(unseen)
    expected = mine.evaluate(ROWS, [["O", "B-Z"], *TAGS[1:]])
    assert theirs.evaluate(ROWS, [["O", "B-Z"], *TAGS[1:]]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model(tied: bool) -> None:
    settings = {**UNITS, "embedding": 4, "unit": "char", "bptt": 3, "cell": "rnn"}
    text = ["abcab", "cabca"]
    mine, theirs = both(
        LanguageModel, text, **settings, tie_weights=tied, dropout=0.0 if tied else 0.2,
        fit={"valid": text},
    )  # fmt: skip
    assert theirs.evaluate(text) == pytest.approx(mine.evaluate(text), rel=1e-4)
    assert theirs.log_probability("abc") == pytest.approx(mine.log_probability("abc"), rel=1e-4)
    for how in ({"greedy": True}, {"beams": 2}):
        expected = "".join(mine.generate("ab", 3, **how))
        assert "".join(theirs.generate("ab", 3, **how)) == expected


def test_a_forecaster() -> None:
    settings = {**SMALL, "window": 3, "horizon": 2, "epochs": 1, "batch_size": 4, "cell": "gru"}
    mine, theirs = both(Forecaster, SERIES, **settings, dropout=0.2, fit={"valid": SERIES})
    np.testing.assert_allclose(theirs.forecast(SERIES), mine.forecast(SERIES), atol=1e-4)


def test_folder_moves_between_devices(tmp_path: Path) -> None:
    theirs = classifier(device="cuda", epochs=1).fit(TEXTS, LABELS, path=tmp_path / "model")
    found = load(tmp_path / "model", threads=1, device="cpu")
    np.testing.assert_allclose(found.predict_proba(TEXTS), theirs.predict_proba(TEXTS), atol=1e-5)
    found.save(tmp_path / "other")
    back = load(tmp_path / "other", device="cuda")
    np.testing.assert_allclose(back.predict_proba(TEXTS), theirs.predict_proba(TEXTS), atol=1e-6)


@pytest.mark.parametrize("first", ["cpu", "cuda"])
def test_training_resumes_on_another_device(tmp_path: Path, first: str) -> None:
    then = {"cpu": "cuda", "cuda": "cpu"}[first]
    settings: dict[str, Any] = {"dropout": 0.2, "layers": 1, "optimizer": "adam"}
    place = tmp_path / "model"
    whole = classifier(**settings, device="cpu", epochs=2).fit(TEXTS, LABELS)
    taken = 0

    def stop(progress: Any) -> None:
        nonlocal taken
        taken = progress.epoch
        if progress.epoch == 1 and progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classifier(**settings, device=first, epochs=2).fit(
            TEXTS, LABELS, path=place, progress=stop, checkpoint_seconds=0
        )
    assert taken == 1
    model = classifier(**settings, device=then, epochs=2).fit(
        TEXTS, LABELS, path=place, resume=True
    )
    agree(whole, model)


def test_out_of_memory_names_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, steps = tmp_path / "model", 0

    def learn(*arguments: Any, **named: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise memory.DeviceMemoryError("1.5 GB more")
        return original(*arguments, **named)

    from fastseq.models.scoring import ScoringTask

    original = ScoringTask.learn
    monkeypatch.setattr(ScoringTask, "learn", learn)
    settings: dict[str, Any] = {"device": "cuda", "epochs": 2, "batch_size": 2}
    with pytest.raises(DeviceError, match=r"1.5 GB more needed: lower batch_size \(now 2\)"):
        classifier(**settings).fit(TEXTS, LABELS, path=place, checkpoint_seconds=0)
    monkeypatch.setattr(ScoringTask, "learn", original)
    model = classifier(**settings).fit(TEXTS, LABELS, path=place, resume=True)
    agree(classifier(epochs=2, device="cpu").fit(TEXTS, LABELS), model)


def test_precision() -> None:
    with pytest.raises(SettingsError, match="precision tf32 is for the device cuda"):
        classifier(precision="tf32", device="cpu").fit(TEXTS, LABELS)
    with pytest.raises(SettingsError, match="precision is 'half'"):
        classifier(precision="half").fit(TEXTS, LABELS)
    model = classifier(precision="tf32", device="cuda", epochs=1).fit(TEXTS, LABELS)
    assert model.learned.network.recurrent.precision == "tf32"


def test_auto_selects_a_gpu_but_never_the_simulator() -> None:
    model = classifier(epochs=1).fit(TEXTS, LABELS)
    assert model.learned.network.backend.device == ("cpu" if simulated() else "cuda")
