"""bench/cuda.py: what it compares, and that it sees what is wrong."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fastseq.kernels.cuda.nn import sums


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "bench" / "cuda.py"
    spec = importlib.util.spec_from_file_location("bench_cuda", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["bench_cuda"] = made
    spec.loader.exec_module(made)
    return made


def test_a_layer_is_the_cpus(bench: ModuleType) -> None:
    assert bench.difference(bench.Shape("gru", 3, 4, 5, 3, True)) < 1e-5


def test_a_wrong_gradient_is_seen(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "column_sums", lambda out, a: None)
    assert bench.difference(bench.Shape("rnn", 2, 3, 2, 2)) > 1e-4


def test_losses_are_compared(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    what, off, allowed = next(bench.checked_losses(True))
    assert "classifier" in what
    assert off < allowed
    monkeypatch.setattr(sums, "column_sums", lambda out, a: None)
    assert next(bench.checked_losses(True))[1] > 1e-4
