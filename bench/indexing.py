"""Documents a second from a Parquet file to a committed index, whole process.

    python bench/indexing.py --corpus CORPUS.parquet

What is timed: a fresh process that reads the file, builds the index, commits it to disk and ends:
fastseq through its command, the peers through the programs under engines/, each its quickest way,
with the text indexed and the id kept, the same stop words and stemmer. fastseq runs twice: with
its default memory and with --memory 256MB. Compiled kernels and the file are warm: the
run that is checked comes first and is not timed. Checked are the documents, and where the analysis
is the reference's own (fastseq, bm25s) the number of postings.

Besides time: peak resident memory and processor time of the process, bytes of the folder it leaves.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness
from harness import Check, Comparison, Contender
from reference import workplace

BENCH = Path(__file__).resolve().parent
ENGINES = ("fastseq", "tantivy", "bm25s", "pisa")
PACKAGES = ("bm25s", "tantivy", "pyterrier-pisa")
COUNTED = ("fastseq", "bm25s")  # those whose postings are the reference's
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Outcome:
    """One process. memory: peak resident bytes; cpu: seconds of all its threads."""

    folder: Path
    memory: float
    cpu: float
    error: str


def main() -> int:
    options = parse()
    place = workplace(options.corpus, options.text_column, harness.OUT)
    tell(f"{options.corpus}, column {options.text_column}")
    counts = reference_counts(options, place / "reference")
    runs = Path(tempfile.mkdtemp(prefix="indexing-", dir=place))
    try:
        contenders = list(contenders_of(options, counts, runs))
        tell("checking")
        found = harness.compare(contenders, options.rounds, tell=tell)
    finally:
        shutil.rmtree(runs, ignore_errors=True)
    base = contenders[0].name
    print("\n" + harness.rate_table(found, counts["documents"], base, "documents/s"))
    print("\n" + sizes_table(found, counts["postings"]))
    facts = harness.machine_facts(PACKAGES)
    print("\n" + harness.machine_lines(facts, options.threads))
    report = {
        "bench": "indexing",
        "machine": facts,
        "corpus": str(options.corpus),
        "threads": options.threads,
        "counts": counts,
        "results": found.to_dict(counts["documents"], base),
    }
    tell(f"written: {harness.write_report('indexing', report)}")
    return 1 if found.refused else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--corpus", type=harness.existing, required=True, help="a Parquet file of documents"
    )
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="256MB", help="fastseq's budget in its second row")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    return parser.parse_args()


def reference_counts(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Documents, postings and id column, counted in a process of its own.

    A process inherits its parent's peak memory, so this one stays small.
    """
    if not (folder / "counts.json").exists():
        tell("analysing the corpus for the reference")
        command = [str(BENCH / "reference.py"), str(options.corpus), options.text_column]
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    counts: dict[str, Any] = json.loads((folder / "counts.json").read_text())
    return counts


def contenders_of(
    options: argparse.Namespace, counts: dict[str, Any], runs: Path
) -> list[Contender]:
    found = []
    for name in options.engines:
        program = [sys.executable, str(BENCH / "engines" / f"{name}_engine.py")]
        if name == "fastseq":
            for label, memory in (("fastseq", []), (f"fastseq, {options.memory}", ["--memory"])):
                command = fastseq_command(options, counts["id_column"])
                command += [*memory, options.memory] if memory else []
                found.append(contender(label, name, command, ["-o"], [], program, counts, runs))
        else:
            command = [*program, "index", str(options.corpus), options.text_column]
            last = [str(options.threads)]
            found.append(contender(name, name, command, [], last, program, counts, runs))
    return found


def fastseq_command(options: argparse.Namespace, id_column: str | None) -> list[str]:
    """As a user would type it."""
    script = shutil.which("fastseq", path=str(Path(sys.executable).parent)) or "fastseq"
    return [
        *(script, "index", str(options.corpus), "--text-column", options.text_column),
        *("--stopwords", "lucene", "--stemmer", "english", "--cjk", "none"),
        *("--store", id_column or "none", "--threads", str(options.threads), "--quiet"),
    ]


def contender(
    label: str,
    engine: str,
    command: list[str],
    before: list[str],
    after: list[str],
    program: list[str],
    counts: dict[str, Any],
    runs: Path,
) -> Contender:
    """`command` with the folder to write between `before` and `after`."""
    numbers = itertools.count()

    def run() -> Outcome:
        folder = runs / f"{engine}-{next(numbers)}-{label.count(',')}"
        return measured([*command, *before, str(folder), *after], folder)

    def check(outcome: Outcome) -> Check:
        try:
            return judged(outcome, [*program, "count"], counts, engine in COUNTED)
        finally:
            shutil.rmtree(outcome.folder, ignore_errors=True)

    return Contender(label, run, check, facts_of)


def measured(command: list[str], folder: Path) -> Outcome:
    """Run the command to its end; what it writes to standard error is kept for a failure."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip()
    failed = f"exit {process.returncode}: {said[-300:]}" if process.returncode else ""
    cpu = usage.ru_utime + usage.ru_stime
    return Outcome(folder, float(usage.ru_maxrss) * RSS_UNIT, cpu, failed)


def judged(outcome: Outcome, count: list[str], counts: dict[str, Any], all_counted: bool) -> Check:
    if outcome.error:
        return Check(False, outcome.error)
    said = subprocess.run([*count, str(outcome.folder)], capture_output=True, text=True)
    if said.returncode:
        return Check(False, f"its index does not open: {said.stderr.strip()[-300:]}")
    found = json.loads(said.stdout.strip().splitlines()[-1])
    for what in ("documents", "postings") if all_counted else ("documents",):
        if found[what] != counts[what]:
            return Check(False, f"{found[what]:,} {what} in its index, {counts[what]:,} expected")
    told = f"{found['documents']:,} documents"
    return Check(True, told + (f", {found['postings']:,} postings" if all_counted else ""))


def facts_of(outcome: Outcome) -> dict[str, float]:
    """Also takes the folder away."""
    if outcome.error:
        raise RuntimeError(f"{outcome.folder.name} failed while timed: {outcome.error}")
    size = sum(path.stat().st_size for path in outcome.folder.rglob("*") if path.is_file())
    shutil.rmtree(outcome.folder)
    return {"peak_memory": outcome.memory, "cpu_seconds": outcome.cpu, "bytes": float(size)}


def sizes_table(found: Comparison, postings: int) -> str:
    head = ["", "seconds", "CPU seconds", "peak memory", "on disk", "bytes a posting"]
    rows = []
    for timing in found.timings.values():
        size = timing.fact("bytes")
        own = timing.name.startswith(COUNTED)
        rows.append(
            [
                timing.name,
                f"{timing.median:.2f}",
                f"{timing.fact('cpu_seconds'):.2f}",
                f"{timing.fact('peak_memory') / 1e6:,.0f} MB",
                f"{size / 1e6:,.1f} MB",
                f"{size / max(postings, 1):.2f}" if own else "",
            ]
        )
    return harness.table(head, rows)


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
