"""Options, header, tables, verdicts and the JSON file of a benchmark's run."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import small
from fastseq import machine

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "bench" / "out"
BLAS_SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


class Parser(argparse.ArgumentParser):
    """The options that all benchmarks share: --data, --small, --json, --threads, --rounds.

    Parameters
    ----------
    doc : the module's docstring
    rounds : default of --rounds; None where there is nothing to repeat
    threads : default of --threads
    small : option values of the small mode
    """

    def __init__(
        self,
        doc: str | None,
        rounds: int | None = None,
        threads: int = 2,
        small: Mapping[str, Any] | None = None,
    ) -> None:
        text = argparse.RawDescriptionHelpFormatter
        super().__init__(description=doc, formatter_class=text, allow_abbrev=False)
        self._small = {"rounds": 1, "threads": 1, **(small or {})}
        self._files: dict[str, str] = {}
        self.add_argument("--data", type=Path, default=Path(), help="folder of the data sets")
        self.add_argument(
            "--small", action="store_true", help="run on generated data, within seconds"
        )
        self.add_argument("--json", type=Path, help="write the report to this file too")
        self.add_argument("--threads", type=int, default=threads, help="of all contenders")
        if rounds is not None:
            self.add_argument("--rounds", type=int, default=rounds, help="timed runs of each")

    def add_file(self, flag: str, below: str, what: str) -> None:
        """An option for a file or folder that is DATA/below unless given."""
        action = self.add_argument(flag, type=Path, help=f"{what} (default: DATA/{below})")
        self._files[action.dest] = below

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """The options; `folder` is where results go. Exits with status 2 for wrong ones."""
        if "--small" in (sys.argv[1:] if arguments is None else arguments):
            self.set_defaults(data=small.data(), **self._small)
        options = self.parse_args(arguments)
        options.folder = small.folder() / "out" if options.small else OUT
        for name, below in self._files.items():
            setattr(options, name, self.existing(getattr(options, name) or options.data / below))
        return options

    def existing(self, path: Path) -> Path:
        """The path, where it exists."""
        if not path.exists():
            self.error(f"no such file: {path}")
        return path


class Report:
    """One run: prints its header, collects results and verdicts, writes them as JSON.

    packages : peers whose versions are reported beside fastseq's
    """

    def __init__(
        self, name: str, options: argparse.Namespace, packages: Sequence[str] = ()
    ) -> None:
        if "torch" in packages and (torch := optional("torch")) is not None:
            torch.set_num_threads(options.threads)
        self.name, self.options = name, options
        self.facts = facts(packages, options.threads)
        self.results: dict[str, Any] = {}
        self.wrong: list[str] = []
        self.missed: list[str] = []
        print(header(self.facts) + "\n", flush=True)

    def check(self, passed: bool, what: str) -> bool:
        """Record a result that is wrong."""
        if not passed:
            self.wrong.append(what)
        return passed

    def target(self, reached: bool, what: str) -> None:
        """Print whether a target of speed or accuracy was reached; the small mode has none."""
        if self.options.small:
            return
        print(f"{'reached' if reached else 'MISSED '}  {what}", flush=True)
        if not reached:
            self.missed.append(what)

    def end(self) -> int:
        """Write the report; the exit status: 1 for a wrong result or a missed target."""
        for what in self.wrong:
            print(f"WRONG  {what}", flush=True)
        verdict = {"wrong": self.wrong, "missed": self.missed}
        report = {"bench": self.name, **self.facts, **verdict, "results": self.results}
        text = json.dumps(report, indent=1, ensure_ascii=False, default=str) + "\n"
        self.options.folder.mkdir(parents=True, exist_ok=True)
        path = self.options.folder / f"{self.name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
        for each in filter(None, (path, self.options.json)):
            each.write_text(text, "utf-8")
        log(f"written: {path}")
        return 1 if self.wrong or self.missed else 0


def facts(packages: Sequence[str], threads: int) -> dict[str, Any]:
    """Command, date, commit, machine, load, threads, BLAS, and versions of fastseq and peers."""
    described: dict[str, Any] = machine.describe()
    versions = dict(described.pop("versions"))
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "-"
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {spec.name}" if spec is not None else sys.argv[0]
    return {
        "command": f"{program} {shlex.join(sys.argv[1:])}".strip(),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
        **described,
        "threads": threads,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
        "blas": blas(),
        "blas_settings": {name: os.environ[name] for name in BLAS_SETTINGS if name in os.environ},
        "torch": torch_facts() if "torch" in packages else {},
        "versions": versions,
    }


def header(facts: Mapping[str, Any]) -> str:
    """The same as text."""

    def listed(values: Mapping[str, Any], sign: str) -> str:
        return ", ".join(f"{name}{sign}{value}" for name, value in values.items())

    threads = facts["threads"]
    load = " ".join(f"{value:.2f}" for value in facts["load_average"]) or "unknown"
    lines = [
        facts["command"],
        f"{facts['date']}, commit {facts['commit']}",
        f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}; "
        f"{threads} thread{'s' * (threads > 1)} used; load average {load}",
        f"BLAS: {facts['blas']}; {listed(facts['blas_settings'], '=') or 'no variable set'}",
        listed(facts["versions"], " "),
    ]
    if facts["torch"]:
        lines.append(f"PyTorch: {listed(facts['torch'], ' ')}")
    return "\n".join(lines)


def commit() -> str:
    """The commit of the checkout, with "modified" where tracked files differ from it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=10", "HEAD") + (" (modified)" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def blas() -> str:
    """NumPy's BLAS, with the kernels it chose where threadpoolctl is installed to ask."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[call-overload]
    said = f"{built['name']} {built['version']}"
    if find_spec("threadpoolctl") is not None:
        pools = import_module("threadpoolctl").threadpool_info()
        kernels = {p.get("architecture") for p in pools if p.get("user_api") == "blas"}
        said += "".join(f", {kernel}" for kernel in sorted(filter(None, kernels)))
    return said


def torch_facts() -> dict[str, Any]:
    torch = optional("torch")
    if torch is None:
        return {}
    return {
        "threads": torch.get_num_threads(),
        "oneDNN": torch.backends.mkldnn.is_available(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


@cache
def optional(name: str) -> Any:
    """A peer's module; None, and a line that says so, where it is not installed."""
    if find_spec(name.partition(".")[0]) is None:
        log(f"{name} is not installed: skipped")
        return None
    return import_module(name)


def log(line: str) -> None:
    """Print to standard error."""
    print(line, file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the rest to the right."""
    columns = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in columns], *rows]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, columns, strict=True))
        ).rstrip()
        for line in lines
    )


def setting(text: str) -> tuple[str, Any]:
    """(name, value) of NAME=JSON; what is not JSON is a string."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; 0 for one value."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def mean_and_error(values: Sequence[float], digits: int = 4) -> str:
    """The mean ± its standard error; empty for no values."""
    if not values:
        return ""
    return f"{statistics.mean(values):.{digits}f} ± {standard_error(values):.{digits}f}"
