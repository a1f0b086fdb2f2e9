"""One way to time contenders side by side, for every bench of this folder.

1. Check first: a contender's answer is judged before the clock starts. One that is wrong is
   refused: it is named with the reason, and never timed.
2. In alternation: every round runs every contender once, in one process, each round starting with
   another one, so that a slow minute of the machine falls on all of them. A check's own run is the
   warm-up; the garbage collector waits while the clock runs (as timeit has it).
3. What is told: the median, the fastest and slowest round, and the ratio, which is the median over
   the rounds of the two times of one round. The machine, its load and the versions stand beside.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from fastseq import machine

OUT = Path(__file__).resolve().parent / "out"
BLAS_SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Check:
    """What came of comparing an answer with the reference."""

    passed: bool
    said: str


@dataclass(frozen=True)
class Contender:
    """Something to time.

    run    does the whole work once and returns its answer
    check  judges an answer; not timed
    facts  further numbers to keep of each round's answer, such as peak memory; not timed
    """

    name: str
    run: Callable[[], Any]
    check: Callable[[Any], Check]
    facts: Callable[[Any], Mapping[str, float]] | None = None


@dataclass
class Timing:
    """The rounds of one contender. seconds: one for each round, in the order they ran."""

    name: str
    checked: str
    seconds: list[float] = field(default_factory=list)
    facts: dict[str, list[float]] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def fact(self, name: str) -> float:
        """The median of a further number over the rounds; NaN where it was not kept."""
        return statistics.median(self.facts[name]) if name in self.facts else float("nan")


@dataclass
class Comparison:
    """What `compare` found. refused: contender's name to the reason."""

    timings: dict[str, Timing]
    refused: dict[str, str]

    def ratio(self, name: str, base: str) -> float:
        """How many times as fast `base` is as `name`: the median of the rounds' own ratios.

        NaN where one of them was refused.
        """
        if name not in self.timings or base not in self.timings:
            return float("nan")
        pairs = zip(self.timings[name].seconds, self.timings[base].seconds, strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def to_dict(self, work: float, base: str | None = None) -> dict[str, Any]:
        """For JSON; work: the items one round deals with."""
        return {
            "work": work,
            "refused": self.refused,
            "contenders": [
                {
                    "name": timing.name,
                    "checked": timing.checked,
                    "seconds": timing.seconds,
                    "median_seconds": timing.median,
                    "per_second": work / timing.median,
                    "times_as_fast": {base: self.ratio(timing.name, base)} if base else {},
                    "facts": timing.facts,
                }
                for timing in self.timings.values()
            ],
        }


def compare(
    contenders: Sequence[Contender],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    tell: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Check every contender, then time those that are right, round by round.

    Raises ValueError for fewer than one round or two contenders of one name.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    if len({contender.name for contender in contenders}) < len(contenders):
        raise ValueError("two contenders have the same name")
    found = Comparison({}, {})
    for contender in contenders:
        verdict = contender.check(contender.run())
        tell(f"  {contender.name}: {'' if verdict.passed else 'WRONG, not timed: '}{verdict.said}")
        if verdict.passed:
            found.timings[contender.name] = Timing(contender.name, verdict.said)
        else:
            found.refused[contender.name] = verdict.said

    timed = [contender for contender in contenders if contender.name in found.timings]
    for round_number in range(rounds):
        turn = round_number % max(len(timed), 1)
        for contender in timed[turn:] + timed[:turn]:
            _time_once(contender, found.timings[contender.name], clock)
    return found


def fastest(variants: Sequence[Contender], rounds: int = 2) -> Contender:
    """The quickest of one engine's ways to the same answer, judged by each one's best round.

    With all of them wrong, the first, so that `compare` refuses it by name.
    """
    found = compare(variants, rounds)
    right = [variant for variant in variants if variant.name in found.timings]
    return min(right, key=lambda v: min(found.timings[v.name].seconds), default=variants[0])


def _time_once(contender: Contender, timing: Timing, clock: Callable[[], float]) -> None:
    gc.collect()
    gc.disable()
    try:
        start = clock()
        answer = contender.run()
        timing.seconds.append(clock() - start)
    finally:
        gc.enable()
    if contender.facts is not None:
        for name, value in contender.facts(answer).items():
            timing.facts.setdefault(name, []).append(float(value))


def machine_facts(packages: Sequence[str] = ()) -> dict[str, Any]:
    """The machine, its load, the BLAS settings and the versions of fastseq and of `packages`."""
    found: dict[str, Any] = machine.describe()
    versions = dict(found["versions"])
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "-"
    blas = {name: os.environ[name] for name in BLAS_SETTINGS if name in os.environ}
    load = list(os.getloadavg()) if hasattr(os, "getloadavg") else []
    return {**found, "versions": versions, "blas": blas, "load_average": load}


def machine_lines(facts: Mapping[str, Any], threads: int) -> str:
    """The same for people."""
    blas = ", ".join(f"{k}={v}" for k, v in facts["blas"].items()) or "as it comes (nothing set)"
    load = " ".join(f"{value:.2f}" for value in facts["load_average"]) or "unknown"
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}; "
        f"{threads} thread{'s' * (threads > 1)} used; BLAS {blas}; load average {load}\n{versions}"
    )


def existing(name: str) -> Path:
    """The file so named; for argparse, which reports one that is not there."""
    path = Path(name)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no such file: {name}")
    return path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns for people: the first flush left, the rest flush right."""
    columns = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in columns], *rows]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, columns, strict=True))
        ).rstrip()
        for line in lines
    )


def rate_table(found: Comparison, work: float, base: str, unit: str) -> str:
    """Contenders with their rates: median, slowest to fastest round, and `base`'s advantage."""
    rows = []
    for timing in found.timings.values():
        low, high = work / max(timing.seconds), work / min(timing.seconds)
        ratio = "" if timing.name == base else f"{found.ratio(timing.name, base):.2f}"
        rows.append(
            [timing.name, f"{work / timing.median:,.0f}", f"{low:,.0f} – {high:,.0f}", ratio]
        )
    rows += [[name, "wrong", "not timed", ""] for name in found.refused]
    return table(["", unit, "slowest – fastest", f"{base} is × as fast"], rows)


def write_report(name: str, report: Mapping[str, Any], folder: Path = OUT) -> Path:
    """Write the report as JSON, under a name with the time of day; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path
