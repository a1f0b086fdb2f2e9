"""The training loop: what a step does, when it stops, what it keeps."""

from __future__ import annotations

import math
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq.errors import DataError, SettingsError, TrainingError
from fastseq.nn.layer import Parameters
from fastseq.threads import Team
from fastseq.training.checkpoint import Checkpoint, History
from fastseq.training.gradient import StepResult, TrainingSettings, mix, train
from fastseq.training.loop import EVERY, TrainingProgress
from tests.models.fake_models import Linear, interrupt, spoil


def weights(model: Linear) -> Any:
    return model.parameters.values.copy()


def test_training_learns_and_reports() -> None:
    model = Linear()
    history = train(model, TrainingSettings(epochs=12, learning_rate=0.05, clip=5.0))
    columns = history.columns
    assert columns["epoch"] == list(range(1, 13))
    assert columns["step"] == [8 * n for n in range(1, 13)]
    assert columns["train_loss"][-1] < 0.2 * columns["train_loss"][0]
    assert columns["valid_loss"][-1] < 0.2 * columns["valid_loss"][0]
    assert columns["learning_rate"] == [0.05] * 12
    assert all(value > 0 for value in columns["gradient_norm"])
    assert all(value > 0 for value in columns["units_per_second"])
    assert all(value > 0 for value in columns["seconds"])
    assert history.measures == ["loss", "accuracy"]
    assert len(list(history.rows())) == len(history) == 12
    assert next(history.rows())["valid_accuracy"] == columns["valid_accuracy"][0]


def test_steps_match_plain_gradient_descent() -> None:
    model, twin = Linear(rows=20, batch=7), Linear(rows=20, batch=7)
    settings = TrainingSettings(
        epochs=2, optimiser="sgd", learning_rate=0.1, clip=0.5, clip_value=0.2, seed=3
    )
    history = train(model, settings)
    step, losses, counts, norms = 0, [], [], []
    for epoch in range(2):
        for batch in twin.batches(epoch):
            twin.parameters.gradients[...] = 0
            result = twin.learn(batch, mix(3, step))
            gradients = twin.parameters.gradients
            norm = math.sqrt(float(np.sum(gradients.astype(np.float64) ** 2)))
            gradients *= np.float32(min(1, 0.5 / (norm + 1e-6)))
            np.clip(gradients, -0.2, 0.2, out=gradients)
            twin.parameters.values[...] -= np.float32(0.1) * gradients
            losses.append(result.loss)
            counts.append(result.weight)
            norms.append(norm)
            step += 1
    assert model.keys == twin.keys
    np.testing.assert_allclose(weights(model), weights(twin), rtol=1e-5, atol=1e-7)
    assert history.columns["train_loss"][0] == pytest.approx(
        np.average(losses[:3], weights=counts[:3])
    )
    assert history.columns["gradient_norm"][1] == pytest.approx(np.mean(norms[3:]))


def test_keys_match_splitmix64() -> None:
    # the generator's published first outputs from the seed 1234567
    assert [mix(1234567, step) for step in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_best_weights_are_restored() -> None:
    seen: list[Any] = []
    model = Linear(validations=[3.0, 1.0, 2.0, 1.0, 5.0])
    model.hooks = {
        (8 * n, "validate"): lambda model: seen.append(weights(model)) for n in range(1, 6)
    }
    train(model, TrainingSettings(epochs=5, learning_rate=0.05))
    assert len(seen) == 5
    np.testing.assert_array_equal(weights(model), seen[1])
    assert not np.array_equal(weights(model), seen[4])


def test_best_epoch_by_a_maximised_metric() -> None:
    seen: list[Any] = []
    model = Linear(validations=[3.0, 2.0, 9.0, 4.0])
    model.hooks = {
        (8 * n, "validate"): lambda model: seen.append(weights(model)) for n in range(1, 5)
    }
    # accuracy is 1 / (1 + loss): the largest in the second epoch
    train(model, TrainingSettings(epochs=4, monitor="accuracy", larger_is_better=True))
    np.testing.assert_array_equal(weights(model), seen[1])


def test_without_validation_the_last_weights_are_used() -> None:
    model, other = Linear(valid=False), Linear(validations=[1.0, 2.0])
    history = train(model, TrainingSettings(epochs=2))
    assert history.measures == []
    train(other, TrainingSettings(epochs=1))
    assert not np.array_equal(weights(model), weights(other))
    longer = Linear(validations=[2.0, 1.0])
    train(longer, TrainingSettings(epochs=2))
    np.testing.assert_array_equal(weights(model), weights(longer))


def test_patience() -> None:
    losses = [5.0, 4.0, 4.0, math.nan, 3.0, 3.5, 3.2, 3.1, 1.0]
    model = Linear(validations=losses)
    history = train(model, TrainingSettings(epochs=9, patience=3))
    assert len(history) == 8
    np.testing.assert_array_equal(history.columns["valid_loss"], losses[:8])
    assert len(train(Linear(validations=losses), TrainingSettings(epochs=9, patience=2))) == 4


@pytest.mark.parametrize(
    ("settings", "valid", "said"),
    [
        ({"patience": 2}, False, "patience needs validation"),
        ({"schedule": "plateau"}, False, "plateau needs validation"),
        ({"monitor": "f1"}, True, "'f1' is not measured; expected one of loss, accuracy"),
        ({"optimiser": "adamant"}, True, "optimiser is 'adamant'"),
        ({"schedule": "sometimes"}, True, "schedule is 'sometimes'"),
        ({"frozen": ("nothing",)}, True, "no parameter is called 'nothing'"),
    ],
)
def test_conflicting_settings_are_rejected(
    settings: dict[str, Any], valid: bool, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        train(Linear(valid=valid), TrainingSettings(epochs=2, **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"epochs": 2.5},
        {"epochs": True},
        {"learning_rate": -1.0},
        {"learning_rate": math.nan},
        {"clip": 0.0},
        {"clip_value": math.inf},
        {"patience": 0},
        {"warmup": -1},
        {"checkpoint_seconds": -1.0},
        {"checkpoint_seconds": math.nan},
    ],
)
def test_out_of_range_settings_are_rejected(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(settings))):
        TrainingSettings(**{"epochs": 1, **settings})


def test_frozen_parameters_are_unchanged_and_not_in_the_norm() -> None:
    model = Linear()
    history = train(model, TrainingSettings(epochs=2, frozen=("weight",), clip=1.0))
    assert (model.parameters.views["weight"] == np.float32(0.1)).all()
    assert model.parameters.views["bias"][0] != 0
    assert (
        history.columns["gradient_norm"][0]
        < train(Linear(), TrainingSettings(epochs=1, clip=1.0)).columns["gradient_norm"][0]
    )


def test_learning_rate_follows_the_schedule() -> None:
    history = train(
        Linear(), TrainingSettings(epochs=4, learning_rate=0.1, schedule="cosine", warmup=3)
    )
    wanted = [0.05 * (1 + math.cos(math.pi * (8 * n - 1 - 3) / 29)) for n in range(1, 5)]
    assert history.columns["learning_rate"] == pytest.approx(wanted)


def test_plateau_sees_the_validation_loss() -> None:
    model = Linear(validations=[2.0, 3.0, 1.0, 1.5, 1.4])
    settings = TrainingSettings(
        epochs=5, learning_rate=0.1, schedule="plateau", schedule_settings={"factor": 0.5}
    )
    rates = train(model, settings).columns["learning_rate"]
    assert rates == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])


def test_schedule_needs_the_number_of_steps() -> None:
    with pytest.raises(SettingsError, match="needs to know how many steps"):
        train(Linear(known=False), TrainingSettings(epochs=1, schedule="linear"))
    model, known = Linear(known=False), Linear()
    train(model, TrainingSettings(epochs=2))
    train(known, TrainingSettings(epochs=2))
    np.testing.assert_array_equal(weights(model), weights(known))


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"learning_rate": 0.5}, r"learning rate \(now 0\.5\) or set a clip"),
        ({"clip": 2.0, "learning_rate": 0.5}, r"learning rate \(now 0\.5\) or the clip \(now 2\)"),
    ],
)
def test_nan_gradient_stops(settings: dict[str, Any], advice: str) -> None:
    model = Linear()
    before: list[Any] = []

    def note(model: Linear) -> None:
        before.append(weights(model))
        spoil(model)

    model.hooks[11, "learn"] = note
    with pytest.raises(TrainingError, match=rf"became nan at epoch 2, step 3: lower the {advice}"):
        train(model, TrainingSettings(epochs=3, **settings))
    np.testing.assert_array_equal(weights(model), before[0])


def test_exploding_loss_stops() -> None:
    settings = TrainingSettings(epochs=500, optimiser="sgd", learning_rate=3.0)
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(TrainingError, match=r"became (inf|nan) at epoch \d+, step \d+: lower"),
    ):
        train(Linear(), settings)


def test_empty_epoch_is_rejected() -> None:
    with pytest.raises(DataError, match="without a batch"):
        train(Linear(rows=0), TrainingSettings(epochs=1))


def test_progress_is_reported_at_intervals() -> None:
    model = Linear()
    for n in (3, 12):
        model.hooks[n, "learn"] = lambda model: time.sleep(0.25)
    told: list[TrainingProgress] = []
    started = time.perf_counter()
    history = train(model, TrainingSettings(epochs=2), report=told.append)
    most = (time.perf_counter() - started) / EVERY + 3
    ends = [(p.epoch, p.valid is not None) for p in told if p.step == 8]
    assert ends == [(1, False), (1, True), (2, False), (2, True)]
    assert 7 <= len(told) <= most + 2, "at the beginning, after each pause, at each end"
    assert all(p.epochs == 2 and p.steps == 8 for p in told)
    assert all(math.isfinite(p.loss) and p.units_per_second > 0 for p in told)
    assert all(p.seconds_left is not None and p.seconds_left >= 0 for p in told)
    assert told[-1].seconds_left == 0
    assert [p.valid["loss"] for p in told if p.valid] == history.columns["valid_loss"]
    assert [p.loss for p in told if p.valid] == history.columns["train_loss"]
    unknown: list[TrainingProgress] = []
    train(Linear(known=False, valid=False), TrainingSettings(epochs=1), report=unknown.append)
    assert unknown[-1].valid is None
    assert {(p.steps, p.seconds_left) for p in unknown} == {(None, None)}


def test_the_result_does_not_depend_on_threads() -> None:
    results = []
    for threads in (1, 3):
        model = Linear(width=400_000, rows=6, batch=3, valid=False)
        train(model, TrainingSettings(epochs=1, clip=0.1), team=Team(threads))
        results.append(weights(model))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("where", ["learn", "batches", "validate"])
def test_ctrl_c_completes_the_step(tmp_path: Path, where: str) -> None:
    place = 8 if where == "validate" else 5
    model = Linear()
    model.hooks[place, where] = interrupt
    before = signal.getsignal(signal.SIGINT)
    checkpoint = Checkpoint(tmp_path / "c", {})
    settings = TrainingSettings(epochs=3)
    with pytest.raises(KeyboardInterrupt):
        train(model, settings, checkpoint)
    assert signal.getsignal(signal.SIGINT) is before
    assert model.keys == [mix(0, step) for step in range(place + 1)], "and a look at the next"
    again, whole = Linear(), Linear()
    train(again, settings, checkpoint, resume=True)
    assert again.keys[0] == mix(0, place)
    train(whole, settings)
    np.testing.assert_array_equal(weights(again), weights(whole))


def test_second_ctrl_c_aborts_the_step(tmp_path: Path) -> None:
    model = Linear()

    def twice(model: Linear) -> None:
        interrupt(model)
        interrupt(model)
        raise AssertionError("the second one comes through")

    model.hooks[5, "learn"] = twice
    checkpoint = Checkpoint(tmp_path / "c", {})
    with pytest.raises(KeyboardInterrupt):
        train(model, TrainingSettings(epochs=3), checkpoint)
    assert not checkpoint.exists(), "a step half done is not saved"


def test_training_runs_outside_the_main_thread() -> None:
    results: list[int] = []
    thread = threading.Thread(
        target=lambda: results.append(len(train(Linear(), TrainingSettings(epochs=2))))
    )
    thread.start()
    thread.join()
    assert results == [2]


class Nothing:
    """A model that costs no time."""

    def __init__(self, steps: int) -> None:
        self.parameters = Parameters({"weight": (4,)})
        self.steps = steps
        self.result = StepResult(1.0, 1.0, 1)

    def steps_per_epoch(self, epoch: int) -> int:
        return self.steps

    def batches(self, epoch: int) -> Any:
        return iter(range(self.steps))

    def learn(self, batch: Any, key: int) -> StepResult:
        return self.result

    def validate(self) -> None:
        return None

    def carried(self) -> dict[str, Any]:
        return {}

    def restore_carried(self, carried: dict[str, Any]) -> None:
        pass


def test_loop_overhead_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than 30 µs per step in addition to the optimiser and the norm: a wide bound for shared
    machines, which still detects work that grows with the number of steps."""
    from fastseq.training import gradient as training

    monkeypatch.setattr(training, "gradient_norm", lambda *arguments: 0.5)
    monkeypatch.setattr("fastseq.nn.optimisers.Adam.step", lambda self, rate: None)
    times = []
    for steps in (2000, 2000, 8000):
        started = time.perf_counter()
        train(Nothing(steps), TrainingSettings(epochs=1), report=lambda progress: None)
        times.append((time.perf_counter() - started) / steps)
    assert min(times) < 100e-6
    assert all(b < 10 * a for a, b in pairwise(times))


def test_measures_missing_in_old_histories_are_nan() -> None:
    row = dict.fromkeys(("epoch", "train_loss"), 1.0)
    history = History()
    history.append(row, {"loss": 0.5})
    history.append(row, {"loss": 0.4, "macro_f1": 0.9})
    assert history.columns["valid_loss"] == [0.5, 0.4]
    assert np.isnan(history.columns["valid_macro_f1"][0])
    assert history.columns["valid_macro_f1"][1] == 0.9
    with pytest.raises(ValueError, match="validation measured loss, but earlier loss, macro_f1"):
        history.append(row, {"loss": 0.3})
