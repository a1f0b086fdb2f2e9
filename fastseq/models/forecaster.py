"""Forecaster: the next values of one or several series of numbers.

model = Forecaster(window=48, horizon=3)
model.fit("sunspots_before_1980.parquet", value_columns="sunspots")
model.forecast("sunspots_before_1990.parquet")     # float64[3], what comes after the last row
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.estimator import Whole, parameter
from fastseq.models.base import RowPredictor
from fastseq.models.data.series import (
    Scaler,
    Series,
    WindowBatch,
    Windows,
    last_value_errors,
    read_series,
    series_numbers,
    series_report,
)
from fastseq.models.folder import Content, ModelFolder
from fastseq.models.sequence import FittedState, Network, NetworkTask, SequenceModel, step_norms
from fastseq.nn.backend import Backend
from fastseq.nn.layers import Dense
from fastseq.nn.recurrent import Recurrent
from fastseq.seeds import mixed_key
from fastseq.training.checkpoint import fingerprint_of
from fastseq.training.gradient import StepResult
from fastseq.types import Categories, Float32, Float64, Int64, Label

if TYPE_CHECKING:
    from fastseq.store.columns import Fields
    from fastseq.store.predictions import Predictions
    from fastseq.store.rows import RowBatch, RowReader

ROWS_AT_ONCE = 4096  # forecasts of one pass
_VALIDATED_AT_ONCE = 1024  # windows


class ForecastNetwork(Network):
    """Recurrent layers of C inputs, dropout and a dense layer to horizon * C on their last step;
    the window's last values are added to every step of the horizon.

    cell  name of the recurrent layer's parameters ("lstm")
    """

    def __init__(
        self,
        recurrent: Recurrent,
        output: Dense,
        cell: str,
        dropout: float,
        horizon: int,
        backend: Backend,
    ) -> None:
        self.recurrent = recurrent
        self.output = output
        self.horizon = horizon
        self._dropout = backend.dropout(dropout)
        super().__init__({cell: recurrent, "output": output}, backend)

    def prepare(self, inputs: Float32) -> tuple[Any, Any]:
        """Windows float32[T, B, C] on the device, and what is added to the forecasts."""
        last = np.tile(inputs[-1], self.horizon)
        return self.backend.put(inputs), self.backend.put(last)

    def forecast(self, inputs: Float32) -> Float32:
        """float32[B, horizon * C], step after step, of windows float32[T, B, C]."""
        with self.lock, self.backend.memory("predict on the CPU (device cpu)"):
            self.backend.begin()
            return self.backend.get(self.forward(*self.prepare(inputs), training=False))

    def forward(self, inputs: Any, last: Any, training: bool = True, key: int = 0) -> Any:
        """The forecasts [B, horizon * C] of what `prepare` returned, on the device."""
        y, _ = self.recurrent.forward(inputs, training=training, key=mixed_key(key, 0))
        ends = self._dropout.forward(y[len(y) - 1], training, mixed_key(key, 1))
        out = self.output.forward(ends, training)
        self.backend.add(out, last)
        return out

    def backward(self, dout: Any, steps: int) -> Any:
        """[T, B, C], the gradient of the recurrent layers' input, given that of the forecasts; adds
        to the gradients of the parameters."""
        dlast = self._dropout.backward(self.output.backward(dout))
        dy = self.backend.zeros("dy", steps, *dlast.shape)
        self.backend.copy(dy[steps - 1], dlast)
        return self.recurrent.backward(dy)


@dataclass(slots=True, eq=False)
class ForecastState(FittedState):
    """The fitted state of a forecaster.

    scaler   of the training series
    names    of its columns
    window   rows of the input window
    horizon  rows to forecast
    """

    network: ForecastNetwork
    scaler: Scaler
    names: tuple[str, ...]
    window: int
    horizon: int

    def windows(self, series: Series) -> Windows:
        """The scaled windows of some series. Raises DataError if all are too short."""
        scaled = self.scaler.scale(series.values, series.names, series.where)
        return Windows(scaled, self.window, self.horizon, series.source, series.offsets)


@dataclass(eq=False)
class ForecastTask(NetworkTask[ForecastState]):
    """The training of a forecaster.

    windows   of the training series, scaled
    held_out  to validate on; None without held-out data
    """

    windows: Windows
    held_out: Windows | None
    batch_size: int
    seed: int

    def steps_per_epoch(self, epoch: int) -> int:
        return -(-len(self.windows) // self.batch_size)

    def _batches(self, epoch: int) -> Iterator[WindowBatch]:
        return self.windows.epoch(epoch, self.batch_size, self.seed)

    def _prepared(self, batch: WindowBatch) -> tuple[tuple[Any, Any], Any, int]:
        """Arguments of `forward`, the targets, and the number of inputs."""
        network = self.learned.network
        network.backend.begin()
        given = network.prepare(batch.inputs), network.backend.put(batch.targets)
        return *given, batch.inputs.size

    def _learn(self, prepared: tuple[tuple[Any, Any], Any, int], key: int) -> StepResult:
        given, targets, size = prepared
        network = self.learned.network
        out = network.forward(*given, key=key)
        loss = network.backend.squared_error(out, targets)
        network.backward(out, self.windows.window)
        return StepResult(loss, out.size, size)

    def _validate(self) -> dict[str, float] | None:
        """The loss, of scaled values, and the RMSE in the columns' own units."""
        if self.held_out is None:
            return None
        scale, count = self.learned.scaler.std, 0
        total = np.zeros(len(scale))
        for batch in self.held_out.in_order(_VALIDATED_AT_ONCE):
            wrong = self.learned.network.forecast(batch.inputs) - batch.targets
            wide = np.square(wrong, dtype=np.float64).reshape(-1, len(scale))
            total += wide.sum(0)
            count += len(wide)
        loss = float(total.sum() / (count * len(scale)))
        rmse = float(np.sqrt((total * scale * scale).sum() / (count * len(scale))))
        return {"loss": loss, "rmse": rmse}

    def fingerprint(self) -> dict[str, Any]:
        held_out = None if self.held_out is None else self.held_out.values
        values = self.windows.values
        found = {"rows": len(values), "checksums": fingerprint_of(values, held_out)}
        bounds = [None if w is None else w.offsets for w in (self.windows, self.held_out)]
        if any(offsets is not None and len(offsets) > 2 for offsets in bounds):
            found["series"] = fingerprint_of(*bounds)
        return found

    def flow(self) -> Float64:
        network = self.learned.network
        batch = self.windows.take(self.windows.starts[: self.batch_size])
        given, targets, _ = self._prepared(batch)
        out = network.forward(*given)
        network.backend.squared_error(out, targets)
        dx = network.backend.get(network.backward(out, self.windows.window))
        network.parameters.zero_gradients()
        return step_norms(dx)


class Part(NamedTuple):
    """The rows of a batch that belong to one series.

    number  of the series
    rows    int64[n] of the batch, ascending
    first   the number of the first of them in the series
    """

    number: int
    rows: Int64
    first: int


class Targets(NamedTuple):
    """n forecast rows, in order.

    batch   ids and columns to keep of the n rows that are forecast
    series  of each
    rows    int64[n]  the number of each row in its series
    steps   int64[n]  rows after the last of its window
    values  float64[n, C]
    """

    batch: RowBatch
    series: Categories
    rows: Int64
    steps: Int64
    values: Float64


def parts_of(numbers: Int64, lengths: dict[int, int]) -> list[Part]:
    """The rows of a batch by series, given the series' number of each row; updates `lengths`, the
    rows of each series so far."""
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    parts = []
    for number, rows in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
        parts.append(Part(number, rows, lengths.get(number, 0)))
        lengths[number] = parts[-1].first + len(rows)
    return parts


class Forecaster(SequenceModel[ForecastState], RowPredictor[ForecastState]):
    """Forecasts the next rows of numeric columns from the rows before them, oldest first.

    A file, a table or an array is one series; a folder of files is one series per file. With
    `series_column` the rows with one value of that column are one series, in the order in which
    they are read, whatever file they are in. No window crosses the end of a series; series too
    short for a window are left out, and counted in `report_`.

    Columns are standardised by mean and standard deviation of the training series; forecasts are
    in the columns' own units. The network predicts the difference from the window's last value.

    Attributes
    ----------
    columns_ : names of the C columns
    history_, report_, gradient_flow_, n_parameters_
    """

    kind: ClassVar[str] = "forecaster"
    estimator_type: ClassVar[str | None] = "regressor"
    inputs: ClassVar[str] = "values"
    columns: ClassVar[Mapping[str, str]] = {"value_columns": "values", "series_column": "series"}
    supervised: ClassVar[bool] = False
    measures: ClassVar[Mapping[str, bool]] = {"loss": False, "rmse": False}
    # of squares, which a single outlier makes large without divergence
    largest_loss: ClassVar[float | None] = None

    window: int = parameter(default=32, check=Whole(1), help="Length of the input window in rows.")
    horizon: int = parameter(default=1, check=Whole(1), help="Number of rows to forecast.")
    hidden: int = 64
    dropout: float = 0.2
    epochs: int = 20
    schedule: str = "cosine"
    clip: float | None = 1.0

    @property
    def columns_(self) -> tuple[str, ...]:
        """Names of the columns, in the order of the forecasts."""
        return self.learned.names

    # ---- prediction and evaluation

    def predict(
        self,
        examples: Any,
        *,
        value_columns: str | Sequence[str] | None = None,
        series_column: str | None = None,
    ) -> Float64:
        """The forecasts at each row of the data, from the window of its series that ends there.

        Returns float64[T, horizon, C], without the last axis for a single column: [t, 0] is the
        forecast of the row after t. It is NaN in the first window - 1 rows of a series. Raises
        DataError for data that cannot be read (a null or NaN: file, row and column).
        """
        reader = self._reader(examples, value_columns, series_column)
        parts = [made for _, _, made in self._forecasts(reader, {})]
        if not parts:
            raise DataError(f"{reader.sources[0].name}: no rows, expected a series")
        return self._without_column(np.concatenate(parts))

    def forecast(
        self,
        examples: Any,
        *,
        value_columns: str | Sequence[str] | None = None,
        series_column: str | None = None,
    ) -> Float64:
        """The rows after the end of a series: float64[horizon, C], without the last axis for a
        single column. Of S series: float64[S, …], in the order in which they begin, NaN for those
        that are shorter than the window.

        Raises DataError if every series is shorter than the window, and as `predict`.
        """
        learned = self.learned
        series = read_series(self._reader(examples, value_columns, series_column))
        ends = series.offsets[1:]
        lengths = np.diff(series.offsets)
        if lengths.max() < learned.window:
            raise DataError(
                f"{series.source}: a series of {lengths.max()} rows, expected at least "
                f"{learned.window}, the window"
            )
        learned.reports["data"] = series.report(learned.window)
        values = learned.scaler.scale(series.values, series.names, series.where)
        after = np.full((len(ends), learned.horizon, len(learned.names)), np.nan)
        whole = lengths >= learned.window
        after[whole] = self._from(values, ends[whole])
        found: Float64 = self._without_column(after if len(after) > 1 else after[0])
        return found

    def predict_batches(
        self,
        data: Any,
        *,
        keep: str | Sequence[str] = (),
        value_columns: str | Sequence[str] | None = None,
        series_column: str | None = None,
        id_column: str | None = None,
    ) -> Predictions:
        """A row for each forecast: Arrow tables, made on demand.

        id          of the row that is forecast (or its number); null beyond the end
        columns to keep, of that row; null beyond the end
        series      the file, or the value of `series_column`; if there can be several
        row         the number, from 0, of that row in its series, also beyond the end
        step        rows after the window's last, from 1 to the horizon
        prediction  the value; several columns have one each, `prediction_` and the column's name

        The rows of a series are forecast in order, each for every step that has a whole window;
        those beyond the end come after the file, or after all files with `series_column`.

        Raises DataError for data that cannot be read, SettingsError for a column to keep that has
        the name of one of these.
        """
        from fastseq.store.predictions import Predictions

        more = {"outputs": True, "keep": keep, "id": id_column}
        reader = self._reader(data, value_columns, series_column, **more)
        columns = self.columns_
        names = ["prediction"] if len(columns) == 1 else [f"prediction_{c}" for c in columns]
        kinds = {} if reader.series_type is None else {"series": reader.series_type}
        kinds |= {"row": "int64", "step": "int64"} | dict.fromkeys(names, "double")

        def found() -> Iterator[tuple[RowBatch, dict[str, Any]]]:
            for targets in self._targets(reader):
                predicted = {name: targets.values[:, i] for i, name in enumerate(names)}
                place = {"series": targets.series, "row": targets.rows, "step": targets.steps}
                yield targets.batch, {k: v for k, v in (place | predicted).items() if k in kinds}

        predictions = Predictions(reader, kinds, found())
        predictions.total = None  # not the number of rows of the data
        return predictions

    def evaluate(
        self,
        examples: Any,
        *,
        value_columns: str | Sequence[str] | None = None,
        series_column: str | None = None,
    ) -> dict[str, float]:
        """{"rmse", "mae", "last_value_rmse", "last_value_mae"} over all windows that are followed
        by a whole horizon, all its steps and columns, in the columns' own units. Raises DataError
        as `predict`, and if every series is shorter than window and horizon together."""
        predicted, expected, last = self._tested(examples, value_columns, series_column)
        errors = predicted - expected
        rmse, mae = float(np.sqrt(np.mean(errors * errors))), float(np.mean(np.abs(errors)))
        return {"rmse": rmse, "mae": mae, "last_value_rmse": last[0], "last_value_mae": last[1]}

    def score(self, examples: Any, y: Any = None) -> float:
        """R², the mean over columns and steps of the horizon: 1 is perfect, 0 that of predicting
        the mean. Raises as `evaluate`."""
        predicted, expected, _ = self._tested(examples, None, None)
        wrong = np.square(predicted - expected).sum(0)
        spread = np.square(expected - expected.mean(0)).sum(0)
        perfect = np.where(wrong == 0, 1.0, 0.0)
        ratios = np.divide(wrong, spread, out=1 - perfect, where=spread > 0)
        return float(np.mean(1 - ratios))

    # ---- forecasts

    def _reader(
        self, examples: Any, value_columns: Any, series_column: Any, **more: Any
    ) -> RowReader:
        learned = self.learned
        columns = self._named_columns(value_columns=value_columns, series_column=series_column)
        reader = self._open(examples, None, columns, fields=learned.fields, **more)
        found, expected = reader.fields.values, learned.names
        if len(found) != len(expected):
            raise DataError(
                f"{reader.sources[0].name}: {len(found)} columns of numbers, "
                f"expected {len(expected)}: {', '.join(expected)}"
            )
        return reader

    def _forecasts(
        self, reader: RowReader, known: dict[Label, int]
    ) -> Iterator[tuple[RowBatch, list[Part], Float64]]:
        """Each batch of rows, its parts by series, and float64[D, horizon, C], the forecasts of the
        rows after each of its rows; adds to `known`, the numbers of the series by key."""
        learned = self.learned
        lengths: dict[int, int] = {}
        before: dict[int, Float32] = {}  # the last window - 1 rows of each series
        for batch in reader.batches():
            assert batch.values is not None
            scaled = learned.scaler.scale(batch.values, reader.fields.values, batch.where)
            parts = parts_of(series_numbers(batch, known), lengths)
            if batch.series is None:  # the previous series ended with its file
                before = {part.number: before[part.number] for part in parts if part.first}
            values: list[Float32] = []
            ends: list[Int64] = []  # the rows after the windows
            rows: list[Int64] = []  # rows of the batch that end a whole window
            at = 0
            for part in parts:
                mine = scaled[part.rows]
                if part.number in before:
                    mine = np.concatenate([before[part.number], mine])
                before[part.number] = mine[max(0, len(mine) - learned.window + 1) :]
                end = np.arange(len(mine) - len(part.rows), len(mine)) + 1
                whole = end >= learned.window
                values.append(mine)
                ends.append(at + end[whole])
                rows.append(part.rows[whole])
                at += len(mine)
            made = np.full((batch.rows, learned.horizon, len(learned.names)), np.nan)
            if len(found := np.concatenate(rows)):
                made[found] = self._from(np.concatenate(values), np.concatenate(ends))
            yield batch, parts, made
        counts = np.array([*lengths.values()], np.int64)
        learned.reports["data"] = series_report(tuple(known), counts, learned.window)

    def _targets(self, reader: RowReader) -> Iterator[Targets]:
        """The forecasts by the row that is forecast; see predict_batches."""
        learned = self.learned
        steps = np.arange(1, learned.horizon + 1)
        made: dict[int, Float64] = {}  # at the last `horizon` rows of each series
        ends: dict[int, tuple[RowBatch, int]] = {}  # the last batch of each series, its length
        known: dict[Label, int] = {}
        names: list[Label] = []  # its keys

        def series(numbers: Int64) -> Categories:
            found, codes = np.unique(numbers, return_inverse=True)
            return Categories(tuple(names[n] for n in found), codes.astype(np.int32))

        def beyond(number: int) -> Iterator[Targets]:
            """The rows after the end of a series."""
            batch, length = ends.pop(number)
            last = made.pop(number)
            i, step = np.nonzero(steps[None, :] > np.arange(learned.horizon)[:, None])
            origin = i - steps[step]  # -1 is the last row
            whole = length + origin >= learned.window - 1
            i, step, origin = i[whole], step[whole], origin[whole]
            if len(i):
                nowhere = batch.take(np.full(len(i), -1))
                values = last[learned.horizon + origin, step]
                where = series(np.full(len(i), number))
                yield Targets(nowhere, where, length + i, steps[step], values)

        for batch, parts, forecasts in self._forecasts(reader, known):
            if batch.series is None:
                for number in [n for n in ends if n != parts[0].number]:
                    yield from beyond(number)
            names += list(known)[len(names) :]
            values = np.empty_like(forecasts)
            rows, numbers = np.empty(batch.rows, np.int64), np.empty(batch.rows, np.int64)
            for part in parts:
                n = len(part.rows)
                nothing = np.full((learned.horizon, *forecasts.shape[1:]), np.nan)
                mine = np.concatenate([made.get(part.number, nothing), forecasts[part.rows]])
                at = learned.horizon + np.arange(n)
                values[part.rows] = mine[at[:, None] - steps, steps - 1]
                rows[part.rows] = part.first + np.arange(n)
                numbers[part.rows] = part.number
                made[part.number] = mine[len(mine) - learned.horizon :]
                ends[part.number] = batch, part.first + n
            row, step = np.nonzero(rows[:, None] - steps >= learned.window - 1)
            where = series(numbers[row])
            yield Targets(batch.take(row), where, rows[row], steps[step], values[row, step])
        for number in list(ends):
            yield from beyond(number)

    def _from(self, scaled: Float32, rows: Int64) -> Float64:
        """float64[B, horizon, C]: the forecasts that begin at the rows int64[B] of scaled values
        float32[T, C], each from `window` to T."""
        learned = self.learned
        before = np.arange(-learned.window, 0)[:, None]
        parts = [
            learned.network.forecast(scaled[rows[i : i + ROWS_AT_ONCE] + before])
            for i in range(0, len(rows), ROWS_AT_ONCE)
        ]
        shaped = np.concatenate(parts).reshape(len(rows), learned.horizon, -1)
        return learned.scaler.unscale(shaped)

    def _tested(
        self, examples: Any, value_columns: Any, series_column: Any
    ) -> tuple[Float64, Float64, tuple[float, float]]:
        """Forecasts and expected values, float64[B, horizon, C], and errors of the last value."""
        learned = self.learned
        series = read_series(self._reader(examples, value_columns, series_column))
        windows = learned.windows(series)
        learned.reports["data"] = series.report(learned.window + learned.horizon)
        rows = windows.starts + learned.window
        expected = series.values[rows[:, None] + np.arange(learned.horizon)]
        last = last_value_errors(series.values, learned.window, learned.horizon, windows.starts)
        return self._from(windows.values, rows), expected, last

    def _without_column(self, values: Float64) -> Float64:
        return values[..., 0] if values.shape[-1] == 1 else values

    # ---- construction

    def _task(
        self, examples: Any, y: Any, valid: Any, columns: Mapping[str, Any], backend: Backend
    ) -> ForecastTask:
        if y is not None:
            raise SettingsError("a forecaster has no targets besides its series: expected no y")
        reader = self._open(examples, None, columns)
        series = read_series(reader)
        learned = self._state(Scaler.of(series), series.names, reader.fields, backend)
        windows = learned.windows(series)
        learned.reports["training"] = series.report(self.window + self.horizon)
        held_out = None
        if valid is not None:
            other = read_series(self._open_valid(valid, columns, reader))
            learned.reports["validation"] = other.report(self.window + self.horizon)
            held_out = learned.windows(other)
        return ForecastTask(learned, windows, held_out, self.batch_size, self.seed)

    def _state(
        self, scaler: Scaler, names: tuple[str, ...], fields: Fields, backend: Backend
    ) -> ForecastState:
        layers = self._recurrent(len(names), False, backend)
        seed = mixed_key(self.seed, 2)
        output = backend.dense(self.hidden, self.horizon * len(names), seed=seed)
        network = ForecastNetwork(layers, output, self.cell, self.dropout, self.horizon, backend)
        return ForecastState(network, fields, scaler, names, self.window, self.horizon)

    def _statistics(self, learned: ForecastState) -> dict[str, Any]:
        return {"scaler": learned.scaler.to_dict(), "columns": list(learned.names)}

    def _files(self, learned: ForecastState) -> dict[str, Content]:
        return {}

    def _rebuilt(self, folder: ModelFolder, backend: Backend) -> ForecastState:
        from fastseq.store.columns import Fields

        saved = folder.statistics
        scaler, names = Scaler.from_dict(saved["scaler"]), tuple(saved["columns"])
        return self._state(scaler, names, Fields.from_dict(saved["fields"]), backend)
