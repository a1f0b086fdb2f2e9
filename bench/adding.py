"""The adding problem: which recurrent layers learn to remember over 100 steps.

A sequence has two numbers at each step: one drawn from [0, 1), and a mark. Two steps are marked,
one in each half; the answer, given behind the last step, is the sum of their numbers (Hochreiter
and Schmidhuber 1997, section 5.4; in this form Arjovsky, Shah and Bengio 2016). Who always answers
1 has a mean squared error of 0.167, that of two uniform numbers' sum. Every step draws a fresh
batch, so nothing can be learned by heart; the error is that over 2,000 sequences never seen.

    python bench/adding.py                     # LSTM and GRU below 0.01, the plain network not
    python bench/adding.py --cells lstm --length 400 --steps 8000
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np

from fastseq import machine
from fastseq.nn import GRU, LSTM, RNN
from fastseq.nn.clipping import clip_norm
from fastseq.nn.dense import Dense
from fastseq.nn.layer import joined
from fastseq.nn.losses import mean_squared_error
from fastseq.nn.optimisers import Adam
from fastseq.nn.schedules import Cosine
from fastseq.threads import Team
from fastseq.types import Float32

CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
SOLVED = 0.01
HELD_OUT = 2_000
EVERY = 250  # steps between two lines


@dataclass(frozen=True)
class Result:
    """What a cell reached.

    error   mean squared error over the held-out sequences, at the end
    steps   after how many of them it was first below SOLVED; None: never
    """

    error: float
    steps: int | None
    seconds: float


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


def learn(cell: str, options: argparse.Namespace) -> Result:
    """Train one recurrent layer with a dense layer behind its last step."""
    team = Team(options.threads)
    recurrent = CELLS[cell](2, options.hidden, seed=options.seed, team=team)
    output = Dense(options.hidden, 1, seed=options.seed, team=team)
    parameters = joined({cell: recurrent, "output": output})
    optimiser = Adam(parameters, options.learning_rate, team=team)
    schedule = Cosine(options.learning_rate)
    rng = np.random.default_rng(options.seed + 1)
    x_test, y_test = draw(np.random.default_rng(options.seed + 2), options.length, HELD_OUT)

    def measure() -> float:
        y, _ = recurrent.forward(x_test, training=False)
        out = output.forward(y[-1], training=False)
        return mean_squared_error(out, y_test, want_gradient=False)

    began, solved = time.perf_counter(), None
    for step in range(options.steps):
        x, answers = draw(rng, options.length, options.batch)
        parameters.zero_gradients()
        y, _ = recurrent.forward(x)
        out = output.forward(y[-1])
        mean_squared_error(out, answers)  # its gradient takes the place of `out`
        dy = np.zeros_like(y)
        dy[-1] = output.backward(out)
        recurrent.backward(dy)
        clip_norm(parameters, options.clip, team)
        optimiser.step(schedule(step, options.steps))
        if (step + 1) % EVERY == 0 or step + 1 == options.steps:
            error = measure()
            seconds = time.perf_counter() - began
            print(f"  {cell}  step {step + 1:6,}  error {error:.5f}  {seconds:6.1f} s", flush=True)
            if solved is None and error < SOLVED:
                solved = step + 1
    return Result(error, solved, time.perf_counter() - began)


def main() -> int:
    """Print what each cell reached; 0 if the gated ones solve it and the plain one does not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--length", type=int, default=100, help="steps of a sequence")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2_000, help="of training")
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=machine.core_count())
    options = parser.parse_args()
    print(f"the adding problem, {options.length} steps; who answers 1 has an error of 0.167")
    found = {cell: learn(cell, options) for cell in options.cells}
    print(f"\n{'cell':6}{'error':>9}{'solved after':>15}{'seconds':>9}")
    for cell, result in found.items():
        when = "never" if result.steps is None else f"{result.steps:,} steps"
        print(f"{cell:6}{result.error:9.5f}{when:>15}{result.seconds:9.1f}")
    as_expected = all((result.error < SOLVED) == (cell != "rnn") for cell, result in found.items())
    return 0 if as_expected else 1


if __name__ == "__main__":
    sys.exit(main())
