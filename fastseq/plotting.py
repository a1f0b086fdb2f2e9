"""Figures, drawn with matplotlib (an extra) in one style; figures of a training run.

The same numbers give the same file with the same matplotlib and fonts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, MissingExtraError
from fastseq.store.files import written_whole
from fastseq.store.outputs import PICTURES, check_output
from fastseq.training.checkpoint import VALID, History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

SUFFIXES = tuple(PICTURES)
DOTS = 150  # of a PNG, an inch

# Okabe and Ito (2008), for colour-blind readers too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")

KIND = "gradient flow"  # of output: numbers
NUMBERS = ".parquet"  # the suffix of numbers

# fonts with characters that matplotlib's own lacks, used if installed
WIDE = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB",
    "Arial Unicode MS", "Noto Emoji",
)  # fmt: skip

STYLE: dict[str, Any] = {
    "font.size": 10.0,
    "axes.titlesize": 12.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "fastseq",
    "svg.fonttype": "none",
}


def check_plot(
    path: str | Path, inputs: Any = None, suffixes: tuple[str, ...] = SUFFIXES, **how: Any
) -> None:
    """Fail before a long training if a plot to `path` cannot be drawn: SettingsError as
    store.outputs.check_output, MissingExtraError without matplotlib."""
    check_output(path, "picture", inputs, suffixes=suffixes, **how)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "plots need the package matplotlib: pip install 'fastseq[plot]'"
        ) from None


def drawn(path: str | Path, inches: tuple[float, float], draw: Callable[[Figure], None]) -> None:
    """Create a figure, let `draw` draw it, and write it, whole or not at all. Characters that no
    font has are boxes. Raises FastseqError where the system refuses to write."""
    # without pyplot, so that the caller's matplotlib settings are not changed
    from cycler import cycler
    from matplotlib import font_manager, style
    from matplotlib.figure import Figure

    suffix = Path(path).suffix.lower()
    installed = {font.name for font in font_manager.fontManager.ttflist}
    fonts = ["DejaVu Sans", *(name for name in WIDE if name in installed)]
    settings = {**STYLE, "font.family": fonts, "axes.prop_cycle": cycler(color=COLOURS)}
    with (
        warnings.catch_warnings(),
        style.context(["default", settings]),
        written_whole(path) as temporary,
    ):
        for message in (r"Glyph \d+ .*missing from", r"Matplotlib currently does not support"):
            warnings.filterwarnings("ignore", message, UserWarning)
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        # a Python file accepts names of any bytes
        with open(temporary, "wb") as file:
            figure.savefig(file, format=suffix[1:], dpi=DOTS, metadata=PICTURES[suffix])


# ---- training


def check_gradient_flow(path: str | Path, inputs: Any = None, **how: Any) -> None:
    """`check_plot` for `gradient_flow`, which also writes .parquet, without matplotlib."""
    if Path(path).suffix.lower() == NUMBERS:
        check_output(path, KIND, inputs, **how)
    else:
        check_plot(path, inputs, suffixes=(*SUFFIXES, NUMBERS), **how)


def learning_curve(history: History, path: str | Path, overwrite: bool = False) -> None:
    """Draw loss and validation measures, epoch by epoch.

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
    """Draw the norm of the loss gradient back in time, on a logarithmic scale, the last step at the
    right.

    Parameters
    ----------
    norms : float[T], or {name of a curve: float[T]}, such as a model's `gradient_flow_`
        The norm of the gradient with respect to the recurrent layer's input, t = 0 … T - 1 steps
        before the last. A value of 0, or one that is not finite, leaves a gap.
    path : .png, .svg or .pdf; or .parquet for the numbers, a row for each step: when (string, the
        name of the curve), steps_before_last (int64), norm (float64)
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
    if Path(path).suffix.lower() == NUMBERS:
        from fastseq.store.parquet import write_columns

        steps = [np.arange(len(curve), dtype=np.int64) for curve in curves.values()]
        columns: dict[str, Any] = {
            "when": [name for name, curve in curves.items() for _ in curve],
            "steps_before_last": np.concatenate(steps),
            "norm": np.concatenate(list(curves.values())),
        }
        write_columns(path, columns, KIND)
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
        axes.invert_xaxis()  # time runs to the right
        axes.set_xlabel("steps before the last")
        axes.set_ylabel("gradient norm at the layer's input")
        axes.set_title("Gradient flow back in time")
        _count_on(axes.xaxis)
        if any(curves):
            _legend(axes)

    drawn(path, (7.0, 3.8), draw)


def _count_on(axis: Axis) -> None:
    """Put ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _legend(axes: Axes) -> None:
    """Put the legend to the right of the data."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
