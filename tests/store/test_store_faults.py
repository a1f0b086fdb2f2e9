"""Commits of a folder on a simulated disk: what fails and what a power cut leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastseq.errors import FastseqError, FormatError
from fastseq.store.folder import read_manifest, verify
from fastseq.store.writer import FolderWriter
from tests.store.faults import CONTENTS, ENTRIES, Death, SimulatedDisk, Synchronous


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


def test_synchronous_executor_returns_futures() -> None:
    pool = Synchronous(1, "name")
    assert pool.submit(max, 1, 2).result() == 2
    failed = pool.submit(int, "x")
    pool.shutdown(cancel_futures=True)
    with pytest.raises(ValueError, match="invalid literal"):
        failed.result()
