"""Documents per second from a Parquet file to a committed index, whole process.

    python -m bench.indexing --data DATA
    python -m bench.indexing --corpus CORPUS.parquet

Timed is a fresh process that reads the file, builds the index, commits it to disk and exits:
fastseq through its command, the peers through the programs under engines/, each in its fastest way,
with the text indexed without positions and the id stored, the same stop words and stemmer. fastseq
runs twice: with its default memory and with --memory 256MB. Compiled kernels and the file are warm:
the run that is checked comes first and is not timed. Checked are the number of documents and, where
the analysis is the reference's own (fastseq, bm25s), of postings.

Besides time: peak resident memory and processor time of the process, bytes of the folder it writes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import harness
from bench.common.harness import Check, Comparison, Contender
from bench.common.reference import workplace
from bench.common.report import ROOT, Parser, Report, log, table
from bench.engines import ENGINES, PACKAGES, installed, program

COUNTED = ("fastseq", "bm25s")  # those whose postings are the reference's
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Outcome:
    """One process. memory: peak resident bytes; cpu: seconds of all its threads."""

    folder: Path
    memory: float
    cpu: float
    error: str


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("indexing", options, PACKAGES)
    place = workplace(options.corpus, options.text_column, options.folder)
    counts = reference_counts(options, place / "reference")
    print(f"{options.corpus}: {counts['documents']:,} documents, {counts['postings']:,} postings")
    runs = Path(tempfile.mkdtemp(prefix="indexing-", dir=place))
    try:
        contenders = list(contenders_of(options, counts, runs))
        log("checking")
        found = harness.compare(contenders, options.rounds)
    finally:
        shutil.rmtree(runs, ignore_errors=True)
    base = contenders[0].name
    print("\n" + harness.rate_table(found, counts["documents"], base, "documents/s"))
    print("\n" + sizes_table(found, counts["postings"]))
    report.check(not found.refused, str(found.refused))
    report.results |= {"counts": counts, **found.to_dict(counts["documents"], base)}
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, rounds=3, small={"engines": ["fastseq", "bm25s"]})
    parser.add_file("--corpus", "text/wiki_simple.parquet", "Parquet file of documents")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--memory", default="256MB", help="fastseq's limit in its second row")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    options = parser.parse(arguments)
    options.corpus = options.corpus.resolve()
    return options


def reference_counts(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Documents, postings and id column, counted in a process of its own: a child's peak memory
    starts at its parent's, so this process stays small."""
    if not (folder / "counts.json").exists():
        log("analysing the corpus for the reference")
        command = [sys.executable, "-m", "bench.common.reference"]
        words = [str(options.corpus), options.text_column, str(folder)]
        subprocess.run([*command, *words], check=True, cwd=ROOT)
    counts: dict[str, Any] = json.loads((folder / "counts.json").read_text())
    return counts


def contenders_of(
    options: argparse.Namespace, counts: dict[str, Any], runs: Path
) -> Iterator[Contender]:
    for name in installed(options.engines):
        if name == "fastseq":
            command = fastseq_command(options, counts["id_column"])
            yield contender(name, name, [*command, "-o", "FOLDER"], counts, runs)
            limited = [*command, "--memory", options.memory, "-o", "FOLDER"]
            yield contender(f"{name}, {options.memory}", name, limited, counts, runs)
        else:
            words = ["index", str(options.corpus), options.text_column, "FOLDER"]
            command = [*program(name), *words, str(options.threads)]
            yield contender(name, name, command, counts, runs)


def fastseq_command(options: argparse.Namespace, id_column: str | None) -> list[str]:
    """As a user would type it."""
    script = shutil.which("fastseq", path=str(Path(sys.executable).parent))
    return [
        *([script] if script else [sys.executable, "-m", "fastseq_cli"]),
        *("index", str(options.corpus), "--text-column", options.text_column),
        *("--tokenizer", "word", "--stopwords", "lucene", "--stemmer", "english"),
        *("--cjk", "none", "--no-positions"),
        *("--store", id_column or "none", "--threads", str(options.threads), "--quiet"),
    ]


def contender(
    label: str,
    engine: str,
    command: list[str],
    counts: dict[str, Any],
    runs: Path,
    also: Callable[[Path], Check] | None = None,
    facts: Callable[[Outcome], dict[str, float]] | None = None,
) -> Contender:
    """A process that runs `command`, in which FOLDER stands for its index; `also` is another check
    of that."""
    numbers = itertools.count()
    name = "".join(c if c.isalnum() else "-" for c in label)

    def run() -> Outcome:
        folder = runs / f"{name}-{next(numbers)}"
        return measured([str(folder) if word == "FOLDER" else word for word in command], folder)

    def check(outcome: Outcome) -> Check:
        try:
            found = judged(outcome, engine, counts, engine in COUNTED)
            return also(outcome.folder) if also is not None and found.passed else found
        finally:
            shutil.rmtree(outcome.folder, ignore_errors=True)

    return Contender(label, run, check, facts or facts_of)


def measured(
    command: list[str], folder: Path, watch: Callable[[int], None] | None = None
) -> Outcome:
    """Run the command to its end; its standard error is reported where it fails. watch: called with
    the number of the running process, and returns when it has ended."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, cwd=ROOT)
        if watch is not None:
            watch(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        text = errors.read().decode("utf-8", "replace").strip()
    failed = f"exit {process.returncode}: {text[-300:]}" if process.returncode else ""
    cpu = usage.ru_utime + usage.ru_stime
    return Outcome(folder, float(usage.ru_maxrss) * RSS_UNIT, cpu, failed)


def judged(outcome: Outcome, engine: str, counts: dict[str, Any], all_counted: bool) -> Check:
    if outcome.error:
        return Check(False, outcome.error)
    try:
        found = counted(outcome.folder, engine)
    except RuntimeError as error:
        return Check(False, f"its index does not open: {error}")
    for what in ("documents", "postings") if all_counted else ("documents",):
        if what in counts and found[what] != counts[what]:
            return Check(False, f"{found[what]:,} {what} in its index, {counts[what]:,} expected")
    text = f"{found['documents']:,} documents"
    return Check(True, text + (f", {found['postings']:,} postings" if all_counted else ""))


def counted(folder: Path, engine: str) -> dict[str, int]:
    """What the engine's program counts in an index. Raises RuntimeError where it fails."""
    command = [*program(engine), "count", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if ran.returncode:
        raise RuntimeError(ran.stderr.strip()[-300:])
    found: dict[str, int] = json.loads(ran.stdout.strip().splitlines()[-1])
    return found


def facts_of(outcome: Outcome) -> dict[str, float]:
    """Memory, processor time and size on disk; removes the folder."""
    if outcome.error:
        raise RuntimeError(f"{outcome.folder.name} failed while timed: {outcome.error}")
    size = sum(path.stat().st_size for path in outcome.folder.rglob("*") if path.is_file())
    shutil.rmtree(outcome.folder)
    return {"peak_memory": outcome.memory, "cpu_seconds": outcome.cpu, "bytes": float(size)}


def sizes_table(found: Comparison, postings: int) -> str:
    head = ["", "seconds", "CPU seconds", "peak memory", "on disk", "bytes per posting"]
    rows = [
        [
            timing.name,
            f"{timing.median:.2f}",
            f"{timing.fact('cpu_seconds'):.2f}",
            f"{timing.fact('peak_memory') / 1e6:,.0f} MB",
            f"{timing.fact('bytes') / 1e6:,.1f} MB",
            f"{timing.fact('bytes') / max(postings, 1):.2f}"
            if timing.name.startswith(COUNTED)
            else "",
        ]
        for timing in found.timings.values()
    ]
    return table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
