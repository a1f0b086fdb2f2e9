"""Numeric columns as windows for a forecaster.

train = read_series(open_rows("train.parquet", "values", values="sunspots"))
scaler = Scaler.of(train)
windows = Windows(scaler.scale(train.values, train.names, train.where), window=24, horizon=1)
for batch in windows.epoch(0, batch_size=32, seed=1):
    batch.inputs, batch.targets                # float32[T, B, C], float32[B, horizon * C]
rmse, mae = last_value_errors(test.values, window=24, horizon=1)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.types import Float32, Float64, Int64

if TYPE_CHECKING:
    from fastseq.store.examples import RowReader

_LARGEST = float(np.finfo(np.float32).max)
_ROUNDING = 1e-12  # of a column's size: a spread below this is a constant's rounding


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Numbers in the order of time.

    values  float64[T, C], finite, in the columns' own units
    names   of the C columns
    source  the file or table, for messages
    starts  the row at which each file begins, and its name
    """

    values: Float64
    names: tuple[str, ...]
    source: str = "the series"
    starts: tuple[tuple[int, str], ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def where(self, row: int) -> str:
        """The place of a row, for a message: its file, and its number in that."""
        at = bisect_right(self.starts, row, key=lambda start: start[0]) - 1
        first, name = self.starts[at] if at >= 0 else (0, self.source)
        return f"{name}: {_row(row - first)}"


def read_series(reader: RowReader) -> Series:
    """All rows of the reader's value columns, in order.

    Raises DataError for a null, NaN or infinite number (file, row, column), and for no rows.
    """
    parts: list[Float64] = []
    starts: list[tuple[int, str]] = []
    for batch in reader.batches():
        assert batch.values is not None
        parts.append(batch.values)
        if batch.source_row == 0:
            starts.append((batch.first_row, batch.source))
    if not parts:
        raise DataError(f"{reader.sources[0].name}: no rows, expected a series")
    more = len(reader.sources) - 1
    source = reader.sources[0].name + (f" and {more} more" if more else "")
    return Series(np.concatenate(parts), reader.fields.values, source, tuple(starts))


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


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Every window of a series that is followed by a whole horizon.

    values   float32[T, C], scaled
    window   steps that are looked at
    horizon  steps that are forecast
    source   the file or table, for messages

    Raises
    ------
    SettingsError
        A window or horizon below 1.
    DataError
        The series is shorter than the two together.
    """

    values: Float32
    window: int
    horizon: int
    source: str = "the series"

    def __post_init__(self) -> None:
        _check(len(self.values), self.window, self.horizon, self.source)

    def __len__(self) -> int:
        return len(self.values) - self.window - self.horizon + 1

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
        order = generator.permutation(len(self))
        for at in range(start * batch_size, len(order), batch_size):
            yield self.take(order[at : at + batch_size])

    def in_order(self, batch_size: int) -> Iterator[WindowBatch]:
        """All windows once, in the order of time."""
        if batch_size < 1:
            raise SettingsError(f"batch_size is {batch_size}; expected at least 1")
        for at in range(0, len(self), batch_size):
            yield self.take(np.arange(at, min(at + batch_size, len(self))))


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


def last_value_errors(values: Float64, window: int, horizon: int) -> tuple[float, float]:
    """(RMSE, MAE) of forecasting that every step of the horizon equals the window's last value,
    over the windows that `Windows` has and all columns, in the columns' own units.

    Raises as Windows.
    """
    _check(len(values), window, horizon)
    count = len(values) - window - horizon + 1
    last = values[window - 1 : window - 1 + count]
    squares = absolutes = 0.0
    for step in range(horizon):
        wrong = values[window + step : window + step + count] - last
        squares += float(np.mean(wrong * wrong))
        absolutes += float(np.mean(np.abs(wrong)))
    return float(np.sqrt(squares / horizon)), absolutes / horizon


def _check(steps: int, window: int, horizon: int, source: str = "the series") -> None:
    for name, value in (("window", window), ("horizon", horizon)):
        if value < 1:
            raise SettingsError(f"{name} is {value}; expected at least 1")
    if steps < window + horizon:
        raise DataError(
            f"{source}: a series of {steps} rows, expected at least {window + horizon} for a "
            f"window of {window} and a horizon of {horizon}"
        )
