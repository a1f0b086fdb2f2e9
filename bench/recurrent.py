"""Recurrent layers on the CPU, compared with PyTorch's: training and inference, layer by layer.

    python -m bench.recurrent                          # the whole table
    python -m bench.recurrent --only lstm --kinds dense ragged --rounds 3
    python -m bench.recurrent --fma-peak               # share of the machine's peak, nothing else

A sample of training is a forward pass, the backward pass to inputs and weights, and zeroing the
gradients; of inference a forward pass without gradients. Both sides have the same weights and
inputs and run in one process, in alternation, each sample as many calls as take the faster of the
two 50 ms. Checked first: outputs and all gradients within 1e-4 of PyTorch's largest.

Kinds: "dense", all sequences of length T, one direction; "both", two directions; "ragged", lengths
uniform from T/4 to T, where PyTorch's sequences are packed (including packing and unpacking, which
its users need) or padded, all T steps computed (plain LSTMs only: oneDNN's fastest case). Rates are
of the multiply-adds that the lengths require.

Do not set OMP_WAIT_POLICY, which slows PyTorch down.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.common import harness, peak
from bench.common.harness import Check, Contender
from bench.common.report import Parser, Report, log, optional, table
from fastseq.kernels.core.width import LANES
from fastseq.nn import GRU, LSTM, RNN

OURS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
MODES = ("training", "inference")
KINDS = ("dense", "both", "ragged")
TOLERANCE = 1e-4
SIZES = {  # B, T, I, H
    "lstm": [
        (1, 100, 64, 64), (32, 100, 64, 64), (32, 100, 128, 128), (64, 256, 128, 256),
        (20, 35, 650, 650), (1, 1000, 128, 128),
    ],
    "gru": [(1, 100, 64, 64), (32, 100, 128, 128), (64, 256, 128, 256)],
    "rnn": [(32, 100, 128, 128), (64, 256, 128, 256)],
}  # fmt: skip
BOTH = [(32, 100, 64, 64), (32, 100, 128, 128)]
RAGGED = [(32, 100, 64, 64), (32, 100, 128, 128), (64, 256, 128, 256)]
# targets: (geometric mean, every entry) of fastseq's speed over PyTorch's
TARGETS = {
    ("lstm", "training"): (1.3, 1.0),
    ("gru", "training"): (3.0, 1.0),
    ("rnn", "training"): (3.0, 1.0),
    ("lstm", "inference"): (1.15, 0.95),
    ("gru", "inference"): (2.5, 0.95),
    ("rnn", "inference"): (2.5, 0.95),
}
RAGGED_TARGETS = {"packed": 5.0, "padded": 1.2}
PEAK_TARGET = 0.7
PEAK_SIZES = [(16, 100, 128, 128), (32, 100, 128, 128), (64, 256, 128, 256), (20, 35, 650, 650)]


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    cell: str
    kind: str
    batch: int
    steps: int
    inputs: int
    units: int

    @property
    def name(self) -> str:
        sizes = f"{self.batch}, {self.steps}, {self.inputs}, {self.units}"
        return f"{self.cell.upper()} {sizes} {self.kind}"

    def flops(self, mode: str, count: int) -> float:
        """Multiply-adds, each counted as two, of `count` rows."""
        directions = 1 + (self.kind == "both")
        passes = 6 if mode == "training" else 2
        row = GATES[self.cell] * self.units * (self.inputs + self.units)
        return float(passes * directions * count * row)


class Runs:
    """A case's layers and data, and the calls that are timed, which return (y, gradients)."""

    def __init__(self, case: Case, threads: int, torch: Any) -> None:
        rng = np.random.default_rng(1)
        both = case.kind == "both"
        sizes: Any = (case.inputs, case.units)
        self.layer = OURS[case.cell](*sizes, bidirectional=both, threads=threads, seed=1)
        self.x = rng.standard_normal((case.steps, case.batch, case.inputs), dtype=np.float32)
        self.lengths = np.full(case.batch, case.steps)
        self.ragged = case.kind == "ragged"
        if self.ragged:
            self.lengths = rng.integers(case.steps // 4, case.steps + 1, case.batch)
            self.lengths[0] = case.steps
        self.inside = np.arange(case.steps)[:, None] < self.lengths
        width = self.layer.output_size
        self.dy = rng.standard_normal((case.steps, case.batch, width), dtype=np.float32)
        self.dy[~self.inside] = 0
        self.torch = torch
        if torch is not None:
            self.model = getattr(torch.nn, case.cell.upper())(*sizes, bidirectional=both)
            state = self.layer.state_dict()
            self.model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()})
            self._x = torch.from_numpy(self.x.copy()).requires_grad_()
            self._dy = torch.from_numpy(self.dy.copy())
            self._lengths = torch.from_numpy(self.lengths)

    def ours(self, mode: str) -> Callable[[], Any]:
        lengths = self.lengths if self.ragged else None
        layer = self.layer

        def training() -> Any:
            layer.zero_gradients()
            y, _ = layer.forward(self.x, lengths)
            return y, {"x": layer.backward(self.dy), **layer.gradients()}

        def inference() -> Any:
            return layer.forward(self.x, lengths, training=False)[0], {}

        return training if mode == "training" else inference

    def theirs(self, mode: str, packed: bool) -> Callable[[], Any]:
        rnn = self.torch.nn.utils.rnn

        def forward() -> Any:
            if not packed:
                return self.model(self._x)[0]
            rows = rnn.pack_padded_sequence(self._x, self._lengths, enforce_sorted=False)
            return rnn.pad_packed_sequence(self.model(rows)[0])[0]

        def training() -> Any:
            self.model.zero_grad(set_to_none=False)
            self._x.grad = None
            y = forward()
            y.backward(self._dy)
            gradients = {name: value.grad for name, value in self.model.named_parameters()}
            return y.detach(), {"x": self._x.grad, **gradients}

        def inference() -> Any:
            with self.torch.inference_mode():
                return forward(), {}

        return training if mode == "training" else inference

    def check(self, answer: Any, expected: Any) -> Check:
        """Whether y, up to the sequences' ends, and gradients are PyTorch's."""
        worst = 0.0
        pairs = [(np.asarray(answer[0])[self.inside], np.asarray(expected[0])[self.inside])]
        for name, gradient in expected[1].items():
            there = self.inside if name == "x" else ...
            pairs.append((np.asarray(answer[1][name])[there], np.asarray(gradient)[there]))
        for found, true in pairs:
            worst = max(worst, float(np.abs(found - true).max() / np.abs(true).max()))
        return Check(worst <= TOLERANCE, f"differs by at most {worst:.1e} of the largest")


def contenders(case: Case, mode: str, runs: Runs, sample: float) -> list[Contender]:
    """PyTorch first: fastseq is compared with its answer."""
    reference: list[Any] = []

    def remember(answer: Any) -> Check:
        reference.append(answer)
        return Check(True, "the reference")

    def check(answer: Any) -> Check:
        return runs.check(answer, reference[0]) if reference else Check(True, "not compared")

    ways: dict[str, Callable[[], Any]] = {}
    if runs.torch is not None and case.kind == "ragged":
        ways["packed"] = runs.theirs(mode, packed=True)
        if case.cell == "lstm":
            ways["padded"] = runs.theirs(mode, packed=False)
    elif runs.torch is not None:
        ways["PyTorch"] = runs.theirs(mode, packed=False)
    first = next(iter(ways), None)
    ways["fastseq"] = runs.ours(mode)
    quickest = min(harness.quickest(way, 2, 0.0) for way in ways.values())
    times = max(1, math.ceil(sample / quickest))

    def many(way: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            for _ in range(times):
                answer = way()
            return answer

        return run

    def facts(answer: Any) -> dict[str, float]:
        return {"calls": times}

    return [
        Contender(name, many(way), remember if name == first else check, facts)
        for name, way in ways.items()
    ]


def cases(cells: list[str], kinds: list[str], given: list[Any] | None) -> Iterator[Case]:
    for kind in kinds:
        for cell in cells:
            for size in given or {"dense": SIZES[cell], "both": BOTH, "ragged": RAGGED}[kind]:
                yield Case(cell, kind, *size)


def measure(case: Case, mode: str, options: argparse.Namespace, torch: Any) -> dict[str, Any]:
    """One line: milliseconds, GFLOP/s and ratios."""
    runs = Runs(case, options.threads, torch)
    sides = contenders(case, mode, runs, options.sample)
    found = harness.compare(sides, options.rounds, log=lambda line: None)
    if found.refused:
        return {"case": case.name, "mode": mode, "refused": found.refused}
    flops = case.flops(mode, int(runs.lengths.sum()))
    line: dict[str, Any] = {
        "case": case.name, "cell": case.cell, "kind": case.kind, "mode": mode, "ratios": {},
        "checked": found.timings["fastseq"].checked,
    }  # fmt: skip
    for name, timing in found.timings.items():
        seconds = timing.median / timing.fact("calls")
        line[name] = {"ms": seconds * 1e3, "gflops": flops / seconds / 1e9, "all": timing.seconds}
        if name != "fastseq":
            line["ratios"][name] = found.ratio(name, "fastseq")
    return line


def rows_of(line: dict[str, Any]) -> list[list[str]]:
    if "refused" in line:
        return [[line["case"], line["mode"], "wrong", "", ""]]
    ours = line["fastseq"]
    fast = f"{ours['ms']:.2f} ({ours['gflops']:.0f})"
    return [
        [
            line["case"] + ("" if name == "PyTorch" else f", {name}"),
            line["mode"],
            fast,
            f"{line[name]['ms']:.2f} ({line[name]['gflops']:.0f})",
            f"{ratio:.2f}",
        ]
        for name, ratio in line["ratios"].items()
    ] or [[line["case"], line["mode"], fast, "", ""]]


def judge(lines: list[dict[str, Any]], report: Report) -> None:
    """Compare the ratios with the targets."""
    for line in lines:
        report.check("refused" not in line, f"{line['case']}: {line.get('refused')}")
    good = [line for line in lines if line.get("ratios")]
    for (cell, mode), (mean_target, target) in TARGETS.items():
        these = [line for line in good if (line["cell"], line["mode"]) == (cell, mode)]
        ratios = [min(line["ratios"].values()) for line in these]  # PyTorch's fastest way
        equal = [line["ratios"]["PyTorch"] for line in these if line["kind"] != "ragged"]
        if ratios and equal:
            mean, least = geometric_mean(ratios), min(ratios)
            text = f"{cell.upper()} {mode}: geometric mean {mean:.2f} (target {mean_target}), "
            text += f"of equal lengths alone {geometric_mean(equal):.2f}"
            report.target(mean >= mean_target, text)
            text = f"{cell.upper()} {mode}: least {least:.2f} (target {target})"
            report.target(least >= target, text)
    for way, target in RAGGED_TARGETS.items():
        for mode in MODES:
            ratios = [
                line["ratios"][way] for line in good
                if line["kind"] == "ragged" and line["mode"] == mode and way in line["ratios"]
            ]  # fmt: skip
            if ratios:
                mean, least = geometric_mean(ratios), min(ratios)
                text = f"ragged {mode}, {way}: geometric mean {mean:.2f}, least {least:.2f}"
                report.target(mean >= target, f"{text} (target {target})")


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def fma_peak(options: argparse.Namespace, report: Report) -> None:
    """Measure the share of the machine's peak that the time loops reach."""
    layers = {
        f"{cell.upper()} {size}": (
            OURS[cell](size[2], size[3], threads=options.threads),
            size[1],
            size[0],
        )
        for cell in options.only
        for size in options.sizes or PEAK_SIZES
    }
    found = peak.report(layers, options.threads, options.rounds, options.sample)
    for threads, rate in found["peak_gflops"].items():
        print(f"peak, {threads} thread{'s' * (threads > 1)}: {rate:.0f} GFLOP/s")
    parts = ("forward", "backward", "inference")
    rows = [
        [name, *(f"{rates[part]:.0f} ({found['share_of_peak'][name][part]:.0%})" for part in parts)]
        for name, rates in found["gflops"].items()
    ]
    print(table(["time loop, GFLOP/s (of peak)", *parts], rows))
    least = min(min(shares.values()) for shares in found["share_of_peak"].values())
    report.results["peak"] = found
    report.target(least >= PEAK_TARGET, f"least share {least:.0%} (target {PEAK_TARGET:.0%})")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    small = {"sizes": [(3, 8, 5, 20)], "sample": 0.0}
    parser = Parser(__doc__, rounds=9, small=small)
    parser.add_argument("--only", nargs="+", choices=list(OURS), default=list(OURS), help="cells")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument(
        "--sizes", nargs="+", metavar="B,T,I,H", help="sizes instead of the table's",
        type=lambda text: tuple(map(int, text.split(","))),
    )  # fmt: skip
    parser.add_argument(
        "--sample", type=float, default=harness.SAMPLE, help="shortest sample in seconds"
    )
    parser.add_argument(
        "--fma-peak", action="store_true", help="measure the peak and the time loops' share of it"
    )
    return parser.parse(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("recurrent", options, ("torch",))
    print(f"fastseq: {LANES} lanes\n")
    if options.fma_peak or options.small:
        fma_peak(options, report)
    if not options.fma_peak:
        torch = optional("torch")
        lines = report.results["lines"] = []
        for case in cases(options.only, options.kinds, options.sizes):
            for mode in options.modes:
                lines.append(measure(case, mode, options, torch))
                for row in rows_of(lines[-1]):
                    log("  ".join(row))
        head = ["cell B, T, I, H", "mode", "fastseq ms (GFLOP/s)", "PyTorch", "speed-up"]
        print(table(head, [row for line in lines for row in rows_of(line)]) + "\n")
        judge(lines, report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
