"""The adding problem: which recurrent layers learn to remember over 100 steps.

    python -m bench.adding --seeds 5         # LSTM and GRU below 0.01, the plain network not
    python -m bench.adding --cells lstm --length 400 --steps 8000

A sequence has two numbers at each step: one uniform in [0, 1), and a marker. Two steps are marked,
one in each half; the target, after the last step, is the sum of their numbers (Hochreiter and
Schmidhuber 1997, section 5.4; in this form Arjovsky, Shah and Bengio 2016). Always answering 1 has
a mean squared error of 0.167, the variance of the sum. Every step draws a fresh batch, so nothing
can be memorised; the error is that over 2,000 new sequences.

PyTorch starts from the same weights and sees the same batches, rates and clipping.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from bench.common.harness import seconds_of
from bench.common.report import Parser, Report, optional
from fastseq.nn import GRU, LSTM, RNN
from fastseq.nn.layer import joined
from fastseq.nn.layers import Dense
from fastseq.nn.losses import mean_squared_error
from fastseq.nn.optimisers import Adam, clip_norm
from fastseq.nn.schedules import Cosine
from fastseq.threads import Team
from fastseq.types import Float32

CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
SOLVED = 0.01
HELD_OUT = 2_000
EVERY = 250  # steps between two evaluations


@dataclass(frozen=True)
class Result:
    """One training.

    error   mean squared error over the held-out sequences, at the end
    steps   after how many of them it was first below SOLVED; None: never
    """

    error: float
    steps: int | None


def draw(rng: np.random.Generator, length: int, count: int) -> tuple[Float32, Float32]:
    """(x float32[T, B, 2], answers float32[B, 1])."""
    numbers = rng.random((length, count), np.float32)
    rows = np.arange(count)
    half = length // 2
    first, second = rng.integers(0, half, count), rng.integers(half, length, count)
    marks = np.zeros_like(numbers)
    marks[first, rows] = marks[second, rows] = 1
    answers = numbers[first, rows] + numbers[second, rows]
    return np.stack([numbers, marks], axis=2), answers[:, None]


class Side(Protocol):
    """One recurrent layer and a dense layer on its last step."""

    def learn(self, x: Float32, answers: Float32, rate: float) -> None:
        """One step of Adam."""

    def measure(self, x: Float32, answers: Float32) -> float:
        """The mean squared error."""


class Ours:
    """fastseq's layers."""

    def __init__(self, cell: str, seed: int, options: argparse.Namespace) -> None:
        self.team = Team(options.threads)
        self.recurrent = CELLS[cell](2, options.hidden, seed=seed, team=self.team)
        self.output = Dense(options.hidden, 1, seed=seed, team=self.team)
        self.parameters = joined({cell: self.recurrent, "output": self.output})
        self.optimiser = Adam(self.parameters, options.learning_rate, team=self.team)
        self.clip = options.clip

    def learn(self, x: Float32, answers: Float32, rate: float) -> None:
        self.parameters.zero_gradients()
        y, _ = self.recurrent.forward(x)
        out = self.output.forward(y[-1])
        mean_squared_error(out, answers)  # overwrites `out` with the gradient
        dy = np.zeros_like(y)
        dy[-1] = self.output.backward(out)
        self.recurrent.backward(dy)
        clip_norm(self.parameters, self.clip, self.team)
        self.optimiser.step(rate)

    def measure(self, x: Float32, answers: Float32) -> float:
        y, _ = self.recurrent.forward(x, training=False)
        out = self.output.forward(y[-1], training=False)
        return mean_squared_error(out, answers, want_gradient=False)


class PyTorch:
    """The same layers in PyTorch, from the same weights."""

    def __init__(self, cell: str, seed: int, options: argparse.Namespace) -> None:
        import torch

        self.torch = torch
        kind = getattr(torch.nn, cell.upper())
        self.recurrent: Any = kind(2, options.hidden)
        self.output = torch.nn.Linear(options.hidden, 1)
        ours = Ours(cell, seed, options)
        for module, layer in ((self.recurrent, ours.recurrent), (self.output, ours.output)):
            state = {name: torch.from_numpy(v) for name, v in layer.state_dict().items()}
            module.load_state_dict(state)
        self.weights = [*self.recurrent.parameters(), *self.output.parameters()]
        self.optimiser = torch.optim.Adam(self.weights, options.learning_rate)
        self.clip = options.clip

    def loss(self, x: Float32, answers: Float32) -> Any:
        y, _ = self.recurrent(self.torch.from_numpy(x))
        wanted = self.torch.from_numpy(answers)
        return self.torch.nn.functional.mse_loss(self.output(y[-1]), wanted)

    def learn(self, x: Float32, answers: Float32, rate: float) -> None:
        self.optimiser.param_groups[0]["lr"] = rate
        self.optimiser.zero_grad()
        self.loss(x, answers).backward()
        self.torch.nn.utils.clip_grad_norm_(self.weights, self.clip)
        self.optimiser.step()

    def measure(self, x: Float32, answers: Float32) -> float:
        with self.torch.inference_mode():
            return float(self.loss(x, answers))


def run(side: Side, seed: int, options: argparse.Namespace) -> Result:
    """Train one side; every seed has its own batches."""
    schedule = Cosine(options.learning_rate)
    rng = np.random.default_rng(seed + 1)
    held_out = draw(np.random.default_rng(seed + 2), options.length, HELD_OUT)
    solved, error = None, math.nan
    for step in range(options.steps):
        side.learn(*draw(rng, options.length, options.batch), schedule(step, options.steps))
        if (step + 1) % EVERY == 0 or step + 1 == options.steps:
            error = side.measure(*held_out)
            if solved is None and error < SOLVED:
                solved = step + 1
    return Result(error, solved)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("adding", options, ("torch",))
    sides: dict[str, Any] = {"fastseq": Ours}
    if optional("torch") is not None:
        sides["PyTorch"] = PyTorch
    print(f"the adding problem, {options.length} steps; always answering 1 has an error of 0.167")
    errors = "errors".rjust(9 * options.seeds)
    print(f"{'cell':6}{'':10}{errors}{'all solved at':>15}{'seconds':>9}")
    for cell in options.cells:
        found: dict[str, list[Result]] = {side: [] for side in sides}
        spent: dict[str, list[float]] = {side: [] for side in sides}
        for seed in range(options.seeds):
            for name, side in sides.items():
                work = partial(run, side(cell, seed, options), seed, options)
                result, seconds = seconds_of(work)
                found[name].append(result)
                spent[name].append(seconds)
        for name, results in found.items():
            steps = [result.steps for result in results]
            slowest = "never" if None in steps else f"{max(filter(None, steps)):,} steps"
            errors = "".join(f"{result.error:9.5f}" for result in results)
            mean = statistics.mean(spent[name])
            print(f"{cell:6}{name:10}{errors}{slowest:>15}{mean:9.1f}", flush=True)
        report.results[cell] = {name: [r.error for r in each] for name, each in found.items()}
        solved = [result.error < SOLVED for result in found["fastseq"]]
        wanted = "not solved" if cell == "rnn" else "solved"
        report.target(all(each == (cell != "rnn") for each in solved), f"{cell} {wanted}")
        if options.small and "PyTorch" in found:
            ours, theirs = (found[side][0].error for side in sides)
            report.check(abs(ours / theirs - 1) < 1e-3, f"{cell}: {ours}, PyTorch {theirs}")
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, small={"seeds": 1, "length": 10, "hidden": 8, "steps": 20})
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--length", type=int, default=100, help="steps of a sequence")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2_000, help="of training")
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each side")
    return parser.parse(arguments)


if __name__ == "__main__":
    sys.exit(main())
