"""Check contenders against a reference, then time them in alternation.

1. A contender's answer is checked before the clock starts. A wrong one is refused: it is named with
   the reason and never timed.
2. Every round runs every contender once, in one process, each round starting with another one, so
   that a slow minute of the machine affects all of them. The check's own run is the warm-up; the
   garbage collector is off while the clock runs (as in timeit).
3. Reported are the median, the fastest and the slowest round, and the ratio: the median over the
   rounds of the ratio of the two times of a round.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.common.report import log, table

SAMPLE = 0.05  # shortest sample of a repeated call, in seconds


@dataclass(frozen=True)
class Check:
    """The outcome of comparing an answer with the reference."""

    passed: bool
    message: str


@dataclass(frozen=True)
class Contender:
    """Something to time.

    run    does the whole work once and returns its answer
    check  judges an answer; not timed
    facts  further numbers to record of each round's answer, such as peak memory; not timed
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
        """The median of a further number over the rounds; NaN where it was not recorded."""
        return statistics.median(self.facts[name]) if name in self.facts else float("nan")


@dataclass
class Comparison:
    """The result of `compare`. refused: contender's name to the reason."""

    timings: dict[str, Timing]
    refused: dict[str, str]

    def ratio(self, name: str, base: str) -> float:
        """Speed-up of `base` over `name`: the median of the rounds' own ratios.

        NaN where one of them was refused.
        """
        if name not in self.timings or base not in self.timings:
            return float("nan")
        pairs = zip(self.timings[name].seconds, self.timings[base].seconds, strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def to_dict(self, work: float, base: str | None = None) -> dict[str, Any]:
        """For JSON; work: the items that one round processes."""
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
    log: Callable[[str], None] = log,
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
        check = contender.check(contender.run())
        log(f"  {contender.name}: {'' if check.passed else 'WRONG, not timed: '}{check.message}")
        if check.passed:
            found.timings[contender.name] = Timing(contender.name, check.message)
        else:
            found.refused[contender.name] = check.message

    timed = [contender for contender in contenders if contender.name in found.timings]
    for number in range(rounds):
        first = number % max(len(timed), 1)
        for contender in timed[first:] + timed[:first]:
            timing = found.timings[contender.name]
            answer, seconds = seconds_of(contender.run, clock)
            timing.seconds.append(seconds)
            for name, value in (contender.facts(answer) if contender.facts else {}).items():
                timing.facts.setdefault(name, []).append(float(value))
    return found


def alternate(
    runs: Mapping[str, Callable[[], Any]], rounds: int, seconds: float = 0.0
) -> dict[str, float]:
    """The median seconds of each of several short calls in alternation, after three rounds of
    warm-up: at least so many rounds, for at least so many seconds."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(3):
        for run in runs.values():
            run()
    gc.collect()
    gc.disable()
    try:
        began, done = time.perf_counter(), 0
        while done < rounds or time.perf_counter() - began < seconds:
            done += 1
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                taken[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return {name: statistics.median(each) for name, each in taken.items()}


def fastest(variants: Sequence[Contender], rounds: int = 2) -> Contender:
    """The fastest of one engine's ways to the same answer, judged by each one's best round.

    With all of them wrong, the first, so that `compare` refuses it by name.
    """
    found = compare(variants, rounds, log=lambda line: None)
    right = [variant for variant in variants if variant.name in found.timings]
    return min(right, key=lambda v: min(found.timings[v.name].seconds), default=variants[0])


def seconds_of(
    run: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> tuple[Any, float]:
    """(what one call returned, its seconds)."""
    gc.collect(1)
    gc.disable()
    try:
        start = clock()
        answer = run()
        return answer, clock() - start
    finally:
        gc.enable()


def quickest(run: Callable[[], Any], rounds: int, sample: float = SAMPLE) -> float:
    """Seconds of one call: the shortest of so many samples, each of at least `sample` seconds."""
    run()
    times = max(1, round(sample / max(seconds_of(run)[1], 1e-9)))

    def many() -> None:
        for _ in range(times):
            run()

    return min(seconds_of(many)[1] for _ in range(rounds)) / times


def rate_table(found: Comparison, work: float, base: str, unit: str) -> str:
    """Contenders with their rates: median, slowest to fastest round, and the speed-up of `base`."""
    rows = []
    for timing in found.timings.values():
        low, high = work / max(timing.seconds), work / min(timing.seconds)
        ratio = "" if timing.name == base else f"{found.ratio(timing.name, base):.2f}"
        rows.append(
            [timing.name, f"{work / timing.median:,.0f}", f"{low:,.0f} – {high:,.0f}", ratio]
        )
    rows += [[name, "wrong", "not timed", ""] for name in found.refused]
    return table(["", unit, "slowest – fastest", f"speed-up of {base}"], rows)
