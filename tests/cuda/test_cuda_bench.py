"""bench.gpu: its comparisons of the GPU with the CPU detect wrong gradients."""

from __future__ import annotations

import pytest

from bench.common import device
from fastseq.kernels.cuda.nn import rows as row_kernels


def test_layer_matches_the_cpu() -> None:
    assert device.difference(device.Shape("gru", 3, 4, 5, 3, True)) < 1e-5


def test_wrong_gradient_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_kernels, "column_sums", lambda out, a: None)
    assert device.difference(device.Shape("rnn", 2, 3, 2, 2)) > 1e-4


def test_wrong_losses_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """That those of right gradients agree is a test of bench.gpu itself, in tests/bench."""
    monkeypatch.setattr(row_kernels, "column_sums", lambda out, a: None)
    what, difference, tolerance = next(device.checked_losses(True))
    assert "classifier" in what
    assert difference > tolerance
