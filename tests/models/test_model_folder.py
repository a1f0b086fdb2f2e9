"""Model folders: atomic writes, complete reads, other files left alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq.errors import FastseqError, FormatError, SettingsError
from fastseq.models.folder import ModelWriter, read_model
from fastseq.store import disk
from fastseq.store.folder import Folder, describe, verify
from fastseq.store.weights import read_weights
from fastseq.store.writer import FolderWriter
from fastseq.training.checkpoint import Checkpoint
from fastseq.training.gradient import TrainingSettings, train
from tests.models.fake_models import Linear, interrupt

WEIGHTS = "weights.safetensors"


def weights(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "lstm.weight_ih_l0": rng.standard_normal((12, 3)).astype(np.float32),
        "lstm.bias_ih_l0": np.zeros(12, np.float32),
    }


FILES = {
    "words.parquet": {"word": ["the", "猫", ""], "count": [5, 2, 1]},
    "counts": np.arange(7, dtype=np.int64),
}


def write_model(path: Path, *content: Any, overwrite: bool = False) -> None:
    with ModelWriter(path, overwrite) as writer:
        writer.commit(*content)


def write(path: Path, seed: int = 0, overwrite: bool = False) -> None:
    settings = {"hidden": 4, "seed": seed, "labels": ["a", "b"]}
    history = train(Linear(), TrainingSettings(epochs=2))
    files = {"history.parquet": history.columns, **FILES}
    write_model(
        path, "classifier", settings, {"rows": 10}, weights(seed), files, overwrite=overwrite
    )


def names(path: Path) -> set[str]:
    return {p.name for p in path.iterdir()}


def is_second_name(path: Path) -> bool:
    data = next(path.glob(f"data-*/{WEIGHTS}"))
    return data.samefile(path / WEIGHTS)


def test_model_folder_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model"
    write(path)
    model = read_model(path)
    assert (model.model, model.statistics) == ("classifier", {"rows": 10})
    assert model.settings == {"hidden": 4, "seed": 0, "labels": ["a", "b"]}
    assert list(model.weights) == sorted(weights())
    for name, array in weights().items():
        np.testing.assert_array_equal(model.weights[name], array, strict=True)
        assert model.weights[name].flags.writeable
    assert model.columns("words.parquet") == FILES["words.parquet"]
    np.testing.assert_array_equal(model.array("counts", np.int64), FILES["counts"])
    expected = train(Linear(), TrainingSettings(epochs=2))
    history = model.history()
    assert history is not None
    assert history.columns["train_loss"] == expected.columns["train_loss"]
    assert history.columns["epoch"] == [1, 2]
    assert history.measures == ["loss", "accuracy"]
    assert names(path) == {"manifest.json", "lock", "data-000001", WEIGHTS}
    assert is_second_name(path)
    assert describe(path)["kind"] == "model"
    assert verify(path) == []
    found, metadata = read_weights(path / WEIGHTS)
    np.testing.assert_array_equal(found["lstm.weight_ih_l0"], weights()["lstm.weight_ih_l0"])
    assert metadata == {"model": "classifier"}
    with pytest.raises(FormatError, match="no columns of 'counts'"):
        model.columns("counts")
    with pytest.raises(FormatError, match="names no file 'absent'"):
        model.array("absent")


def test_folder_without_history(tmp_path: Path) -> None:
    write_model(tmp_path / "m", "tagger", {}, {}, weights(), {})
    model = read_model(tmp_path / "m")
    assert model.history() is None
    assert model.names == [WEIGHTS]


def test_equal_models_have_equal_weights(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name)
    first, second = ((tmp_path / name / WEIGHTS).read_bytes() for name in "ab")
    assert first == second


def test_overwrite_replaces_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write(path, 1)
    with pytest.raises(SettingsError, match="already exists: overwrite"):
        write(path, 2)
    assert read_model(path).settings["seed"] == 1
    before = read_model(path)
    write(path, 2, overwrite=True)
    assert read_model(path).settings["seed"] == 2
    assert before.columns("words.parquet") == FILES["words.parquet"]
    assert names(path) == {"manifest.json", "lock", "data-000002", WEIGHTS}
    assert is_second_name(path)
    np.testing.assert_array_equal(
        read_weights(path / WEIGHTS)[0]["lstm.weight_ih_l0"], weights(2)["lstm.weight_ih_l0"]
    )


def test_weights_are_copied_where_links_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "model"
    write(path, 1)
    write(path, 2, overwrite=True)
    assert not is_second_name(path)
    assert (path / WEIGHTS).read_bytes() == (path / "data-000002" / WEIGHTS).read_bytes()
    assert verify(path) == []
    assert read_model(path).settings["seed"] == 2


@pytest.mark.parametrize("place", [0, 1, -1])
def test_damaged_files_are_named(tmp_path: Path, place: int) -> None:
    path = tmp_path / "model"
    write(path)
    for file in sorted(path.glob("data-*/*")):
        raw = file.read_bytes()
        wrong = bytearray(raw)
        wrong[place] ^= 16
        file.write_bytes(wrong)  # in place, so that a second name has it too
        with pytest.raises(FormatError, match=f"{file.name}: damaged"):
            read_model(path)
        assert f"data-000001/{file.name}" in verify(path)
        file.write_bytes(raw[:-1])
        with pytest.raises(FormatError, match=f"{file.name}: damaged"):
            read_model(path)
        file.unlink()
        with pytest.raises(FormatError, match=f"{file.name}: missing"):
            read_model(path)
        file.write_bytes(raw)
        (path / WEIGHTS).write_bytes(next(path.glob(f"data-*/{WEIGHTS}")).read_bytes())
    assert verify(path) == []
    read_model(path)


def test_foreign_weights_next_to_the_manifest_are_reported(tmp_path: Path) -> None:
    write(tmp_path / "model")
    path = tmp_path / "copy"
    shutil.copytree(tmp_path / "model", path)
    assert not is_second_name(path)
    read_model(path)
    assert verify(path) == []
    raw = bytearray((path / WEIGHTS).read_bytes())
    raw[-5] ^= 1
    (path / WEIGHTS).write_bytes(raw)
    with pytest.raises(FormatError, match=r"weights\.safetensors: damaged or exchanged"):
        read_model(path)
    assert verify(path) == [WEIGHTS]
    (path / WEIGHTS).unlink()
    read_model(path)
    write(path, 3, overwrite=True)
    assert is_second_name(path)


def test_other_folders_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no such folder"):
        read_model(tmp_path / "nowhere")
    with FolderWriter(tmp_path / "index", "index", 1) as writer:
        writer.commit({}, {})
    with pytest.raises(FormatError, match="holds the kind 'index', expected 'model'"):
        read_model(tmp_path / "index")
    with pytest.raises(SettingsError, match="holds the kind 'index'"):
        write(tmp_path / "index", overwrite=True)
    with FolderWriter(tmp_path / "newer", "model", 2) as writer:
        writer.commit({}, {})
    with pytest.raises(FormatError, match="format version 2 is too new"):
        read_model(tmp_path / "newer")
    with FolderWriter(tmp_path / "odd", "model", 1) as writer:
        writer.commit({"model": 3}, {})
    with pytest.raises(FormatError, match="does not name the model type"):
        read_model(tmp_path / "odd")


def test_reserved_names_are_rejected(tmp_path: Path) -> None:
    for name in (WEIGHTS, "history.parquet/..", "../up"):
        with pytest.raises(ValueError, match="plain file name"):
            write_model(tmp_path / "m", "tagger", {}, {}, weights(), {name: np.zeros(1)})
    assert not (tmp_path / "m").exists()


def test_interrupt_at_any_rename_leaves_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = disk.rename
    path = tmp_path / "model"
    write(path, 1)
    for moment in range(12):
        seen = 0

        def interrupted(source: Path, target: Path, moment: int = moment) -> None:
            nonlocal seen
            seen += 1
            if seen == moment // 2 + 1 and moment % 2 == 0:
                raise KeyboardInterrupt
            real(source, target)
            if seen == moment // 2 + 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(disk, "rename", interrupted)
        try:
            write(path, 10 + moment, overwrite=True)
            stopped = False
        except KeyboardInterrupt:
            stopped = True
        monkeypatch.undo()
        assert stopped == (moment < 10), "three data files, the manifest and a link are renamed"
        assert read_model(path).settings["seed"] == (10 + moment if moment > 6 else 1)
        assert verify(path) == []
        assert is_second_name(path)
        assert {n for n in names(path) if not n.startswith("data-")} == {
            "manifest.json", "lock", WEIGHTS
        }  # fmt: skip


KILLED = """if True:
    import os, sys
    from pathlib import Path
    from fastseq.store import disk
    from tests.models.test_model_folder import write
    real, left = disk.rename, [int(sys.argv[2])]
    def replace(source, target):
        if left[0] == 0:
            os.kill(os.getpid(), 9)
        left[0] -= 1
        real(source, target)
    disk.rename = replace
    write(Path(sys.argv[1]), 2, overwrite=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(("renames", "seed"), [(3, 1), (4, 2)])
def test_kill_in_a_commit_leaves_one_commit(tmp_path: Path, renames: int, seed: int) -> None:
    path = tmp_path / "model"
    write(path, 1)
    command = [sys.executable, "-c", KILLED, str(path), str(renames)]
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run(command, cwd=root).returncode == -signal.SIGKILL
    assert read_model(path).settings["seed"] == seed
    assert verify(path) == []
    assert f"{WEIGHTS}.new" in names(path)
    with FolderWriter(path, "model", 1, overwrite=True, links=(WEIGHTS,)):
        pass  # a writer that commits nothing
    assert names(path) == {"manifest.json", "lock", WEIGHTS, f"data-00000{seed}"}
    assert is_second_name(path)


def test_only_own_leftovers_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write(path)
    (path / "notes.txt").write_text("mine")
    (path / "other.safetensors").write_text("mine")
    (path / f"{WEIGHTS}.new").write_text("left behind")
    write(path, 1, overwrite=True)
    assert names(path) == {
        "manifest.json", "lock", WEIGHTS, "data-000002", "notes.txt", "other.safetensors"
    }  # fmt: skip
    with FolderWriter(path, "model", 1, overwrite=True, links=(WEIGHTS,)) as writer:
        writer.commit({}, {})
    assert WEIGHTS not in names(path), "this commit has none"


def test_folder_with_other_files_is_rejected(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_text("mine")
    with pytest.raises(SettingsError, match="not fastseq's"):
        write(tmp_path, overwrite=True)
    checkpoint = tmp_path / "other" / "checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="not fastseq's"):
        write(tmp_path / "other", overwrite=True)
    assert (checkpoint / "notes.txt").exists()
    assert (tmp_path / WEIGHTS).read_text() == "mine"


def test_readers_see_whole_commits_during_writes(tmp_path: Path) -> None:
    path, failures, stop = tmp_path / "model", [], threading.Event()
    write(path)

    def read() -> None:
        while not stop.is_set():
            try:
                model = read_model(path)
                expected = weights(model.settings["seed"])
                for name, array in expected.items():
                    np.testing.assert_array_equal(model.weights[name], array)
                assert model.history() is not None
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for seed in range(1, 15):
        write(path, seed, overwrite=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


# ---- trained in place


def fit(
    path: Path,
    epochs: int = 3,
    overwrite: bool = False,
    resume: bool = False,
    stop: int | None = None,
) -> Linear:
    model = Linear()
    if stop is not None:
        model.hooks[stop, "learn"] = interrupt
    with ModelWriter(path, overwrite, resume) as writer:
        history = train(
            model, TrainingSettings(epochs=epochs), writer.checkpoint({"corpus": 5}), resume
        )
        writer.commit(
            "linear", {}, {}, model.parameters.state_dict(), {"history.parquet": history.columns}
        )
    return model


def test_resumed_fit_ends_with_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        fit(path, stop=11)
    assert names(path) == {"lock", "checkpoint"}
    with pytest.raises(FormatError, match="an unfinished training"):
        read_model(path)
    with pytest.raises(SettingsError, match="unfinished training: resume=True"):
        fit(path)
    fit(path, resume=True)
    fit(tmp_path / "whole")
    assert (path / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    assert names(path) == {"manifest.json", "lock", WEIGHTS, "data-000001", "checkpoint"}
    assert verify(path) == verify(path / "checkpoint") == []


def test_fit_resumes_without_its_lock_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "model", stop=11)
    (tmp_path / "model" / "lock").unlink()  # as Windows does when a lock is released
    assert len(fit(tmp_path / "model", resume=True).keys) == 3 * 8 - 11


def test_finished_model_trains_more_epochs(tmp_path: Path) -> None:
    path = tmp_path / "model"
    fit(path, epochs=2)
    assert len(fit(path, epochs=5, resume=True).keys) == 3 * 8
    fit(tmp_path / "whole", epochs=5)
    assert (path / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    history = read_model(path).history()
    assert history is not None
    assert history.columns["epoch"] == [1, 2, 3, 4, 5]


def test_overwrite_starts_a_new_training(tmp_path: Path) -> None:
    path = tmp_path / "model"
    fit(path, epochs=2)
    assert len(fit(path, epochs=3, overwrite=True).keys) == 3 * 8
    with pytest.raises(KeyboardInterrupt):
        fit(path, epochs=4, overwrite=True, stop=3)
    history = read_model(path).history()
    assert history is not None
    assert len(history) == 3, "the old model stands until the new one is done"


def test_saving_over_a_model_removes_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model"
    fit(path)
    write(path, overwrite=True)
    assert names(path) == {"manifest.json", "lock", WEIGHTS, "data-000002"}
    with pytest.raises(SettingsError, match="has no checkpoint to resume from"):
        fit(path, resume=True)


def test_output_folder_is_checked_before_training(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with ModelWriter(path):
        for resume in (False, True):
            with pytest.raises(FastseqError, match="another process is writing"):
                fit(path, resume=resume)
    fit(path)
    began = []
    said = r"already exists: resume=True trains it further, overwrite=True"
    with pytest.raises(SettingsError, match=said), ModelWriter(path):
        began.append(True)
    assert not began


def test_failed_fit_keeps_the_model(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write(path, 1)

    def fail() -> None:
        with ModelWriter(path, overwrite=True) as writer:
            writer.checkpoint({})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert read_model(path).settings["seed"] == 1
    assert names(path) == {"manifest.json", "lock", WEIGHTS, "data-000001"}


def test_settings_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_model(tmp_path / "m", "tagger", {"x": float("nan")}, {}, weights(), {})
    with pytest.raises(ValueError, match="JSON"):
        Checkpoint(tmp_path / "c", {"x": float("inf")})


def test_columns_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "m")
    folder = Folder.open(tmp_path / "m", "model", {1})
    assert folder.columns("words.parquet", ["count", "word"]) == [[5, 2, 1], ["the", "猫", ""]]
    with pytest.raises(FormatError, match=r"words\.parquet: damaged: not Parquet with the columns"):
        folder.columns("words.parquet", ["colour"])
    with pytest.raises(FormatError, match="counts: damaged: not Parquet"):
        folder.columns("counts", ["word"])
    json.dumps(describe(tmp_path / "m"))
