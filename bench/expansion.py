"""Query expansion by word vectors: nDCG@10 with it and without, as a user would type it.

    python bench/expansion.py --vectors VECTORS --data DATA/cranfield DATA/scifact

A folder of --data holds docs.parquet, queries.parquet and qrels.parquet. Each is indexed twice,
with plain words and with English stop words and stems, and searched with BM25's defaults and
different `--expand-terms` and `--expand-weight`. With --own, vectors are trained on each collection
itself (skip-gram, min_count 2, 20 epochs) and measured beside. Ends with status 1 where the
expansion that is the default lowers the mean over all indexes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pyarrow.parquet as pq
from documents import ndcg

from fastseq.vectors.expansion import TERMS, WEIGHT

ANALYSES = {"plain": (), "english": ("--language", "english")}
WEIGHTS = (0.05, 0.1, 0.2, 0.3)


def main() -> int:
    options = parse()
    tried = [(n, w) for n in options.terms for w in options.weights]
    if (TERMS, WEIGHT) not in tried:
        tried.append((TERMS, WEIGHT))
    heads = [f"{n} x {w:g}" for n, w in tried]
    print(f"{'nDCG@10':<28}{'none':>9}" + "".join(f"{head:>10}" for head in heads))
    gains = []
    with tempfile.TemporaryDirectory() as folder:
        for data in options.data:
            vectors = {"given": options.vectors}
            if options.own:
                vectors["own"] = Path(folder) / f"{data.name}-vectors"
                fastseq(
                    "fit-word2vec", data / "docs.parquet", "-o", vectors["own"], *columns(data),
                    "--min-count", 2, "--epochs", 20,
                )  # fmt: skip
            for analysis, words in ANALYSES.items():
                index = Path(folder) / f"{data.name}-{analysis}"
                fastseq(
                    "index", data / "docs.parquet", "-o", index, *columns(data), *words,
                    "--store", "none",
                )  # fmt: skip
                base = searched(data, index)
                for name, path in vectors.items():
                    found = [
                        searched(
                            data, index, "--expand", path, "--expand-terms", n,
                            "--expand-weight", w,
                        )
                        for n, w in tried
                    ]  # fmt: skip
                    label = f"{data.name}, {analysis}, {name}"
                    print(
                        f"{label:<28}{base:>9.4f}" + "".join(f"{v - base:>+10.4f}" for v in found),
                        flush=True,
                    )
                    if name == "given":
                        gains.append(found[tried.index((TERMS, WEIGHT))] - base)
    print(f"the default ({TERMS} x {WEIGHT:g}) gains {statistics.mean(gains):+.4f} on average")
    return 0 if statistics.mean(gains) >= 0 else 1


def columns(data: Path) -> list[str]:
    names = pq.read_schema(data / "docs.parquet").names
    return [f"--text-column={name}" for name in ("title", "text") if name in names]


def searched(data: Path, index: Path, *further: Any) -> float:
    """nDCG@10 of the collection's queries."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run.parquet"
        queries = data / "queries.parquet"
        fastseq("search", "--queries", queries, "-i", index, "-k", 100, "-o", run, *further)
        return ndcg(run, data / "qrels.parquet")


def fastseq(*arguments: Any) -> None:
    command = [sys.executable, "-m", "fastseq_cli", *map(str, arguments), "--quiet"]
    subprocess.run(command, check=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--terms", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--weights", type=float, nargs="+", default=list(WEIGHTS))
    parser.add_argument("--own", action="store_true", help="vectors of the collections too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
