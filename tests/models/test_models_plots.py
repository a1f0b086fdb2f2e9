"""Pictures: the right curves under the right names, the same file each time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from fastseq import plotting as plots
from fastseq.errors import DataError, MissingExtraError, SettingsError
from fastseq.plotting import check_gradient_flow, check_plot, gradient_flow, learning_curve
from fastseq.training.checkpoint import History

BEGINNINGS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def history(epochs: int = 8, **valid: list[float]) -> History:
    rows: dict[str, list[float]] = {
        name: [1.0] * epochs for name in ("epoch", "train_loss", "seconds")
    }
    rows["epoch"] = list(range(1, epochs + 1))
    rows["train_loss"] = [2 / (n + 1) for n in range(epochs)]
    return History({**rows, **{f"valid_{name}": values for name, values in valid.items()}})


FULL = history(
    loss=[2 / (n + 1) + 0.02 * n for n in range(8)], macro_f1=[0.1 * n for n in range(8)]
)
FLOW = {"RNN": np.exp(-0.3 * np.arange(100)), "LSTM": np.exp(-0.02 * np.arange(100))}


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_plots_are_reproducible_in_every_format(tmp_path: Path, suffix: str) -> None:
    for name in "ab":
        learning_curve(FULL, tmp_path / f"{name}{suffix}")
        gradient_flow(FLOW, tmp_path / f"{name}-flow{suffix}")
    for kind in ("", "-flow"):
        first, second = ((tmp_path / f"{name}{kind}{suffix}").read_bytes() for name in "ab")
        assert first.startswith(BEGINNINGS[suffix])
        assert len(first) > 2000
        assert first == second
    assert len(list(tmp_path.iterdir())) == 4, "nothing temporary is left"


def texts(path: Path) -> str:
    return path.read_text("utf-8")


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> Figure:
    """What is drawn next, instead of a file."""
    made = Figure()
    monkeypatch.setattr(plots, "drawn", lambda path, inches, draw: draw(made))
    return made


def test_learning_curve_content(tmp_path: Path) -> None:
    path = tmp_path / "curve.SVG"
    learning_curve(FULL, path)
    for words in (
        "Learning curve",
        ">epoch<",
        "loss (mean)",
        ">training<",
        "validation",
        "macro f1",
    ):
        assert words in texts(path)
    learning_curve(history(), path)
    assert ">training<" in texts(path)
    assert "validation" not in texts(path)
    learning_curve(history(1), path)
    learning_curve(history(3, loss=[1.0, float("nan"), 2.0]), path)


def test_gradient_flow_content(tmp_path: Path) -> None:
    path = tmp_path / "flow.svg"
    gradient_flow(FLOW, path)
    for words in (
        "Gradient flow back in time",
        ">steps before the last<",
        "gradient norm at the layer",
        ">RNN<",
        ">LSTM<",
    ):
        assert words in texts(path)
    gradient_flow(FLOW["RNN"], path)
    assert ">RNN<" not in texts(path)
    # a norm that vanished entirely, or is not finite, cannot be drawn on a logarithmic axis
    gradient_flow([0.0, 0.0, 1e-30, np.inf, 1.0], path)
    gradient_flow([0.0, 0.0], path)
    gradient_flow([1.0], path)


def test_last_step_is_at_the_right_end(tmp_path: Path, figure: Figure) -> None:
    gradient_flow(FLOW["RNN"], tmp_path / "flow.png")
    [axes] = figure.axes
    [line] = axes.get_lines()
    assert np.asarray(line.get_xdata()).tolist() == list(range(100))
    assert np.array_equal(line.get_ydata(), FLOW["RNN"])
    points = axes.transData.transform(line.get_xydata())
    assert np.all(np.diff(points[:, 0]) < 0), "from the right end"
    assert np.all(np.diff(points[:, 1]) < 0), "vanishing to the left"


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_epoch_ticks_are_integers(tmp_path: Path, figure: Figure, count: int) -> None:
    learning_curve(history(count), tmp_path / "curve.png")
    gradient_flow(np.ones(count), tmp_path / "flow.png")
    for axes, first in zip(figure.axes, (1, 0), strict=True):
        low, high = sorted(axes.get_xlim())
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks == np.round(ticks).tolist()
        if count < 4:
            assert ticks == [first + n for n in range(count)]
        assert len(ticks) >= min(count, 4)


def test_gradient_flow_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # which numbers do not need
    path = tmp_path / "flow.parquet"
    check_gradient_flow(path)
    gradient_flow({"before training": [0.5, 0.25, 0.0], "epoch 1": [2.0]}, path)
    table = pq.read_table(path)
    assert table.schema.equals(
        pa.schema([("when", "string"), ("steps_before_last", "int64"), ("norm", "float64")])
    )
    assert table.to_pydict() == {
        "when": ["before training"] * 3 + ["epoch 1"],
        "steps_before_last": [0, 1, 2, 0],
        "norm": [0.5, 0.25, 0.0, 2.0],
    }
    with pytest.raises(SettingsError, match="no such folder"):
        check_gradient_flow(tmp_path / "none" / "flow.parquet")
    with pytest.raises(SettingsError, match=r"end in \.png, \.svg, \.pdf or \.parquet"):
        check_gradient_flow(tmp_path / "flow.csv")
    with pytest.raises(SettingsError, match=r"end in \.png, \.svg or \.pdf$"):
        learning_curve(FULL, path)


def test_unplottable_input_is_rejected(tmp_path: Path) -> None:
    for name in ("curve.jpg", "curve", ".png"):
        with pytest.raises(SettingsError, match=r"end in \.png, \.svg or \.pdf"):
            learning_curve(FULL, tmp_path / name)
    with pytest.raises(SettingsError, match="no such folder"):
        check_plot(tmp_path / "none" / "curve.png")
    with pytest.raises(DataError, match="no epoch"):
        learning_curve(History(), tmp_path / "curve.png")
    for norms in ({}, [], {"a": [1.0], "b": []}, np.ones((2, 2))):
        with pytest.raises(DataError, match="nothing to draw"):
            gradient_flow(norms, tmp_path / "flow.png")
    assert list(tmp_path.iterdir()) == []


def test_missing_matplotlib_is_one_error_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastseq\[plot\]'"):
        check_plot(tmp_path / "curve.png")


def test_matplotlib_settings_are_ignored_and_unchanged(tmp_path: Path) -> None:
    import matplotlib

    learning_curve(FULL, tmp_path / "a.svg")
    own: dict[str, Any] = {"font.size": 30.0, "axes.grid": False, "svg.hashsalt": "other"}
    with matplotlib.rc_context(own):
        learning_curve(FULL, tmp_path / "b.svg")
        assert {name: matplotlib.rcParams[name] for name in own} == own
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "matplotlib.pyplot" not in sys.modules or matplotlib.get_fignums() == []  # type: ignore[attr-defined]
