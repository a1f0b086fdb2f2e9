"""Speed of every type of query: fastseq and the engines that have it, on one corpus.

    python -m bench.queries --data DATA
    python -m bench.queries --data DATA --sentences --sections or phrase --k 10 --threads 2

Sections, whose query sets common/questions.py describes: or, and, phrase, prefix, fuzzy, not,
filter, long; count: the matches of all these sets; single: one query at a time from Python; growth:
the same queries on .4M and 1.6M sentences; reorder: with and without reordered documents; columns:
facets and the first use of a filter.

Lucene's 33 stop words, Porter2, BM25 with k1 1.2 and b .75 for all engines that can have them. For
prefixes and fuzzy words, which peers compare with the terms of an index, the index has all words as
written; "fastseq, stems" is fastseq with the other index. Each peer runs in its fastest way: where
it has several, they are timed first (engines/<name>_queries.py). Timed is the time from the
description of a query, or its raw text, to the engine's document numbers and scores: all queries in
a loop or a call ("queries/s"), and each one alone ("median", "p99"). An engine that needs more than
--seconds for a set gets an even part of it ("queries"). "CPUs" is CPU time by wall time; ratios are
of wall time.

Checked first, against common/answers.py, for an even sample: fastseq and bm25s must have the exact
top k and scores within 1e-5, tantivy 80 % of the true top k. Engines with another analysis are not
held to that: their recall is printed. Peers have other scores of prefixes and fuzzy words: their
hits must match. Counts must be equal in fastseq; for peers the share of equal ones is printed.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import inspect
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bench.common import harness
from bench.common.answers import Answers, QueryJudge, Words, even
from bench.common.harness import Check, Contender
from bench.common.questions import CONDITIONS, Drawing, Question, QuestionSet, write_corpus
from bench.common.reference import workplace
from bench.common.report import Parser, Report, log, optional, table
from bench.engines import Way
from bench.engines.query_engine import (
    PACKAGES,
    QUERY_ENGINES,
    QueryEngine,
    looped,
    named,
)

SETS = ("or", "and", "phrase", "prefix", "fuzzy", "not", "filter", "long")
SECTIONS = (*SETS, "count", "single", "growth", "reorder", "columns")
RECALL = 0.80
FEWEST = 20  # queries of an engine, however slow
PASSES = 3  # of single calls
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
GROWTH = (400_000, 1_600_000)  # sentences
STEMS = "fastseq, stems"
# (set, k or "count"): peer to the ratio that fastseq must reach
TARGETS: dict[tuple[str, int | str], dict[str, float]] = {
    ("or", 10): {"tantivy": 8, "PISA": 3.5, "bm25s": 12, "lancedb": 4},
    ("or", 1000): {"tantivy": 4, "PISA": 4, "bm25s": 4, "lancedb": 4},
    ("and", 10): {"tantivy": 3, "PISA": 3},
    ("phrase", 10): {"tantivy": 3, "lancedb": 3},
    ("prefix", 10): {"tantivy": 3},
    ("fuzzy", 10): {"tantivy": 3},
    ("or", "count"): {"tantivy": 5},
    **{(f"filter, {name}", 10): {"tantivy": 3} for name in CONDITIONS if name.startswith("1 %")},
    **{(f"or, {length} words", 10): {"tantivy": 5, "PISA": 3} for length in (10, 20, 50)},
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("queries", options, PACKAGES)
    bench = Bench(options, report)
    for section in options.sections:
        log(f"\n{section}")
        if section in SETS:
            for asked in bench.drawing.sets(section):
                bench.search(asked)
        else:
            getattr(bench, section)()
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    small = {
        "k": [3, 1000], "check": 20, "number": 12, "engines": ["fastseq"], "seconds": 0.2,
        "passes": 1,
    }  # fmt: skip
    parser = Parser(__doc__, rounds=5, threads=1, small=small)
    parser.add_file("--corpus", "text/wiki_simple.parquet", "Parquet file of documents")
    parser.add_file("--queries", "text/wiki_simple_queries.parquet", "Parquet, column text")
    parser.add_argument("--text-column", default="text", help="of the corpus")
    parser.add_argument(
        "--sentences", action="store_true", help="each sentence of the corpus is a document"
    )
    parser.add_argument("--rows", type=int, help="documents of the corpus, the first ones")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--k", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument(
        "--engines", nargs="+", choices=QUERY_ENGINES, default=list(QUERY_ENGINES),
        help="besides fastseq",
    )  # fmt: skip
    parser.add_argument("--number", type=int, default=1000, help="queries of each set drawn")
    parser.add_argument("--check", type=int, default=200, help="queries compared to the reference")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="of a round of one engine, about, at most"
    )
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall",
        help="cpu: the CPU time of all threads, where others use the machine too",
    )  # fmt: skip
    parser.add_argument("--passes", type=int, default=PASSES, help="single calls of each query")
    return parser.parse(arguments)


@dataclass
class Entrant:
    """An engine with the part of a set that it answers. one: a single call."""

    name: str
    questions: list[Question]
    run: Callable[[], Any]
    one: Callable[[Question], Any]
    check: Check
    latencies: list[list[float]] = field(default_factory=list)

    def contender(self) -> Contender:
        def run() -> float:
            start = time.process_time()
            self.run()
            return time.process_time() - start

        return Contender(self.name, run, lambda _: self.check, lambda cpu: {"cpu": cpu})


class Bench:
    """The corpus, its reference and the engines, each made when first used."""

    def __init__(self, options: argparse.Namespace, report: Report) -> None:
        self.options, self.report = options, report
        self.place = workplace(options.corpus, options.text_column, options.folder) / "queries"
        self.corpus = self._corpus(options.sentences, options.rows)
        self.folder = self.corpus.with_suffix("")
        self.engines: dict[tuple[str, str], QueryEngine] = {}
        self.clock = CLOCKS[options.clock]

    def _corpus(self, sentences: bool, rows: int | None) -> Path:
        """The Parquet file with derived columns."""
        name = ("sentences" if sentences else "documents") + (f"-{rows}" if rows else "")
        path = self.place / f"{name}.parquet"
        if not path.exists():
            log(f"writing {path}")
            options = self.options
            write_corpus(options.corpus, options.text_column, path, sentences, rows)
        return path

    @cached_property
    def given(self) -> list[str]:
        """The provided queries that have a word of the corpus."""
        texts = pq.read_table(self.options.queries, columns=["text"])["text"].to_pylist()
        return [text for text in texts if text and self.answers("stems").terms(text)]

    @cached_property
    def drawing(self) -> Drawing:
        answers = self.answers("stems")
        print(
            f"{self.corpus}: {answers.documents:,} documents, {len(answers.ids):,} words; "
            f"{len(self.given):,} given queries"
        )
        return Drawing(answers, self.given, self.options.number)

    @cached_property
    def words(self) -> Words:
        log("reading the words of the corpus")
        return Words.open(self.corpus, "text", self.folder / "reference")

    def answers(self, analysis: str) -> Answers:
        return self._answers[analysis]

    @cached_property
    def _answers(self) -> Mapping[str, Answers]:
        columns = pq.read_table(self.corpus, columns=["year", "lang", "price"])
        return Lazy(lambda analysis: Answers(self.words, analysis, columns))

    def engine(self, name: str, analysis: str) -> QueryEngine:
        key = name, analysis
        if key not in self.engines:
            log(f"opening {name} ({analysis})")
            module = importlib.import_module(f"bench.engines.{name}_queries")
            folder = self.folder / f"{name}-{analysis}"
            self.engines[key] = module.open_engine(
                self.corpus, folder, analysis, self.options.threads
            )
        return self.engines[key]

    def lines(self, asked: QuestionSet) -> Iterator[tuple[str, QueryEngine, QueryJudge]]:
        """The engines that have queries of this type, fastseq first, each with its judge."""
        size = self.options.check // (4 if asked.name.startswith("or, ") else 1)
        judge = QueryJudge(self.answers(asked.analysis), asked.questions, size)
        yield "fastseq", self.engine("fastseq", asked.analysis), judge
        if asked.analysis == "words":
            stems = QueryJudge(self.answers("stems"), asked.questions, size)
            yield STEMS, self.engine("fastseq", "stems"), stems
        for name in self.options.engines:
            known = QUERY_ENGINES[name]
            packages = [optional(package) for package in known.packages.split()]
            if name != "fastseq" and asked.kind in known.kinds.split() and all(packages):
                engine = self.engine(name, asked.analysis)
                yield engine.name, engine, judge

    # ---- sections

    def search(self, asked: QuestionSet) -> None:
        """The tables of a set: the k best hits."""
        lines = list(self.lines(asked))
        for k in self.options.k:
            log(f"{asked.name}, k = {k}: checking")
            found = [self.attempt(self.entrant, *line, asked, k) for line in lines]
            self.compare(asked.name, k, [each for each in found if each is not None])

    def attempt(
        self, make: Callable[..., Entrant | None], name: str, engine: QueryEngine, *details: Any
    ) -> Entrant | None:
        """None, and a line that says so, for a peer that fails."""
        try:
            return make(name, engine, *details)
        except Exception as error:
            if engine.name == "fastseq":
                raise
            log(f"  {name}: {type(error).__name__}: {error}: left out")
            return None

    def entrant(
        self, name: str, engine: QueryEngine, judge: QueryJudge, asked: QuestionSet, k: int
    ) -> Entrant:
        """The engine in its fastest right way."""
        threads = self.options.threads
        plans = {named(engine.name, plan.name): plan.one for plan in engine.plans(asked.kind)}
        first = next(iter(plans.values()))
        judge, part = self.part(lambda q: first(q, k), judge, asked)
        checks = {
            way.name: self.rule(engine, judge, asked.kind, k)(way.ranking(way.run()))
            for way in engine.ways(judge.sample, k, threads)
        }
        ways = engine.ways(part, k, threads)
        way = fastest(ways, checks)
        one = plans[way.name]
        shown = name + way.name.removeprefix(engine.name)
        return Entrant(shown, part, way.run, lambda q: one(q, k), checks[way.name])

    def rule(
        self, engine: QueryEngine, judge: QueryJudge, kind: str, k: int
    ) -> Callable[[Any], Check]:
        """What the answers of an engine must be."""
        if engine.exact:
            return judge.exact(k, engine.name == "fastseq")
        if kind in ("prefix", "fuzzy"):
            return judge.matching(k, 0.9 if engine.same else 0.0)
        return judge.overlap(k, RECALL if engine.same else 0.0)

    def part(
        self, one: Callable[[Question], Any], judge: QueryJudge, asked: QuestionSet
    ) -> tuple[QueryJudge, list[Question]]:
        """What of the sample and of the set can be answered in the time that there is."""
        few = even(judge.sample, 6)
        for question in few:  # what is worked out at first use does not count
            one(question)
        seconds = statistics.median(
            harness.seconds_of(partial(one, each), self.clock)[1] for each in few
        )
        possible = max(FEWEST, int(self.options.seconds / max(seconds, 1e-6)))
        return judge.smaller(possible), even(asked.questions, possible)

    def count(self) -> None:
        """Numbers of matching documents, of all sets."""
        for asked in [each for section in SETS for each in self.drawing.sets(section)]:
            log(f"count, {asked.name}: checking")
            lines = list(self.lines(asked))
            found = [self.attempt(self.counting, *line, asked) for line in lines]
            self.compare(asked.name, "count", [each for each in found if each is not None])

    def counting(
        self, name: str, engine: QueryEngine, judge: QueryJudge, asked: QuestionSet
    ) -> Entrant | None:
        ways = engine.counters(asked.kind)
        if not ways:
            return None
        judge, part = self.part(ways[0].one, judge, asked)
        checks = {}
        for way in ways:
            share = judge.counts([way.one(question) for question in judge.sample])
            least = 1.0 if engine.exact else 0.9 if engine.same else 0.0
            message = f"{share:.1%} of {len(judge.sample)} counts are equal"
            checks[named(name, way.name)] = Check(share >= least, message)
        threads = self.options.threads if engine.shared else 1
        runs = {named(name, way.name): partial(looped, way.one, part, threads) for way in ways}
        ones = {named(name, way.name): way.one for way in ways}
        best = fastest([Way(each, run, _same) for each, run in runs.items()], checks)
        return Entrant(best.name, part, best.run, ones[best.name], checks[best.name])

    def single(self) -> None:
        """One query at a time from Python, and the share of the slow ones."""
        (asked,) = self.drawing.sets("or")
        engine, k = self.engine("fastseq", "stems"), min(self.options.k)
        (plan,) = engine.plans("or")
        search = engine.index.search  # type: ignore[attr-defined]
        sample = [question.text for question in asked.questions]
        judge = QueryJudge(self.answers("stems"), asked.questions, self.options.check)
        rule = judge.exact(k, True)
        check = rule(engine.ranking([plan.one(question, k) for question in judge.sample], k))

        def results() -> list[Any]:
            return [search(text, k)[0] for text in sample]

        entrants = [
            Entrant(
                "search(text)", asked.questions, lambda: [search(text, k) for text in sample],
                lambda q: search(q.text, k), check,
            ),
            Entrant(
                "search(text)[0], ids and columns", asked.questions, results,
                lambda q: search(q.text, k)[0], check,
            ),
        ]  # fmt: skip
        rates = self.compare("single", k, entrants)
        rate = rates[entrants[0].name]["per_second"]
        self.report.target(rate >= 14_000, f"single: {rate:,.0f} queries/s, at least 14,000")

    def growth(self) -> None:
        """The same queries on sentences, a quarter of them and all."""
        (asked,) = self.drawing.sets("or")
        k, entrants = min(self.options.k), []
        for rows in [60, 240] if self.options.small else GROWTH:
            corpus = self._corpus(True, rows)
            entrants.append(self.alone(f"{rows:,} sentences", corpus, f"{rows}", asked, k))
        rates = self.compare("growth", k, entrants)
        seconds = [rates[each.name]["median_seconds"] for each in entrants]
        ratio = seconds[1] / seconds[0]
        self.report.target(ratio <= 2.2, f"growth: {ratio:.2f} times, at most 2.2")

    def alone(
        self, name: str, corpus: Path, folder: str, asked: QuestionSet, k: int, **settings: Any
    ) -> Entrant:
        """fastseq on another corpus or with other settings of the index; its hits are not compared
        with the reference."""
        module = importlib.import_module("bench.engines.fastseq_queries")
        index = module.build(corpus, self.folder / f"alone-{folder}", "stems", **settings)
        engine = module.FastseqQueries(index)
        (way,) = engine.ways(asked.questions, k, self.options.threads)
        (plan,) = engine.plans(asked.kind)
        passed = Check(True, f"{len(index):,} documents")
        return Entrant(name, asked.questions, way.run, lambda q: plan.one(q, k), passed)

    def reorder(self) -> None:
        """With and without reordered documents."""
        import fastseq

        if "reorder" not in inspect.signature(fastseq.Index.build).parameters:
            log("reorder: this version of fastseq cannot reorder documents")
            return
        (asked,) = self.drawing.sets("or")
        k = min(self.options.k)
        entrants = [
            self.alone(name, self.corpus, name, asked, k, reorder=reorder)
            for name, reorder in (("as given", False), ("reordered", True))
        ]
        rates = self.compare("reorder", k, entrants)
        as_given, reordered = (rates[each.name]["median_seconds"] for each in entrants)
        gain = as_given / reordered - 1
        self.report.target(gain >= 0.15, f"reorder: {gain:.0%} faster, at least 15 %")

    def columns(self) -> None:
        """Facets of all documents, and the first use of a filter."""
        import fastseq

        index = self.engine("fastseq", "stems").index  # type: ignore[attr-defined]
        found: dict[str, float] = {}
        everything = fastseq.query.All()
        for facet in ("lang", "year:10", "price:0,10,50,100", "date:year"):
            runs = {
                "with": partial(index.search, everything, 1, facets=facet),
                "without": partial(index.search, everything, 1),
            }
            taken = harness.alternate(runs, self.options.rounds)
            found[f"facet {facet}"] = taken["with"] - taken["without"]
        for name, condition in CONDITIONS.items():
            fresh = fastseq.Index.open(index.path)
            fresh.search(self.given[0])
            use = partial(fresh.search, self.given[0], filter=condition.text)
            found[f"first use of a filter, {name}"] = harness.seconds_of(use)[1]
        rows = [[name, f"{1000 * seconds:.1f}"] for name, seconds in found.items()]
        print("\n" + table([f"{len(index):,} documents", "ms"], rows))
        self.report.results["columns"] = found
        for name, seconds in found.items():
            self.report.target(seconds <= 0.05, f"{name}: {1000 * seconds:.1f} ms, at most 50")

    # ---- timing

    def compare(self, name: str, k: int | str, entrants: list[Entrant]) -> dict[str, Any]:
        """Time the entrants in alternation, print the table, judge by the targets; returns the
        figures of each."""
        contenders = [each.contender() for each in entrants]
        compared = harness.compare(contenders, self.options.rounds, self.clock)
        timed = [each for each in entrants if each.name in compared.timings]
        single_calls(timed, self.options.passes, self.clock)
        base = entrants[0].name
        figures = {each.name: figures_of(each, compared, entrants[0]) for each in timed}
        title = f"{name}, " + (k if isinstance(k, str) else f"k = {k}")
        rows = [
            [
                each,
                f"{one['per_second']:,.0f}",
                f"{one['median_us']:,.1f}",
                f"{one['p99_us']:,.1f}",
                "" if each == base else f"{one['ratio']:.2f}",
                f"{one['queries']:,}",
                f"{one['cpus']:.1f}",
            ]
            for each, one in figures.items()
        ]
        rows += [[each, "wrong", "", "", "", "", ""] for each in compared.refused]
        head = [title, "queries/s", "median µs", "p99 µs", f"speed-up of {base}", "queries", "CPUs"]
        print("\n" + table(head, rows), flush=True)
        wrong = [each for each in entrants if each.name in compared.refused]
        for each in wrong:
            self.report.check(False, f"{title}: {each.name}: {each.check.message}")
        self.report.results[title] = {"refused": compared.refused, "engines": figures}
        self.targets(name, k, figures, base)
        return figures

    def targets(self, name: str, k: int | str, figures: dict[str, Any], base: str) -> None:
        if base != "fastseq" or base not in figures:
            return
        peers = {each: one for each, one in figures.items() if not each.startswith("fastseq")}
        for peer, least in TARGETS.get((name, k), {}).items():
            for each, one in peers.items():
                if each.split(" (")[0] == peer:
                    what = f"{name}, {k}: {one['ratio']:.2f} × {each}, at least {least}"
                    self.report.target(one["ratio"] >= least, what)
        slower = [each for each, one in peers.items() if one["ratio"] < 1]
        if peers:
            self.report.target(
                not slower, f"{name}, {k}: not slower than any peer {', '.join(slower)}".rstrip()
            )
        if (name, k) == ("or", 10):
            one = figures[base]
            ratio = one["p99_us"] / one["median_us"]
            self.report.target(ratio <= 8, f"or, 10: p99 is {ratio:.1f} × the median, at most 8")


class Lazy(dict[str, Any]):
    """Values that are made when first used."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self.make = make

    def __missing__(self, key: str) -> Any:
        self[key] = self.make(key)
        return self[key]


def _same(answer: Any) -> Any:
    return answer


def fastest(ways: Sequence[Way], checks: Mapping[str, Check]) -> Way:
    """The fastest of the right ways; the first where all are wrong."""
    right = [way for way in ways if checks[way.name].passed]
    if len(right) < 2:
        return (right or list(ways))[0]
    passed = Check(True, "")
    found = harness.fastest([Contender(way.name, way.run, lambda _: passed) for way in right])
    return next(way for way in right if way.name == found.name)


def single_calls(entrants: Sequence[Entrant], passes: int, clock: Callable[[], float]) -> None:
    """The seconds of each call alone: passes over the questions, the entrants in alternation."""
    gc.collect()
    gc.disable()
    try:
        for turn in range(passes):
            for at in range(len(entrants)):
                entrant = entrants[(at + turn) % len(entrants)]
                seconds = []
                for question in entrant.questions:
                    start = clock()
                    entrant.one(question)
                    seconds.append(clock() - start)
                entrant.latencies.append(seconds)
    finally:
        gc.enable()


def figures_of(entrant: Entrant, compared: harness.Comparison, base: Entrant) -> dict[str, Any]:
    """For the table and JSON. The latency of a question is the median over the passes."""
    timing, queries = compared.timings[entrant.name], len(entrant.questions)
    each = np.median(np.array(entrant.latencies), axis=0) * 1e6
    ratio = compared.ratio(entrant.name, base.name) * len(base.questions) / queries
    return {
        "checked": timing.checked,
        "queries": queries,
        "seconds": timing.seconds,
        "median_seconds": timing.median,
        "per_second": queries / timing.median,
        "median_us": float(np.median(each)),
        "p99_us": float(np.quantile(each, 0.99)),
        "mean_us": float(each.mean()),
        "ratio": ratio,
        "cpus": timing.fact("cpu") / timing.median,
    }


if __name__ == "__main__":
    sys.exit(main())
