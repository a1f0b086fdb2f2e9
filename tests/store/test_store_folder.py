"""Folders: atomic commits, a single writer, readers that keep their commit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq.errors import FastseqError, FormatError, SettingsError
from fastseq.store import disk
from fastseq.store import folder as folder_module
from fastseq.store.folder import Folder, describe, read_manifest, verify
from fastseq.store.writer import FolderWriter

ARRAYS = {
    "bytes": np.arange(200, dtype=np.uint8),
    "offsets": np.arange(0, 1000, 7, dtype=np.int64),
    "norms": np.linspace(0, 1, 33, dtype=np.float32),
    "empty": np.zeros(0, np.uint16),
}


def commit(path: Path, seed: int = 0, overwrite: bool = False, **settings: Any) -> None:
    with FolderWriter(path, "index", 1, overwrite) as writer:
        for name, values in ARRAYS.items():
            writer.array(name, values + values.dtype.type(seed))
        writer.temporary("spill").write_bytes(b"to be removed")
        writer.path("table.bin").write_bytes(b"by another library")
        writer.adopt("table.bin")
        writer.commit({"seed": seed, **settings}, {"documents": 3})


def opened(path: Path) -> Folder:
    return Folder.open(path, "index", {1})


def tree(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "index"
    commit(path, words=["猫", "\ud800"], nested={"k1": 1.2, "3": None})
    folder = opened(path)
    assert folder.settings == {
        "seed": 0,
        "words": ["猫", "\ud800"],
        "nested": {"k1": 1.2, "3": None},
    }
    assert folder.statistics == {"documents": 3}
    assert folder.names == sorted([*ARRAYS, "table.bin"])
    for name, values in ARRAYS.items():
        array = folder.array(name, values.dtype)
        assert type(array) is np.ndarray
        assert array.dtype == values.dtype
        assert array.flags.writeable
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, values)
    assert bytes(folder.buffer("table.bin")) == b"by another library"
    assert folder.path("table.bin").read_bytes() == b"by another library"
    assert verify(path) == []
    assert sorted(p.name for p in path.iterdir()) == ["data-000001", "lock", "manifest.json"]


def test_writes_to_mapped_arrays_stay_private(tmp_path: Path) -> None:
    commit(tmp_path / "index")
    opened(tmp_path / "index").array("bytes")[:] = 9
    assert verify(tmp_path / "index") == []
    np.testing.assert_array_equal(opened(tmp_path / "index").array("bytes"), ARRAYS["bytes"])


def test_fresh_folders_are_bit_identical(tmp_path: Path) -> None:
    for name in "ab":
        commit(tmp_path / name, 5, tuples=(1, 2), keys={1: "x"})
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert opened(tmp_path / "a").settings["keys"] == {"1": "x"}


def test_files_can_be_appended_to(tmp_path: Path) -> None:
    values = np.arange(100_000, dtype=np.uint32)
    with FolderWriter(tmp_path / "index", "index", 1) as writer:
        file, text = writer.create("values"), writer.create("text")
        writer.create("none", np.int32)
        for part in np.array_split(values, 17):
            file.append(part[::1])
        file.append(values[::-3])  # not contiguous
        for piece in (b"ab", bytearray(b"cd"), memoryview(b"ef")):
            text.append(piece)
        assert text.write(b"gh") == 2
        assert text.tell() == 8
        with pytest.raises(TypeError):
            file.append(values.astype(np.int64))
        with pytest.raises(TypeError):
            file.append(b"bytes")
        with pytest.raises(TypeError):
            text.append(values)
        writer.commit({}, {})
    folder = opened(tmp_path / "index")
    np.testing.assert_array_equal(folder.array("values"), np.r_[values, values[::-3]])
    assert bytes(folder.buffer("text")) == b"abcdefgh"
    assert folder.array("none").dtype == np.int32
    with pytest.raises(FormatError, match="not an array"):
        folder.array("text")
    with pytest.raises(FormatError, match="holds uint32, expected int32"):
        folder.array("values", np.int32)
    with pytest.raises(FormatError, match="no file 'other'"):
        folder.array("other")
    assert verify(tmp_path / "index") == []


def test_readers_keep_their_commit_after_a_later_one(tmp_path: Path) -> None:
    path = tmp_path / "index"
    commit(path, 1)
    before = opened(path)
    commit(path, 2, overwrite=True)
    after = opened(path)
    assert (before.settings["seed"], after.settings["seed"]) == (1, 2)
    np.testing.assert_array_equal(before.array("bytes"), ARRAYS["bytes"] + np.uint8(1))
    np.testing.assert_array_equal(after.array("bytes"), ARRAYS["bytes"] + np.uint8(2))
    if os.name != "nt":
        assert not (path / "data-000001").exists()
    assert verify(path) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_error_before_the_commit_keeps_the_old_one(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "index"

    def fail() -> None:
        with FolderWriter(path, "index", 1, overwrite=True) as writer:
            writer.create("half").append(b"written")
            writer.temporary("spill").write_bytes(b"x")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / "there" / "before" / "index"
    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == [], "the folders above were made for it too"
    path.mkdir(parents=True)
    with pytest.raises(error):
        fail()
    assert path.is_dir()
    commit(path)
    before = tree(path)
    with pytest.raises(error):
        fail()
    assert tree(path) == before
    assert opened(path).settings == {"seed": 0}


def test_interrupt_around_the_rename_leaves_one_whole_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index"
    commit(path, 1)
    real = disk.rename
    for after, seed in ((False, 1), (True, 3)):

        def interrupted(source: Path, target: Path, after: bool = after) -> None:
            if after:
                real(source, target)
            raise KeyboardInterrupt

        monkeypatch.setattr(disk, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            commit(path, 3, overwrite=True)
        monkeypatch.undo()
        assert opened(path).settings["seed"] == seed
        assert verify(path) == []
        assert len(list(path.iterdir())) == 3


def test_disk_errors_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    commit(tmp_path / "index")
    monkeypatch.setattr(disk, "flush", full)
    with pytest.raises(FastseqError, match="No space left on device"):
        commit(tmp_path / "index", 2, overwrite=True)
    assert opened(tmp_path / "index").settings == {"seed": 0}


KILLED = """if True:
    import os, signal, sys
    import numpy as np
    from fastseq.store import disk
    from fastseq.store.writer import FolderWriter
    where = sys.argv[2]
    if where == "rename":
        disk.rename = lambda source, target: os.kill(os.getpid(), 9)
    with FolderWriter(sys.argv[1], "index", 1, overwrite=True) as writer:
        writer.array("bytes", np.arange(5000))
        writer.temporary("spill").write_bytes(b"x" * 100)
        writer.create("half").append(b"half a file")
        if where == "hang":
            print("writing", flush=True)
            sys.stdin.read()
        if where == "write":
            os.kill(os.getpid(), 9)
        writer.commit({"seed": 99}, {})
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("where", ["write", "rename"])
@pytest.mark.parametrize("stands", [True, False])
def test_killed_writer_loses_only_uncommitted_data(
    tmp_path: Path, where: str, stands: bool
) -> None:
    path = tmp_path / "index"
    if stands:
        commit(path, 4)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), where])
    assert done.returncode == -signal.SIGKILL
    left = {p.name for p in path.iterdir()}
    number = "data-000002" if stands else "data-000001"
    assert {number, f"{number}.tmp", "lock"} <= left
    if stands:
        assert opened(path).settings == {"seed": 4}
        assert verify(path) == []
    else:
        with pytest.raises(FormatError, match=r"no manifest\.json"):
            opened(path)
    commit(path, 5, overwrite=True)
    assert opened(path).settings == {"seed": 5}
    assert {p.name for p in path.iterdir()} == {"lock", "manifest.json", number}


def test_one_writer_at_a_time_and_a_killed_one_releases_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "index"
    commit(path, 1)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), "hang"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"writing"
    try:
        with pytest.raises(FastseqError, match="another process is writing to"):
            commit(path, 2, overwrite=True)
        assert opened(path).settings == {"seed": 1}
    finally:
        process.kill()
        process.communicate()
    commit(path, 2, overwrite=True)
    assert opened(path).settings == {"seed": 2}


def test_two_writers_in_one_process(tmp_path: Path) -> None:
    with FolderWriter(tmp_path / "index", "index", 1) as writer:
        with pytest.raises(FastseqError, match="another process"):
            commit(tmp_path / "index")
        writer.commit({}, {})
    assert opened(tmp_path / "index").names == []


def test_refused_folders(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(SettingsError, match="is a file"):
        commit(file, overwrite=True)
    with pytest.raises(FastseqError):
        commit(file / "below")
    assert file.read_text() == "mine"
    stranger = tmp_path / "stranger"
    (stranger / "data-000001").mkdir(parents=True)
    (stranger / "data-000001" / "photo.jpg").write_text("mine")
    with pytest.raises(SettingsError, match="not fastseq's"):
        commit(stranger, overwrite=True)
    (stranger / "lock").write_text("")
    (stranger / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match=r"not fastseq's.*notes\.txt"):
        commit(stranger, overwrite=True)
    (stranger / "manifest.json").write_text('{"name": "web page"}')
    with pytest.raises(SettingsError, match="is not fastseq's"):
        commit(stranger, overwrite=True)
    assert (stranger / "data-000001" / "photo.jpg").read_text() == "mine"
    path = tmp_path / "index"
    commit(path)
    with pytest.raises(SettingsError, match="overwrite=True"):
        commit(path)
    with (
        pytest.raises(SettingsError, match="holds the kind 'index', expected 'model'"),
        FolderWriter(path, "model", 1, overwrite=True),
    ):
        pass
    assert opened(path).settings == {"seed": 0}


def test_only_files_with_fastseq_names_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "index"
    commit(path)
    (path / "notes.txt").write_text("mine")
    (path / "data-000007.tmp").mkdir()
    (path / "data-000007.tmp" / "spill").write_text("left behind")
    (path / "data-mine").mkdir()
    commit(path, 1, overwrite=True)
    names = {p.name for p in path.iterdir()}
    assert names == {"notes.txt", "data-mine", "lock", "manifest.json", "data-000002"}


def test_damaged_folder_can_be_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "index"
    commit(path)
    (path / "manifest.json").write_bytes(b"{broken")
    with pytest.raises(SettingsError, match="overwrite=True"):
        commit(path, 1)
    assert (path / "data-000001").exists()
    commit(path, 1, overwrite=True)
    assert opened(path).settings == {"seed": 1}
    assert {p.name for p in path.iterdir()} == {"lock", "manifest.json", "data-000002"}


def test_names_must_be_plain(tmp_path: Path) -> None:
    with FolderWriter(tmp_path / "index", "index", 1) as writer:
        writer.array("a", np.zeros(1))
        for name in ("a", "../b", "b/c", "", ".hidden", "ü", "x" * 200):
            with pytest.raises(ValueError, match="plain file name"):
                writer.create(name)
        for name in ("../b", "b/c"):
            with pytest.raises(ValueError, match="plain file name"):
                writer.temporary(name)


def test_settings_must_be_json(tmp_path: Path) -> None:
    commit(tmp_path / "index")
    for bad in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            commit(tmp_path / "index", overwrite=True, bad=bad)
    assert opened(tmp_path / "index").settings == {"seed": 0}


def test_missing_file_cannot_be_adopted(tmp_path: Path) -> None:
    with (
        FolderWriter(tmp_path / "index", "index", 1) as writer,
        pytest.raises(FastseqError, match="absent"),
    ):
        writer.adopt("absent")


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no such folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(FormatError, match=r"no manifest\.json, expected a folder"):
        opened(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FormatError, match="file: a file, expected a folder that fastseq wrote"):
        opened(tmp_path / "file")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    commit(tmp_path)
    data = tmp_path / "data-000001"
    raw = bytearray((data / "norms").read_bytes())
    raw[40] ^= 4
    (data / "norms").write_bytes(raw)
    assert verify(tmp_path) == ["data-000001/norms"]
    opened(tmp_path)  # sizes are right: opening reads no checksum
    (data / "bytes").write_bytes(b"short")
    (data / "offsets").unlink()
    assert sorted(verify(tmp_path)) == [f"data-000001/{n}" for n in ("bytes", "norms", "offsets")]
    with pytest.raises(FormatError, match="bytes: damaged: 5 bytes, expected 200"):
        opened(tmp_path)
    (data / "bytes").write_bytes(ARRAYS["bytes"].tobytes())
    with pytest.raises(FormatError, match="offsets: missing"):
        opened(tmp_path)


def test_describe(tmp_path: Path) -> None:
    commit(tmp_path)
    told = describe(tmp_path)
    json.dumps(told)
    assert (told["kind"], told["format_version"]) == ("index", 1)
    assert told["files"]["data-000001/norms"]["dtype"] == "<f4"
    assert told["files"]["data-000001/norms"]["shape"] == [33]
    assert told["bytes"] == sum(a.nbytes for a in ARRAYS.values()) + len(b"by another library")


def test_concurrent_readers_always_see_a_complete_commit(tmp_path: Path) -> None:
    commit(tmp_path)
    stop = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                folder = opened(tmp_path)
                seed = folder.settings["seed"]
                assert folder.array("bytes")[0] == seed
                assert folder.array("offsets")[0] == seed
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for seed in range(1, 30):
        commit(tmp_path, seed, overwrite=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_commit_between_manifest_and_files_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tmp_path, 1)
    real, seen = folder_module.read_manifest, []

    def late(*arguments: Any) -> Any:
        manifest = real(*arguments)
        seen.append(manifest)
        if len(seen) == 1:
            commit(tmp_path, 2, overwrite=True)
        return manifest

    monkeypatch.setattr(folder_module, "read_manifest", late)
    assert opened(tmp_path).settings["seed"] == 2
    assert len(seen) == 2


# ---- commits that keep files of the one before


def update(
    path: Path, number: int, keep: Sequence[str] = (), names: Sequence[str] = ("part",), **more: Any
) -> None:
    """A commit with some files whose bytes are its number."""
    with FolderWriter(path, "index", 1, update=True, **more) as writer:
        assert writer.number == number
        for name in names:
            writer.array(f"{name}-{number}", np.full(number, number, np.uint8))
        writer.commit({"number": number}, {}, keep)


def files_of(path: Path) -> set[str]:
    return {name for name in tree(path) if name.startswith("data-")}


def test_update_keeps_the_files_that_are_named(tmp_path: Path) -> None:
    commit(tmp_path)
    update(tmp_path, 2, ["data-000001/bytes", "data-000001/norms"])
    kept = {"data-000001/bytes", "data-000001/norms", "data-000002/part-2"}
    assert files_of(tmp_path) == kept  # the others are removed
    folder = opened(tmp_path)
    assert folder.names == ["bytes", "norms", "part-2"]
    assert folder.settings == {"number": 2}
    for name in ("bytes", "norms"):
        np.testing.assert_array_equal(folder.array(name), ARRAYS[name])
    assert folder.array("part-2").tolist() == [2, 2]
    assert verify(tmp_path) == []
    before = {name: (tmp_path / name).stat().st_ino for name in kept}
    update(tmp_path, 3, ["data-000001/norms", "data-000002/part-2"])
    assert files_of(tmp_path) == {"data-000001/norms", "data-000002/part-2", "data-000003/part-3"}
    for name in ("data-000001/norms", "data-000002/part-2"):
        assert (tmp_path / name).stat().st_ino == before[name]  # neither copied nor renamed
    update(tmp_path, 4)
    assert files_of(tmp_path) == {"data-000004/part-4"}
    assert not (tmp_path / "data-000001").exists()


def test_update_writes_nothing_but_a_manifest_where_no_file_changes(tmp_path: Path) -> None:
    commit(tmp_path)
    names = sorted(files_of(tmp_path))
    update(tmp_path, 2, names, ())
    assert files_of(tmp_path) == {*names}
    assert opened(tmp_path).settings == {"number": 2}
    assert verify(tmp_path) == []


def test_previous_is_the_commit_under_the_lock(tmp_path: Path) -> None:
    commit(tmp_path, 7)
    with FolderWriter(tmp_path, "index", 1, update=True) as writer:
        assert writer.previous == read_manifest(tmp_path)
        assert writer.previous.settings == {"seed": 7}
        with pytest.raises(KeyError):
            writer.commit({}, {}, ["data-000001/unknown"])
    assert opened(tmp_path).settings == {"seed": 7}


def test_update_needs_an_intact_folder_of_its_kind(tmp_path: Path) -> None:
    def fails(path: Path, error: type[Exception], said: str, kind: str = "index") -> None:
        with pytest.raises(error, match=said), FolderWriter(path, kind, 1, update=True):
            pass

    fails(tmp_path / "nowhere", FormatError, "no such folder")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", FormatError, r"no manifest\.json")
    assert list((tmp_path / "empty").iterdir()) == []
    path = tmp_path / "index"
    commit(path)
    fails(path, FormatError, "holds the kind 'index', expected 'model'", "model")
    (path / "manifest.json").write_bytes(b"{broken")
    before = tree(path)
    fails(path, FormatError, "damaged: not JSON")
    assert tree(path) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failed_update_keeps_the_commit_before(tmp_path: Path, error: type[BaseException]) -> None:
    commit(tmp_path)
    update(tmp_path, 2, ["data-000001/norms"])
    before = tree(tmp_path)

    def fail() -> None:
        with FolderWriter(tmp_path, "index", 1, update=True) as writer:
            writer.array("half", np.zeros(9))
            writer.container("other").array("a", np.zeros(9))
            raise error

    with pytest.raises(error):
        fail()
    assert tree(tmp_path) == before
    update(tmp_path, 3, ["data-000001/norms", "data-000002/part-2"])


def test_files_left_in_kept_data_folders_are_removed(tmp_path: Path) -> None:
    """Those of an earlier commit that a reader on Windows had open, or of a killed writer."""
    commit(tmp_path)
    update(tmp_path, 2, ["data-000001/norms"])
    for name in ("data-000001/bytes", "data-000002/half"):
        (tmp_path / name).write_bytes(b"left behind")
    (tmp_path / "data-000005").mkdir()
    (tmp_path / "data-000005" / "half").write_bytes(b"left behind")
    with FolderWriter(tmp_path, "index", 1, update=True) as writer:
        assert files_of(tmp_path) == {"data-000001/norms", "data-000002/part-2"}
        assert writer.number == 3
    assert not (tmp_path / "data-000005").exists()
    assert verify(tmp_path) == []


def test_files_of_a_damaged_manifest_are_not_removed(tmp_path: Path) -> None:
    commit(tmp_path)
    before = files_of(tmp_path)
    raw = (tmp_path / "manifest.json").read_bytes()
    (tmp_path / "manifest.json").write_bytes(raw.replace(b'"documents"', b'"dokuments"'))

    def fail() -> None:
        with FolderWriter(tmp_path, "index", 1, overwrite=True):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert before <= files_of(tmp_path)
    (tmp_path / "manifest.json").write_bytes(raw)
    assert verify(tmp_path) == []


def test_a_writer_waits_for_another(tmp_path: Path) -> None:
    commit(tmp_path)
    started, done = threading.Event(), threading.Event()

    def hold() -> None:
        with FolderWriter(tmp_path, "index", 1, update=True) as writer:
            started.set()
            time.sleep(0.3)
            done.set()
            writer.commit({"number": 2}, {}, writer.previous.files)

    thread = threading.Thread(target=hold)
    thread.start()
    started.wait()
    with (
        pytest.raises(FastseqError, match=r"another process is writing to .* after 0\.05 s$"),
        FolderWriter(tmp_path, "index", 1, update=True, wait=0.05),
    ):
        pass
    with FolderWriter(tmp_path, "index", 1, update=True, wait=60) as writer:
        assert done.is_set()
        assert writer.previous.settings == {"number": 2}  # of the one that it waited for
    thread.join()


def test_readers_share_the_files_of_an_earlier_commit(tmp_path: Path) -> None:
    commit(tmp_path)
    first = opened(tmp_path)
    update(tmp_path, 2, ["data-000001/norms"])
    second = Folder.open(tmp_path, "index", {1}, first)
    assert second.buffer("norms") is first.buffer("norms")
    assert second.array("part-2").tolist() == [2, 2]
    assert "bytes" not in second.names
    alone = opened(tmp_path)
    assert alone.buffer("norms") is not first.buffer("norms")
    again = Folder.open(tmp_path, "index", {1}, second)
    assert all(again.buffer(name) is second.buffer(name) for name in again.names)
    # an earlier commit of another folder, whose files have the same names, shares nothing
    commit(tmp_path / "other")
    update(tmp_path / "other", 2, ["data-000001/norms"])
    other = Folder.open(tmp_path / "other", "index", {1}, second)
    assert other.buffer("norms") is not second.buffer("norms")
    assert other.array("part-2").tolist() == [2, 2]


def test_another_file_of_the_same_name_is_not_shared(tmp_path: Path) -> None:
    """A folder that was removed and written again."""
    commit(tmp_path / "index", 1)
    first = opened(tmp_path / "index")
    shutil.rmtree(tmp_path / "index")
    commit(tmp_path / "index", 2)
    second = Folder.open(tmp_path / "index", "index", {1}, first)
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(second.array(name), values + values.dtype.type(2))
    assert second.buffer("table.bin") is first.buffer("table.bin")  # of equal content


def test_files_can_be_discarded(tmp_path: Path) -> None:
    with FolderWriter(tmp_path, "index", 1) as writer:
        writer.array("a", np.zeros(3))
        writer.container("b").array("x", np.zeros(3))
        writer.array("kept", np.zeros(3))
        writer.discard("a")
        writer.discard("b")
        assert writer.entry("kept").bytes == 24
        writer.array("a", np.ones(2))  # the name is free again
        writer.commit({}, {})
    assert files_of(tmp_path) == {"data-000001/a", "data-000001/kept"}
    assert opened(tmp_path).array("a").tolist() == [1, 1]


def test_opening_needs_no_pyarrow(tmp_path: Path) -> None:
    commit(tmp_path)
    code = f"""if True:
        import sys
        from fastseq.store.folder import Folder, describe
        from fastseq.store.writer import FolderWriter
        Folder.open({str(tmp_path)!r}, "index", {{1}}).array("norms")
        print([name for name in ("pyarrow", "numba") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
