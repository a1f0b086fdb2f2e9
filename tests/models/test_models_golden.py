"""Models written by the first fastseq of each format version: read today as on the first day."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fastseq.models.folder import VERSION
from fastseq.models.loading import load
from fastseq.store.folder import verify

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "models"
MODELS = sorted(path.parent for path in GOLDEN.glob("v*/*/manifest.json"))


def maker() -> ModuleType:
    """tests/golden/models/make.py, which is a script and no module."""
    spec = importlib.util.spec_from_file_location("golden_models", GOLDEN / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


make = maker()


def assert_same(found: Any, expected: Any) -> None:
    """Text alike, numbers to 1e-4: the vectors of another machine sum in another order."""
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, str):
        assert found == expected
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_there_is_one_of_every_kind_and_version_and_they_are_small() -> None:
    kinds = ["classifier", "forecaster", "language", "tagger"]
    versions = [f"v{number + 1}" for number in range(VERSION)]
    assert [(path.parent.name, path.name) for path in MODELS] == [
        (version, kind) for version in versions for kind in kinds
    ]
    assert sum(file.stat().st_size for file in GOLDEN.glob("v*/**/*") if file.is_file()) < 60_000


@pytest.mark.parametrize("path", MODELS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_model_answers_as_it_did(path: Path, tmp_path: Path) -> None:
    assert verify(path) == []
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    model = load(path)
    assert_same(make.answers(path.name, model), expected)
    assert model.history_ is not None
    model.save(tmp_path / "again")
    assert_same(make.answers(path.name, load(tmp_path / "again")), expected)


def test_the_maker_makes_what_can_be_read(tmp_path: Path) -> None:
    folder = make.make(tmp_path)
    for path in sorted(folder.glob("*/manifest.json")):
        name = path.parent.name
        expected = json.loads(path.parent.with_suffix(".json").read_text("utf-8"))
        assert_same(make.answers(name, load(path.parent)), expected)
