"""How pictures are drawn: with matplotlib, which is an extra, in one style.

A figure is the same file whenever it is drawn from the same numbers with the same matplotlib and
fonts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastseq.errors import MissingExtraError
from fastseq.store.files import written_whole
from fastseq.store.outputs import PICTURES, check_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = tuple(PICTURES)
DOTS = 150  # of a PNG, an inch

# Okabe and Ito (2008): told apart by the colour-blind too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")

# fonts with the letters that matplotlib's own lacks, where one of them is installed
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
    """Fail now rather than after hours of training, where a plot to `path` cannot be drawn.

    inputs, suffixes, how : as store.outputs.check_output has them

    Raises
    ------
    SettingsError
        check_output refuses it.
    MissingExtraError
        matplotlib is not installed.
    """
    check_output(path, "picture", inputs, suffixes=suffixes, **how)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "plots need the package matplotlib: pip install 'fastseq[plot]'"
        ) from None


def drawn(path: str | Path, inches: tuple[float, float], draw: Callable[[Figure], None]) -> None:
    """Make a figure of a size, have it drawn, and write it, whole or not at all. Characters that no
    font here has are boxes.

    Raises FastseqError where the system refuses to write.
    """
    # a figure of its own, without pyplot: nothing of the caller's matplotlib is touched
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
        # by a file of Python's, which takes names of any bytes
        with open(temporary, "wb") as file:
            figure.savefig(file, format=suffix[1:], dpi=DOTS, metadata=PICTURES[suffix])
