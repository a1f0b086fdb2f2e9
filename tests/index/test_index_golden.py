"""Indexes written by the first release of each format version give the same results.

A version is frozen when its golden indexes are committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import Index
from fastseq.index import VERSION
from fastseq.store.folder import verify
from tests.naive import inverted
from tests.naive.commits import as_version_1
from tests.scripts import loaded

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
INDEXES = sorted(path.parent for path in GOLDEN.glob("v[0-9]*/*/manifest.json"))
CURRENT = GOLDEN / f"v{VERSION}"
BY_PYARROW = {"documents", "document_schema", "group_bytes"}  # arrays whose bytes are pyarrow's


make = loaded(GOLDEN / "make.py")


def expected(path: Path) -> dict[str, dict[str, list[list[Any]]]]:
    found: dict[str, dict[str, list[list[Any]]]] = json.loads(
        path.with_suffix(".json").read_text("utf-8")
    )
    return found


def names_of(version: int) -> list[str]:
    return sorted([*make.ANALYZERS, *([make.CHANGED] if version >= 2 else [])])


def todays(path: Path, name: str) -> Index:
    """The index that the script makes now."""
    if name == make.CHANGED:
        made: Index = make.changed(path)
        return made
    return Index.build(make.corpus(), path, analyzer=make.ANALYZERS[name], threads=2)


def test_there_is_a_small_index_of_every_version() -> None:
    versions = range(1, VERSION + 1)
    assert {path.name for path in GOLDEN.glob("v[0-9]*")} == {f"v{n}" for n in versions}
    for n in versions:
        assert [path.name for path in INDEXES if path.parent.name == f"v{n}"] == names_of(n)
    files = (path for path in GOLDEN.glob("v[0-9]*/**/*") if path.is_file())
    assert sum(path.stat().st_size for path in files) < 60_000 * VERSION


@pytest.mark.parametrize("path", INDEXES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_search_results_are_unchanged(path: Path) -> None:
    assert verify(path) == []
    index = Index.open(path)
    for name, answers in expected(path).items():
        for query, hits in answers.items():
            found = index.search(query, k=len(hits) or 1, model=make.MODELS[name]).to_dicts()
            assert [hit["id"] for hit in found] == [identifier for identifier, _ in hits]
            np.testing.assert_allclose(
                [hit["score"] for hit in found], [score for _, score in hits], rtol=1e-6
            )
    table = {row["id"]: row for row in make.corpus().to_pylist()}
    hits = index.search("tea", k=len(index))
    assert hits.counts[0] > 30
    for fields in hits.fields():
        assert {name: fields[name] for name in make.corpus().schema.names} == table[fields["id"]]


@pytest.mark.parametrize("path", INDEXES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_todays_index_has_the_same_content(tmp_path: Path, path: Path) -> None:
    index = todays(tmp_path / "new", path.name)
    if path.parent.name == "v1":  # what tests of damage take for an index of version 1
        as_version_1(tmp_path / "new", tmp_path / "old")
        for file in path.glob("data-*/*"):
            if file.suffix != ".parquet":  # whose bytes are pyarrow's
                same = tmp_path / "old" / file.relative_to(path)
                assert same.read_bytes() == file.read_bytes()
    both = [inverted.read_segments(folder) for folder in (tmp_path / "new", path)]
    for new, old in zip(*both, strict=True):
        if path.parent.name == "v1":  # without positions
            new.inverted.positions = None
        assert (new.inverted, new.fields) == (old.inverted, old.fields)
        assert (new.deleted, new.documents) == (old.deleted, old.documents)
        for name in ("", *new.fields):
            ours = new.fields[name] if name else new.inverted
            theirs = old.fields[name] if name else old.inverted
            has_words = path.name == make.CHANGED and path.parent.name > "v2"
            assert theirs.words == (ours.words if has_words else None)
            assert (ours.words is not None) == (path.name == make.CHANGED)
    told = [json.loads((root / "manifest.json").read_text()) for root in (path, tmp_path / "new")]
    assert told[0]["kind"] == told[1]["kind"]
    for key in ("settings", "statistics"):
        assert told[0][key].items() <= told[1][key].items()
    for name, answers in make.results(index).items():
        for query, hits in answers.items():
            before = expected(path)[name][query]
            assert [identifier for identifier, _ in hits] == [found for found, _ in before]
            scores = [[score for _, score in found] for found in (hits, before)]
            np.testing.assert_allclose(*scores, rtol=1e-6)


@pytest.mark.parametrize("name", names_of(VERSION))
def test_current_version_writes_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Any change of these bytes is a new format version."""
    todays(tmp_path / name, name)
    both = [folder / name for folder in (CURRENT, tmp_path)]
    told: list[dict[str, Any]] = [json.loads((at / "manifest.json").read_text()) for at in both]
    entries = [manifest.pop("files") for manifest in told]
    assert told[0] == told[1]
    assert entries[0].keys() == entries[1].keys()
    for file in entries[0]:
        if "segment" in file:
            golden, new = (
                inverted.read_container(at / file, entry[file])
                for at, entry in zip(both, entries, strict=True)
            )
            assert golden.keys() == new.keys()
            for array in golden.keys() - BY_PYARROW:
                assert golden[array].tobytes() == new[array].tobytes()
                assert golden[array].dtype == new[array].dtype
        else:
            assert (both[0] / file).read_bytes() == (both[1] / file).read_bytes()


def test_the_script_makes_them_without_overwriting(tmp_path: Path) -> None:
    folder = make.make(tmp_path)
    made = {file.relative_to(folder) for file in folder.rglob("*")}
    assert made == {file.relative_to(CURRENT) for file in CURRENT.rglob("*")}
    names = names_of(VERSION)
    assert {str(file) for file in made if len(file.parts) == 1} == {
        *names, *(f"{name}.json" for name in names)
    }  # fmt: skip
    with pytest.raises(Exception, match="already exists"):
        make.make(tmp_path)
