"""Models written by the first fastseq of each format version: read today as on the first day."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq.errors import SettingsError
from fastseq.models import load
from fastseq.models.folder import VERSION
from fastseq.store.folder import verify
from tests.scripts import loaded

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "models"
MODELS = sorted(path.parent for path in GOLDEN.glob("v*/*/manifest.json"))


make = loaded(GOLDEN / "make.py")


def assert_same(found: Any, expected: Any) -> None:
    """Equal text, numbers to 1e-4: another vector width sums in another order."""
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, str):
        assert found == expected
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_every_kind_and_version_has_a_small_golden_model() -> None:
    kinds = ["classifier", "forecaster", "language", "tagger"]
    versions = [f"v{number + 1}" for number in range(VERSION)]
    assert [(path.parent.name, path.name) for path in MODELS] == [
        (version, kind) for version in versions for kind in kinds
    ]
    assert sum(file.stat().st_size for file in GOLDEN.glob("v*/**/*") if file.is_file()) < 60_000


@pytest.mark.parametrize("path", MODELS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_golden_models_predict_as_recorded(path: Path, tmp_path: Path) -> None:
    assert verify(path) == []
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    model = load(path)
    assert_same(make.answers(path.name, model), expected)
    assert model.history_ is not None
    model.save(tmp_path / "again")
    assert_same(make.answers(path.name, load(tmp_path / "again")), expected)


def test_golden_script_makes_every_kind(tmp_path: Path) -> None:
    folder = make.make(tmp_path)
    made = {path.parent.name: load(path.parent) for path in folder.glob("*/manifest.json")}
    assert sorted(made) == sorted({path.name for path in MODELS})
    for name, model in made.items():
        golden = load(GOLDEN / f"v{VERSION}" / name)
        assert model.settings() == golden.settings()
        assert list(model.learned.network.parameters.shapes.items()) == list(
            golden.learned.network.parameters.shapes.items()
        )
    with pytest.raises(SettingsError, match="already exists"):
        make.make(tmp_path)
