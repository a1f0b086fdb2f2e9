"""Speed and errors of kernels/simd/vmath.py at each vector width.

    python -m bench.vmath                       # cycles per vector, compared with NumPy and SciPy
    python -m bench.vmath --sweep               # errors over all 2^32 inputs (minutes)
    python -m bench.vmath tanh --lanes 8 --sweep

Time: the function over 2048 numbers in the L1 cache, repeated within one compiled loop, best of
many rounds; cycles by the clock rate that a chain of dependent integer instructions shows in the
same minute (a multiplication and an exclusive or: 4 cycles on every x86 of the last ten years;
elsewhere read the nanoseconds).

Errors: against the C library's float64 functions, for every float32 there is. The widths run in
processes of their own; the first is measured, and each other one whose results have the same
checksum has the same errors. A checksum that differs is reported, and that width measured too.

Counted as wrong are: NaN or infinity where the reference has none, or none where it has (an
overflow one rounding early or late counts as an error in ulp), the sign of a zero, and a result
outside the function's own bounds (tanh and erf beyond 1, sigmoid and exp below 0, sigmoid above 1).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy import special

from bench.common.harness import quickest
from bench.common.loops import chain, judging, over_array, repeating
from bench.common.report import ROOT, Parser, Report
from fastseq.kernels.core.width import LANES, WIDTHS
from fastseq.kernels.simd import vmath

NAMES = ("exp", "sigmoid", "tanh", "erf", "log")
SIZE, TIMES = 2048, 100
CHUNK = 1 << 22
CHUNKS = (1 << 32) // CHUNK
PEERS: dict[str, Any] = {
    "exp": np.exp,
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "erf": special.erf,
    "log": np.log,
}
STEP_CYCLES = 4


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.here:
        print(json.dumps(swept(options) if options.sweep else timed(options)))
        return 0
    report = Report("vmath", options)
    widths = [options.lanes] if options.lanes else list(WIDTHS)
    if options.small or not options.sweep:
        report_times(options, widths, report)
    if options.small or options.sweep:
        report_errors(options, widths, report)
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    small = {"names": ["tanh"], "lanes": LANES, "chunks": 8}
    parser = Parser(__doc__, rounds=40, small=small)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}; else all")
    parser.add_argument("--sweep", action="store_true", help="errors over all inputs")
    parser.add_argument("--lanes", type=int, choices=WIDTHS, help="one width instead of all")
    parser.add_argument(
        "--chunks", type=int, default=CHUNKS, help="of the sweep, 4 million inputs each"
    )
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--digest", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse(arguments)
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: expected {', '.join(NAMES)}")
    options.names = options.names or list(NAMES)
    return options


def run(options: argparse.Namespace, width: int, *flags: str) -> dict[str, dict[str, Any]]:
    """The result of this program in a process whose vectors have `width` lanes."""
    numbers = ("threads", "rounds", "chunks")
    given = [word for n in numbers for word in (f"--{n}", str(getattr(options, n)))]
    said = subprocess.run(
        [sys.executable, "-m", "bench.vmath", "--here", *given, *flags, *options.names],
        env={**os.environ, "FASTSEQ_LANES": str(width)},
        stdout=subprocess.PIPE, cwd=ROOT, check=True,
    ).stdout  # fmt: skip
    found: dict[str, dict[str, Any]] = json.loads(said)
    return found


# ---- time -----------------------------------------------------------------------------------


def report_times(options: argparse.Namespace, widths: list[int], report: Report) -> None:
    print("| function | lanes | ns/vector | cycles/vector | cycles/number | NumPy, SciPy |")
    print("|---|--:|--:|--:|--:|--:|")
    for width in widths:
        report.results[f"times, {width} lanes"] = times = run(options, width)
        for name, found in times.items():
            ns, cycles = found["ns"], found["ns"] * found["ghz"]
            peer = found["peer_ns"] * found["ghz"]
            print(
                f"| {name} | {width} | {ns:.2f} | {cycles:.1f} | {cycles / width:.2f} "
                f"| {peer:.2f} |",
                flush=True,
            )


def timed(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    steps = 100_000
    found = {}

    def clock() -> None:
        chain(np.uint64(1), steps)

    for name in options.names:
        low, high = (0.01, 100.0) if name == "log" else (-6.0, 6.0)
        x = np.linspace(low, high, SIZE, dtype=np.float32)
        out = np.empty_like(x)
        repeat, peer = repeating(getattr(vmath, name)), PEERS[name]

        def ours(repeat=repeat, out=out, x=x):  # type: ignore[no-untyped-def]
            repeat(out, x, TIMES)

        def theirs(peer=peer, out=out, x=x):  # type: ignore[no-untyped-def]
            peer(x, out=out)

        found[name] = {
            "ns": quickest(ours, options.rounds, 0.0) / (TIMES * SIZE / LANES) * 1e9,
            "ghz": STEP_CYCLES * steps / quickest(clock, options.rounds, 0.0) / 1e9,
            "peer_ns": quickest(theirs, options.rounds, 0.0) / SIZE * 1e9,
        }
    return found


# ---- errors ---------------------------------------------------------------------------------


def report_errors(options: argparse.Namespace, widths: list[int], report: Report) -> None:
    print("| function | lanes | ulp | at | absolute | at | wrong | checksum |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    first = run(options, widths[0], "--sweep")
    for width in widths:
        same = True
        if width != widths[0]:
            digests = run(options, width, "--sweep", "--digest")
            same = all(digests[name]["sum"] == first[name]["sum"] for name in options.names)
        found = first if same else run(options, width, "--sweep")
        for name, said in found.items():
            ulp, ulp_at, absolute, absolute_at, wrong = said["worst"]
            report.check(wrong == 0, f"{name}, {width} lanes: {wrong:.0f} results")
            report.results[f"errors of {name}, {width} lanes"] = said
            print(
                f"| {name} | {width} | {ulp:.3f} | {ulp_at:.9g} | {absolute:.2e} "
                f"| {absolute_at:.9g} | {wrong:.0f} | {said['sum']:08x}"
                f"{'' if same else ' (differs)'} |",
                flush=True,
            )


def swept(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    found = {}
    for name in options.names:
        kernel, judge = over_array(getattr(vmath, name)), judging(name)

        def part(start: int, kernel: Any = kernel, judge: Any = judge) -> tuple[int, Any]:
            x = np.arange(start, start + CHUNK, dtype=np.uint32).view(np.float32)
            out, worst = np.empty_like(x), np.zeros(5)
            kernel(out, x)
            if not options.digest:
                judge(worst, out, x)
            return zlib.crc32(out.data), worst

        with ThreadPoolExecutor(options.threads) as pool:
            # spread over all inputs where they are fewer
            starts = range(0, 1 << 32, CHUNK * (CHUNKS // options.chunks))
            parts = list(pool.map(part, starts))
        worst = np.array([each for _, each in parts])
        ulp, absolute = worst[worst[:, 0].argmax()], worst[worst[:, 2].argmax()]
        sums = np.array([each for each, _ in parts], np.uint32)
        found[name] = {
            "worst": [*ulp[:2].tolist(), *absolute[2:4].tolist(), float(worst[:, 4].sum())],
            "sum": zlib.crc32(sums.data),
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
