"""Plots of words in two dimensions, with matplotlib (an extra)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastseq.errors import DataError
from fastseq.plotting import COLOURS, drawn
from fastseq.plotting import check_plot as check_plot
from fastseq.settings import whole
from fastseq.types import Float32, Float64
from fastseq.vectors.nearest import unit_rows
from fastseq.vectors.words import WordVectors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = (8.0, 6.0)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # with the colours, 49 different groups
_SIZES = (8.5, 10.0)  # font sizes in points: neighbour, query word
_DIRECTIONS = 16  # of a label from its point
_DISTANCES = (5.0, 10.0, 16.0, 24.0, 34.0)  # of a label from its point, in points
_LINE = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 2}
_PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4}
_OUTSIDE = 4.0  # cost of area outside the axes; area on other labels costs 1


def word_map(
    vectors: WordVectors,
    words: Sequence[str],
    path: str | Path,
    k: int = 10,
    threads: int | None = None,
    overwrite: bool = False,
) -> int:
    """Plot words and their neighbours on the plane of the two principal components of their unit
    vectors, which preserves most of their squared distances. Returns the number of words plotted.

    Parameters
    ----------
    words : at least one; each has a colour with its neighbours, a neighbour of several that of the
        first
    path : .png, .svg or .pdf
    k : neighbours of each word, 0 for none
    overwrite : replace an existing file that is not known to be a plot of fastseq

    Raises DataError for an unknown word or fewer than three words to plot, SettingsError for k
    below 0 or threads below 1, FastseqError where the system refuses to write, and as
    plotting.check_plot.
    """
    check_plot(path, overwrite=overwrite)
    groups = {word: group for group, word in enumerate(dict.fromkeys(words))}
    asked = len(groups)
    if whole("k", k, 0):
        near = vectors.neighbors_of_each(list(groups), k, threads)
        for group, others in enumerate(near):
            for other, _ in others:
                groups.setdefault(other, group)
    names = list(groups)
    if len(names) < 3:
        raise DataError(f"{len(names)} words to plot: expected at least three")
    title = "Words in the plane of their vectors"
    _draw_map(path, vectors.vectors_of(names), names, list(groups.values()), asked, title)
    return len(names)


def text_map(
    vectors: Float32, labels: Sequence[str], path: str | Path, title: str, overwrite: bool = False
) -> None:
    """Plot vectors float32[n, d] of texts as `word_map` does, each with a label.

    Raises DataError for fewer than three, and as `word_map`.
    """
    check_plot(path, overwrite=overwrite)
    if len(labels) < 3:
        raise DataError(f"{len(labels)} vectors to plot: expected at least three")
    _draw_map(path, vectors, labels, list(range(len(labels))), 0, title)


def _draw_map(
    path: str | Path, vectors: Float32, names: Sequence[str], groups: Sequence[int], asked: int,
    title: str,
) -> None:  # fmt: skip
    """Plot named vectors, each in the colour of its group, the first `asked` with large points."""
    places, shares = plane(vectors)
    colours = [COLOURS[group % len(COLOURS)] for group in groups]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for row, group in enumerate(groups):
            axes.plot(
                *places[row], MARKERS[group // len(COLOURS) % len(MARKERS)],
                color=colours[row], markersize=7 if row < asked else 4, zorder=4,
            )  # fmt: skip
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(0.12)
        axes.tick_params(labelbottom=False, labelleft=False, length=0)
        axes.set_xlabel(f"first principal component ({shares[0]:.0%} of the variance)")
        axes.set_ylabel(f"second ({shares[1]:.0%})")
        axes.set_title(title)
        _label(figure, axes, places, names, colours, asked)

    drawn(path, INCHES, draw)


def plane(vectors: Float32) -> tuple[Float64, Float64]:
    """Coordinates [n, 2] of n vectors [n, d] on the first two principal components of their unit
    vectors, and the share of the variance of each, float64[2].

    The largest element of each component is positive; for vectors on a line the second coordinate
    is 0.
    """
    units = unit_rows(vectors).astype(np.float64)
    units -= units.mean(axis=0)
    _, lengths, components = np.linalg.svd(units, full_matrices=False)
    found = np.zeros((len(units), 2))
    shares = np.zeros(2)
    total = float((lengths**2).sum())
    for at in range(min(2, len(lengths))):
        if lengths[at] > 1e-7:  # of unit vectors in float32: below, it is rounding
            component = components[at]
            found[:, at] = units @ component * np.sign(component[np.abs(component).argmax()])
            shares[at] = lengths[at] ** 2 / total
    return found, shares


def _label(
    figure: Figure, axes: Axes, places: Float64, names: Sequence[str], colours: Sequence[str],
    asked: int,
) -> None:  # fmt: skip
    """Place the label of each word where it covers least of other labels and points."""
    figure.draw_without_rendering()  # computes the layout, in whose pixels labels are placed
    pixel = figure.dpi / 72
    points = axes.transData.transform(places)
    frame = np.array(axes.bbox.extents)
    taken = np.concatenate([points - 4 * pixel, points + 4 * pixel], axis=1)
    for row, name in enumerate(names):
        style: dict[str, Any] = {
            "fontsize": _SIZES[row < asked], "fontweight": "bold" if row < asked else "normal",
            "color": colours[row], "ha": "center", "va": "center", "parse_math": False,
            "textcoords": "offset points",
        }  # fmt: skip
        text = axes.annotate(name, places[row], (0, 0), **style)
        box = text.get_window_extent()
        size = np.array([box.width, box.height])
        offset, far, rectangle = _free(points[row], size, taken, frame, pixel)
        text.remove()
        if far:
            axes.annotate(
                "", places[row], tuple(offset), textcoords="offset points", arrowprops=_LINE,
                zorder=2.5, annotation_clip=False,
            ).set_in_layout(False)  # fmt: skip
        text = axes.annotate(name, places[row], tuple(offset), **style, bbox=_PAPER, zorder=3)
        text.set_in_layout(False)
        taken = np.concatenate([taken, rectangle[None]])


def _free(
    point: Float64, size: Float64, taken: Float64, frame: Float64, pixel: float
) -> tuple[Float64, bool, Float64]:
    """The offset of a label's centre from its point, in points; whether it needs a line to it; and
    its rectangle (left, bottom, right, top) in pixels. Of the positions that cover least of `taken`
    the first of the nearest."""
    best: tuple[float, Float64, bool, Float64] | None = None
    for distance in _DISTANCES:
        for turn in range(_DIRECTIONS):
            angle = 2 * np.pi * turn / _DIRECTIONS
            way = np.array([np.cos(angle), np.sin(angle)])
            # the label touches a circle around the point
            offset = way * (distance * pixel + size / 2)
            low, high = point + offset - size / 2, point + offset + size / 2
            sides = np.minimum(taken[:, 2:], high) - np.maximum(taken[:, :2], low)
            covered = float(np.prod(np.maximum(sides, 0), axis=1).sum())
            inside = np.maximum(np.minimum(frame[2:], high) - np.maximum(frame[:2], low), 0)
            covered += _OUTSIDE * float(np.prod(size) - np.prod(inside))
            if best is None or covered < best[0] - 1e-6:
                far = distance > _DISTANCES[0]
                best = covered, offset / pixel, far, np.concatenate([low, high])
        if best is not None and best[0] <= 0:
            break
    assert best is not None
    return best[1:]
