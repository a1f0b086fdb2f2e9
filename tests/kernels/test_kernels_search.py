"""The search kernels give the same bits on every vector width.

Numba compiles for the processor it runs on. A child is told that it runs on a lesser one, and
must find what this process finds:

    python tests/kernels/test_kernels_search.py INDEX
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pyarrow as pa
import pytest

from fastseq import BM25, TFIDF, Analyzer, Index

TERMS = 300


def widths() -> list[str]:
    """Features of narrower processors than this one: four lanes always, eight where it has more."""
    host = llvm.get_host_cpu_features()
    return ["", *(["+avx2,+fma"] if host.get("avx512f") and host.get("fma") else [])]


def found(path: str | Path) -> str:
    """One digest of the rows and scores of many searches, dense and sparse, pruned and not."""
    index = Index.open(path)
    chance = np.random.default_rng(5)
    # mappings, so that no kernel of the analyzers needs to be compiled
    queries = [
        {f"w{term}": 1.0 for term in chance.integers(0, most, n)}
        for n in (1, 2, 3, 5, 9)
        for most in (5, 30, TERMS)
        for _ in range(8)
    ]
    seen = hashlib.sha256()
    for model in (BM25(), BM25(0.9, 0.4, variant="bm25l"), TFIDF("Ltc.lnc"), TFIDF("ntn.nnn")):
        for k in (1, 10, 1000):
            hits = index.search(queries, k=k, model=model, threads=1)
            seen.update(hits.rows.tobytes() + hits.scores.tobytes())
    mixed = [{**query, "w3": -0.5, "w4": 0.0} for query in queries]
    hits = index.search(mixed, k=50, threads=1)
    seen.update(hits.rows.tobytes() + hits.scores.tobytes())
    return seen.hexdigest()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chance = np.random.default_rng(4)
    lengths = chance.integers(1, 12, 80_000)
    terms = np.minimum((chance.pareto(0.8, lengths.sum()) * 3).astype(int), TERMS - 1)
    words = np.array([f"w{term}" for term in range(TERMS)])[terms].tolist()
    ends = np.cumsum(lengths).tolist()
    texts = [" ".join(words[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    texts[70_000] = "w2 " * 400
    folder = tmp_path_factory.mktemp("widths") / "index"
    Index.build(pa.table({"text": texts}), folder, store=[], analyzer=Analyzer(tokenizer="space"))
    return folder


@pytest.mark.sample(1)
@pytest.mark.parametrize("features", widths(), ids=lambda features: features or "least")
def test_the_same_bits_at_every_vector_width(path: Path, features: str) -> None:
    ran = subprocess.run(
        [sys.executable, __file__, path],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "NUMBA_CPU_NAME": "generic",
            "NUMBA_CPU_FEATURES": features,
        },
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [f"generic:{features}", found(path)]


if __name__ == "__main__":
    import numba

    print(f"{numba.config.CPU_NAME}:{numba.config.CPU_FEATURES}")
    print(found(sys.argv[1]))
