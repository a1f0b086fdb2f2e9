"""Speed and errors of kernels/simd/vmath.py at each width of vectors.

    python bench/vmath.py                       # cycles a vector, beside NumPy and SciPy
    python bench/vmath.py --sweep               # errors over all 2^32 inputs (minutes)
    python bench/vmath.py --lanes 8 --sweep tanh

Time: the function over 2048 numbers that stay in the L1 cache, called again and again within
one compiled loop, best of many rounds; cycles by the clock that a chain of dependent integer
instructions shows in the same minute (a multiplication and an exclusive or: 4 cycles on every x86
of the last ten years; elsewhere read the nanoseconds).

Errors: against the C library's float64 functions, for every float32 there is. The widths run in
processes of their own; the first is measured, and each other whose results have the same checksum
has the same errors. A checksum that differs is said, and that width measured too.

Counted as wrong are: NaN or infinity where the reference has none, or none where it has (an
overflow one rounding early or late counts as an error in ulp), the sign of a zero, and a result
outside the function's own bounds (tanh and erf beyond 1, sigmoid and exp below 0, sigmoid above 1).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy import special

from fastseq.kernels.core.jit import helper
from fastseq.kernels.core.width import LANES, WIDTHS
from fastseq.kernels.simd import vmath
from fastseq.kernels.simd.floats import load, store

NAMES = ("exp", "sigmoid", "tanh", "erf", "log")
SIZE, TIMES, ROUNDS = 2048, 100, 40
CHUNK = 1 << 22
LOWEST = {"exp": 0.0, "sigmoid": 0.0, "tanh": -1.0, "erf": -1.0, "log": -math.inf}
HIGHEST = {"exp": math.inf, "sigmoid": 1.0, "tanh": 1.0, "erf": 1.0, "log": math.inf}
PEERS: dict[str, Any] = {
    "exp": np.exp,
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "erf": special.erf,
    "log": np.log,
}
STEP_CYCLES = 4
OVERFLOW = 2.0**128  # where float32 ends


def main() -> int:
    options = parse()
    if options.here:
        print(json.dumps(swept(options) if options.sweep else timed(options)))
        return 0
    widths = [options.lanes] if options.lanes else list(WIDTHS)
    (report_errors if options.sweep else report_times)(options, widths)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=[], help=f"of {', '.join(NAMES)}; else all")
    parser.add_argument("--sweep", action="store_true", help="errors over all inputs")
    parser.add_argument("--lanes", type=int, choices=WIDTHS, help="one width instead of all")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the sweep")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--digest", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: expected {', '.join(NAMES)}")
    options.names = options.names or list(NAMES)
    return options


def run(options: argparse.Namespace, width: int, *flags: str) -> dict[str, dict[str, Any]]:
    """What this program says of itself in a process whose vectors have `width` lanes."""
    command = [sys.executable, __file__, "--here", "--threads", str(options.threads)]
    said = subprocess.run(
        [*command, *flags, *options.names],
        env={**os.environ, "FASTSEQ_LANES": str(width)},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    return json.loads(said)


# ---- time -----------------------------------------------------------------------------------


def report_times(options: argparse.Namespace, widths: list[int]) -> None:
    print("| function | lanes | ns a vector | cycles a vector | cycles a number | NumPy, SciPy |")
    print("|---|--:|--:|--:|--:|--:|")
    for width in widths:
        for name, found in run(options, width).items():
            ns, cycles = found["ns"], found["ns"] * found["ghz"]
            peer = found["peer_ns"] * found["ghz"]
            print(
                f"| {name} | {width} | {ns:.2f} | {cycles:.1f} | {cycles / width:.2f} "
                f"| {peer:.2f} |",
                flush=True,
            )


def repeating(function: Callable[..., Any]) -> Callable[..., Any]:
    @helper
    def repeat(out, x, times):  # type: ignore[no-untyped-def]
        for _ in range(times):
            for i in range(0, len(x), LANES):
                store(out, i, function(load(x, i)))

    return repeat


@helper
def chain(state, steps):  # type: ignore[no-untyped-def]
    for i in range(steps):
        state = (state * np.uint64(6364136223846793005)) ^ np.uint64(i)
    return state


def best(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    work()
    took = math.inf
    for _ in range(rounds):
        before = time.perf_counter()
        work()
        took = min(took, time.perf_counter() - before)
    return took


def timed(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    steps = 100_000
    found = {}
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
            "ns": best(ours) / (TIMES * SIZE / LANES) * 1e9,
            "ghz": STEP_CYCLES * steps / best(lambda: chain(np.uint64(1), steps)) / 1e9,
            "peer_ns": best(theirs) / SIZE * 1e9,
        }
    return found


# ---- errors ---------------------------------------------------------------------------------


def report_errors(options: argparse.Namespace, widths: list[int]) -> None:
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
            print(
                f"| {name} | {width} | {ulp:.3f} | {ulp_at:.9g} | {absolute:.2e} "
                f"| {absolute_at:.9g} | {wrong:.0f} | {said['sum']:08x}"
                f"{'' if same else ' (differs)'} |",
                flush=True,
            )


@helper
def sigmoid(x):  # type: ignore[no-untyped-def]
    return 1.0 / (1.0 + math.exp(-x))


@helper
def logarithm(x):  # type: ignore[no-untyped-def]
    return math.log(x) if x != 0.0 else -math.inf


REFERENCES = {"sigmoid": sigmoid, "log": logarithm}


def judging(name: str) -> Callable[..., Any]:
    """A kernel that keeps in worst[5] the largest errors and where, and the number of wrong."""
    lowest, highest = LOWEST[name], HIGHEST[name]
    reference = REFERENCES.get(name)
    if reference is None:
        function = getattr(math, name)

        @helper
        def reference(x):  # type: ignore[no-untyped-def]
            return function(x)

    @helper
    def judge(worst, found, x):  # type: ignore[no-untyped-def]
        for i in range(len(x)):
            r, y = reference(np.float64(x[i])), np.float64(found[i])
            if r != r or y != y or math.isinf(r):
                worst[4] += not ((r != r and y != y) or r == y)
                continue
            if math.isinf(y) or abs(r) >= OVERFLOW:  # an overflow counts as the first step past
                r = max(-OVERFLOW, min(OVERFLOW, r))
                y = max(-OVERFLOW, min(OVERFLOW, y))
            elif y < lowest or y > highest:
                worst[4] += 1
            if r == 0.0 and math.copysign(1.0, r) != math.copysign(1.0, y):
                worst[4] += 1
            error = abs(y - r)
            exponent = max((np.float64(abs(r)).view(np.int64) >> 52) - 1023, -126)
            ulp = np.int64((exponent - 23 + 1023) << 52).view(np.float64)
            if error > ulp * worst[0]:
                worst[0], worst[1] = error / ulp, x[i]
            if error > worst[2]:
                worst[2], worst[3] = error, x[i]

    return judge


def swept(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    found = {}
    for name in options.names:
        kernel, judge = getattr(vmath, f"{name}_array"), judging(name)

        def part(start: int, kernel: Any = kernel, judge: Any = judge) -> tuple[int, Any]:
            x = np.arange(start, start + CHUNK, dtype=np.uint32).view(np.float32)
            out, worst = np.empty_like(x), np.zeros(5)
            kernel(out, x)
            if not options.digest:
                judge(worst, out, x)
            return zlib.crc32(out.view(np.uint8)), worst

        with ThreadPoolExecutor(options.threads) as pool:
            parts = list(pool.map(part, range(0, 1 << 32, CHUNK)))
        worst = np.array([each for _, each in parts])
        ulp, absolute = worst[worst[:, 0].argmax()], worst[worst[:, 2].argmax()]
        sums = np.array([each for each, _ in parts], np.uint32)
        found[name] = {
            "worst": [*ulp[:2].tolist(), *absolute[2:4].tolist(), float(worst[:, 4].sum())],
            "sum": zlib.crc32(sums.view(np.uint8)),
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
