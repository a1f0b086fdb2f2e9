"""Document–term matrices, from strings in memory to a sparse matrix, compared with scikit-learn.

    python -m bench.features --data DATA --rows 100000

Timed is fit_transform of the same Python strings, with the same settings: counts and TF-IDF (L2
norm, smooth idf), of words and of words with their pairs. fastseq runs on --threads and on one;
scikit-learn has no threads for this. Checked first: fastseq's matrix has scikit-learn's columns,
indices and values (to 1e-12). Compiled kernels are warm: the run that is checked comes first and is
not timed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastseq
from bench.common import harness
from bench.common.harness import Check, Comparison, Contender
from bench.common.reference import read_texts
from bench.common.report import Parser, Report, log, optional, table

KINDS = {
    "counts": (fastseq.CountFeatures, "CountVectorizer"),
    "tfidf": (fastseq.TfidfFeatures, "TfidfVectorizer"),
}
BASE = "scikit-learn"
TOLERANCE = 1e-12  # relative


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    report = Report("features", options, ("scikit-learn", "scipy"))
    texts = list(read_texts(options.corpus, options.text_column))[: options.rows]
    size = sum(map(len, texts))
    print(f"{options.corpus}: {len(texts):,} texts, {size:,} characters")
    sklearn = optional("sklearn.feature_extraction.text")
    for n in options.ngrams:
        for kind in options.kinds:
            name = f"{kind}, words" + (f" to {n}-grams" if n > 1 else "")
            log(f"\n{name}: checking")
            contenders = contenders_of(kind, n, texts, options.threads, sklearn)
            found = harness.compare(contenders, options.rounds)
            print(f"\n{name}\n" + ratio_table(found, len(texts)))
            report.results[name] = found.to_dict(len(texts), BASE)
            report.check(not found.refused, f"{name}: {found.refused}")
    report.results |= {"texts": len(texts), "characters": size}
    return report.end()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, rounds=3)
    parser.add_file("--corpus", "text/wiki_simple.parquet", "Parquet file of documents")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--rows", type=int, help="number of texts; all unless given")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--ngrams", nargs="+", type=int, default=[1, 2], help="n of 1 to n")
    return parser.parse(arguments)


def contenders_of(
    kind: str, n: int, texts: list[str], threads: int, sklearn: Any
) -> list[Contender]:
    """scikit-learn first: the others are compared with its answer."""
    estimator, theirs = KINDS[kind]
    reference: list[tuple[Any, Any]] = []

    def run_sklearn() -> tuple[Any, Any]:
        made = getattr(sklearn, theirs)(ngram_range=(1, n))
        return made.fit_transform(texts), made

    def remember(answer: tuple[Any, Any]) -> Check:
        reference.append(answer)
        matrix = answer[0]
        return Check(True, f"{matrix.shape[1]:,} columns, {matrix.nnz:,} values")

    def ours(count: int) -> Callable[[], tuple[Any, Any]]:
        def run() -> tuple[Any, Any]:
            made = estimator(cjk="none", ngrams=(1, n), threads=count)
            return made.fit_transform(texts), made

        return run

    def check(answer: tuple[Any, Any]) -> Check:
        return compared(answer, reference[0]) if reference else Check(True, "not compared")

    found = [Contender(BASE, run_sklearn, remember)] if sklearn is not None else []
    for count in sorted({threads, 1}, reverse=True):
        found.append(Contender(f"fastseq, {count} thread{'s' * (count > 1)}", ours(count), check))
    return found


def compared(answer: tuple[Any, Any], reference: tuple[Any, Any]) -> Check:
    """Whether two matrices are the same, including the order of the columns."""
    (matrix, made), (expected, fitted) = answer, reference
    if matrix.shape != expected.shape or matrix.nnz != expected.nnz:
        return Check(False, f"{matrix.shape}, {matrix.nnz} values: not scikit-learn's")
    if not np.array_equal(made.get_feature_names_out(), fitted.get_feature_names_out()):
        return Check(False, "other columns than scikit-learn's")
    expected.sort_indices()
    for part in ("indptr", "indices"):
        if not np.array_equal(getattr(matrix, part), getattr(expected, part)):
            return Check(False, f"other {part} than scikit-learn's")
    worst = float(np.max(np.abs(matrix.data / expected.data - 1), initial=0))
    return Check(worst <= TOLERANCE, f"the same matrix, values to {worst:.1e}")


def ratio_table(found: Comparison, texts: int) -> str:
    rows = [
        [
            timing.name,
            f"{timing.median:.2f}",
            f"{min(timing.seconds):.2f} – {max(timing.seconds):.2f}",
            f"{texts / timing.median:,.0f}",
            "" if timing.name == BASE else f"{found.ratio(BASE, timing.name):.2f}",
        ]
        for timing in found.timings.values()
    ]
    rows += [[name, "wrong", "not timed", "", ""] for name in found.refused]
    head = ["", "seconds", "fastest – slowest", "texts/s", f"speed-up over {BASE}"]
    return table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
