"""Folders and checkpoints written by format version 1 open today, and answer as they did.

What was stored is compared bit for bit; what is computed too where the vector width is the one
that the folders were written with, else to 1e-6 (weights after resumed epochs to 1e-4).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import fastseq
from fastseq.features.estimators import Features
from fastseq.kernels.core.width import LANES
from fastseq.models import load
from fastseq.store.folder import verify
from tests.scripts import loaded

make = loaded(Path(__file__).parent / "golden" / "folders" / "make.py")
FOLDER = Path(__file__).parent / "golden" / "folders" / "v1"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text("utf-8"))
SAME_WIDTH = EXPECTED["lanes"] == LANES


def is_exact(name: str) -> bool:
    """Whether this processor gives the recorded bits. FastText's scores are NumPy's product, whose
    bits depend on the kernel that BLAS chooses for the processor."""
    return SAME_WIDTH and name not in make.LABELLERS


def assert_same(found: Any, expected: Any, exact: bool, tolerance: float = 1e-6) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same(found[name], value, exact or name in ("words", "vectors"), tolerance)
    elif isinstance(expected, list) and expected and not isinstance(expected[0], int | float):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, exact, tolerance)
    elif exact or expected is None or isinstance(expected, str):
        assert found == expected
    else:
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_the_folders_are_small_and_complete() -> None:
    sizes = {path.name: sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
             for path in FOLDER.iterdir() if path.is_dir()}  # fmt: skip
    assert max(sizes.values()) < 60_000
    begun = {f"{name}-begun" for names in make.BEGUN for name in names}
    assert sizes.keys() == {
        *make.VECTORS, *make.LABELLERS, *make.MODELS, *make.FEATURES, *begun
    }  # fmt: skip


@pytest.mark.parametrize("name", make.VECTORS)
def test_word_vectors_answer_as_they_did(name: str, tmp_path: Path) -> None:
    assert verify(FOLDER / name) == []
    assert_same(as_json(make.vector_answers(FOLDER / name)), EXPECTED[name], SAME_WIDTH)
    model = type(make.VECTORS[name]()).load(FOLDER / name)
    assert model.get_params() == {
        **make.VECTORS[name]().get_params(), "analyzer": model.analyzer, "threads": model.threads,
    }  # fmt: skip
    assert len(model.history_["train_loss"]) == make.SMALL["epochs"]
    model.save(tmp_path / "again")
    assert_same(as_json(make.vector_answers(tmp_path / "again")), EXPECTED[name], SAME_WIDTH)


@pytest.mark.parametrize("name", [*make.LABELLERS, *make.MODELS])
def test_models_answer_as_they_did(name: str, tmp_path: Path) -> None:
    assert verify(FOLDER / name) == []
    model = load(FOLDER / name, threads=1)
    assert_same(as_json(make.model_answers(name, model)), EXPECTED[name], is_exact(name))
    model.save(tmp_path / "again")
    again = load(tmp_path / "again", threads=1)
    assert again.settings() == model.settings()
    assert_same(as_json(make.model_answers(name, again)), EXPECTED[name], is_exact(name))


@pytest.mark.parametrize("name", make.FEATURES)
def test_features_answer_as_they_did(name: str) -> None:
    assert verify(FOLDER / name) == []
    assert_same(make.feature_answers(Features.load(FOLDER / name)), EXPECTED[name], SAME_WIDTH)


def test_matrix_and_its_terms_are_read(tmp_path: Path) -> None:
    from tests.cli.conftest import run_cli
    from tests.models.small_data import write

    before = scipy.sparse.load_npz(FOLDER / "features.npz")
    corpus = write(tmp_path / "corpus.parquet", text=make.TEXTS)
    like, out = FOLDER / "features.npz", tmp_path / "again.npz"
    ran = run_cli("features", corpus, "--like", like, "-o", out)
    assert ran.code == 0, ran.err
    after = scipy.sparse.load_npz(out)
    assert after.shape == before.shape
    np.testing.assert_array_equal(after.indices, before.indices)
    np.testing.assert_array_equal(after.data, before.data)


@pytest.mark.parametrize("name", [name for names in make.BEGUN for name in names])
def test_interrupted_training_resumes_to_the_same_weights(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(FOLDER / f"{name}-begun", path)
    model = make.resume(name, path)
    expected = EXPECTED[f"{name}-begun"]["weights"]
    # between widths, whole trainings of these word vectors differ by up to 0.03
    tolerance = 0.03 if name in ("word2vec", "fasttext") else 1e-4
    assert_same(make.weights_of(model), expected, SAME_WIDTH, tolerance)
    kept = fastseq.WordVectors.load(path) if name in make.VECTORS else load(path)
    if name in make.VECTORS:
        assert kept.vectors.reshape(-1).tolist() == make.weights_of(model)


def test_the_maker_writes_the_same_folders(tmp_path: Path) -> None:
    folder = make.make(tmp_path)
    made = json.loads((folder / "expected.json").read_text("utf-8"))
    assert made.keys() == EXPECTED.keys()
    if SAME_WIDTH:
        for name, answers in EXPECTED.items():
            assert_same(made[name], answers, is_exact(name))
