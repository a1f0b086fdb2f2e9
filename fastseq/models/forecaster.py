"""Forecaster: the next values of one or several series of numbers.

model = Forecaster(window=48, horizon=3)
model.fit("sunspots_before_1980.parquet", value_columns="sunspots")
model.forecast("sunspots_before_1990.parquet")     # float64[3], what comes after the last row
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.estimator import Whole, parameter
from fastseq.models.base import SequenceModel, recurrent
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.series import (
    Scaler,
    Series,
    last_value_errors,
    read_series,
    windows_before,
)
from fastseq.models.folder import Content, ModelFolder
from fastseq.models.forecast_network import ForecastNetwork, ForecastState, ForecastTask
from fastseq.models.prediction import RowPredictor
from fastseq.nn.backend import Backend
from fastseq.seeds import mixed_key
from fastseq.types import Float32, Float64, Int64

if TYPE_CHECKING:
    from fastseq.store.columns import Fields
    from fastseq.store.examples import RowBatch, RowReader
    from fastseq.store.predictions import Predictions

ROWS_AT_ONCE = 4096  # forecasts made side by side


class Forecaster(SequenceModel[ForecastState], RowPredictor):
    """Forecasts the next rows of numeric columns from the rows before them, oldest first.

    Columns are standardised by mean and standard deviation of the training series; forecasts are
    in the columns' own units. What the network gives is added to the last value it has seen, so
    that it learns the change.

    Attributes
    ----------
    columns_ : names of the C columns
    history_, report_, gradient_flow_, n_parameters_
    """

    kind: ClassVar[str] = "forecaster"
    estimator_type: ClassVar[str | None] = "regressor"
    inputs: ClassVar[str] = "values"
    columns: ClassVar[Mapping[str, str]] = {"value_columns": "values"}
    supervised: ClassVar[bool] = False
    measures: ClassVar[Mapping[str, bool]] = {"loss": False, "rmse": False}
    # of squares, which one far value makes as large as there are rows, and no sign of divergence
    largest_loss: ClassVar[float | None] = None

    window: int = parameter(
        default=32, check=Whole(1), help="Length of the input window in rows."
    )
    horizon: int = parameter(default=1, check=Whole(1), help="Number of rows to forecast.")
    hidden: int = 64
    dropout: float = 0.2
    epochs: int = 20
    schedule: str = "cosine"
    clip: float | None = 1.0

    # ---- what was learned

    @property
    def columns_(self) -> tuple[str, ...]:
        """Names of the columns, in the order of the forecasts."""
        return self.learned.names

    # ---- using

    def predict(
        self, examples: Any, *, value_columns: str | Sequence[str] | None = None
    ) -> Float64:
        """The forecast made at each row of a series from the window that ends with it.

        Returns float64[T, horizon, C], without the last axis for a single column: [t, 0] is the
        forecast of row t + 1. It is NaN in the first window - 1 rows (null where predictions are
        tables, in `predict_batches` and `predict_file`).

        Raises DataError for data that cannot be read (a null or NaN: file, row and column).
        """
        reader = self._reader(examples, value_columns)
        parts = [found for _, found in self._forecasts(reader)]
        if not parts:
            raise DataError(f"{reader.sources[0].name}: no rows, expected a series")
        return self._without_column(np.concatenate(parts))

    def forecast(
        self, examples: Any, *, value_columns: str | Sequence[str] | None = None
    ) -> Float64:
        """float64[horizon, C], or float64[horizon] for a single column: what comes after the end
        of a series.

        Raises DataError for a series shorter than the window, and as `predict`.
        """
        learned = self.learned
        series = read_series(self._reader(examples, value_columns))
        if len(series) < learned.window:
            raise DataError(
                f"{series.source}: a series of {len(series)} rows, expected at least "
                f"{learned.window}, the window"
            )
        values = learned.scaler.scale(series.values, series.names, series.where)
        after: Float64 = self._without_column(self._from(values, np.array([len(values)])))[0]
        return after

    def predict_batches(
        self,
        data: Any,
        *,
        keep: str | Sequence[str] = (),
        value_columns: str | Sequence[str] | None = None,
        id_column: str | None = None,
    ) -> Predictions:
        """`id`, the columns to keep and `prediction` of every row: Arrow tables, each made when it
        is asked for.

        `prediction` is what `predict` gives for the row: a number, or a list where the horizon is
        longer than 1, and null in the first window - 1 rows. Several columns have one each,
        `prediction_` and the column's name.

        Raises DataError for data that cannot be read, SettingsError for a column to keep that has
        the name of a predicted one.
        """
        from fastseq.store.predictions import Predictions

        reader = self._reader(data, value_columns, outputs=True, keep=keep, id=id_column)
        columns = self.columns_
        names = ["prediction"] if len(columns) == 1 else [f"prediction_{c}" for c in columns]
        horizon = self.learned.horizon
        kind = "double" if horizon == 1 else "list<double>"

        def found() -> Iterator[tuple[RowBatch, dict[str, Any]]]:
            for rows, forecasts in self._forecasts(reader):
                one = forecasts[:, 0] if horizon == 1 else forecasts
                yield rows, {name: one[..., i] for i, name in enumerate(names)}

        return Predictions(reader, dict.fromkeys(names, kind), found())

    def evaluate(
        self, examples: Any, *, value_columns: str | Sequence[str] | None = None
    ) -> dict[str, float]:
        """{"rmse", "mae", "last_value_rmse", "last_value_mae"} over all windows of a series that
        a whole horizon follows, all its steps and columns, in the columns' own units.

        Raises DataError for a series shorter than window and horizon together, and as `predict`.
        """
        predicted, expected, series = self._tested(examples, value_columns)
        errors = predicted - expected
        learned = self.learned
        rmse, mae = last_value_errors(series.values, learned.window, learned.horizon)
        return {
            "rmse": float(np.sqrt(np.mean(errors * errors))),
            "mae": float(np.mean(np.abs(errors))),
            "last_value_rmse": rmse,
            "last_value_mae": mae,
        }

    def score(self, examples: Any, y: Any = None) -> float:
        """R², the mean over columns and steps of the horizon: 1 is perfect, 0 what the mean of the
        series would reach. Raises as `evaluate`."""
        predicted, expected, _ = self._tested(examples, None)
        wrong = np.square(predicted - expected).sum(0)
        spread = np.square(expected - expected.mean(0)).sum(0)
        perfect = np.where(wrong == 0, 1.0, 0.0)
        ratios = np.divide(wrong, spread, out=1 - perfect, where=spread > 0)
        return float(np.mean(1 - ratios))

    # ---- forecasts

    def _reader(self, examples: Any, value_columns: Any, **more: Any) -> RowReader:
        learned = self.learned
        columns = self._named_columns(value_columns=value_columns)
        reader = self._open(examples, None, columns, fields=learned.fields, **more)
        found, expected = reader.fields.values, learned.names
        if len(found) != len(expected):
            raise DataError(
                f"{reader.sources[0].name}: {len(found)} columns of numbers, "
                f"expected {len(expected)}: {', '.join(expected)}"
            )
        return reader

    def _forecasts(self, reader: RowReader) -> Iterator[tuple[RowBatch, Float64]]:
        """Each batch of rows with float64[D, horizon, C], the forecasts made at them."""
        learned = self.learned
        report = learned.reports["data"] = ReadReport()
        before = np.zeros((0, len(learned.names)), np.float32)
        for batch in reader.batches():
            assert batch.values is not None
            scaled = learned.scaler.scale(batch.values, reader.fields.values, batch.where)
            values = np.concatenate([before, scaled])
            ends = np.arange(len(before), len(values)) + 1  # a row behind the one that is last seen
            whole = ends[ends >= learned.window]
            out = np.full((batch.rows, learned.horizon, len(learned.names)), np.nan)
            if len(whole):
                out[len(ends) - len(whole) :] = self._from(values, whole)
            before = values[max(0, len(values) - learned.window + 1) :]
            report.rows += batch.rows
            yield batch, out

    def _from(self, scaled: Float32, rows: Int64) -> Float64:
        """float64[B, horizon, C]: the forecasts of what begins at the rows."""
        learned = self.learned
        parts = [
            learned.network.forecast(windows_before(scaled, learned.window, rows[i:j]))
            for i, j in ((i, i + ROWS_AT_ONCE) for i in range(0, len(rows), ROWS_AT_ONCE))
        ]
        shaped = np.concatenate(parts).reshape(len(rows), learned.horizon, -1)
        return learned.scaler.unscale(shaped)

    def _tested(self, examples: Any, value_columns: Any) -> tuple[Float64, Float64, Series]:
        """Forecasts and what came, float64[B, horizon, C], and the series."""
        learned = self.learned
        series = read_series(self._reader(examples, value_columns))
        learned.reports["data"] = ReadReport(rows=len(series))
        windows = learned.windows(series)
        rows = np.arange(len(windows)) + learned.window
        expected = series.values[rows[:, None] + np.arange(learned.horizon)]
        return self._from(windows.values, rows), expected, series

    def _without_column(self, values: Float64) -> Float64:
        return values[..., 0] if values.shape[-1] == 1 else values

    # ---- making

    def _task(
        self, examples: Any, y: Any, valid: Any, columns: Mapping[str, Any], backend: Backend
    ) -> ForecastTask:
        if y is not None:
            raise SettingsError("a forecaster has no targets beside its series: expected no y")
        reader = self._open(examples, None, columns)
        series = read_series(reader)
        learned = self._state(Scaler.of(series), series.names, reader.fields, backend)
        windows = learned.windows(series)
        learned.reports["training"] = ReadReport(rows=len(series))
        held_out = None
        if valid is not None:
            other = read_series(self._open_valid(valid, columns, reader))
            learned.reports["validation"] = ReadReport(rows=len(other))
            held_out = learned.windows(other)
        return ForecastTask(learned, windows, held_out, self.batch_size, self.seed)

    def _state(
        self, scaler: Scaler, names: tuple[str, ...], fields: Fields, backend: Backend
    ) -> ForecastState:
        layers = recurrent(self, len(names), False, backend)
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
