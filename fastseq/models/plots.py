"""Pictures of a training run, drawn with matplotlib, which is an extra; and the numbers of
one of them.

A figure is the same file whenever it is drawn from the same numbers with the same matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.plotting import COLOURS, LINES, drawn
from fastseq.plotting import check_plot as check_plot  # those who draw ask here too
from fastseq.store.outputs import PICTURES, check_output
from fastseq.training.history import VALID, History
from fastseq.types import Float64

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

KIND = "gradient flow"  # of output: numbers
NUMBERS = ".parquet"  # the suffix of numbers, for those who draw themselves


def check_gradient_flow(path: str | Path, inputs: Any = None, **how: Any) -> None:
    """As `check_plot`, for `gradient_flow`: .parquet is a suffix too, and needs no matplotlib."""
    if _is_numbers(path):
        check_output(path, KIND, inputs, **how)
    else:
        check_plot(path, inputs, suffixes=(*PICTURES, NUMBERS), **how)


def learning_curve(history: History, path: str | Path, overwrite: bool = False) -> None:
    """Draw loss, and what else validation measured, epoch by epoch.

    Parameters
    ----------
    path : .png, .svg or .pdf
    overwrite : replace an existing file that is not known to be a picture of fastseq

    Raises
    ------
    SettingsError, MissingExtraError
        As `check_plot`.
    DataError
        There is no epoch in the history.
    FastseqError
        The system refuses to write.
    """
    check_plot(path, overwrite=overwrite)
    if len(history) == 0:
        raise DataError("nothing to draw: no epoch was trained")
    metrics = [name for name in history.measures if name != "loss"]
    epochs = history.columns["epoch"]
    marker = "o" if len(history) <= 30 else None

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1 + len(metrics), 1, sharex=True, squeeze=False)[:, 0]
        style: dict[str, Any] = {"marker": marker, "markersize": 4}
        panels[0].plot(epochs, history.columns["train_loss"], label="training", **style)
        if "loss" in history.measures:
            panels[0].plot(epochs, history.columns[VALID + "loss"], label="validation", **style)
        panels[0].set_ylabel("loss (mean)")
        panels[0].set_title("Learning curve")
        for panel, metric in zip(panels[1:], metrics, strict=True):
            values = history.columns[VALID + metric]
            panel.plot(epochs, values, color=COLOURS[1], label="validation", **style)
            panel.set_ylabel(metric.replace("_", " "))
        panels[-1].set_xlabel("epoch")
        _count_on(panels[-1].xaxis)
        for panel in panels:
            _legend(panel)

    drawn(path, (7.0, 2.6 + 1.6 * len(metrics)) if metrics else (7.0, 3.6), draw)


def gradient_flow(
    norms: npt.ArrayLike | Mapping[str, npt.ArrayLike], path: str | Path, overwrite: bool = False
) -> None:
    """Draw how far back in time the gradient of the loss reaches, on a logarithmic scale: the last
    step stands at the right end, those before it to the left.

    Parameters
    ----------
    norms : float[T], or {name of a curve: float[T]}, as a model's `gradient_flow_` has them
        The norm of the gradient with respect to the recurrent layer's input, t = 0 … T - 1 steps
        before the last. A value of 0, or one that is not finite, leaves a gap.
    path : .png, .svg or .pdf; or .parquet, to which the numbers are written as they are, a row for
        each step: when (string, the name of the curve), steps_before_last (int64), norm (float64)
    overwrite : replace an existing file that is not known to be such a picture, or such numbers

    Raises
    ------
    SettingsError, MissingExtraError, FastseqError
        As `learning_curve`.
    DataError
        There is no curve, or one is empty or not of one dimension.
    """
    check_gradient_flow(path, overwrite=overwrite)
    named = norms if isinstance(norms, Mapping) else {"": norms}
    curves = {name: np.array(curve, np.float64) for name, curve in named.items()}
    if not curves or any(curve.ndim != 1 or not curve.size for curve in curves.values()):
        raise DataError("nothing to draw: expected one gradient norm for each time step")
    if _is_numbers(path):
        _write_numbers(curves, path)
        return
    for curve in curves.values():
        curve[~(np.isfinite(curve) & (curve > 0))] = np.nan

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for number, (name, curve) in enumerate(curves.items()):
            line = LINES[number // len(COLOURS) % len(LINES)]
            marker = "o" if len(curve) <= 30 else None
            axes.plot(curve, line, label=name, marker=marker, markersize=4)
        if any(np.isfinite(curve).any() for curve in curves.values()):
            axes.set_yscale("log")
        axes.invert_xaxis()  # time runs to the right, as everywhere
        axes.set_xlabel("steps before the last")
        axes.set_ylabel("gradient norm at the layer's input")
        axes.set_title("Gradient flow back in time")
        _count_on(axes.xaxis)
        if any(curves):
            _legend(axes)

    drawn(path, (7.0, 3.8), draw)


def _write_numbers(curves: Mapping[str, Float64], path: str | Path) -> None:
    from fastseq.store.parquet import write_columns

    columns: dict[str, Any] = {
        "when": [name for name, curve in curves.items() for _ in curve],
        "steps_before_last": np.concatenate(
            [np.arange(len(curve), dtype=np.int64) for curve in curves.values()]
        ),
        "norm": np.concatenate(list(curves.values())),
    }
    write_columns(path, columns, KIND)


def _is_numbers(path: str | Path) -> bool:
    return Path(path).suffix.lower() == NUMBERS


def _count_on(axis: Axis) -> None:
    """Whole numbers at the ticks, be it a single one."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _legend(axes: Axes) -> None:
    """Names of the curves, right of the data."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
