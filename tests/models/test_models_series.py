"""Windows of numeric columns, their scale, and the last-value forecast."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, FormatError
from fastseq.models.data.series import (
    Scaler,
    Series,
    Windows,
    last_value_errors,
    read_series,
)
from fastseq.store.in_memory import as_source
from fastseq.store.rows import open_rows


def series(*columns: list[float]) -> Series:
    values = np.array(columns, np.float64).T.copy()
    names = tuple(f"c{i}" for i in range(len(columns)))
    return Series(values, names, "the series", np.array([0, len(values)]), ("s",), row_of)


def row_of(row: int) -> str:
    return f"row {row} (from 0)"


def windows_of(values: np.ndarray, window: int, horizon: int) -> Windows:
    return Windows(values, window, horizon, "the series", np.array([0, len(values)]))


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_windows_match_a_plain_loop(steps: int, columns: int, window: int, horizon: int) -> None:
    values = np.arange(steps * columns, dtype=np.float32).reshape(steps, columns)
    if steps < window + horizon:
        with pytest.raises(DataError, match=f"expected at least {window + horizon}"):
            windows_of(values, window, horizon)
        return
    windows = windows_of(values, window, horizon)
    batches = list(windows.in_order(3))
    starts = windows.starts.tolist()
    assert starts == list(range(steps - window - horizon + 1))
    at = iter(starts)
    assert len(windows) == len(starts)
    for batch in batches:
        assert batch.inputs.shape == (window, len(batch.targets), columns)
        assert batch.inputs.flags.c_contiguous
        assert batch.targets.dtype == np.float32
        for b in range(len(batch.targets)):
            start = next(at)
            after = values[start + window : start + window + horizon]
            assert np.array_equal(batch.inputs[:, b], values[start : start + window])
            assert np.array_equal(batch.targets[b], after.reshape(-1))
    wrong = np.array(
        [values[s + window : s + window + horizon] - values[s + window - 1] for s in starts],
        np.float64,
    )
    rmse, mae = last_value_errors(values.astype(np.float64), window, horizon, windows.starts)
    assert rmse == pytest.approx(np.sqrt(np.mean(wrong**2)))
    assert mae == pytest.approx(np.mean(np.abs(wrong)))


def test_epoch_has_every_window_once() -> None:
    windows = windows_of(np.arange(50, dtype=np.float32)[:, None], 4, 2)

    def order(epoch: int, seed: int = 1) -> list[int]:
        found = [b.inputs[0, :, 0] for b in windows.epoch(epoch, 8, seed)]
        return np.concatenate(found).tolist()

    assert sorted(order(0)) == list(range(45))
    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0) != order(0, seed=2)


def test_standardisation_is_invertible() -> None:
    data = series([1.0, 2.0, 3.0, 6.0], [7.0] * 4, [0.1] * 4, [1e9, 1e9 + 1, 1e9, 1e9 + 1])
    scaler = Scaler.of(data)
    assert scaler.std[1] == scaler.std[2] == 1.0
    assert scaler.std[3] == pytest.approx(0.5)
    scaled = scaler.scale(data.values, data.names, data.where)
    assert scaled.dtype == np.float32
    assert scaled[:, 0].mean() == pytest.approx(0, abs=1e-6)
    assert scaled[:, 0].std() == pytest.approx(1, abs=1e-6)
    assert np.all(np.abs(scaled[:, 1:3]) < 1e-6)
    assert np.allclose(scaler.unscale(scaled), data.values, rtol=1e-6)
    horizon = scaled.reshape(2, 8)  # two steps of four columns
    assert np.allclose(scaler.unscale(horizon), data.values.reshape(2, 8), rtol=1e-6)
    again = Scaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert np.array_equal(again.mean, scaler.mean)
    assert np.array_equal(again.std, scaler.std)
    with pytest.raises(DataError, match="expected 4 columns"):
        scaler.scale(data.values[:, :2], data.names, data.where)


def test_unscalable_value_is_named(tmp_path: Path) -> None:
    scaler = Scaler.of(series([1.0, 3.0], [10.0, 30.0]))
    assert np.isfinite(scaler.scale(np.array([[1e38, 1e39]]), ("a", "b"), row_of)).all()
    with pytest.raises(DataError, match=r"^row 1 \(from 0\): the number in column 'b' is 1e\+300"):
        scaler.scale(np.array([[1.0, 2.0], [3.0, 1e300]]), ("a", "b"), row_of)
    for n, values in enumerate(([1.0] * 3, [], [2.0, -1e200])):
        column = pa.array(values, pa.float64())
        pq.write_table(pa.table({"a": column, "b": column}), tmp_path / f"{n}.parquet")
    found = read_series(open_rows(tmp_path, "values", values=["b", "a"]))
    assert found.where(2).endswith("0.parquet: row 2 (from 0)")
    assert found.where(3).endswith("2.parquet: row 0 (from 0)")
    with pytest.raises(
        DataError,
        match=r"2\.parquet: row 1 \(from 0\): the number in column 'b' is -1e\+200, "
        r"expected one within 3\.4e\+38 of the training series' mean, 2:",
    ):
        scaler.scale(found.values, found.names, found.where)


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"mean": [1.0], "std": [0.0]},
        {"mean": [1.0], "std": [1.0, 2.0]},
        {"mean": "x", "std": 1},
    ],
)
def test_damaged_scaler_is_rejected(saved: dict[str, object]) -> None:
    with pytest.raises(FormatError, match="the saved scaler is damaged"):
        Scaler.from_dict(saved)


def test_series_are_read_from_parquet_and_arrays(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    table = pa.table({"month": ["a", "b", "c"], "x": [1, 2, 3], "y": [0.5, 1.5, 2.5]})
    pq.write_table(table, path)
    found = read_series(open_rows(path, "values", values=["y", "x"]))
    assert found.names == ("y", "x")
    assert found.values.tolist() == [[0.5, 1.0], [1.5, 2.0], [2.5, 3.0]]
    with pytest.raises(DataError, match="cannot tell which column is the value"):
        open_rows(path, "values")
    numbers = np.arange(6, dtype=np.float32)
    found = read_series(open_rows(as_source(numbers, inputs="values"), "values"))
    assert len(found.values) == 6
    source = as_source(numbers.reshape(3, 2), inputs="values")
    both = read_series(open_rows(source, "values"))
    assert both.names == ("value_0", "value_1")
    assert both.values.tolist() == numbers.reshape(3, 2).tolist()
    empty = as_source(np.zeros(0), inputs="values")
    with pytest.raises(DataError, match="no rows"):
        read_series(open_rows(empty, "values"))
