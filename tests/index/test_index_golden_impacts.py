"""Indexes of impacts written by the first release of each format version give the same results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastseq import Index
from fastseq.index import IMPACTS_VERSION
from fastseq.store.folder import verify
from tests.naive import inverted
from tests.scripts import loaded

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "impacts"
INDEXES = sorted(path.parent for path in GOLDEN.glob("v[0-9]*/*/manifest.json"))
BY_PYARROW = {"documents", "document_schema", "group_bytes"}  # arrays whose bytes are pyarrow's

make = loaded(GOLDEN / "make.py")


def test_there_is_an_index_of_each_kind_and_version() -> None:
    names = [f"{path.parent.name}/{path.name}" for path in INDEXES]
    assert names == [f"v{n}/{kind}" for n in (IMPACTS_VERSION,) for kind in ("float", "integer")]


@pytest.mark.parametrize("path", INDEXES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_search_results_are_unchanged(tmp_path: Path, path: Path) -> None:
    assert verify(path) == []
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    for index in (Index.open(path), make.build(tmp_path / "new", path.name)):
        for found, hits in zip(make.results(index), expected, strict=True):
            assert [id for id, _ in found] == [id for id, _ in hits]
            scores = [[score for _, score in each] for each in (found, hits)]
            np.testing.assert_allclose(*scores, rtol=1e-6)


@pytest.mark.parametrize("name", ["float", "integer"])
def test_current_version_writes_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Any change of these bytes is a new format version."""
    make.build(tmp_path / name, name)
    both = [GOLDEN / f"v{IMPACTS_VERSION}" / name, tmp_path / name]
    told = [json.loads((at / "manifest.json").read_text()) for at in both]
    entries = [manifest.pop("files") for manifest in told]
    assert told[0] == told[1]
    assert entries[0].keys() == entries[1].keys()
    for file in entries[0]:
        if "segment" not in file:
            assert (both[0] / file).read_bytes() == (both[1] / file).read_bytes()
            continue
        golden, new = (
            inverted.read_container(at / file, entry[file])
            for at, entry in zip(both, entries, strict=True)
        )
        assert golden.keys() == new.keys()
        assert ("posting_weights" in golden) == (name == "float")
        for array in golden.keys() - BY_PYARROW:
            assert golden[array].tobytes() == new[array].tobytes()
            assert golden[array].dtype == new[array].dtype
