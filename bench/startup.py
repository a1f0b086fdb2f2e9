"""Wall time of fresh processes: importing fastseq, a search, and the first run of each command.

    python -m bench.startup
    python -m bench.startup --first-run       # with an empty kernel cache too: minutes

Warm: `import fastseq` (within the process) and `fastseq search` on an index of the corpus that
`fastseq sample` writes, compiled kernels cached, medians; target: at most 0.25 s more than a
process that imports numba and pyarrow, which alternates with the searches. First run: `index`,
`search` and `fit-lstm` on that corpus, each in turn with one kernel cache that is empty at the
beginning; targets: `index` and `search` spend at most 8 s on compiling together, `fit-lstm` 15 s.
The time of compiling is the difference from the same command repeated with the cache filled.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.common.harness import seconds_of
from bench.common.report import ROOT, Parser, Report, table

IMPORT = "import time; t = time.perf_counter(); import fastseq; print(time.perf_counter() - t)"
BASE = "import numba, pyarrow"
QUERY = "wait for a subprocess to end"
TARGETS = {"index": 8.0, "search": 8.0, "fit-lstm": 15.0}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(__doc__, rounds=9)
    parser.add_argument("--first-run", action="store_true", help="compile everything anew too")
    options = parser.parse(arguments)
    report = Report("startup", options)
    with tempfile.TemporaryDirectory() as folder:
        commands = commands_of(Path(folder), options.data if options.small else None)
        if options.first_run:
            first_run(commands, Path(folder) / "cache", report)
        run("index", commands)
        run("search", commands)
        searches, bases = [], []
        for _ in range(options.rounds):
            searches.append(seconds_of(lambda: run("search", commands))[1])
            bases.append(seconds_of(lambda: python("-c", BASE))[1])
        imports = [float(python("-c", IMPORT)) for _ in range(options.rounds)]
    measured = {"import fastseq": imports, BASE: bases, "fastseq search": searches}
    rows = []
    for name, seconds in measured.items():
        report.results[name] = seconds
        median, low, high = statistics.median(seconds), min(seconds), max(seconds)
        rows.append([name, f"{median:.3f}", f"{low:.3f} – {high:.3f}"])
    print(table(["warm", "seconds", "fastest – slowest"], rows))
    more = statistics.median(searches) - statistics.median(bases)
    report.target(more <= 0.25, f"fastseq search: {more:.3f} s more than {BASE}, at most 0.25")
    return report.end()


def commands_of(folder: Path, data: Path | None) -> dict[str, list[str]]:
    """The words of each command, on generated data or the sample corpus."""
    docs, labelled = folder / "docs.parquet", folder / "labelled.parquet"
    if data is not None:
        docs = data / "text" / "wiki_simple.parquet"
    else:
        python("-m", "fastseq_cli", "sample", str(folder))
    columns = ["--text-column", "text"]
    model = ["--epochs", "1", "--hidden", "64", "--embedding", "64", "--bidirectional"]
    return {
        "index": [str(docs), "-o", str(folder / "index"), "--overwrite", *columns],
        "search": [QUERY, "-i", str(folder / "index")],
        "fit-lstm": [str(labelled), "-o", str(folder / "model"), "--overwrite", *model],
    }


def first_run(commands: dict[str, list[str]], cache: Path, report: Report) -> None:
    """Each command with the cache as its predecessors left it, then once more."""
    spent = {}
    for name in TARGETS:
        first, again = (seconds_of(lambda: run(name, commands, cache))[1] for _ in range(2))  # noqa: B023
        spent[name] = first - again
        report.results[f"first {name}"] = {"first": first, "again": again}
        print(f"first {name}: {first:.2f} s, again {again:.2f} s", flush=True)
    together = spent["index"] + spent["search"]
    report.target(together <= TARGETS["index"], f"index and search compile in {together:.1f} s")
    fit = spent["fit-lstm"]
    report.target(fit <= TARGETS["fit-lstm"], f"fit-lstm compiles in {fit:.1f} s")


def run(name: str, commands: dict[str, list[str]], cache: Path | None = None) -> str:
    """A command in a process of its own; its output."""
    return python("-m", "fastseq_cli", name, *commands[name], cache=cache)


def python(*words: str, cache: Path | None = None) -> str:
    """The standard output of a Python process."""
    environment = {**os.environ, **({"FASTSEQ_CACHE_DIR": str(cache)} if cache else {})}
    ran = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, check=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    return ran.stdout


if __name__ == "__main__":
    sys.exit(main())
