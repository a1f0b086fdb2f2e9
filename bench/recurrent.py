"""Recurrent layers beside PyTorch's on the CPU: training and inference, layer by layer.

    python bench/recurrent.py                          # the whole table
    python bench/recurrent.py --only lstm --kinds dense ragged --rounds 3
    python bench/recurrent.py --fma-peak               # share of the machine's peak, nothing else

A sample of training is a forward pass, the way back to inputs and weights, and setting gradients
to zero; of inference a forward pass without gradients. Both sides work on the same weights and
inputs, in one process, in turns, each sample as many calls as take the quicker of the two 50 ms.
Checked first: outputs and all gradients within 1e-4 of PyTorch's largest.

Kinds: "dense", all sequences of length T, one direction; "both", in two directions; "ragged",
lengths drawn evenly from T/4 to T, where PyTorch's sequences are packed (with packing and
unpacking, as its users must) or padded, all T steps computed (plain LSTMs only: what oneDNN does
fastest). Rates are of the multiply-adds that the lengths ask for.

Environment: PyTorch runs with --threads threads; do not set OMP_WAIT_POLICY, which slows it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness
import numpy as np
import peak
import torch
from harness import Check, Contender
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fastseq.kernels.core.width import LANES
from fastseq.nn import GRU, LSTM, RNN

OURS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
THEIRS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
MODES = ("training", "inference")
KINDS = ("dense", "both", "ragged")
SAMPLE = 0.05  # seconds, at least
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
# what is asked for: (geometric mean, every entry) of fastseq's speed over PyTorch's
FLOORS = {
    ("lstm", "training"): (1.3, 1.0),
    ("gru", "training"): (3.0, 1.0),
    ("rnn", "training"): (3.0, 1.0),
    ("lstm", "inference"): (1.15, 0.95),
    ("gru", "inference"): (2.5, 0.95),
    ("rnn", "inference"): (2.5, 0.95),
}
RAGGED_FLOORS = {"packed": 5.0, "padded": 1.2}
PEAK_FLOOR = 0.7
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
        """Multiply-adds, each as two, that `count` rows ask for."""
        directions = 1 + (self.kind == "both")
        passes = 6 if mode == "training" else 2
        row = GATES[self.cell] * self.units * (self.inputs + self.units)
        return float(passes * directions * count * row)


class Runs:
    """A case's layers and data, and what is timed: calls that return (y, gradients)."""

    def __init__(self, case: Case, threads: int) -> None:
        torch.manual_seed(1)
        rng = np.random.default_rng(1)
        both = case.kind == "both"
        self.model = THEIRS[case.cell](case.inputs, case.units, bidirectional=both)
        self.layer = OURS[case.cell](case.inputs, case.units, bidirectional=both, threads=threads)
        self.layer.load_state_dict({k: v.numpy() for k, v in self.model.state_dict().items()})
        self.x = rng.standard_normal((case.steps, case.batch, case.inputs), dtype=np.float32)
        self.lengths = np.full(case.batch, case.steps)
        if case.kind == "ragged":
            self.lengths = rng.integers(case.steps // 4, case.steps + 1, case.batch)
            self.lengths[0] = case.steps
        self.inside = np.arange(case.steps)[:, None] < self.lengths
        self.ragged = case.kind == "ragged"
        width = self.layer.output_size
        self.dy = rng.standard_normal((case.steps, case.batch, width), dtype=np.float32)
        self.dy[~self.inside] = 0
        self._x = torch.from_numpy(self.x.copy()).requires_grad_()
        self._dy = torch.from_numpy(self.dy.copy())
        self._lengths = torch.from_numpy(self.lengths)

    # ---- fastseq

    def ours(self, mode: str) -> Callable[[], Any]:
        lengths = self.lengths if self.ragged else None
        layer = self.layer

        def training() -> Any:
            layer.zero_gradients()
            y, _ = layer.forward(self.x, lengths)
            return y, {"x": layer.backward(self.dy), **layer.gradients()}

        return training if mode == "training" else lambda: (
            layer.forward(self.x, lengths, training=False)[0], {}
        )  # fmt: skip

    # ---- PyTorch

    def theirs(self, mode: str, packed: bool) -> Callable[[], Any]:
        def forward() -> Any:
            if not packed:
                return self.model(self._x)[0]
            rows = pack_padded_sequence(self._x, self._lengths, enforce_sorted=False)
            return pad_packed_sequence(self.model(rows)[0])[0]

        def training() -> Any:
            self.model.zero_grad(set_to_none=False)
            self._x.grad = None
            y = forward()
            y.backward(self._dy)
            slopes = {name: value.grad for name, value in self.model.named_parameters()}
            return y.detach(), {"x": self._x.grad, **slopes}

        def inference() -> Any:
            with torch.inference_mode():
                return forward(), {}

        return training if mode == "training" else inference

    def check(self, answer: Any, expected: Any) -> Check:
        """Whether y, where sequences have not ended, and gradients are those of PyTorch."""
        worst = 0.0
        pairs = [(np.asarray(answer[0])[self.inside], np.asarray(expected[0])[self.inside])]
        for name, slope in expected[1].items():
            there = self.inside if name == "x" else ...
            pairs.append((np.asarray(answer[1][name])[there], np.asarray(slope)[there]))
        for found, true in pairs:
            worst = max(worst, float(np.abs(found - true).max() / np.abs(true).max()))
        return Check(worst <= TOLERANCE, f"differs by {worst:.1e} of the largest at most")


def contenders(case: Case, mode: str, runs: Runs) -> list[Contender]:
    """PyTorch first: its own answer is what fastseq's is held to."""
    reference: list[Any] = []

    def remember(answer: Any) -> Check:
        reference.append(answer)
        return Check(True, "the reference")

    ways = {"PyTorch": runs.theirs(mode, packed=False)}
    if case.kind == "ragged":
        ways = {"packed": runs.theirs(mode, packed=True)}
        if case.cell == "lstm":
            ways["padded"] = runs.theirs(mode, packed=False)
    names = list(ways)
    ways["fastseq"] = runs.ours(mode)
    quickest = min(peak.best(way, 2, 0.0) for way in ways.values())
    times = max(1, math.ceil(SAMPLE / quickest))

    def many(way: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            for _ in range(times):
                answer = way()
            return answer

        return run

    return [
        Contender(
            name,
            many(way),
            remember if name == names[0] else lambda answer: runs.check(answer, reference[0]),
            facts=lambda answer: {"calls": times},
        )
        for name, way in ways.items()
    ]


def cases(cells: list[str], kinds: list[str]) -> Iterator[Case]:
    for kind in kinds:
        for cell in cells:
            sizes = {"dense": SIZES[cell], "both": BOTH, "ragged": RAGGED}[kind]
            for size in sizes:
                yield Case(cell, kind, *size)


def measure(case: Case, mode: str, options: argparse.Namespace) -> dict[str, Any]:
    """One line: milliseconds, GFLOP/s and ratios."""
    runs = Runs(case, options.threads)
    found = harness.compare(contenders(case, mode, runs), options.rounds)
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


def text_of(line: dict[str, Any]) -> list[list[str]]:
    if "refused" in line:
        return [[line["case"], line["mode"], "wrong", "", "", str(line["refused"])]]
    ours = line["fastseq"]
    return [
        [
            line["case"] + ("" if name == "PyTorch" else f", {name}"),
            line["mode"],
            f"{ours['ms']:.2f} ({ours['gflops']:.0f})",
            f"{line[name]['ms']:.2f} ({line[name]['gflops']:.0f})",
            f"{ratio:.2f}",
        ]
        for name, ratio in line["ratios"].items()
    ]


def verdicts(lines: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """What was asked for and whether it was reached."""
    found: list[tuple[str, bool]] = []
    good = [line for line in lines if "refused" not in line]
    for (cell, mode), (mean_floor, floor) in FLOORS.items():
        these = [line for line in good if (line["cell"], line["mode"]) == (cell, mode)]
        ratios = [min(line["ratios"].values()) for line in these]  # PyTorch's quickest way
        equal = [line["ratios"]["PyTorch"] for line in these if line["kind"] != "ragged"]
        if ratios and equal:
            mean, least = geometric_mean(ratios), min(ratios)
            said = f"{cell.upper()} {mode}: geometric mean {mean:.2f} (asked {mean_floor}), "
            said += f"of equal lengths alone {geometric_mean(equal):.2f}"
            found.append((said, mean >= mean_floor))
            said = f"{cell.upper()} {mode}: least {least:.2f} (asked {floor})"
            found.append((said, least >= floor))
    for way, floor in RAGGED_FLOORS.items():
        for mode in MODES:
            ratios = [
                line["ratios"][way] for line in good
                if line["kind"] == "ragged" and line["mode"] == mode and way in line["ratios"]
            ]  # fmt: skip
            if ratios:
                mean, least = geometric_mean(ratios), min(ratios)
                said = f"ragged {mode} beside {way}: geometric mean {mean:.2f}, least {least:.2f}"
                found.append((f"{said} (asked {floor})", mean >= floor))
    return found + [(f"{line['case']}: wrong", False) for line in lines if "refused" in line]


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def fma_peak(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print the share of the machine's peak that the time loops reach."""
    layers = {
        f"{cell.upper()} {', '.join(map(str, size))}": (
            OURS[cell](*size[2:], threads=options.threads),
            size[1],
            size[0],
        )
        for cell in options.only
        for size in PEAK_SIZES
    }
    found = peak.report(layers, options.threads, options.rounds)
    for threads, rate in found["peak_gflops"].items():
        print(f"peak, {threads} thread{'s' * (threads > 1)}: {rate:.0f} GFLOP/s")
    parts = ("forward", "backward", "inference")
    rows = [
        [name, *(f"{rates[part]:.0f} ({found['share_of_peak'][name][part]:.0%})" for part in parts)]
        for name, rates in found["gflops"].items()
    ]
    print(harness.table(["time loop, GFLOP/s (of peak)", *parts], rows))
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(OURS), default=list(OURS), help="cells")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--sizes", nargs="+", help="B,T,I,H to measure instead of the table's")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2, help="of both")
    parser.add_argument("--json", type=Path, help="write the report to this file too")
    parser.add_argument(
        "--fma-peak", action="store_true", help="measure the peak and the time loops' share of it"
    )
    return parser.parse_args()


def main() -> int:
    options = parse()
    torch.set_num_threads(options.threads)
    facts = harness.machine_facts(("torch",))
    print(harness.machine_lines(facts, options.threads))
    torch_facts = {
        "threads": torch.get_num_threads(),
        "onednn": torch.backends.mkldnn.is_available(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    said = ", ".join(f"{name} {value}" for name, value in torch_facts.items())
    print(f"PyTorch: {said}; fastseq: {options.threads} threads, {LANES} lanes, no BLAS\n")
    report: dict[str, Any] = {"bench": "recurrent", "machine": facts, "torch": torch_facts}
    failed = False
    if options.fma_peak:
        report["peak"] = found = fma_peak(options)
        least = min(min(shares.values()) for shares in found["share_of_peak"].values())
        print(f"\nleast share {least:.0%} (asked {PEAK_FLOOR:.0%})")
        failed = least < PEAK_FLOOR
    else:
        chosen = list(cases(options.only, options.kinds))
        if options.sizes:
            sizes = [tuple(map(int, text.split(","))) for text in options.sizes]
            chosen = [Case(c, k, *s) for k in options.kinds for c in options.only for s in sizes]
        lines = []
        for case in chosen:
            for mode in options.modes:
                lines.append(measure(case, mode, options))
                for row in text_of(lines[-1]):
                    print("  ".join(row), file=sys.stderr, flush=True)
        head = ["cell B, T, I, H", "mode", "fastseq ms (GFLOP/s)", "PyTorch", "× as fast"]
        print(harness.table(head, [row for line in lines for row in text_of(line)]) + "\n")
        for text, passed in verdicts(lines):
            print(f"{'reached' if passed else 'MISSED '}  {text}")
            failed = failed or not passed
        report["lines"] = lines
    harness.write_report("recurrent", report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
