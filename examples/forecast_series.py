"""Forecast a series with an LSTM and compare it with the forecast that repeats the last value."""

from __future__ import annotations

import numpy as np

import fastseq

steps = np.arange(1200)
noise = np.random.default_rng(0).normal(0, 0.05, len(steps))
series = np.sin(steps / 8) + 0.5 * np.sin(steps / 31) + noise
train, test = series[:1000], series[1000:]

model = fastseq.Forecaster(window=32, hidden=32, epochs=10, learning_rate=0.01, seed=1)
model.fit(train)
print({name: round(value, 4) for name, value in model.evaluate(test).items()})
print("the next value:", model.predict(test)[-1])
