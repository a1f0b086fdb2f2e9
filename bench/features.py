"""Document-term matrices, from strings in memory to a sparse matrix, beside scikit-learn.

    python bench/features.py --corpus CORPUS.parquet --rows 100000

What is timed: fit_transform of the same Python strings, with the same settings: counts and TF-IDF
(L2 norm, smooth idf), of words and of words with their pairs. fastseq runs on --threads and on
one; scikit-learn has no threads for this. Checked first: fastseq's matrix has scikit-learn's
columns, indices and values (to 1e-12). Compiled kernels are warm: the run that is checked comes
first and is not timed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness
import numpy as np
from harness import Check, Comparison, Contender
from reference import read_texts
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

import fastseq

KINDS = {
    "counts": (fastseq.CountFeatures, CountVectorizer),
    "tfidf": (fastseq.TfidfFeatures, TfidfVectorizer),
}
BASE = "scikit-learn"
TOLERANCE = 1e-12  # relative


def main() -> int:
    options = parse()
    texts = list(read_texts(options.corpus, options.text_column))[: options.rows]
    size = sum(map(len, texts)) / 1e6
    tell(f"{options.corpus}, column {options.text_column}: {len(texts):,} texts, {size:,.0f} M")
    results: dict[str, Any] = {}
    wrong = False
    for high in options.ngrams:
        for kind in options.kinds:
            name = f"{kind}, words" + (f" to {high}-grams" if high > 1 else "")
            tell(f"\n{name}: checking")
            contenders = contenders_of(kind, high, texts, options.threads)
            found = harness.compare(contenders, options.rounds, tell=tell)
            print(f"\n{name}\n" + ratio_table(found, len(texts)))
            results[name] = found.to_dict(len(texts), BASE)
            wrong = wrong or bool(found.refused)
    facts = harness.machine_facts(("scikit-learn", "scipy"))
    print("\n" + harness.machine_lines(facts, options.threads))
    report = {
        "bench": "features",
        "machine": facts,
        "corpus": str(options.corpus),
        "texts": len(texts),
        "characters": sum(map(len, texts)),
        "threads": options.threads,
        "results": results,
    }
    tell(f"written: {harness.write_report('features', report)}")
    return 1 if wrong else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="a Parquet file of documents")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--rows", type=int, help="the first so many rows; all unless given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--ngrams", nargs="+", type=int, default=[1, 2], help="n of 1 to n")
    return parser.parse_args()


def contenders_of(kind: str, high: int, texts: list[str], threads: int) -> list[Contender]:
    """scikit-learn first: its own answer is what the others are held to."""
    ours, theirs = KINDS[kind]
    reference: list[tuple[Any, Any]] = []

    def sklearn() -> tuple[Any, Any]:
        made = theirs(ngram_range=(1, high))
        return made.fit_transform(texts), made

    def remember(answer: tuple[Any, Any]) -> Check:
        reference.append(answer)
        matrix = answer[0]
        return Check(True, f"{matrix.shape[1]:,} columns, {matrix.nnz:,} values")

    def fastseqs(count: int) -> Callable[[], tuple[Any, Any]]:
        def run() -> tuple[Any, Any]:
            made = ours(cjk="none", ngrams=(1, high), threads=count)
            return made.fit_transform(texts), made

        return run

    def check(answer: tuple[Any, Any]) -> Check:
        return compared(answer, reference[0])

    found = [Contender(BASE, sklearn, remember)]
    for count in sorted({threads, 1}, reverse=True):
        name = f"fastseq, {count} thread{'s' * (count > 1)}"
        found.append(Contender(name, fastseqs(count), check))
    return found


def compared(answer: tuple[Any, Any], reference: tuple[Any, Any]) -> Check:
    """Whether two matrices are the same, to the order of the columns."""
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
    rows = []
    for timing in found.timings.values():
        ratio = "" if timing.name == BASE else f"{found.ratio(BASE, timing.name):.2f}"
        spread = f"{min(timing.seconds):.2f} – {max(timing.seconds):.2f}"
        rows.append([timing.name, f"{timing.median:.2f}", spread, f"{texts / timing.median:,.0f}"])
        rows[-1].append(ratio)
    rows += [[name, "wrong", "not timed", "", ""] for name in found.refused]
    head = ["", "seconds", "fastest – slowest", "texts/s", f"× as fast as {BASE}"]
    return harness.table(head, rows)


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
