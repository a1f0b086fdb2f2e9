"""An index that changes: fresh builds, small commits, segments, deletions, memory.

    python -m bench.living --data DATA
    python -m bench.living --data DATA --sections search commits

fresh    whole processes from a Parquet file to a committed index, with positions and without,
         against tantivy; the id is stored. tantivy has two rows, since it can store the id without
         indexing it, while an index of fastseq always finds documents by their ids
batches  whole processes that add batches of documents with a commit each; tantivy's rows differ in
         threads and in whether a document replaces an earlier one of its id, as it does in fastseq.
         fastseq's index must have the hits of a fresh one. Peak memory includes the whole corpus
memory   peak memory of processes that add the corpus to an index of one document, in all and
         anonymous, which is without the mapped files of the index and the libraries (Linux)
search   the queries over one segment, over 20 segments of one size, over 20 segments of three
         sizes, and with a tenth of the documents deleted: in one call on one thread, and one query
         at a time. Merging is turned off to make those of one size, and leaves those of three
commits  times of a writer and of readers of the same index, all with the queries' terms used
         before: one document added, one replaced, 10,000 deleted in one commit; then refreshing a
         reader, and its first query, from the file, and of the ten most frequent terms

All have the analysis of bench.search; indexes have positions except where noted. Hits are compared
with those of a fresh index of the same documents: ids, order and score bits of all queries.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fastseq
from bench.common import harness
from bench.common.harness import Check, Comparison, Contender, seconds_of
from bench.common.reference import read_batches, workplace
from bench.common.report import ROOT, Parser, Report, log, table
from bench.engines import installed, program
from bench.engines.fastseq_engine import build, differences
from bench.indexing import contender, counted, facts_of, measured, reference_counts, sizes_table
from fastseq.settings import parse_size

if TYPE_CHECKING:
    from fastseq.search.query_words import Query

TANTIVY = "tantivy"
FREQUENT = 10  # terms of the largest query
SEGMENTS = 20
SIZES = ((7, 0.13), (7, 0.012), (6, 0.001))  # of segments that are not merged: number, share
# seconds of the medians
COMMIT, REFRESH, FIRST_QUERY, DELETION = 0.1, 0.02, 0.05, 1.0


@dataclass
class Bench:
    """What the sections share. runs: a folder for indexes, removed at the end."""

    options: argparse.Namespace
    report: Report
    counts: dict[str, Any]
    runs: Path

    @cached_property
    def table(self) -> pa.Table:
        """Ids and texts."""
        return read_batches(self.options.corpus, self.column, self.counts["documents"], 1)[0]

    @cached_property
    def queries(self) -> list[str]:
        texts = pq.read_table(self.options.queries, columns=["text"])["text"].to_pylist()
        return [text for text in texts if text][: self.options.limit]

    @cached_property
    def full(self) -> fastseq.Index:
        """A fresh index of the corpus: one segment."""
        return self.build("full", self.table)

    @property
    def column(self) -> str:
        name: str = self.options.text_column
        return name

    def build(self, name: str, documents: pa.Table) -> fastseq.Index:
        log(f"  building {name}: {len(documents):,} documents")
        index: fastseq.Index = build(documents, self.column, self.runs / name, self.options.threads)
        return index

    def copy(self, index: fastseq.Index, name: str) -> fastseq.Index:
        """An index of the same files, which no commit changes."""
        link = partial(shutil.copytree, copy_function=hard_link, dirs_exist_ok=True)
        ignored = shutil.ignore_patterns("lock")
        return fastseq.Index.open(link(index.path, self.runs / name, ignore=ignored))

    def equal(self, index: fastseq.Index, fresh: fastseq.Index, what: str) -> Check:
        """Require the hits of a fresh index, and record a difference."""
        found = differences(index, fresh, self.queries, self.options.k)
        found += [] if len(index) == len(fresh) else [f"{len(index):,} documents"]
        self.report.check(not found, f"{what}: {found}")
        return Check(not found, ", ".join(found) or f"the hits of {len(self.queries):,} queries")


def hard_link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("living", options, (TANTIVY,))
    place = workplace(options.corpus, options.text_column, options.folder)
    counts = reference_counts(options, place / "reference")
    if counts["id_column"] is None:
        sys.exit("Error: adding documents requires a corpus with an id column")
    print(f"{options.corpus}: {counts['documents']:,} documents, {counts['postings']:,} postings")
    runs = Path(tempfile.mkdtemp(prefix="living-", dir=place))
    try:
        bench = Bench(options, report, counts, runs)
        # the peak memory of a process starts at that of this one, which is small at first
        for name, section in SECTIONS.items():
            if name in options.sections:
                log(f"\n{name}")
                section(bench)
    finally:
        shutil.rmtree(runs, ignore_errors=True)
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    small = {
        "batches": 12, "batch_size": 10, "k": [3, 100], "repeats": 2, "delete": 20,
        "memory": ["64MB"],
    }  # fmt: skip
    parser = Parser(__doc__, rounds=5, small=small)
    parser.add_file("--corpus", "text/wiki_simple.parquet", "Parquet file of documents with ids")
    parser.add_file("--queries", "text/wiki_simple_queries.parquet", "Parquet, column text")
    parser.add_argument("--text-column", default="text", help="of the corpus")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--k", type=int, nargs="+", default=[10, 1000], help="hits of searches")
    parser.add_argument("--limit", type=int, help="number of queries")
    parser.add_argument("--batches", type=int, default=1000, help="commits of the batches")
    parser.add_argument("--batch-size", type=int, default=100, help="documents of a batch")
    parser.add_argument("--batch-rounds", type=int, default=2, help="timed runs of the batches")
    parser.add_argument("--repeats", type=int, default=20, help="commits of each kind")
    parser.add_argument("--delete", type=int, default=10_000, help="ids deleted in one commit")
    parser.add_argument(
        "--memory", nargs="+", default=["64MB", "256MB", "1GB"], help="limits of adding"
    )
    options = parser.parse(arguments)
    options.corpus, options.queries = options.corpus.resolve(), options.queries.resolve()
    if options.small:
        options.batch_rounds = 1
    return options


# ---- whole processes


def command(bench: Bench, engine: str, name: str, *words: Any) -> list[str]:
    """A command of an engine's program that writes FOLDER."""
    options = bench.options
    text = (name, options.corpus, options.text_column, "FOLDER", options.threads, *words)
    return [*program(engine), *map(str, text)]


def fresh(bench: Bench) -> None:
    """Index the corpus, with positions and without."""
    documents, postings = bench.counts["documents"], bench.counts["postings"]
    sizes: dict[str, dict[str, float]] = {}
    for title, positions, target in (
        ("with positions", ("positions",), 2.0),
        ("without positions", (), 3.0),
    ):
        log(f"fresh index {title}: checking")
        rows: dict[str, tuple[str, tuple[str, ...]]] = {"fastseq": ("fastseq", ())}
        if installed([TANTIVY]):
            rows |= {TANTIVY: (TANTIVY, ()), "tantivy, ids indexed": (TANTIVY, ("ids",))}

        def positioned(folder: Path, wanted: int = len(positions)) -> Check:
            found = counted(folder, "fastseq")["positions"]
            return Check(found == wanted, f"{title}, as required" if found == wanted else "wrong")  # noqa: B023

        contenders = [
            contender(
                label, engine, command(bench, engine, "index", *positions, *more),
                bench.counts, bench.runs, positioned if engine == "fastseq" else None,
            )
            for label, (engine, more) in rows.items()
        ]  # fmt: skip
        found = harness.compare(contenders, bench.options.rounds)
        bench.report.check(not found.refused, f"{title}: {found.refused}")
        print(f"\nfresh index {title}, threads: {bench.options.threads}")
        print(harness.rate_table(found, documents, "fastseq", "documents/s"))
        print("\n" + sizes_table(found, postings) + "\n")
        bench.report.results[f"fresh, {title}"] = found.to_dict(documents, "fastseq")
        sizes[title] = {name: each.fact("bytes") for name, each in found.timings.items()}
        if TANTIVY in found.timings:
            ratio = found.ratio(TANTIVY, "fastseq")
            text = f"fresh index {title}: {ratio:.2f} × tantivy's speed"
            bench.report.target(ratio >= target, f"{text} (target {target:g})")
    positioned_sizes = sizes["with positions"]
    for name in list(positioned_sizes)[1:]:
        ratio = positioned_sizes["fastseq"] / positioned_sizes[name]
        text = f"size with positions: {ratio:.2f} × that of {name} (target 1.35)"
        bench.report.target(ratio <= 1.35, text)


def batches(bench: Bench) -> None:
    """Add batches with a commit each."""
    options = bench.options
    number, size = options.batches, options.batch_size
    documents = min(number * size, bench.counts["documents"])
    log(f"{number:,} batches of {size:,}: checking")
    rows: dict[str, tuple[str, int, tuple[str, ...]]] = {}
    rows["fastseq"] = ("fastseq", options.threads, ())
    if installed([TANTIVY]):
        replacing = ("positions", "ids", "replace")
        rows |= {
            "tantivy": (TANTIVY, options.threads, ("positions",)),
            "tantivy, replacing": (TANTIVY, options.threads, replacing),
        }
        if options.threads > 1:
            rows["tantivy, 1 thread"] = (TANTIVY, 1, ("positions",))

    def same(folder: Path) -> Check:
        """In a process of its own, as this one stays small."""
        words = command(bench, "fastseq", "compare", options.queries, documents)
        words[words.index("FOLDER")] = str(folder)
        ran = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
        if ran.returncode:
            return Check(False, ran.stderr.strip()[-300:])
        found = json.loads(ran.stdout)
        return Check(not found, ", ".join(found) or "ids, order and score bits of a fresh index")

    def of_row(label: str, engine: str, threads: int, more: tuple[str, ...]) -> Contender:
        words = command(bench, engine, "batches", size, number, *more)
        words[words.index("FOLDER") + 1] = str(threads)

        def facts(outcome: Any) -> dict[str, float]:
            segments = counted(outcome.folder, engine)["segments"]
            return {"segments": segments, **facts_of(outcome)}

        also = same if engine == "fastseq" else None
        counts = {"documents": documents}
        return contender(label, engine, words, counts, bench.runs, also, facts)

    contenders = [of_row(label, *row) for label, row in rows.items()]
    found = harness.compare(contenders, options.batch_rounds)
    bench.report.check(not found.refused, f"batches: {found.refused}")
    bench.report.results["batches"] = found.to_dict(documents, "fastseq")
    print(f"\n{number:,} batches of {size:,} documents, a commit each")
    print(harness.rate_table(found, documents, "fastseq", "documents/s"))
    segments = [
        [
            timing.name,
            f"{timing.median / number * 1e3:.1f}",
            f"{timing.fact('cpu_seconds'):.2f}",
            f"{timing.fact('peak_memory') / 1e6:,.0f} MB",
            f"{timing.fact('bytes') / 1e6:,.1f} MB",
            f"{timing.fact('segments'):.0f}",
        ]
        for timing in found.timings.values()
    ]
    head = ["", "ms per commit", "CPU seconds", "peak memory", "on disk", "segments at the end"]
    print("\n" + table(head, segments) + "\n")
    peers = [name for name in found.timings if name.startswith(TANTIVY)]
    if peers and "fastseq" in found.timings:
        ratio = min(found.ratio(name, "fastseq") for name in peers)
        text = f"batches: {ratio:.2f} × tantivy's documents per second, its fastest (target 1)"
        bench.report.target(ratio >= 1, text)


def memory(bench: Bench) -> None:
    """Peak memory of adding the corpus to an index of one document."""
    options = bench.options
    one = bench.runs / "one"
    first = bench.runs / "first.parquet"
    run_program("first", options.corpus, options.text_column, first, options.threads)

    def adding(corpus: Path, limit: str) -> tuple[float, float, float, int]:
        """(seconds, peak memory, peak of anonymous memory, documents)."""
        shutil.rmtree(one, ignore_errors=True)
        run_program("index", first, options.text_column, one, options.threads, "positions")
        words = ["add", corpus, options.text_column, one, options.threads, limit]
        anonymous: list[float] = []
        watch = partial(watch_anonymous, anonymous)
        outcome, seconds = seconds_of(
            lambda: measured([*program("fastseq"), *map(str, words)], one, watch)
        )
        bench.report.check(not outcome.error, f"adding with {limit}: {outcome.error}")
        documents = 0 if outcome.error else counted(one, "fastseq")["documents"]
        return seconds, outcome.memory, max(anonymous, default=float("nan")), documents

    if not options.small:
        adding(first, options.memory[0])  # compiles
    limits = {"one document": adding(first, options.memory[0])}
    for limit in options.memory:
        log(f"  adding with {limit}")
        limits[limit] = adding(options.corpus, limit)
        right = limits[limit][3] == bench.counts["documents"]
        bench.report.check(right, f"adding with {limit}: {limits[limit][3]:,} documents")
    bench.report.results["memory"] = limits
    base = limits["one document"]
    rows = [
        [
            name,
            f"{seconds:.2f}",
            *(f"{value / 1e6:,.0f} MB" for value in (peak, anonymous)),
            *(f"{(a - b) / 1e6:,.0f} MB" for a, b in ((peak, base[1]), (anonymous, base[2]))),
        ]
        for name, (seconds, peak, anonymous, _) in limits.items()
    ]
    more = "more than for one document"
    head = ["limit", "seconds", "peak", "anonymous", f"peak, {more}", f"anonymous, {more}"]
    print("\nadding the corpus to an index of one document\n" + table(head, rows) + "\n")
    for limit in options.memory:
        spent = limits[limit][2] - base[2]
        text = f"adding with {limit}: {spent / 1e6:,.0f} MB anonymous memory {more}"
        bench.report.target(not spent > parse_size(limit), f"{text} (target {limit})")


def run_program(*words: Any) -> None:
    """A command of fastseq's program, to its end."""
    subprocess.run(
        [*program("fastseq"), *map(str, words)], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
    )


def watch_anonymous(found: list[float], process: int) -> None:
    """Append the bytes of a process's anonymous memory until it ends; nothing without /proc."""
    path = Path(f"/proc/{process}/status")
    while path.exists():
        lines = [line for line in path.read_text().splitlines() if line.startswith("RssAnon")]
        if not lines:
            return
        found.append(float(lines[0].split()[1]) * 1024)
        time.sleep(0.002)


# ---- searches


def parts(total: int) -> tuple[list[int], list[int]]:
    """The numbers of documents of SEGMENTS segments: of one size, and of three, the largest
    first."""
    even = np.diff(np.linspace(0, total, SEGMENTS + 1).astype(int)).tolist()
    sizes = [max(1, int(share * total)) for number, share in SIZES for _ in range(number)]
    sizes[0] += total - sum(sizes)
    return even, sizes


def segmented(bench: Bench, name: str, sizes: Sequence[int]) -> fastseq.Index:
    """An index of the corpus with segments of these sizes, never merged."""
    edges = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    with patch("fastseq.index.changes.due", lambda documents, deleted: None):
        index = bench.build(name, bench.table.slice(0, edges[1]))
        for first, last in pairwise(edges[1:]):
            index.add(bench.table.slice(first, last - first), threads=bench.options.threads)
    segments = index.summary.get("segments", 1)
    bench.report.check(segments == len(sizes), f"{name}: {segments} segments")
    return index


def search(bench: Bench) -> None:
    """The queries over one segment, several, and deleted documents."""
    documents = bench.table.num_rows
    even, sizes = parts(documents)
    one, equal, three = "one segment", f"{SEGMENTS} segments, one size", f"{SEGMENTS}, three sizes"
    deleted, rest = "10 % deleted", "the other 90 %, fresh"
    gone = np.sort(np.random.default_rng(0).choice(documents, documents // 10, replace=False))
    kept = np.setdiff1d(np.arange(documents), gone)
    indexes = {
        one: bench.full,
        equal: segmented(bench, "equal", even),
        three: segmented(bench, "three", sizes),
        deleted: bench.copy(bench.full, "deleted"),
        rest: bench.build("rest", bench.table.take(kept)),
    }
    ids = bench.table[bench.counts["id_column"]].take(pa.array(gone)).combine_chunks()
    summary = indexes[deleted].delete(ids)
    bench.report.check(summary["deleted"] == len(gone), f"deleting a tenth: {summary}")
    fresh_of = {one: one, equal: one, three: one, deleted: rest, rest: rest}
    for k in bench.options.k:
        for way, run in (("one call", in_one_call), ("one at a time", one_at_a_time)):
            log(f"search, k = {k}, {way}: checking")
            contenders = [
                searching(bench, name, index, indexes[fresh_of[name]], k, run)
                for name, index in indexes.items()
            ]
            found = harness.compare(contenders, 2 * bench.options.rounds - 1)
            bench.report.check(not found.refused, f"k = {k}, {way}: {found.refused}")
            bench.report.results[f"search, k = {k}, {way}"] = found.to_dict(len(bench.queries), one)
            print(f"\nk = {k}, {way}, one thread")
            print(searches_table(found, len(bench.queries), one))
            for name, target in ((equal, 0.8), (three, 0.8), (deleted, 0.9)):
                if name in found.timings and one in found.timings:
                    ratio = 1 / found.ratio(name, one)
                    text = f"{name}, k = {k}, {way}: {ratio:.2f} × the speed over one segment"
                    bench.report.target(ratio >= target, f"{text} (target {target})")


def in_one_call(index: fastseq.Index, queries: Sequence[str], k: int) -> list[float]:
    index.search(queries, k=k, threads=1)
    return []


def one_at_a_time(index: fastseq.Index, queries: Sequence[str], k: int) -> list[float]:
    """The seconds of each query."""
    taken = []
    for query in queries:
        start = time.perf_counter()
        index.search(query, k=k, threads=1)
        taken.append(time.perf_counter() - start)
    return taken


def searching(
    bench: Bench, name: str, index: fastseq.Index, fresh: fastseq.Index, k: int,
    run: Callable[[fastseq.Index, Sequence[str], int], list[float]],
) -> Contender:  # fmt: skip
    queries = list(bench.queries)

    def check(answer: Any) -> Check:
        found = differences(index, fresh, queries, [k])
        return Check(not found, ", ".join(found) or f"the hits of {len(queries):,} queries")

    def facts(seconds: list[float]) -> Mapping[str, float]:
        if not seconds:
            return {}
        return {"median": statistics.median(seconds), "p99": float(np.quantile(seconds, 0.99))}

    return Contender(name, lambda: run(index, queries, k), check, facts)


def searches_table(found: Comparison, queries: int, base: str) -> str:
    """Rates, the ratio to the speed of `base`, and the latencies where queries are single."""
    single = any(timing.facts for timing in found.timings.values())
    rows = []
    for name, timing in found.timings.items():
        row = [name, f"{queries / timing.median:,.0f}", f"{1 / found.ratio(name, base):.2f}"]
        latencies = [f"{timing.fact(fact) * 1e6:,.0f}" for fact in ("median", "p99")]
        rows.append(row + (latencies if single else []))
    head = ["", "queries/s", f"× {base}"]
    return table(head + (["median µs", "99th percentile µs"] if single else []), rows)


# ---- commits


@dataclass
class Times:
    """Seconds of every repeat of a kind of commit. large: the query of frequent terms."""

    commit: list[float] = field(default_factory=list)
    refresh: list[float] = field(default_factory=list)
    query: list[float] = field(default_factory=list)
    large: list[float] = field(default_factory=list)


class Observed:
    """A writer and two readers of an index: one for a query of the file, one for a large query."""

    def __init__(self, bench: Bench, index: fastseq.Index) -> None:
        self.queries = bench.queries
        self.k = bench.options.k[0]
        self.writer = index
        self.readers = [fastseq.Index.open(index.path) for _ in range(2)]
        terms = self.readers[0].frequent_terms(FREQUENT)
        self.large: Query = dict.fromkeys(terms, 1.0)
        self.all: list[Query] = [*self.queries, self.large]
        for reader in self.readers:
            reader.search(self.all, k=self.k, threads=1)

    def measure(self, change: Callable[[], Any], times: Times, number: int) -> Any:
        """Time a change, the refresh of the readers and their first queries; returns what the
        change returned."""
        query: Query = self.queries[number * 37 % len(self.queries)]
        answer, seconds = seconds_of(change)
        times.commit.append(seconds)
        asked = ((query, times.query), (self.large, times.large))
        for reader, (words, taken) in zip(self.readers, asked, strict=True):
            times.refresh.append(seconds_of(reader.refresh)[1])
            taken.append(seconds_of(partial(reader.search, words, k=self.k, threads=1))[1])
            reader.search(self.all, k=self.k, threads=1)
        return answer


def commits(bench: Bench) -> None:
    """One document added, one replaced, many deleted: a warm-up of each, then the repeats."""
    repeats = bench.options.repeats
    documents = bench.table.num_rows
    report = bench.report
    found = {}

    held = repeats + 1
    index = bench.build("adding", bench.table.slice(0, documents - held))
    seen = Observed(bench, index)
    times = Times()
    for n in range(held):
        row = bench.table.slice(documents - held + n, 1)
        seen.measure(partial(index.add, row), Times() if n == 0 else times, n)
    found["one document added"] = times
    for reader in (index, *seen.readers):
        bench.equal(reader, bench.full, "one document added at a time")

    index = bench.copy(bench.full, "replacing")
    seen, times = Observed(bench, index), Times()
    chosen = np.random.default_rng(1).choice(documents, held, replace=False)
    for n, place in enumerate(chosen.tolist()):
        change = partial(index.add, bench.table.slice(place, 1))
        summary = seen.measure(change, Times() if n == 0 else times, n)
        report.check(summary["replaced"] == 1, f"replacing one document: {summary}")
    found["one document replaced"] = times
    order = np.concatenate([np.setdiff1d(np.arange(documents), chosen), chosen])
    other = bench.build("replaced", bench.table.take(order))
    bench.equal(seen.readers[0], other, "one document replaced at a time")

    times = Times()
    ids = bench.table[bench.counts["id_column"]].combine_chunks()
    for n in range(held):
        index = bench.copy(bench.full, f"deleting-{n}")
        seen = Observed(bench, index)
        chosen = np.random.default_rng(n).choice(documents, bench.options.delete, replace=False)
        change = partial(index.delete, ids.take(pa.array(chosen)))
        summary = seen.measure(change, Times() if n == 0 else times, n)
        report.check(summary["deleted"] == len(chosen), f"deleting: {summary}")
        if n == 0:
            kept = np.setdiff1d(np.arange(documents), chosen)
            other = bench.build("deleted-rest", bench.table.take(kept))
            bench.equal(seen.readers[0], other, "many documents deleted")
        del seen, index
        shutil.rmtree(bench.runs / f"deleting-{n}")
    deletion = f"{bench.options.delete:,} deleted"
    found[deletion] = times
    commits_report(bench, found, deletion)


def commits_report(bench: Bench, found: Mapping[str, Times], deletion: str) -> None:
    """Print medians and worst times, in milliseconds, and the targets."""

    def shown(seconds: Sequence[float]) -> str:
        return f"{statistics.median(seconds) * 1e3:.1f} ({max(seconds) * 1e3:.1f})"

    rows = [
        [name, *map(shown, (times.commit, times.refresh, times.query, times.large))]
        for name, times in found.items()
    ]
    head = ["ms: median (worst)", "commit", "refresh", "first query", f"first, {FREQUENT} terms"]
    documents, repeats = bench.table.num_rows, bench.options.repeats
    print(f"\ncommits to an index of {documents:,} documents, {repeats} of each kind")
    print(table(head, rows) + "\n")
    bench.report.results["commits"] = {name: vars(times) for name, times in found.items()}
    for name, times in found.items():
        for what, seconds, target in (
            ("commit", times.commit, DELETION if name == deletion else COMMIT),
            ("refresh", times.refresh, REFRESH),
            ("first query", times.query, FIRST_QUERY),
            (f"first query of {FREQUENT} frequent terms", times.large, FIRST_QUERY),
        ):
            reached = statistics.median(seconds) < target
            limit = f"target {target * 1e3:g}"
            bench.report.target(reached, f"{name}, {what}: {shown(seconds)} ms ({limit})")


SECTIONS = {
    "fresh": fresh,
    "batches": batches,
    "memory": memory,
    "search": search,
    "commits": commits,
}


if __name__ == "__main__":
    sys.exit(main())
