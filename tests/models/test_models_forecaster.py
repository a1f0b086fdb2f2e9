"""Forecaster: what it learns, how it is measured, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fastseq.errors import DataError, FormatError, NotFittedError, SettingsError
from fastseq.models.data.series import Windows
from fastseq.models.forecaster import Forecaster
from fastseq.nn.backend import Backend
from fastseq.threads import Team

SMALL: dict[str, Any] = {"hidden": 8, "window": 6, "epochs": 2, "threads": 1}


def wave(rows: int, columns: int = 1, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Noisy sines of periods 20, 30 …, around 100, in steps of 10."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)[:, None]
    periods = 20 + 10 * np.arange(columns)
    return 100 + 10 * np.sin(2 * np.pi * t / periods) + 0.1 * rng.standard_normal((rows, columns))


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    return Forecaster(hidden=16, window=8, horizon=2, epochs=15, threads=1).fit(
        wave(600)[:, 0], valid=wave(200, seed=1)[:, 0]
    )


def test_sine_wave_forecast_beats_the_last_value(fitted: Forecaster) -> None:
    found = fitted.evaluate(wave(300, seed=2)[:, 0])
    assert list(found) == ["rmse", "mae", "last_value_rmse", "last_value_mae"]
    assert found["rmse"] < 0.3 * found["last_value_rmse"]
    assert found["mae"] < 0.3 * found["last_value_mae"]
    assert 0.99 < fitted.score(wave(300, seed=2)[:, 0]) < 1
    assert fitted.history_ is not None
    losses = fitted.history_.columns["valid_loss"]
    assert len(losses) == 15
    assert losses[-1] < 0.1 * losses[0]


def test_measures_match_the_predictions(fitted: Forecaster) -> None:
    """RMSE, MAE, R² recomputed from `predict`, and the last value by a plain loop."""
    series = wave(80, seed=3)[:, 0]
    forecasts = fitted.predict(series)
    assert forecasts.shape == (80, 2)
    assert np.isnan(forecasts[:7]).all()
    assert np.isfinite(forecasts[7:]).all()
    rows = range(7, 78)
    wanted = np.array([series[t + 1 : t + 3] for t in rows])
    errors = forecasts[7:78] - wanted
    naive = np.array([[series[t], series[t]] for t in rows]) - wanted
    found = fitted.evaluate(series)
    assert found["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert found["mae"] == pytest.approx(np.abs(errors).mean())
    assert found["last_value_rmse"] == pytest.approx(np.sqrt((naive**2).mean()))
    assert found["last_value_mae"] == pytest.approx(np.abs(naive).mean())
    spread = ((wanted - wanted.mean(0)) ** 2).sum(0)
    r2 = np.mean(1 - (errors**2).sum(0) / spread)
    assert fitted.score(series) == pytest.approx(r2)


def test_forecasts_depend_on_their_window_only(fitted: Forecaster) -> None:
    series = wave(40, seed=4)[:, 0]
    whole = fitted.predict(series)
    part = fitted.predict(series[20:35])
    np.testing.assert_allclose(part[7:], whole[27:35], rtol=1e-6)
    changed = series.copy()
    changed[-1] += 5
    np.testing.assert_array_equal(fitted.predict(changed)[:-1], whole[:-1])
    assert abs(fitted.predict(changed)[-1] - whole[-1]).min() > 1
    np.testing.assert_allclose(fitted.forecast(series), whole[-1], rtol=1e-6)


def test_forecasts_scale_with_the_columns() -> None:
    """Another unit and another zero change the forecasts as they change the series."""
    series = wave(120)[:, 0]
    first = Forecaster(**SMALL).fit(series).predict(series)
    second = Forecaster(**SMALL).fit(3 * series - 50).predict(3 * series - 50)
    np.testing.assert_allclose(second, 3 * first - 50, rtol=1e-4)


def test_gradient_matches_finite_differences() -> None:
    """Central differences of the loss along the gradient itself."""

    rng = np.random.default_rng(0)
    values = rng.standard_normal((60, 2)).astype(np.float32)
    model = Forecaster(hidden=16, window=5, horizon=3, threads=1)
    task = model._task(values, None, None, {}, Backend(Team(1)))
    batch = Windows(values, 5, 3, "the series", np.array([0, len(values)])).take(np.arange(20))
    parameters = task.parameters
    parameters.zero_gradients()
    task.learn(batch, 0)
    slope = parameters.gradients.copy()
    norm = float(np.sqrt((slope.astype(np.float64) ** 2).sum()))
    start, losses = parameters.values.copy(), []
    for step in (1e-2, -1e-2):
        parameters.values[...] = start + np.float32(step / norm) * slope
        losses.append(task.learn(batch, 0).loss)
    assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(norm, rel=2e-3)


def test_several_columns_in_parquet(tmp_path: Path) -> None:
    values = wave(200, 2)
    table = pa.table({"id": [f"r{i}" for i in range(200)], "a": values[:, 0], "b": values[:, 1]})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=23)
    model = Forecaster(horizon=3, **SMALL)
    model.fit(tmp_path / "train.parquet", value_columns=["a", "b"], path=tmp_path / "model")
    assert model.columns_ == ("a", "b")
    whole = model.predict(tmp_path / "train.parquet")
    assert whole.shape == (200, 3, 2)
    assert model.forecast(values).shape == (3, 2)

    loaded = Forecaster.load(tmp_path / "model", threads=1)
    assert loaded.get_params() == model.get_params()
    np.testing.assert_array_equal(loaded.predict(values), whole)

    out = tmp_path / "out.parquet"
    assert loaded.predict_file(tmp_path / "train.parquet", out, keep=["a"]) == 195 * 3
    written = pq.read_table(out)
    assert written.column_names == ["id", "a", "row", "step", "prediction_a", "prediction_b"]
    rows = [row for row in written.to_pylist() if row["step"] == 2]
    assert [row["row"] for row in rows] == list(range(7, 202))
    assert [row["id"] for row in rows] == [*table["id"].to_pylist()[7:], None, None]
    assert [row["a"] for row in rows] == [*table["a"].to_pylist()[7:], None, None]
    for i, name in enumerate(("prediction_a", "prediction_b")):
        np.testing.assert_allclose([row[name] for row in rows], whole[5:, 1, i], rtol=1e-6)


def test_batched_forecasts_equal_those_of_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches shorter than the window give what the whole gives."""
    import fastseq.models.forecaster as module
    from fastseq.store.rows import RowReader

    monkeypatch.setattr(module, "ROWS_AT_ONCE", 5)
    model = Forecaster(**SMALL).fit(wave(90)[:, 0])
    whole = model.predict(wave(50, seed=7)[:, 0])[:, 0]
    read = RowReader.batches

    def few(self: RowReader) -> Any:
        from dataclasses import replace

        for batch in read(self):
            assert batch.values is not None
            for row in range(0, batch.rows, 4):
                values = batch.values[row : row + 4]
                first = batch.first_row + row
                yield replace(batch, first_row=first, rows=len(values), values=values)

    monkeypatch.setattr(RowReader, "batches", few)
    table = pa.table({"value": wave(50, seed=7)[:, 0]})
    assert model.predict_file(table, tmp_path / "out.parquet") == 45
    written = pq.read_table(tmp_path / "out.parquet")
    assert written["id"].to_pylist() == [*range(6, 50), None]
    assert written["row"].to_pylist() == list(range(6, 51))
    np.testing.assert_allclose(written["prediction"].to_numpy(), whole[5:], rtol=1e-6)


# ---- several series


SERIES = {"a": wave(40, seed=1)[:, 0], "b": wave(5, seed=2)[:, 0], "c": 3 * wave(31, seed=3)[:, 0]}
SEVERAL: dict[str, Any] = {**SMALL, "horizon": 3}


def files_of(folder: Path) -> Path:
    """A file for each series."""
    folder.mkdir()
    for name, values in SERIES.items():
        pq.write_table(pa.table({"value": values}), folder / f"{name}.parquet", row_group_size=7)
    return folder


def interleaved() -> pa.Table:
    """All series in one table, their rows mixed; `n` is the row's number in its series."""
    keys = np.repeat(list(SERIES), [len(values) for values in SERIES.values()])
    order = np.random.default_rng(5).permutation(len(keys))
    mixed = keys[order]
    seen: dict[str, int] = {}
    numbers = []
    for key in mixed.tolist():
        numbers.append(seen.get(key, 0))
        seen[key] = numbers[-1] + 1
    values = [float(SERIES[key][n]) for key, n in zip(mixed.tolist(), numbers, strict=True)]
    return pa.table({"value": values, "key": mixed.tolist(), "n": numbers})


def windows_of(model: Forecaster, data: Any, **columns: Any) -> set[bytes]:
    """The windows with their horizons that a model trains on, in the columns' own units."""
    task = model._task(data, None, None, model._named_columns(**columns), Backend(Team(1)))
    found = set()
    for batch in task.batches(0):
        both = np.concatenate([batch.inputs[:, :, 0].T, batch.targets], axis=1)
        values = task.learned.scaler.unscale(both[..., None])[..., 0]
        found |= {np.round(window, 3).tobytes() for window in values}
    return found


def test_windows_never_cross_series(tmp_path: Path) -> None:
    model = Forecaster(**SEVERAL)
    needed = model.window + model.horizon
    expected = {
        np.round(values[at : at + needed], 3).tobytes()
        for values in SERIES.values()
        for at in range(len(values) - needed + 1)
    }
    assert len(expected) == 32 + 23
    assert windows_of(model, files_of(tmp_path / "data")) == expected
    assert windows_of(model, interleaved(), value_columns="value", series_column="key") == expected


def test_short_series_are_counted(tmp_path: Path) -> None:
    folder = files_of(tmp_path / "data")
    model = Forecaster(**SEVERAL).fit(folder, valid=folder)
    for part in ("training", "validation"):
        (said,) = model.report_[part].messages()
        assert said.startswith("1 of 3 series have fewer than 9 rows: left out: ")
        assert said.endswith("b.parquet (5)")
    model.evaluate(folder)
    assert model.report_["data"].messages() == [said]
    model.forecast(folder)
    assert "fewer than 6 rows" in model.report_["data"].messages()[0]
    model.predict(folder)
    assert "fewer than 6 rows" in model.report_["data"].messages()[0]
    short = [folder / "b.parquet"] * 2
    with pytest.raises(DataError, match=r"b\.parquet: a series of 5 rows, expected at least 9"):
        Forecaster(**SEVERAL).fit(short)
    table = interleaved()
    table = table.filter(pc.less(table["n"], 5))
    with pytest.raises(DataError, match="3 series of at most 5 rows, expected at least 9"):
        Forecaster(**SEVERAL).fit(table, value_columns="value", series_column="key")


def test_files_and_a_series_column_train_the_same(tmp_path: Path) -> None:
    files = Forecaster(**SEVERAL).fit(files_of(tmp_path / "data"))
    order = pa.concat_tables(
        [pa.table({"key": [name] * len(v), "value": v}) for name, v in SERIES.items()]
    )
    column = Forecaster(**SEVERAL).fit(order, value_columns="value", series_column="key")
    np.testing.assert_array_equal(files.predict(SERIES["a"]), column.predict(SERIES["a"]))


def test_measures_equal_those_of_each_series(fitted: Forecaster, tmp_path: Path) -> None:
    folder = files_of(tmp_path / "data")
    squares, absolutes, last = [], [], []
    for values in (SERIES["a"], SERIES["c"]):
        made = fitted.predict(values)
        for at in range(fitted.window - 1, len(values) - fitted.horizon):
            come = values[at + 1 : at + 1 + fitted.horizon]
            squares.append((made[at] - come) ** 2)
            absolutes.append(np.abs(made[at] - come))
            last.append((values[at] - come) ** 2)
    found = fitted.evaluate(folder)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(squares)))
    assert found["mae"] == pytest.approx(np.mean(absolutes))
    assert found["last_value_rmse"] == pytest.approx(np.sqrt(np.mean(last)))
    assert found == pytest.approx(
        fitted.evaluate(interleaved(), value_columns="value", series_column="key")
    )
    after = fitted.forecast(folder)
    assert after.shape == (3, fitted.horizon)
    assert np.isnan(after[1]).all()
    np.testing.assert_allclose(after[2], fitted.forecast(SERIES["c"]), rtol=1e-6)


def expected_targets(model: Forecaster) -> dict[tuple[str, int, int], float]:
    """{(series, row that the value is for, step): value}, one series after the other."""
    return {
        (name, origin + step, step): made[origin, step - 1]
        for name, values in SERIES.items()
        for made in [model.predict(values)]
        for origin in range(model.window - 1, len(values))
        for step in range(1, model.horizon + 1)
    }


def test_predictions_name_their_target_row(fitted: Forecaster, tmp_path: Path) -> None:
    expected = expected_targets(fitted)
    folder = files_of(tmp_path / "data")
    fitted.predict_file(folder, tmp_path / "out.parquet", keep="value")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert list(rows[0]) == ["id", "value", "series", "row", "step", "prediction"]
    for row in rows:
        name = Path(row["series"]).stem
        values = SERIES[name].tolist()
        assert row["prediction"] == pytest.approx(expected[name, row["row"], row["step"]])
        there = row["row"] < len(values)
        assert row["value"] == (values[row["row"]] if there else None)
        first = {"a": 0, "b": 40, "c": 45}[name]
        assert row["id"] == (first + row["row"] if there else None)
    found = [(Path(row["series"]).stem, row["row"], row["step"]) for row in rows]
    assert found == sorted(expected), "file by file, row by row, step by step"

    column: dict[str, Any] = {"value_columns": "value", "series_column": "key", "id_column": "n"}
    (tmp_path / "cut").mkdir()  # a series continues in the next file and batch
    for at in range(0, 76, 19):
        part = interleaved().slice(at, 19)
        pq.write_table(part, tmp_path / "cut" / f"{at:02}.parquet", row_group_size=5)
    fitted.predict_file(tmp_path / "cut", tmp_path / "mixed.parquet", keep="value", **column)
    rows = pq.read_table(tmp_path / "mixed.parquet").to_pylist()
    assert len(rows) == len(expected)
    for row in rows:
        values = SERIES[row["series"]].tolist()
        wanted = expected[row["series"], row["row"], row["step"]]
        assert row["prediction"] == pytest.approx(wanted)
        there = row["row"] < len(values)
        assert row["id"] == (row["row"] if there else None)
        assert row["value"] == (values[row["row"]] if there else None)


def test_unusable_series_column_is_rejected(fitted: Forecaster) -> None:
    table = pa.table({"value": wave(20)[:, 0], "key": [1.5] * 20, "gap": ["a", None] * 10})
    with pytest.raises(DataError, match="the series column 'key' is double, expected strings"):
        fitted.predict(table, series_column="key")
    with pytest.raises(DataError, match=r"row 1 .from 0.: the series in column 'gap' is null"):
        fitted.predict(table, series_column="gap")
    steps = pa.table({"value": wave(20)[:, 0], "step": range(20)})
    with pytest.raises(SettingsError, match="'step' cannot be kept"):
        fitted.predict_batches(steps, keep="step", value_columns="value")


def test_resumed_training_keeps_its_series(tmp_path: Path) -> None:
    together = pa.concat_tables([pa.table({"value": values}) for values in SERIES.values()])
    one = Forecaster(**SEVERAL)._task(together, None, None, {}, Backend(Team(1)))
    folder = files_of(tmp_path / "data")
    several = Forecaster(**SEVERAL)._task(folder, None, None, {}, Backend(Team(1)))
    assert one.fingerprint()["checksums"] == several.fingerprint()["checksums"]
    assert one.fingerprint() != several.fingerprint()


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells_stacked_with_dropout(cell: str) -> None:
    series = wave(150)[:, 0]
    model = Forecaster(cell=cell, layers=2, dropout=0.2, recurrent_dropout=0.1, **SMALL)
    first = model.fit(series).predict(series)
    again = Forecaster(**model.get_params()).fit(series).predict(series)
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(first[5:]).all()


def test_results_do_not_depend_on_threads() -> None:
    series = wave(150)[:, 0]
    settings = {**SMALL, "hidden": 64, "batch_size": 64}
    one = Forecaster(**settings).fit(series)
    two = Forecaster(**{**settings, "threads": 2}).fit(series)
    np.testing.assert_array_equal(one.predict(series), two.predict(series))


def test_gradient_flow_fades_in_a_plain_network() -> None:
    model = Forecaster(cell="rnn", hidden=8, window=12, epochs=1, threads=1)
    model.fit(wave(100)[:, 0], gradient_flow=True)
    flow = model.gradient_flow_
    assert list(flow) == ["before training", "epoch 1"]
    assert all(norms.shape == (12,) and (norms > 0).all() for norms in flow.values())
    assert flow["before training"][-1] < 0.5 * flow["before training"][0]


def test_nan_is_named(tmp_path: Path) -> None:
    values = wave(50)[:, 0]
    values[31] = np.nan
    pq.write_table(pa.table({"x": values}), tmp_path / "nan.parquet")
    with pytest.raises(DataError, match=r"nan\.parquet: row 31 .*'x' is nan"):
        Forecaster(**SMALL).fit(tmp_path / "nan.parquet")
    model = Forecaster(**SMALL).fit(pa.table({"x": wave(50)[:, 0]}))
    for use in (model.predict, model.forecast, model.evaluate):
        with pytest.raises(DataError, match="row 31"):
            use(tmp_path / "nan.parquet")
    with pytest.raises(DataError, match="row 31"):
        model.predict_file(tmp_path / "nan.parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_unscalable_value_is_named(fitted: Forecaster, tmp_path: Path) -> None:
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    values = wave(30)[:, 0]
    pq.write_table(pa.table({"value": values}), first)
    values[11] = 1e300
    pq.write_table(pa.table({"value": values}), second)
    said = r"b\.parquet: row 11 \(from 0\): the number in column 'value' is 1e\+300, expected"
    for use in (
        fitted.predict,
        fitted.forecast,
        fitted.evaluate,
        lambda data: fitted.predict_file(data, tmp_path / "out.parquet"),
        lambda data: Forecaster(**SMALL).fit(first, valid=data),
    ):
        with pytest.raises(DataError, match=said):
            use([first, second])


def test_spike_is_not_a_divergence() -> None:
    """Scaled, one far value of n rows has a square of n, here the loss of the only window."""
    values = np.zeros(12_001)
    values[-1] = 1.0
    model = Forecaster(hidden=2, window=12_000, epochs=1, threads=1).fit(values)
    assert model.history_ is not None
    assert model.history_.columns["train_loss"][0] > 1e4
    assert np.isfinite(model.forecast(values)).all()


def test_the_series_is_not_overwritten(fitted: Forecaster, tmp_path: Path) -> None:
    path = tmp_path / "series.parquet"
    pq.write_table(pa.table({"value": wave(30)[:, 0]}), path)
    before = path.read_bytes()
    with pytest.raises(SettingsError, match=r"series\.parquet: is also an input"):
        fitted.predict_file(path, path)
    assert path.read_bytes() == before


def test_too_short_data_is_rejected(fitted: Forecaster) -> None:
    short = wave(9)[:, 0]
    with pytest.raises(DataError, match="9 rows, expected at least 10"):
        Forecaster(window=8, horizon=2, threads=1).fit(short)
    with pytest.raises(DataError, match="9 rows, expected at least 10"):
        Forecaster(window=8, horizon=2, threads=1).fit(wave(50)[:, 0], valid=short)
    with pytest.raises(DataError, match="9 rows, expected at least 10"):
        fitted.evaluate(short)
    with pytest.raises(DataError, match="7 rows, expected at least 8"):
        fitted.forecast(short[:7])
    assert np.isnan(fitted.predict(short[:7])).all()


def test_too_short_series_is_named(fitted: Forecaster, tmp_path: Path) -> None:
    long, short = tmp_path / "long.parquet", tmp_path / "short.parquet"
    pq.write_table(pa.table({"value": wave(50)[:, 0]}), long)
    pq.write_table(pa.table({"value": wave(7)[:, 0]}), short)
    new = Forecaster(window=8, horizon=2, threads=1)
    for use in (
        lambda: new.fit(short),
        lambda: new.fit(long, valid=short),
        lambda: fitted.evaluate(short),
        lambda: fitted.score(short),
        lambda: fitted.forecast(short),
    ):
        with pytest.raises(DataError, match=r"short\.parquet: a series of 7 rows, expected at"):
            use()
    empty = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"value": pa.array([], pa.float64())}), empty)
    with pytest.raises(DataError, match=r"short\.parquet and 1 more: a series of 7 rows"):
        new.fit([short, empty])


def test_other_columns(fitted: Forecaster) -> None:
    with pytest.raises(DataError, match="2 columns of numbers, expected 1"):
        fitted.predict(wave(30, 2))
    table = pa.table({"a": wave(60)[:, 0], "b": wave(60)[:, 0]})
    model = Forecaster(**SMALL).fit(table, value_columns=["a", "b"])
    with pytest.raises(DataError, match="'b'"):
        model.evaluate(table.drop_columns(["b"]))
    with pytest.raises(DataError, match="'b'"):
        Forecaster(**SMALL).fit(table, value_columns="b", valid=table.drop_columns(["b"]))


def test_constant_series_is_forecast() -> None:
    model = Forecaster(**SMALL).fit(np.full(60, 7.5))
    assert model.forecast(np.full(20, 7.5))[0] == pytest.approx(7.5, abs=0.2)


def test_wrong_settings_are_rejected(fitted: Forecaster) -> None:
    for name in ("window", "horizon"):
        with pytest.raises(SettingsError, match=name):
            Forecaster(**{**SMALL, name: 0}).fit(wave(50)[:, 0])
    with pytest.raises(SettingsError, match="no y"):
        Forecaster(**SMALL).fit(wave(50)[:, 0], np.zeros(50))
    with pytest.raises(NotFittedError):
        Forecaster().predict(wave(50)[:, 0])
    with pytest.raises(SettingsError, match="text_column"):
        Forecaster(**SMALL).fit(wave(50)[:, 0], text_column="x")


def test_damaged_weights_are_rejected(tmp_path: Path) -> None:
    Forecaster(**SMALL).fit(wave(60)[:, 0], path=tmp_path / "model")
    weights = tmp_path / "model" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(FormatError, match=r"weights\.safetensors"):
        Forecaster.load(tmp_path / "model")
