"""Numeric columns as windows for a forecaster.

train = read_series(open_rows("train.parquet", "values", values="sunspots"))
scaler = Scaler.of(train)
scaled = scaler.scale(train.values, train.names, train.where)
windows = Windows(scaled, 24, 1, train.source, train.offsets)
for batch in windows.epoch(0, batch_size=32, seed=1):
    batch.inputs, batch.targets                # float32[T, B, C], float32[B, horizon * C]
rmse, mae = last_value_errors(train.values, 24, 1, windows.starts)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError
from fastseq.models.data.examples import ReadReport
from fastseq.types import Float32, Float64, Int64, Label, offsets_of, ranges

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader

_LARGEST = float(np.finfo(np.float32).max)
_ROUNDING = 1e-12  # relative standard deviation below which a column is constant


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Numbers of one or several series, each in the order of time.

    values   float64[T, C], finite, in the columns' own units, series after series
    names    of the C columns
    source   the files or table, for messages
    offsets  int64[S + 1]: series s is values[offsets[s]:offsets[s + 1]]
    keys     of the S series: names of files, or values of the series column
    where    file and row of a row of `values`, for messages
    """

    values: Float64
    names: tuple[str, ...]
    source: str
    offsets: Int64
    keys: tuple[Label, ...]
    where: Callable[[int], str]

    def report(self, least: int) -> ReadReport:
        """The number of series, and of those shorter than `least` rows."""
        return series_report(self.keys, np.diff(self.offsets), least)


def read_series(reader: RowReader) -> Series:
    """All rows of the reader's value columns: a series for each value of its series column, else
    for each file.

    Raises DataError for a null, NaN or infinite number (file, row, column), and for no rows.
    """
    parts: list[Float64] = []
    numbers: list[Int64] = []
    known: dict[Label, int] = {}
    for batch in reader.batches():
        assert batch.values is not None
        parts.append(batch.values)
        numbers.append(series_numbers(batch, known))
    if not parts:
        raise DataError(f"{reader.sources[0].name}: no rows, expected a series")
    values, number, where = np.concatenate(parts), np.concatenate(numbers), reader.where
    if np.any(number[1:] < number[:-1]):
        order = np.argsort(number, kind="stable")
        values = values[order]
        where = lambda row: reader.where(int(order[row]))  # noqa: E731
    offsets = offsets_of(np.bincount(number))
    return Series(values, reader.fields.values, reader.data.name, offsets, tuple(known), where)


def series_numbers(batch: RowBatch, known: dict[Label, int]) -> Int64:
    """int64[D]: the number of each row's series, by first occurrence; adds to `known`, the numbers
    so far by key."""
    if batch.series is None:
        return np.full(batch.rows, known.setdefault(batch.source, len(known)))
    numbers = [known.setdefault(key, len(known)) for key in batch.series.values]
    found: Int64 = np.array(numbers, np.int64)[batch.series.codes]
    return found


def series_report(keys: Sequence[Label], lengths: Int64, least: int) -> ReadReport:
    """The report of series of these lengths; those of fewer than `least` rows are too short."""
    short = np.flatnonzero(lengths < least)
    report = ReadReport(rows=int(lengths.sum()), series=len(lengths), short=len(short), least=least)
    if len(short):
        report.example = f"{keys[short[0]]} ({lengths[short[0]]:,})"
    return report


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """Standardises columns by the training part's mean and standard deviation.

    mean, std  float64[C]; the std of a constant column is 1
    """

    mean: Float64
    std: Float64

    @classmethod
    def of(cls, series: Series) -> Scaler:
        """The scaler of a training series. Raises DataError unless it is finite."""
        size = np.abs(series.values).max(0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = series.values.mean(0), series.values.std(0)
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise DataError(
                f"{series.source}: numbers up to {size.max():.3g} cannot be standardised; divide "
                "them by a fixed number first"
            )
        return cls(mean, np.where(std <= _ROUNDING * size, 1.0, std))

    def scale(self, values: Float64, names: Sequence[str], where: Callable[[int], str]) -> Float32:
        """float32[T, C]: values [T, C] less the mean, divided by the standard deviation. Raises
        DataError for another number of columns, and for numbers beyond float32 once scaled, with
        the column's name and file and row (`where`)."""
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            raise DataError(f"values of shape {values.shape}, expected {len(self.mean)} columns")
        with np.errstate(over="ignore"):
            scaled = np.ascontiguousarray((values - self.mean) / self.std, np.float32)
        if not np.isfinite(scaled).all():
            row, c = map(int, np.argwhere(~np.isfinite(scaled))[0])
            raise DataError(
                f"{where(row)}: the number in column {names[c]!r} is {values[row, c]:.3g}, "
                f"expected one within {_LARGEST * self.std[c]:.3g} of the training series' mean, "
                f"{self.mean[c]:.3g}: it is scaled to float32"
            )
        return scaled

    def unscale(self, scaled: npt.NDArray[np.floating[Any]]) -> Float64:
        """Scaled values [B, h · C] or [..., C] in the columns' own units, float64."""
        columns = len(self.mean)
        parts = np.asarray(scaled, np.float64).reshape(-1, columns)
        return (parts * self.std + self.mean).reshape(np.shape(scaled))

    def to_dict(self) -> dict[str, Any]:
        """The scaler as JSON, exact to the bit."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Scaler:
        """The scaler of `to_dict`. Raises FormatError for anything else."""
        try:
            mean, std = (np.array(saved[name], np.float64) for name in ("mean", "std"))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"the saved scaler is damaged: {error!r}") from None
        good = mean.ndim == 1 and mean.shape == std.shape and bool(np.all(std > 0))
        if not (good and np.all(np.isfinite(mean)) and np.all(np.isfinite(std))):
            raise FormatError("the saved scaler is damaged: expected finite means, positive stds")
        return cls(mean, std)


class WindowBatch(NamedTuple):
    """B windows.

    inputs   float32[T, B, C]
    targets  float32[B, horizon * C]: the rows after the window, row after row
    """

    inputs: Float32
    targets: Float32


@dataclass(frozen=True, eq=False)
class Windows:
    """Every window of some series that is followed by a whole horizon of its series.

    values   float32[T, C], scaled
    window   rows of a window
    horizon  rows to forecast
    source   the files or table, for messages
    offsets  int64[S + 1]: series s is values[offsets[s]:offsets[s + 1]]

    Raises DataError if every series is shorter than window and horizon together.
    """

    values: Float32
    window: int
    horizon: int
    source: str
    offsets: Int64

    def __post_init__(self) -> None:
        lengths, needed = np.diff(self.offsets), self.window + self.horizon
        longest = lengths.max(initial=0)
        if longest < needed:
            what = f"a series of {longest} rows"
            if len(lengths) > 1:
                what = f"{len(lengths):,} series of at most {longest} rows"
            raise DataError(
                f"{self.source}: {what}, expected at least {needed} for a window of {self.window} "
                f"and a horizon of {self.horizon}"
            )

    @cached_property
    def starts(self) -> Int64:
        """int64[n]: the first row of each window."""
        counts = np.diff(self.offsets) - self.window - self.horizon + 1
        return ranges(self.offsets[:-1], np.maximum(counts, 0))

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, starts: Int64) -> WindowBatch:
        """The windows that begin at the rows `starts` (int64[B])."""
        inputs = self.values[starts + np.arange(self.window)[:, None]]
        after = starts[:, None] + self.window + np.arange(self.horizon)
        return WindowBatch(inputs, self.values[after].reshape(len(starts), -1))

    def epoch(self, number: int, batch_size: int, seed: int) -> Iterator[WindowBatch]:
        """Batches of all windows, shuffled by the seed and the epoch's number."""
        generator = np.random.Generator(np.random.PCG64([seed, number]))
        order = self.starts[generator.permutation(len(self))]
        return (self.take(order[at : at + batch_size]) for at in range(0, len(order), batch_size))

    def in_order(self, batch_size: int) -> Iterator[WindowBatch]:
        """Batches of all windows, in the order of time."""
        starts = self.starts
        return (self.take(starts[at : at + batch_size]) for at in range(0, len(self), batch_size))


def last_value_errors(
    values: Float64, window: int, horizon: int, starts: Int64
) -> tuple[float, float]:
    """(RMSE, MAE) of the forecast that repeats the window's last value, over the windows that begin
    at `starts` and all columns, in the columns' own units."""
    last = values[starts + window - 1]
    squares = absolutes = 0.0
    for step in range(horizon):
        wrong = values[starts + window + step] - last
        squares += float(np.mean(wrong * wrong))
        absolutes += float(np.mean(np.abs(wrong)))
    return float(np.sqrt(squares / horizon)), absolutes / horizon
