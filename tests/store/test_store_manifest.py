"""manifest.json: other versions, damage, file names outside of the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq.errors import FormatError
from fastseq.store.folder import Folder, describe, read_manifest, verify
from fastseq.store.writer import FolderWriter


def commit(path: Path) -> None:
    with FolderWriter(path, "index", 1) as writer:
        writer.array("bytes", np.arange(200, dtype=np.uint8))
        writer.array("norms", np.linspace(0, 1, 33, dtype=np.float32))
        writer.commit({"seed": 0, "words": ["a", "b"]}, {"documents": 3})


def opened(path: Path) -> Folder:
    return Folder.open(path, "index", {1})


def edit_manifest(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((path / "manifest.json").read_text())
    change(content)
    (path / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(format_version=2), "format version 2 is too new: .* reads version 1"),
        (lambda m: m.update(format_version=0), "format version 0 is too old: .* reads version 1"),
        (lambda m: m.update(kind="model"), "holds the kind 'model', expected 'index'"),
        (lambda m: m["settings"].update(seed=7), "damaged: its own checksum"),
        (lambda m: m.pop("files"), "not a manifest of fastseq"),
        (lambda m: m.update(settings=[]), "damaged"),
        (lambda m: m.update(format_version="1"), "'format_version' is missing or of the wrong"),
        (lambda m: m["files"].clear(), "damaged"),
    ],
)
def test_invalid_manifests_are_rejected(tmp_path: Path, change: Any, said: str) -> None:
    commit(tmp_path)
    edit_manifest(tmp_path, change)
    with pytest.raises(FormatError, match=said) as error:
        opened(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "entry",
    [
        {"bytes": 8, "crc32": 0, "dtype": "|O", "shape": [1]},
        {"bytes": 8, "crc32": 0, "dtype": "<i8", "shape": [2]},
        {"bytes": 8, "crc32": 0, "dtype": "<i8", "shape": [-1]},
        {"bytes": 8, "crc32": 0, "dtype": "nonsense", "shape": [1]},
        {"bytes": 8, "crc32": 0, "dtype": "i4,i4", "shape": [1]},
        {"bytes": -8, "crc32": 0},
        {"bytes": 8.0, "crc32": 0},
        {"bytes": 8},
        7,
    ],
)
def test_invalid_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: object) -> None:
    commit(tmp_path)
    edit_manifest(tmp_path, lambda m: m["files"].update({"data-000001/bytes": entry}))
    monkeypatch.setattr("fastseq.store.folder._checksum", lambda content: content["crc32"])
    with pytest.raises(FormatError, match="data-000001/bytes"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "data-000001/../../x", "C:x", ""])
def test_names_outside_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    commit(tmp_path)
    edit_manifest(tmp_path, lambda m: m["files"].update({name: {"bytes": 1, "crc32": 0}}))
    monkeypatch.setattr("fastseq.store.folder._checksum", lambda content: content["crc32"])
    with pytest.raises(FormatError, match="not a file name of fastseq"):
        read_manifest(tmp_path)


def test_any_changed_byte_of_a_manifest_is_found(tmp_path: Path) -> None:
    commit(tmp_path)
    raw = (tmp_path / "manifest.json").read_bytes()
    before = read_manifest(tmp_path)
    for at in range(len(raw)):
        damaged = bytearray(raw)
        damaged[at] ^= 1
        (tmp_path / "manifest.json").write_bytes(damaged)
        try:
            assert read_manifest(tmp_path) == before  # white space became other white space
        except FormatError:
            continue


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}'])
def test_files_that_are_not_manifests(tmp_path: Path, raw: bytes) -> None:
    commit(tmp_path)
    (tmp_path / "manifest.json").write_bytes(raw)
    for read in (opened, verify, describe):
        with pytest.raises(FormatError, match=r"manifest\.json") as error:
            read(tmp_path)
        assert "\n" not in str(error.value)
