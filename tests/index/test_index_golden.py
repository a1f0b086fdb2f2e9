"""Indexes written by the first release of each format version give the same results.

A version is frozen, and its golden indexes are committed, when it is released. Format 2 is not yet:
until then its files are compared only with the frozen ones' content.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import Index
from fastseq.index.collection import VERSION
from fastseq.store.folder import verify
from tests.naive import inverted
from tests.naive.commits import as_version_1
from tests.scripts import loaded

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
INDEXES = sorted(path.parent for path in GOLDEN.glob("v[0-9]*/*/manifest.json"))
FROZEN = [1]
CURRENT = GOLDEN / f"v{VERSION}"


make = loaded(GOLDEN / "make.py")


def expected(path: Path) -> dict[str, dict[str, list[list[Any]]]]:
    found: dict[str, dict[str, list[list[Any]]]] = json.loads(
        path.with_suffix(".json").read_text("utf-8")
    )
    return found


def test_there_is_a_small_index_of_every_frozen_version() -> None:
    names = {f"v{version}": sorted(make.ANALYZERS) for version in FROZEN}
    assert {path.name for path in GOLDEN.glob("v[0-9]*")} == names.keys()
    for version, analyzers in names.items():
        assert [path.name for path in INDEXES if path.parent.name == version] == analyzers
    files = (path for path in GOLDEN.glob("v[0-9]*/**/*") if path.is_file())
    assert sum(path.stat().st_size for path in files) < 60_000


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
    table = make.corpus().to_pylist()
    hits = index.search("tea", k=len(index))
    assert hits.counts[0] > 30
    for row, fields in zip(hits.rows[0].tolist(), hits.fields(), strict=False):
        assert fields == table[row]


@pytest.mark.parametrize("path", INDEXES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_todays_index_has_the_same_content(tmp_path: Path, path: Path) -> None:
    index = Index.build(make.corpus(), tmp_path / "new", analyzer=make.ANALYZERS[path.name])
    as_version_1(tmp_path / "new", tmp_path / "old")
    if path.parent.name == "v1":  # what tests of damage take for an index of version 1
        for file in path.glob("data-*/*"):
            if file.suffix != ".parquet":  # whose bytes are pyarrow's
                same = tmp_path / "old" / file.relative_to(path)
                assert same.read_bytes() == file.read_bytes()
    (new,), (old,) = (inverted.read_segments(folder) for folder in (tmp_path / "new", path))
    assert replace(new.inverted, positions=None) == old.inverted
    assert new.documents == old.documents
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


@pytest.mark.skipif(VERSION not in FROZEN, reason=f"format {VERSION} is not frozen yet")
@pytest.mark.parametrize("name", make.ANALYZERS)
def test_current_version_writes_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Any change of these bytes is a new format version."""
    Index.build(make.corpus(), tmp_path / name, analyzer=make.ANALYZERS[name], threads=2)
    golden = CURRENT / name
    for file in [*golden.glob("data-*/*"), golden / "manifest.json"]:
        assert (tmp_path / name / file.relative_to(golden)).read_bytes() == file.read_bytes()


def test_the_script_makes_them_without_overwriting(tmp_path: Path) -> None:
    folder = make.make(tmp_path)
    made = {file.relative_to(folder) for file in folder.rglob("*")}
    if VERSION in FROZEN:
        assert made == {file.relative_to(CURRENT) for file in CURRENT.rglob("*")}
    assert {str(file) for file in made if len(file.parts) == 1} == {
        *make.ANALYZERS, *(f"{name}.json" for name in make.ANALYZERS)
    }  # fmt: skip
    with pytest.raises(Exception, match="already exists"):
        make.make(tmp_path)
