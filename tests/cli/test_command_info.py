"""fastseq info of an index: its description, and --verify with every kind of damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fastseq.store.folder import MANIFEST, read_manifest
from tests.cli.conftest import Run
from tests.naive.commits import combine

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture
def index(bilingual: Path, tmp_path: Path) -> Path:
    """A copy of the index, to be damaged."""
    return Path(shutil.copytree(bilingual, tmp_path / "index"))


def data_files(index: Path) -> list[Path]:
    return [index / name for name in read_manifest(index).files]


def test_info_of_an_intact_index(run: Run, index: Path) -> None:
    ran = run("info", index, "--verify")
    assert ran.code == 0, ran.err
    assert "all files are intact" in ran.out
    said = {line.split("  ")[0] for line in ran.out.splitlines()}
    assert said >= {"kind", "format version", "written by", "size", "verified", "documents"}
    assert "segments" in said
    assert not said & {"deleted", "deleted documents", "segment-000001"}
    assert "{" not in ran.out
    assert run("info", index, "--verify", "--quiet").out == ran.out  # it is the result


def test_info_as_json(run: Run, index: Path) -> None:
    said = run("info", index, "--format", "json").json
    assert said["kind"] == "index"
    assert said["statistics"]["documents"] == 42
    assert said["settings"]["analyzer"]["cjk"] == "bigrams"
    assert "damaged" not in said
    assert set(said["files"]) == {str(p.relative_to(index)) for p in data_files(index)}
    assert run("info", index, "--verify", "--format", "json").json["damaged"] == []


def test_every_damaged_file_is_named(run: Run, index: Path) -> None:
    for path in data_files(index):
        whole = path.read_bytes()
        if not whole:
            continue
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0x40]) + whole[middle + 1 :])
        ran = run("info", index, "--verify")
        assert ran.code == 1
        assert path.name in ran.error
        path.write_bytes(whole)
    assert run("info", index, "--verify").code == 0


@pytest.fixture
def segments(bilingual: Path, tmp_path: Path) -> Path:
    """An index of two segments and a file of deletions."""
    combine(tmp_path / "segments", [bilingual, bilingual], [[], [3, 8]])
    return tmp_path / "segments"


def test_several_damaged_files_are_all_named(run: Run, segments: Path) -> None:
    deleted, first, second = sorted(data_files(segments))
    first.write_bytes(first.read_bytes()[:-1])
    second.unlink()
    deleted.write_bytes(bytes(deleted.stat().st_size))
    error = run("info", segments, "--verify").error
    for path in (deleted, first, second):
        assert path.name in error
    ran = run("info", segments, "--verify", "--format", "json")
    assert len(json.loads(ran.out)["damaged"]) == 3


def test_info_of_several_segments(run: Run, segments: Path) -> None:
    ran = run("info", segments, "--verify")
    assert ran.code == 0, ran.err
    said = dict(line.split("  ", 1) for line in ran.out.splitlines())
    told = {name: value.strip() for name, value in said.items()}
    assert told["documents"] == "82"
    assert told["segments"] == "2"
    assert told["deleted documents"] == "2"
    assert told["segment-000001"] == "42 documents"
    assert told["segment-000001-1"] == "42 documents (2 deleted)"
    assert told["stored_columns"].startswith("id (string), language (string), ")
    assert told["size"].endswith(" in 3 files")
    assert "{" not in ran.out
    content = run("info", segments, "--format", "json").json
    assert [one["deleted"] for one in content["statistics"]["segments"]] == [0, 2]


@pytest.mark.parametrize("damage", ["truncated", "missing", "zeroed", "ones", "flipped"])
def test_search_in_a_damaged_index_does_not_crash(run: Run, index: Path, damage: str) -> None:
    """It prints an answer or a one-line error."""
    for path in data_files(index):
        whole = path.read_bytes()
        if not whole:
            continue
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(
                {
                    "truncated": whole[: len(whole) // 2],
                    "zeroed": bytes(len(whole)),
                    "ones": b"\xff" * len(whole),
                    "flipped": bytes(b ^ 0x55 for b in whole),
                }[damage]
            )
        for query in ("green tea", "猫喜欢"):
            ran = run("search", query, "-i", index, "--format", "json")
            if damage in ("truncated", "missing"):
                assert path.name in ran.error
            elif ran.code:
                assert ran.error
            else:
                assert isinstance(ran.json, list)
        path.write_bytes(whole)


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize(("version", "problem"), [(0, "too old"), (8, "too new"), (99, "too new")])
def test_other_format_versions_are_an_error(
    run: Run, index: Path, version: int, problem: str, damaged: bool
) -> None:
    content = json.loads((index / MANIFEST).read_text())
    with_checksum = replace(read_manifest(index), format_version=version).to_bytes()
    without = json.dumps({**content, "format_version": version}).encode()
    (index / MANIFEST).write_bytes(without if damaged else with_checksum)
    error = run("search", "tea", "-i", index).error
    assert f"format version {version} is {problem}" in error
    for words in ((), ("--verify",), ("--format", "json")):
        ran = run("info", index, *words)
        assert (ran.code, ran.out, ran.error) == (1, "", error)


@pytest.mark.parametrize(
    "name",
    ["v1/words", "folders/v1/tfidf", "folders/v1/word2vec", "folders/v1/word2vec-begun/checkpoint",
     "folders/v1/gru-language", "folders/v1/gru-language-begun/checkpoint"],
)  # fmt: skip
def test_format_version_of_every_kind_is_checked(run: Run, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(GOLDEN / name, tmp_path / "folder"))
    assert run("info", folder, "--verify").pairs["verified"] == "all files are intact"
    manifest = replace(read_manifest(folder), format_version=99)
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    for words in ((), ("--verify",)):
        assert "format version 99 is too new" in run("info", folder, *words).error


def test_folder_of_an_unknown_kind_is_described(run: Run, index: Path) -> None:
    manifest = replace(read_manifest(index), kind="of another program", format_version=99)
    (index / MANIFEST).write_bytes(manifest.to_bytes())
    assert run("info", index, "--verify").pairs["format version"] == "99"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("42", "43", 1),
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: "\x00" * 100,
    ],
)
@pytest.mark.parametrize("words", [("info",), ("search", "tea", "-i")])
def test_damaged_manifest_is_an_error(
    run: Run, index: Path, spoil: Callable[[str], str], words: tuple[str, ...]
) -> None:
    path = index / MANIFEST
    path.write_text(spoil(path.read_text("utf-8")), "utf-8")
    assert MANIFEST in run(*words, index).error


def test_other_folders_are_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name in ("file", "empty", "gone"):
        assert name in run("info", name).error
        assert name in run("info", name, "--verify").error
