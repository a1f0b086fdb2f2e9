"""The bench's layer on the device: every gradient beside the CPU's layer."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


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


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_whole_layer_is_the_cpus(bench: ModuleType, cell: str, reverse: bool) -> None:
    assert bench.difference(bench.Shape(cell, 3, 4, 5, 3, True, reverse)) < 1e-5


def test_a_wrong_gradient_is_seen(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.sums, "column_sums", lambda out, a, add: None)
    assert bench.difference(bench.Shape("rnn", 2, 3, 2, 2, False)) > 1e-4
