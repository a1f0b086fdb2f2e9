"""Numeric columns as windows for a forecaster.

train = read_series(open_rows("train.parquet", "values", values="sunspots"))
scaler = Scaler.of(train)
windows = Windows(scaler.scale(train.values, train.names, train.where), window=24, horizon=1)
for batch in windows.epoch(0, batch_size=32, seed=1):
    batch.inputs, batch.targets                # float32[T, B, C], float32[B, horizon * C]
rmse, mae = last_value_errors(test.values, window=24, horizon=1)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.ragged import offsets_of, places
from fastseq.types import Float32, Float64, Int64, Label

if TYPE_CHECKING:
    from fastseq.store.rows import RowBatch, RowReader

_LARGEST = float(np.finfo(np.float32).max)
_ROUNDING = 1e-12  # of a column's size: a spread below this is a constant's rounding


@dataclass(frozen=True, eq=False)
class Series:
    """Numbers of one or several series, each in the order of time.

    values   float64[T, C], finite, in the columns' own units, series after series
    names    of the C columns
    source   the files or table, for messages
    offsets  int64[S + 1]: series s is values[offsets[s]:offsets[s + 1]]; None for a single one
    keys     of the S series: names of files, or what the series column holds
    order    int64[T]: the row of the source that each comes from; None where it is the same
    place    says where a row of the source is, for messages
    """

    values: Float64
    names: tuple[str, ...]
    source: str = "the series"
    offsets: Int64 | None = None
    keys: tuple[Label, ...] = ()
    order: Int64 | None = None
    place: Callable[[int], str] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def bounds(self) -> Int64:
        """int64[S + 1]: `offsets`, of a single series too."""
        return np.array([0, len(self)]) if self.offsets is None else self.offsets

    def where(self, row: int) -> str:
        """The place of a row, for a message: its file, and its number in that."""
        row = row if self.order is None else int(self.order[row])
        return f"{self.source}: {_row(row)}" if self.place is None else self.place(row)

    def report(self, least: int) -> ReadReport:
        """How many series there are, and how many are shorter than `least` rows."""
        return series_report(self.keys, np.diff(self.bounds), least)


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
    values, number = np.concatenate(parts), np.concatenate(numbers)
    order: Int64 | None = None
    if np.any(number[1:] < number[:-1]):
        order = np.argsort(number, kind="stable")
        values = values[order]
    offsets = offsets_of(np.bincount(number))
    names, keys = reader.fields.values, tuple(known)
    return Series(values, names, reader.data.name, offsets, keys, order, reader.where)


def series_numbers(batch: RowBatch, known: dict[Label, int]) -> Int64:
    """int64[D]: the number of the series that each row belongs to, by first occurrence.

    known : the numbers given so far, by key; more are added
    """
    if batch.series is None:
        return np.full(batch.rows, known.setdefault(batch.source, len(known)))
    numbers = [known.setdefault(key, len(known)) for key in batch.series.values]
    found: Int64 = np.array(numbers, np.int64)[batch.series.codes]
    return found


def series_report(keys: Sequence[Label], lengths: Int64, least: int) -> ReadReport:
    """What to report of series of these lengths; those of fewer than `least` rows are too short."""
    short = np.flatnonzero(lengths < least)
    report = ReadReport(rows=int(lengths.sum()), series=len(lengths), short=len(short), least=least)
    if len(short):
        report.example = f"{keys[short[0]]} ({lengths[short[0]]:,})"
    return report


def _row(row: int) -> str:
    return f"row {row} (from 0)"


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """Standardises columns by the training part's mean and standard deviation.

    mean, std  float64[C]; the std of a constant column is 1
    """

    mean: Float64
    std: Float64

    @classmethod
    def of(cls, series: Series) -> Scaler:
        """The scaler of a training series.

        Raises DataError where numbers are so far apart that their deviation is not finite.
        """
        size = np.abs(series.values).max(0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = series.values.mean(0), series.values.std(0)
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise DataError(
                f"{series.source}: numbers up to {size.max():.3g} cannot be standardised; divide "
                "them by a fixed number first"
            )
        return cls(mean, np.where(std <= _ROUNDING * size, 1.0, std))

    def scale(
        self,
        values: Float64,
        names: Sequence[str] = (),
        where: Callable[[int], str] = _row,
    ) -> Float32:
        """float32[T, C]: values [T, C] less the mean, divided by the standard deviation.

        Parameters
        ----------
        names : of the columns, for messages; none: they are numbered
        where : says the place of a row, for messages

        Raises DataError for another number of columns, and numbers beyond float32 once scaled
        (file, row and column).
        """
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            raise DataError(f"values of shape {values.shape}, expected {len(self.mean)} columns")
        with np.errstate(over="ignore"):
            scaled = np.ascontiguousarray((values - self.mean) / self.std, np.float32)
        if not np.isfinite(scaled).all():
            row, c = map(int, np.argwhere(~np.isfinite(scaled))[0])
            raise DataError(
                f"{where(row)}: the number in column {names[c] if names else c!r} is "
                f"{values[row, c]:.3g}, expected one within {_LARGEST * self.std[c]:.3g} of the "
                f"training series' mean, {self.mean[c]:.3g}: it is scaled to float32"
            )
        return scaled

    def unscale(self, scaled: npt.NDArray[np.floating[Any]]) -> Float64:
        """float64[…, C]: scaled values [B, h · C] or [..., C] in the columns' own units, the last
        axis as it came."""
        columns = len(self.mean)
        parts = np.asarray(scaled, np.float64).reshape(-1, columns)
        return (parts * self.std + self.mean).reshape(np.shape(scaled))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; the numbers come back bit for bit."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Scaler:
        """The scaler that to_dict wrote. Raises FormatError for anything else."""
        try:
            mean, std = (np.array(saved[name], np.float64) for name in ("mean", "std"))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"the saved scaler is damaged: {error!r}") from None
        good = mean.ndim == 1 and mean.shape == std.shape and bool(np.all(std > 0))
        if not (good and np.all(np.isfinite(mean)) and np.all(np.isfinite(std))):
            raise FormatError("the saved scaler is damaged: expected finite means, positive stds")
        return cls(mean, std)


@dataclass(frozen=True, slots=True, eq=False)
class WindowBatch:
    """B windows.

    inputs   float32[T, B, C]
    targets  float32[B, horizon * C]: the steps after the window, step after step
    starts   int64[B]: the row each window begins at
    """

    inputs: Float32
    targets: Float32
    starts: Int64


@dataclass(frozen=True, eq=False)
class Windows:
    """Every window of one or several series that is followed by a whole horizon of its series.

    values   float32[T, C], scaled
    window   steps that are looked at
    horizon  steps that are forecast
    source   the file or table, for messages
    offsets  int64[S + 1]: series s is values[offsets[s]:offsets[s + 1]]; None for a single one

    Raises
    ------
    SettingsError
        A window or horizon below 1.
    DataError
        Every series is shorter than the two together.
    """

    values: Float32
    window: int
    horizon: int
    source: str = "the series"
    offsets: Int64 | None = None

    def __post_init__(self) -> None:
        _ = self.starts  # too short a series is to be known before training

    @cached_property
    def starts(self) -> Int64:
        """int64[n]: the row that each window begins at."""
        offsets = np.array([0, len(self.values)]) if self.offsets is None else self.offsets
        return window_starts(offsets, self.window, self.horizon, self.source)

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, starts: Int64) -> WindowBatch:
        """The windows that begin at the rows `starts` (int64[B])."""
        inputs = self.values[starts + np.arange(self.window)[:, None]]
        after = starts[:, None] + self.window + np.arange(self.horizon)
        targets = self.values[after].reshape(len(starts), -1)
        return WindowBatch(inputs, targets, starts)

    def epoch(
        self, number: int, batch_size: int, seed: int, start: int = 0
    ) -> Iterator[WindowBatch]:
        """All windows once, shuffled by the seed and the epoch's number; from batch `start` on."""
        if batch_size < 1:
            raise SettingsError(f"batch_size is {batch_size}; expected at least 1")
        generator = np.random.Generator(np.random.PCG64([seed, number]))
        order = self.starts[generator.permutation(len(self))]
        for at in range(start * batch_size, len(order), batch_size):
            yield self.take(order[at : at + batch_size])

    def in_order(self, batch_size: int) -> Iterator[WindowBatch]:
        """All windows once, in the order of time."""
        if batch_size < 1:
            raise SettingsError(f"batch_size is {batch_size}; expected at least 1")
        for at in range(0, len(self), batch_size):
            yield self.take(self.starts[at : at + batch_size])


def windows_before(values: Float32, window: int, rows: Int64) -> Float32:
    """float32[window, B, C]: the `window` steps before each of the rows, to forecast from there.

    values float32[T, C]; rows int64[B], each from `window` to T (T forecasts what comes next).

    Raises DataError for a row without a whole window before it.
    """
    if len(rows) and not window <= rows.min() <= rows.max() <= len(values):
        raise DataError(
            f"a forecast at row {rows.min()} of a series of {len(values)}: expected a row from "
            f"{window} on, the window's length"
        )
    before: Float32 = values[rows - window + np.arange(window)[:, None]]
    return before


def last_value_errors(
    values: Float64, window: int, horizon: int, starts: Int64 | None = None
) -> tuple[float, float]:
    """(RMSE, MAE) of forecasting that every step of the horizon equals the window's last value,
    over the windows that `Windows` has and all columns, in the columns' own units.

    starts : of the windows; None: those of a single series

    Raises as Windows.
    """
    if starts is None:
        starts = window_starts(np.array([0, len(values)]), window, horizon)
    last = values[starts + window - 1]
    squares = absolutes = 0.0
    for step in range(horizon):
        wrong = values[starts + window + step] - last
        squares += float(np.mean(wrong * wrong))
        absolutes += float(np.mean(np.abs(wrong)))
    return float(np.sqrt(squares / horizon)), absolutes / horizon


def window_starts(offsets: Int64, window: int, horizon: int, source: str = "the series") -> Int64:
    """The rows that windows begin at, in series offsets[s] to offsets[s + 1]. Raises as Windows."""
    for name, value in (("window", window), ("horizon", horizon)):
        if value < 1:
            raise SettingsError(f"{name} is {value}; expected at least 1")
    lengths, needed = np.diff(offsets), window + horizon
    longest = lengths.max(initial=0)
    if longest < needed:
        what = f"a series of {longest} rows"
        if len(lengths) > 1:
            what = f"{len(lengths):,} series of at most {longest} rows"
        raise DataError(
            f"{source}: {what}, expected at least {needed} for a window of {window} and a horizon "
            f"of {horizon}"
        )
    return places(offsets[:-1], np.maximum(lengths - needed + 1, 0))
