"""Checkpoints: an interrupted, killed or finished run resumes to the same result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq.errors import DataError, FastseqError, FormatError, SettingsError, TrainingError
from fastseq.store.folder import describe, verify
from fastseq.training.checkpoint import Checkpoint, History, State
from fastseq.training.gradient import TrainingSettings, mix, train
from tests.models.fake_models import Linear, explode, interrupt, spoil

ROOT = Path(__file__).resolve().parents[2]
WALL_CLOCK = ("seconds", "units_per_second")

# what a checkpoint must not lose: moments, schedules that look back, best weights, patience
RUNS: dict[str, dict[str, Any]] = {
    "adam": {"epochs": 5, "clip": 1.0},
    "momentum": {
        "epochs": 5,
        "optimiser": "sgd",
        "learning_rate": 0.03,
        "optimiser_settings": {"momentum": 0.9, "nesterov": True},
        "schedule": "cosine",
        "warmup": 5,
    },
    "rmsprop, plateau": {
        "epochs": 5,
        "optimiser": "rmsprop",
        "schedule": "plateau",
        "schedule_settings": {"factor": 0.5},
        "learning_rate": 0.3,
    },
    "patience": {"epochs": 9, "learning_rate": 0.5, "patience": 2, "clip_value": 0.5},
}


def same(model: Linear, history: History, other: Linear, expected: History) -> None:
    np.testing.assert_array_equal(model.parameters.values, other.parameters.values)
    assert history.columns.keys() == expected.columns.keys()
    for name, column in expected.columns.items():
        if name not in WALL_CLOCK:
            assert history.columns[name] == column, name


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("step", [1, 7, 8, 13, 25])
def test_resume_equals_no_interruption(tmp_path: Path, run: str, step: int) -> None:
    settings = TrainingSettings(**RUNS[run], seed=5)
    whole = Linear()
    expected = train(whole, settings)
    model = Linear()
    model.hooks[step, "learn"] = interrupt
    checkpoint = Checkpoint(tmp_path / "checkpoint", {"corpus": 1})
    with pytest.raises(KeyboardInterrupt):
        train(model, settings, checkpoint)
    assert verify(tmp_path / "checkpoint") == []
    resumed = Linear()
    history = train(resumed, settings, checkpoint, resume=True)
    assert resumed.keys[0] == mix(5, step)
    same(resumed, history, whole, expected)


def test_repeated_interruptions_end_with_the_same_bits(tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=3, checkpoint_seconds=0)
    whole = Linear()
    expected = train(whole, settings)
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    for _ in range(100):
        model = Linear()
        for place in ((3, "learn"), (2, "batches"), (2, "validate")):
            model.hooks[place] = interrupt
        try:
            history = train(model, settings, checkpoint, resume=True)
        except KeyboardInterrupt:
            continue
        break
    same(model, history, whole, expected)


KILLED = """if True:
    import sys
    from fastseq.training.checkpoint import Checkpoint
    from fastseq.training.gradient import TrainingSettings, train
    from tests.models.fake_models import Linear, kill
    model = Linear()
    model.hooks[int(sys.argv[2]), sys.argv[3]] = kill
    settings = TrainingSettings(epochs=4, checkpoint_seconds=float(sys.argv[4]))
    train(model, settings, Checkpoint(sys.argv[1], {"corpus": "c"}))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    ("step", "where", "seconds"), [(13, "learn", 0), (16, "validate", 0), (21, "learn", 60)]
)
def test_killed_training_resumes(tmp_path: Path, step: int, where: str, seconds: int) -> None:
    path = tmp_path / "checkpoint"
    command = [sys.executable, "-c", KILLED, str(path), str(step), where, str(seconds)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    settings = TrainingSettings(epochs=4, checkpoint_seconds=0)
    whole, model = Linear(), Linear()
    expected = train(whole, settings)
    history = train(model, settings, Checkpoint(path, {"corpus": "c"}), resume=True)
    if where == "learn" and seconds == 0:
        assert model.keys[0] == mix(0, 11), "the step under way and the one before it are lost"
    same(model, history, whole, expected)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_kill_at_any_moment_resumes(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    command = [sys.executable, "-c", KILLED.replace("epochs=4", "epochs=100000"), str(path)]
    for wait in (0.0, 0.01, 0.03):
        process = subprocess.Popen([*command, "-1", "never", "0"], cwd=ROOT)
        deadline = time.monotonic() + 60
        while not (path / "manifest.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(wait)
        process.kill()
        process.wait()
        assert verify(path) == []
        settings = TrainingSettings(epochs=100000, checkpoint_seconds=0)
        model = Linear()
        place = describe(path)["statistics"]
        more = TrainingSettings(epochs=place["epoch"] + 1, checkpoint_seconds=0)
        assert more.epochs < settings.epochs
        checkpoint = Checkpoint(path, {"corpus": "c"})
        history = train(model, more, checkpoint, resume=True)
        whole = Linear()
        same(model, history, whole, train(whole, more))


def test_finished_run_trains_more_epochs(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    short, settings = Linear(), TrainingSettings(epochs=2, learning_rate=0.4)
    first = train(short, settings, checkpoint)
    again = Linear()
    same(again, train(again, settings, checkpoint, resume=True), short, first)
    assert again.keys == []
    longer = TrainingSettings(epochs=5, learning_rate=0.4)
    more, whole = Linear(), Linear()
    history = train(more, longer, checkpoint, resume=True)
    assert len(more.keys) == 3 * 8
    same(more, history, whole, train(whole, longer))


def test_resume_without_a_checkpoint_starts(tmp_path: Path) -> None:
    model, whole = Linear(), Linear()
    settings = TrainingSettings(epochs=2)
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    same(model, train(model, settings, checkpoint, resume=True), whole, train(whole, settings))
    assert checkpoint.exists()


def test_without_resume_a_checkpoint_is_replaced(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    train(Linear(), TrainingSettings(epochs=3), checkpoint)
    train(Linear(), TrainingSettings(epochs=1, learning_rate=0.5), checkpoint)
    assert describe(tmp_path / "checkpoint")["statistics"]["epoch"] == 1


def finished(path: Path, **identity: Any) -> Checkpoint:
    checkpoint = Checkpoint(path, identity)
    train(Linear(), TrainingSettings(epochs=1, learning_rate=0.1), checkpoint)
    return checkpoint


@pytest.mark.parametrize(
    ("settings", "identity", "said"),
    [
        ({"learning_rate": 0.2}, {}, r"learning_rate was 0\.1 in that run, now 0\.2"),
        ({"learning_rate": None}, {}, r"learning_rate was 0\.1 in that run, now 0\.001"),
        ({"optimiser": "adamw"}, {}, "optimiser was adam in that run, now adamw"),
        ({"seed": 1}, {}, "seed was 0 in that run, now 1"),
        ({"clip": 1.0}, {}, "clip was null in that run, now 1"),
        (
            {"optimiser_settings": {"eps": 1e-7}},
            {},
            "optimiser_settings.* was .* in that run, now",
        ),
        ({}, {"corpus": {"rows": 11, "crc32": 7}}, r"corpus\.rows was 10 in that run, now 11"),
        ({}, {"corpus": {"rows": 10}}, r"corpus\.crc32 was 7 in that run, now not set"),
        ({}, {"hidden": (4,)}, r"hidden was \[4, 5\] in that run, now \[4\]"),
    ],
)
def test_checkpoint_of_another_run_is_rejected(
    tmp_path: Path, settings: dict[str, Any], identity: dict[str, Any], said: str
) -> None:
    path = tmp_path / "checkpoint"
    own = {"corpus": {"rows": 10, "crc32": 7}, "hidden": (4, 5)}
    finished(path, **own)
    model = Linear()
    before = model.parameters.values.copy()
    with pytest.raises(SettingsError, match=f"cannot resume: {said}"):
        train(
            model,
            TrainingSettings(**{"epochs": 1, "learning_rate": 0.1, **settings}),
            Checkpoint(path, own | identity),
            resume=True,
        )
    np.testing.assert_array_equal(model.parameters.values, before)


def test_checkpoint_of_another_model_is_rejected(tmp_path: Path) -> None:
    checkpoint = finished(tmp_path / "checkpoint")
    with pytest.raises(SettingsError, match=r"parameters\.weight was \[1, 5\].*now \[1, 6\]"):
        train(
            Linear(width=6), TrainingSettings(epochs=1, learning_rate=0.1), checkpoint, resume=True
        )


def test_resume_with_fewer_batches_is_rejected(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    model = Linear()
    model.hooks[7, "learn"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        train(model, TrainingSettings(epochs=2), checkpoint)
    with pytest.raises(DataError, match="fewer than the 7 batches"):
        train(Linear(rows=20), TrainingSettings(epochs=2), checkpoint, resume=True)


def test_diverged_run_resumes_with_a_smaller_rate(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    settings = TrainingSettings(epochs=3, learning_rate=0.1)
    model = Linear()
    model.hooks[11, "learn"] = spoil
    said = "the checkpoint of epoch 2, step 0 can be resumed"
    with pytest.raises(TrainingError, match=said):
        train(model, settings, checkpoint)
    assert verify(tmp_path / "checkpoint") == []
    for changed in ({"learning_rate": 0.05}, {"learning_rate": 0.1, "clip": 0.5}):
        slower = TrainingSettings(epochs=2, **changed)
        resumed = Linear()
        resumed.hooks[3, "learn"] = spoil
        with pytest.raises(TrainingError, match="epoch 2, step 3"):
            train(resumed, slower, checkpoint, resume=True)
    with pytest.raises(SettingsError, match="seed was 0"):
        train(Linear(), TrainingSettings(epochs=3, seed=1), checkpoint, resume=True)
    done = train(Linear(), TrainingSettings(epochs=3, learning_rate=0.02), checkpoint, resume=True)
    assert done.columns["learning_rate"] == [0.1, 0.02, 0.02]
    with pytest.raises(SettingsError, match=r"learning_rate was 0\.02"):
        train(Linear(), settings, checkpoint, resume=True)


def test_run_that_diverges_at_once_leaves_an_older_checkpoint_alone(tmp_path: Path) -> None:
    checkpoint = finished(tmp_path / "checkpoint")
    before = describe(tmp_path / "checkpoint")
    model = Linear()
    model.hooks[2, "learn"] = spoil
    with pytest.raises(TrainingError) as caught:
        train(model, TrainingSettings(epochs=1), checkpoint)
    assert "resume" not in str(caught.value)
    assert describe(tmp_path / "checkpoint") == before


SGD: dict[str, Any] = {
    "optimiser": "sgd",
    "learning_rate": 0.1,
    "checkpoint_seconds": 0,
    "largest_loss": 1e4,
}


def proven(path: Path) -> tuple[int, int]:
    """Where the checkpoint is; its weights give a loss that a sound run has."""
    place = describe(path)["statistics"]
    slow = TrainingSettings(**{**SGD, "epochs": 3, "learning_rate": 1e-6})
    history = train(Linear(valid=False), slow, Checkpoint(path, {}), resume=True)
    assert history.columns["train_loss"][-1] < 100
    return place["epoch"], place["step"]


@pytest.mark.parametrize(("step", "place"), [(3, (0, 2)), (8, (0, 7)), (9, (1, 0)), (13, (1, 4))])
def test_non_finite_weights_are_not_saved(
    tmp_path: Path, step: int, place: tuple[int, int]
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    model = Linear(valid=False)
    model.hooks[step, "learn"] = explode
    said = f"the checkpoint of epoch {place[0] + 1}, step {place[1]} can be resumed"
    with pytest.raises(TrainingError, match=said):
        train(model, TrainingSettings(**SGD, epochs=3), checkpoint)
    assert proven(checkpoint.path) == place


def test_last_step_with_non_finite_weights_is_detected(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    model = Linear(valid=False)
    model.hooks[16, "learn"] = explode
    with pytest.raises(TrainingError, match=r"became .* after the last step: lower"):
        train(model, TrainingSettings(**SGD, epochs=2), checkpoint)
    assert proven(checkpoint.path) == (1, 7)
    # with weights of an epoch that was good there is something to end with
    valid = Linear(validations=[1.0, 1e30])
    valid.hooks[16, "learn"] = explode
    train(valid, TrainingSettings(**SGD, epochs=2), Checkpoint(tmp_path / "other", {}))
    assert np.abs(valid.parameters.values).max() < 100
    statistics = describe(tmp_path / "other")["statistics"]
    assert (statistics["epoch"], statistics["step"]) == (1, 7)


def test_ctrl_c_after_a_non_finite_step_keeps_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    model = Linear(valid=False)
    model.hooks[5, "learn"] = explode
    model.hooks[5, "batches"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        train(model, TrainingSettings(**SGD, epochs=3), checkpoint)
    assert describe(checkpoint.path)["statistics"]["step"] == 4
    slow = Linear(valid=False)
    settings = TrainingSettings(**SGD, epochs=3)
    train(slow, settings, checkpoint, resume=True)
    whole = Linear(valid=False)
    train(whole, settings)
    np.testing.assert_array_equal(slow.parameters.values, whole.parameters.values)


@pytest.mark.parametrize(
    ("steps", "epochs", "said"),
    [
        (24, 2, "epochs is 2, but 3 epochs are done: expected at least 3"),
        (13, 1, "epochs is 1, but 1 epochs and 5 steps of the next are done: expected at least 2"),
    ],
)
def test_fewer_epochs_than_done_are_rejected(
    tmp_path: Path, steps: int, epochs: int, said: str
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    model = Linear()
    model.hooks[steps, "learn"] = interrupt
    with suppress(KeyboardInterrupt):
        train(model, TrainingSettings(epochs=3), checkpoint)
    if steps == 24:
        train(Linear(), TrainingSettings(epochs=3), checkpoint, resume=True)
    before = describe(checkpoint.path)
    other = Linear()
    weights = other.parameters.values.copy()
    with pytest.raises(SettingsError, match=f"cannot resume: {said}"):
        train(other, TrainingSettings(epochs=epochs), checkpoint, resume=True)
    np.testing.assert_array_equal(other.parameters.values, weights)
    assert describe(checkpoint.path) == before


def test_damaged_checkpoints_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    checkpoint = finished(path)
    settings = TrainingSettings(epochs=2, learning_rate=0.1)
    files = sorted(path.glob("data-*/*"))
    assert len(files) > 10
    for file in files:
        raw = file.read_bytes()
        for wrong in (raw[:-1], bytes([raw[0] ^ 1]) + raw[1:], raw + b"x"):
            file.write_bytes(wrong)
            with pytest.raises(FormatError, match=f"{file.name}: damaged"):
                train(Linear(), settings, checkpoint, resume=True)
        file.write_bytes(raw)
    manifest = path / "manifest.json"
    raw = manifest.read_bytes()
    manifest.write_bytes(raw.replace(b'"epoch": 1', b'"epoch": 2'))
    with pytest.raises(FormatError, match="its own checksum"):
        train(Linear(), settings, checkpoint, resume=True)
    manifest.write_bytes(raw)
    assert len(train(Linear(), settings, checkpoint, resume=True)) == 2


def test_checkpoint_of_a_newer_version_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastseq.training.checkpoint.VERSION", 2)
    checkpoint = finished(tmp_path / "checkpoint")
    monkeypatch.undo()
    with pytest.raises(FormatError, match="version 2 is too new"):
        train(Linear(), TrainingSettings(epochs=1), checkpoint, resume=True)


def test_checkpoint_round_trips(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c", {"a": 1})
    state = State(epoch=3, step=4, loss_sum=0.1 + 0.2, best_value=-1e300, schedule={"best": None})
    arrays = {
        "of no dimension": np.array(7, np.int64),
        "carried/h": np.arange(12, dtype=np.float32).reshape(2, 3, 2),
        "empty": np.zeros((0, 3), np.float64),
        "not contiguous": np.arange(10, dtype=np.int32)[::2],
    }
    checkpoint.save({"epochs": 3}, state, arrays)
    read, found = checkpoint.load({"epochs": 4})
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, strict=True)
        assert found[name].flags.writeable
    assert (read.epoch, read.step, read.loss_sum) == (3, 4, 0.1 + 0.2)
    assert (read.best_value, read.schedule, read.diverged) == (-1e300, {"best": None}, False)
    assert len(read.history) == 0
    json.dumps(describe(tmp_path / "c"))


def test_checkpoints_are_written_at_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[int, int]] = []

    def save(self: Checkpoint, training: Any, state: State, arrays: Any) -> None:
        saved.append((state.epoch, state.step))

    monkeypatch.setattr(Checkpoint, "save", save)
    train(
        Linear(), TrainingSettings(epochs=2, checkpoint_seconds=0), Checkpoint(tmp_path / "c", {})
    )
    assert saved == [(0, n) for n in range(1, 8)] + [(1, n) for n in range(8)] + [(2, 0)]
    saved.clear()
    train(Linear(), TrainingSettings(epochs=3), Checkpoint(tmp_path / "c", {}))
    assert {step for _, step in saved} == {0}
    assert saved[0] == (1, 0)
    assert saved[-1] == (3, 0)


def test_quick_epochs_are_not_all_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []

    def save(self: Checkpoint, training: Any, state: State, arrays: Any) -> None:
        saved.append(state.epoch)
        time.sleep(0.05)

    monkeypatch.setattr(Checkpoint, "save", save)
    started = time.perf_counter()
    train(Linear(), TrainingSettings(epochs=60), Checkpoint(tmp_path / "c", {}))
    # the first, the last, and one for each second in between
    assert len(saved) <= 3 + (time.perf_counter() - started)
    assert (saved[0], saved[-1]) == (1, 60)


def test_full_disk_is_one_error_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = finished(tmp_path / "checkpoint")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastseq.store.disk.flush", full)
    with pytest.raises(FastseqError, match="No space left on device"):
        train(Linear(), TrainingSettings(epochs=1), checkpoint)
    monkeypatch.undo()
    settings = TrainingSettings(epochs=1, learning_rate=0.1)
    assert len(train(Linear(), settings, checkpoint, resume=True)) == 1
