"""Indexes written by the first release of each format version give the same results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import Index
from fastseq.index import segment as layout
from fastseq.store.folder import verify
from tests.naive import inverted
from tests.scripts import loaded

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
INDEXES = sorted(path.parent for path in GOLDEN.glob("v*/*/manifest.json"))
CURRENT = GOLDEN / f"v{layout.VERSION}"


make = loaded(GOLDEN / "make.py")


def expected(path: Path) -> dict[str, dict[str, list[list[Any]]]]:
    found: dict[str, dict[str, list[list[Any]]]] = json.loads(
        path.with_suffix(".json").read_text("utf-8")
    )
    return found


def test_there_is_a_small_index_of_every_version() -> None:
    assert {path.parent.name for path in INDEXES} == {f"v{n + 1}" for n in range(layout.VERSION)}
    assert sorted(path.name for path in INDEXES if path.parent == CURRENT) == sorted(make.ANALYZERS)
    assert sum(file.stat().st_size for file in GOLDEN.glob("v*/**/*") if file.is_file()) < 60_000


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


@pytest.mark.parametrize("name", make.ANALYZERS)
def test_current_version_writes_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Any change of these bytes is a new format version."""
    index = Index.build(make.corpus(), tmp_path / name, analyzer=make.ANALYZERS[name], threads=2)
    golden = CURRENT / name
    assert inverted.read(tmp_path / name) == inverted.read(golden)
    for file in sorted(golden.glob("data-*/*")):
        if file.suffix != ".parquet":  # whose bytes are pyarrow's
            assert (tmp_path / name / file.relative_to(golden)).read_bytes() == file.read_bytes()
    told = [json.loads((root / "manifest.json").read_text()) for root in (golden, tmp_path / name)]
    for key in ("kind", "format_version", "settings", "statistics"):
        assert told[0][key] == told[1][key]
    assert set(told[0]["files"]) == set(told[1]["files"])
    assert make.results(index).keys() == expected(golden).keys()


def test_the_script_makes_them_without_overwriting(tmp_path: Path) -> None:
    folder = make.make(tmp_path)
    made = {file.relative_to(folder) for file in folder.rglob("*")}
    assert made == {file.relative_to(CURRENT) for file in CURRENT.rglob("*")}
    with pytest.raises(Exception, match="already exists"):
        make.make(tmp_path)
