"""Commits of a folder on a simulated disk: what fails and what a power cut leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastseq.errors import FastseqError, FormatError
from fastseq.store.folder import read_manifest, verify
from fastseq.store.writer import FolderWriter
from tests.store.faults import CONTENTS, ENTRIES, Death, Late, SimulatedDisk, Synchronous


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedDisk:
    (tmp_path / "disk").mkdir()
    simulated = SimulatedDisk(tmp_path / "disk")
    simulated.install(monkeypatch)
    return simulated


def write(path: Path, content: bytes, overwrite: bool = True) -> None:
    with FolderWriter(path, "test", 1, overwrite) as writer:
        file = writer.create("data")
        file.append(content)
        writer.close(file)
        writer.commit({"content": content.decode()}, {})


def content_of(path: Path) -> str:
    assert verify(path) == []
    content: str = read_manifest(path).settings["content"]
    return content


def left(disk: SimulatedDisk, target: Path, path: Path) -> list[str | None]:
    """The contents that a power cut may leave, of all kinds."""
    found: list[str | None] = []
    for entries in ENTRIES:
        for contents in CONTENTS:
            for seed in range(10 if "mixed" in (entries, contents) else 1):
                root = target / f"{entries}-{contents}-{seed}"
                disk.after_power_cut(root, entries, contents, seed)
                try:
                    found.append(content_of(root / path.relative_to(disk.root)))
                except FormatError:
                    found.append(None)
    return found


# ---- the simulated disk itself


def test_only_what_is_flushed_survives_a_power_cut(disk: SimulatedDisk, tmp_path: Path) -> None:
    folder = disk.root / "folder"
    disk.make_folder(folder)
    disk.flush_folder(disk.root)
    for name in ("a", "b"):
        with disk.create(folder / name) as file:
            disk.write(file, name.encode() * 4)
    disk.flush(folder / "a")
    disk.after_power_cut(tmp_path / "none", "lost", "kept")
    assert list((tmp_path / "none" / "folder").iterdir()) == []
    disk.flush_folder(folder)
    for contents, expected in (
        ("lost", b""), ("half", b"bb"), ("zeroed", bytes(4)), ("kept", b"bbbb"),
    ):  # fmt: skip
        disk.after_power_cut(tmp_path / contents, "lost", contents)
        assert (tmp_path / contents / "folder" / "a").read_bytes() == b"aaaa"
        assert (tmp_path / contents / "folder" / "b").read_bytes() == expected
    disk.rename(folder / "a", folder / "b")
    for entries, expected_files in (("lost", {"a": b"aaaa", "b": b""}), ("kept", {"b": b"aaaa"})):
        target = tmp_path / f"renamed-{entries}"
        disk.after_power_cut(target, entries, "lost")
        files = {file.name: file.read_bytes() for file in (target / "folder").iterdir()}
        assert files == expected_files
    disk.remove_folder(folder)
    disk.after_power_cut(tmp_path / "back", "lost", "lost")
    assert (tmp_path / "back" / "folder" / "a").read_bytes() == b"aaaa"


def test_death_ends_all_calls(disk: SimulatedDisk) -> None:
    disk.die_at = 2
    file = disk.create(disk.root / "file")
    with pytest.raises(Death):
        disk.write(file, b"1234")
    with pytest.raises(Death):
        disk.flush(disk.root / "file")
    file.close()
    assert (disk.root / "file").read_bytes() == b"12"
    assert disk.calls == ["create file", "write file"]


def test_full_disk_takes_what_fits(disk: SimulatedDisk) -> None:
    disk.free = SimulatedDisk.ENTRY + 3
    with disk.create(disk.root / "file") as file:
        with pytest.raises(OSError, match="No space left"):
            disk.write(file, b"1234")
        assert (disk.root / "file").read_bytes() == b"123"
        disk.write(file, b"xyz", 0)
    assert disk.free == 0
    disk.remove(disk.root / "file")
    assert disk.free == 3


@pytest.mark.parametrize("executor", [Synchronous, Late])
def test_executors_return_futures(executor: type[Synchronous]) -> None:
    pool = executor(1, "name")
    assert pool.submit(max, 1, 2).result() == 2
    failed = pool.submit(int, "x")
    pool.shutdown(cancel_futures=True)
    with pytest.raises(ValueError, match="invalid literal"):
        failed.result()


# ---- commits


@pytest.mark.parametrize("depth", [1, 3])
def test_first_commit_survives_a_power_cut(
    disk: SimulatedDisk, tmp_path: Path, depth: int
) -> None:
    """The folders that were made for it are flushed too."""
    path = disk.root.joinpath(*["folder"] * depth)
    write(path, b"new")
    assert set(left(disk, tmp_path / "left", path)) == {"new"}


def test_first_commit_into_a_folder_of_a_killed_writer_survives(
    disk: SimulatedDisk, tmp_path: Path
) -> None:
    path = disk.root / "folder"
    disk.die_at = 2  # the folder is made, but not flushed
    with pytest.raises(Death):
        write(path, b"lost")
    assert path.exists()
    disk.restarted()
    write(path, b"new")
    assert set(left(disk, tmp_path / "left", path)) == {"new"}


def test_power_cut_in_the_first_commit_leaves_a_folder_to_write_to(
    disk: SimulatedDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock, by which a later writer knows that the rest is fastseq's, is flushed first."""
    path = disk.root / "folder"
    disk.die_at = 6
    with pytest.raises(Death):
        write(path, b"lost")
    monkeypatch.undo()
    for seed in range(20):
        left = tmp_path / str(seed)
        disk.after_power_cut(left, "mixed", "mixed", seed)
        write(left / "folder", b"new")
        assert content_of(left / "folder") == "new"


def test_failed_flush_of_the_new_manifest_keeps_both_commits(
    disk: SimulatedDisk, tmp_path: Path
) -> None:
    """Its name may be lost in a power cut, so the files of the commit before must remain."""
    path = disk.root / "folder"
    write(path, b"old")
    before = len(disk.calls)
    write(path, b"old")
    renamed = disk.calls.index("rename manifest.json.new", before) + 1 - before
    disk.restarted()
    disk.fail_at, disk.lasting = renamed + 1, True
    with pytest.raises(FastseqError, match=r"but it has the new commit: No space left"):
        write(path, b"new")
    assert content_of(path) == "new"
    assert set(left(disk, tmp_path / "left", path)) == {"old", "new"}
    disk.restarted().lasting = False
    write(path, b"newest")
    assert set(left(disk, tmp_path / "after", path)) == {"newest"}
    assert sorted(file.name for file in path.iterdir()) == ["data-000004", "lock", "manifest.json"]


def test_killed_writers_unflushed_manifest_is_flushed_before_old_files_are_removed(
    disk: SimulatedDisk, tmp_path: Path
) -> None:
    path = disk.root / "folder"
    write(path, b"old")
    before = len(disk.calls)
    write(path, b"old")
    renamed = disk.calls.index("rename manifest.json.new", before) + 1 - before
    disk.restarted().die_at = renamed + 1
    with pytest.raises(Death):
        write(path, b"new")
    assert content_of(path) == "new"
    disk.restarted()
    with FolderWriter(path, "test", 1, overwrite=True):
        assert set(left(disk, tmp_path / "left", path)) == {"new"}


@pytest.mark.parametrize("depth", [1, 3])
def test_failed_first_commit_leaves_no_folder(disk: SimulatedDisk, depth: int) -> None:
    path = disk.root.joinpath(*["folder"] * depth)
    write(path, b"new")
    calls = len(disk.calls)
    write_calls = disk.calls.index("rename manifest.json.new") + 1
    disk.remove_folder(disk.root / "folder")
    for number in range(1, write_calls + 1):
        disk.restarted().fail_at = number
        with pytest.raises(FastseqError, match="No space left") as caught:
            write(path, b"new")
        assert str(disk.root) in str(caught.value)
        assert not (disk.root / "folder").exists(), disk.calls
    assert write_calls < calls


def test_failed_flushes_and_temporary_folders_are_one_error(disk: SimulatedDisk) -> None:
    path = disk.root / "folder"
    write(path, b"old")
    with FolderWriter(path, "test", 1, overwrite=True) as writer:
        file = writer.create("data")
        file.append(b"1")
        disk.fail_at = len(disk.calls) + 1
        writer.close(file)
        with pytest.raises(FastseqError, match=r"cannot write .*data: No space left"):
            writer.discard("data")
    with FolderWriter(path, "test", 1, overwrite=True) as writer:
        disk.fail_at = len(disk.calls) + 1
        with pytest.raises(FastseqError, match=r"cannot write .*\.tmp: No space left"):
            writer.temporary("slices")
    assert content_of(path) == "old"


def test_commits_beyond_a_million_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for number in range(999_998, 1_000_003):
        with FolderWriter(path, "test", 1, update=path.exists()) as writer:
            writer.array("data", np.arange(number % 10 + 1))
            writer.commit({}, {"commit": number})
        assert verify(path) == []
        assert len([*path.iterdir()]) == 3
        (found,) = path.glob("data-*")
        if number > 999_998:
            assert found.name == f"data-{number:06d}"
